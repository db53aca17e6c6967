//! What of the pipelines and connectors the cases have exercised, and what they have not.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::sync::Arc;

use super::came::counted;
use super::run::Verdict;
use super::stage::Stage;
use crate::connector::library::Loaded;
use crate::model::Effect;
use crate::model::Phase;
use crate::model::RunEvent;
use crate::model::SettledBy;
use crate::model::Value;
use crate::model::Verdict as Settled;
use crate::node::Node;
use crate::pipeline::OnError;
use crate::pipeline::Pipeline;
use crate::pipeline::Step;

/// Something that can happen in a pipeline, or an error rule of a connector.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fact {
    /// The step, or the operation; nothing for what all of them share.
    pub of: String,
    pub what: String,
}

/// What there is to exercise of one pipeline or connector, and how often it was.
#[derive(Clone, Debug, Default)]
pub struct Part {
    pub facts: BTreeMap<Fact, u64>,
}

/// What was exercised, by pipeline and by connector.
#[derive(Clone, Debug, Default)]
pub struct Coverage {
    pub pipelines: BTreeMap<String, Part>,
    pub connectors: BTreeMap<String, Part>,
}

impl Part {
    fn expect(&mut self, of: &str, what: &str) {
        self.facts.entry(Fact { of: of.to_owned(), what: what.to_owned() }).or_default();
    }

    /// Counts what happened; what was not to be expected is no part of it.
    fn note(&mut self, of: &str, what: &str) {
        if let Some(count) = self.facts.get_mut(&Fact { of: of.to_owned(), what: what.to_owned() }) {
            *count += 1;
        }
    }

    #[must_use]
    pub fn exercised(&self) -> usize {
        self.facts.values().filter(|count| **count > 0).count()
    }

    /// Lists what no case has exercised.
    pub fn missing(&self) -> impl Iterator<Item = &Fact> {
        self.facts.iter().filter(|(_, count)| **count == 0).map(|(fact, _)| fact)
    }
}

impl Coverage {
    /// Gathers what all cases have exercised of their pipelines, of those below them, and of connectors.
    #[must_use]
    pub fn of(verdicts: &[Verdict], stage: &Stage) -> Self {
        let mut coverage = Self::default();
        let mut rules: BTreeMap<Arc<str>, BTreeSet<(u32, u32)>> = BTreeMap::new();
        let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for verdict in verdicts {
            coverage.expect(&verdict.job.pipeline, &mut used);
            for (_, pipeline, events) in &verdict.played.journals {
                let Some(part) = coverage.pipelines.get_mut(&*pipeline.name) else { continue };
                note_all(part, pipeline, events);
            }
            for (connector, applied) in verdict.played.rules.iter().flatten() {
                rules.entry(connector.clone()).or_default().extend(applied);
            }
        }
        for (connector, operations) in used {
            let Loaded::Manifest(manifest) = stage.library.get(&connector) else { continue };
            let mut part = Part::default();
            let applied = rules.get(connector.as_str()).cloned().unwrap_or_default();
            let mut add = |of: &str, list: &[crate::connector::manifest::Rule]| {
                for rule in list {
                    let what = format!("rule in line {}", rule.line);
                    part.expect(of, &what);
                    if applied.contains(&(rule.line, rule.column)) {
                        part.note(of, &what);
                    }
                }
            };
            add("", &manifest.errors);
            for name in operations {
                if let Some(operation) = manifest.operations.get(name.as_str()) {
                    add(&name, &operation.errors);
                    if let Some(batch) = &operation.batch {
                        add(&name, &batch.errors);
                    }
                }
            }
            if !part.facts.is_empty() {
                coverage.connectors.insert(connector, part);
            }
        }
        coverage
    }

    /// Notes what there is to exercise of a pipeline and of those below it.
    fn expect(&mut self, pipeline: &Pipeline, used: &mut BTreeMap<String, BTreeSet<String>>) {
        if self.pipelines.contains_key(&*pipeline.name) {
            return;
        }
        let mut part = Part::default();
        let mut below = Vec::new();
        for phase in [Phase::Main, Phase::OnFailure, Phase::Finally] {
            for step in &pipeline.graph(phase).steps {
                expect_step(&mut part, step);
                uses(&*step.node, used);
                if let Some(undo) = &step.undo {
                    uses(&*undo.node, used);
                }
                below.extend(step.child.clone());
            }
        }
        // The steps of operations are their manifest's business.
        if !pipeline.composite {
            self.pipelines.insert(pipeline.name.to_string(), part);
        }
        for child in below {
            self.expect(&child, used);
        }
    }

    /// Returns how many of all facts were exercised, in percent.
    #[must_use]
    pub fn percent(&self) -> u32 {
        let parts = || self.pipelines.values().chain(self.connectors.values());
        let all: usize = parts().map(|part| part.facts.len()).sum();
        let exercised: usize = parts().map(Part::exercised).sum();
        percent(exercised, all)
    }

    /// Returns it as JSON has it.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let part = |part: &Part| {
            let fact = |fact: &Fact| Value::map([("of", Value::from(&*fact.of)), ("what", Value::from(&*fact.what))]);
            Value::map([
                ("exercised", counted(part.exercised())),
                ("all", counted(part.facts.len())),
                ("percent", Value::from(percent(part.exercised(), part.facts.len()))),
                ("missing", Value::list(part.missing().map(fact).collect())),
            ])
        };
        let parts = |all: &BTreeMap<String, Part>| Value::map(all.iter().map(|(name, own)| (name.as_str(), part(own))));
        Value::map([
            ("percent", Value::from(self.percent())),
            ("pipelines", parts(&self.pipelines)),
            ("connectors", parts(&self.connectors)),
        ])
    }

    /// Returns the rows of a table: what it is, what of it was exercised, and what was not.
    #[must_use]
    pub fn rows(&self) -> Vec<Vec<String>> {
        let row = |kind: &str, name: &str, part: &Part| {
            let (exercised, all) = (part.exercised(), part.facts.len());
            let missing = part.missing().map(|fact| match fact.of.as_str() {
                "" => fact.what.clone(),
                of => format!("{of}: {}", fact.what),
            });
            let missing = missing.collect::<Vec<_>>().join("; ");
            vec![
                format!("{kind} {name}"),
                format!("{exercised}/{all}"),
                format!("{}%", percent(exercised, all)),
                missing,
            ]
        };
        let pipelines = self.pipelines.iter().map(|(name, part)| row("pipeline", name, part));
        let connectors = self.connectors.iter().map(|(name, part)| row("connector", name, part));
        pipelines.chain(connectors).collect()
    }
}

/// Of nothing, all is exercised.
fn percent(exercised: usize, all: usize) -> u32 {
    u32::try_from((exercised * 100).checked_div(all).unwrap_or(100)).unwrap_or(100)
}

fn uses(node: &dyn Node, used: &mut BTreeMap<String, BTreeSet<String>>) {
    if let (Some(connector), Some((_, operation))) = (node.connector(), node.name().split_once('.')) {
        used.entry(connector.to_owned()).or_default().insert(operation.to_owned());
    }
}

const RUN: &str = "runs";
const TRUE: &str = "`when` is true";
const FALSE: &str = "`when` is false";
const EMPTY: &str = "no items";
const ONE: &str = "one item";
const MANY: &str = "several items";
const RETRY: &str = "is tried again";
const ON_ERROR: &str = "`on_error` steps in";
const ROUNDS: &str = "goes several rounds";
const UNDONE: &str = "is undone";
const ASKED: &str = "a lost answer is asked for";
const REPEATED: &str = "a lost answer is repeated";

fn expect_step(part: &mut Part, step: &Step) {
    let id = &*step.id;
    let mut expect = |holds: bool, what: &str| {
        if holds {
            part.expect(id, what);
        }
    };
    expect(true, RUN);
    expect(step.when.is_some(), TRUE);
    expect(step.when.is_some(), FALSE);
    for what in [EMPTY, ONE, MANY] {
        // What is written out has as many items as it has.
        let fixed = step.for_each.as_ref().is_some_and(|items| items.references().is_empty());
        expect(step.for_each.is_some() && !fixed, what);
    }
    // Nothing outside, nothing to try again.
    expect(step.retry.attempts > 1 && step.effect != Effect::Pure, RETRY);
    expect(!matches!(step.on_error, OnError::Fail), ON_ERROR);
    expect(step.until.is_some(), ROUNDS);
    expect(step.undo.is_some(), UNDONE);
    if step.effect.is_write() && step.child.is_none() {
        let settlement = step.node.settlement(&Value::map::<&str>([]));
        let connector = step.node.connector().is_some();
        expect(connector && settlement.reconcile, ASKED);
        expect(connector && !settlement.reconcile && settlement.repeat != crate::model::Repeat::Never, REPEATED);
    }
}

fn note_all(part: &mut Part, pipeline: &Pipeline, events: &[RunEvent]) {
    let mut ran: BTreeSet<(Phase, Arc<str>)> = BTreeSet::new();
    for event in events {
        let Some(path) = event.path() else { continue };
        let id = &*path.step;
        let did_run = matches!(event, RunEvent::Succeeded { .. } | RunEvent::Failed { .. } | RunEvent::Asked { .. });
        if path.phase != Phase::Undo && (did_run || matches!(event, RunEvent::Items { .. })) {
            ran.insert((path.phase, path.step.clone()));
        }
        match event {
            RunEvent::Items { items, .. } => {
                let what = match items.as_list().map_or(0, <[Value]>::len) {
                    0 => EMPTY,
                    1 => ONE,
                    _ => MANY,
                };
                part.note(id, what);
            }
            RunEvent::Skipped { reason, .. } if reason.starts_with("`when`") => part.note(id, FALSE),
            RunEvent::Failed { retry_at, .. } if path.phase != Phase::Undo => {
                part.note(id, if retry_at.is_some() { RETRY } else { ON_ERROR });
            }
            RunEvent::Succeeded { recovered: Some(_), .. } => part.note(id, ON_ERROR),
            RunEvent::Succeeded { .. } if path.phase == Phase::Undo => part.note(id, UNDONE),
            RunEvent::Round { .. } => part.note(id, ROUNDS),
            RunEvent::Settled { by, verdict, .. } => {
                match by {
                    SettledBy::Reconcile => part.note(id, ASKED),
                    SettledBy::Repeat => part.note(id, REPEATED),
                    SettledBy::Policy | SettledBy::Person => {}
                }
                if **verdict == Settled::SendAgain {
                    part.note(id, RETRY);
                }
            }
            _ => {}
        }
    }
    for (phase, id) in ran {
        part.note(&id, RUN);
        if pipeline.graph(phase).step(&id).is_some_and(|step| step.when.is_some()) {
            part.note(&id, TRUE);
        }
    }
}
