//! The facts in a run's journal. Replaying them rebuilds the run; the same events feed the CLI, the log and the API.

use std::sync::Arc;

use super::Ask;
use super::AskId;
use super::EffectId;
use super::ErrorClass;
use super::Happened;
use super::Lapse;
use super::Map;
use super::Phase;
use super::RunId;
use super::RunState;
use super::StepError;
use super::StepPath;
use super::Timestamp;
use super::Value;
use super::WriteKind;

/// What is durable before a write's request leaves.
#[derive(Clone, Debug, PartialEq)]
pub struct EffectIntent {
    pub id: EffectId,
    /// The business key: the step's `key`, else the effect id.
    pub key: Arc<str>,
    pub kind: WriteKind,
    /// The node's rendered input, exactly what is sent (again). Stored sealed where it is secret.
    pub request: Value,
    /// The first byte leaves before this moment, or not at all.
    pub send_before: Timestamp,
    /// The answer comes before this moment, or never.
    pub answer_before: Timestamp,
    /// Equal for effects that the remote cannot tell apart, so that one is not settled by the other's object. Only
    /// where the remote can be asked.
    pub fingerprint: Option<Arc<str>>,
}

/// Who or what settled an effect in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettledBy {
    /// Sending again does no harm (`repeat`).
    Repeat,
    /// The remote was asked (`reconcile`).
    Reconcile,
    /// The step's `in_doubt`.
    Policy,
    /// A person, by `pipewright effects resolve`.
    Person,
}

/// How an effect in doubt was settled.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// It happened; this is its output, and the remote object's id where one is known.
    Happened { output: Value, remote_id: Option<String> },
    /// It did not happen and is sent again.
    SendAgain,
    /// It is left as it is: the step counts as skipped.
    Dropped,
}

/// One fact in a run's journal.
#[derive(Clone, Debug, PartialEq)]
pub enum RunEvent {
    /// A worker began (or went on with) the run.
    Started { at: Timestamp },
    /// The run is bound to a plan from here on: the effects that it may have, as `engine::plan::Bond` writes it.
    Planned { at: Timestamp, bond: Value },
    /// The items of a `for_each` are known. `step` has neither item nor round.
    Items { step: StepPath, items: Value, at: Timestamp },
    /// An attempt began. Journaled for steps that look outside; a pure step shows only in its result.
    StepStarted { path: StepPath, attempt: u32, at: Timestamp },
    /// A write is about to leave.
    Intent { path: StepPath, attempt: u32, intent: Box<EffectIntent>, at: Timestamp },
    /// A step run ended well. `recovered` is the error that `on_error: { default }` replaced.
    Succeeded {
        path: StepPath,
        attempt: u32,
        started: Timestamp,
        at: Timestamp,
        output: Value,
        recovered: Option<Box<StepError>>,
    },
    /// An attempt failed; for good when there is no `retry_at`. One that was put off before anything was sent bears the
    /// number before its own: it does not count.
    Failed {
        path: StepPath,
        attempt: u32,
        started: Timestamp,
        at: Timestamp,
        error: Box<StepError>,
        happened: Happened,
        retry_at: Option<Timestamp>,
    },
    /// The step does not run (`when`, or `in_doubt: drop`).
    Skipped { path: StepPath, at: Timestamp, reason: Arc<str> },
    /// The step run sleeps; on waking it ends with `then`, or is started again when there is none.
    Waiting { path: StepPath, at: Timestamp, until: Option<Timestamp>, reason: Arc<str>, then: Option<Value> },
    /// A round of an `until` ended and its condition did not hold; the next one begins at `until`.
    Round { path: StepPath, attempt: u32, started: Timestamp, at: Timestamp, output: Value, until: Timestamp },
    /// A write's answer was lost.
    InDoubt { path: StepPath, effect: EffectId, at: Timestamp, error: Box<StepError> },
    /// A doubt was settled.
    Settled { path: StepPath, effect: EffectId, at: Timestamp, by: SettledBy, verdict: Box<Verdict> },
    /// The step run asks, and sleeps until a signal brings the answer or the ask lapses.
    Asked { path: StepPath, attempt: u32, at: Timestamp, ask: Box<Ask> },
    /// The step run sleeps no longer: its child run was told something.
    Woken { path: StepPath, at: Timestamp },
    /// A child run was started for the step.
    Child { path: StepPath, run: RunId, at: Timestamp },
    /// The step run was canceled.
    StepCanceled { path: StepPath, at: Timestamp },
    /// Someone asked for the run to end. `undo`: compensate what was done. `reason`: where it was no person.
    CancelRequested { at: Timestamp, undo: bool, reason: Option<Arc<str>> },
    /// A person asked to run again what failed; with `from`, also that step and all behind it.
    Retried { at: Timestamp, from: Option<Arc<str>> },
    /// The outcome of the main part is clear (`state`, `error`); a later phase begins.
    PhaseStarted { phase: Phase, at: Timestamp, state: RunState, error: Option<Box<StepError>> },
    /// No step run can go on without a wait.
    Parked { at: Timestamp, until: Option<Timestamp>, reason: Arc<str> },
    /// The run ended.
    Finished { at: Timestamp, state: RunState, outputs: Value, error: Option<Box<StepError>> },
}

impl RunEvent {
    /// Returns when it happened.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Started { at }
            | Self::Planned { at, .. }
            | Self::Items { at, .. }
            | Self::StepStarted { at, .. }
            | Self::Intent { at, .. }
            | Self::Succeeded { at, .. }
            | Self::Failed { at, .. }
            | Self::Skipped { at, .. }
            | Self::Waiting { at, .. }
            | Self::Round { at, .. }
            | Self::InDoubt { at, .. }
            | Self::Settled { at, .. }
            | Self::Retried { at, .. }
            | Self::Asked { at, .. }
            | Self::Woken { at, .. }
            | Self::Child { at, .. }
            | Self::StepCanceled { at, .. }
            | Self::CancelRequested { at, .. }
            | Self::PhaseStarted { at, .. }
            | Self::Parked { at, .. }
            | Self::Finished { at, .. } => *at,
        }
    }

    /// Returns the step run that it is about.
    #[must_use]
    pub fn path(&self) -> Option<&StepPath> {
        match self {
            Self::Items { step: path, .. }
            | Self::StepStarted { path, .. }
            | Self::Intent { path, .. }
            | Self::Succeeded { path, .. }
            | Self::Failed { path, .. }
            | Self::Skipped { path, .. }
            | Self::Waiting { path, .. }
            | Self::Round { path, .. }
            | Self::InDoubt { path, .. }
            | Self::Settled { path, .. }
            | Self::Asked { path, .. }
            | Self::Woken { path, .. }
            | Self::Child { path, .. }
            | Self::StepCanceled { path, .. } => Some(path),
            _ => None,
        }
    }

    /// Returns the word under which it is stored and shown.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Started { .. } => "started",
            Self::Planned { .. } => "planned",
            Self::Items { .. } => "items",
            Self::StepStarted { .. } => "step_started",
            Self::Intent { .. } => "intent",
            Self::Succeeded { .. } => "succeeded",
            Self::Failed { .. } => "failed",
            Self::Skipped { .. } => "skipped",
            Self::Waiting { .. } => "waiting",
            Self::Round { .. } => "round",
            Self::InDoubt { .. } => "in_doubt",
            Self::Settled { .. } => "settled",
            Self::Asked { .. } => "asked",
            Self::Woken { .. } => "woken",
            Self::Child { .. } => "child",
            Self::StepCanceled { .. } => "step_canceled",
            Self::CancelRequested { .. } => "cancel_requested",
            Self::Retried { .. } => "retried",
            Self::PhaseStarted { .. } => "phase",
            Self::Parked { .. } => "parked",
            Self::Finished { .. } => "finished",
        }
    }

    /// Returns the event as an object: what the store keeps and `--json` prints.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let mut map = Map::with_capacity(10);
        let mut put = |key: &str, value: Value| {
            map.insert(key.into(), value);
        };
        put("event", self.name().into());
        put("at", Value::Int(self.at().micros().into()));
        if let Some(path) = self.path() {
            put("path", path.to_string().into());
        }
        match self {
            Self::Started { .. } | Self::StepCanceled { .. } | Self::Woken { .. } => {}
            Self::Planned { bond, .. } => put("bond", bond.clone()),
            Self::Items { items, .. } => put("items", items.clone()),
            Self::StepStarted { attempt, .. } => put("attempt", (*attempt).into()),
            Self::Intent { attempt, intent, .. } => {
                put("attempt", (*attempt).into());
                put("effect", (&*intent.id.0).into());
                put("key", (&*intent.key).into());
                put("kind", intent.kind.name().into());
                put("request", intent.request.clone());
                put("send_before", Value::Int(intent.send_before.micros().into()));
                put("answer_before", Value::Int(intent.answer_before.micros().into()));
                put("fingerprint", intent.fingerprint.as_deref().map_or(Value::Null, Value::from));
            }
            Self::Succeeded { attempt, started, output, recovered, .. } => {
                put("attempt", (*attempt).into());
                put("started", Value::Int(started.micros().into()));
                put("output", output.clone());
                if let Some(error) = recovered {
                    put("recovered", error.to_value());
                }
            }
            Self::Failed { attempt, started, error, happened, retry_at, .. } => {
                put("attempt", (*attempt).into());
                put("started", Value::Int(started.micros().into()));
                put("error", error.to_value());
                put("happened", if *happened == Happened::No { "no" } else { "perhaps" }.into());
                put("retry_at", time_value(*retry_at));
            }
            Self::Skipped { reason, .. } => put("reason", (&**reason).into()),
            Self::Waiting { until, reason, then, .. } => {
                put("until", time_value(*until));
                put("reason", (&**reason).into());
                if let Some(then) = then {
                    put("then", then.clone());
                }
            }
            Self::Round { attempt, started, output, until, .. } => {
                put("attempt", (*attempt).into());
                put("started", Value::Int(started.micros().into()));
                put("output", output.clone());
                put("until", time_value(Some(*until)));
            }
            Self::Retried { from, .. } => put("from", from.as_deref().map_or(Value::Null, Value::from)),
            Self::InDoubt { effect, error, .. } => {
                put("effect", (&*effect.0).into());
                put("error", error.to_value());
            }
            Self::Settled { effect, by, verdict, .. } => {
                put("effect", (&*effect.0).into());
                put("by", by.name().into());
                match &**verdict {
                    Verdict::Happened { output, remote_id } => {
                        put("verdict", "happened".into());
                        put("output", output.clone());
                        put("remote_id", remote_id.as_deref().map_or(Value::Null, Value::from));
                    }
                    Verdict::SendAgain => put("verdict", "send_again".into()),
                    Verdict::Dropped => put("verdict", "dropped".into()),
                }
            }
            Self::Asked { attempt, ask, .. } => {
                put("attempt", (*attempt).into());
                put("ask", (&*ask.id.0).into());
                put("kind", (&*ask.kind).into());
                put("request", ask.request.clone());
                put("reason", (&*ask.reason).into());
                put("lapse", ask.lapse.as_ref().map_or(Value::Null, Lapse::to_value));
            }
            Self::Child { run, .. } => put("run", run.to_string().into()),
            Self::CancelRequested { undo, reason, .. } => {
                put("undo", (*undo).into());
                if let Some(reason) = reason {
                    put("reason", (&**reason).into());
                }
            }
            Self::PhaseStarted { phase, state, error, .. } => {
                put("phase", phase.name().into());
                put("state", state.name().into());
                put("error", error.as_deref().map_or(Value::Null, StepError::to_value));
            }
            Self::Parked { until, reason, .. } => {
                put("until", time_value(*until));
                put("reason", (&**reason).into());
            }
            Self::Finished { state, outputs, error, .. } => {
                put("state", state.name().into());
                put("outputs", outputs.clone());
                put("error", error.as_deref().map_or(Value::Null, StepError::to_value));
            }
        }
        Value::from(map)
    }

    /// Reads the object back.
    ///
    /// # Errors
    /// What is missing or wrong, when a newer or damaged store holds something else.
    pub fn from_value(value: &Value) -> Result<Self, String> {
        let reader = Reader(value);
        let at = reader.time("at")?;
        let path = || reader.text("path")?.parse::<StepPath>();
        let effect = || reader.text("effect").map(|text| EffectId(text.into()));
        let event = match reader.text("event")? {
            "started" => Self::Started { at },
            "planned" => Self::Planned { at, bond: reader.value("bond") },
            "items" => Self::Items { step: path()?, items: reader.value("items"), at },
            "step_started" => Self::StepStarted { path: path()?, attempt: reader.count("attempt")?, at },
            "intent" => {
                let kind = reader.text("kind")?;
                let intent = EffectIntent {
                    id: effect()?,
                    key: reader.text("key")?.into(),
                    kind: WriteKind::by_name(kind).ok_or_else(|| format!("unknown kind `{kind}`"))?,
                    request: reader.value("request"),
                    send_before: reader.time("send_before")?,
                    answer_before: reader.time("answer_before")?,
                    fingerprint: reader.value("fingerprint").as_str().map(Into::into),
                };
                Self::Intent { path: path()?, attempt: reader.count("attempt")?, intent: Box::new(intent), at }
            }
            "succeeded" => Self::Succeeded {
                path: path()?,
                attempt: reader.count("attempt")?,
                started: reader.time("started")?,
                at,
                output: reader.value("output"),
                recovered: reader.optional_error("recovered")?,
            },
            "failed" => Self::Failed {
                path: path()?,
                attempt: reader.count("attempt")?,
                started: reader.time("started")?,
                at,
                error: reader.optional_error("error")?.ok_or("no `error`")?,
                happened: if reader.text("happened")? == "no" { Happened::No } else { Happened::Perhaps },
                retry_at: reader.optional_time("retry_at")?,
            },
            "skipped" => Self::Skipped { path: path()?, at, reason: reader.text("reason")?.into() },
            "waiting" => Self::Waiting {
                path: path()?,
                at,
                until: reader.optional_time("until")?,
                reason: reader.text("reason")?.into(),
                then: value.get("then").cloned(),
            },
            "round" => Self::Round {
                path: path()?,
                attempt: reader.count("attempt")?,
                started: reader.time("started")?,
                at,
                output: reader.value("output"),
                until: reader.time("until")?,
            },
            "retried" => Self::Retried { at, from: value.get("from").and_then(Value::as_str).map(Into::into) },
            "in_doubt" => Self::InDoubt {
                path: path()?,
                effect: effect()?,
                at,
                error: reader.optional_error("error")?.ok_or("no `error`")?,
            },
            "settled" => {
                let verdict = match reader.text("verdict")? {
                    "happened" => Verdict::Happened {
                        output: reader.value("output"),
                        remote_id: value.get("remote_id").and_then(Value::as_str).map(str::to_owned),
                    },
                    "send_again" => Verdict::SendAgain,
                    "dropped" => Verdict::Dropped,
                    other => return Err(format!("unknown verdict `{other}`")),
                };
                let by = reader.text("by")?;
                let by = SettledBy::by_name(by).ok_or_else(|| format!("unknown settler `{by}`"))?;
                Self::Settled { path: path()?, effect: effect()?, at, by, verdict: Box::new(verdict) }
            }
            "asked" => {
                let lapse = reader.value("lapse");
                let read = || Lapse::from_value(&lapse).ok_or_else(|| "no `lapse`".to_owned());
                let ask = Ask {
                    id: AskId(reader.text("ask")?.into()),
                    kind: reader.text("kind")?.into(),
                    request: reader.value("request"),
                    reason: reader.text("reason")?.into(),
                    lapse: if lapse.is_null() { None } else { Some(read()?) },
                };
                Self::Asked { path: path()?, attempt: reader.count("attempt")?, at, ask: Box::new(ask) }
            }
            "woken" => Self::Woken { path: path()?, at },
            "child" => Self::Child { path: path()?, run: reader.text("run")?.parse()?, at },
            "step_canceled" => Self::StepCanceled { path: path()?, at },
            "cancel_requested" => Self::CancelRequested {
                at,
                undo: value.get("undo").and_then(Value::as_bool).unwrap_or(false),
                reason: value.get("reason").and_then(Value::as_str).map(Into::into),
            },
            "phase" => {
                let name = reader.text("phase")?;
                let phases = [Phase::Main, Phase::Undo, Phase::OnFailure, Phase::Finally];
                let phase = phases.into_iter().find(|phase| phase.name() == name);
                Self::PhaseStarted {
                    phase: phase.ok_or_else(|| format!("unknown phase `{name}`"))?,
                    at,
                    state: reader.state()?,
                    error: reader.optional_error("error")?,
                }
            }
            "parked" => {
                Self::Parked { at, until: reader.optional_time("until")?, reason: reader.text("reason")?.into() }
            }
            "finished" => Self::Finished {
                at,
                state: reader.state()?,
                outputs: reader.value("outputs"),
                error: reader.optional_error("error")?,
            },
            other => return Err(format!("unknown event `{other}`")),
        };
        Ok(event)
    }
}

impl SettledBy {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Repeat => "repeat",
            Self::Reconcile => "reconcile",
            Self::Policy => "policy",
            Self::Person => "person",
        }
    }

    /// Finds the settler by its lower-case word.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        [Self::Repeat, Self::Reconcile, Self::Policy, Self::Person].into_iter().find(|by| by.name() == name)
    }
}

fn time_value(time: Option<Timestamp>) -> Value {
    time.map_or(Value::Null, |time| Value::Int(time.micros().into()))
}

struct Reader<'a>(&'a Value);

impl<'a> Reader<'a> {
    fn text(&self, key: &str) -> Result<&'a str, String> {
        self.0.get(key).and_then(Value::as_str).ok_or_else(|| format!("no `{key}`"))
    }

    fn value(&self, key: &str) -> Value {
        self.0.get(key).cloned().unwrap_or_default()
    }

    fn integer(&self, key: &str) -> Result<i128, String> {
        match self.0.get(key) {
            Some(Value::Int(integer)) => Ok(*integer),
            _ => Err(format!("no `{key}`")),
        }
    }

    fn time(&self, key: &str) -> Result<Timestamp, String> {
        i64::try_from(self.integer(key)?).map(Timestamp).map_err(|_| format!("`{key}` is not a time"))
    }

    fn optional_time(&self, key: &str) -> Result<Option<Timestamp>, String> {
        match self.0.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(_) => self.time(key).map(Some),
        }
    }

    fn state(&self) -> Result<RunState, String> {
        let state = self.text("state")?;
        RunState::by_name(state).ok_or_else(|| format!("unknown state `{state}`"))
    }

    fn count(&self, key: &str) -> Result<u32, String> {
        u32::try_from(self.integer(key)?).map_err(|_| format!("`{key}` is not a count"))
    }

    fn optional_error(&self, key: &str) -> Result<Option<Box<StepError>>, String> {
        let Some(error) = self.0.get(key).filter(|error| !error.is_null()) else { return Ok(None) };
        let reader = Reader(error);
        let class = reader.text("class")?;
        let class = ErrorClass::ALL.into_iter().find(|known| known.name() == class);
        let message = reader.text("message")?.to_owned();
        Ok(Some(Box::new(StepError { class: class.ok_or("unknown error class")?, message })))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_survives_the_store() {
        let path: StepPath = "publish[3]#2".parse().unwrap();
        let at = Timestamp(1_700_000_000_000_000);
        let error = Box::new(StepError { class: ErrorClass::Timeout, message: "no answer".into() });
        let effect = EffectId("01/publish".into());
        let output = Value::map([("id", Value::from(7))]);
        let intent = EffectIntent {
            id: effect.clone(),
            key: "k".into(),
            kind: WriteKind::Create,
            request: output.clone(),
            send_before: at,
            answer_before: at,
            fingerprint: Some("f".into()),
        };
        let verdict = Verdict::Happened { output: output.clone(), remote_id: Some("7".into()) };
        let asked = |lapse| {
            let (id, kind) = (AskId("01A".into()), Ask::APPROVAL.into());
            let ask = Ask { id, kind, request: output.clone(), reason: "x".into(), lapse };
            RunEvent::Asked { path: path.clone(), attempt: 1, at, ask: Box::new(ask) }
        };
        let events = [
            RunEvent::Started { at },
            RunEvent::Items { step: path.clone(), items: Value::list(vec![1.into()]), at },
            RunEvent::StepStarted { path: path.clone(), attempt: 1, at },
            RunEvent::Intent { path: path.clone(), attempt: 1, intent: Box::new(intent), at },
            RunEvent::Succeeded {
                path: path.clone(),
                attempt: 2,
                started: at,
                at,
                output: output.clone(),
                recovered: Some(error.clone()),
            },
            RunEvent::Failed {
                path: path.clone(),
                attempt: 1,
                started: at,
                at,
                error: error.clone(),
                happened: Happened::Perhaps,
                retry_at: Some(at),
            },
            RunEvent::Skipped { path: path.clone(), at, reason: "when".into() },
            RunEvent::Waiting { path: path.clone(), at, until: None, reason: "x".into(), then: Some(Value::Null) },
            RunEvent::Round { path: path.clone(), attempt: 1, started: at, at, output: output.clone(), until: at },
            RunEvent::InDoubt { path: path.clone(), effect: effect.clone(), at, error: error.clone() },
            RunEvent::Settled { path: path.clone(), effect, at, by: SettledBy::Person, verdict: Box::new(verdict) },
            asked(Some(Lapse { at, answer: Err((*error).clone()) })),
            asked(Some(Lapse { at, answer: Ok(output.clone()) })),
            asked(None),
            RunEvent::Woken { path: path.clone(), at },
            RunEvent::Child { path: path.clone(), run: RunId::new(5, 6), at },
            RunEvent::StepCanceled { path: path.clone(), at },
            RunEvent::CancelRequested { at, undo: true, reason: Some("full".into()) },
            RunEvent::PhaseStarted { phase: Phase::Undo, at, state: RunState::Failed, error: Some(error.clone()) },
            RunEvent::Retried { at, from: Some("publish".into()) },
            RunEvent::Parked { at, until: Some(at), reason: "x".into() },
            RunEvent::Finished { at, state: RunState::Failed, outputs: output.clone(), error: Some(error) },
        ];
        for event in events {
            assert_eq!(RunEvent::from_value(&event.to_value()), Ok(event.clone()), "{}", event.name());
        }
    }
}
