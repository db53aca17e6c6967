//! What a replay did otherwise than the run before it: effects first, then how steps ended, then what came out.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::Arc;

use super::calls;
use super::cassette::Cassette;
use super::play::Played;
use super::player::Miss;
use super::player::UNKNOWN;
use crate::difference::Change;
use crate::difference::alike;
use crate::difference::changes;
use crate::model::RunEvent;
use crate::model::RunId;
use crate::model::RunState;
use crate::model::StepPath;
use crate::model::Value;
use crate::model::Verdict;
use crate::pipeline::Pipeline;

/// A write of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectSeen {
    /// Prefix and path of the step run.
    pub place: String,
    /// The same without item and round.
    pub step: String,
    pub operation: Arc<str>,
    /// What kind of write it is.
    pub kind: &'static str,
    /// What the remote was told.
    pub request: Value,
    pub fate: String,
}

/// One thing that a replay did otherwise.
#[derive(Clone, Debug, PartialEq)]
pub enum Difference {
    /// A write that the run had not made. `known` says whether its answer is.
    New { effect: EffectSeen, known: bool },
    /// A write that was not made this time; `reached` says whether its step was.
    Gone { effect: EffectSeen, reached: bool },
    /// The same write with other fields, at another place, or with another end.
    Changed { before: EffectSeen, now: EffectSeen, fields: Vec<Change> },
    /// A step ended otherwise.
    Step { step: String, before: String, now: String },
    /// The run ended otherwise.
    State { before: RunState, now: RunState, why: Option<String> },
    /// What the run gave is another.
    Outputs { fields: Vec<Change> },
}

/// A replay beside what was recorded.
#[derive(Clone, Debug)]
pub struct Compared {
    pub run: RunId,
    pub pipeline: Arc<str>,
    /// How many writes the run had made.
    pub effects: usize,
    pub differences: Vec<Difference>,
    /// What nothing on the cassette answered.
    pub misses: Vec<Miss>,
    /// Steps that were never reached because of that.
    pub unreached: Vec<String>,
    /// Places of writes that were answered by the recorded answer to another request.
    pub supposed: Vec<String>,
}

impl Compared {
    /// Tells whether nothing is different and nothing is missing.
    #[must_use]
    pub fn is_same(&self) -> bool {
        self.differences.is_empty() && self.misses.is_empty()
    }
}

/// Compares a replay with its cassette; `recorded` is the version that the cassette was made with.
#[must_use]
pub fn compare(cassette: &Cassette, recorded: &Arc<Pipeline>, played: &Played) -> Compared {
    let prefixes: HashMap<_, _> = cassette.runs.iter().map(|run| (run.id, run.prefix.clone())).collect();
    let pipelines = calls::pipelines(cassette.head.run, recorded, &cassette.events);
    let before = Seen::read(&cassette.events, &pipelines, &prefixes);
    let now = Seen::read(&played.events, &played.pipelines, &played.prefixes);
    let mut differences = effects(&before, &now);
    if !played.misses.is_empty() {
        // What hangs on something unknown is told by the steps, not write by write.
        differences.retain(|difference| !matches!(difference, Difference::Gone { reached: false, .. }));
    }
    // A new write that nobody can answer is told as one.
    let is_new = |miss: &Miss| {
        differences
            .iter()
            .any(|difference| matches!(difference, Difference::New { effect, .. } if effect.place == miss.place))
    };
    let misses = played.misses.iter().filter(|miss| !is_new(miss)).cloned().collect();
    let unreached: Vec<String> = if played.misses.is_empty() {
        Vec::new()
    } else {
        let missed = |step: &str| played.misses.iter().any(|miss| steps_name(&miss.place) == step);
        before.ends.keys().filter(|step| !now.ends.contains_key(*step) && !missed(step)).cloned().collect()
    };
    for (step, end) in &before.ends {
        let other = now.ends.get(step);
        let missed = other.is_none() && !played.misses.is_empty();
        if other != Some(end) && !missed {
            let now = other.map_or_else(|| "not run".to_owned(), Ends::told);
            differences.push(Difference::Step { step: step.clone(), before: end.told(), now });
        }
    }
    for (step, end) in now.ends.iter().filter(|(step, _)| !before.ends.contains_key(*step)) {
        differences.push(Difference::Step { step: step.clone(), before: "not run".to_owned(), now: end.told() });
    }
    if played.misses.is_empty() {
        differences.extend(end(cassette, played));
    }
    Compared {
        run: cassette.head.run,
        pipeline: cassette.head.pipeline.clone(),
        effects: before.effects.len(),
        differences,
        misses,
        unreached,
        supposed: played.supposed.clone(),
    }
}

/// Returns the step of a place: without item and round.
fn steps_name(place: &str) -> &str {
    let last = place.rfind(" > ").map_or(0, |at| at + 3);
    let end = place.get(last..).and_then(|path| path.find(['[', '#'])).map_or(place.len(), |at| last + at);
    place.get(..end).unwrap_or(place)
}

/// Compares how the runs themselves ended.
fn end(cassette: &Cassette, played: &Played) -> Option<Difference> {
    let last = cassette.journal(cassette.head.run).filter_map(|event| match event {
        RunEvent::Finished { state, outputs, .. } => Some((*state, outputs.clone())),
        _ => None,
    });
    let (state, outputs) = last.last().unwrap_or((RunState::Waiting, Value::Null));
    if state != played.state {
        let why = played.error.as_ref().map(ToString::to_string).or_else(|| played.reason.clone());
        return Some(Difference::State { before: state, now: played.state, why });
    }
    let fields = changes(&outputs, &played.outputs);
    (!fields.is_empty()).then_some(Difference::Outputs { fields })
}

/// Tells whether two writes are one.
type Likeness = fn(&EffectSeen, &EffectSeen) -> bool;

/// Finds for each write the one that it was before.
fn effects(before: &Seen, now: &Seen) -> Vec<Difference> {
    let mut left: Vec<Option<&EffectSeen>> = now.effects.iter().map(Some).collect();
    let mut pairs: Vec<(&EffectSeen, Option<&EffectSeen>)> =
        before.effects.iter().map(|effect| (effect, None)).collect();
    // The surest likeness first: a write that moved to another item is not taken for one that changed.
    let likenesses: [Likeness; 5] = [
        |old, new| old.place == new.place && old.operation == new.operation && alike(&old.request, &new.request),
        |old, new| old.step == new.step && old.operation == new.operation && alike(&old.request, &new.request),
        |old, new| old.operation == new.operation && alike(&old.request, &new.request),
        |old, new| old.place == new.place,
        |old, new| old.step == new.step && old.operation == new.operation,
    ];
    for is_like in likenesses {
        for (old, found) in pairs.iter_mut().filter(|(_, found)| found.is_none()) {
            let free = left.iter_mut().find(|new| new.is_some_and(|new| is_like(old, new)));
            *found = free.and_then(Option::take);
        }
    }
    let mut differences = Vec::new();
    for (old, found) in pairs {
        let Some(new) = found else {
            let reached = now.ends.contains_key(&old.step);
            differences.push(Difference::Gone { effect: old.clone(), reached });
            continue;
        };
        let fields = changes(&old.request, &new.request);
        let same = fields.is_empty() && old.fate == new.fate && old.operation == new.operation && old.step == new.step;
        if !same {
            differences.push(Difference::Changed { before: old.clone(), now: new.clone(), fields });
        }
    }
    differences.extend(left.into_iter().flatten().map(|effect| {
        let known = effect.fate != UNKNOWN;
        Difference::New { effect: effect.clone(), known }
    }));
    differences
}

/// What the journals of a run tell.
#[derive(Debug, Default)]
struct Seen {
    effects: Vec<EffectSeen>,
    /// How the step runs of each step ended.
    ends: BTreeMap<String, Ends>,
}

/// How the step runs of a step ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ends {
    succeeded: usize,
    failed: usize,
    skipped: usize,
    canceled: usize,
}

impl Ends {
    fn told(&self) -> String {
        let words = [
            (self.succeeded, "succeeded"),
            (self.failed, "failed"),
            (self.skipped, "skipped"),
            (self.canceled, "canceled"),
        ];
        let several = self.succeeded + self.failed + self.skipped + self.canceled > 1;
        let words = words.iter().filter(|(count, _)| *count > 0);
        let words = words.map(|(count, word)| if several { format!("{count} {word}") } else { (*word).to_owned() });
        words.collect::<Vec<_>>().join(", ")
    }
}

impl Seen {
    fn read(
        events: &[(RunId, RunEvent)],
        pipelines: &HashMap<RunId, Arc<Pipeline>>,
        prefixes: &HashMap<RunId, String>,
    ) -> Self {
        let mut effects: Vec<(String, EffectSeen)> = Vec::new();
        // A retry of a run ends step runs a second time: what counts is the last end of each.
        let mut ends: BTreeMap<(String, String), &'static str> = BTreeMap::new();
        for (run, event) in events {
            let Some(path) = event.path() else { continue };
            let prefix = prefixes.get(run).map(String::as_str).unwrap_or_default();
            let place = format!("{prefix}{path}");
            let step = format!("{prefix}{}", StepPath { item: None, round: None, ..path.clone() });
            let mut tell = |fate: &str| {
                if let Some((_, effect)) = effects.iter_mut().rev().find(|(_, effect)| effect.place == place) {
                    fate.clone_into(&mut effect.fate);
                }
            };
            let word = match event {
                RunEvent::Intent { intent, .. } => {
                    let operation = pipelines.get(run).and_then(|pipeline| calls::doing(pipeline, path));
                    let operation = operation.map(|doing| doing.node).unwrap_or_default();
                    let (kind, request) = (intent.kind.name(), intent.request.clone());
                    let seen = EffectSeen { place, step, operation, kind, request, fate: "under way".to_owned() };
                    match effects.iter_mut().find(|(id, _)| *id == *intent.id.0) {
                        Some((_, effect)) => *effect = seen,
                        None => effects.push((intent.id.to_string(), seen)),
                    }
                    continue;
                }
                RunEvent::Succeeded { .. } => {
                    tell("done");
                    "succeeded"
                }
                RunEvent::Failed { retry_at: None, error, .. } => {
                    tell(&format!("failed: {}", error.class.name()));
                    "failed"
                }
                RunEvent::InDoubt { .. } => {
                    tell("in doubt");
                    continue;
                }
                RunEvent::Settled { verdict, .. } => match **verdict {
                    Verdict::Happened { .. } => {
                        tell("done");
                        "succeeded"
                    }
                    Verdict::Dropped => {
                        tell("dropped");
                        "skipped"
                    }
                    Verdict::SendAgain => continue,
                },
                RunEvent::Waiting { reason, .. } if **reason == *UNKNOWN => {
                    tell(UNKNOWN);
                    continue;
                }
                RunEvent::Skipped { .. } => "skipped",
                RunEvent::StepCanceled { .. } => "canceled",
                _ => continue,
            };
            ends.insert((step, place), word);
        }
        let mut seen = Self { effects: effects.into_iter().map(|(_, effect)| effect).collect(), ..Self::default() };
        for ((step, _), word) in ends {
            let ends = seen.ends.entry(step).or_default();
            match word {
                "succeeded" => ends.succeeded += 1,
                "failed" => ends.failed += 1,
                "skipped" => ends.skipped += 1,
                _ => ends.canceled += 1,
            }
        }
        seen
    }
}

/// Many replays in one sentence, and what they have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub runs: usize,
    pub same: usize,
    pub differ: usize,
    /// Differences of one kind, each with how many runs have it, the most frequent first.
    pub kinds: Vec<(usize, String)>,
}

/// Sums up.
#[must_use]
pub fn sum(all: &[Compared]) -> Sum {
    let same = all.iter().filter(|compared| compared.is_same()).count();
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    for compared in all {
        let mut own: Vec<String> = compared.differences.iter().flat_map(kind).collect();
        own.extend(compared.misses.iter().map(|miss| format!("`{}` has no answer in the recording", miss.node)));
        own.sort();
        own.dedup();
        for kind in own {
            *kinds.entry(kind).or_default() += 1;
        }
    }
    let mut kinds: Vec<_> = kinds.into_iter().map(|(kind, count)| (count, kind)).collect();
    kinds.sort_by(|one, other| (other.0, &one.1).cmp(&(one.0, &other.1)));
    Sum { runs: all.len(), same, differ: all.len() - same, kinds }
}

/// Names the kind of a difference: its step and what of it changed.
fn kind(difference: &Difference) -> Vec<String> {
    match difference {
        Difference::New { effect, .. } => vec![format!("step `{}` writes more: {}", effect.step, effect.operation)],
        Difference::Gone { effect, .. } => vec![format!("step `{}` writes less: {}", effect.step, effect.operation)],
        Difference::Changed { before, now, fields } => {
            let mut kinds: Vec<_> =
                fields.iter().map(|change| format!("step `{}`: `{}` changes", now.step, change.field)).collect();
            if before.step != now.step {
                kinds.push(format!("step `{}` writes what `{}` wrote", now.step, before.step));
            }
            if before.operation != now.operation {
                kinds.push(format!("step `{}`: {} instead of {}", now.step, now.operation, before.operation));
            }
            if before.fate != now.fate {
                kinds.push(format!("step `{}`: {} instead of {}", now.step, now.fate, before.fate));
            }
            kinds
        }
        Difference::Step { step, before, now } => vec![format!("step `{step}`: {now} instead of {before}")],
        Difference::State { before, now, .. } => vec![format!("the run {} instead of {}", now.name(), before.name())],
        Difference::Outputs { .. } => vec!["the outputs change".to_owned()],
    }
}
