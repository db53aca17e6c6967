//! What comes back: results of attempts, answers about doubts, rows, child runs.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinError;

use super::Engine;
use super::Execution;
use super::Machine;
use super::bound::Asking;
use super::claim::Asked;
use super::driver::Driver;
use super::machine::UnitKey;
use super::perform::Doing;
use super::perform::duration;
use super::plan::Plan;
use super::probe::Point;
use super::retry::next_attempt;
use super::sink::DatasetSink;
use crate::model::AskId;
use crate::model::ErrorClass;
use crate::model::Happened;
use crate::model::Phase;
use crate::model::RunId;
use crate::model::RunState;
use crate::model::SettledBy;
use crate::model::StepError;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::Verdict;
use crate::node::LogLevel;
use crate::node::LogSink;
use crate::node::NodeError;
use crate::node::Outcome;
use crate::node::ROWS_A_BATCH;
use crate::node::WireRecord;
use crate::pipeline::COMPOSITE_OUTPUT;
use crate::pipeline::OnError;
use crate::store::Record;
use crate::store::SpendingRecord;
use crate::template::EvalError;
use crate::template::Scope;

/// What a job came to.
pub(super) enum Done {
    Attempt(Timestamp, AttemptEnd),
    Cache(Result<Option<Value>, crate::store::Error>, Box<(Doing, Value, Scope)>),
    /// What the attempt of a paid read that was cut off has asked for money.
    Paid(Result<Vec<SpendingRecord>, crate::store::Error>, Box<(Doing, Value, Scope)>),
    /// Rows of a dataset that a `for_each` walks over.
    Rows(Result<Vec<Value>, crate::store::Error>),
    /// A step's rows were stored as a dataset.
    Stored(Timestamp, Result<Value, crate::store::Error>),
    Asked(Asked),
    /// What a child run came to, and whether it failed because a paid answer was lost.
    Child(Timestamp, Result<Execution, super::Error>, bool),
    /// A child run is left to whoever claims it.
    Away,
    /// A child run that the journal names was never made.
    Unmade,
    /// What is asked has lapsed, or (`false`) was answered before.
    Lapsed(AskId, Result<crate::store::Lapsed, crate::store::Error>),
    /// Whether the locks that were asked for are held now; which they are.
    Locks(Result<bool, super::Error>, Vec<Arc<str>>),
    /// What comes behind an approval is planned, which is to be asked with that.
    Planned(Box<(Asking, Result<Plan, super::Error>)>),
    /// There is room for the step among those of this process.
    Room(OwnedSemaphorePermit),
    /// The store failed: the run cannot go on here.
    Failed(crate::store::Error),
}

impl Done {
    /// What became of a child run; nothing where it is left to others.
    pub(super) async fn child(
        engine: &Engine,
        child: RunId,
        started: Timestamp,
        result: Result<Option<Execution>, super::Error>,
    ) -> Self {
        let Some(result) = result.transpose() else { return Self::Away };
        let failed = matches!(result, Ok(Execution::Finished { state: RunState::Failed, .. }));
        match if failed { engine.has_lost(child).await } else { Ok(false) } {
            Ok(lost) => Self::Child(started, result, lost),
            Err(error) => Self::Failed(error),
        }
    }
}

/// The end of an attempt.
pub(super) enum AttemptEnd {
    Node(Result<Outcome, NodeError>),
    /// The send window had passed before the first byte: nothing was sent.
    Expired,
}

/// Returns the address of a cache entry: a hash over the operation and its key or input.
pub(super) fn cache_address(node: &str, key: &Value) -> String {
    let text = format!("{node}\n{}", key.revealed());
    hash(&text)
}

/// Returns the SHA-256 of a text, in hexadecimal digits.
pub(crate) fn hash(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Takes the rows out of the output of a step that says `into`. Tables come as `{ rows: […] }`, with their columns or their
/// count beside.
pub(super) fn rows_of(output: &Value) -> Result<Vec<Value>, String> {
    let rows = match output {
        Value::Map(map) => map.get("rows").and_then(Value::as_list),
        rows => rows.as_list(),
    };
    let kind = output.kind().name();
    let wrong = || format!("`into` takes a list of rows, or an output with `rows`; here it is {kind}");
    rows.map(<[Value]>::to_vec).ok_or_else(wrong)
}

impl Driver {
    pub(super) fn joined(&mut self, joined: Result<(UnitKey, Done), JoinError>) {
        match joined {
            Ok((key, done)) => self.done(key, done),
            // Attempts catch their panics, so this is a fault of ours; the run can be resumed.
            Err(error) => tracing::error!(run = %self.run, %error, "a job of the engine failed"),
        }
    }

    fn done(&mut self, key: UnitKey, done: Done) {
        let now = self.now();
        match done {
            Done::Attempt(started, end) => self.ended(key, started, end),
            Done::Cache(Ok(Some(output)), _) => self.machine.succeed(key, now, output, None, now),
            Done::Cache(Ok(None), attempt) => {
                let (doing, input, scope) = *attempt;
                if let Err(error) = self.begin(key, doing, input, scope) {
                    let error = self.step_error(ErrorClass::Invalid, error.message);
                    self.give_up(key, now, error);
                }
            }
            Done::Paid(Ok(asked), attempt) => self.looked_back(key, &asked, *attempt),
            Done::Rows(Ok(rows)) => self.machine.begin_items(key.phase, key.step, Value::list(rows), now),
            Done::Stored(started, Ok(output)) => self.succeed(key, started, output),
            Done::Asked(asked) => self.asked(key, asked),
            Done::Child(started, result, lost) => self.child_ended(key, started, result, lost),
            Done::Away => self.machine.leave(key),
            Done::Unmade => self.make_child_again(key),
            Done::Lapsed(ask, Ok(lapsed)) => self.lapsed(key, &ask, lapsed),
            Done::Lapsed(_, Err(error)) => self.failure = Some(error.into()),
            Done::Locks(Ok(held), scopes) => self.locked(key, held, scopes),
            Done::Planned(planned) => self.planned(key, planned.0, planned.1),
            Done::Room(room) => self.has_room(key, room),
            Done::Locks(Err(error), _) => self.failure = Some(error),
            Done::Paid(Err(error), _)
            | Done::Cache(Err(error), _)
            | Done::Rows(Err(error))
            | Done::Stored(_, Err(error))
            | Done::Failed(error) => self.failure = Some(error.into()),
        }
    }

    pub(super) fn ended(&mut self, key: UnitKey, started: Timestamp, end: AttemptEnd) {
        let now = self.now();
        if self.machine.intent(key).is_some() || self.machine.begun(key).is_some() {
            let path = self.machine.path(key);
            self.parts().probe.tell(|| Point::Answered(path));
        }
        match end {
            AttemptEnd::Expired => {
                // Nothing was sent, and nothing is wrong but the time: intend it anew at once.
                let message = "the send window passed before the first byte".to_owned();
                let error = StepError { class: ErrorClass::Unavailable, message };
                self.machine.fail(key, started, error, Some(now), now);
            }
            AttemptEnd::Node(Ok(Outcome::Done(output))) => self.got(key, started, output),
            AttemptEnd::Node(Ok(Outcome::Created { output, remote_id })) => {
                self.created(key, started, output, remote_id)
            }
            AttemptEnd::Node(Ok(Outcome::Read { output, stream })) => {
                // Behind the result: where only one of them is kept, the read is made again and nothing is lost.
                self.got(key, started, output);
                self.flush();
                self.journal.record(Record::Stream { key: stream.key, state: stream.state });
            }
            AttemptEnd::Node(Ok(Outcome::Later { until, reason })) => {
                let error = StepError { class: ErrorClass::Throttled, message: reason };
                self.postpone(key, started, error, until.max(now));
            }
            AttemptEnd::Node(Ok(Outcome::Wait { until, reason, then })) => {
                self.machine.sleep(key, Some(until.max(now)), &reason, Some(then), now);
            }
            AttemptEnd::Node(Ok(Outcome::Ask { kind, request, reason, lapse, binds: true })) => {
                self.ask_with_plan(key, Asking { kind, request, reason, lapse });
            }
            AttemptEnd::Node(Ok(Outcome::Ask { kind, request, reason, lapse, .. })) => {
                self.ask_outside(key, kind, request, &reason, lapse)
            }
            AttemptEnd::Node(Ok(Outcome::Child { inputs, .. })) => self.start_child(key, started, inputs),
            AttemptEnd::Node(Err(error)) => self.attempt_failed(key, started, &error),
        }
    }

    /// A write named the remote object that it made: from now on it settles no other effect.
    fn created(&mut self, key: UnitKey, started: Timestamp, output: Value, remote_id: String) {
        if let Some(effect) = self.machine.intent(key).map(|intent| intent.id.clone()) {
            let scope = self.doing(key).node().name().to_owned();
            self.flush();
            self.journal.record(Record::Remote { effect, scope, remote_id });
        }
        self.got(key, started, output);
    }

    /// A node gave an output: hide secrets in it, store its rows, look at `until`.
    pub(super) fn got(&mut self, key: UnitKey, started: Timestamp, output: Value) {
        let doing_pure = self.doing(key).effect() == crate::model::Effect::Pure;
        let output = if doing_pure { output } else { self.parts().secrets.scan(output) };
        if key.phase != Phase::Undo
            && let Some(name) = self.machine.definition(key).into.clone()
            && !matches!(output, Value::Dataset(_))
        {
            return self.store_rows(key, started, &name, &output);
        }
        self.succeed(key, started, output);
    }

    fn store_rows(&mut self, key: UnitKey, started: Timestamp, name: &str, output: &Value) {
        let rows = match rows_of(output) {
            Ok(rows) => rows,
            Err(message) => {
                let error = self.step_error(ErrorClass::Invalid, message);
                return self.give_up(key, started, error);
            }
        };
        let id = format!("{}/{}", self.run, self.machine.path(key));
        let (store, name, run, fence) = (self.parts().store.clone(), name.to_owned(), self.run, self.fence);
        self.jobs.spawn(async move {
            let stored = async {
                store.create_dataset(run, fence, &id, &name).await?;
                // Rows of an attempt that did not end are not mixed with those of this one.
                store.clear_dataset(run, fence, &id).await?;
                let mut at = 0;
                // A page holds as many rows as a reader takes at once.
                for page in rows.chunks(ROWS_A_BATCH) {
                    // The cursor says that more is to come.
                    store.append_rows(run, fence, &id, at, page, Some("")).await?;
                    at += u64::try_from(page.len()).unwrap_or(0);
                }
                let dataset = store.append_rows(run, fence, &id, at, &[], None).await?;
                Ok(Value::Dataset(dataset.into()))
            };
            (key, Done::Stored(started, stored.await))
        });
    }

    fn succeed(&mut self, key: UnitKey, started: Timestamp, output: Value) {
        let now = self.now();
        if let Some(until) = self.machine.definition(key).until.clone().filter(|_| key.phase != Phase::Undo) {
            match self.round_over(key, &until, &output) {
                Ok(None) => {}
                Ok(Some(next)) => return self.machine.next_round(key, started, output, next, now),
                Err(error) => return self.give_up(key, started, error),
            }
        }
        if let Some(cache) = self.machine.definition(key).cache.clone() {
            self.put_into_cache(key, &cache, &output, now);
        }
        self.machine.succeed(key, started, output, None, now);
    }

    /// Returns when the next round of an `until` is due, or nothing when its condition holds.
    fn round_over(
        &self,
        key: UnitKey,
        until: &crate::pipeline::Until,
        output: &Value,
    ) -> Result<Option<Timestamp>, StepError> {
        let mut scope = self.unit_scope(key);
        scope.locals.push(("output", output.clone()));
        let invalid = |error: EvalError| self.step_error(ErrorClass::Invalid, format!("`until`: {}", error.message));
        if until.holds.eval(&scope).map_err(invalid)?.is_truthy() {
            return Ok(None);
        }
        if self.machine.round(key) >= until.limit {
            let message = format!("`until` did not hold within {} rounds", until.limit);
            return Err(self.step_error(ErrorClass::Timeout, message));
        }
        let pause = match &until.every {
            Some(every) => {
                let value = every.eval(&scope).map_err(invalid)?;
                duration(&value, "every").map_err(invalid)?
            }
            None => crate::model::Duration::ZERO,
        };
        Ok(Some(self.now().plus(pause)))
    }

    fn put_into_cache(&mut self, key: UnitKey, cache: &crate::pipeline::Cache, output: &Value, now: Timestamp) {
        let doing = self.doing(key);
        let scope = self.unit_scope(key);
        let source = match &cache.key {
            Some(template) => template.eval(&scope),
            None => doing.with().eval(&scope),
        };
        // What cannot be evaluated now could not be evaluated before the attempt either, so there is nothing to keep.
        let Ok(source) = source else { return };
        let entry = cache_address(doing.node().name(), &source);
        self.flush();
        self.journal.record(Record::Cache { key: entry, output: output.clone(), expires_at: now.plus(cache.ttl) });
    }

    fn attempt_failed(&mut self, key: UnitKey, started: Timestamp, error: &NodeError) {
        let write = self.doing(key).effect().is_write();
        if error.class == ErrorClass::Canceled && !write {
            return self.machine.abandon(key, self.now());
        }
        let told = self.step_error(error.class, error.text());
        if write && (error.happened == Happened::Perhaps || self.machine.is_unproven(key)) {
            return self.machine.doubt(key, told, self.now());
        }
        let most = error.attempts.unwrap_or(u32::MAX);
        self.retry_within(key, started, told, error.retry_after, most);
    }

    /// Puts an attempt off of which nothing was sent. A write of an earlier sending is still in doubt.
    fn postpone(&mut self, key: UnitKey, started: Timestamp, reason: StepError, until: Timestamp) {
        let now = self.now();
        if self.is_cut_off(key) {
            return self.machine.abandon(key, now);
        }
        if self.machine.is_unproven(key) {
            return self.machine.doubt(key, reason, now);
        }
        self.machine.postpone(key, started, reason, until, now);
    }

    /// Tells whether a step run begins nothing more: its run ends before its time, or its process does. What a run undoes and
    /// tidies up when it has been canceled is none of that.
    pub(super) fn is_cut_off(&self, key: UnitKey) -> bool {
        (key.phase == Phase::Main && self.machine.is_halting()) || self.options.stop.is_cancelled()
    }

    pub(super) fn retry_or_give_up(
        &mut self,
        key: UnitKey,
        started: Timestamp,
        error: StepError,
        retry_after: Option<crate::model::Duration>,
    ) {
        self.retry_within(key, started, error, retry_after, u32::MAX);
    }

    /// Tries again as the step says, but so many times in all at most.
    fn retry_within(
        &mut self,
        key: UnitKey,
        started: Timestamp,
        error: StepError,
        retry_after: Option<crate::model::Duration>,
        most: u32,
    ) {
        let now = self.now();
        let doing = self.doing(key);
        let attempt = self.machine.attempt(key);
        let fraction = self.parts().system.random.fraction();
        let next = next_attempt(doing.retry(), attempt, error.class, retry_after, fraction, now);
        let next = next.filter(|_| attempt < most && !self.is_cut_off(key));
        match next {
            Some(due) => self.machine.fail(key, started, error, Some(due), now),
            None => self.give_up(key, started, error),
        }
    }

    /// The step run failed for good: `on_error` says what becomes of it.
    pub(super) fn give_up(&mut self, key: UnitKey, started: Timestamp, error: StepError) {
        self.give_up_as(key, started, error, Happened::No);
    }

    /// Does so with the word whether the failure has left something unknown.
    pub(super) fn give_up_as(&mut self, key: UnitKey, started: Timestamp, error: StepError, happened: Happened) {
        let now = self.now();
        let default = match &self.machine.definition(key).on_error {
            OnError::Default(tree) if key.phase != Phase::Undo => Some(tree.clone()),
            _ => None,
        };
        let fail = |machine: &mut Machine, error: StepError| match happened {
            Happened::No => machine.fail(key, started, error, None, now),
            Happened::Perhaps => machine.lose(key, started, error, None, now),
        };
        let Some(default) = default else { return fail(&mut self.machine, error) };
        match default.eval(&self.unit_scope(key)) {
            Ok(output) => self.machine.succeed(key, started, output, Some(error), now),
            Err(fault) => {
                let message = format!("{}; and `default` of `on_error` has no value: {}", error.message, fault.message);
                let error = self.step_error(error.class, message);
                fail(&mut self.machine, error);
            }
        }
    }

    fn asked(&mut self, key: UnitKey, asked: Asked) {
        let now = self.now();
        match asked {
            Asked::Happened { output, remote_id } => {
                let output = self.parts().secrets.scan(output);
                // What was found is the result of a round like any other: where `until` does not hold yet, the next one
                // follows, and its event confirms the effect.
                if let Some(until) = self.machine.definition(key).until.clone().filter(|_| key.phase != Phase::Undo)
                    && let Ok(Some(next)) = self.round_over(key, &until, &output)
                {
                    return self.machine.next_round(key, now, output, next, now);
                }
                let verdict = Verdict::Happened { output, remote_id: Some(remote_id) };
                self.machine.settle(key, SettledBy::Reconcile, verdict, now);
            }
            Asked::TooEarly => self.machine.hold(key, Some(now.plus(super::claim::PAUSE))),
            Asked::DidNotHappen => self.machine.settle(key, SettledBy::Reconcile, Verdict::SendAgain, now),
            Asked::Ambiguous => {
                tracing::warn!(run = %self.run, step = %self.machine.path(key), "several remote objects could be the effect's");
                self.machine.hold(key, None);
            }
            Asked::Failed(error) => {
                let text = self.parts().secrets.mask(error.text());
                tracing::warn!(run = %self.run, step = %self.machine.path(key), error = text, "the remote could not be asked");
                let asked = self.machine.count_question(key);
                let wait = super::ledger::pause(asked);
                let again = (asked < super::ledger::QUESTIONS).then(|| now.plus(error.retry_after.unwrap_or(wait)));
                self.machine.hold(key, again);
            }
            Asked::Store(error) => self.failure = Some(error.into()),
        }
    }

    /// Obeys a person's word about an effect in doubt.
    pub(super) fn resolve(&mut self, effect: &str, verdict: Verdict, now: Timestamp) {
        match self.machine.doubt_by_effect(effect) {
            Some(key) => self.machine.settle(key, SettledBy::Person, verdict, now),
            None => tracing::warn!(run = %self.run, effect, "no such effect is in doubt"),
        }
    }

    fn make_child_again(&mut self, key: UnitKey) {
        if key.phase == Phase::Main && self.machine.is_halting() {
            return self.machine.abandon(key, self.now());
        }
        self.machine.forget_child(key);
        self.run(key);
    }

    pub(super) fn child_ended(
        &mut self,
        key: UnitKey,
        started: Timestamp,
        result: Result<Execution, super::Error>,
        lost: bool,
    ) {
        let now = self.now();
        match result {
            Ok(Execution::Finished { state: RunState::Succeeded, outputs, .. }) => {
                let composite = self.doing(key).child().is_some_and(|child| child.composite);
                let outputs =
                    if composite { outputs.get(COMPOSITE_OUTPUT).cloned().unwrap_or_default() } else { outputs };
                self.succeed(key, started, outputs);
            }
            Ok(Execution::Finished { .. })
                if key.phase == Phase::Undo && self.machine.definition(key).undo.is_none() =>
            {
                self.machine.succeed(key, started, Value::Null, None, now);
            }
            Ok(Execution::Finished { state: RunState::Canceled, .. })
                if key.phase == Phase::Main && self.machine.is_halting() =>
            {
                self.machine.abandon(key, now);
            }
            Ok(Execution::Finished { state: RunState::Canceled, .. }) => {
                // Somebody has canceled the child alone.
                let error = self.step_error(ErrorClass::Canceled, "the child run was canceled");
                self.give_up(key, started, error);
            }
            Ok(Execution::Finished { error, .. }) => {
                let error =
                    error.unwrap_or(StepError { class: ErrorClass::Bug, message: "the child run failed".into() });
                if lost {
                    // To try the child again would pay for the answer again.
                    return self.give_up_as(key, started, error, Happened::Perhaps);
                }
                self.retry_or_give_up(key, started, error, None);
            }
            Ok(Execution::Waiting { until, reason, .. }) => {
                self.machine.sleep(key, until, &reason, None, now);
                self.machine.rouse_again(key, now);
            }
            Ok(Execution::Stopped) => self.machine.abandon(key, now),
            Err(super::Error::Store(error)) => self.failure = Some(super::Error::Store(error)),
            Err(error) => {
                let error = self.step_error(ErrorClass::Bug, error.to_string());
                self.give_up(key, started, error);
            }
        }
    }

    /// Makes an error that may be shown: known secrets in it are masked.
    pub(super) fn step_error(&self, class: ErrorClass, message: impl Into<String>) -> StepError {
        StepError { class, message: self.parts().secrets.mask(message.into()) }
    }

    pub(super) fn log_sink(&self, key: UnitKey) -> JournalLog {
        let attempt = self.machine.attempt(key);
        let (parts, path) = (self.parts().clone(), self.machine.path(key));
        JournalLog { journal: self.journal.clone(), path, parts, run: self.run, attempt }
    }

    /// Returns where the rows of a step go that says `into`.
    pub(super) fn sink(&self, key: UnitKey) -> Option<DatasetSink> {
        let name = self.machine.definition(key).into.clone().filter(|_| key.phase != Phase::Undo)?;
        let id = format!("{}/{}", self.run, self.machine.path(key));
        let (store, run, fence) = (self.parts().store.clone(), self.run, self.fence);
        Some(DatasetSink { store, run, fence, id, name, rows: Default::default() })
    }
}

/// Writes log lines of nodes behind the journal.
#[derive(Clone, Debug)]
pub(super) struct JournalLog {
    pub(super) journal: super::journal::Journal,
    path: crate::model::StepPath,
    parts: std::sync::Arc<super::Parts>,
    run: crate::model::RunId,
    attempt: u32,
}

impl LogSink for JournalLog {
    fn log(&self, level: LogLevel, message: &str) {
        let message = self.parts.secrets.mask(message.to_owned());
        let at = self.parts.system.clock.now();
        self.journal.record(Record::Log { path: Some(self.path.clone()), level, message, at });
    }

    fn wire(&self, mut record: WireRecord) {
        let mask = |text: &mut String| *text = self.parts.secrets.mask(std::mem::take(text));
        mask(&mut record.url);
        record.headers.iter_mut().for_each(|(_, value)| mask(value));
        mask(&mut record.body);
        match &mut record.answer {
            Ok(answer) => {
                answer.headers.iter_mut().for_each(|(_, value)| mask(value));
                mask(&mut answer.body);
            }
            Err(reason) => mask(reason),
        }
        let (path, attempt) = (self.path.clone(), self.attempt);
        if let Some(tape) = self.parts.tape.tape().filter(|tape| tape.most_body().is_some()) {
            tape.wire(self.run, &path, attempt, &record);
            record.shorten(WireRecord::MOST_BODY);
        }
        self.journal.record(Record::Wire { path, attempt, record: Box::new(record) });
    }

    fn most_body(&self) -> usize {
        self.parts.tape.tape().and_then(|tape| tape.most_body()).unwrap_or(WireRecord::MOST_BODY)
    }
}
