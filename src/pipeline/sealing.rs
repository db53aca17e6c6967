//! Where a pipeline would have to store a secret: without a master key that cannot be, and a run would fail half way.

use super::Graph;
use super::InputType;
use super::Step;
use super::approval;
use super::compile::Compiler;
use crate::diag::Code;
use crate::diag::Span;
use crate::model::Effect;
use crate::template::Template;
use crate::template::TemplateTree;
use crate::yaml::Tree;

/// Tells of every place that stores a secret. What a step that reads is given is not stored, only what it gives back.
pub(super) fn check(
    compiler: &mut Compiler<'_>,
    tree: &Tree,
    graphs: &[(&str, &Graph)],
    outputs: &[(std::sync::Arc<str>, TemplateTree)],
) {
    for input in compiler.inputs.clone().iter().filter(|input| input.kind == InputType::Secret) {
        if let Some(entry) = tree.get("inputs").and_then(|inputs| inputs.entry(&input.name)) {
            error(
                compiler,
                &entry.key_span,
                &format!("input `{}` is a secret, which is stored with the run", input.name),
            );
        }
    }
    for (part, graph) in graphs {
        for step in &graph.steps {
            let Some(entry) = tree.get(part).and_then(|steps| steps.entry(&step.id)) else { continue };
            let span = |key: &str| entry.value.entry(key).map_or(&entry.key_span, |entry| &entry.key_span).clone();
            let id = &step.id;
            if step.for_each.as_ref().is_some_and(reads_secret) {
                error(compiler, &span("for_each"), &format!("the items of step `{id}` hold a secret, and are stored"));
            }
            if gives_on(step) && (step.expressions.iter().any(|(_, it)| reads_secret(it)) || holds_secret(&step.with)) {
                let asks = step.node.name() == approval::NODE;
                let what = if step.effect.is_write() || asks { "request" } else { "output" };
                error(compiler, &span("with"), &format!("the {what} of step `{id}` holds a secret, and is stored"));
            }
            if step.undo.as_ref().is_some_and(|undo| undo.effect.is_write() && holds_secret(&undo.with)) {
                error(compiler, &span("undo"), &format!("the undo of step `{id}` holds a secret, and is stored"));
            }
        }
    }
    for (name, _) in outputs.iter().filter(|(_, output)| holds_secret(output)) {
        if let Some(entry) = tree.get("outputs").and_then(|outputs| outputs.entry(name)) {
            error(compiler, &entry.key_span, &format!("output `{name}` holds a secret, and is stored"));
        }
    }
}

fn error(compiler: &mut Compiler<'_>, span: &Span, message: &str) {
    compiler.error(Code::NoMasterKey, span, format!("{message}; the project has no master key")).help =
        Some("`pipewright init` makes one, or set `PIPEWRIGHT_MASTER_KEY`".to_owned());
}

/// Tells whether what a step is given is stored, or comes back in its output.
fn gives_on(step: &Step) -> bool {
    let asks = step.node.name() == approval::NODE;
    step.effect == Effect::Pure || step.effect.is_write() || step.child.is_some() || asks
}

fn holds_secret(tree: &TemplateTree) -> bool {
    match tree {
        TemplateTree::Literal(_) => false,
        TemplateTree::Template(template) => reads_secret(template),
        TemplateTree::List(items) => items.iter().any(holds_secret),
        TemplateTree::Map(entries) => entries.iter().any(|(_, value)| holds_secret(value)),
    }
}

fn reads_secret(template: &Template) -> bool {
    template.references().iter().any(|reference| reference.path.first().is_some_and(|root| &**root == "secrets"))
}
