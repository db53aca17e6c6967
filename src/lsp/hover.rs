//! What is said of the word under the cursor.

use std::ops::Range;
use std::path::Path;

use lsp_types::Hover;
use lsp_types::HoverContents;
use lsp_types::MarkupContent;
use lsp_types::MarkupKind;
use serde_json::Value as Json;

use super::complete::written;
use super::context::Side;
use super::expression;
use super::names;
use super::names::Symbol;
use super::schema::Allowed;
use super::values;
use super::view::View;
use super::view::parsed;
use crate::model::Value;
use crate::node::Node;
use crate::pipeline::Gives;
use crate::pipeline::Input;
use crate::template;
use crate::template::Sort;
use crate::yaml::Tree;

/// Says what stands under the cursor.
pub(super) fn hover(view: &View<'_>) -> Option<Hover> {
    let fault = fault(view);
    let said = said(view);
    let range =
        said.as_ref().map(|(_, range)| range.clone()).or_else(|| fault.as_ref().map(|(_, range)| range.clone()))?;
    let parts = [said.map(|(text, _)| text), fault.map(|(text, _)| text)];
    let value = parts.into_iter().flatten().collect::<Vec<_>>().join("\n\n---\n\n");
    let contents = HoverContents::Markup(MarkupContent { kind: MarkupKind::Markdown, value });
    Some(Hover { contents, range: Some(view.lines.range(&range)) })
}

/// Explains the code of a fault that is told here. Its place is that of the last check: where the text has changed since,
/// nothing is certain.
fn fault(view: &View<'_>) -> Option<(String, Range<usize>)> {
    let (project, path) = (view.project?, view.path()?);
    let told = project.published.get(path)?;
    let here = told.iter().find(|it| it.span.start.offset <= view.offset && view.offset <= it.span.end.offset)?;
    if project.changed || project.checking {
        return None;
    }
    let code = here.code;
    Some((format!("**{}**: {}", code.as_str(), code.explanation()), here.span.start.offset..here.span.end.offset))
}

fn said(view: &View<'_>) -> Option<(String, Range<usize>)> {
    let several = view.is_prompt() || view.place().expression.is_some();
    if let Some((path, range)) = expression::path_at(view.text, view.offset, several) {
        return said_of_path(view, &path).map(|text| (text, range));
    }
    if view.is_prompt() {
        return None;
    }
    if let Some((symbol, range)) = names::symbol(view)
        && let Some(text) = said_of_symbol(view, &symbol)
    {
        return Some((text, range));
    }
    let place = view.place_of_word();
    let word = view.slice(&place.word).to_owned();
    if word.is_empty() {
        return None;
    }
    let mut keys = place.keys();
    let range = place.word.clone();
    if let Some((node, mut inside)) = view.with_of(&place) {
        if place.side == Side::Key {
            inside.push(&word);
        }
        let schema = view.input_schema(&*node);
        let found = Allowed::whole(&schema).at(&inside);
        return said_of_key(inside.last()?, &found).map(|text| (text, range));
    }
    if place.side == Side::Key {
        keys.push(&word);
        return said_of_key(&word, &view.allowed(&keys)).map(|text| (text, range));
    }
    let words = view.allowed(&keys).into_iter().flat_map(|it| it.words());
    let said = words.into_iter().find(|(known, _)| *known == word).and_then(|(_, said)| said);
    said.map(|said| (format!("`{word}`: {said}"), range))
}

fn said_of_key(key: &str, found: &[Allowed<'_>]) -> Option<String> {
    let first = found.first()?;
    let named = first.named();
    let kind = if named.is_empty() { String::new() } else { format!(": {named}") };
    let mut text = format!("**{key}**{kind}");
    if let Some(description) = found.iter().find_map(|it| it.description()) {
        text.push_str(&format!("\n\n{description}"));
    }
    let words: Vec<String> = found.iter().flat_map(|it| it.words()).map(|(word, _)| format!("`{word}`")).collect();
    if !words.is_empty() && words.len() <= 30 {
        text.push_str(&format!("\n\nOne of {}", words.join(", ")));
    }
    if let Some(default) = found.iter().find_map(|it| it.default()) {
        text.push_str(&format!("\n\nDefault: `{}`", written(default)));
    }
    Some(text)
}

fn said_of_symbol(view: &View<'_>, symbol: &Symbol) -> Option<String> {
    match symbol {
        Symbol::Step(_, id) => said_of_step(view, id),
        Symbol::Input(_, name) => said_of_input(view.look()?.inputs.iter().find(|input| *input.name == **name)?),
        Symbol::Secret(name) => Some(format!("**secrets.{name}**\n\nA secret. Its value is never shown.")),
        Symbol::Connection(name) => {
            let connections = values::connections(view.project?);
            let (_, connector) = connections.into_iter().find(|(known, _)| known == name)?;
            Some(format!("**{name}**: connection of `{connector}`"))
        }
        Symbol::Pipeline(name) => {
            let project = view.project?;
            let text = project.text(&names::file_of(project, name)?)?;
            let tree = parsed(text)?;
            let said = tree.get("description").and_then(Tree::as_text).unwrap_or_default();
            let inputs = tree.get("inputs").map(Tree::entries).unwrap_or_default();
            let listed: Vec<String> = inputs.iter().map(|entry| format!("`{}`", entry.key)).collect();
            let inputs = if listed.is_empty() { String::new() } else { format!("\n\nInputs: {}", listed.join(", ")) };
            Some(format!("**{name}**: pipeline\n\n{said}{inputs}"))
        }
        Symbol::File(path) => {
            let name = path.file_name().map(Path::new)?;
            let text = view.project?.text(path)?;
            let start: String = text.lines().take(12).collect::<Vec<_>>().join("\n");
            Some(format!("**{}**\n\n```\n{start}\n```", name.display()))
        }
        Symbol::Uses(name) => Some(said_of_node(view, &*view.registry().node(name)?)),
    }
}

fn said_of_step(view: &View<'_>, id: &str) -> Option<String> {
    let step = view.step(id)?;
    let node = step.node.as_ref().map(|node| format!(" uses `{}`", node.name())).unwrap_or_default();
    Some(format!("**{id}**: step{node}\n\nOutput: {}{}", step.output.named(), fields(&step.output)))
}

fn fields(gives: &Gives) -> String {
    let fields: Vec<String> =
        gives.fields().iter().map(|(name, gives)| format!("- `{name}`: {}", gives.named())).collect();
    if fields.is_empty() { String::new() } else { format!("\n\n{}", fields.join("\n")) }
}

fn said_of_input(input: &Input) -> Option<String> {
    let kind = format!("{:?}", input.kind).to_lowercase();
    let said = input.description.as_deref().map(|said| format!("\n\n{said}")).unwrap_or_default();
    let default = match &input.default {
        // A default may be written as text that reads like another kind; the schema has it as it was.
        Some(value) => format!("\n\nDefault: `{value}`"),
        None if input.required => "\n\nRequired".to_owned(),
        None => String::new(),
    };
    Some(format!("**inputs.{}**: {kind}{said}{default}", input.name))
}

/// Writes a node's page: what it does, what it takes, what it gives.
fn said_of_node(view: &View<'_>, node: &dyn Node) -> String {
    let mut text = format!("**{}**: {}\n\n{}", node.name(), node.effect(&Value::Null).name(), view.docs(node));
    let schema = view.input_schema(node);
    let keys: Vec<String> = listed(&schema);
    if !keys.is_empty() {
        text.push_str(&format!("\n\n`with`:\n{}", keys.join("\n")));
    }
    if let Some(output) = node.output_schema().map(|schema| listed(&schema)).filter(|keys| !keys.is_empty()) {
        text.push_str(&format!("\n\nOutput:\n{}", output.join("\n")));
    }
    text
}

fn listed(schema: &Json) -> Vec<String> {
    let flat = Allowed::whole(schema).flat();
    let mut lines = Vec::new();
    for it in flat {
        for (key, inner) in it.keys() {
            let must = if it.requires(key) { ", required" } else { "" };
            let said = inner.description().map(|said| format!(" {}", said.lines().next().unwrap_or_default()));
            lines.push(format!("- `{key}` ({}{must}){}", inner.named(), said.unwrap_or_default()));
        }
    }
    lines
}

/// Says what a path of an expression leads to.
fn said_of_path(view: &View<'_>, path: &[String]) -> Option<String> {
    let names: Vec<&str> = path.iter().map(String::as_str).collect();
    let place = view.place();
    let keys = place.keys();
    let own = view.own_step(&keys);
    let entry = |sort: Sort, name: &str| {
        let entry = template::catalog().iter().find(|entry| entry.sort == sort && entry.name == name)?;
        let (written, gives) = entry.example;
        Some(format!("`{}`\n\n{}\n\n`{written}` → `{gives}`", entry.usage, entry.summary))
    };
    match names.as_slice() {
        ["|", name] => entry(Sort::Filter, name),
        ["is", name] => entry(Sort::Test, name),
        ["steps", id] => said_of_step(view, id),
        ["inputs", name] => said_of_input(view.look()?.inputs.iter().find(|input| *input.name == **name)?),
        ["secrets", name] => Some(format!("**secrets.{name}**\n\nA secret. Its value is never shown.")),
        ["steps", _, "state"] => Some("What the step came to: `succeeded`, `failed`, `skipped`, …".to_owned()),
        [root] => entry(Sort::Function, root).or_else(|| {
            let gives = view.gives(path, own)?;
            Some(format!("**{root}**: {}{}", gives.named(), fields(&gives)))
        }),
        [.., _] => {
            let gives = view.gives(path, own)?;
            Some(format!("**{}**: {}{}", path.join(".").replace(".*", "[…]"), gives.named(), fields(&gives)))
        }
        [] => None,
    }
}
