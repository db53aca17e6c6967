//! What filters and functions give: one row for each filter of `template::catalog`.

use std::sync::Arc;

use super::Inference;
use super::Type;
use super::field_of;
use crate::diag::Code;
use crate::model::Money;
use crate::model::Value;
use crate::pipeline::kinds::Kinds;
use crate::template::Argument;
use crate::template::Expr;
use crate::template::ExprKind;

/// What a filter gives.
#[derive(Clone, Copy)]
enum Gives {
    /// Always one of these kinds.
    Kinds(Kinds),
    /// What goes in, of these kinds.
    Same(Kinds),
    /// An item of the list that goes in.
    Item,
    /// The list that goes in, with fewer or other places.
    SameList,
    /// A list of lists of the items.
    ListOfLists,
    /// A list of texts.
    Texts,
    /// A list of anything.
    List,
    /// By the filter itself.
    Special,
    Any,
}

/// Filters that only a list, or what can be walked as one, goes into.
const OF_LISTS: &[&str] = &[
    "batch",
    "chain",
    "groupby",
    "join",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "select",
    "selectattr",
    "sort",
    "sum",
    "unique",
    "zip",
];
/// Filters whose attribute, by name or at the first place, is a member of each item.
const BY_ATTRIBUTE: &[(&str, bool)] = &[
    ("groupby", true),
    ("join", false),
    ("map", false),
    ("max", false),
    ("min", false),
    ("rejectattr", true),
    ("selectattr", true),
    ("sort", false),
    ("sum", false),
    ("unique", false),
];
/// What is not walked as a list.
const NO_LIST: Kinds = Kinds::BOOL.or(Kinds::NUMBER).or(Kinds::MONEY).or(Kinds::TIME).or(Kinds::DURATION);

fn row(name: &str) -> Option<Gives> {
    Some(match name {
        "abs" | "round" => Gives::Same(Kinds::NUMBER.or(Kinds::MONEY)),
        "amount" => Gives::Kinds(Kinds::DECIMAL),
        "attr" | "d" | "default" | "map" | "money" | "sum" => Gives::Special,
        "drop" | "merge" | "prefix_keys" | "rename_keys" => Gives::Kinds(Kinds::MAP),
        "by_prefix" | "from_json" | "pluck" | "price" | "regex_find" | "row_of" | "slice" | "typed" => Gives::Any,
        "chain" | "dictsort" | "groupby" | "items" | "listed" | "chunks" | "to_rows" | "values" | "with_columns"
        | "zip" => Gives::List,
        "base64" | "capitalize" | "currency" | "date" | "escape" | "format_time" | "hmac_sha256" | "indent" | "iso"
        | "join" | "lower" | "replace" | "sha256" | "string" | "title" | "tojson" | "trim" | "truncate" | "upper"
        | "file_name" | "http_date" | "in_zone" | "last_line" | "media_type" | "name" | "path" | "quoted"
        | "regex_replace" | "replace_each" | "safe" | "unescape_html" | "urlencode" | "utc_text" => {
            Gives::Kinds(Kinds::TEXT)
        }
        "batch" => Gives::ListOfLists,
        "bool" => Gives::Kinds(Kinds::BOOL),
        "count" | "estimate_tokens" | "int" | "length" | "regex_count" | "size" => Gives::Kinds(Kinds::INTEGER),
        "datetime" | "from_epoch" | "from_epoch_ms" | "next_midnight" => Gives::Kinds(Kinds::TIME),
        "decimal" => Gives::Kinds(Kinds::EXACT),
        "duration" => Gives::Kinds(Kinds::DURATION),
        "first" | "last" | "max" | "min" => Gives::Item,
        "float" => Gives::Kinds(Kinds::FLOAT),
        "cashtags" | "hashtags" | "keys" | "lines" | "links" | "mentions" | "split" => Gives::Texts,
        "list" | "reject" | "rejectattr" | "select" | "selectattr" | "sort" | "unique" => Gives::SameList,
        "reverse" => Gives::Same(Kinds::LIST.or(Kinds::TEXT)),
        _ => return None,
    })
}

/// Returns what a function gives.
pub(super) fn function(name: &str) -> Type {
    match name {
        "duration" => Type::of(Kinds::DURATION),
        "now" => Type::of(Kinds::TIME),
        "range" => Type::list(Type::of(Kinds::INTEGER)),
        _ => Type::ANY,
    }
}

impl Inference<'_> {
    pub(super) fn filter(
        &mut self,
        name: &Arc<str>,
        input: Option<&Expr>,
        arguments: &[Argument],
        whole: &Expr,
    ) -> Type {
        let before = self.findings.len();
        let gives = input.map_or(Type::ANY, |input| self.expr(input));
        if matches!(&**name, "default" | "d") {
            // What is not declared may be missing, and here it is said what it is then.
            let slips = self.findings.split_off(before);
            self.findings.extend(slips.into_iter().filter(|it| it.severity == crate::diag::Severity::Error));
        }
        let given: Vec<Type> = arguments.iter().map(|argument| self.expr(&argument.value)).collect();
        if OF_LISTS.contains(&&**name) && gives.kinds.only(NO_LIST) {
            let message = format!("`{name}` takes a list, not {}", gives.kinds.named());
            self.error(Code::WrongOperation, &self.whole_range(whole, whole.range.end), message, None);
            return Type::ANY;
        }
        let attribute = self.attribute(name, &gives, arguments);
        match row(name) {
            None | Some(Gives::Any) => Type::ANY,
            Some(Gives::Kinds(kinds)) => self.only(name, kinds, &gives, whole),
            Some(Gives::Same(kinds)) => {
                let same = gives.narrowed(kinds);
                if same.kinds.is_empty() && !gives.kinds.is_empty() {
                    let message = format!("`{name}` takes {}, not {}", kinds.named(), gives.kinds.named());
                    self.error(Code::WrongOperation, &self.whole_range(whole, whole.range.end), message, None);
                    return Type::ANY;
                }
                same
            }
            Some(Gives::Item) if gives.kinds.only(Kinds::LIST) => gives.item().or_null(),
            Some(Gives::Item) => Type::ANY,
            Some(Gives::SameList) if gives.kinds.only(Kinds::LIST) => Type::list(gives.item()),
            Some(Gives::SameList | Gives::List) => Type::of(Kinds::LIST),
            Some(Gives::ListOfLists) => Type::list(Type::list(gives.item())),
            Some(Gives::Texts) => Type::list(Type::text()),
            Some(Gives::Special) if &**name == "money" => Type::money(currency(arguments, &gives, input).as_deref()),
            Some(Gives::Special) => self.special(name, gives, attribute, arguments, &given),
        }
    }

    /// Filters that take one kind alone, and what they give.
    fn only(&mut self, name: &str, kinds: Kinds, gives: &Type, whole: &Expr) -> Type {
        let takes = match name {
            "amount" | "currency" => Kinds::MONEY,
            "count" | "length" => Kinds::ALL.without(NO_LIST),
            _ => return Type::of(kinds),
        };
        if !gives.kinds.has(takes) && !gives.kinds.is_empty() {
            let wanted = if takes == Kinds::MONEY { "money" } else { "a list, an object or a text" };
            let message = format!("`{name}` takes {wanted}, not {}", gives.kinds.named());
            let help = (takes == Kinds::MONEY).then_some("read money by `| money` or `| money('USD')`");
            self.error(Code::WrongOperation, &self.whole_range(whole, whole.range.end), message, help);
        }
        Type::of(kinds)
    }

    fn special(
        &mut self,
        name: &str,
        gives: Type,
        attribute: Option<Type>,
        arguments: &[Argument],
        given: &[Type],
    ) -> Type {
        match name {
            "default" | "d" => match given.first() {
                Some(otherwise) => gives.narrowed(gives.kinds.without(Kinds::NULL)).or(otherwise.clone()),
                None => gives.or(Type::text()),
            },
            "attr" => match arguments.first().and_then(|argument| argument.value.text()) {
                Some(key) => {
                    let range = arguments.first().map_or(0..0, |argument| argument.value.range.clone());
                    let (kind, finding) = field_of(&gives, key, range, || "this value".to_owned());
                    self.findings.extend(finding);
                    kind
                }
                None => Type::ANY,
            },
            "map" => match attribute {
                Some(kind) if arguments.len() == 1 => Type::list(kind),
                _ => Type::of(Kinds::LIST),
            },
            // A sum of numbers is a number; of money, money or, of nothing, zero.
            "sum" => {
                let item = attribute.unwrap_or_else(|| gives.item());
                let starts = given.iter().zip(arguments).any(|(_, it)| it.name.as_deref() == Some("start"));
                if item.kinds.only(Kinds::EXACT) && !starts && arguments.len() < 2 {
                    Type::of(Kinds::EXACT)
                } else {
                    Type::ANY
                }
            }
            _ => Type::ANY,
        }
    }

    /// Finds the member of each item that a filter names, and says so where there is none.
    fn attribute(&mut self, name: &str, gives: &Type, arguments: &[Argument]) -> Option<Type> {
        let (_, first) = BY_ATTRIBUTE.iter().find(|(known, _)| *known == name)?;
        let named = arguments.iter().find(|argument| argument.name.as_deref() == Some("attribute"));
        let argument = named.or_else(|| arguments.first().filter(|argument| *first && argument.name.is_none()))?;
        let path = argument.value.text()?;
        let with_default = arguments.iter().any(|argument| argument.name.as_deref() == Some("default"));
        let mut kind = gives.item();
        for key in path.split('.') {
            let (next, finding) =
                field_of(&kind, key, argument.value.range.clone(), || "an item of the list".to_owned());
            self.findings.extend(finding.filter(|_| !with_default));
            kind = next;
        }
        Some(kind)
    }
}

/// Returns the currency that `| money` gives, where it is written out: `5 | money('USD')`, `'5.00 USD' | money`.
fn currency(arguments: &[Argument], gives: &Type, input: Option<&Expr>) -> Option<String> {
    if let Some(argument) = arguments.first() {
        return argument.value.text().map(str::to_owned);
    }
    match input.map(|input| &input.kind) {
        Some(ExprKind::Constant(Value::String(text))) => {
            text.parse::<Money>().ok().map(|money| money.currency.as_str().to_owned())
        }
        _ => gives.currency.as_deref().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::row;
    use crate::template::Sort;
    use crate::template::catalog;

    #[test]
    fn every_filter_of_the_catalog_has_a_row() {
        let missing: Vec<&str> = catalog()
            .iter()
            .filter(|entry| entry.sort == Sort::Filter && row(entry.name).is_none())
            .map(|entry| entry.name)
            .collect();
        assert!(missing.is_empty(), "{missing:?}");
    }
}
