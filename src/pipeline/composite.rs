//! Operations that are made of steps: compiled like a pipeline, and run as a child.

use std::sync::Arc;

use super::Durability;
use super::Pipeline;
use super::compile::Compiler;
use super::compile::MAX_PARALLEL;
use super::compile::World;
use super::compile::version;
use super::definition;
use super::graph;
use super::step;
use crate::diag::Code;
use crate::diag::Diagnostic;
use crate::diag::Severity;
use crate::diag::Span;
use crate::node::Composite;
use crate::template::Template;
use crate::template::TemplateTree;

/// The name under which a composite gives its output.
pub const OUTPUT: &str = "output";

/// Compiles the steps of an operation that a step uses; their faults are told with the manifest's file.
pub(super) fn child(compiler: &mut Compiler<'_>, composite: &Composite, uses: &Span) -> Option<Arc<Pipeline>> {
    // Operations that use one another in a ring would never end.
    if compiler.nesting.contains(&format!("{}.{}", composite.connector, composite.operation)) {
        let message = format!("operation `{}` ends up using itself", composite.operation);
        compiler.error(Code::PipelineCycle, uses, message);
        return None;
    }
    let mut nesting = compiler.nesting.clone();
    nesting.push(format!("{}.{}", composite.connector, composite.operation));
    let (pipeline, diagnostics) = compile(composite, compiler.world, nesting);
    if pipeline.is_none() {
        let connector = &composite.connector;
        let message = format!("the steps of operation `{}` have faults", composite.operation);
        compiler.error(Code::FaultyConnector, uses, message).help =
            Some(format!("mend them first, in the manifest of connector `{connector}`"));
        let mut sources = crate::diag::Sources::default();
        sources.insert(composite.file.clone(), composite.source.clone());
        compiler.world.foreign.borrow_mut().extend(&sources);
        let new: Vec<_> = diagnostics.into_iter().filter(|it| !compiler.diagnostics.contains(it)).collect();
        compiler.diagnostics.extend(new);
    }
    pipeline
}

/// Compiles the steps of an operation.
pub(super) fn compile(
    composite: &Composite,
    world: &World<'_>,
    nesting: Vec<String>,
) -> (Option<Arc<Pipeline>>, Vec<Diagnostic>) {
    let mut compiler = Compiler::new(world, &composite.source, Vec::new());
    compiler.inside = Some(composite.connector.to_string());
    compiler.nesting = nesting;
    compiler.connectors.insert(composite.connector.to_string());
    let main = compiler.graph(Some(&composite.steps), &step::Defaults::default(), "steps", &[]);
    let place = compiler.place("", &[], &[]);
    let output = match &composite.output {
        Some(output) => compiler.tree(output, &super::expressions::Place { own: None, ..place }),
        None => last_output(&composite.steps),
    };
    let kept = compiler.kept_connectors();
    let (no_prompts, no_children) = Default::default();
    let definition = definition::write(&definition::Written {
        file: &composite.file,
        text: "",
        prompts: &no_prompts,
        children: &no_children,
        connectors: &kept,
        operation: Some((&composite.connector, &composite.operation)),
    });
    let nothing = super::Graph::default();
    let version = version(&definition, [&main, &nothing, &nothing]);
    let failed = compiler.diagnostics.iter().any(|it| it.severity == Severity::Error);
    let pipeline = Pipeline {
        name: format!("{}.{}", composite.connector, composite.operation).into(),
        version,
        definition,
        inputs: Vec::new(),
        main,
        on_failure: graph::build(&mut compiler, Vec::new(), &[]),
        finally: graph::build(&mut compiler, Vec::new(), &[]),
        outputs: vec![(OUTPUT.into(), output)],
        triggers: Vec::new(),
        timeout: None,
        deadline: None,
        priority: 5,
        durability: Durability::Effects,
        guards_before: Vec::new(),
        guards_plan: Vec::new(),
        guards_after: Vec::new(),
        max_parallel: MAX_PARALLEL,
        concurrency: None,
        locks: Vec::new(),
        not_yet: Vec::new(),
        composite: true,
    };
    ((!failed).then(|| Arc::new(pipeline)), compiler.diagnostics)
}

/// The output of the step that is written last.
fn last_output(steps: &crate::yaml::Tree) -> TemplateTree {
    let last = steps.entries().last().map(|entry| format!("{{{{ steps.{}.output }}}}", entry.key));
    let template = last.and_then(|text| Template::parse_lenient(&text).ok());
    template.map_or(TemplateTree::Literal(crate::model::Value::Null), TemplateTree::Template)
}
