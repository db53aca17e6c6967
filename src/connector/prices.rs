//! What models cost: the rows in the binary, and the project's own laid over them.

use std::path::Path;
use std::sync::Arc;

use indexmap::IndexMap;
use jiff::civil::Date;
use rust_decimal::Decimal;

use super::notes::Notes;
use super::notes::first_line;
use crate::diag::Code;
use crate::diag::Diagnostic;
use crate::diag::Position;
use crate::diag::Sources;
use crate::diag::Span;
use crate::model::Map;
use crate::model::Timestamp;
use crate::model::Value;
use crate::template::price_of;
use crate::template::row_of;
use crate::yaml::Tree;

/// The project's own, beside `pipewright.yaml`.
pub const FILE: &str = "prices.yaml";
/// The rows in the binary. They stand beside their reader: every file below `connectors/` is a manifest.
const BUILT_IN: (&str, &str) = ("prices/models.yaml", include_str!("prices/models.yaml"));
/// The row of all models that have none of their own.
const ANY: &str = "*";

const ROW: &[&str] = &[
    "connector",
    "model",
    "dated",
    "from",
    "currency",
    "in",
    "out",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "above",
    "source",
    "seen",
];
const AMOUNTS: &[&str] = &["in", "out", "cache_read", "cache_write", "cache_write_1h"];

/// What a model costs from some day on.
#[derive(Clone, Debug, PartialEq)]
pub struct Price {
    pub connector: Arc<str>,
    pub model: Arc<str>,
    /// The first moment of it; nothing means from the beginning.
    pub from: Option<Timestamp>,
    pub currency: Arc<str>,
    /// Where it was read.
    pub source: Arc<str>,
    /// The day or the month in which it was.
    pub seen: Arc<str>,
    /// As expressions see it.
    row: Value,
}

/// What models cost.
#[derive(Clone, Debug, Default)]
pub struct Prices {
    rows: IndexMap<(Arc<str>, Arc<str>), Vec<Price>>,
}

/// Prices that cannot be read.
#[derive(Debug)]
pub struct Faulty {
    pub diagnostics: Vec<Diagnostic>,
    pub sources: Sources,
}

impl Price {
    /// Returns the row as expressions see it: prices for a million tokens by kind, and where they come from.
    #[must_use]
    pub fn row(&self) -> &Value {
        &self.row
    }

    /// Tells whether it is that of all models which have no row of their own.
    #[must_use]
    pub fn is_of_any(&self) -> bool {
        &*self.model == ANY
    }
}

impl Prices {
    /// Returns the rows in the binary.
    #[must_use]
    pub fn built_in() -> Self {
        let (file, text) = BUILT_IN;
        let (prices, diagnostics) = Self::read(&file.into(), text);
        debug_assert!(diagnostics.is_empty(), "{diagnostics:?}");
        prices
    }

    /// Returns the rows in the binary with those of a project over them.
    ///
    /// # Errors
    /// The project's are there and have faults.
    pub fn open(root: &Path) -> Result<Self, Faulty> {
        let prices = Self::built_in();
        let path = root.join(FILE);
        let file: Arc<str> = super::library::shown(&path).into();
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(prices),
            Err(error) => {
                let start = Position { line: 1, column: 1, offset: 0 };
                let span = Span { file, start, end: start };
                let message = format!("the file cannot be read: {error}");
                let diagnostics = vec![Diagnostic::error(Code::Unreadable, span, message)];
                return Err(Faulty { diagnostics, sources: Sources::default() });
            }
        };
        let (own, diagnostics) = Self::read(&file, &text);
        if diagnostics.is_empty() {
            return Ok(prices.under(own));
        }
        let mut sources = Sources::default();
        sources.insert(file, text.into());
        Err(Faulty { diagnostics, sources })
    }

    /// Reads a file of rows; those without faults are there in any case.
    #[must_use]
    pub fn read(file: &Arc<str>, text: &str) -> (Self, Vec<Diagnostic>) {
        let (tree, diagnostics) = crate::yaml::parse(file, text);
        let mut notes = Notes { diagnostics, ..Notes::new(text.into()) };
        let mut prices = Self::default();
        if notes.diagnostics.iter().any(|it| it.code == Code::EmptyFile) {
            // Nothing but comments is nothing to say.
            return (prices, Vec::new());
        }
        let rows = tree.as_ref().filter(|tree| notes.keys(tree, &["prices"])).and_then(|tree| tree.get("prices"));
        let rows = rows.filter(|rows| notes.sequence(rows));
        for tree in rows.map(Tree::items).unwrap_or_default() {
            if let Some(price) = read_row(tree, &mut notes) {
                let rows = prices.rows.entry((price.connector.clone(), price.model.clone())).or_default();
                if rows.iter().any(|own| own.from == price.from) {
                    let message = format!("`{}` of `{}` has a row for this day already", price.model, price.connector);
                    notes.error(Code::DuplicateKey, &first_line(&tree.span), message).help =
                        Some("give the later one a later `from`, or take one of them out".to_owned());
                }
                rows.push(price);
                rows.sort_by_key(|row| row.from);
            }
        }
        (prices, notes.diagnostics)
    }

    /// Lays others over these: all rows of a model that they name come from them.
    #[must_use]
    fn under(mut self, own: Self) -> Self {
        self.rows.extend(own.rows);
        self
    }

    /// Returns all rows.
    pub fn rows(&self) -> impl Iterator<Item = &Price> {
        self.rows.values().flatten()
    }

    /// Finds what a model costs at some moment: its own row, else that of its family where the provider names models by
    /// their day, else the one of all. Nothing means that the price is not known, which is not zero.
    #[must_use]
    pub fn row(&self, connector: &str, model: &str, at: Timestamp) -> Option<&Price> {
        let table = self.table(connector, None, at);
        let (name, _) = row_of(table.as_map()?, model)?;
        self.in_effect(connector, at).find(|price| &*price.model == name)
    }

    /// Returns what a usage costs at some moment, in the currency of its row; nothing where that is not known.
    #[must_use]
    pub fn cost(&self, connector: &str, model: &str, usage: &Value, at: Timestamp) -> Option<Decimal> {
        usage.as_map()?;
        price_of(self.row(connector, model, at)?.row.as_map()?, usage).ok()?
    }

    /// Returns the rows of a connector that are in effect, by model; with a currency only those in it.
    #[must_use]
    pub fn table(&self, connector: &str, currency: Option<&str>, at: Timestamp) -> Value {
        let rows = self.in_effect(connector, at);
        let rows = rows.filter(|price| currency.is_none_or(|currency| *price.currency == *currency));
        Value::map(rows.map(|price| (price.model.clone(), price.row.clone())))
    }

    fn in_effect(&self, connector: &str, at: Timestamp) -> impl Iterator<Item = &Price> {
        let own = self.rows.iter().filter(move |((own, _), _)| **own == *connector);
        own.filter_map(move |(_, rows)| rows.iter().rev().find(|row| row.from.is_none_or(|from| from <= at)))
    }
}

fn read_row(tree: &Tree, notes: &mut Notes) -> Option<Price> {
    if !notes.keys(tree, ROW) {
        return None;
    }
    let connector = needed(tree, "connector", "the name of a connector, e.g. `connector: openai`", notes);
    let model = needed(tree, "model", "the name of a model, or `*` for all others", notes);
    let currency = needed(tree, "currency", "e.g. `currency: USD`", notes);
    let source = needed(tree, "source", "where the price was read", notes);
    let seen = needed(tree, "seen", "the day or the month in which it was read, e.g. `seen: 2026-11-20`", notes);
    if let (Some(currency), Some(at)) = (&currency, tree.get("currency"))
        && !(currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase()))
    {
        notes.wrong(at, "a currency of three letters, e.g. `USD`");
    }
    if let (Some(seen), Some(at)) = (&seen, tree.get("seen"))
        && format!("{seen}-01").parse::<Date>().is_err()
        && seen.parse::<Date>().is_err()
    {
        notes.wrong(at, "a day or a month, e.g. `2026-11-20` or `2026-11`");
    }
    let from = tree.get("from").and_then(|at| {
        let day = at.to_value().to_text().parse::<Date>().ok();
        let moment = day.and_then(|day| format!("{day}T00:00:00Z").parse::<Timestamp>().ok());
        if moment.is_none() {
            notes.wrong(at, "a day, e.g. `2026-10-01`");
        }
        moment
    });
    let dated = tree.get("dated").and_then(|at| notes.flag(at)).unwrap_or(false);
    let mut row = amounts(tree, notes);
    if tree.get("in").is_none() {
        missing(tree, "in", "the price of a million tokens that are read", notes);
    }
    if let Some(above) = tree.get("above").filter(|above| notes.keys(above, &[&["tokens"], AMOUNTS].concat())) {
        let mut long = amounts(above, notes);
        match above.get("tokens").map(Tree::to_value) {
            Some(tokens @ Value::Int(1..)) => drop(long.insert("tokens".into(), tokens)),
            Some(_) => {
                above.get("tokens").map(|at| notes.wrong(at, "a number of tokens"));
            }
            None => missing(above, "tokens", "from how many tokens on it holds", notes),
        }
        row.insert("above".into(), long.into());
    }
    if dated {
        row.insert("dated".into(), Value::Bool(true));
    }
    let (connector, model, currency, source, seen) = (connector?, model?, currency?, source?, seen?);
    for (key, text) in [("currency", &currency), ("source", &source), ("seen", &seen)] {
        row.insert(key.into(), Value::from(&**text));
    }
    Some(Price { connector, model, from, currency, source, seen, row: row.into() })
}

fn amounts(tree: &Tree, notes: &mut Notes) -> Map {
    let mut amounts = Map::new();
    for key in AMOUNTS {
        let Some(at) = tree.get(key) else { continue };
        // What is written as null is known not to be known.
        if at.is_null() {
            amounts.insert((*key).into(), Value::Null);
            continue;
        }
        let amount = at.to_value().to_text().trim().parse::<Decimal>().ok().filter(|it| !it.is_sign_negative());
        match amount {
            Some(amount) => drop(amounts.insert((*key).into(), Value::Decimal(amount))),
            None => drop(notes.wrong(at, "a price of a million tokens, e.g. `0.25`, or null where it is not known")),
        }
    }
    amounts
}

fn needed(tree: &Tree, key: &str, what: &str, notes: &mut Notes) -> Option<Arc<str>> {
    let Some(at) = tree.get(key) else {
        missing(tree, key, what, notes);
        return None;
    };
    match at.to_value() {
        Value::Map(_) | Value::List(_) | Value::Null => {
            notes.wrong(at, "a text");
            None
        }
        value => Some(value.to_text().into()),
    }
}

fn missing(tree: &Tree, key: &str, what: &str, notes: &mut Notes) {
    notes.error(Code::MissingKey, &first_line(&tree.span), format!("key `{key}` is missing")).help =
        Some(format!("add `{key}`: {what}"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parse_json;

    fn at(day: &str) -> Timestamp {
        format!("{day}T12:00:00Z").parse().unwrap()
    }

    fn cost(prices: &Prices, connector: &str, model: &str, usage: &str) -> Option<String> {
        let usage = parse_json(usage).unwrap();
        prices.cost(connector, model, &usage, at("2026-11-28")).map(|cost| cost.to_string())
    }

    fn read(rows: &str) -> (Prices, Vec<String>) {
        let (prices, diagnostics) = Prices::read(&"prices.yaml".into(), rows);
        let told =
            diagnostics.iter().map(|it| format!("{}:{}: {}", it.span.start.line, it.span.start.column, it.message));
        (prices, told.collect())
    }

    #[test]
    fn the_rows_of_the_binary_say_where_they_come_from() {
        let prices = Prices::built_in();
        assert!(prices.rows().count() > 20);
        for price in prices.rows() {
            assert!(!price.source.is_empty() && price.seen.starts_with("2026-"), "{price:?}");
            assert!(super::super::library::BUILT_IN.iter().any(|(name, _)| **name == *price.connector), "{price:?}");
        }
    }

    #[test]
    fn a_usage_costs_what_its_row_says() {
        let prices = Prices::built_in();
        let million = r#"{"input":1000000,"cached":0,"cache_write":0,"output":1000000}"#;
        assert_eq!(cost(&prices, "anthropic", "claude-opus-5-5", million).unwrap(), "24");
        // Of a long question every token is dearer.
        assert_eq!(
            cost(&prices, "anthropic", "claude-haiku-5-5", r#"{"input":100000,"output":1000}"#).unwrap(),
            "0.0105"
        );
        assert_eq!(
            cost(&prices, "anthropic", "claude-haiku-5-5", r#"{"input":100001,"output":1000}"#).unwrap(),
            "0.0525005"
        );
        let cached = r#"{"input":1000,"cached":400,"cache_write":300,"cache_write_1h":100,"output":10}"#;
        // 300 fresh, 400 read, 200 kept for minutes, 100 for an hour.
        assert_eq!(cost(&prices, "anthropic", "claude-sonnet-5-5", cached).unwrap(), "0.00164");
        assert_eq!(cost(&prices, "cohere", "embed-v4.0", r#"{"input":1000000}"#).unwrap(), "0.12");
    }

    #[test]
    fn what_is_not_known_costs_nothing_known() {
        let prices = Prices::built_in();
        let usage = r#"{"input":10,"output":1}"#;
        assert_eq!(cost(&prices, "openai", "gpt-7", usage), None);
        assert_eq!(cost(&prices, "nobody", "gpt-6-sol", usage), None);
        assert_eq!(cost(&prices, "openai", "gpt-6-sol", "null"), None);
        assert_eq!(cost(&prices, "openai", "gpt-6.2-sol", usage).unwrap(), "0.00003");
        assert_eq!(cost(&prices, "openai", "gpt-6.2-sol", r#"{"input":10,"cached":5,"output":1}"#), None);
        // Own machines are free, and that is known.
        assert_eq!(cost(&prices, "ollama", "llama3.2:3b", usage).unwrap(), "0");
        assert!(prices.row("local", "anything", at("2026-11-28")).unwrap().is_of_any());
    }

    #[test]
    fn names_with_a_day_find_their_family_where_the_provider_names_so() {
        let prices = Prices::built_in();
        let row = |connector: &str, model: &str| {
            prices.row(connector, model, at("2026-11-28")).map(|price| price.model.to_string())
        };
        assert_eq!(row("anthropic", "claude-haiku-4-5-20251001").unwrap(), "claude-haiku-4-5");
        assert_eq!(row("openai", "gpt-6-sol-2026-09-22").unwrap(), "gpt-6-sol");
        for (connector, model) in [
            ("anthropic", "claude-haiku-4-5-latest"),
            ("anthropic", "claude-haiku-4-5-20251"),
            ("cohere", "command-a"),
            ("cohere", "command-a-03-2025-20261001"),
            ("openai", "gpt-6-sol-mini"),
        ] {
            assert_eq!(row(connector, model), None, "{model}");
        }
    }

    #[test]
    fn a_price_begins_on_its_day_and_a_project_has_the_last_word() {
        let row = |more: &str| {
            format!(
                "  - {{ connector: anthropic, model: claude-opus-5, currency: USD, out: 1, source: own, seen: 2026-12, {more} }}\n"
            )
        };
        let (own, told) = read(&format!("prices:\n{}{}", row("in: 3, from: 2026-12-01"), row("in: 7")));
        assert!(told.is_empty(), "{told:?}");
        let prices = Prices::built_in().under(own);
        let of = |model: &str, day: &str| {
            let price = prices.row("anthropic", model, at(day))?;
            Some(price.row().get("in")?.to_text())
        };
        assert_eq!(of("claude-opus-5", "2026-11-30").unwrap(), "7");
        assert_eq!(of("claude-opus-5", "2026-12-01").unwrap(), "3");
        assert_eq!(of("claude-opus-5-5", "2026-12-01").unwrap(), "4");
        assert_eq!(of("claude-sonnet-5-5", "2026-10-06"), None);
        let table = prices.table("anthropic", Some("EUR"), at("2026-11-28"));
        assert_eq!(table.as_map().unwrap().len(), 0);
    }

    #[test]
    fn faults_of_rows_are_told_with_their_places() {
        let (prices, told) = read(
            "prices:\n  - { connector: a, model: m, currency: usd, in: -1, out: x, source: s, seen: May, form: 1 }\n  - { connector: a, model: n, currency: USD, out: 1, above: { in: 2 }, from: soon, source: s }\n  - { connector: a, model: o, currency: USD, in: 1, source: s, seen: 2026-11 }\n  - { connector: a, model: o, currency: USD, in: 2, source: s, seen: 2026-11 }\n",
        );
        assert_eq!(
            told,
            [
                "2:84: unknown key `form`",
                "2:41: expected a currency of three letters, e.g. `USD`, found `usd`",
                "2:79: expected a day or a month, e.g. `2026-11-20` or `2026-11`, found `May`",
                "2:50: expected a price of a million tokens, e.g. `0.25`, or null where it is not known, found `-1`",
                "2:59: expected a price of a million tokens, e.g. `0.25`, or null where it is not known, found `x`",
                "3:5: key `seen` is missing",
                "3:78: expected a day, e.g. `2026-10-01`, found `soon`",
                "3:5: key `in` is missing",
                "3:61: key `tokens` is missing",
                "5:5: `o` of `a` has a row for this day already",
            ]
        );
        assert_eq!(prices.rows().count(), 3);
        assert_eq!(read("# nothing yet\n").1, Vec::<String>::new());
        assert_eq!(read("rows: []\n").1, ["1:1: unknown key `rows`"]);
    }
}
