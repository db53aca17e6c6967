//! What is known at the places of a file before anything runs, for editors: nothing is checked here, and a file with faults
//! is looked into all the same.

use std::path::Path;
use std::sync::Arc;

use super::Catalog;
use super::Input;
use super::compile::Compiler;
use super::compile::World;
use super::infer::Names;
use super::inputs;
use super::kinds::Field;
use super::kinds::Kinds;
use super::kinds::Type;
use super::known::Uses;
use super::shapes::Scope;
use super::step;
use crate::node::Node;
use crate::yaml;
use crate::yaml::Tree;

/// What a value will be.
#[derive(Clone, Debug)]
pub struct Gives(Type);

/// What is known of a file.
#[derive(Debug)]
pub struct Look {
    pub inputs: Vec<Input>,
    /// What `inputs` is.
    pub gives: Gives,
    pub steps: Vec<LookStep>,
}

/// What is known of a step.
#[derive(Debug)]
pub struct LookStep {
    pub id: Arc<str>,
    /// `steps`, `on_failure` or `finally`.
    pub part: &'static str,
    pub node: Option<Arc<dyn Node>>,
    /// What `steps.ID.output` is.
    pub output: Gives,
    /// What one item's output is, in `until` and `undo`.
    pub one: Gives,
    /// What `item` is, where the step has a `for_each`.
    pub item: Option<Gives>,
    /// What the node gives to the expressions of its own, by root.
    pub given: Vec<(&'static str, Gives)>,
}

impl Gives {
    /// Names it, e.g. `a text or null`.
    #[must_use]
    pub fn named(&self) -> String {
        let item = self.item().filter(|item| !item.0.is_any());
        match item {
            Some(item) if self.0.kinds.without(Kinds::NULL).only(Kinds::LIST) => {
                let absent = if self.0.kinds.has(Kinds::NULL) { " or null" } else { "" };
                format!("a list, each {}{absent}", item.0.kinds.named())
            }
            _ => self.0.kinds.named(),
        }
    }

    /// Lists the fields that are known, with what they are.
    #[must_use]
    pub fn fields(&self) -> Vec<(String, Self)> {
        let names = self.0.field_names();
        names.into_iter().filter_map(|name| Some((name.to_owned(), self.field(name)?))).collect()
    }

    #[must_use]
    pub fn field(&self, name: &str) -> Option<Self> {
        match self.0.field(name) {
            Field::Known(kind) => Some(Self(kind)),
            _ => None,
        }
    }

    /// Returns what the items of a list are.
    #[must_use]
    pub fn item(&self) -> Option<Self> {
        self.0.kinds.has(Kinds::LIST).then(|| Self(self.0.item()))
    }
}

impl Catalog {
    /// Looks into a text of a pipeline's file; nothing where it is no YAML.
    #[must_use]
    pub fn look(&self, path: &Path, text: &str) -> Option<Look> {
        let file = path.display().to_string().into();
        self.within(path, Uses::default(), |world| look(&file, text, world)).0
    }
}

fn look(file: &Arc<str>, text: &str, world: &World<'_>) -> Option<Look> {
    let (tree, _) = yaml::parse(file, text);
    let tree = tree?;
    let mut compiler = Compiler::new(world, text, Vec::new());
    if let Some(declared) = tree.get("inputs") {
        compiler.inputs = inputs::read(&mut compiler, declared).unwrap_or_default();
    }
    let parts = ["steps", "on_failure", "finally"].map(|part| (part, tree.get(part)));
    for (_, part) in parts.iter().filter_map(|(name, part)| Some((name, (*part)?))) {
        let known = step::survey(&compiler, part);
        compiler.steps.extend(known);
        compiler.bodies.extend(part.entries().iter().map(|entry| (entry.key.to_string(), &entry.value)));
    }
    let entries = parts
        .into_iter()
        .flat_map(|(part, tree)| tree.map(Tree::entries).unwrap_or_default().iter().map(move |entry| (part, entry)));
    let steps = entries.map(|(part, entry)| looked(&compiler, part, &entry.key, &entry.value)).collect();
    let scope = Scope { compiler: &compiler, own: None, roots: &["inputs"], given: &[] };
    let gives = Gives(scope.root("inputs"));
    Some(Look { inputs: std::mem::take(&mut compiler.inputs), gives, steps })
}

fn looked(compiler: &Compiler<'_>, part: &'static str, id: &Arc<str>, tree: &Tree) -> LookStep {
    let scope = Scope { compiler, own: Some(id), roots: &["item", "output", "inputs"], given: &[] };
    let node = compiler.steps.get(&**id).and_then(|known| known.node.clone());
    let item = tree.get("for_each").map(|_| Gives(scope.root("item")));
    let keys = node.iter().flat_map(|node| node.expressions().iter().chain(node.prompts()));
    let mut roots: Vec<&'static str> = keys.flat_map(|key| key.roots).copied().collect();
    roots.sort_unstable();
    roots.dedup();
    let given = tree.get("with").map(|with| compiler.given_by_node(with, id, &roots)).unwrap_or_default();
    LookStep {
        id: id.clone(),
        part,
        output: Gives(scope.output(id)),
        one: Gives(scope.root("output")),
        item,
        given: given.into_iter().map(|(root, kind)| (root, Gives(kind))).collect(),
        node,
    }
}
