//! Evaluates what a manifest writes: null leaves out what was written, patches are laid over one another.

use std::sync::Arc;

use super::manifest::Patch;
use crate::model::Map;
use crate::model::Timestamp;
use crate::model::Value;
use crate::template::EvalError;
use crate::template::Lookup;
use crate::template::Scope;
use crate::template::StepView;
use crate::template::TemplateTree;

/// Neither steps nor secrets: a manifest reads none.
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

/// Makes the scope of a manifest's expressions.
#[must_use]
pub fn scope(locals: Vec<(&'static str, Value)>, now: Timestamp) -> Scope {
    static NOTHING: std::sync::LazyLock<Arc<dyn Lookup>> = std::sync::LazyLock::new(|| Arc::new(Nothing));
    Scope { lookup: NOTHING.clone(), globals: Arc::default(), locals, now }
}

/// Evaluates a written value; nothing where it comes out null, or is a written map that this empties.
pub fn written(tree: &TemplateTree, scope: &Scope) -> Result<Option<Value>, EvalError> {
    match tree {
        TemplateTree::Literal(Value::Null) => Ok(None),
        TemplateTree::Literal(value) => Ok(Some(value.clone())),
        // A null inside what an expression delivers stays: it may be what clears a field.
        TemplateTree::Template(template) => Ok(Some(template.eval(scope)?).filter(|value| !value.is_null())),
        TemplateTree::List(items) => {
            let mut list = Vec::with_capacity(items.len());
            for item in items {
                let empty = || if matches!(item, TemplateTree::Map(_)) { Value::map::<&str>([]) } else { Value::Null };
                list.push(written(item, scope)?.unwrap_or_else(empty));
            }
            Ok(Some(Value::list(list)))
        }
        TemplateTree::Map(entries) => {
            let mut map = Map::with_capacity(entries.len());
            for (key, tree) in entries {
                if let Some(value) = written(tree, scope)? {
                    map.insert(key.clone(), value);
                }
            }
            Ok(if map.is_empty() && !entries.is_empty() { None } else { Some(Value::from(map)) })
        }
    }
}

/// Evaluates a written value; null where nothing comes out.
pub fn value(tree: &TemplateTree, scope: &Scope) -> Result<Value, EvalError> {
    Ok(written(tree, scope)?.unwrap_or_default())
}

/// Evaluates what an operation gives: a key that is null stays, so that what depends on it finds it.
pub fn output(tree: &TemplateTree, scope: &Scope) -> Result<Value, EvalError> {
    tree.eval(scope)
}

/// The parts of a request that patches are laid over.
#[derive(Debug, Default)]
pub struct Laid {
    pub headers: Map,
    pub query: Map,
    pub json: Option<Value>,
    pub form: Option<Value>,
}

impl Laid {
    /// Lays a patch over what is there.
    pub fn lay(&mut self, patch: &Patch, scope: &Scope) -> Result<(), EvalError> {
        if let Some(headers) = &patch.headers {
            self.headers(headers, scope)?;
        }
        if let Some(query) = &patch.query {
            lay_over(&mut self.query, query, scope, |key| key.clone())?;
        }
        if let Some(json) = &patch.json {
            merge(&mut self.json, written(json, scope)?);
        }
        if let Some(form) = &patch.form {
            merge(&mut self.form, written(form, scope)?);
        }
        Ok(())
    }

    /// Lays headers over those that are there; names are compared in lower case.
    pub fn headers(&mut self, tree: &TemplateTree, scope: &Scope) -> Result<(), EvalError> {
        let headers = &mut self.headers;
        lay_over(headers, tree, scope, |key| key.to_lowercase().into())
    }

    /// Lays a query over that which is there.
    pub fn query(&mut self, tree: &TemplateTree, scope: &Scope) -> Result<(), EvalError> {
        lay_over(&mut self.query, tree, scope, |key| key.clone())
    }
}

fn lay_over(
    map: &mut Map,
    tree: &TemplateTree,
    scope: &Scope,
    name: impl Fn(&Arc<str>) -> Arc<str>,
) -> Result<(), EvalError> {
    match tree {
        TemplateTree::Map(entries) => {
            for (key, tree) in entries {
                // What comes out null takes away what an earlier patch has put.
                match written(tree, scope)? {
                    Some(value) => drop(map.insert(name(key), value)),
                    None => drop(map.shift_remove(&name(key))),
                }
            }
        }
        // A map that an expression delivers, as headers computed from metadata.
        other => {
            if let Some(delivered) = written(other, scope)? {
                let Some(delivered) = delivered.as_map() else {
                    let message = format!("expected a mapping, found {}", delivered.kind().name());
                    return Err(EvalError { message });
                };
                for (key, value) in delivered.iter().filter(|(_, value)| !value.is_null()) {
                    map.insert(name(key), value.clone());
                }
            }
        }
    }
    Ok(())
}

/// Lays the keys of one object over those of another; anything else replaces.
fn merge(into: &mut Option<Value>, over: Option<Value>) {
    let Some(over) = over else { return };
    let merged = match (into.as_ref().and_then(Value::as_map), over.as_map()) {
        (Some(below), Some(above)) => {
            let mut map = below.clone();
            map.extend(above.iter().map(|(key, value)| (key.clone(), value.clone())));
            Value::from(map)
        }
        _ => over,
    };
    *into = Some(merged);
}

/// Writes a header's value: the items of a list with commas between, nulls left out.
#[must_use]
pub fn header_text(value: &Value) -> String {
    match value {
        Value::List(items) => {
            let texts = items.iter().filter(|item| !item.is_null()).map(|item| item.revealed().to_text());
            texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(", ")
        }
        other => other.revealed().to_text(),
    }
}

/// Writes a query's or form's pairs: a list repeats its key.
#[must_use]
pub fn pairs(map: &Map) -> Vec<(String, String)> {
    let mut pairs = Vec::with_capacity(map.len());
    for (key, value) in map {
        match value {
            Value::Null => {}
            Value::List(items) => {
                pairs.extend(items.iter().map(|item| (key.to_string(), item.revealed().to_text())));
            }
            value => pairs.push((key.to_string(), value.revealed().to_text())),
        }
    }
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::notes::Notes;
    use crate::yaml::parse;

    fn tree(text: &str) -> TemplateTree {
        let (tree, faults) = parse(&"t.yaml".into(), text);
        assert_eq!(faults, []);
        Notes::new(text.into()).tree(&tree.unwrap())
    }

    fn input(json: &str) -> Scope {
        scope(vec![("input", crate::model::parse_json(json).unwrap())], Timestamp(0))
    }

    fn check(yaml: &str, json: &str, expected: &str) {
        let found = written(&tree(yaml), &input(json)).unwrap();
        assert_eq!(found.map_or("nothing".to_owned(), |value| value.to_string()), expected, "{yaml}");
    }

    #[test]
    fn a_written_key_that_comes_out_null_is_left_out() {
        check("{ a: \"{{ input.a }}\", b: 1 }", r#"{"a":null}"#, r#"{"b":1}"#);
        check("{ a: \"{{ input.a }}\", b: null }", r#"{"a":null}"#, "nothing");
        check("{ a: { b: { c: \"{{ input.a }}\" } }, d: 1 }", r#"{"a":null}"#, r#"{"d":1}"#);
        check("{ a: {} }", "{}", r#"{"a":{}}"#);
        check("[ { a: \"{{ input.a }}\" }, \"{{ input.a }}\" ]", r#"{"a":null}"#, "[{},null]");
        check("{ a: \"null\" }", "{}", r#"{"a":"null"}"#);
    }

    #[test]
    fn a_null_inside_what_an_expression_delivers_is_sent() {
        check("\"{{ input.fields }}\"", r#"{"fields":{"phone":null,"name":"x"}}"#, r#"{"phone":null,"name":"x"}"#);
        check("{ json: \"{{ input.fields }}\" }", r#"{"fields":{"phone":null}}"#, r#"{"json":{"phone":null}}"#);
    }

    #[test]
    fn a_later_patch_wins_and_null_takes_away() {
        let mut laid = Laid::default();
        let scope = input(r#"{"a":null,"list":["x",null,"y"]}"#);
        laid.headers(&tree("{ X-A: one, Accept: json, Prefer: [p, \"{{ input.a }}\", q] }"), &scope).unwrap();
        laid.headers(&tree("{ x-a: two, accept: null }"), &scope).unwrap();
        let shown: Vec<_> = laid.headers.iter().map(|(key, value)| format!("{key}: {}", header_text(value))).collect();
        assert_eq!(shown, ["x-a: two", "prefer: p, q"]);
        laid.query(&tree("{ ids: \"{{ input.list }}\", none: \"{{ input.a }}\", deep: true }"), &scope).unwrap();
        let pairs: Vec<_> = pairs(&laid.query).into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(pairs, ["ids=x", "ids=", "ids=y", "deep=true"]);
    }
}
