//! The child of a `pipeline.run`: which pipeline it is, and its inputs.

use std::sync::Arc;

use super::compile::Child;
use super::compile::Compiler;
use super::compile::first_line;
use crate::diag::Code;
use crate::diag::Span;
use crate::node::Node;
use crate::yaml::Entry;
use crate::yaml::Tree;

/// Finds the pipeline that a `pipeline.run` calls and checks what it is given.
pub(super) fn compile(compiler: &mut Compiler<'_>, tree: &Tree) -> Option<Arc<super::Pipeline>> {
    let name = tree.get("with")?.get("pipeline")?;
    let text = name.as_text().filter(|text| !text.contains("{{"))?.to_owned();
    match compiler.find_child(&text) {
        Child::Found(pipeline) => {
            let given = tree.get("with").and_then(|with| with.entry("inputs"));
            inputs(compiler, &pipeline, given, &name.span);
            compiler.children.insert(text, pipeline.clone());
            Some(pipeline)
        }
        Child::Faulty => {
            compiler.error(Code::FaultyPipeline, &name.span, format!("pipeline `{text}` has faults of its own")).help =
                Some(format!("mend it first: `pipewright validate pipelines/{text}.yaml`"));
            None
        }
        Child::Loop(names) => {
            let names = names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" → ");
            compiler.error(Code::PipelineCycle, &name.span, format!("the pipeline ends up calling itself: {names}"));
            None
        }
        Child::TooDeep(limit) => {
            let message = format!("pipelines call one another more than {limit} deep");
            compiler.error(Code::TooLarge, &name.span, message);
            None
        }
        Child::Unknown { near } => {
            compiler.error(Code::UnknownPipeline, &name.span, format!("pipeline `{text}` does not exist")).help =
                near.map(|near| format!("did you mean `{near}`?"));
            None
        }
    }
}

fn inputs(compiler: &mut Compiler<'_>, pipeline: &super::Pipeline, given: Option<&Entry>, place: &Span) {
    let templated = given.is_some_and(|given| given.value.as_text().is_some());
    if templated {
        return;
    }
    let entries = given.map(|given| given.value.entries()).unwrap_or_default();
    let known: Vec<String> = pipeline.inputs.iter().map(|input| input.name.to_string()).collect();
    for entry in entries {
        if !known.iter().any(|name| *name == *entry.key) {
            let what = format!("`{}` has no input {{}}", pipeline.name);
            compiler.unknown(Code::UnknownInput, &entry.key_span, &what, &entry.key, known.iter().map(String::as_str));
        }
        let input = pipeline.inputs.iter().find(|input| input.name == entry.key);
        if let Some(input) = input {
            compiler.expect_input(&entry.value, input, &pipeline.name);
        }
        if let Some(problem) = input.and_then(|input| super::inputs::literal_problem(input, &entry.value)) {
            let message = format!("input `{}` of `{}`: {problem}", entry.key, pipeline.name);
            compiler.error(Code::WrongType, &first_line(&entry.value.span), message);
        }
    }
    for input in pipeline.inputs.iter().filter(|input| input.required) {
        if !entries.iter().any(|entry| entry.key == input.name) {
            let message = format!("`{}` needs the input `{}`", pipeline.name, input.name);
            let span = given.map_or(place, |given| &given.key_span);
            compiler.error(Code::MissingKey, span, message).help = Some(format!("add `{}:` to `inputs`", input.name));
        }
    }
}

/// Sees that what is spread makes child runs, one for each item.
pub(super) fn check_spread(compiler: &mut Compiler<'_>, tree: &Tree, node: &Arc<dyn Node>) {
    let Some(entry) = tree.entry("spread") else { return };
    let (message, help) = if tree.get("for_each").is_none() {
        ("`spread` is for the items of a `for_each`, and there is none".to_owned(), "take it away")
    } else if node.composite().is_none() && node.name() != "pipeline.run" {
        let message = format!("`spread` makes a child run of each item, and `{}` makes none", node.name());
        (message, "put what is done for an item into a pipeline of its own, and run that with `pipeline.run`")
    } else if tree.get("locks").is_some() {
        let message = "the locks of a step are not held while others execute its child runs".to_owned();
        (message, "name them under `locks` of the pipeline that the step runs")
    } else {
        return;
    };
    compiler.error(Code::NothingToSpread, &entry.key_span, message).help = Some(help.to_owned());
}
