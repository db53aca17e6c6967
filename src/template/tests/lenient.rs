//! Lenient expressions, and those of URLs: what manifests of connectors are written in.

use super::*;
use crate::model::parse_json;
use crate::template::SyntaxError;

fn eval(template: Result<Template, SyntaxError>, body: &str) -> String {
    let template = template.unwrap_or_else(|error| panic!("{}", error.message));
    let mut scope = scope();
    scope.locals = vec![("body", parse_json(body).unwrap()), ("next", Value::Null)];
    match template.eval(&scope) {
        Ok(value) => value.to_string(),
        Err(error) => format!("error: {}", error.message),
    }
}

fn check(source: &str, body: &str, expected: &str) {
    assert_eq!(eval(Template::parse_lenient(source), body), expected, "{source} over {body}");
}

#[test]
fn what_is_missing_is_null_at_any_depth() {
    for body in ["null", "{}", "[]", "5", r#""text""#, r#"{"data":null}"#, r#"{"data":[]}"#] {
        check("{{ body.data[0].x.y }}", body, "null");
        check("{{ body['data'].x }}", body, "null");
        check("{{ (body.data[0] or body).access_token }}", body, "null");
        check("{{ body.data | default('d') }}", if body.contains("[]") { "{}" } else { body }, r#""d""#);
        check("{{ (body.data | selectattr('a', 'eq', 1) | first).id }}", body, "null");
        check("{{ body.a.b is undefined }}", body, "true");
        check("{{ body.a.b is defined }}", body, "false");
        check("{{ body.a.b is none }}", body, "true");
        check("{{ 'yes' if body.a.b }}", body, "null");
        check("{{ 'duplicate' in (body.detail | lower) }}", body, "false");
        check("{{ body.error.message is matching('x') }}", body, "false");
        check("{{ body.error.code in ['a', none] }}", body, "true");
        check("{{ body.error.code == 190 }}", body, "false");
        check("{{ body.list | length }}", body, "0");
        check("{{ body.list | map(attribute='a') | list }}", body, "null");
        check("{{ body.list | join(',') }}", body, "null");
        check("a{{ body.x.y }}b", body, r#""ab""#);
        check("{{ 'x' ~ body.x.y }}", body, r#""x""#);
        check("{{ next or 0 }}", body, "0");
        check("{{ next | default(0) | int }}", body, "0");
    }
    check("{{ body.items[-1].id if body.items | length == 2 }}", r#"{"items":[{"id":1},{"id":2}]}"#, "2");
    check("{{ body == {} }}", "{}", "true");
    check("{{ body.a < 5 }}", "{}", "error: cannot compare null and integer");
}

#[test]
fn strict_expressions_stay_strict() {
    let strict = |source: &str| eval(Template::parse(source), r#"{"data":{}}"#);
    assert_eq!(strict("{{ body.data.x }}"), "error: `body.data` has no `x`");
    assert!(strict("{{ body.data.x.y | lower }}").starts_with("error: "));
    assert!(
        strict("{{ none | lower | length }}").starts_with("0") || strict("{{ 'a' if false }}").starts_with("error")
    );
}

#[test]
fn what_is_computed_in_a_url_is_encoded() {
    let url = |source: &str| eval(Template::parse_url(source), r#"{"id":"a/b c:ü","n":5,"none":null}"#);
    assert_eq!(url("/x/{{ body.id }}/y"), r#""/x/a%2Fb%20c%3A%C3%BC/y""#);
    assert_eq!(url("/x/{{ body.id | path }}"), r#""/x/a/b%20c%3A%C3%BC""#);
    assert_eq!(url("q=({{ body.id | safe }}:{{ body.id }})"), r#""q=(a/b c:ü:a%2Fb%20c%3A%C3%BC)""#);
    assert_eq!(url("/{{ body.n }}{{ body.none }}{{ body.missing.x }}"), r#""/5""#);
    assert_eq!(url("/{{ 'a' if body.n else 'b' }}?x={{ body.n + 1 }}"), r#""/a?x=6""#);
    assert_eq!(url("{{ body.id }}"), r#""a/b c:ü""#);
    assert!(Template::parse_url("{{ body.id }}").unwrap().is_one_expression());
    assert!(Template::parse_lenient("{{ body.id | lower }}").unwrap().is_one_expression());
    assert!(!Template::parse_url("/{{ body.id }}").unwrap().is_one_expression());
}

#[test]
fn a_secret_stays_one_where_things_are_missing() {
    let secret = |source: &str| {
        let template = Template::parse_lenient(source).unwrap();
        let mut scope = scope();
        let auth = parse_json(r#"{"token":"s3cret","kind":"x"}"#).unwrap().tainted();
        scope.locals = vec![("auth", auth)];
        template.eval(&scope).unwrap()
    };
    for source in [
        "{{ auth.token }}",
        "{{ auth.token | regex_find('s3') }}",
        "/{{ auth.token }}/x",
        "{{ auth.none or auth.token }}",
    ] {
        assert!(secret(source).is_tainted(), "{source}");
    }
    let url = Template::parse_url("/{{ auth.token }}").unwrap();
    let mut scope = scope();
    scope.locals = vec![("auth", parse_json(r#"{"token":"s3 cret"}"#).unwrap().tainted())];
    let value = url.eval(&scope).unwrap();
    assert!(value.is_tainted());
    assert_eq!(value.revealed().to_text(), "/s3%20cret");
}

#[test]
fn filters_of_manifests_do_what_their_examples_mean() {
    let cases = [
        (
            "{{ 'a|b @[x](urn:li:1) #tag' | escape('|#[]()', keep='@\\\\[[^\\\\]]*\\\\]\\\\([^)]*\\\\)|#\\\\w+') }}",
            "null",
            r#""a\\|b @[x](urn:li:1) #tag""#,
        ),
        ("{{ '1. open' | regex_find('[a-z]+') }}", "null", r#""open""#),
        (
            "{{ body | by_prefix('Global') | rename_keys('^\\\\d+\\\\. ', '') | typed({'price': 'decimal', 'change': 'percent'}, nulls=['-']) }}",
            r#"{"Global Quote":{"01. price":"1.50","02. change":"2.5%"}}"#,
            r#"{"price":1.50,"change":0.025}"#,
        ),
        (
            "{{ body | typed({'a': 'date', 'b': 'many2one', 'c': 'decimal', 'd': 'datetime'}, zone='Europe/Berlin') }}",
            r#"{"a":false,"b":[1,"x"],"c":5,"d":"2026-07-01 12:00:00"}"#,
            r#"{"a":null,"b":{"id":1,"name":"x"},"c":5,"d":"2026-07-01T10:00:00Z"}"#,
        ),
        (
            "{{ body | pluck('title', 'fields.*.name') | map('length') | sum }}",
            r#"[{"title":"abc","fields":[{"name":"de"},{"name":"f"}]},{"title":null}]"#,
            "6",
        ),
        (
            "{{ columns({'t': body.t, 'o': body.o}) | rejectattr('o', 'none') | list }}",
            r#"{"t":[1,2],"o":[null,5]}"#,
            r#"[{"t":2,"o":5}]"#,
        ),
        ("{{ {'a': 1, 'b': none} is containing({'a': 1}) }}", "null", "true"),
        ("{{ {'a': 1} is containing({'a': 2}) }}", "null", "false"),
        ("{{ 86400 | from_epoch | in_zone('America/Los_Angeles') | date }}", "null", r#""1970-01-01""#),
        (
            "{{ '2026-10-25T00:30:00Z' | datetime | next_midnight('Europe/Berlin') }}",
            "null",
            r#""2026-10-25T23:00:00Z""#,
        ),
        (
            "{{ duration('6m0s') }}|{{ duration('1.5s') }}|{{ duration('59ms') }}|{{ '0.3s' | duration }}",
            "null",
            r#""6m|1s500ms|59ms|300ms""#,
        ),
        ("{{ 5 * 2 ** 3 }}s", "null", r#""40s""#),
        ("{{ ('2026-01-01T00:02:00Z' | datetime) - duration('2m') }}", "null", r#""2026-01-01T00:00:00Z""#),
        (
            "{{ {'in': '2', 'out': '10', 'cache_read': '0.2'} | price({'input': 1000000, 'cached': 500000, 'output': 100}) }}",
            "null",
            "1.101",
        ),
        (
            "{{ {'in': '2', 'out': '10', 'cache_write': '2.5', 'cache_write_1h': '4'} | price({'input': 1000000, 'cache_write': 400000, 'cache_write_1h': 100000, 'output': 0}) }}",
            "null",
            "2.35",
        ),
        // What the table does not know of the cache is not known of the whole.
        (
            "{{ {'in': '2', 'out': '10', 'cache_read': none} | price({'input': 10, 'cached': 5, 'output': 1}) }}",
            "null",
            "null",
        ),
        (
            "{{ {'in': '2', 'out': '10', 'cache_read': none} | price({'input': 10, 'cached': 0, 'output': 1}) }}",
            "null",
            "0.00003",
        ),
        ("{{ {'in': '2'} | price({'input': 1000000}) }}", "null", "2"),
        ("{{ {'in': '2'} | price({'input': 10, 'output': 1}) }}", "null", "null"),
        ("{{ {'in': '0', 'out': '0'} | price({'input': 10, 'output': 1}) }}", "null", "0"),
        (
            "{{ [{'a': {'in': '1', 'dated': true}} | row_of('a-2026-10-01'), {'b': {'in': '2'}} | row_of('b-20261001'), {'*': {'in': '0'}} | row_of('x'), {'*': {'in': '0'}} | row_of('x', any=false)] }}",
            "null",
            r#"[{"in":"1","dated":true},null,{"in":"0"},null]"#,
        ),
        (
            "{{ {'in': '1', 'out': '1', 'above': {'tokens': 10, 'in': '2', 'out': '3'}} | price(tokens_in=20, tokens_out=0) }}",
            "null",
            "0.00004",
        ),
        ("{{ none | price(tokens_in=20, tokens_out=0) }}", "null", "null"),
        (
            "{{ 'x t.co/1 y' | replace_each(body.urls, 'url', 'expanded_url') | unescape_html }}",
            r#"{"urls":[{"url":"t.co/1","expanded_url":"https://e.com?a=1&amp;b"}]}"#,
            r#""x https://e.com?a=1&b y""#,
        ),
        ("{{ [body.n, 60] | min }}s", r#"{"n":4}"#, r#""4s""#),
    ];
    for (source, body, expected) in cases {
        check(source, body, expected);
    }
}
