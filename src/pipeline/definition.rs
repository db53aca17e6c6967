//! The stored form of a pipeline: all that is needed to compile it again, its prompts and children with it.
//!
//! JSON: `{ file, text, prompts: { path: text }, children: { name: version }, pool: { version: { file, … } }, connectors:
//! { name: { file, text, connections } }, connector, operation, node, resends }`. A child stands in the pool once, however many
//! pipelines use it.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::Pipeline;
use super::compile::Child;
use super::compile::Schemas;
use super::compile::World;
use super::compile::compile;
use super::declared::Declared;
use super::prompts::PromptFile;
use crate::diag::Diagnostic;
use crate::diag::Sources;
use crate::model::Value;
use crate::model::parse_json;
use crate::node::Registry;
use crate::yaml::Tree;

/// What a definition holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Written<'w> {
    pub(super) file: &'w str,
    pub(super) text: &'w str,
    pub(super) prompts: &'w BTreeMap<String, Arc<str>>,
    pub(super) children: &'w BTreeMap<String, Arc<Pipeline>>,
    /// By connector: file and text of its manifest, and the names of its connections.
    pub(super) connectors: &'w BTreeMap<String, Value>,
    /// The operation whose steps it is, with its connector.
    pub(super) operation: Option<(&'w str, &'w str)>,
    /// The node that is made of these steps.
    pub(super) node: Option<&'w str>,
    /// Whether paid reads among these steps are asked again where an answer is lost.
    pub(super) resends: bool,
}

/// Returns a pipeline's text without what stands under `tests`: that is no part of what a run does, so that another test
/// makes no other version. All other lines keep their places, by which faults are told.
pub(super) fn without_tests<'t>(text: &'t str, tree: &Tree) -> Cow<'t, str> {
    let entries = tree.entries();
    let Some(index) = entries.iter().position(|entry| &*entry.key == "tests") else { return text.into() };
    let line = |index: usize| entries.get(index).map(|entry| &entry.key_span.start);
    let Some(first) = line(index).filter(|start| start.column == 1) else { return text.into() };
    let end = line(index + 1).map_or(u32::MAX, |start| start.line);
    let (mut kept, mut blanked) = (String::with_capacity(text.len()), String::new());
    for (number, own) in (1..).zip(text.split_inclusive('\n')) {
        if (first.line..end).contains(&number) {
            blanked.push_str(own);
            kept.push_str(own.trim_start_matches(|letter| letter != '\n'));
        } else {
            kept.push_str(own);
        }
    }
    // What stands elsewhere may be named there.
    if blanked.contains('&') {
        return text.into();
    }
    // Where nothing follows, nothing has a place to keep.
    if end == u32::MAX {
        kept.truncate(kept.trim_end().len());
        kept.push('\n');
    }
    kept.into()
}

/// Returns the stored form.
pub(super) fn write(written: &Written<'_>) -> Arc<str> {
    let Written { file, text, prompts, children, connectors, operation, node, resends } = *written;
    let mut pool: BTreeMap<Arc<str>, Value> = BTreeMap::new();
    for child in children.values() {
        // Written by this function, so it is JSON.
        let Ok(Value::Map(definition)) = parse_json(&child.definition) else { continue };
        if let Some(Value::Map(inner)) = definition.get("pool") {
            pool.extend(inner.iter().map(|(version, entry)| (version.clone(), entry.clone())));
        }
        let own = definition.iter().filter(|(key, _)| &***key != "pool");
        pool.insert(child.version.0.clone(), Value::map(own.map(|(key, value)| (key.clone(), value.clone()))));
    }
    let children = children.iter().map(|(name, child)| (name.as_str(), Value::from(&*child.version.0)));
    let prompts = prompts.iter().map(|(path, text)| (path.as_str(), Value::from(&**text)));
    let mut definition = vec![
        ("file", Value::from(file)),
        ("text", Value::from(text)),
        ("prompts", Value::map(prompts)),
        ("children", Value::map(children)),
        ("pool", Value::map(pool)),
    ];
    if !connectors.is_empty() {
        let connectors = connectors.iter().map(|(name, kept)| (name.as_str(), kept.clone()));
        definition.push(("connectors", Value::map(connectors)));
    }
    if let Some((connector, operation)) = operation {
        definition.push(("connector", Value::from(connector)));
        definition.push(("operation", Value::from(operation)));
    }
    if let Some(node) = node {
        definition.push(("node", Value::from(node)));
    }
    if resends {
        definition.push(("resends", true.into()));
    }
    Value::map(definition).to_string().into()
}

/// Compiles a stored definition again: the version that a run keeps.
///
/// # Errors
/// What this program no longer accepts of it.
pub fn compile_definition(definition: &str, registry: &Registry) -> Result<Arc<Pipeline>, (Vec<Diagnostic>, Sources)> {
    let Ok(definition) = parse_json(definition) else { return Err(Default::default()) };
    let pool = Pool {
        entries: definition.get("pool").cloned().unwrap_or_default(),
        registry,
        schemas: Schemas::default(),
        done: RefCell::default(),
    };
    let Some((pipeline, diagnostics)) = pool.entry(&definition) else { return Err(Default::default()) };
    pipeline.ok_or_else(|| {
        let text = |key: &str| definition.get(key).and_then(Value::as_str).unwrap_or_default();
        let mut sources = Sources::default();
        sources.insert(text("file").into(), text("text").into());
        (diagnostics, sources)
    })
}

/// The children of a definition, each compiled once.
struct Pool<'r> {
    entries: Value,
    registry: &'r Registry,
    schemas: Schemas,
    /// By version; nothing while it is being compiled, and where it no longer compiles.
    done: RefCell<BTreeMap<String, Option<Arc<Pipeline>>>>,
}

impl Pool<'_> {
    /// Compiles an entry; nothing when it is damaged.
    fn entry(&self, entry: &Value) -> Option<(Option<Arc<Pipeline>>, Vec<Diagnostic>)> {
        let text = |key: &str| entry.get(key).and_then(Value::as_str);
        let (file, source) = (text("file")?, text("text")?);
        let named = |map: &str, name: &str| entry.get(map)?.get(name)?.as_str();
        let child = |name: &str| match named("children", name) {
            Some(version) => self.version(version).map_or(Child::Faulty, Child::Found),
            None => Child::Unknown { near: None },
        };
        let prompt = |path: &str| match named("prompts", path) {
            Some(text) => Ok(PromptFile { shown: path.into(), text: text.into() }),
            None => Err(format!("there is no file `{path}`")),
        };
        // A run that was started with a version goes on, whatever the project file and the manifests say by now.
        let kept = entry.get("connectors").cloned().unwrap_or_default();
        let connections = kept.as_map().into_iter().flatten().flat_map(|(connector, kept)| {
            let names = kept.get("connections").and_then(Value::as_list).unwrap_or_default().iter();
            names.filter_map(|name| Some((name.as_str()?.to_owned(), connector.to_string()))).collect::<Vec<_>>()
        });
        let declared = Declared::of_connections(connections.collect());
        let registry = match self.registry.operations() {
            Some(operations) if !kept.is_null() => self.registry.clone().with_operations(operations.restored(&kept)),
            _ => self.registry.clone(),
        };
        let foreign = RefCell::default();
        let world = World {
            registry: &registry,
            foreign: &foreign,
            child: &child,
            schemas: &self.schemas,
            can_seal: true,
            declared: &declared,
            around: None,
            prompt: &prompt,
        };
        let resends = entry.get("resends").and_then(Value::as_bool).unwrap_or(false);
        if let (Some(connector), Some(operation)) = (text("connector"), text("operation")) {
            let node = registry.operations()?.sibling(connector, operation)?;
            return Some(super::composite::compile(&node.composite()?, &world, Vec::new(), resends));
        }
        if let Some(node) = text("node") {
            let compiled = super::expansion::compile(node, source, &world, Vec::new(), resends);
            return Some((compiled.pipeline, compiled.diagnostics));
        }
        Some(compile(&file.into(), source, &world))
    }

    fn version(&self, version: &str) -> Option<Arc<Pipeline>> {
        if let Some(done) = self.done.borrow().get(version) {
            return done.clone();
        }
        // A damaged definition may lead back to itself: then it ends here.
        self.done.borrow_mut().insert(version.to_owned(), None);
        let compiled = self.entries.get(version).and_then(|entry| self.entry(entry)?.0);
        self.done.borrow_mut().insert(version.to_owned(), compiled.clone());
        compiled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(text: &str) -> String {
        let (tree, _) = crate::yaml::parse(&"x.yaml".into(), text);
        without_tests(text, &tree.unwrap()).into_owned()
    }

    #[test]
    fn other_tests_make_no_other_version() {
        let pipeline = "name: x\nsteps: {}\n";
        let tests = "tests:\n  - name: a\n    then: {}\n";
        assert_eq!(kept(&format!("{pipeline}{tests}")), pipeline);
        assert_eq!(kept(&format!("{pipeline}\n{tests}\n  - name: b\n    then: {{}}\n")), pipeline);
        let between = format!("{tests}{pipeline}");
        assert_eq!(kept(&between), format!("\n\n\n{pipeline}"), "what follows keeps its place");
        for text in [pipeline, "{ name: x, tests: [] }\n", "tests:\n  - &a { name: x }\nsteps: *a\n"] {
            assert_eq!(kept(text), text);
        }
    }
}
