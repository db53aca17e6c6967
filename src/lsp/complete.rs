//! What can be written at a place.

use std::ops::Range;
use std::path::Path;

use lsp_types::CompletionItem;
use lsp_types::CompletionItemKind;
use lsp_types::CompletionList;
use lsp_types::CompletionTextEdit;
use lsp_types::Documentation;
use lsp_types::MarkupContent;
use lsp_types::MarkupKind;
use lsp_types::TextEdit;
use serde_json::Value as Json;

use super::context::Part;
use super::context::Place;
use super::context::Side;
use super::expression::Expression;
use super::expression::What;
use super::schema::Allowed;
use super::values;
use super::view::PARTS;
use super::view::View;
use crate::connector::library::Library;
use crate::format::Kind;
use crate::node::Found;
use crate::template;
use crate::template::Sort;
use crate::yaml::Tree;

/// What is collected for a place.
struct Offers<'v, 's> {
    view: &'v View<'s>,
    /// What is replaced.
    word: Range<usize>,
    items: Vec<CompletionItem>,
}

/// Lists what can be written at a place.
pub(super) fn complete(view: &View<'_>) -> CompletionList {
    let place = view.place();
    let mut offers = Offers { view, word: place.word.clone(), items: Vec::new() };
    let prompt = view.is_prompt();
    let expression =
        if prompt { super::expression::at(view.text, view.offset, true) } else { place.expression.clone() };
    match expression {
        Some(expression) => offers.expression(&expression, &place),
        None if prompt => {}
        None => match place.side {
            Side::Value => offers.values(&place),
            Side::Key if place.path.last() == Some(&Part::Item) => {
                offers.keys(&place);
                offers.values(&place);
            }
            Side::Key => offers.keys(&place),
        },
    }
    for (rank, item) in offers.items.iter_mut().enumerate() {
        item.sort_text.get_or_insert_with(|| format!("{rank:04}"));
    }
    CompletionList { is_incomplete: false, items: offers.items }
}

impl Offers<'_, '_> {
    fn offer(&mut self, label: &str, text: &str, kind: CompletionItemKind, detail: Option<String>, docs: Option<&str>) {
        if self.items.iter().any(|item| item.label == label) {
            return;
        }
        let edit = TextEdit { range: self.view.lines.range(&self.word), new_text: text.to_owned() };
        self.items.push(CompletionItem {
            label: label.to_owned(),
            kind: Some(kind),
            detail: detail.filter(|detail| !detail.is_empty()),
            documentation: docs.map(|docs| {
                Documentation::MarkupContent(MarkupContent { kind: MarkupKind::Markdown, value: docs.to_owned() })
            }),
            filter_text: Some(label.to_owned()),
            text_edit: Some(CompletionTextEdit::Edit(edit)),
            ..CompletionItem::default()
        });
    }

    /// Offers the keys of the mapping that the place stands in.
    fn keys(&mut self, place: &Place) {
        let keys = place.keys();
        let own =
            |keys: &[&str]| self.view.tree().and_then(|tree| entry_at(tree, keys)).map(present).unwrap_or_default();
        let typed = self.view.slice(&place.word).to_owned();
        let mut here = own(&keys);
        here.retain(|key| *key != typed);
        if let Some((node, inside)) = self.view.with_of(place) {
            let schema = self.view.input_schema(&*node);
            self.properties(&Allowed::whole(&schema).at(&inside), &here, place.flow);
            if let ([.., "with", "inputs"], Some(project)) = (keys.as_slice(), self.view.project) {
                self.child_inputs(place, project, &here);
            }
            return;
        }
        self.properties(&self.view.allowed(&keys), &here, place.flow);
    }

    /// Offers the inputs of a pipeline that a step runs.
    fn child_inputs(&mut self, place: &Place, project: &super::state::Project, here: &[String]) {
        let keys = place.keys();
        let with = keys.get(..keys.len() - 1).unwrap_or_default();
        let name =
            self.view.tree().and_then(|tree| entry_at(tree, with)).and_then(|with| with.get("pipeline")?.as_text());
        let Some(name) = name else { return };
        let known = project.latest.as_deref().map(|latest| latest.knowledge.clone());
        let child = known.iter().flat_map(|known| known.pipelines()).find(|(_, pipeline)| &*pipeline.name == name);
        for input in
            child.iter().flat_map(|(_, pipeline)| &pipeline.inputs).filter(|it| !here.contains(&it.name.to_string()))
        {
            let detail = format!("{:?}", input.kind).to_lowercase();
            self.offer(
                &input.name,
                &format!("{}: ", input.name),
                CompletionItemKind::PROPERTY,
                Some(detail),
                input.description.as_deref(),
            );
        }
    }

    fn properties(&mut self, allowed: &[Allowed<'_>], present: &[String], flow: bool) {
        for schema in allowed.iter().flat_map(|it| it.flat()) {
            for (key, inner) in schema.keys().into_iter().filter(|(key, _)| !present.iter().any(|it| it == key)) {
                let must = if schema.requires(key) { ", required" } else { "" };
                let detail = format!("{}{must}", inner.named());
                let text = if inner.is_nested() && !flow { format!("{key}:") } else { format!("{key}: ") };
                self.offer(key, &text, CompletionItemKind::PROPERTY, Some(detail), inner.description());
            }
        }
    }

    /// Offers what can stand as a value.
    fn values(&mut self, place: &Place) {
        let keys = place.keys();
        let view = self.view;
        match keys.as_slice() {
            [.., "uses"] => self.nodes(),
            [part, own, "needs", "*"] if PARTS.contains(part) => self.needs(own),
            ["steps" | "on_failure" | "finally", _, .., "with", "prompt", "file"] => self.prompts(),
            ["defaults", "connection"] | [.., "with", "connection" | "database"] => self.connections(place),
            [.., "with", "pipeline"] | ["triggers", "*", "after"] | ["triggers", "*", "after", "pipeline"] => {
                self.pipelines()
            }
            ["pipeline"] if view.kind == Kind::Tests => self.pipelines(),
            ["connections", _, "connector"] if view.kind == Kind::Project => self.connectors(),
            ["inputs", _, "type"] | [_, ..] => {}
            [] => {}
        }
        if let Some((node, inside)) = view.with_of(place) {
            if node.prompts().iter().any(|key| inside == key.key.split('.').collect::<Vec<_>>()) {
                self.prompts();
            }
            let schema = self.view.input_schema(&*node);
            self.words(&Allowed::whole(&schema).at(&inside));
            return;
        }
        self.words(&view.allowed(&keys));
    }

    fn words(&mut self, allowed: &[Allowed<'_>]) {
        for schema in allowed {
            for (word, said) in schema.words() {
                self.offer(&word, &word, CompletionItemKind::ENUM_MEMBER, None, said);
            }
        }
    }

    fn nodes(&mut self) {
        let registry = self.view.registry().clone();
        for node in registry.iter() {
            let docs = self.view.docs(&**node);
            let detail = node.effect(&crate::model::Value::Null).name().to_owned();
            self.offer(node.name(), node.name(), CompletionItemKind::FUNCTION, Some(detail), Some(&docs));
        }
        let Some(operations) = registry.operations() else { return };
        for connector in operations.connectors() {
            // Asking for an operation that no connector has gives the names of those that it has.
            let Found::NoOperation { known, .. } = operations.find(&format!("{connector}.")) else { continue };
            for operation in known {
                let name = format!("{connector}.{operation}");
                let node = registry.node(&name);
                let docs = node.as_ref().map(|node| self.view.docs(&**node));
                let detail = node.map(|node| node.effect(&crate::model::Value::Null).name().to_owned());
                self.offer(&name, &name, CompletionItemKind::METHOD, detail, docs.as_deref());
            }
        }
    }

    /// Offers the steps that a step can need beside those that it names already.
    fn needs(&mut self, own: &str) {
        let view = self.view;
        let present: Vec<&str> = match view.tree().zip(Some(own)) {
            Some((tree, own)) => {
                let step = PARTS.iter().find_map(|part| tree.get(part)?.get(own));
                let needs = step.and_then(|step| step.get("needs")).map(Tree::items).unwrap_or_default();
                let typed = view.slice(&self.word);
                needs.iter().filter_map(Tree::as_text).filter(|need| *need != typed).collect()
            }
            None => Vec::new(),
        };
        self.steps(Some(own), &present);
    }

    fn steps(&mut self, own: Option<&str>, present: &[&str]) {
        for step in self.view.look().map(|look| &look.steps).into_iter().flatten() {
            if own != Some(&*step.id) && !present.contains(&&*step.id) {
                let detail = step.node.as_ref().map(|node| node.name().to_owned());
                self.offer(&step.id, &step.id, CompletionItemKind::VARIABLE, detail, None);
            }
        }
    }

    fn prompts(&mut self) {
        let folder = self.view.path().and_then(Path::parent);
        for name in folder.map(values::prompts).unwrap_or_default() {
            self.offer(&name, &name, CompletionItemKind::FILE, None, None);
        }
    }

    fn connections(&mut self, place: &Place) {
        let Some(project) = self.view.project else { return };
        let with = place.keys().iter().position(|key| *key == "with");
        let uses = with.and_then(|with| self.view.uses(place, with));
        let node = uses.and_then(|uses| self.view.registry().node(&uses));
        let wanted = node.as_ref().and_then(|node| node.connector());
        for (name, connector) in values::connections(project) {
            if wanted.is_none_or(|wanted| wanted == connector) {
                self.offer(&name, &name, CompletionItemKind::INTERFACE, Some(connector), None);
            }
        }
    }

    fn pipelines(&mut self) {
        let Some(project) = self.view.project else { return };
        for (name, said) in values::pipelines(project) {
            self.offer(&name, &name, CompletionItemKind::MODULE, None, said.as_deref());
        }
    }

    fn connectors(&mut self) {
        let operations = self.view.registry().operations().cloned();
        let names = operations
            .map_or_else(|| Library::default().names().into_iter().map(|it| it.0).collect(), |it| it.connectors());
        for name in names {
            self.offer(&name, &name, CompletionItemKind::MODULE, None, None);
        }
    }

    fn expression(&mut self, expression: &Expression, place: &Place) {
        self.word = expression.word.clone();
        let keys = place.keys();
        let own = self.view.own_step(&keys);
        match &expression.what {
            What::Nothing => {}
            What::Filter => self.catalog(Sort::Filter),
            What::Test => self.catalog(Sort::Test),
            What::Root => {
                self.roots(own, place);
                self.catalog(Sort::Function);
            }
            What::Member(path) => self.members(path, own),
        }
    }

    fn catalog(&mut self, sort: Sort) {
        for entry in template::catalog().iter().filter(|entry| entry.sort == sort) {
            let docs = format!("{}\n\n`{}` → `{}`", entry.summary, entry.example.0, entry.example.1);
            self.offer(entry.name, entry.name, CompletionItemKind::FUNCTION, Some(entry.usage.to_owned()), Some(&docs));
        }
    }

    fn roots(&mut self, own: Option<&str>, place: &Place) {
        let step = own.and_then(|own| self.view.step(own));
        let each = step.is_some_and(|step| step.item.is_some()) && !place.keys().ends_with(&["for_each"]);
        let keys = place.keys();
        let within = |key: &str| keys.contains(&key);
        let mut roots: Vec<(&str, &str)> = Vec::new();
        if self.view.kind == Kind::Connector {
            roots.extend([
                ("input", "what the operation is given"),
                ("config", "the settings of the connection"),
                ("body", "the body of the answer"),
                ("status", "the status of the answer"),
                ("headers", "the headers of the answer, names in lower case"),
                ("auth", "the credentials"),
                ("account", "what the account's operation gave"),
                ("tables", "the tables of the manifest"),
                ("item", "a row of an answer"),
                ("output", "what the operation gave"),
                ("next", "the place of the next page"),
                ("effect", "the write: `key`, `started_at`"),
            ]);
        } else if self.view.kind == Kind::Project {
            roots.push(("secrets", "secrets by name"));
        } else if within("triggers") {
            roots.extend([("event", "what started the run"), ("secrets", "secrets by name"), ("run", "the run")]);
        } else {
            roots.extend([("inputs", "the run's inputs"), ("steps", "what other steps came to")]);
            roots.extend([("secrets", "secrets by name"), ("run", "the run")]);
        }
        if each {
            roots.extend([
                ("item", "the item"),
                ("index", "its place, from 0"),
                ("previous", "the output of the item before"),
            ]);
        }
        if within("undo") || within("until") {
            roots.push(("output", "what the step gave"));
        }
        if within("until") {
            roots.push(("previous", "the output of the round before"));
        }
        let given: Vec<&str> = match (self.view.is_prompt(), step) {
            (true, _) => {
                self.view.look().iter().flat_map(|look| &look.steps).flat_map(|it| &it.given).map(|it| it.0).collect()
            }
            (false, Some(step)) => step.given.iter().map(|(root, _)| *root).collect(),
            _ => Vec::new(),
        };
        for (root, said) in roots {
            self.offer(root, root, CompletionItemKind::VARIABLE, None, Some(said));
        }
        for root in given {
            self.offer(root, root, CompletionItemKind::VARIABLE, None, Some("given by the node"));
        }
    }

    fn members(&mut self, path: &[String], own: Option<&str>) {
        let names: Vec<&str> = path.iter().map(String::as_str).collect();
        let view = self.view;
        match names.as_slice() {
            ["steps"] => self.steps(own, &[]),
            ["steps", id] if view.step(id).is_some() => {
                let gives = view.step(id).map(|step| step.output.named());
                self.offer("output", "output", CompletionItemKind::FIELD, gives, Some("what it gave"));
                let states = Some("`succeeded`, `failed`, `skipped` and others");
                self.offer("state", "state", CompletionItemKind::FIELD, Some("a text".to_owned()), states);
                self.offer(
                    "error",
                    "error",
                    CompletionItemKind::FIELD,
                    Some("an object or null".to_owned()),
                    Some("why it failed: `class`, `message`"),
                );
            }
            ["steps", _, "error"] | ["run", "error"] => {
                self.offer("class", "class", CompletionItemKind::FIELD, Some("a text".to_owned()), None);
                self.offer("message", "message", CompletionItemKind::FIELD, Some("a text".to_owned()), None);
            }
            ["run"] => {
                for (key, said) in [
                    ("id", "the run's id"),
                    ("pipeline", "the pipeline's name"),
                    ("slot", "the time for which it was fired"),
                    ("state", "its state"),
                    ("error", "why it failed"),
                ] {
                    self.offer(key, key, CompletionItemKind::FIELD, None, Some(said));
                }
            }
            ["secrets"] => {
                for name in view.project.map(values::secrets).unwrap_or_default() {
                    self.offer(&name, &name, CompletionItemKind::CONSTANT, None, None);
                }
            }
            ["inputs"] => {
                for input in view.look().map(|look| &look.inputs).into_iter().flatten() {
                    let detail = format!("{:?}", input.kind).to_lowercase();
                    self.offer(
                        &input.name,
                        &input.name,
                        CompletionItemKind::FIELD,
                        Some(detail),
                        input.description.as_deref(),
                    );
                }
            }
            _ => {
                let docs = self.field_docs(path);
                for (name, gives) in view.gives(path, own).map(|gives| gives.fields()).unwrap_or_default() {
                    let said = docs.iter().find(|(key, _)| *key == name).map(|(_, said)| said.as_str());
                    self.offer(&name, &name, CompletionItemKind::FIELD, Some(gives.named()), said);
                }
            }
        }
    }

    /// Returns what a node's schema says of the fields of its output.
    fn field_docs(&self, path: &[String]) -> Vec<(String, String)> {
        let [steps, id, output, rest @ ..] = path else { return Vec::new() };
        let node =
            self.view.step(id).filter(|_| steps == "steps" && output == "output").and_then(|step| step.node.as_ref());
        let Some(schema) = node.and_then(|node| node.output_schema()) else { return Vec::new() };
        let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
        let found = Allowed::whole(&schema).at(&rest);
        let keys = found.iter().flat_map(|it| it.flat()).flat_map(|it| it.keys());
        keys.filter_map(|(key, inner)| Some((key.to_owned(), inner.description()?.to_owned()))).collect()
    }
}

/// Follows keys into a tree; of a list any item is meant.
pub(super) fn entry_at<'t>(tree: &'t Tree, keys: &[&str]) -> Option<&'t Tree> {
    keys.iter().try_fold(tree, |tree, key| if *key == "*" { tree.items().last() } else { tree.get(key) })
}

fn present(tree: &Tree) -> Vec<String> {
    tree.entries().iter().map(|entry| entry.key.to_string()).collect()
}

/// Returns a default as it is written in YAML.
pub(super) fn written(default: &Json) -> String {
    default.as_str().map_or_else(|| default.to_string(), str::to_owned)
}
