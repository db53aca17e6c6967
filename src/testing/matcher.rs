//! What a test expects of a value: a part of it, all of it, or what holds for it.

use std::sync::Arc;

use regex_lite::Regex;

use super::came::counted;
use crate::connector::notes::Notes;
use crate::diag::Code;
use crate::diag::Span;
use crate::model::Money;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::compare;
use crate::template::Scope;
use crate::template::Template;
use crate::yaml::Tree;
use crate::yaml::TreeKind;

/// The keys by which a mapping says what holds for a value, instead of what its fields are.
pub const OPERATORS: &[&str] =
    &["equals", "contains", "matches", "that", "any", "absent", "count", "min", "max", "unique", "none", "not"];

/// What is expected of a value, with the place where it is written.
#[derive(Clone, Debug)]
pub struct Matcher {
    pub span: Span,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// The same value: numbers by their worth, what is written as text as its text.
    Value(Value),
    /// What the expression gives.
    Computed(Template),
    /// These fields, and others.
    Fields(Vec<(Arc<str>, Matcher)>),
    /// So many items, each as written.
    Items(Vec<Matcher>),
    /// All of these hold; where the value has a field of such a name, its fields are meant.
    Operators(Vec<Operator>, Vec<(Arc<str>, Matcher)>),
}

#[derive(Clone, Debug)]
struct Operator {
    span: Span,
    kind: OperatorKind,
}

#[derive(Clone, Debug)]
enum OperatorKind {
    /// This and nothing else.
    Equals(Box<Matcher>),
    /// A text in the text; an item, or each of several, in the list.
    Contains(Vec<Matcher>),
    Pattern(Box<Regex>),
    /// Each expression holds over `value`.
    That(Vec<(Template, Span)>),
    /// It is there, or not.
    There(bool),
    /// So many items, or letters.
    Count(Box<Matcher>),
    Min(Value),
    Max(Value),
    /// No two items are the same, in a field or whole.
    Unique(Option<Arc<str>>),
    /// No item is as one of these.
    None(Vec<Matcher>),
    Not(Box<Matcher>),
}

/// Something that is not as it is expected.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Where it is written what is expected.
    pub span: Span,
    /// Which value it is, `outputs.orders[1].net`.
    pub path: String,
    pub expected: String,
    /// What there is instead; nothing where there is nothing.
    pub found: Option<Value>,
}

/// How a value is held against what is expected.
#[derive(Clone, Copy, Debug)]
struct Held<'s> {
    scope: &'s Scope,
    /// Whether fields that are not written may be there.
    exact: bool,
}

impl Matcher {
    /// Reads what is expected; faults are noted.
    pub fn read(tree: &Tree, notes: &mut Notes) -> Self {
        let kind = match &tree.kind {
            TreeKind::Scalar { text, .. } if text.contains("{{") => match strict(tree, notes) {
                Some(template) => Kind::Computed(template),
                None => Kind::Value(Value::Null),
            },
            TreeKind::Scalar { .. } => Kind::Value(tree.to_value()),
            TreeKind::Sequence(items) => Kind::Items(items.iter().map(|item| Self::read(item, notes)).collect()),
            TreeKind::Mapping(entries) => {
                let is_operators = !entries.is_empty() && entries.iter().all(|entry| OPERATORS.contains(&&*entry.key));
                let operators = if is_operators { operators(tree, notes) } else { Vec::new() };
                let mut quiet = Notes::new(notes.source.clone());
                // What is wrong with operators has been told.
                let noted = if is_operators { &mut quiet } else { &mut *notes };
                let field = |entry: &crate::yaml::Entry| (entry.key.clone(), Self::read(&entry.value, noted));
                let fields = entries.iter().map(field).collect();
                if is_operators { Kind::Operators(operators, fields) } else { Kind::Fields(fields) }
            }
        };
        Self { span: tree.span.clone(), kind }
    }

    /// Makes one that expects a value, written at a place.
    #[must_use]
    pub fn of(value: Value, span: &Span) -> Self {
        Self { span: span.clone(), kind: Kind::Value(value) }
    }

    /// Makes one that expects fields.
    #[must_use]
    pub fn with_fields(span: &Span, fields: Vec<(Arc<str>, Self)>) -> Self {
        Self { span: span.clone(), kind: Kind::Fields(fields) }
    }

    /// Makes one that expects something that contains this.
    #[must_use]
    pub fn containing(part: Self) -> Self {
        let span = part.span.clone();
        let operator = Operator { span: span.clone(), kind: OperatorKind::Contains(vec![part]) };
        Self { span, kind: Kind::Operators(vec![operator], Vec::new()) }
    }

    /// Makes one that expects that there is something, or nothing.
    #[must_use]
    pub fn there(wanted: bool, span: &Span) -> Self {
        let operator = Operator { span: span.clone(), kind: OperatorKind::There(wanted) };
        Self { span: span.clone(), kind: Kind::Operators(vec![operator], Vec::new()) }
    }

    /// Returns the fields that it names, where it names fields.
    #[must_use]
    pub fn fields(&self) -> &[(Arc<str>, Self)] {
        match &self.kind {
            Kind::Fields(fields) | Kind::Operators(_, fields) => fields,
            _ => &[],
        }
    }

    /// Holds a value against it. `scope` is what expressions read; they read `value` besides.
    pub fn check(&self, path: &str, found: Option<&Value>, scope: &Scope, out: &mut Vec<Difference>) {
        self.held(path, found, Held { scope, exact: false }, out);
    }

    /// Tells whether a value is as it is expected.
    fn holds(&self, found: &Value, held: Held<'_>) -> bool {
        let mut out = Vec::new();
        self.held("", Some(found), held, &mut out);
        out.is_empty()
    }

    fn held(&self, path: &str, found: Option<&Value>, held: Held<'_>, out: &mut Vec<Difference>) {
        let differs = |expected: String| Difference {
            span: self.span.clone(),
            path: path.to_owned(),
            expected,
            found: found.cloned(),
        };
        match &self.kind {
            Kind::Value(expected) => {
                if !same(expected, found.unwrap_or(&Value::Null)) {
                    out.push(differs(shown(expected)));
                }
            }
            Kind::Computed(template) => match template.eval(&with_value(held.scope, found)) {
                Ok(expected) if same_whole(&expected, found.unwrap_or(&Value::Null)) => {}
                Ok(expected) => out.push(differs(shown(&expected))),
                Err(error) => out.push(differs(format!("what cannot be computed: {}", error.message))),
            },
            Kind::Fields(fields) => self.fields_held(fields, path, found, held, out),
            Kind::Items(items) => {
                let Some(list) = found.map(opened).and_then(|found| found.as_list().map(<[Value]>::to_vec)) else {
                    out.push(differs(format!("a list of {}", items.len())));
                    return;
                };
                if list.len() != items.len() {
                    out.push(differs(format!("a list of {}", items.len())));
                    return;
                }
                for (index, (item, found)) in items.iter().zip(&list).enumerate() {
                    item.held(&format!("{path}[{index}]"), Some(found), held, out);
                }
            }
            Kind::Operators(operators, fields) => {
                let map = found.and_then(Value::as_map);
                if map.is_some_and(|map| fields.iter().any(|(name, _)| map.contains_key(name))) {
                    return self.fields_held(fields, path, found, held, out);
                }
                for operator in operators {
                    operator.held(path, found, held, out);
                }
            }
        }
    }

    fn fields_held(
        &self,
        fields: &[(Arc<str>, Self)],
        path: &str,
        found: Option<&Value>,
        held: Held<'_>,
        out: &mut Vec<Difference>,
    ) {
        let differs = |expected: String| Difference {
            span: self.span.clone(),
            path: path.to_owned(),
            expected,
            found: found.cloned(),
        };
        let Some(map) = found.and_then(Value::as_map) else {
            let names: Vec<&str> = fields.iter().map(|(name, _)| &**name).collect();
            out.push(differs(format!("an object with `{}`", names.join("`, `"))));
            return;
        };
        for (name, matcher) in fields {
            matcher.held(&join(path, name), map.get(name), held, out);
        }
        if held.exact {
            for name in map.keys().filter(|name| !fields.iter().any(|(own, _)| own == *name)) {
                out.push(Difference {
                    span: self.span.clone(),
                    path: join(path, name),
                    expected: "nothing".to_owned(),
                    found: map.get(name).cloned(),
                });
            }
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn operators(tree: &Tree, notes: &mut Notes) -> Vec<Operator> {
    tree.entries()
        .iter()
        .filter_map(|entry| Some(Operator { span: entry.value.span.clone(), kind: operator(entry, notes)? }))
        .collect()
}

fn operator(entry: &crate::yaml::Entry, notes: &mut Notes) -> Option<OperatorKind> {
    let tree = &entry.value;
    let several = |notes: &mut Notes| match &tree.kind {
        TreeKind::Sequence(items) => items.iter().map(|item| Matcher::read(item, notes)).collect(),
        _ => vec![Matcher::read(tree, notes)],
    };
    Some(match &*entry.key {
        "equals" => OperatorKind::Equals(Box::new(Matcher::read(tree, notes))),
        "contains" => OperatorKind::Contains(several(notes)),
        // Of a list: each of these is one of its items. Of a text: its pattern.
        "matches" => match tree.as_text() {
            Some(text) => match Regex::new(text) {
                Ok(pattern) => OperatorKind::Pattern(Box::new(pattern)),
                Err(error) => {
                    notes.error(Code::BadPattern, &tree.span, format!("`{text}` is not a pattern: {error}"));
                    return None;
                }
            },
            None => OperatorKind::Contains(several(notes)),
        },
        "that" => OperatorKind::That(conditions(tree, notes)),
        "any" => OperatorKind::There(notes.flag(tree)?),
        "absent" => OperatorKind::There(!notes.flag(tree)?),
        "count" => OperatorKind::Count(Box::new(Matcher::read(tree, notes))),
        "min" => OperatorKind::Min(tree.to_value()),
        "max" => OperatorKind::Max(tree.to_value()),
        "unique" => match tree.as_text() {
            Some("true") => OperatorKind::Unique(None),
            _ => OperatorKind::Unique(Some(notes.text(tree)?.into())),
        },
        "none" => OperatorKind::None(several(notes)),
        _ => OperatorKind::Not(Box::new(Matcher::read(tree, notes))),
    })
}

/// Reads one condition or a list of them.
pub fn conditions(tree: &Tree, notes: &mut Notes) -> Vec<(Template, Span)> {
    let single = std::slice::from_ref(tree);
    let items = if matches!(tree.kind, TreeKind::Sequence(_)) { tree.items() } else { single };
    let mut conditions = Vec::new();
    for item in items {
        let Some(template) = strict(item, notes) else { continue };
        if !template.is_one_expression() {
            notes.error(Code::WrongType, &item.span, "expected a condition, found a text").help =
                Some("write one `{{ … }}` and nothing else".to_owned());
            continue;
        }
        conditions.push((template, item.span.clone()));
    }
    conditions
}

/// Compiles an expression in which what is missing is an error.
pub fn strict(tree: &Tree, notes: &mut Notes) -> Option<Template> {
    let Some(text) = tree.as_text() else {
        notes.wrong(tree, "an expression such as `\"{{ … }}\"`");
        return None;
    };
    match Template::parse(text) {
        Ok(template) => {
            for reference in template.references() {
                let root = reference.path.first().map_or("", |root| &**root);
                if !ROOTS.contains(&root) {
                    let span = tree.span_within(&notes.source, reference.range.clone());
                    let near = crate::diag::did_you_mean(root, ROOTS.iter().copied());
                    let listed = || format!("known here: `{}`", ROOTS.join("`, `"));
                    let help = near.map_or_else(listed, |near| format!("did you mean `{near}`?"));
                    notes.error(Code::UnknownName, &span, format!("`{root}` is not known here")).help = Some(help);
                }
            }
            Some(template)
        }
        Err(error) => {
            let code =
                if error.message.starts_with("there is no") { Code::UnknownFilter } else { Code::TemplateSyntax };
            let (message, near) = match error.message.split_once("; did you mean") {
                Some((message, near)) => (message.to_owned(), Some(format!("did you mean{near}"))),
                None => (error.message.clone(), None),
            };
            notes.error(code, &tree.span_within(&notes.source, error.range), message).help = near;
            None
        }
    }
}

/// What the expressions of a test may read.
pub const ROOTS: &[&str] = &[
    "value", "steps", "inputs", "outputs", "run", "sandbox", "requests", "messages", "effects", "asks", "logs",
    "attempts", "secrets", "item", "index", "input", "attempt", "now",
];

impl Operator {
    fn held(&self, path: &str, found: Option<&Value>, held: Held<'_>, out: &mut Vec<Difference>) {
        let Self { span, kind } = self;
        let mut differs = |path: String, expected: String, found: Option<Value>| {
            out.push(Difference { span: span.clone(), path, expected, found });
        };
        let open = found.map(opened);
        let (whole, value) = (path.to_owned(), open.as_ref().unwrap_or(&Value::Null));
        match kind {
            OperatorKind::Equals(matcher) => matcher.held(path, found, Held { exact: true, ..held }, out),
            OperatorKind::Not(matcher) => {
                if matcher.holds(value, held) {
                    differs(whole, "anything else".to_owned(), found.cloned());
                }
            }
            OperatorKind::There(wanted) => {
                let there = found.is_some_and(|found| !found.is_null());
                if there != *wanted {
                    let expected = if *wanted { "something" } else { "nothing" };
                    differs(whole, expected.to_owned(), found.cloned());
                }
            }
            OperatorKind::Contains(wanted) => {
                for matcher in wanted {
                    if !contains(value, matcher, held) {
                        let expected = format!("something that contains {}", matcher.described());
                        out.push(Difference {
                            span: matcher.span.clone(),
                            path: path.to_owned(),
                            expected,
                            found: found.cloned(),
                        });
                    }
                }
            }
            OperatorKind::Pattern(pattern) => {
                let fits = found.is_some() && pattern.is_match(&value.to_text());
                if !fits {
                    differs(whole, format!("a text that matches `{pattern}`"), found.cloned());
                }
            }
            OperatorKind::That(conditions) => {
                let scope = with_value(held.scope, open.as_ref());
                for (template, span) in conditions {
                    let told = match template.eval(&scope) {
                        Ok(value) if value.is_truthy() => continue,
                        Ok(_) => format!("what `{}` holds for", template.source()),
                        Err(error) => format!("what `{}` holds for ({})", template.source(), error.message),
                    };
                    let (path, found) = (path.to_owned(), found.cloned());
                    out.push(Difference { span: span.clone(), path, expected: told, found });
                }
            }
            OperatorKind::Count(matcher) => {
                let count = match value {
                    Value::List(items) => items.len(),
                    Value::Map(map) => map.len(),
                    Value::String(text) => text.chars().count(),
                    Value::Null => 0,
                    _ => return differs(whole, "something to count".to_owned(), found.cloned()),
                };
                matcher.held(&format!("{path} | length"), Some(&counted(count)), held, out);
            }
            OperatorKind::Min(least) => {
                if !compare(value, least).is_ok_and(std::cmp::Ordering::is_ge) {
                    differs(whole, format!("at least {}", shown(least)), found.cloned());
                }
            }
            OperatorKind::Max(most) => {
                if !compare(value, most).is_ok_and(std::cmp::Ordering::is_le) {
                    differs(whole, format!("at most {}", shown(most)), found.cloned());
                }
            }
            OperatorKind::Unique(field) => {
                let items = value.as_list().unwrap_or_default();
                let key = |item: &Value| match field {
                    Some(field) => item.get(field).cloned().unwrap_or_default().to_text(),
                    None => item.to_text(),
                };
                let mut seen = std::collections::HashMap::new();
                for (index, item) in items.iter().enumerate() {
                    if let Some(first) = seen.insert(key(item), index) {
                        let in_field = field.as_ref().map(|field| format!(" in `{field}`")).unwrap_or_default();
                        let expected = format!("another than {path}[{first}]{in_field}");
                        differs(format!("{path}[{index}]"), expected, Some(item.clone()));
                    }
                }
            }
            OperatorKind::None(unwanted) => {
                for (index, item) in value.as_list().unwrap_or_default().iter().enumerate() {
                    for matcher in unwanted.iter().filter(|matcher| matcher.holds(item, held)) {
                        out.push(Difference {
                            span: matcher.span.clone(),
                            path: format!("{path}[{index}]"),
                            expected: "no item such as this".to_owned(),
                            found: Some(item.clone()),
                        });
                    }
                }
            }
        }
    }
}

impl Matcher {
    /// Says in a few words what it expects.
    fn described(&self) -> String {
        match &self.kind {
            Kind::Value(value) => shown(value),
            Kind::Computed(template) => format!("`{}`", template.source()),
            Kind::Fields(fields) => {
                let fields = fields.iter().map(|(name, matcher)| format!("{name}: {}", matcher.described()));
                format!("{{ {} }}", fields.collect::<Vec<_>>().join(", "))
            }
            Kind::Items(items) => format!("a list of {}", items.len()),
            Kind::Operators(..) => "what is written here".to_owned(),
        }
    }
}

fn contains(value: &Value, matcher: &Matcher, held: Held<'_>) -> bool {
    match value {
        Value::List(items) => items.iter().any(|item| matcher.holds(item, held)),
        Value::Map(map) => match &matcher.kind {
            // A text is looked for in all that is written in it.
            Kind::Value(Value::String(_)) => map.values().any(|inner| contains(inner, matcher, held)),
            _ => matcher.holds(value, held),
        },
        _ => {
            let wanted = match &matcher.kind {
                Kind::Value(wanted) => wanted.to_text(),
                Kind::Computed(template) => match template.eval(held.scope) {
                    Ok(wanted) => wanted.to_text(),
                    Err(_) => return false,
                },
                _ => return matcher.holds(value, held),
            };
            value.to_text().contains(&wanted)
        }
    }
}

/// Lays the outermost secret open: what is held against it is the test's own.
fn opened(value: &Value) -> Value {
    value.revealed()
}

fn with_value(scope: &Scope, value: Option<&Value>) -> Scope {
    let mut scope = scope.clone();
    scope.locals.push(("value", value.cloned().unwrap_or_default()));
    scope
}

/// Tells whether a written value means what there is.
fn same(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (expected, Value::Secret(inner)) => same(expected, inner),
        (Value::Null, Value::Null) => true,
        (Value::Bool(one), Value::Bool(other)) => one == other,
        (Value::String(text), Value::String(found)) => text == found,
        (Value::String(text), Value::Money(found)) => text.parse::<Money>().is_ok_and(|money| money == *found),
        (Value::String(text), Value::Time(found)) => text.parse::<Timestamp>().is_ok_and(|time| time == *found),
        (Value::String(text), found @ (Value::Duration(_) | Value::Number(_) | Value::Blob(_))) => {
            **text == found.to_text()
        }
        (Value::String(_) | Value::Null | Value::Bool(_), _) => false,
        (expected, found) => compare(expected, found).is_ok_and(std::cmp::Ordering::is_eq),
    }
}

/// Tells whether two values are the same through and through.
#[must_use]
pub fn same_whole(expected: &Value, found: &Value) -> bool {
    match (expected, found) {
        (Value::Secret(expected), found) => same_whole(expected, found),
        (expected, Value::Secret(found)) => same_whole(expected, found),
        (Value::List(one), Value::List(other)) => {
            one.len() == other.len() && one.iter().zip(other.iter()).all(|(one, other)| same_whole(one, other))
        }
        (Value::Map(one), Value::Map(other)) => {
            let all = |name: &Arc<str>, value: &Value| other.get(name).is_some_and(|found| same_whole(value, found));
            one.len() == other.len() && one.iter().all(|(name, value)| all(name, value))
        }
        (Value::Money(one), Value::Money(other)) => one == other,
        (Value::Time(one), Value::Time(other)) => one == other,
        (Value::Duration(one), Value::Duration(other)) => one == other,
        (one, other) => same(one, other) || same(other, one),
    }
}

/// The longest piece of a value that a message shows, in letters.
const LONGEST: usize = 200;

/// Returns a value for a message; secrets in it are masked, and what is long is cut.
#[must_use]
pub fn shown(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= LONGEST {
        return text;
    }
    text.chars().take(LONGEST).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::render;

    fn matcher(text: &str) -> Matcher {
        let (tree, diagnostics) = crate::yaml::parse(&"t.yaml".into(), text);
        assert_eq!(diagnostics, []);
        let mut notes = Notes::new(text.into());
        let matcher = Matcher::read(&tree.unwrap(), &mut notes);
        assert_eq!(notes.diagnostics, [], "{text}");
        matcher
    }

    fn differences(expected: &str, found: &str) -> Vec<String> {
        let found = crate::model::parse_json(found).unwrap();
        let scope = render::scope(vec![("inputs", Value::map([("limit", Value::Int(3))]))], Timestamp(0));
        let mut out = Vec::new();
        matcher(expected).check("v", Some(&found), &scope, &mut out);
        let place = |difference: &Difference| {
            let start = difference.span.start;
            format!("{}:{} {} expected {}", start.line, start.column, difference.path, difference.expected)
        };
        out.iter().map(place).collect()
    }

    #[test]
    fn each_form_holds_where_it_should_and_tells_the_place_where_it_does_not() {
        let cases: &[(&str, &str, &str, &str)] = &[
            ("a: 1.10", r#"{"a": 1.1, "b": 2}"#, r#"{"a": 1}"#, "1:4 v.a expected 1.10"),
            ("a: x", r#"{"a": "x"}"#, r#"{}"#, "1:4 v.a expected \"x\""),
            ("equals: { a: 1 }", r#"{"a": 1}"#, r#"{"a": 1, "b": 2}"#, "1:9 v.b expected nothing"),
            ("[1, {a: 2}]", r#"[1, {"a": 2, "b": 3}]"#, r#"[1, {"a": 4}]"#, "1:9 v[1].a expected 2"),
            ("[1]", "[1]", "[1, 2]", "1:1 v expected a list of 1"),
            ("contains: ea", r#""tea""#, r#""coffee""#, "1:11 v expected something that contains \"ea\""),
            (
                "contains: { a: 1 }",
                r#"[{"a": 2}, {"a": 1}]"#,
                r#"[{"a": 2}]"#,
                "1:11 v expected something that contains { a: 1 }",
            ),
            ("matches: '^t'", r#""tea""#, r#""coffee""#, "1:10 v expected a text that matches `^t`"),
            (
                "that: '{{ value > inputs.limit }}'",
                "4",
                "3",
                "1:7 v expected what `{{ value > inputs.limit }}` holds for",
            ),
            ("'{{ inputs.limit }}'", "3", "4", "1:1 v expected 3"),
            ("any: true", "1", "null", "1:6 v expected something"),
            ("absent: true", "null", "1", "1:9 v expected nothing"),
            ("count: 2", "[1, 2]", "[1]", "1:8 v | length expected 2"),
            ("{ count: { min: 1, max: 2 } }", "[1]", "[]", "1:17 v | length expected at least 1"),
            ("max: 2", "2", "3", "1:6 v expected at most 2"),
            (
                "unique: id",
                r#"[{"id": 1}, {"id": 2}]"#,
                r#"[{"id": 1}, {"id": 1}]"#,
                "1:9 v[1] expected another than v[0] in `id`",
            ),
            ("none: { a: 1 }", r#"[{"a": 2}]"#, r#"[{"a": 1}]"#, "1:7 v[0] expected no item such as this"),
            ("not: 1", "2", "1", "1:6 v expected anything else"),
            ("count: 3", r#"{"count": 3}"#, r#"{"count": 4}"#, "1:8 v.count expected 3"),
        ];
        for (expected, good, bad, told) in cases {
            assert_eq!(differences(expected, good), Vec::<String>::new(), "{expected} of {good}");
            assert_eq!(differences(expected, bad), [*told], "{expected} of {bad}");
        }
    }

    #[test]
    fn money_and_moments_are_written_as_texts() {
        let money = Value::Money("20.00 EUR".parse().unwrap());
        assert!(same(&Value::from("20 EUR"), &money));
        assert!(!same(&Value::from("20 USD"), &money));
        let time = Value::Time("2026-01-01T01:00:00+01:00".parse().unwrap());
        assert!(same(&Value::from("2026-01-01T00:00:00Z"), &time));
        assert!(same(&Value::from("x"), &Value::from("x").tainted()));
        assert_eq!(shown(&Value::from("a long secret").tainted()), "\"***\"");
    }
}
