//! From a pipeline file to a checked pipeline: every fault is collected, and only a file without errors gives one.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;

use super::Concurrency;
use super::Durability;
use super::Graph;
use super::Guard;
use super::Lock;
use super::Pipeline;
use super::Step;
use super::WhenFull;
use super::budget;
use super::declared::Declared;
use super::definition;
use super::expressions::Place;
use super::graph;
use super::inputs;
use super::kinds::Type;
use super::prompts::PromptFile;
use super::read::Reader;
use super::sealing;
use super::shapes::Inferred;
use super::step;
use super::triggers;
use super::triggers::Around;
use crate::diag::Code;
use crate::diag::Diagnostic;
use crate::diag::Severity;
use crate::diag::Sources;
use crate::diag::Span;
use crate::diag::did_you_mean;
use crate::diag::first_faults;
use crate::format;
use crate::model::Value;
use crate::model::VersionId;
use crate::node::Registry;
use crate::yaml;
use crate::yaml::Tree;

/// How many step runs of one run may be under way at once.
pub(super) const MAX_PARALLEL: usize = 1_024;

/// A child pipeline, or why there is none.
#[derive(Clone)]
pub(super) enum Child {
    Found(Arc<Pipeline>),
    /// It has faults of its own, which are told with its file.
    Faulty,
    /// It leads back to a pipeline that is being compiled: the names of the loop.
    Loop(Vec<String>),
    /// Pipelines call one another deeper than this.
    TooDeep(usize),
    Unknown {
        near: Option<String>,
    },
}

/// What a compilation knows beside the file.
pub(super) struct World<'w> {
    pub(super) registry: &'w Registry,
    /// Finds child pipelines by name.
    pub(super) child: &'w dyn Fn(&str) -> Child,
    pub(super) schemas: &'w Schemas,
    /// Whether there is a master key, with which secrets can be stored.
    pub(super) can_seal: bool,
    pub(super) declared: &'w Declared,
    /// Takes the texts of other files that diagnostics stand in: manifests.
    pub(super) foreign: &'w RefCell<Sources>,
    /// The project around the file; nothing where a file stands alone, and its names are not looked up.
    pub(super) around: Option<&'w dyn Around>,
    /// Finds the files of prompts, by paths relative to the pipeline's file; else says why there is none.
    pub(super) prompt: &'w dyn Fn(&str) -> Result<PromptFile, String>,
}

/// The input and output schemas of nodes, made once.
#[derive(Debug, Default)]
pub(super) struct Schemas(RefCell<HashMap<String, Arc<InAndOut>>>);

/// The schema of `with:`, that of the output where it is known, and what the output is.
type InAndOut = (serde_json::Value, Option<serde_json::Value>, Type);

impl Schemas {
    pub(super) fn of(&self, node: &dyn crate::node::Node) -> Arc<InAndOut> {
        let mut known = self.0.borrow_mut();
        let made = known.entry(node.name().to_owned());
        let make = || {
            let output = node.output_schema();
            let kind = output.as_ref().map_or(Type::ANY, |schema| Type::of_schema(schema, schema));
            Arc::new((node.input_schema(), output, kind))
        };
        made.or_insert_with(make).clone()
    }
}

/// Whose steps are compiled, where they are not a pipeline's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Inside {
    /// An operation's: they use other operations of its connector.
    Manifest(String),
    /// A node's that is made of steps: they use what a pipeline may use.
    Node,
}

/// What one file's compilation gathers.
pub(super) struct Compiler<'w> {
    pub(super) world: &'w World<'w>,
    pub(super) source: &'w str,
    pub(super) diagnostics: Vec<Diagnostic>,
    pub(super) inputs: Vec<super::Input>,
    /// Whether the inputs could be read: where not, names of inputs are not checked.
    pub(super) inputs_known: bool,
    pub(super) steps: BTreeMap<String, step::Known>,
    pub(super) children: BTreeMap<String, Arc<Pipeline>>,
    /// The files of its prompts, by paths relative to the pipeline's file.
    pub(super) prompts: BTreeMap<String, Arc<str>>,
    pub(super) not_yet: Vec<String>,
    /// The connectors whose operations it uses.
    pub(super) connectors: BTreeSet<String>,
    /// The connection that `defaults` names.
    pub(super) default_connection: Option<String>,
    /// Where the steps stand that are not a pipeline's.
    pub(super) inside: Option<Inside>,
    /// The operations made of steps around this one, outermost first.
    pub(super) nesting: Vec<String>,
    /// Whether the step that is made of these says that its paid reads are asked again where an answer is lost.
    pub(super) resends: bool,
    /// Where the steps are named.
    pub(super) step_spans: HashMap<String, Span>,
    /// What stands under the steps' names.
    pub(super) bodies: HashMap<String, &'w Tree>,
    pub(super) found_children: RefCell<HashMap<String, Child>>,
    pub(super) inferred: Inferred,
}

/// Compiles a file's text.
pub(super) fn compile(file: &Arc<str>, source: &str, world: &World<'_>) -> (Option<Arc<Pipeline>>, Vec<Diagnostic>) {
    let (tree, diagnostics) = yaml::parse(file, source);
    let mut compiler = Compiler::new(world, source, diagnostics);
    let pipeline = tree.as_ref().and_then(|tree| compiler.pipeline(file, tree));
    let failed = compiler.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
    (pipeline.filter(|_| !failed).map(Arc::new), first_faults(compiler.diagnostics))
}

impl<'w> Compiler<'w> {
    pub(super) fn new(world: &'w World<'w>, source: &'w str, diagnostics: Vec<Diagnostic>) -> Self {
        Self {
            world,
            source,
            diagnostics,
            inputs: Vec::new(),
            inputs_known: true,
            steps: BTreeMap::new(),
            children: BTreeMap::new(),
            prompts: BTreeMap::new(),
            not_yet: Vec::new(),
            connectors: BTreeSet::new(),
            default_connection: None,
            inside: None,
            nesting: Vec::new(),
            resends: false,
            step_spans: HashMap::new(),
            bodies: HashMap::new(),
            found_children: RefCell::default(),
            inferred: Inferred::default(),
        }
    }

    pub(super) fn error(&mut self, code: Code, span: &Span, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Diagnostic::error(code, span.clone(), message))
    }

    pub(super) fn warning(&mut self, code: Code, span: &Span, message: impl Into<String>) -> &mut Diagnostic {
        self.push(Diagnostic::warning(code, span.clone(), message))
    }

    fn push(&mut self, diagnostic: Diagnostic) -> &mut Diagnostic {
        self.diagnostics.push(diagnostic);
        self.diagnostics.last_mut().expect("it was just pushed")
    }

    /// Says that a name is unknown, with the nearest known one as the mend; `{}` in `what` stands for the name.
    pub(super) fn unknown<'a>(
        &mut self,
        code: Code,
        span: &Span,
        what: &str,
        name: &str,
        known: impl IntoIterator<Item = &'a str>,
    ) {
        let known: Vec<_> = known.into_iter().collect();
        let near = did_you_mean(name, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
        let listed = || {
            let few = !known.is_empty() && known.len() <= 12;
            few.then(|| {
                format!("known here: {}", known.iter().map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", "))
            })
        };
        let help = near.or_else(listed);
        self.error(code, span, what.replace("{}", &format!("`{name}`"))).help = help;
    }

    fn pipeline(&mut self, file: &Arc<str>, tree: &'w Tree) -> Option<Pipeline> {
        let mut reader = Reader::new(self, tree, format::PIPELINE)?;
        let stem = file.rsplit('/').next().unwrap_or(file);
        let stem = stem.strip_suffix(".yaml").or_else(|| stem.strip_suffix(".yml")).unwrap_or(stem);
        let name: Arc<str> = reader.text("name").map_or_else(|| stem.into(), |(name, _)| name.into());
        let description = reader.text("description").map(|(text, _)| Arc::from(text));
        let timeout = reader.duration("timeout");
        let deadline = reader.duration("deadline");
        let priority = reader.number("priority", 0, 9).unwrap_or(5);
        let durability = match reader.word("durability", &["effects", "strict"]) {
            Some("strict") => Durability::Strict,
            _ => Durability::Effects,
        };
        let labels = tree.get("labels");
        if let Some(labels) = labels {
            Reader::mapping(self, labels);
        }
        self.read_inputs(tree);
        let triggers =
            tree.get("triggers").map(|triggers| triggers::compile(self, &name, triggers)).unwrap_or_default();
        let defaults = step::Defaults::read(self, tree.get("defaults"));
        self.beside(tree);
        let concurrency = self.concurrency(tree);
        let locks = tree.get("locks").map(|locks| self.locks(locks, &Place::made())).unwrap_or_default();
        let main = self.graph(tree.get("steps"), &defaults, "steps", &[]);
        let none = |steps: &Tree| matches!(&steps.kind, yaml::TreeKind::Mapping(entries) if entries.is_empty());
        if tree.get("steps").is_none_or(none) {
            let span = tree.entry("steps").map_or(&tree.span, |entry| &entry.key_span).clone();
            self.error(Code::MissingKey, &first_line(&span), "a pipeline needs at least one step").help = Some(
                "add `steps:` with a step, such as `hello: { uses: log.write, with: { message: hi } }`".to_owned(),
            );
        }
        let main_ids: Vec<String> = main.index.keys().map(ToString::to_string).collect();
        let on_failure = self.graph(tree.get("on_failure"), &defaults, "on_failure", &main_ids);
        let finally = self.graph(tree.get("finally"), &defaults, "finally", &main_ids);
        let place = Place::end();
        let outputs = self.outputs(tree.get("outputs"), &place);
        let [guards_before, guards_plan, guards_after] = self.guards(tree.get("guards"));
        if !self.world.can_seal {
            let graphs = [("steps", &main), ("on_failure", &on_failure), ("finally", &finally)];
            sealing::check(self, tree, &graphs, &outputs);
        }
        let connectors = self.kept_connectors();
        let text = definition::without_tests(self.source, tree);
        let written = definition::Written {
            file,
            text: &text,
            prompts: &self.prompts,
            children: &self.children,
            connectors: &connectors,
            operation: None,
            node: None,
            resends: false,
        };
        let definition = definition::write(&written);
        let version = version(&definition, [&main, &on_failure, &finally]);
        Some(Pipeline {
            name,
            description,
            version,
            definition,
            inputs: std::mem::take(&mut self.inputs),
            main,
            on_failure,
            finally,
            outputs,
            triggers,
            timeout,
            deadline,
            priority: u8::try_from(priority).unwrap_or(5),
            durability,
            guards_before,
            guards_plan,
            guards_after,
            max_parallel: MAX_PARALLEL,
            concurrency,
            locks,
            not_yet: std::mem::take(&mut self.not_yet),
            composite: false,
        })
    }

    /// Returns what the version keeps of the connectors that it uses: their manifests, and which connections there are.
    pub(super) fn kept_connectors(&self) -> BTreeMap<String, Value> {
        let Some(operations) = self.world.registry.operations() else { return BTreeMap::new() };
        let kept = self.connectors.iter().map(|name| {
            let connections = self.world.declared.connections_of(name).into_iter().map(Value::from);
            let mut entry = operations.kept(name).as_map().cloned().unwrap_or_default();
            entry.insert("connections".into(), Value::list(connections.collect()));
            (name.clone(), Value::from(entry))
        });
        kept.collect()
    }

    fn read_inputs(&mut self, tree: &Tree) {
        let Some(entry) = tree.entry("inputs") else { return };
        match inputs::read(self, &entry.value) {
            Some(inputs) => self.inputs = inputs,
            None => self.inputs_known = false,
        }
    }

    /// Checks what stands beside the steps and changes none of them.
    fn beside(&mut self, tree: &Tree) {
        if let Some(budget) = tree.get("budget") {
            budget::read(budget, &mut self.diagnostics);
        }
        if let Some(tests) = tree.get("tests") {
            // What stands in them is held against pipeline and manifests by `testing`, which knows the sandbox.
            for test in tests.items() {
                Reader::new(self, test, &["name", "given", "faults", "then"]);
            }
            if !matches!(tests.kind, yaml::TreeKind::Sequence(_)) {
                self.error(Code::WrongType, &tests.span, format!("expected a list, found {}", tests.describe()));
            }
        }
    }

    fn concurrency(&mut self, tree: &Tree) -> Option<Concurrency> {
        let tree = tree.get("concurrency")?;
        let mut reader = Reader::new(self, tree, &["limit", "key", "when_full"])?;
        let limit = reader.number("limit", 1, 1_000_000);
        let when_full = match reader.word("when_full", &["queue", "skip", "replace"]) {
            Some("skip") => WhenFull::Skip,
            Some("replace") => WhenFull::Replace,
            _ => WhenFull::Queue,
        };
        let key = tree.get("key").and_then(|key| self.template(key, &Place::made()));
        // Without a limit it is what other systems mean by a group: one at a time.
        Some(Concurrency { limit: limit.unwrap_or(1), key, when_full })
    }

    pub(super) fn locks(&mut self, tree: &Tree, place: &Place<'_>) -> Vec<Lock> {
        let mut locks = Vec::new();
        for lock in tree.items() {
            let mut limit = None;
            if let Some(mut reader) = Reader::new(self, lock, &["name", "limit"]) {
                limit = reader.number("limit", 1, 1_000_000);
                reader.require("name");
            }
            let name = lock.get("name").and_then(|name| self.template(name, place));
            locks.extend(name.map(|name| Lock { name, limit: limit.unwrap_or(1) }));
        }
        if !matches!(tree.kind, yaml::TreeKind::Sequence(_)) {
            self.error(Code::WrongType, &tree.span, format!("expected a list, found {}", tree.describe()));
        }
        locks
    }

    pub(super) fn graph(
        &mut self,
        tree: Option<&'w Tree>,
        defaults: &step::Defaults,
        part: &'static str,
        outer: &[String],
    ) -> Graph {
        let Some(tree) = tree else { return Graph::default() };
        if !Reader::mapping(self, tree) {
            return Graph::default();
        }
        let known = step::survey(self, tree);
        let before = std::mem::take(&mut self.steps);
        let mut all = before.clone();
        all.extend(known);
        self.steps = all;
        self.bodies.extend(tree.entries().iter().map(|entry| (entry.key.to_string(), &entry.value)));
        let mut steps: Vec<(Step, Vec<(String, Span)>)> = Vec::new();
        for entry in tree.entries() {
            self.step_spans.insert(entry.key.to_string(), entry.key_span.clone());
            if let Some(step) = step::compile(self, entry, defaults, part, outer) {
                steps.push(step);
            }
        }
        let graph = graph::build(self, steps, outer);
        if part != "steps" {
            self.steps = before;
        }
        graph
    }

    fn outputs(&mut self, tree: Option<&Tree>, place: &Place<'_>) -> Vec<(Arc<str>, crate::template::TemplateTree)> {
        let Some(tree) = tree else { return Vec::new() };
        if !Reader::mapping(self, tree) {
            return Vec::new();
        }
        tree.entries().iter().map(|entry| (entry.key.clone(), self.tree(&entry.value, place))).collect()
    }

    /// Reads the conditions of the start, over the plan, and of the end.
    fn guards(&mut self, tree: Option<&Tree>) -> [Vec<Guard>; 3] {
        let Some(tree) = tree else { return Default::default() };
        if Reader::new(self, tree, &["before", "plan", "after"]).is_none() {
            return Default::default();
        }
        let mut read = |key: &str, place: Place<'_>| {
            let Some(list) = tree.get(key) else { return Vec::new() };
            if !matches!(list.kind, yaml::TreeKind::Sequence(_)) {
                self.error(
                    Code::WrongType,
                    &list.span,
                    format!("expected a list of conditions, found {}", list.describe()),
                );
            }
            let mut guards = Vec::new();
            for item in list.items() {
                let (condition, message) = if matches!(item.kind, yaml::TreeKind::Mapping(_)) {
                    let Some(mut reader) = Reader::new(self, item, &["that", "message"]) else { continue };
                    let message = reader.text("message").map(|(text, _)| Arc::from(text));
                    reader.require("that");
                    let Some(that) = item.get("that") else { continue };
                    (that, message)
                } else {
                    (item, None)
                };
                if let Some(that) = self.condition(condition, &place) {
                    guards.push(Guard { that, message });
                }
            }
            guards
        };
        [read("before", Place::start()), read("plan", Place::plan()), read("after", Place::end())]
    }
}

/// Returns the hash over the definition and the meanings of all nodes.
pub(super) fn version(definition: &str, graphs: [&Graph; 3]) -> VersionId {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(definition.as_bytes());
    for step in graphs.iter().flat_map(|graph| &graph.steps) {
        for node in std::iter::once(&step.node).chain(step.undo.as_ref().map(|undo| &undo.node)) {
            context.update(format!("{}={};", node.name(), node.meaning()).as_bytes());
        }
    }
    let hex: String = context.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    VersionId(hex.into())
}

/// Returns the beginning of a place, on its first line: a whole file is not underlined.
pub(super) fn first_line(span: &Span) -> Span {
    if span.end.line == span.start.line { span.clone() } else { Span { end: span.start, ..span.clone() } }
}
