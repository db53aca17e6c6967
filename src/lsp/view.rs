//! One look at one place of one file: what stands there, in which tree, and what is known of it.

use std::cell::OnceCell;
use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use lsp_types::Position;
use serde_json::Value as Json;

use super::context;
use super::context::Place;
use super::position::Lines;
use super::prose;
use super::schema::Allowed;
use super::state::Document;
use super::state::Project;
use super::state::State;
use crate::connector::library::Library;
use crate::format::Kind;
use crate::node::Node;
use crate::node::Registry;
use crate::pipeline::Catalog;
use crate::pipeline::Files;
use crate::pipeline::Gives;
use crate::pipeline::Look;
use crate::pipeline::LookStep;
use crate::pipeline::plain;
use crate::yaml;
use crate::yaml::Tree;

/// The parts of a pipeline that hold steps.
pub(super) const PARTS: [&str; 3] = ["steps", "on_failure", "finally"];

/// A place of an open file.
pub(super) struct View<'s> {
    pub(super) state: &'s State,
    pub(super) document: &'s Document,
    pub(super) project: Option<&'s Project>,
    pub(super) lines: Lines<'s>,
    pub(super) text: &'s str,
    pub(super) kind: Kind,
    pub(super) offset: usize,
    tree: OnceCell<Option<Tree>>,
    look: OnceCell<Option<Look>>,
    registry: OnceCell<Registry>,
}

impl<'s> View<'s> {
    pub(super) fn new(state: &'s State, document: &'s Document, position: Position) -> Self {
        let text = &*document.text;
        let lines = Lines::new(text, state.encoding);
        let path = document.path.as_deref().unwrap_or(Path::new("untitled.yaml"));
        let offset = lines.offset(position);
        let project = document.root.as_ref().and_then(|root| state.projects.get(root));
        let kind = kind_of(path, text, &document.good);
        Self {
            state,
            document,
            project,
            lines,
            text,
            kind,
            offset,
            tree: OnceCell::new(),
            look: OnceCell::new(),
            registry: OnceCell::new(),
        }
    }

    pub(super) fn path(&self) -> Option<&'s Path> {
        self.document.path.as_deref()
    }

    /// Tells whether it is a file of a prompt: not YAML.
    pub(super) fn is_prompt(&self) -> bool {
        self.path().is_some_and(|path| !is_yaml(path))
    }

    pub(super) fn place(&self) -> Place {
        context::place(self.text, self.offset)
    }

    /// Returns the place at the end of the word in which the cursor stands.
    pub(super) fn place_of_word(&self) -> Place {
        context::place(self.text, context::word_end(self.text, self.offset))
    }

    pub(super) fn slice(&self, range: &Range<usize>) -> &'s str {
        self.text.get(range.clone()).unwrap_or_default()
    }

    /// Returns the tree: of the text as it is, else without the line that is being typed, else of the last that was YAML.
    pub(super) fn tree(&self) -> Option<&Tree> {
        self.tree
            .get_or_init(|| readable(self.text, self.offset, &self.document.good).and_then(|text| parsed(&text)))
            .as_ref()
    }

    pub(super) fn registry(&self) -> &Registry {
        self.registry.get_or_init(|| match self.project.and_then(|project| project.latest.as_deref()) {
            Some(latest) => latest.registry.clone(),
            None => crate::nodes::registry().with_operations(Arc::new(Library::default())),
        })
    }

    /// Returns what a node does, in Markdown.
    pub(super) fn docs(&self, node: &dyn Node) -> String {
        prose::docs(node, &self.own_connectors())
    }

    /// Returns the schema of a node's `with:`.
    pub(super) fn input_schema(&self, node: &dyn Node) -> Json {
        prose::input_schema(node, &self.own_connectors())
    }

    fn own_connectors(&self) -> Vec<String> {
        self.registry().operations().map(|operations| operations.own_connectors()).unwrap_or_default()
    }

    /// Returns what is known of the pipeline; of a prompt, of the first pipeline that uses it.
    pub(super) fn look(&self) -> Option<&Look> {
        self.look
            .get_or_init(|| {
                if self.is_prompt() {
                    let (path, text) = self.user_of_prompt()?;
                    return self.look_into(&path, &text);
                }
                let text = readable(self.text, self.offset, &self.document.good)?;
                self.look_into(self.path().unwrap_or(Path::new("untitled.yaml")), &text)
            })
            .as_ref()
    }

    fn look_into(&self, path: &Path, text: &str) -> Option<Look> {
        let root = self.document.root.as_deref().unwrap_or(Path::new("/"));
        let catalog = Catalog::open(root, self.registry().clone());
        let catalog = match self.project {
            Some(project) => {
                let known = project.latest.as_deref().map(|latest| latest.knowledge.clone()).unwrap_or_default();
                catalog.over(Files::Kept(project.files.clone())).knowing(known)
            }
            None => catalog,
        };
        catalog.look(path, text)
    }

    /// Finds a pipeline that uses this prompt.
    fn user_of_prompt(&self) -> Option<(PathBuf, String)> {
        let (project, own) = (self.project?, self.path()?);
        let name = own.file_name()?.to_str()?;
        let users = project.pipelines().filter(|(_, text)| text.contains(name));
        let user = users.into_iter().find(|(path, text)| {
            parsed(text).is_some_and(|tree| prompts_of(&tree, path).iter().any(|(prompt, _)| prompt == own))
        });
        user.map(|(path, text)| (path.to_owned(), text.to_owned()))
    }

    pub(super) fn step(&self, id: &str) -> Option<&LookStep> {
        self.look()?.steps.iter().find(|step| &*step.id == id)
    }

    /// Returns the step in which a path leads.
    pub(super) fn own_step<'p>(&self, keys: &[&'p str]) -> Option<&'p str> {
        match keys {
            [part, id, ..] if PARTS.contains(part) && self.kind == Kind::Pipeline => Some(id),
            _ => None,
        }
    }

    /// Returns the node whose `with:` a path leads into, and the keys behind it. `uses` is read from the text around the
    /// place: there need not be a tree.
    pub(super) fn with_of<'p>(&self, place: &'p Place) -> Option<(Arc<dyn Node>, Vec<&'p str>)> {
        let keys = place.keys();
        self.own_step(&keys)?;
        let with = keys.iter().skip(2).position(|key| *key == "with")? + 2;
        let uses = self.uses(place, with)?;
        Some((self.registry().node(&uses)?, keys.get(with + 1..).unwrap_or_default().to_vec()))
    }

    /// Finds what the step uses to whose keys the first parts of a path lead.
    pub(super) fn uses(&self, place: &Place, parts: usize) -> Option<String> {
        let start = place.start_of(parts)?;
        let line = self.text.get(..start)?.rfind('\n').map_or(0, |end| end + 1);
        let depth = start - line;
        let mut block = String::new();
        for (number, text) in self.text.get(start..)?.split_inclusive('\n').enumerate() {
            let bare = text.trim();
            let indent = text.len() - text.trim_start_matches(' ').len();
            if number > 0 && !bare.is_empty() && !bare.starts_with('#') && indent <= depth {
                break;
            }
            block.push_str(text);
        }
        // Of several the one that is least deep is the step's own.
        let found = block.match_indices("uses:").filter(|(at, _)| {
            !block
                .get(..*at)
                .is_some_and(|before| before.ends_with(|letter: char| letter.is_alphanumeric() || letter == '_'))
        });
        let column = |at: usize| at - block.get(..at).and_then(|before| before.rfind('\n')).map_or(0, |end| end + 1);
        let (at, _) = found.min_by_key(|(at, _)| column(*at))?;
        let value = block.get(at + 5..)?.trim_start_matches([' ', '"', '\'']);
        let end = value
            .find(|letter: char| !(letter.is_alphanumeric() || matches!(letter, '.' | '_' | '-')))
            .unwrap_or(value.len());
        value.get(..end).filter(|name| !name.is_empty()).map(str::to_owned)
    }

    /// Returns what a path of an expression leads to.
    pub(super) fn gives(&self, path: &[String], own: Option<&str>) -> Option<Gives> {
        let look = self.look()?;
        let step = own.and_then(|own| self.step(own));
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let (first, rest) = match path.as_slice() {
            ["inputs", rest @ ..] => (look.gives.clone(), rest),
            ["steps", id, "output", rest @ ..] => (self.step(id)?.output.clone(), rest),
            [root, rest @ ..] => {
                let step = step.or_else(|| look.steps.iter().find(|_| self.is_prompt()))?;
                let given =
                    look.steps.iter().filter(|it| self.is_prompt() || it.id == step.id).flat_map(|it| &it.given);
                let given = given.into_iter().find(|(name, _)| name == root).map(|(_, gives)| gives.clone());
                let gives = given.or_else(|| match *root {
                    "item" => step.item.clone(),
                    "output" | "previous" => Some(step.one.clone()),
                    _ => None,
                });
                (gives?, rest)
            }
            [] => return None,
        };
        rest.iter().try_fold(first, |gives, key| if *key == "*" { gives.item() } else { gives.field(key) })
    }

    /// Returns what the schema says of a path.
    pub(super) fn allowed(&self, keys: &[&str]) -> Vec<Allowed<'s>> {
        self.state.schemas.of(self.kind).map(|schema| Allowed::whole(schema).at(keys)).unwrap_or_default()
    }
}

/// Tells what a file is; a text that is broken may have lost the key by which it is known.
fn kind_of(path: &Path, text: &str, good: &str) -> Kind {
    match Kind::of(path, text) {
        Kind::Other => match Kind::of(path, good) {
            // What lies among pipelines will be one.
            Kind::Other if is_yaml(path) && path.components().any(|part| part.as_os_str() == "pipelines") => {
                Kind::Pipeline
            }
            Kind::Other if is_yaml(path) && path.parent().is_some_and(|folder| folder.ends_with("connectors")) => {
                Kind::Connector
            }
            kind => kind,
        },
        kind => kind,
    }
}

pub(super) fn is_yaml(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml")
}

pub(super) fn parsed(text: &str) -> Option<Tree> {
    yaml::parse(&"".into(), text).0
}

/// Returns the nearest text that is YAML.
fn readable(text: &str, offset: usize, good: &Arc<str>) -> Option<String> {
    if parsed(text).is_some() {
        return Some(text.to_owned());
    }
    let start = text.get(..offset)?.rfind('\n').map_or(0, |end| end + 1);
    let end = text.get(offset..)?.find('\n').map_or(text.len(), |length| offset + length);
    let mut without = text.to_owned();
    without.replace_range(start..end, &" ".repeat(end - start));
    if parsed(&without).is_some() {
        return Some(without);
    }
    Some(good.to_string())
}

/// Lists the files of prompts that a pipeline names, with where.
pub(super) fn prompts_of(tree: &Tree, pipeline: &Path) -> Vec<(PathBuf, Range<usize>)> {
    fn collect(tree: &Tree, folder: &Path, found: &mut Vec<(PathBuf, Range<usize>)>) {
        tree.items().iter().for_each(|item| collect(item, folder, found));
        tree.entries().iter().for_each(|entry| collect(&entry.value, folder, found));
        let text = tree.as_text().filter(|text| !text.contains(['{', '\n', ' ']) && text.contains('.'));
        if let Some(text) = text.filter(|text| text.contains('/') || text.ends_with(".j2") || text.ends_with(".md")) {
            found.push((plain(&folder.join(text)), tree.span.start.offset..tree.span.end.offset));
        }
    }
    let mut found = Vec::new();
    let folder = pipeline.parent().unwrap_or(Path::new(""));
    let steps = PARTS.iter().filter_map(|part| tree.get(part)).flat_map(Tree::entries);
    for step in steps {
        let with = [step.value.get("with"), step.value.get("undo").and_then(|undo| undo.get("with"))];
        with.into_iter().flatten().for_each(|with| collect(with, folder, &mut found));
    }
    found
}
