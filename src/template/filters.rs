//! Filters, tests and functions of expressions: one table, from which the documentation and its test come too.

mod blobs;
mod call;
mod choices;
mod kinds;
mod lists;
mod numbers;
mod objects;
mod patterns;
mod prices;
mod rows;
mod texts;
mod times;

use minijinja::Environment;
use minijinja::Error;

pub use self::prices::OutOfRange;
pub use self::prices::estimate_tokens;
pub use self::prices::price_of;
pub use self::prices::row_of;
use super::operators::invalid;
use crate::model::Value;

/// What an entry of the catalog is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Filter,
    Test,
    Function,
}

/// A filter, test or function, documented.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    pub sort: Sort,
    pub name: &'static str,
    /// How it is written, with its arguments.
    pub usage: &'static str,
    pub summary: &'static str,
    /// An expression that uses it, and its value as JSON.
    pub example: (&'static str, &'static str),
}

macro_rules! entries {
    ($($sort:ident $name:literal $usage:literal $summary:literal $expression:literal => $json:literal;)*) => {
        const ENTRIES: &[Entry] = &[$(Entry {
            sort: Sort::$sort, name: $name, usage: $usage, summary: $summary, example: ($expression, $json),
        }),*];
    };
}

entries! {
    Filter "abs" "x | abs" "The number without its sign." "-1.5 | abs" => "1.5";
    Filter "amount" "money | amount" "The amount of money as a decimal." "'2.50 USD' | money | amount" => "2.50";
    Filter "attr" "x | attr('key')" "A member by its name." "{'a': 1} | attr('a')" => "1";
    Filter "base64" "text | base64" "The text in base64." "'hi' | base64" => "\"aGk=\"";
    Filter "batch" "list | batch(n, fill_with=none)" "The list in lists of n; the last filled up, if told so." "[1, 2, 3] | batch(2)" => "[[1,2],[3]]";
    Filter "bool" "x | bool" "Whether the value counts as true." "[] | bool" => "false";
    Filter "by_prefix" "object | by_prefix(text)" "The first member whose name begins so." "{'a (x)': 1} | by_prefix('a')" => "1";
    Filter "capitalize" "text | capitalize" "The first letter large, the rest small." "'aBC' | capitalize" => "\"Abc\"";
    Filter "cashtags" "text | cashtags" "The names behind `$` in a post, as X finds them." "'$ACME and $x.b, not $5' | cashtags" => "[\"ACME\",\"x.b\"]";
    Filter "chain" "list | chain(other, …)" "Lists, one behind the other." "[1] | chain([2]) | list" => "[1,2]";
    Filter "chunks" "file | chunks('4MiB')" "The parts of a file, by handle." "none | default([])" => "[]";
    Filter "count" "x | count" "Another word for `length`." "[1, 2] | count" => "2";
    Filter "currency" "money | currency" "The three letters of money's currency." "'2.50 USD' | money | currency" => "\"USD\"";
    Filter "d" "x | d(value)" "Short for `default`." "none | d(1)" => "1";
    Filter "date" "moment | date(zone='UTC')" "The day of a moment in a time zone." "'2026-03-01T23:30:00Z' | datetime | date('Europe/Berlin')" => "\"2026-03-02\"";
    Filter "datetime" "text | datetime" "A moment from its RFC 3339 text." "'2026-03-01T12:00:00+01:00' | datetime" => "\"2026-03-01T11:00:00Z\"";
    Filter "decimal" "x | decimal" "An exact number from its text." "'1.10' | decimal" => "1.10";
    Filter "default" "x | default(value, also_false=false)" "The value where x is not there or null (or, with true, counts as false)." "none | default('a')" => "\"a\"";
    Filter "dictsort" "object | dictsort(by='key', reverse=false)" "Pairs of key and value, sorted by `key` or by `value`." "{'b': 1, 'a': 2} | dictsort" => "[[\"a\",2],[\"b\",1]]";
    Filter "drop" "object | drop('a', …)" "The object, or each of a list, without these members." "{'a': 1, 'b': 2} | drop('a')" => "{\"b\":2}";
    Filter "duration" "text | duration" "A length of time from its text." "'90s' | duration" => "\"1m30s\"";
    Filter "escape" "text | escape` or `text | escape(letters, keep=none)" "The text with HTML's letters escaped; or with a backslash before these letters, but not in what a pattern keeps." "'<' | escape" => "\"&lt;\"";
    Filter "estimate_tokens" "x | estimate_tokens" "About how many tokens the texts in a value make." "'abcdef' | estimate_tokens" => "2";
    Filter "file_name" "file | file_name" "The name of a file." "none | default('file')" => "\"file\"";
    Filter "first" "list | first" "The first item." "[1, 2] | first" => "1";
    Filter "float" "x | float" "A binary float; the only way to one." "'0.5' | float" => "0.5";
    Filter "format_time" "moment | format_time(pattern, zone='UTC')" "A moment by a strftime pattern in a time zone." "'2026-03-01T12:00:00Z' | datetime | format_time('%d.%m.%Y %H:%M')" => "\"01.03.2026 12:00\"";
    Filter "from_epoch" "number | from_epoch" "A moment from seconds since 1970." "0 | from_epoch" => "\"1970-01-01T00:00:00Z\"";
    Filter "from_epoch_ms" "number | from_epoch_ms" "A moment from milliseconds since 1970." "1500 | from_epoch_ms" => "\"1970-01-01T00:00:01.5Z\"";
    Filter "from_json" "text | from_json" "The value of a JSON text, digits kept." "'[1.10]' | from_json" => "[1.10]";
    Filter "groupby" "list | groupby('key')" "Pairs of a value of `key` and the items that have it, sorted." "[{'a': 2}, {'a': 1}] | groupby('a') | map('first') | list" => "[1,2]";
    Filter "hashtags" "text | hashtags" "The names behind `#` in a post, as X finds them." "'#data and #etl, not #1' | hashtags" => "[\"data\",\"etl\"]";
    Filter "hmac_sha256" "text | hmac_sha256(key)" "The HMAC-SHA256 of a text, in hexadecimal." "('a' | hmac_sha256('b'))[:8]" => "\"cb448b44\"";
    Filter "http_date" "moment | http_date" "A moment as HTTP headers write it." "0 | from_epoch | http_date" => "\"Thu, 01 Jan 1970 00:00:00 GMT\"";
    Filter "in_zone" "moment | in_zone(zone)" "A moment as text in a time zone; `date` gives its day there." "0 | from_epoch | in_zone('Asia/Tokyo') | date" => "\"1970-01-01\"";
    Filter "indent" "text | indent(width=4, first=false, blank=false)" "Every line moved to the right, but the first and blank ones, unless told so." "'a\\nb' | indent(2)" => "\"a\\n  b\"";
    Filter "int" "x | int" "The whole number; a fraction is cut off." "'7.9' | int" => "7";
    Filter "iso" "moment | iso" "A moment as RFC 3339 text in UTC." "0 | from_epoch | iso" => "\"1970-01-01T00:00:00Z\"";
    Filter "items" "object | items" "Pairs of key and value." "{'a': 1} | items | list" => "[[\"a\",1]]";
    Filter "join" "list | join(between='', attribute=none)" "The texts of the items, or of a member of each, joined." "[1, 2] | join(', ')" => "\"1, 2\"";
    Filter "keys" "object | keys" "The names of the members." "{'a': 1} | keys" => "[\"a\"]";
    Filter "last" "list | last" "The last item." "[1, 2] | last" => "2";
    Filter "last_line" "text | last_line" "The last line that is not empty." "'a\\nb\\n' | last_line" => "\"b\"";
    Filter "length" "x | length(as='chars')" "How many items or members; of a text its letters, or its length as `utf16`, `bytes` or `twitter` counts." "'näh' | length('bytes')" => "4";
    Filter "lines" "text | lines" "The lines of a text." "'a\\nb' | lines" => "[\"a\",\"b\"]";
    Filter "links" "text | links" "The links in a post, as X finds them." "'see example.com/a, or https://example.org.' | links" => "[\"example.com/a\",\"https://example.org\"]";
    Filter "list" "x | list" "A list of the items." "range(2) | list" => "[0,1]";
    Filter "listed" "x | listed" "A list: of nothing none, of one thing one." "none | listed" => "[]";
    Filter "lower" "text | lower" "Small letters." "'A' | lower" => "\"a\"";
    Filter "map" "list | map(attribute='key', default=none)` or `list | map('filter', …)" "Of each item its member, or what a filter gives." "[{'a': 1}] | map(attribute='a') | list" => "[1]";
    Filter "max" "list | max(attribute=none)" "The greatest item, exactly compared." "[0.1, 0.3, 0.2] | max" => "0.3";
    Filter "media_type" "file | media_type" "The media type of a file." "none | default('image/png')" => "\"image/png\"";
    Filter "mentions" "text | mentions" "The names behind `@` in a post, as X finds them." "'@ada and a@b.example' | mentions" => "[\"ada\"]";
    Filter "merge" "object | merge(other)" "Both objects in one; the other wins." "{'a': 1} | merge({'b': 2})" => "{\"a\":1,\"b\":2}";
    Filter "min" "list | min(attribute=none)" "The smallest item, exactly compared." "[0.1, 0.3, 0.2] | min" => "0.1";
    Filter "money" "x | money(currency=none)" "Money from `12.50 USD`, or from a number and a currency." "12.5 | money('USD')" => "\"12.5 USD\"";
    Filter "name" "text | name" "The text, if it is a plain name; else an error." "'Account' | name" => "\"Account\"";
    Filter "next_midnight" "moment | next_midnight(zone='UTC')" "When the next day begins in a time zone." "0 | from_epoch | next_midnight('UTC')" => "\"1970-01-02T00:00:00Z\"";
    Filter "path" "text | path" "The text for the path of a URL; slashes stay." "'a b/c' | path" => "\"a%20b/c\"";
    Filter "pluck" "object | pluck('a', 'b')` or `list | pluck('a.b', 'c.*.d')" "The object with these members only; of a list the values at these paths." "{'a': 1, 'b': 2} | pluck('b')" => "{\"b\":2}";
    Filter "prefix_keys" "object | prefix_keys(text)" "The object with a text before every name." "{'a': 1} | prefix_keys('x-')" => "{\"x-a\":1}";
    Filter "price" "row | price(usage)` or `row | price(tokens_in=, tokens_out=)" "The price of tokens by a row of a price table, for a million each; null where it is not known." "{'in': '2', 'out': '10'} | price(tokens_in=1000, tokens_out=500)" => "0.007";
    Filter "quoted" "x | quoted(style='odata')" "A literal of a query language: `odata`, `sql`, `soql`, `double`." "'O\\'Neil' | quoted" => "\"'O''Neil'\"";
    Filter "regex_count" "text | regex_count(pattern)" "How often a pattern is found." "'a1b22' | regex_count('[0-9]+')" => "2";
    Filter "regex_find" "text | regex_find(pattern, group=0)" "What a pattern, or a group of it, finds first; null where it finds nothing." "'id=42' | regex_find('id=([0-9]+)', 1)" => "\"42\"";
    Filter "regex_replace" "text | regex_replace(pattern, to)" "The text with what a pattern finds replaced." "'a1b2' | regex_replace('[0-9]', '')" => "\"ab\"";
    Filter "reject" "list | reject('test', …)" "The items for which a test does not hold." "[1, 2, 3] | reject('odd') | list" => "[2]";
    Filter "rejectattr" "list | rejectattr('key', 'test', …)" "The items whose member fails a test." "[{'a': 1}, {'a': 2}] | rejectattr('a', 'eq', 1) | list" => "[{\"a\":2}]";
    Filter "rename_keys" "object | rename_keys(pattern, to)" "The object with what a pattern finds in names replaced." "{'1. open': 5} | rename_keys('^[0-9]+[.] ', '')" => "{\"open\":5}";
    Filter "replace" "text | replace(from, to)" "The text with one part replaced by another." "'a-b' | replace('-', '+')" => "\"a+b\"";
    Filter "replace_each" "text | replace_each(list, from, to)" "The text with a member of each item replaced by another of its members." "'x t.co' | replace_each([{'u': 't.co', 'e': 'example.com'}], 'u', 'e')" => "\"x example.com\"";
    Filter "reverse" "x | reverse" "The list or text from its end." "[1, 2] | reverse | list" => "[2,1]";
    Filter "round" "x | round(places=0, mode='half_even')" "Rounded to decimal places: half_even, half_up, up, down, floor, ceil." "2.345 | round(2)" => "2.34";
    Filter "row_of" "rows | row_of(model, any=true)" "The row of a model in a price table: its own, that of its family where its name ends in a day, or the one of all (`*`)." "{'m': {'in': '2', 'dated': true}} | row_of('m-20261001')" => "{\"in\":\"2\",\"dated\":true}";
    Filter "safe" "text | safe" "In a URL: the text as it is, nothing encoded." "'a b' | safe" => "\"a b\"";
    Filter "select" "list | select('test', …)" "The items for which a test holds." "[1, 2, 3] | select('gt', 1) | list" => "[2,3]";
    Filter "selectattr" "list | selectattr('key', 'test', …)" "The items whose member passes a test." "[{'a': 1}, {'a': 2}] | selectattr('a', 'gt', 1) | list" => "[{\"a\":2}]";
    Filter "sha256" "text | sha256" "The SHA-256 of a text, in hexadecimal." "('' | sha256)[:8]" => "\"e3b0c442\"";
    Filter "size" "file | size" "The length of a file in bytes." "none | default(0)" => "0";
    Filter "slice" "list | slice(n)` or `file | slice(first, length)" "The list in n lists; a part of a file, by handle." "[1, 2, 3] | slice(2)" => "[[1,2],[3]]";
    Filter "sort" "list | sort(attribute=none, reverse=false)" "Sorted, exactly compared." "[2, 0.5, 1] | sort" => "[0.5,1,2]";
    Filter "split" "text | split(between=none, most=none)" "The parts of a text: at a text, or at any space; cut so many times at most." "'a,b' | split(',') | list" => "[\"a\",\"b\"]";
    Filter "string" "x | string" "The text of a value." "1.50 | string" => "\"1.50\"";
    Filter "sum" "list | sum(attribute=none, start=0)" "The exact sum." "[0.1, 0.2] | sum" => "0.3";
    Filter "title" "text | title" "Every word with a large letter." "'a b' | title" => "\"A B\"";
    Filter "to_rows" "object | to_rows(key)" "Rows of a keyed object, the name of each under `key`." "{'d1': {'v': 1}} | to_rows('day')" => "[{\"day\":\"d1\",\"v\":1}]";
    Filter "tojson" "x | tojson" "JSON text, digits kept." "{'a': 1.10} | tojson" => "\"{\\\"a\\\":1.10}\"";
    Filter "trim" "text | trim(letters=none)" "The text without space, or these letters, around it." "' a ' | trim" => "\"a\"";
    Filter "truncate" "text | truncate(length=255, end='…')" "The text cut to so many letters, the end included." "'abcdef' | truncate(4)" => "\"abc…\"";
    Filter "typed" "x | typed(types, nulls=[], zone=none)" "An object's members, or those of each of a list, as decimal, integer, percent, boolean, date, datetime." "{'a': '1.50', 'b': 'T'} | typed({'a': 'decimal', 'b': 'boolean'})" => "{\"a\":1.50,\"b\":true}";
    Filter "unescape_html" "text | unescape_html" "The text with HTML's escapes replaced by their letters." "'a &amp; b' | unescape_html" => "\"a & b\"";
    Filter "unique" "list | unique(attribute=none)" "Each item once, in order." "[1, 2, 1.0] | unique" => "[1,2]";
    Filter "upper" "text | upper" "Large letters." "'a' | upper" => "\"A\"";
    Filter "urlencode" "text | urlencode" "The text for a URL." "'a b&c' | urlencode" => "\"a%20b%26c\"";
    Filter "utc_text" "moment | utc_text" "A moment as `2026-03-01 11:00:00` in UTC." "0 | from_epoch | utc_text" => "\"1970-01-01 00:00:00\"";
    Filter "values" "object | values" "The members without their names." "{'a': 1} | values" => "[1]";
    Filter "with_columns" "list | with_columns(names)" "Rows of lists of cells." "[[1, 2]] | with_columns(['a', 'b'])" => "[{\"a\":1,\"b\":2}]";
    Filter "zip" "list | zip(other, …)" "Pairs of the items of both; of more lists, longer rows." "[1, 2] | zip([3, 4]) | list" => "[[1,3],[2,4]]";
    Test "boolean" "x is boolean" "A boolean." "true is boolean" => "true";
    Test "containing" "x is containing(part)" "The text or list has the part, the object all members of the part." "'abc' is containing('b')" => "true";
    Test "defined" "x is defined" "It is there." "[1][5] is defined" => "false";
    Test "divisibleby" "x is divisibleby(n)" "No remainder." "6 is divisibleby(3)" => "true";
    Test "endingwith" "text is endingwith(part)" "The text ends with it." "'abc' is endingwith('c')" => "true";
    Test "eq" "x is eq(y)" "Equal, exactly." "1.0 is eq(1)" => "true";
    Test "even" "x is even" "A multiple of two." "2 is even" => "true";
    Test "false" "x is false" "The value false." "false is false" => "true";
    Test "ge" "x is ge(y)" "Greater or equal." "2 is ge(2)" => "true";
    Test "gt" "x is gt(y)" "Greater." "0.3 is gt(0.2)" => "true";
    Test "has_url" "text is has_url" "There is a link in it." "'see https://example.com' is has_url" => "true";
    Test "in" "x is in(list)" "Among the items." "1 is in([1, 2])" => "true";
    Test "integer" "x is integer" "A whole number." "1 is integer" => "true";
    Test "le" "x is le(y)" "Less or equal." "2 is le(2)" => "true";
    Test "lt" "x is lt(y)" "Less." "1 is lt(2)" => "true";
    Test "mapping" "x is mapping" "An object." "{} is mapping" => "true";
    Test "matching" "text is matching(pattern)" "A pattern is found in it." "'abc' is matching('^a')" => "true";
    Test "ne" "x is ne(y)" "Not equal." "1 is ne(2)" => "true";
    Test "none" "x is none" "Null." "none is none" => "true";
    Test "number" "x is number" "A number of any kind." "1.5 is number" => "true";
    Test "odd" "x is odd" "Not a multiple of two." "3 is odd" => "true";
    Test "sequence" "x is sequence" "A list." "[] is sequence" => "true";
    Test "startingwith" "text is startingwith(part)" "The text begins with it." "'abc' is startingwith('a')" => "true";
    Test "string" "x is string" "A text." "'a' is string" => "true";
    Test "true" "x is true" "The value true." "true is true" => "true";
    Test "undefined" "x is undefined" "It is not there." "[1][5] is undefined" => "true";
    Function "columns" "columns({'a': list, …})" "Rows of lists that stand side by side." "columns({'a': [1, 2], 'b': [3]})" => "[{\"a\":1,\"b\":3},{\"a\":2,\"b\":null}]";
    Function "duration" "duration('1h')" "A length of time." "duration('1h30m')" => "\"1h30m\"";
    Function "now" "now()" "The moment of this evaluation, in UTC." "now()" => "\"1970-01-01T00:00:00Z\"";
    Function "range" "range(end)` or `range(start, end, step=1)" "Whole numbers from start, before end." "range(2, 5) | list" => "[2,3,4]";
}

/// Returns everything that expressions can call.
#[must_use]
pub fn catalog() -> &'static [Entry] {
    ENTRIES
}

/// Returns the names of one sort.
pub(super) fn names(sort: Sort) -> Vec<&'static str> {
    // Symbols that `select('>', 1)` takes, and the operators that rewriting brings in, are no words of their own.
    ENTRIES.iter().filter(|entry| entry.sort == sort).map(|entry| entry.name).collect()
}

pub(super) fn register(environment: &mut Environment<'static>) {
    // None of minijinja's own are here: they walk data without bounds, know no secret, and go through binary floats.
    call::register_pickers(environment);
    blobs::register(environment);
    patterns::register(environment);
    prices::register(environment);
    rows::register(environment);
    choices::register(environment);
    kinds::register(environment);
    lists::register(environment);
    numbers::register(environment);
    objects::register(environment);
    texts::register(environment);
    times::register(environment);
}

/// Tells whether there is one of this name.
fn is_known(sort: Sort, name: &str) -> bool {
    ENTRIES.iter().any(|entry| entry.sort == sort && entry.name == name)
}

/// Percent-encodes all but the unreserved letters of RFC 3986, and slashes where they are kept.
pub(super) fn percent(text: &str, keep_slashes: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || (keep_slashes && byte == b'/') {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Returns the member of an item by a dotted path.
fn member(item: &Value, path: &str) -> Value {
    let mut value = item.clone();
    for key in path.split('.') {
        let next = match (&value, key.parse::<usize>()) {
            (Value::List(items), Ok(index)) => items.get(index).cloned(),
            (Value::Unknown(unknown), _) => Some(unknown.member(key)),
            _ => value.get(key).cloned(),
        };
        value = next.unwrap_or_default();
    }
    value
}

fn list(value: Value) -> Result<std::sync::Arc<Vec<Value>>, Error> {
    match value {
        Value::List(items) => Ok(items),
        other => Err(invalid(format!("expected a list, found {}", other.kind().name()))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::Timestamp;
    use crate::template::Lookup;
    use crate::template::Scope;
    use crate::template::StepView;
    use crate::template::Template;

    #[derive(Debug)]
    struct Nothing;

    impl Lookup for Nothing {
        fn step(&self, _: &str) -> Option<StepView> {
            None
        }
        fn secret(&self, name: &str) -> Result<Value, String> {
            Err(format!("there is no secret `{name}`"))
        }
    }

    #[test]
    fn every_example_of_the_catalog_gives_what_it_says() {
        let scope = Scope { lookup: Arc::new(Nothing), globals: Arc::default(), locals: Vec::new(), now: Timestamp(0) };
        let mut wrong = Vec::new();
        for entry in catalog() {
            let (expression, expected) = entry.example;
            let template = Template::parse(&format!("{{{{ {expression} }}}}"));
            let got = match template
                .map_err(|error| error.message)
                .and_then(|it| it.eval(&scope).map_err(|error| error.message))
            {
                Ok(value) => value.to_string(),
                Err(message) => format!("error: {message}"),
            };
            if got != expected {
                wrong.push(format!("{expression}: {got}, expected {expected}"));
            }
        }
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    }
}
