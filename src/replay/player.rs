//! Answers calls from a cassette.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use async_trait::async_trait;

use super::calls;
use super::cassette::Cassette;
use super::cassette::KeptCall;
use super::cassette::KeptSaid;
use super::clock::Virtual;
use super::found::Entry;
use super::found::Found;
use super::found::Wanted;
use super::found::find;
use crate::difference::changes;
use crate::engine::Call;
use crate::engine::Said;
use crate::engine::Tape;
use crate::model::Answer;
use crate::model::Duration;
use crate::model::Effect;
use crate::model::Lapse;
use crate::model::RunEvent;
use crate::model::RunId;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::model::Value;
use crate::node::Candidate;
use crate::node::NodeError;
use crate::node::Outcome;
use crate::node::Reconciled;
use crate::pipeline::Pipeline;
use crate::system::Clock;

/// Why a step run sleeps that nothing on the cassette answers.
pub(super) const UNKNOWN: &str = "the recording has no answer for it";
/// Longer than any run.
const FOR_EVER: Duration = Duration::from_secs(200 * 365 * 86_400);

/// A call that nothing on the cassette answers.
#[derive(Clone, Debug, PartialEq)]
pub struct Miss {
    /// The step run.
    pub place: String,
    pub node: Arc<str>,
    /// What differs from the nearest recorded call.
    pub reason: String,
}

/// The tape that plays.
#[derive(Debug)]
pub(super) struct Player {
    clock: Virtual,
    rows: HashMap<String, Vec<Value>>,
    playing: Mutex<Playing>,
}

#[derive(Debug)]
struct Playing {
    entries: Vec<Entry>,
    /// What stands before the steps of each run.
    prefixes: HashMap<RunId, String>,
    /// When attempts began, by prefix and path.
    moments: HashMap<(String, StepPath, u32), VecDeque<Timestamp>>,
    /// What people answered, by prefix and path.
    answers: HashMap<(String, StepPath), VecDeque<(Timestamp, Answer)>>,
    misses: Vec<Miss>,
    /// Writes that were answered by the answer to another one.
    supposed: Vec<String>,
    /// What calls were asked, by the recorded call that answered.
    asked: HashMap<usize, Value>,
}

impl Player {
    /// Makes the player of a cassette. `pipeline` is the version that was recorded.
    pub(super) fn new(cassette: &Cassette, pipeline: &Arc<Pipeline>, clock: Virtual) -> Self {
        let prefixes: HashMap<_, _> = cassette.runs.iter().map(|run| (run.id, run.prefix.clone())).collect();
        let prefix = |run: RunId| prefixes.get(&run).cloned().unwrap_or_default();
        let calls = cassette.calls.iter().cloned().chain(from_caches(cassette, pipeline));
        let entries = calls.map(|call| Entry { prefix: prefix(call.run), call, used: false }).collect();
        let mut answers: HashMap<_, VecDeque<_>> = HashMap::new();
        for (index, (run, event)) in cassette.events.iter().enumerate() {
            let RunEvent::Asked { path, .. } = event else { continue };
            let behind = cassette.events.iter().skip(index + 1).filter(|(other, _)| other == run);
            let end = behind.map(|(_, event)| event).find_map(|event| match event {
                RunEvent::Succeeded { path: own, at, output, .. } if own == path => Some((*at, Ok(output.clone()))),
                RunEvent::Round { path: own, at, output, .. } if own == path => Some((*at, Ok(output.clone()))),
                RunEvent::Failed { path: own, at, error, .. } if own == path => Some((*at, Err((**error).clone()))),
                _ => None,
            });
            answers.entry((prefix(*run), path.clone())).or_default().extend(end);
        }
        let playing = Playing {
            entries,
            moments: moments(cassette, &prefix),
            answers,
            prefixes,
            misses: Vec::new(),
            supposed: Vec::new(),
            asked: HashMap::new(),
        };
        Self { clock, rows: cassette.rows.clone(), playing: Mutex::new(playing) }
    }

    /// Takes out what was missing, and the places of writes whose answers are supposed.
    pub(super) fn ended(&self) -> (Vec<Miss>, Vec<String>, HashMap<usize, Value>) {
        let mut playing = self.playing();
        let playing = &mut *playing;
        (std::mem::take(&mut playing.misses), std::mem::take(&mut playing.supposed), std::mem::take(&mut playing.asked))
    }

    fn playing(&self) -> MutexGuard<'_, Playing> {
        self.playing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Decides what answers a call.
    fn choose(&self, call: &Call) -> Choice {
        let mut playing = self.playing();
        let playing = &mut *playing;
        let prefix = playing.prefixes.get(&call.run).cloned().unwrap_or_default();
        let wanted = Wanted {
            prefix: &prefix,
            path: &call.path,
            node: &call.node,
            question: call.question,
            writes: call.effect.is_write() && !call.question,
            input: &call.input,
        };
        let place = format!("{prefix}{}", call.path);
        let found = find(&playing.entries, &wanted);
        let index = match found {
            Found::Same(index) => index,
            Found::Near(index) => {
                if !playing.supposed.contains(&place) {
                    playing.supposed.push(place);
                }
                index
            }
            Found::Nothing(near) => {
                let near = near.and_then(|index| playing.entries.get(index));
                // The steps of an operation begin with what it was given and what its connection says.
                if let Some(inputs) = near.and_then(|near| begun_with(&near.call, &call.input)) {
                    return Choice::Say(KeptSaid::Steps { inputs }, Duration::ZERO);
                }
                let reason = differs(&call.node, near.map(|near| &near.call), &call.input);
                playing.misses.push(Miss { place, node: call.node.clone(), reason });
                return Choice::Unknown;
            }
        };
        let Some(entry) = playing.entries.get_mut(index) else { return Choice::Unknown };
        entry.used = true;
        playing.asked.insert(index, call.input.clone());
        match &entry.call.said {
            KeptSaid::Itself => Choice::Itself,
            said => Choice::Say(said.clone(), entry.call.took),
        }
    }

    /// Returns an output with the rows that it names, so that they are put into this run's store.
    fn whole(&self, output: Value) -> Value {
        match &output {
            Value::Dataset(dataset) => {
                self.rows.get(&dataset.id).map_or_else(|| output.clone(), |rows| Value::list(rows.clone()))
            }
            _ => output,
        }
    }

    fn say(&self, said: KeptSaid, node: &str) -> Option<Said> {
        let outcome = match said {
            KeptSaid::Done { output } => Ok(Outcome::Done(self.whole(output))),
            KeptSaid::Created { output, remote_id } => Ok(Outcome::Created { output, remote_id }),
            KeptSaid::Later { until, reason } => Ok(Outcome::Later { until, reason }),
            KeptSaid::Steps { inputs } => Ok(Outcome::Child { pipeline: node.to_owned(), inputs }),
            KeptSaid::Failed { class, message, happened, retry_after, attempts } => {
                let error = NodeError::message(class, message);
                Err(NodeError { happened, retry_after, attempts, ..error })
            }
            KeptSaid::Found { candidates } => {
                let found = candidates.into_iter().map(|(remote_id, output)| Candidate { remote_id, output });
                return Some(Said::Reconciled(Ok(Reconciled::Found(found.collect()))));
            }
            KeptSaid::NotFound => return Some(Said::Reconciled(Ok(Reconciled::NotFound))),
            KeptSaid::Itself | KeptSaid::Nothing => return None,
        };
        Some(Said::Done(outcome))
    }
}

enum Choice {
    Say(KeptSaid, Duration),
    Itself,
    Unknown,
}

/// Lists what steps were given from the cache, where no node was asked.
fn from_caches(cassette: &Cassette, pipeline: &Arc<Pipeline>) -> Vec<KeptCall> {
    let pipelines = calls::pipelines(cassette.head.run, pipeline, &cassette.events);
    let mut found = Vec::new();
    for (run, event) in &cassette.events {
        let RunEvent::Succeeded { path, attempt, at, output, .. } = event else { continue };
        let Some(doing) = pipelines.get(run).and_then(|pipeline| calls::doing(pipeline, path)) else { continue };
        let asked = cassette.calls.iter().any(|call| call.run == *run && call.path == *path);
        if asked || doing.effect == Effect::Pure || doing.effect.is_write() || doing.child.is_some() {
            continue;
        }
        found.push(KeptCall {
            run: *run,
            path: path.clone(),
            attempt: *attempt,
            question: false,
            node: doing.node,
            writes: false,
            input: None,
            began: *at,
            took: Duration::ZERO,
            said: KeptSaid::Done { output: output.clone() },
            wire: Vec::new(),
        });
    }
    found
}

/// Reads when attempts began.
fn moments(
    cassette: &Cassette,
    prefix: &dyn Fn(RunId) -> String,
) -> HashMap<(String, StepPath, u32), VecDeque<Timestamp>> {
    let mut begun: HashMap<(String, StepPath, u32), VecDeque<Timestamp>> = HashMap::new();
    for (run, event) in &cassette.events {
        if let RunEvent::StepStarted { path, attempt, at } = event {
            begun.entry((prefix(*run), path.clone(), *attempt)).or_default().push_back(*at);
        }
    }
    let mut pure: HashMap<(String, StepPath, u32), VecDeque<Timestamp>> = HashMap::new();
    for (run, event) in &cassette.events {
        let (path, attempt, started) = match event {
            RunEvent::Succeeded { path, attempt, started, .. }
            | RunEvent::Failed { path, attempt, started, .. }
            | RunEvent::Round { path, attempt, started, .. } => (path, *attempt, *started),
            _ => continue,
        };
        let key = (prefix(*run), path.clone(), attempt.max(1));
        if !begun.contains_key(&key) {
            pure.entry(key).or_default().push_back(started);
        }
    }
    begun.extend(pure);
    begun
}

/// Makes what the steps of an operation begin with, when it is given something else than it was.
fn begun_with(kept: &KeptCall, input: &Value) -> Option<Value> {
    let KeptSaid::Steps { inputs } = &kept.said else { return None };
    let mut given = inputs.get("input")?.as_map()?.clone();
    for (key, value) in input.as_map()?.iter().filter(|(key, _)| &***key != "connection") {
        given.insert(key.clone(), value.clone());
    }
    let mut inputs = inputs.as_map()?.clone();
    inputs.insert("input".into(), Value::from(given));
    Some(Value::from(inputs))
}

/// Says what a call has that the nearest recorded one has not.
fn differs(node: &str, near: Option<&KeptCall>, input: &Value) -> String {
    let Some(near) = near else { return format!("no call of `{node}` was recorded") };
    let Some(before) = &near.input else {
        return format!("the store does not keep what reads such as `{}` were asked", near.path);
    };
    let changes = changes(before, input);
    let Some(first) = changes.first() else { return "it was not asked as often".to_owned() };
    let shown = |value: &Option<Value>| value.as_ref().map_or_else(|| "nothing".to_owned(), short);
    let field = if first.field.is_empty() { "its input" } else { &first.field };
    let more = changes.len() - 1;
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    format!("`{field}` is {}, and was {} when `{}` was recorded{more}", shown(&first.new), shown(&first.old), near.path)
}

/// Returns a value on a line that people can read.
pub(super) fn short(value: &Value) -> String {
    const MOST: usize = 60;
    let text = value.to_string();
    if text.chars().count() <= MOST { text } else { text.chars().take(MOST - 1).chain(['…']).collect() }
}

#[async_trait]
impl Tape for Player {
    fn moment(&self, run: RunId, path: &StepPath, attempt: u32) -> Option<Timestamp> {
        let mut playing = self.playing();
        let prefix = playing.prefixes.get(&run).cloned()?;
        let begun = playing.moments.get_mut(&(prefix, path.clone(), attempt))?;
        let moment = if begun.len() > 1 { begun.pop_front() } else { begun.front().copied() };
        if let Some(moment) = moment {
            self.clock.advance_to(moment);
        }
        moment
    }

    async fn answer(&self, call: &Call) -> Option<Said> {
        match self.choose(call) {
            Choice::Itself => None,
            Choice::Say(KeptSaid::Nothing, _) => std::future::pending().await,
            Choice::Say(said, took) => {
                self.clock.sleep(took).await;
                self.say(said, &call.node)
            }
            Choice::Unknown if call.question => std::future::pending().await,
            Choice::Unknown => {
                let until = self.clock.now().plus(FOR_EVER);
                Some(Said::Done(Ok(Outcome::Wait { until, reason: UNKNOWN.to_owned(), then: Value::Null })))
            }
        }
    }

    fn hear(&self, call: &Call, said: Said) -> Said {
        let Said::Done(Ok(Outcome::Ask { kind, request, reason, lapse, .. })) = said else { return said };
        let mut playing = self.playing();
        let prefix = playing.prefixes.get(&call.run).cloned().unwrap_or_default();
        let answers = playing.answers.get_mut(&(prefix, call.path.clone()));
        // Whoever was asked answers as they did, when they did.
        let lapse = match answers.and_then(VecDeque::pop_front) {
            Some((at, answer)) => Some(Lapse { at, answer }),
            None => lapse,
        };
        // What was bound to a plan then was judged then.
        Said::Done(Ok(Outcome::Ask { kind, request, reason, lapse, binds: false }))
    }

    fn child(&self, parent: RunId, path: &StepPath, child: RunId) {
        let mut playing = self.playing();
        let prefix = playing.prefixes.get(&parent).cloned().unwrap_or_default();
        playing.prefixes.insert(child, format!("{prefix}{path} > "));
    }
}
