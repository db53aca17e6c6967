//! Operations that are made of steps: compiled like a pipeline, and run as a child.

use std::sync::Arc;

use super::Durability;
use super::Pipeline;
use super::compile::Compiler;
use super::compile::Inside;
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
use crate::yaml::Tree;

/// The name under which a composite gives its output.
pub const OUTPUT: &str = "output";

/// Compiles the steps of an operation that a step uses; their faults are told with the manifest's file.
///
/// `resends` is what the step says of its paid reads.
pub(super) fn child(
    compiler: &mut Compiler<'_>,
    composite: &Composite,
    uses: &Span,
    resends: bool,
) -> Option<Arc<Pipeline>> {
    // Operations that use one another in a ring would never end.
    if compiler.nesting.contains(&format!("{}.{}", composite.connector, composite.operation)) {
        let message = format!("operation `{}` ends up using itself", composite.operation);
        compiler.error(Code::PipelineCycle, uses, message);
        return None;
    }
    let mut nesting = compiler.nesting.clone();
    nesting.push(format!("{}.{}", composite.connector, composite.operation));
    let (pipeline, diagnostics) = compile(composite, compiler.world, nesting, resends);
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
    resends: bool,
) -> (Option<Arc<Pipeline>>, Vec<Diagnostic>) {
    let mut compiler = Compiler::new(world, &composite.source, Vec::new());
    compiler.inside = Some(Inside::Manifest(composite.connector.to_string()));
    compiler.nesting = nesting;
    compiler.resends = resends;
    compiler.connectors.insert(composite.connector.to_string());
    let made = Made {
        name: &format!("{}.{}", composite.connector, composite.operation),
        file: &composite.file,
        text: "",
        operation: Some((&composite.connector, &composite.operation)),
        node: None,
    };
    let pipeline = pipeline(&mut compiler, &made, Some(&composite.steps), composite.output.as_ref());
    (pipeline, compiler.diagnostics)
}

/// What steps belong to that run as a child without a pipeline's file.
pub(super) struct Made<'m> {
    pub(super) name: &'m str,
    pub(super) file: &'m str,
    pub(super) text: &'m str,
    pub(super) operation: Option<(&'m str, &'m str)>,
    pub(super) node: Option<&'m str>,
}

/// Compiles steps into what runs as a child; nothing where they have faults, which the compiler has then.
pub(super) fn pipeline<'w>(
    compiler: &mut Compiler<'w>,
    made: &Made<'_>,
    steps: Option<&'w Tree>,
    output: Option<&Tree>,
) -> Option<Arc<Pipeline>> {
    let main = compiler.graph(steps, &step::Defaults::default(), "steps", &[]);
    let place = compiler.place("", &[], &[]);
    let output = match output {
        Some(output) => compiler.tree(output, &super::expressions::Place { own: None, ..place }),
        None => last_output(steps),
    };
    let kept = compiler.kept_connectors();
    let no_prompts = Default::default();
    let definition = definition::write(&definition::Written {
        file: made.file,
        text: made.text,
        prompts: &no_prompts,
        children: &compiler.children,
        connectors: &kept,
        operation: made.operation,
        node: made.node,
        resends: compiler.resends,
    });
    let nothing = super::Graph::default();
    let version = version(&definition, [&main, &nothing, &nothing]);
    let failed = compiler.diagnostics.iter().any(|it| it.severity == Severity::Error);
    let pipeline = Pipeline {
        name: made.name.into(),
        description: None,
        version,
        definition,
        inputs: Vec::new(),
        main,
        on_failure: graph::build(compiler, Vec::new(), &[]),
        finally: graph::build(compiler, Vec::new(), &[]),
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
    (!failed).then(|| Arc::new(pipeline))
}

/// The output of the step that is written last.
fn last_output(steps: Option<&Tree>) -> TemplateTree {
    let last = steps.map(Tree::entries).unwrap_or_default().last();
    let last = last.map(|entry| format!("{{{{ steps.{}.output }}}}", entry.key));
    let template = last.and_then(|text| Template::parse_lenient(&text).ok());
    template.map_or(TemplateTree::Literal(crate::model::Value::Null), TemplateTree::Template)
}
