//! What the names in a pipeline are: inputs by their declarations, steps by the outputs of their nodes.

use std::cell::Cell;
use std::cell::OnceCell;
use std::cell::RefCell;
use std::collections::HashMap;

use serde_json::Value as Json;

use super::Input;
use super::InputType;
use super::approval;
use super::compile::Child;
use super::compile::Compiler;
use super::infer;
use super::infer::Names;
use super::kinds::Kinds;
use super::kinds::Rest;
use super::kinds::Type;
use crate::model::Money;
use crate::template::Template;
use crate::yaml::Tree;
use crate::yaml::TreeKind;

/// Nodes whose output is made of the items that they are given.
const KEEPS_ITEMS: [&str; 2] = ["data.filter", "data.sort"];

/// Through how many steps a type is followed, from a step to the one that it reads.
const MAX_DEPTH: usize = 64;

/// What has been inferred of one file.
#[derive(Debug, Default)]
pub(super) struct Inferred {
    inputs: OnceCell<Type>,
    /// The output of one run of a step, by the step's id; while it is being inferred it may be anything.
    outputs: RefCell<HashMap<String, Type>>,
    items: RefCell<HashMap<String, Type>>,
    /// How many steps are being inferred, one for the other.
    depth: Cell<usize>,
    /// What the templates of the file give, by the offset at which they begin.
    pub(super) templates: HashMap<usize, Type>,
}

/// The names of a place.
pub(super) struct Scope<'c, 'w> {
    pub(super) compiler: &'c Compiler<'w>,
    /// The step in which the place stands.
    pub(super) own: Option<&'c str>,
    pub(super) roots: &'c [&'static str],
    /// Roots that a node gives, which hide those of the step.
    pub(super) given: &'c [(&'static str, Type)],
}

impl Names for Scope<'_, '_> {
    fn root(&self, name: &str) -> Type {
        if !self.roots.contains(&name) {
            return Type::ANY;
        }
        if let Some((_, kind)) = self.given.iter().find(|(root, _)| *root == name) {
            return kind.clone();
        }
        match (name, self.own) {
            ("inputs", _) => self.compiler.inferred.inputs.get_or_init(|| inputs(&self.compiler.inputs)).clone(),
            ("index", _) => Type::of(Kinds::INTEGER),
            ("item", Some(own)) => self.compiler.item_of(own),
            ("output", Some(own)) => self.compiler.output_of_one(own),
            ("previous", Some(own)) => self.compiler.output_of_one(own).or_null(),
            _ => Type::ANY,
        }
    }

    fn output(&self, step: &str) -> Type {
        self.compiler.output_of(step)
    }
}

impl<'w> Compiler<'w> {
    /// Returns what `steps.ID.output` is.
    fn output_of(&self, id: &str) -> Type {
        let Some(tree) = self.bodies.get(id).copied() else { return Type::ANY };
        if tree.get("into").is_some() {
            return Type::ANY;
        }
        let one = self.output_of_one(id);
        let whole = if tree.get("for_each").is_some() {
            let may_fail = tree.get("on_error").is_some() || tree.get("in_doubt").is_some();
            Type::list(if may_fail { one.or_null() } else { one })
        } else {
            one
        };
        // What is skipped, or went on after an error, gives null.
        let may_be_absent = self.steps.get(id).is_none_or(|known| known.absent.is_some());
        if may_be_absent { whole.or_null() } else { whole }
    }

    /// Returns what one run of a step gives: of a `for_each`, one item's output.
    fn output_of_one(&self, id: &str) -> Type {
        if let Some(known) = self.inferred.outputs.borrow().get(id) {
            return known.clone();
        }
        let depth = self.inferred.depth.get();
        if depth >= MAX_DEPTH {
            return Type::ANY;
        }
        self.inferred.outputs.borrow_mut().insert(id.to_owned(), Type::ANY);
        self.inferred.depth.set(depth + 1);
        let output = self.bodies.get(id).map_or(Type::ANY, |tree| self.infer_output(id, tree));
        self.inferred.depth.set(depth);
        self.inferred.outputs.borrow_mut().insert(id.to_owned(), output.clone());
        output
    }

    fn infer_output(&self, id: &str, tree: &'w Tree) -> Type {
        let Some(node) = self.steps.get(id).and_then(|known| known.node.clone()) else { return Type::ANY };
        let with = tree.get("with");
        let items = || with.and_then(|with| with.get("items")).map(|items| self.type_of(items, id).item());
        let output = match node.name() {
            "pipeline.run" => self.output_of_child(with),
            approval::NODE => approval::output(&self.world.schemas.of(&*node).2, with),
            name if KEEPS_ITEMS.contains(&name) => items().map_or(Type::ANY, Type::list),
            _ => self.world.schemas.of(&*node).2.clone(),
        };
        match tree.get("on_error").and_then(|on_error| on_error.get("default")) {
            Some(default) => output.or(self.type_of(default, id)),
            None => output,
        }
    }

    fn output_of_child(&self, with: Option<&Tree>) -> Type {
        let name = with.and_then(|with| with.get("pipeline")).and_then(Tree::as_text);
        let Some(name) = name.filter(|name| !name.contains("{{")) else { return Type::ANY };
        match self.find_child(name) {
            Child::Found(child) => {
                let fields = child.outputs.iter().map(|(name, _)| (name.clone(), Type::ANY));
                Type::map(fields.collect(), Rest::Closed)
            }
            _ => Type::ANY,
        }
    }

    /// Finds a child pipeline, once.
    pub(super) fn find_child(&self, name: &str) -> Child {
        if let Some(known) = self.found_children.borrow().get(name) {
            return known.clone();
        }
        let child = (self.world.child)(name);
        self.found_children.borrow_mut().insert(name.to_owned(), child.clone());
        child
    }

    /// Returns what `item` is in a step with `for_each`.
    fn item_of(&self, id: &str) -> Type {
        if let Some(known) = self.inferred.items.borrow().get(id) {
            return known.clone();
        }
        let depth = self.inferred.depth.get();
        if depth >= MAX_DEPTH {
            return Type::ANY;
        }
        self.inferred.items.borrow_mut().insert(id.to_owned(), Type::ANY);
        self.inferred.depth.set(depth + 1);
        let list = self.bodies.get(id).and_then(|tree| tree.get("for_each"));
        let item = list.map_or(Type::ANY, |list| self.type_of(list, id).item());
        self.inferred.depth.set(depth);
        self.inferred.items.borrow_mut().insert(id.to_owned(), item.clone());
        item
    }

    /// Returns what a written value gives in a step; its faults are told where it is compiled.
    pub(super) fn type_of(&self, tree: &Tree, own: &str) -> Type {
        match &tree.kind {
            TreeKind::Scalar { text, .. } if text.contains("{{") || text.contains("{%") => {
                let Ok(template) = Template::parse(text) else { return Type::ANY };
                let each = self.bodies.get(own).is_some_and(|step| step.get("for_each").is_some());
                let roots: &[&'static str] =
                    if each { &["inputs", "item", "index", "previous"] } else { &["inputs", "previous"] };
                infer::template(&template, &Scope { compiler: self, own: Some(own), roots, given: &[] }).0
            }
            TreeKind::Scalar { .. } => Type::of_value(&tree.to_value()),
            TreeKind::Sequence(items) => Type::list(Type::of_items(items.iter().map(|item| self.type_of(item, own)))),
            TreeKind::Mapping(entries) => Type::map(
                entries.iter().map(|entry| (entry.key.clone(), self.type_of(&entry.value, own))).collect(),
                Rest::Closed,
            ),
        }
    }

    /// Returns what the roots are that a node gives to an expression of its own.
    pub(super) fn given_by_node(&self, with: &Tree, own: &str, roots: &[&'static str]) -> Vec<(&'static str, Type)> {
        let of = |key: &str| with.get(key).map(|tree| self.type_of(tree, own));
        let one = |root: &'static str| {
            let kind = match root {
                "index" => Some(Type::of(Kinds::INTEGER)),
                "item" => of("items").map(|list| list.item()),
                "vars" => of("vars"),
                _ => None,
            };
            (root, kind.unwrap_or(Type::ANY))
        };
        roots.iter().copied().map(one).collect()
    }
}

/// Returns what `inputs` is. Names that are not declared are told as such.
fn inputs(inputs: &[Input]) -> Type {
    let fields = inputs.iter().map(|input| {
        let may_be_null = !input.required && input.default.is_none();
        let kind = declared(input.kind, &input.schema);
        (input.name.clone(), if may_be_null { kind.or_null() } else { kind })
    });
    Type::map(fields.collect(), Rest::Open)
}

pub(super) fn declared(kind: InputType, schema: &Json) -> Type {
    match kind {
        InputType::String | InputType::Date | InputType::Secret => Type::text(),
        InputType::Integer => Type::of(Kinds::INTEGER),
        InputType::Number | InputType::Decimal => Type::of(Kinds::EXACT),
        InputType::Boolean => Type::of(Kinds::BOOL),
        InputType::Money => Type::money(bound_currency(schema).as_deref()),
        InputType::Datetime => Type::of(Kinds::TIME),
        InputType::Duration => Type::of(Kinds::DURATION),
        InputType::Array => Type::list(schema.get("items").map_or(Type::ANY, declared_inside)),
        InputType::Object => match schema.get("properties").and_then(Json::as_object) {
            Some(properties) => {
                let fields =
                    properties.iter().map(|(key, inner)| (key.as_str().into(), declared_inside(inner).or_null()));
                Type::map(fields.collect(), Rest::Undeclared)
            }
            None => Type::of(Kinds::MAP),
        },
        InputType::Blob => Type::of(Kinds::BLOB.or(Kinds::TEXT)),
    }
}

fn declared_inside(schema: &Json) -> Type {
    let word = schema.get("type").and_then(Json::as_str);
    let kind = word.and_then(|word| super::inputs::TYPES.iter().find(|(known, _)| *known == word));
    kind.map_or(Type::ANY, |(_, kind)| declared(*kind, schema))
}

/// Returns the currency that a bound of the input sets: money of another does not compare with it.
fn bound_currency(schema: &Json) -> Option<String> {
    let bound = schema.get("minimum").or_else(|| schema.get("maximum"))?;
    let money = bound.as_str()?.parse::<Money>().ok()?;
    Some(money.currency.as_str().to_owned())
}
