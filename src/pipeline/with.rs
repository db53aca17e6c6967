//! `with:` against the node that takes it: keys, types, literals, expressions.

use std::sync::Arc;

use serde_json::Value as Json;

use super::compile::Compiler;
use super::compile::Inside;
use super::compile::first_line;
use super::expressions::Place;
use super::prompts;
use super::step::Body;
use crate::diag::Code;
use crate::diag::Span;
use crate::diag::did_you_mean;
use crate::model::Value;
use crate::node::Node;
use crate::template::TemplateTree;
use crate::yaml::Tree;
use crate::yaml::TreeKind;

/// Compiles `with:`; what is missing is told at `uses`.
pub(super) fn compile(
    compiler: &mut Compiler<'_>,
    node: &Arc<dyn Node>,
    with: Option<&Tree>,
    uses: &Span,
    place: &Place<'_>,
) -> Body {
    let schemas = compiler.world.schemas.of(&**node);
    let schema = &schemas.0;
    let Some(with) = with else {
        missing(compiler, schema, &[], uses, node.name());
        let mut body = Body::empty(node);
        body.tree = connected(compiler, node, body.tree, None, uses);
        return body;
    };
    if let (TreeKind::Scalar { .. }, Some(_)) = (&with.kind, with.as_text().filter(|text| text.contains("{{"))) {
        let tree = compiler.template(with, place).map_or(TemplateTree::Literal(Value::Null), TemplateTree::Template);
        return Body { tree, expressions: Vec::new(), effect: node.effect(&Value::map::<&str>([])) };
    }
    compiler.known_connections(with);
    let before = compiler.diagnostics.len();
    check(compiler, with, schema, schema, Some(node.name()), uses);
    let sound = compiler.diagnostics.len() == before;
    let mut expressions = Vec::new();
    for key in node.expressions() {
        let Some(tree) = find(with, key.key) else { continue };
        let inner = inner_place(compiler, with, place, key.roots);
        // A text over `vars` is written as it stands; any other is meant as an expression.
        if !key.roots.contains(&"vars") {
            compiler.forgotten_braces(tree, &inner);
        }
        if let Some(template) = compiler.template(tree, &inner) {
            expressions.push((key.key, template));
        }
        place.reads.borrow_mut().append(&mut inner.reads.borrow_mut());
    }
    for key in node.prompts() {
        let Some(tree) = find(with, key.key) else { continue };
        if tree.as_text().is_some_and(|text| text.contains("{{") || text.contains("{%")) {
            let message = format!("`{}` must be written out, not computed", key.key);
            compiler.error(Code::MustBeLiteral, &tree.span, message).help =
                Some("a prompt belongs to the version of the pipeline, so it must be known before a run".to_owned());
            continue;
        }
        let inner = inner_place(compiler, with, place, key.roots);
        if let Some(prompt) = prompts::compile(compiler, tree, &inner, node.front_matter()) {
            expressions.push((key.key, prompt));
        }
        place.reads.borrow_mut().append(&mut inner.reads.borrow_mut());
    }
    for literal in node.literals() {
        if let Some(tree) = find(with, literal).filter(|tree| tree.as_text().is_some_and(|text| text.contains("{{"))) {
            compiler
                .error(Code::MustBeLiteral, &tree.span, format!("`{literal}` must be written out, not computed"))
                .help = Some("it decides what the step does, which must be known before it runs".to_owned());
        }
    }
    let raw: Vec<&str> = node.expressions().iter().map(|key| key.key).collect();
    let tree = values(compiler, with, "", &raw, place);
    compiler.expect_schema(with, schema, schema, &raw);
    let tree = connected(compiler, node, tree, with.get("connection"), uses);
    let literal = literals(with);
    if sound {
        for (key, message) in node.check(&literal) {
            let span = key
                .as_deref()
                .and_then(|key| find(with, key))
                .map_or_else(|| first_line(&with.span), |tree| first_line(&tree.span));
            compiler.error(Code::InvalidWith, &span, message);
        }
        called(compiler, node, with, &literal);
    }
    Body { tree, expressions, effect: node.effect(&literal) }
}

/// Checks a node that calls operations against what they declare.
fn called(compiler: &mut Compiler<'_>, node: &Arc<dyn Node>, with: &Tree, literal: &Value) {
    let Some(operations) = compiler.world.registry.operations().cloned() else { return };
    for wanted in node.calls(literal) {
        let Some(name) = wanted.connection else { continue };
        let declared = compiler.world.declared;
        // One that is missing is told where the operations are found.
        let connector = declared.connector_of(&name);
        let operation = connector.and_then(|connector| operations.sibling(connector, wanted.operation));
        let input = operation.and_then(|operation| operation.declared_input(&declared.settings_of(&name)));
        let Some(input) = input else { continue };
        for (key, message) in node.check_called(literal, &input) {
            let span = key.as_deref().and_then(|key| find(with, key)).unwrap_or(with).span.clone();
            compiler.error(Code::InvalidWith, &first_line(&span), message);
        }
    }
}

/// Puts the connection of an operation in: the one that `with` names, else that of `defaults`, else the only one of its
/// connector, else the one that is named as the connector is.
fn connected(
    compiler: &mut Compiler<'_>,
    node: &Arc<dyn Node>,
    tree: TemplateTree,
    given: Option<&Tree>,
    uses: &Span,
) -> TemplateTree {
    let Some(connector) = node.connector() else { return tree };
    let declared = compiler.world.declared;
    if let Some(given) = given {
        let name = given.as_text().filter(|name| !name.contains("{{"));
        let other = name.and_then(|name| declared.connector_of(name)).filter(|other| *other != connector);
        if let (Some(name), Some(other)) = (name, other) {
            let message =
                format!("connection `{name}` is of connector `{other}`, and this is an operation of `{connector}`");
            compiler.error(Code::UnknownConnection, &given.span, message);
        }
        return tree;
    }
    // The steps of a manifest go on with the connection of the step that uses it.
    if matches!(compiler.inside, Some(Inside::Manifest(_))) {
        let handed = crate::template::Template::parse_lenient("{{ connection }}").ok();
        return with_member(tree, handed.map_or(TemplateTree::Literal(Value::Null), TemplateTree::Template));
    }
    let own = declared.connections_of(connector);
    let default = compiler.default_connection.clone();
    let default = own.iter().find(|name| default.as_deref() == Some(**name)).copied();
    let chosen = match (default, own.as_slice()) {
        (Some(name), _) => Some(name),
        (None, [only]) => Some(*only),
        (None, several) => several.iter().find(|name| **name == connector).copied(),
    };
    if chosen.is_none() && node.needs_connection() && declared.is_complete() {
        let message = match own.as_slice() {
            [] => format!(
                "`{}` needs a connection, and the project file has none of connector `{connector}`",
                node.name()
            ),
            several => {
                let listed = several.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                format!("`{}` needs to be told which connection: there are {listed}", node.name())
            }
        };
        let help = match own.first() {
            Some(first) => format!("add `connection: {first}` to `with`"),
            None => {
                format!("add it to `pipewright.yaml`: `connections: {{ {connector}: {{ connector: {connector} }} }}`")
            }
        };
        compiler.error(Code::MissingConnection, uses, message).help = Some(help);
    }
    let chosen = chosen.map_or(Value::Null, Value::from);
    with_member(tree, TemplateTree::Literal(chosen))
}

pub(super) fn with_member(tree: TemplateTree, connection: TemplateTree) -> TemplateTree {
    let mut entries = match tree {
        TemplateTree::Map(entries) => entries,
        TemplateTree::Literal(Value::Map(map)) => {
            map.iter().map(|(key, value)| (key.clone(), TemplateTree::Literal(value.clone()))).collect()
        }
        other => return other,
    };
    entries.push(("connection".into(), connection));
    TemplateTree::Map(entries)
}

/// Returns the place of an expression that the node evaluates itself, with the roots that it gives.
fn inner_place<'p>(compiler: &Compiler<'_>, with: &Tree, place: &Place<'p>, given: &[&'static str]) -> Place<'p> {
    Place {
        roots: place.roots.iter().chain(given).copied().collect(),
        own: place.own,
        proven: place.proven.clone(),
        reads: Default::default(),
        shown: place.shown,
        given: place.own.map(|own| compiler.given_by_node(with, own, given)).unwrap_or_default(),
    }
}

/// Finds the value of a dotted key.
fn find<'t>(tree: &'t Tree, key: &str) -> Option<&'t Tree> {
    key.split('.').try_fold(tree, |tree, part| tree.get(part))
}

/// Compiles the values; expressions that the node evaluates itself stay text.
fn values(compiler: &mut Compiler<'_>, tree: &Tree, path: &str, raw: &[&str], place: &Place<'_>) -> TemplateTree {
    if raw.contains(&path) {
        return TemplateTree::Literal(tree.as_text().map_or(Value::Null, Value::from));
    }
    let inside = raw.iter().any(|key| path.is_empty() || key.starts_with(&format!("{path}.")));
    let TreeKind::Mapping(entries) = &tree.kind else { return compiler.tree(tree, place) };
    if !inside {
        return compiler.tree(tree, place);
    }
    let mut compiled = Vec::new();
    for entry in entries {
        let path = if path.is_empty() { entry.key.to_string() } else { format!("{path}.{}", entry.key) };
        compiled.push((entry.key.clone(), values(compiler, &entry.value, &path, raw, place)));
    }
    let literals: Option<Vec<_>> = compiled
        .iter()
        .map(|(key, tree)| match tree {
            TemplateTree::Literal(value) => Some((key.clone(), value.clone())),
            _ => None,
        })
        .collect();
    literals.map_or(TemplateTree::Map(compiled), |literals| TemplateTree::Literal(Value::map(literals)))
}

/// Returns the value with null wherever a template stands.
pub(super) fn literals(tree: &Tree) -> Value {
    match &tree.kind {
        TreeKind::Scalar { text, .. } if text.contains("{{") || text.contains("{%") => Value::Null,
        TreeKind::Scalar { .. } => tree.to_value(),
        TreeKind::Sequence(items) => Value::list(items.iter().map(literals).collect()),
        TreeKind::Mapping(entries) => {
            Value::map(entries.iter().map(|entry| (entry.key.clone(), literals(&entry.value))))
        }
    }
}

fn missing(compiler: &mut Compiler<'_>, schema: &Json, given: &[&str], place: &Span, node: &str) {
    let required = schema.get("required").and_then(Json::as_array);
    for key in required.into_iter().flatten().filter_map(Json::as_str).filter(|key| !given.contains(key)) {
        let page = if compiler.world.registry.get(node).is_none() { "connectors show" } else { "nodes" };
        compiler.error(Code::MissingKey, place, format!("`{node}` needs `{key}` in `with`")).help =
            Some(format!("add `{key}:`; `pipewright {page} {node}` shows all keys"));
    }
}

/// Checks a written value against a schema; templates fit anything, their kind shows at run time.
fn check(compiler: &mut Compiler<'_>, tree: &Tree, schema: &Json, root: &Json, node: Option<&str>, place: &Span) {
    if tree.as_text().is_some_and(|text| text.contains("{{") || text.contains("{%")) {
        return;
    }
    let schema = resolve(schema, root);
    if let Some(choices) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Json::as_array) {
        return check_choices(compiler, tree, choices, root, place);
    }
    if let Some(words) = schema.get("enum").and_then(Json::as_array) {
        return check_words(compiler, tree, &words.iter().filter_map(Json::as_str).collect::<Vec<_>>());
    }
    if !kind_fits(tree, schema) {
        let expected = expected(schema);
        if let (Some(text), Some("pipewright-duration")) = (tree.as_text(), schema.get("format").and_then(Json::as_str))
            && let Err(error) = text.parse::<crate::model::Duration>()
        {
            compiler.error(Code::BadDuration, &tree.span, error.to_string());
            return;
        }
        let help = match (&tree.kind, schema.get("type").and_then(Json::as_str)) {
            (TreeKind::Scalar { text, .. }, Some("string")) if !tree.is_null() => {
                Some(format!("quote it: `\"{text}\"`"))
            }
            _ => None,
        };
        compiler
            .error(Code::WrongType, &first_line(&tree.span), format!("expected {expected}, found {}", tree.describe()))
            .help = help;
        return;
    }
    if let (Some(text), Some("pipewright-duration")) = (tree.as_text(), schema.get("format").and_then(Json::as_str))
        && let Err(error) = text.parse::<crate::model::Duration>()
    {
        compiler.error(Code::BadDuration, &tree.span, error.to_string());
    }
    check_range(compiler, tree, schema);
    match &tree.kind {
        TreeKind::Mapping(_) => check_mapping(compiler, tree, schema, root, node, place),
        TreeKind::Sequence(items) => {
            if let Some(inner) = schema.get("items") {
                for item in items {
                    check(compiler, item, inner, root, None, place);
                }
            }
        }
        TreeKind::Scalar { .. } => {}
    }
}

fn check_mapping(
    compiler: &mut Compiler<'_>,
    tree: &Tree,
    schema: &Json,
    root: &Json,
    node: Option<&str>,
    place: &Span,
) {
    let properties = schema.get("properties").and_then(Json::as_object);
    let closed = schema.get("additionalProperties") == Some(&Json::Bool(false));
    let rest = schema.get("additionalProperties").filter(|it| it.is_object());
    for entry in tree.entries() {
        match properties.and_then(|properties| properties.get(&*entry.key)) {
            Some(inner) => check(compiler, &entry.value, inner, root, None, &entry.key_span),
            None if closed => {
                let known: Vec<&str> = properties.into_iter().flatten().map(|(key, _)| key.as_str()).collect();
                let message = match node {
                    Some(node) => format!("`{node}` takes no `{}`", entry.key),
                    None => format!("unknown key `{}`", entry.key),
                };
                let near =
                    did_you_mean(&entry.key, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
                let listed = || {
                    format!("known here: {}", known.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", "))
                };
                compiler.error(Code::UnknownKey, &entry.key_span, message).help = Some(near.unwrap_or_else(listed));
            }
            None => {
                if let Some(rest) = rest {
                    check(compiler, &entry.value, rest, root, None, &entry.key_span);
                }
            }
        }
    }
    let given: Vec<&str> = tree.entries().iter().map(|entry| &*entry.key).collect();
    match node {
        Some(node) => missing(compiler, schema, &given, place, node),
        None => {
            let required = schema.get("required").and_then(Json::as_array);
            for key in required.into_iter().flatten().filter_map(Json::as_str).filter(|key| !given.contains(key)) {
                compiler.error(Code::MissingKey, &first_line(&tree.span), format!("key `{key}` is missing")).help =
                    Some(format!("add `{key}:`"));
            }
        }
    }
}

/// One of several shapes must fit; where only one is of the value's kind, its faults are told.
fn check_choices(compiler: &mut Compiler<'_>, tree: &Tree, choices: &[Json], root: &Json, place: &Span) {
    if let Some(words) = all_words(choices, root) {
        return check_words(compiler, tree, &words);
    }
    let mut faults = Vec::new();
    for choice in choices {
        let before = compiler.diagnostics.len();
        check(compiler, tree, choice, root, None, place);
        let found: Vec<_> = compiler.diagnostics.drain(before..).collect();
        if found.is_empty() {
            return;
        }
        if kind_fits(tree, resolve(choice, root)) {
            faults = found;
        }
    }
    if faults.is_empty() {
        let expected: Vec<_> =
            choices.iter().map(|choice| expected(resolve(choice, root))).filter(|it| it != "nothing").collect();
        let message = format!("expected {}, found {}", expected.join(" or "), tree.describe());
        compiler.error(Code::WrongType, &first_line(&tree.span), message);
    }
    compiler.diagnostics.extend(faults);
}

/// Returns the words of choices that are words one and all.
fn all_words<'s>(choices: &'s [Json], root: &'s Json) -> Option<Vec<&'s str>> {
    let mut words = Vec::new();
    for choice in choices {
        let choice = resolve(choice, root);
        match (choice.get("const").and_then(Json::as_str), choice.get("enum").and_then(Json::as_array)) {
            (Some(word), _) => words.push(word),
            (None, Some(list)) => words.extend(list.iter().filter_map(Json::as_str)),
            (None, None) => return None,
        }
    }
    Some(words)
}

fn check_words(compiler: &mut Compiler<'_>, tree: &Tree, words: &[&str]) {
    if tree.as_text().is_some_and(|text| words.contains(&text)) {
        return;
    }
    let near = tree.as_text().and_then(|text| did_you_mean(text, words.iter().copied()));
    let listed = words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ");
    compiler
        .error(Code::WrongType, &first_line(&tree.span), format!("expected one of {listed}, found {}", tree.describe()))
        .help = near.map(|near| format!("did you mean `{near}`?"));
}

fn check_range(compiler: &mut Compiler<'_>, tree: &Tree, schema: &Json) {
    let value = tree.to_value();
    for (key, word, wrong) in
        [("minimum", "at least", std::cmp::Ordering::Less), ("maximum", "at most", std::cmp::Ordering::Greater)]
    {
        let Some(bound) = schema.get(key).and_then(|bound| crate::model::parse_number(&bound.to_string())) else {
            continue;
        };
        if crate::model::compare(&value, &bound).is_ok_and(|order| order == wrong) {
            compiler.error(Code::OutOfRange, &tree.span, format!("expected {word} {bound}, found {}", tree.describe()));
        }
    }
}

pub(super) fn resolve<'s>(schema: &'s Json, root: &'s Json) -> &'s Json {
    let Some(reference) = schema.get("$ref").and_then(Json::as_str) else { return schema };
    let found = reference.strip_prefix('#').and_then(|pointer| root.pointer(pointer));
    found.map_or(schema, |inner| if inner.get("$ref").is_some() { resolve(inner, root) } else { inner })
}

fn kind_fits(tree: &Tree, schema: &Json) -> bool {
    let kinds: Vec<&str> = match schema.get("type") {
        Some(Json::String(kind)) => vec![kind],
        Some(Json::Array(kinds)) => kinds.iter().filter_map(Json::as_str).collect(),
        _ => return true,
    };
    // `Decimal` and its like take a number or its text.
    let decimal = schema.get("pattern").is_some() && kinds.contains(&"number");
    kinds.iter().any(|kind| match (*kind, &tree.to_value()) {
        ("null", Value::Null)
        | ("boolean", Value::Bool(_))
        | ("integer", Value::Int(_))
        | ("number", Value::Int(_) | Value::Decimal(_) | Value::Number(_))
        | ("array", Value::List(_))
        | ("object", Value::Map(_)) => true,
        ("string", Value::String(text)) => !decimal || crate::model::parse_number(text).is_some(),
        _ => false,
    })
}

pub(super) fn expected(schema: &Json) -> String {
    let word = |kind: &str| match kind {
        "null" => "nothing",
        "boolean" => "`true` or `false`",
        "integer" => "a whole number",
        "number" => "a number",
        "array" => "a list",
        "object" => "a mapping",
        _ => "a text",
    };
    match schema.get("type") {
        Some(Json::String(kind)) => word(kind).to_owned(),
        Some(Json::Array(kinds)) => {
            let kinds = kinds.iter().filter_map(Json::as_str).filter(|kind| *kind != "null").map(word);
            kinds.collect::<Vec<_>>().join(" or ")
        }
        _ => "a value".to_owned(),
    }
}
