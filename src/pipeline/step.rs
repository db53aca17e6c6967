//! One step: its keys, its node, its templates.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Cache;
use super::Lock;
use super::OnError;
use super::Retry;
use super::Step;
use super::Undo;
use super::Until;
use super::approval;
use super::child;
use super::compile::Compiler;
use super::compile::first_line;
use super::composite;
use super::expansion;
use super::expressions::Place;
use super::fits;
use super::infer;
use super::read::Reader;
use super::retries;
use super::uses::find_node;
use super::with;
use crate::diag::Code;
use crate::diag::Span;
use crate::model::Duration;
use crate::model::Effect;
use crate::model::InDoubt;
use crate::model::Value;
use crate::node::Node;
use crate::template::Template;
use crate::template::TemplateTree;
use crate::yaml::Entry;
use crate::yaml::Tree;

pub(super) const STEP_KEYS: &[&str] = &[
    "uses",
    "with",
    "needs",
    "when",
    "for_each",
    "max_parallel",
    "spread",
    "at",
    "delay",
    "until",
    "retry",
    "timeout",
    "on_error",
    "in_doubt",
    "undo",
    "irreversible",
    "cache",
    "key",
    "locks",
    "priority",
    "into",
];

/// How many items of a `for_each` run at once when the file does not say.
const ITEMS_AT_ONCE: u32 = 16;
/// Why the output of a step with a condition may be absent.
const SKIPPED: &str = "its `when` may be false";
/// The most rounds that an `until` may have.
const MOST_ROUNDS: u32 = 1_000_000;

/// What other steps must know of a step.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) node: Option<Arc<dyn Node>>,
    /// Why its output may be absent.
    pub(super) absent: Option<&'static str>,
}

/// `defaults` of a pipeline.
#[derive(Clone, Debug, Default)]
pub(super) struct Defaults {
    retry: Option<Retry>,
    timeout: Option<Duration>,
    max_parallel: Option<u32>,
}

impl Defaults {
    pub(super) fn read(compiler: &mut Compiler<'_>, tree: Option<&Tree>) -> Self {
        let Some(tree) = tree else { return Self::default() };
        let Some(mut reader) = Reader::new(compiler, tree, &["retry", "timeout", "max_parallel", "connection"]) else {
            return Self::default();
        };
        let timeout = reader.duration("timeout");
        let max_parallel = reader.number("max_parallel", 1, 10_000);
        let connection = reader.text("connection");
        if let Some((name, span)) = connection {
            compiler.known_connection(name, span);
            compiler.default_connection = Some(name.to_owned());
        }
        let retry = tree.get("retry").map(|tree| retries::read(compiler, tree, &Retry::default()));
        Self { retry, timeout, max_parallel }
    }
}

/// Looks at all steps of a part before any of them is compiled.
pub(super) fn survey(compiler: &Compiler<'_>, tree: &Tree) -> BTreeMap<String, Known> {
    let mut known = BTreeMap::new();
    for entry in tree.entries() {
        let step = &entry.value;
        let node = step.get("uses").and_then(Tree::as_text).and_then(|name| compiler.find_quietly(name));
        let continues = step.get("on_error").and_then(Tree::as_text) == Some("continue");
        let each = step.get("for_each").is_some();
        let absent = if step.get("when").is_some() {
            Some(SKIPPED)
        } else if continues && !each {
            Some("it may fail, and `on_error: continue` goes on")
        } else if step.get("in_doubt").and_then(Tree::as_text) == Some("drop") {
            Some("`in_doubt: drop` may leave it out")
        } else {
            None
        };
        known.insert(entry.key.to_string(), Known { node, absent });
    }
    known
}

/// Compiles a step; gives it with the steps that it needs and the places where they are named.
pub(super) fn compile(
    compiler: &mut Compiler<'_>,
    entry: &Entry,
    defaults: &Defaults,
    part: &str,
    outer: &[String],
) -> Option<(Step, Vec<(String, Span)>)> {
    let id = &*entry.key;
    let tree = &entry.value;
    check_id(compiler, entry);
    if outer.iter().any(|other| other == id) {
        compiler.error(Code::DuplicateKey, &entry.key_span, format!("step `{id}` exists already under `steps`")).help =
            Some(format!("give the step of `{part}` another name"));
    }
    let mut reader = Reader::new(compiler, tree, STEP_KEYS)?;
    if !reader.require("uses") {
        return None;
    }
    let uses = reader.text("uses")?;
    let timeout = reader.duration("timeout").or(defaults.timeout);
    let max_parallel = reader.number("max_parallel", 1, 10_000).or(defaults.max_parallel).unwrap_or(ITEMS_AT_ONCE);
    let priority = reader.number("priority", 0, 9).unwrap_or(5);
    let irreversible = reader.flag("irreversible").unwrap_or(false);
    let into = reader.text("into").map(|(text, _)| Arc::from(text));
    let in_doubt = reader.word("in_doubt", &["hold", "resend", "drop"]).map(|word| match word {
        "resend" => InDoubt::Resend,
        "drop" => InDoubt::Drop,
        _ => InDoubt::Hold,
    });
    let spread = reader.flag("spread").unwrap_or(false);
    let each = tree.get("for_each").is_some();
    let item_roots: &[&'static str] = if each { &["item", "index", "previous"] } else { &[] };
    let repeats = tree.get("until").is_some();
    let mut roots = item_roots.to_vec();
    if repeats && !each {
        roots.push("previous");
    }
    let when = tree.get("when").and_then(|when| {
        let place = compiler.place(id, &[], &[]);
        compiler.condition(when, &place).map(|template| (template, when))
    });
    let proven = proven(compiler, when.as_ref().map(|(template, _)| template));
    let outside = compiler.place(id, &[], &proven);
    let place = compiler.place(id, &roots, &proven);
    if let Some((template, when)) = &when {
        note_reads(template, &outside, when);
        if template.literal() == Some("false") || template.source().replace(' ', "") == "{{false}}" {
            compiler.warning(Code::UnreachableStep, &when.span, format!("step `{id}` never runs: its `when` is false"));
        }
    }
    let for_each = tree.get("for_each").and_then(|list| for_each(compiler, list, &outside));
    let node = find_node(compiler, uses);
    let Some(node) = node else {
        // The rest of the step is checked all the same: its names may be wrong too.
        if let Some(with) = tree.get("with") {
            compiler.tree(with, &place);
        }
        return None;
    };
    let body = with::compile(compiler, &node, tree.get("with"), &first_line(uses.1), &place);
    if node.name() == approval::NODE {
        approval::check(compiler, tree);
    }
    if node.name() == "log.write" || part == "logs" {
        shown_secrets(compiler, tree, id, &roots);
    }
    let effect = body.effect;
    // What the step around it says is said of what it pays for, not of what it changes.
    let inherited = if compiler.resends && !effect.is_write() { InDoubt::Resend } else { InDoubt::Hold };
    let in_doubt = in_doubt.unwrap_or(inherited);
    let resends = in_doubt == InDoubt::Resend;
    let child = match node.composite() {
        Some(composite) => composite::child(compiler, &composite, uses.1, resends),
        None if node.name() == "pipeline.run" => child::compile(compiler, tree),
        None => expansion::child(compiler, &node, tree.get("with"), uses.1, resends),
    };
    let calls = expansion::calls(compiler, &node, tree.get("with"), uses.1);
    if spread {
        child::check_spread(compiler, tree, &node);
    }
    let retry = tree
        .get("retry")
        .map(|tree| retries::read(compiler, tree, &defaults.retry.clone().unwrap_or_else(retries::three_tries)));
    let retry = retry.or_else(|| defaults.retry.clone()).unwrap_or_else(|| retries::by_itself(&node));
    let until = tree.get("until").and_then(|until| read_until(compiler, until, id, &roots, &proven));
    only_writes(compiler, tree, effect, &node, child.as_deref());
    let changes = effect.is_write() || child.is_some() || node.name() == "pipeline.run";
    let cache = tree.get("cache").and_then(|cache| read_cache(compiler, cache, &place, changes));
    let at = tree.get("at").and_then(|at| compiler.template(at, &place));
    let delay = tree.get("delay").and_then(|delay| compiler.template(delay, &place));
    for (key, takes, wanted) in [("at", fits::MOMENT, "a moment"), ("delay", fits::LENGTH, "a duration")] {
        if let Some(tree) = tree.get(key) {
            compiler.expect(tree, takes, wanted);
        }
    }
    if let (Some(delay), Some(tree)) = (&delay, tree.get("delay"))
        && let Some(Err(error)) = delay.literal().map(str::parse::<Duration>)
    {
        compiler.error(Code::BadDuration, &tree.span, error.to_string());
    }
    let key = tree.get("key").and_then(|key| compiler.template(key, &place));
    let on_error = tree.get("on_error").map_or(OnError::Fail, |tree| read_on_error(compiler, tree, &place));
    let undo = tree.get("undo").and_then(|undo| read_undo(compiler, undo, (id, &node), item_roots, &proven, defaults));
    let locks = read_locks(compiler, tree, &place);
    let mut needs = read_needs(compiler, tree, id);
    needs.append(&mut outside.reads.borrow_mut());
    let sequential = reads_previous(tree) && each;
    needs.append(&mut place.reads.borrow_mut());
    let step = Step {
        id: id.into(),
        node,
        effect,
        with: body.tree,
        expressions: body.expressions,
        calls,
        child,
        spread,
        needs: Vec::new(),
        when: when.map(|(template, _)| template),
        for_each,
        max_parallel: if sequential { 1 } else { usize::try_from(max_parallel).unwrap_or(1) },
        sequential,
        at,
        delay,
        until,
        retry,
        timeout,
        on_error,
        in_doubt,
        undo,
        irreversible,
        cache,
        key,
        locks,
        priority: u8::try_from(priority).unwrap_or(5),
        into,
    };
    Some((step, needs))
}

/// Returns the steps whose output is there when the step's `when` holds: those that it asks for, and those that run
/// under the very same condition.
fn proven(compiler: &Compiler<'_>, when: Option<&Template>) -> Vec<String> {
    let Some(when) = when else { return Vec::new() };
    let mut steps = infer::proven_steps(when);
    for (id, known) in &compiler.steps {
        let other = compiler.bodies.get(id).and_then(|body| body.get("when")).and_then(Tree::as_text);
        if known.absent == Some(SKIPPED) && other == Some(when.source()) {
            steps.push(id.clone());
        }
    }
    steps
}

fn note_reads(template: &Template, place: &Place<'_>, tree: &Tree) {
    for reference in template.references() {
        if let [root, id, ..] = reference.path.as_slice()
            && &**root == "steps"
        {
            place.reads.borrow_mut().push((id.to_string(), tree.span.clone()));
        }
    }
}

fn check_id(compiler: &mut Compiler<'_>, entry: &Entry) {
    let id = &*entry.key;
    let good = id.chars().next().is_some_and(|first| first.is_ascii_alphabetic() || first == '_')
        && id.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    if !good {
        compiler.error(Code::BadName, &entry.key_span, format!("`{id}` cannot name a step")).help =
            Some("use letters, digits and `_`, a letter first: expressions say `steps.NAME`".to_owned());
    }
}

fn for_each(compiler: &mut Compiler<'_>, tree: &Tree, place: &Place<'_>) -> Option<Template> {
    match &tree.kind {
        crate::yaml::TreeKind::Sequence(_) => {
            // A written list may hold templates; it becomes one expression over its JSON.
            let TemplateTree::Literal(value) = compiler.tree(tree, place) else {
                compiler
                    .error(Code::WrongType, &first_line(&tree.span), "a list with expressions in it cannot stand here")
                    .help = Some("write one expression: `for_each: \"{{ [inputs.a, inputs.b] }}\"`".to_owned());
                return None;
            };
            let mut quoted = String::new();
            for letter in value.to_string().chars() {
                match letter {
                    '\\' => quoted.push_str("\\\\"),
                    '\'' => quoted.push_str("\\'"),
                    letter => quoted.push(letter),
                }
            }
            Template::parse(&format!("{{{{ '{quoted}' | from_json }}}}")).ok()
        }
        _ => {
            let template = compiler.template(tree, place)?;
            if template.literal().is_some() {
                let message = format!("expected a list or an expression that gives one, found {}", tree.describe());
                compiler.error(Code::WrongType, &tree.span, message);
                return None;
            }
            compiler.expect(tree, fits::ITEMS, "a list");
            Some(template)
        }
    }
}

/// Looks for secrets in what a logging step shows.
fn shown_secrets(compiler: &mut Compiler<'_>, tree: &Tree, id: &str, roots: &[&'static str]) {
    fn mentions(tree: &Tree) -> bool {
        match &tree.kind {
            crate::yaml::TreeKind::Scalar { text, .. } => text.contains("secrets"),
            crate::yaml::TreeKind::Sequence(items) => items.iter().any(mentions),
            crate::yaml::TreeKind::Mapping(entries) => entries.iter().any(|entry| mentions(&entry.value)),
        }
    }
    let Some(with) = tree.get("with").filter(|with| mentions(with)) else { return };
    let before = compiler.diagnostics.len();
    let place = Place { shown: true, ..compiler.place(id, roots, &[]) };
    compiler.tree(with, &place);
    // Everything but the secrets was told when the step was compiled.
    let secrets: Vec<_> = compiler.diagnostics.drain(before..).filter(|it| it.code == Code::SecretShown).collect();
    compiler.diagnostics.extend(secrets);
}

fn read_until(
    compiler: &mut Compiler<'_>,
    tree: &Tree,
    id: &str,
    roots: &[&'static str],
    proven: &[String],
) -> Option<Until> {
    let mut reader = Reader::new(compiler, tree, &["holds", "every", "limit"])?;
    let limit = reader.number("limit", 1, MOST_ROUNDS).unwrap_or(1_000);
    let has = reader.require("holds");
    let mut all = roots.to_vec();
    all.extend(["output", "previous"]);
    let place = compiler.place(id, &all, proven);
    let holds = tree.get("holds").filter(|_| has).and_then(|holds| compiler.condition(holds, &place));
    let every = tree.get("every").and_then(|every| compiler.template(every, &place));
    if let Some(every) = tree.get("every") {
        compiler.expect(every, fits::LENGTH, "a duration");
    }
    if let (Some(every), Some(tree)) = (&every, tree.get("every"))
        && let Some(Err(error)) = every.literal().map(str::parse::<Duration>)
    {
        compiler.error(Code::BadDuration, &tree.span, error.to_string());
    }
    Some(Until { holds: holds?, every, limit })
}

fn read_cache(compiler: &mut Compiler<'_>, tree: &Tree, place: &Place<'_>, changes: bool) -> Option<Cache> {
    let mut reader = Reader::new(compiler, tree, &["key", "ttl"])?;
    let has = reader.require("ttl");
    let ttl = reader.duration("ttl");
    if changes {
        compiler
            .error(Code::CachedEffect, &first_line(&tree.span), "a step that changes the world cannot be cached")
            .help = Some("take `cache` away; `key` keeps an effect from happening twice".to_owned());
    }
    let key = tree.get("key").and_then(|key| compiler.template(key, place));
    Some(Cache { key, ttl: ttl.filter(|_| has)? })
}

fn read_on_error(compiler: &mut Compiler<'_>, tree: &Tree, place: &Place<'_>) -> OnError {
    match tree.as_text() {
        Some("fail") => OnError::Fail,
        Some("continue") => OnError::Continue,
        Some(_) => {
            let message = format!("expected `fail`, `continue` or `{{ default: VALUE }}`, found {}", tree.describe());
            compiler.error(Code::WrongType, &tree.span, message);
            OnError::Fail
        }
        None => {
            if let Some(mut reader) = Reader::new(compiler, tree, &["default"]) {
                reader.require("default");
            }
            tree.get("default").map_or(OnError::Fail, |value| OnError::Default(compiler.tree(value, place)))
        }
    }
}

fn read_undo(
    compiler: &mut Compiler<'_>,
    tree: &Tree,
    (id, undone): (&str, &Arc<dyn Node>),
    item_roots: &[&'static str],
    proven: &[String],
    defaults: &Defaults,
) -> Option<Arc<Undo>> {
    if tree.as_text() == Some("auto") {
        let declared = declared_undo(compiler, undone, defaults, &tree.span);
        if declared.is_none() {
            let message = format!("the node of step `{id}` declares no undo");
            compiler.error(Code::NoUndo, &tree.span, message).help =
                Some("write the step that undoes it: `undo: { uses: …, with: … }`".to_owned());
        }
        return declared.map(Arc::new);
    }
    let mut reader = Reader::new(compiler, tree, &["uses", "with", "retry", "timeout"])?;
    if !reader.require("uses") {
        return None;
    }
    let uses = reader.text("uses")?;
    let timeout = reader.duration("timeout").or(defaults.timeout);
    let node = find_node(compiler, uses)?;
    let mut roots = item_roots.to_vec();
    roots.push("output");
    let place = compiler.place(id, &roots, proven);
    let body = with::compile(compiler, &node, tree.get("with"), &first_line(uses.1), &place);
    let child = node.composite().and_then(|composite| composite::child(compiler, &composite, uses.1, false));
    let retry = tree.get("retry").map(|tree| retries::read(compiler, tree, &retries::three_tries()));
    let retry = retry.or_else(|| defaults.retry.clone()).unwrap_or_else(|| retries::by_itself(&node));
    let calls = expansion::calls(compiler, &node, tree.get("with"), uses.1);
    let (effect, with, expressions) = (body.effect, body.tree, body.expressions);
    Some(Arc::new(Undo { node, child, effect, with, expressions, calls, retry, timeout }))
}

/// Returns the undo that an operation declares: another of its connector, on the same connection.
fn declared_undo(
    compiler: &mut Compiler<'_>,
    undone: &Arc<dyn Node>,
    defaults: &Defaults,
    place: &Span,
) -> Option<Undo> {
    let (name, with) = undone.undo()?;
    let (connector, operation) = name.split_once('.')?;
    let node = compiler.world.registry.operations()?.sibling(connector, operation)?;
    let connection = Template::parse_lenient("{{ input.connection }}").ok()?;
    let child = node.composite().and_then(|composite| composite::child(compiler, &composite, place, false));
    Some(Undo {
        child,
        effect: node.effect(&Value::Null),
        with: with::with_member(with, TemplateTree::Template(connection)),
        expressions: Vec::new(),
        calls: Vec::new(),
        retry: defaults.retry.clone().unwrap_or_else(|| retries::by_itself(&node)),
        timeout: defaults.timeout,
        node,
    })
}

/// Keys that mean something for writes only; `in_doubt` for paid reads, too.
fn only_writes(
    compiler: &mut Compiler<'_>,
    tree: &Tree,
    effect: Effect,
    node: &Arc<dyn Node>,
    child: Option<&super::Pipeline>,
) {
    if effect.is_write() {
        return;
    }
    let pays = effect == Effect::PaidRead || child.is_some_and(super::Pipeline::pays);
    if let Some(drop) = tree.get("in_doubt").filter(|tree| pays && tree.as_text() == Some("drop")) {
        let message = format!("`in_doubt: drop` leaves a write as it is, and `{}` here is a paid read", node.name());
        compiler.error(Code::DroppedRead, &drop.span, message).help =
            Some("say `hold` or `resend`; `on_error: continue` goes on without the answer".to_owned());
    }
    for key in ["in_doubt", "key", "undo", "irreversible"] {
        let goes = match key {
            "in_doubt" => pays,
            "undo" | "irreversible" => child.is_some(),
            _ => false,
        };
        if let Some(entry) = tree.entry(key).filter(|_| !goes) {
            let message = format!("`{key}` is for writes, and `{}` here is {}", node.name(), effect.name());
            compiler.warning(Code::NotAWrite, &entry.key_span, message).help = Some("take it away".to_owned());
        }
    }
}

fn read_locks(compiler: &mut Compiler<'_>, tree: &Tree, place: &Place<'_>) -> Vec<Lock> {
    tree.get("locks").map(|locks| compiler.locks(locks, place)).unwrap_or_default()
}

fn read_needs(compiler: &mut Compiler<'_>, tree: &Tree, id: &str) -> Vec<(String, Span)> {
    let Some(needs) = tree.get("needs") else { return Vec::new() };
    if !matches!(needs.kind, crate::yaml::TreeKind::Sequence(_)) {
        let help = needs.as_text().map(|text| format!("write `needs: [{text}]`"));
        compiler
            .error(
                Code::WrongType,
                &first_line(&needs.span),
                format!("expected a list of steps, found {}", needs.describe()),
            )
            .help = help;
        return Vec::new();
    }
    let mut found = Vec::new();
    for need in needs.items() {
        let Some(name) = need.as_text() else {
            compiler.error(Code::WrongType, &need.span, format!("expected a step's name, found {}", need.describe()));
            continue;
        };
        if name == id {
            compiler.error(Code::DependencyCycle, &need.span, format!("step `{id}` needs itself")).help =
                Some("take it away".to_owned());
        } else if compiler.steps.contains_key(name) {
            found.push((name.to_owned(), need.span.clone()));
        } else {
            let ids: Vec<String> = compiler.steps.keys().cloned().collect();
            compiler.unknown(
                Code::UnknownStep,
                &need.span,
                "step {} does not exist",
                name,
                ids.iter().map(String::as_str),
            );
        }
    }
    found
}

/// Tells whether an expression of the step reads the output of the item before.
fn reads_previous(tree: &Tree) -> bool {
    fn any(tree: &Tree) -> bool {
        match &tree.kind {
            // A text is read again only where the word stands in it.
            crate::yaml::TreeKind::Scalar { text, .. } => {
                let reads = |template: Template| {
                    template.references().iter().any(|it| it.path.first().is_some_and(|root| &**root == "previous"))
                };
                text.contains("previous") && Template::parse(text).is_ok_and(reads)
            }
            crate::yaml::TreeKind::Sequence(items) => items.iter().any(any),
            crate::yaml::TreeKind::Mapping(entries) => entries.iter().any(|entry| any(&entry.value)),
        }
    }
    tree.entries().iter().filter(|entry| &*entry.key != "until").any(|entry| any(&entry.value))
}

/// The compiled `with:` of a step.
pub(super) struct Body {
    pub(super) tree: TemplateTree,
    pub(super) expressions: Vec<(&'static str, Template)>,
    pub(super) effect: Effect,
}

impl Body {
    pub(super) fn empty(node: &Arc<dyn Node>) -> Self {
        let effect = node.effect(&Value::map::<&str>([]));
        Self { tree: TemplateTree::Literal(Value::map::<&str>([])), expressions: Vec::new(), effect }
    }
}
