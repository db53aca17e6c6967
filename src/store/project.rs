//! From what a run has appended to the rows that it changes.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use indexmap::IndexMap;

use super::EffectState;
use super::Error;
use super::Fence;
use super::approvals;
use super::datasets::PUT_STREAM;
use super::db::Arg;
use super::db::Batch;
use super::db::args;
use super::effects::CLAIM_REMOTE;
use super::encode::Codec;
use super::logs::level_name;
use super::permits::LET_GO;
use super::posts;
use super::queue::Lane;
use super::queue::Record;
use super::queue::Taken;
use super::queue::locked;
use super::runs::step_error_text;
use crate::model::Ask;
use crate::model::AskId;
use crate::model::EffectId;
use crate::model::Happened;
use crate::model::RunEvent;
use crate::model::RunState;
use crate::model::SettledBy;
use crate::model::StepError;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::Verdict;

/// So many lines of a run's log are kept, and up to a tenth more.
const LINES: usize = 10_000;

/// What the writer knows of a run between two transactions.
#[derive(Debug)]
pub(super) struct Projection {
    next_seq: i64,
    next_log: i64,
    /// How many lines may be logged before old ones are looked for that are too many.
    room_for_lines: usize,
    /// Effects whose end has not come.
    open: HashMap<StepPath, EffectId>,
    /// What is asked and has no answer.
    asks: HashMap<StepPath, AskId>,
    /// The remote's ids of objects that such effects made.
    named: HashMap<EffectId, String>,
}

/// One run's part of a transaction.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) lane: Arc<Lane>,
    /// How many records it makes durable.
    pub(super) records: usize,
    /// For the subscribers, if there are any.
    pub(super) events: Vec<(u64, RunEvent)>,
    pub(super) first_seq: i64,
    last_seq: i64,
    lines: String,
    intents: IndexMap<EffectId, Intent>,
    changes: IndexMap<EffectId, Change>,
    logs: Vec<Vec<Arg>>,
    /// Whether the log may have become too long.
    cut_log: bool,
    wire: Vec<Vec<Arg>>,
    streams: Vec<Vec<Arg>>,
    cache: IndexMap<String, Vec<Arg>>,
    remote: Vec<Vec<Arg>>,
    taken: Vec<i64>,
    asked: Vec<Vec<Arg>>,
    /// Posts that runs sleep over.
    held: Vec<Vec<Arg>>,
    /// What nobody decides on any more, each with when that was clear.
    closed: Vec<(AskId, Timestamp)>,
    patch: Option<Patch>,
}

/// An effect that begins in this chunk, or is sent again.
#[derive(Debug)]
struct Intent {
    fixed: Vec<Arg>,
    seq: i64,
    intended_at: i64,
    change: Change,
}

/// What becomes of an effect.
#[derive(Clone, Debug)]
struct Change {
    state: EffectState,
    at: Timestamp,
    error: Option<String>,
    remote_id: Option<String>,
    settled_by: Option<SettledBy>,
}

/// What becomes of the run's row.
#[derive(Debug)]
struct Patch {
    state: RunState,
    started_at: Option<i64>,
    ended_at: Option<i64>,
    waiting_until: Option<i64>,
    reason: Option<String>,
    error: Option<String>,
    outputs: Option<String>,
}

impl Projection {
    pub(super) fn new(
        next_seq: u64,
        fence: Fence,
        open_effects: impl IntoIterator<Item = (StepPath, EffectId)>,
    ) -> Self {
        Self {
            next_seq: i64::try_from(next_seq).unwrap_or(i64::MAX),
            // The numbers of a later owner are larger than all of an earlier one.
            next_log: fence.0.saturating_mul(1 << 32),
            // An earlier owner may have filled the log.
            room_for_lines: if fence.0 > 1 { 0 } else { LINES },
            open: open_effects.into_iter().collect(),
            asks: HashMap::new(),
            named: HashMap::new(),
        }
    }

    pub(super) fn knows_asks(&mut self, asks: impl IntoIterator<Item = (StepPath, AskId)>) {
        self.asks.extend(asks);
    }
}

impl Chunk {
    /// Encodes what was taken of a lane.
    pub(super) fn encode(taken: Taken, codec: &Codec) -> Result<Self, Error> {
        let lane = taken.lane.clone();
        let mut projection = locked(&lane.projection);
        let mut chunk = Self {
            lane: taken.lane,
            records: taken.records.len(),
            events: Vec::new(),
            first_seq: projection.next_seq,
            last_seq: projection.next_seq - 1,
            lines: String::with_capacity(taken.bytes),
            intents: IndexMap::new(),
            changes: IndexMap::new(),
            logs: Vec::new(),
            cut_log: false,
            wire: Vec::new(),
            streams: Vec::new(),
            cache: IndexMap::new(),
            remote: Vec::new(),
            taken: Vec::new(),
            asked: Vec::new(),
            held: Vec::new(),
            closed: Vec::new(),
            patch: None,
        };
        let keep = lane.has_subscribers();
        for record in taken.records {
            match record {
                Record::Event(event) => {
                    codec.encode_event(&event, &mut chunk.lines)?;
                    chunk.lines.push('\n');
                    chunk.last_seq += 1;
                    chunk.project(&event, &mut projection, codec)?;
                    if keep {
                        chunk.events.push((u64::try_from(chunk.last_seq).unwrap_or(0), event));
                    }
                }
                Record::Log { path, level, message, at } => {
                    let path = path.map(|path| path.to_string());
                    let run = lane.run.to_string();
                    chunk.logs.push(args![run, projection.next_log, at.micros(), path, level_name(level), message]);
                    projection.next_log += 1;
                }
                Record::Wire { path, attempt, record } => {
                    let text = serde_json::to_string(&record).unwrap_or_default();
                    let run = lane.run.to_string();
                    chunk.wire.push(args![run, projection.next_log, path.to_string(), i64::from(attempt), text]);
                    projection.next_log += 1;
                }
                Record::Stream { key, state } => chunk.streams.push(args![key, codec.encode(&state)?]),
                Record::Cache { key, output, expires_at } => {
                    let output = codec.encode(&output)?;
                    chunk.cache.insert(key.clone(), args![key, output, expires_at.micros()]);
                }
                Record::Remote { effect, scope, remote_id } => {
                    chunk.remote.push(args![scope, remote_id.as_str(), &*effect.0]);
                    projection.named.insert(effect, remote_id);
                }
                Record::Taken { signals } => chunk.taken.extend(signals),
            }
        }
        if !chunk.logs.is_empty() {
            chunk.cut_log = projection.room_for_lines < chunk.logs.len();
            let room = if chunk.cut_log { LINES / 10 } else { projection.room_for_lines };
            projection.room_for_lines = room.saturating_sub(chunk.logs.len());
        }
        projection.next_seq = chunk.last_seq + 1;
        drop(projection);
        Ok(chunk)
    }

    fn project(&mut self, event: &RunEvent, projection: &mut Projection, codec: &Codec) -> Result<(), Error> {
        self.project_asks(event, &mut projection.asks);
        let open = &mut projection.open;
        match event {
            RunEvent::Intent { path, attempt, intent, at } => {
                open.insert(path.clone(), intent.id.clone());
                let fixed = args![
                    &*intent.id.0,
                    self.lane.run.to_string(),
                    path.to_string(),
                    &*intent.key,
                    intent.kind.name(),
                    i64::from(*attempt),
                    intent.send_before.micros(),
                    intent.answer_before.micros(),
                    intent.fingerprint.as_deref(),
                ];
                let change = Change::new(EffectState::Open, *at);
                self.changes.swap_remove(&intent.id);
                let intent_row = Intent { fixed, seq: self.last_seq, intended_at: at.micros(), change };
                self.intents.insert(intent.id.clone(), intent_row);
            }
            RunEvent::InDoubt { effect, at, error, .. } => {
                self.change(effect, Change::new(EffectState::InDoubt, *at).because(error));
            }
            RunEvent::Settled { path, effect, at, by, verdict } => {
                let mut change = match &**verdict {
                    Verdict::Happened { remote_id, .. } => {
                        Change { remote_id: remote_id.clone(), ..Change::new(EffectState::Confirmed, *at) }
                    }
                    Verdict::SendAgain => Change::new(EffectState::Open, *at),
                    Verdict::Dropped => Change::new(EffectState::Dropped, *at),
                };
                if change.state != EffectState::Open {
                    open.remove(path);
                }
                change.settled_by = Some(*by);
                self.change(effect, change);
            }
            RunEvent::Succeeded { path, at, .. } | RunEvent::Round { path, at, .. } => {
                if let Some(effect) = open.remove(path) {
                    let remote_id = projection.named.remove(&effect);
                    self.change(&effect, Change { remote_id, ..Change::new(EffectState::Confirmed, *at) });
                }
            }
            RunEvent::Skipped { path, at, .. } => {
                if let Some(effect) = open.remove(path) {
                    self.change(&effect, Change::new(EffectState::Dropped, *at));
                }
            }
            RunEvent::Failed { path, at, error, happened, .. } => {
                if let Some(effect) = open.get(path) {
                    let state = match happened {
                        Happened::No => EffectState::Refused,
                        Happened::Perhaps => EffectState::InDoubt,
                    };
                    self.change(&effect.clone(), Change::new(state, *at).because(error));
                }
            }
            RunEvent::Started { at } | RunEvent::Retried { at, .. } => {
                let started_at = Some(at.micros());
                self.patch = Some(Patch { started_at, ..Patch::new(RunState::Running) });
            }
            RunEvent::Parked { until, reason, .. } => {
                let waiting_until = until.map(Timestamp::micros);
                let reason = Some(reason.to_string());
                let started_at = self.started_at();
                self.patch = Some(Patch { started_at, waiting_until, reason, ..Patch::new(RunState::Waiting) });
            }
            RunEvent::Finished { at, state, outputs, error } => {
                self.patch = Some(Patch {
                    started_at: self.started_at(),
                    ended_at: Some(at.micros()),
                    error: error.as_deref().map(step_error_text),
                    outputs: if *outputs == Value::Null { None } else { Some(codec.encode(outputs)?) },
                    ..Patch::new(*state)
                });
            }
            _ => {}
        }
        Ok(())
    }

    /// What is asked begins with its event, and ends at the latest with its step run.
    fn project_asks(&mut self, event: &RunEvent, asks: &mut HashMap<StepPath, AskId>) {
        let at = event.at();
        match event {
            RunEvent::Asked { path, ask, .. } if *ask.kind == *Ask::APPROVAL => {
                asks.insert(path.clone(), ask.id.clone());
                self.asked.push(args![
                    &*ask.id.0,
                    self.lane.run.to_string(),
                    path.to_string(),
                    at.micros(),
                    ask.lapse.as_ref().map(|lapse| lapse.at.micros()),
                    self.last_seq,
                ]);
            }
            RunEvent::Asked { path, ask, .. } if *ask.kind == *Ask::POST => {
                asks.insert(path.clone(), ask.id.clone());
                self.held.push(args![&*ask.id.0, ask.request.get("id").and_then(Value::as_str)]);
            }
            _ if asks.is_empty() => {}
            RunEvent::Succeeded { path, .. } | RunEvent::Failed { path, .. } | RunEvent::Round { path, .. } => {
                self.closed.extend(asks.remove(path).map(|ask| (ask, at)));
            }
            // A whole step is canceled with all its items and rounds.
            RunEvent::StepCanceled { path, .. } => {
                let hit = |asker: &StepPath| {
                    let item = path.item.is_none() || path.item == asker.item;
                    asker.phase == path.phase && asker.step == path.step && item
                };
                self.closed.extend(asks.extract_if(|asker, _| hit(asker)).map(|(_, ask)| (ask, at)));
            }
            RunEvent::Finished { .. } | RunEvent::Retried { .. } => {
                self.closed.extend(asks.drain().map(|(_, ask)| (ask, at)));
            }
            _ => {}
        }
    }

    /// Returns the beginning that this chunk tells of: a short run begins and ends within one.
    fn started_at(&self) -> Option<i64> {
        self.patch.as_ref().and_then(|patch| patch.started_at)
    }

    fn change(&mut self, effect: &EffectId, change: Change) {
        if let Some(intent) = self.intents.get_mut(effect) {
            intent.change = change;
        } else {
            self.changes.insert(effect.clone(), change);
        }
    }

    /// Adds what this chunk changes to a transaction. The first statement fails when the lease is lost.
    fn add_to(&self, batch: &mut Batch, share_lock: &str) {
        let (run, fence) = (self.lane.run.to_string(), self.lane.fence.0);
        if self.has_events() {
            // Without the fence or the event before, the number becomes null, which the table refuses.
            let append = format!(
                "INSERT INTO journal (run_id, seq, last_seq, events) VALUES ($1, $2, (SELECT $3 FROM runs \
                 WHERE id = $1 AND fence = $5 AND COALESCE((SELECT last_seq FROM journal WHERE run_id = $1 \
                 ORDER BY seq DESC LIMIT 1), 0) = $2 - 1{share_lock}), $4)"
            );
            batch.push(append, args![run.as_str(), self.first_seq, self.last_seq, self.lines.as_str(), fence]);
        } else {
            batch.push(GUARD, args![run.as_str(), fence]);
        }
        self.add_rest(batch);
        if let Some(patch) = &self.patch {
            batch.push(PATCH, patch.args(&run, fence));
        }
        self.add_end(batch);
    }

    fn has_events(&self) -> bool {
        self.last_seq >= self.first_seq
    }

    /// Adds what ends with the run.
    fn add_end(&self, batch: &mut Batch) {
        let ends = self.patch.as_ref().is_some_and(|patch| patch.state.is_final());
        if ends && self.lane.permitted.load(Relaxed) {
            LET_GO.iter().for_each(|sql| batch.push(*sql, args![self.lane.run.to_string()]));
        }
    }

    /// Adds all but the journal and the run's row.
    fn add_rest(&self, batch: &mut Batch) {
        let run = self.lane.run.to_string();
        self.add_effects(batch);
        if !self.logs.is_empty() {
            const LOG: &str = "INSERT INTO logs (run_id, number, logged_at, path, level, message) VALUES ";
            batch.push_rows(LOG, self.logs.clone(), "");
        }
        if self.cut_log {
            // Of a run that logs for ever the last lines are kept.
            const CUT: &str = "DELETE FROM logs WHERE run_id = $1 AND number <= (SELECT number FROM logs \
                               WHERE run_id = $1 ORDER BY number DESC LIMIT 1 OFFSET $2)";
            batch.push(CUT, args![run.as_str(), i64::try_from(LINES).unwrap_or(i64::MAX)]);
        }
        if !self.wire.is_empty() {
            const WIRE: &str = "INSERT INTO wire (run_id, number, path, attempt, record) VALUES ";
            // Of a run with very many requests the last ones are kept.
            const DROP: &str = "DELETE FROM wire WHERE run_id = $1 AND number <= (SELECT number FROM wire \
                                WHERE run_id = $1 ORDER BY number DESC LIMIT 1 OFFSET 500)";
            batch.push_rows(WIRE, self.wire.clone(), "");
            batch.push(DROP, args![run.as_str()]);
        }
        for row in &self.streams {
            batch.push(PUT_STREAM, row.clone());
        }
        for row in &self.asked {
            batch.push(approvals::ASK, row.clone());
        }
        for row in &self.held {
            batch.push(posts::ASK, row.clone());
        }
        for (ask, at) in &self.closed {
            batch.push(approvals::CLOSE, args![&*ask.0, at.micros()]);
            batch.push(posts::CLOSE, args![&*ask.0]);
        }
        for row in &self.remote {
            batch.push(CLAIM_REMOTE, row.clone());
        }
        if !self.taken.is_empty() {
            const DELETE: &str = "DELETE FROM inbox WHERE run_id = $1 AND number = $2";
            const COUNT: &str =
                "UPDATE runs SET signals = (SELECT COUNT(*) FROM inbox WHERE run_id = $1) WHERE id = $1";
            // The run's row first: whoever sends a signal now waits, and the count stays true.
            const LOCK: &str = "UPDATE runs SET signals = signals WHERE id = $1";
            batch.push(LOCK, args![run.as_str()]);
            for signal in &self.taken {
                batch.push(DELETE, args![run.as_str(), *signal]);
            }
            batch.push(COUNT, args![run.as_str()]);
        }
    }

    fn add_effects(&self, batch: &mut Batch) {
        if !self.intents.is_empty() {
            const INSERT: &str = "INSERT INTO effects (id, run_id, path, business_key, kind, attempt, send_before, \
                                  answer_before, fingerprint, intent_seq, intended_at, state, updated_at, error, remote_id, settled_by) VALUES ";
            // An effect that is sent again keeps the moment when it was first intended.
            const AGAIN: &str = " ON CONFLICT (run_id, id) DO UPDATE SET attempt = excluded.attempt, \
                                 send_before = excluded.send_before, answer_before = excluded.answer_before, \
                                 intent_seq = excluded.intent_seq, \
                                 state = excluded.state, updated_at = excluded.updated_at, error = excluded.error, \
                                 remote_id = excluded.remote_id, settled_by = excluded.settled_by";
            let row = |intent: &Intent| {
                let mut row = intent.fixed.clone();
                row.extend(args![intent.seq, intent.intended_at]);
                row.extend(intent.change.args());
                row
            };
            batch.push_rows(INSERT, self.intents.values().map(row).collect(), AGAIN);
        }
        if !self.changes.is_empty() {
            const WITH: &str = "WITH changed (run_id, id, state, updated_at, error, remote_id, settled_by) AS (VALUES ";
            const UPDATE: &str = ") UPDATE effects SET state = changed.state, updated_at = changed.updated_at, \
                                  error = changed.error, remote_id = changed.remote_id, \
                                  settled_by = COALESCE(changed.settled_by, effects.settled_by) \
                                  FROM changed WHERE effects.run_id = changed.run_id AND effects.id = changed.id";
            let row = |(id, change): (&EffectId, &Change)| {
                let mut row = args![self.lane.run.to_string(), &*id.0];
                row.extend(change.args());
                row
            };
            batch.push_rows(WITH, self.changes.iter().map(row).collect(), UPDATE);
        }
    }
}

/// Entries of the cache of several runs, in the order of their keys: two workers that write the same ones do not lock
/// each other out.
pub(super) fn add_cache(chunks: &[Chunk], batch: &mut Batch) {
    const PUT: &str = "INSERT INTO cache (cache_key, output, expires_at) VALUES ";
    const AGAIN: &str =
        " ON CONFLICT (cache_key) DO UPDATE SET output = excluded.output, expires_at = excluded.expires_at";
    let entries = chunks.iter().flat_map(|chunk| chunk.cache.iter());
    let entries: std::collections::BTreeMap<&String, &Vec<Arg>> = entries.collect();
    if !entries.is_empty() {
        batch.push_rows(PUT, entries.into_values().cloned().collect(), AGAIN);
    }
}

/// Signals that came meanwhile keep a run from falling asleep. Whoever ends it or lays it to sleep holds it no longer.
const PATCH: &str = "UPDATE runs SET state = CASE WHEN $3 = 'waiting' AND signals > 0 THEN 'queued' ELSE $3 END, \
                     started_at = COALESCE(started_at, $4), ended_at = $5, waiting_until = $6, reason = $7, \
                     error = $8, outputs = $9, owner = CASE WHEN $3 = 'running' THEN owner END, \
                     beat = beat + 1 WHERE id = $1 AND fence = $2";

/// Fails where the lease is lost: a fence is never null.
const GUARD: &str = "UPDATE runs SET fence = CASE WHEN fence = $2 THEN fence END WHERE id = $1";

/// Adds what many runs change, with one statement for all journals and one for all rows of runs: each statement is a trip to
/// the database.
pub(super) fn add_all(chunks: &[Chunk], batch: &mut Batch, shares: bool) {
    const HEAD: &str = "WITH new (run_id, seq, last_seq, events, fence) AS (VALUES ";
    const APPEND: &str = ") INSERT INTO journal (run_id, seq, last_seq, events) SELECT run_id, seq, \
                          (SELECT new.last_seq FROM runs WHERE id = new.run_id AND fence = new.fence \
                          AND COALESCE((SELECT last_seq FROM journal WHERE run_id = new.run_id ORDER BY seq DESC LIMIT 1), 0) \
                          = new.seq - 1), events FROM new";
    const PATCHES: &str =
        "WITH new (id, fence, state, started_at, ended_at, waiting_until, reason, error, outputs) AS (VALUES ";
    const PATCHED: &str = ") UPDATE runs SET state = CASE WHEN new.state = 'waiting' AND runs.signals > 0 THEN 'queued' \
                           ELSE new.state END, started_at = COALESCE(runs.started_at, new.started_at), \
                           ended_at = new.ended_at, waiting_until = new.waiting_until, reason = new.reason, \
                           error = new.error, outputs = new.outputs, \
                           owner = CASE WHEN new.state = 'running' THEN runs.owner END, beat = runs.beat + 1 \
                           FROM new WHERE runs.id = new.id AND runs.fence = new.fence";
    // PostgreSQL's driver leaves Nagle's algorithm on: the end of a statement that does not fit into a segment waits for the
    // acknowledgment of its beginning, up to 40 ms. Small statements, which stay prepared, are faster there.
    if chunks.len() == 1 || shares {
        let lock = if shares { " FOR SHARE" } else { "" };
        return chunks.iter().for_each(|chunk| chunk.add_to(batch, lock));
    }
    let (with, without): (Vec<&Chunk>, Vec<&Chunk>) = chunks.iter().partition(|chunk| chunk.has_events());
    let journals = with.iter().map(|chunk| {
        let run = chunk.lane.run.to_string();
        args![run, chunk.first_seq, chunk.last_seq, chunk.lines.as_str(), chunk.lane.fence.0]
    });
    batch.push_rows(HEAD, journals.collect(), APPEND);
    for chunk in without {
        batch.push(GUARD, args![chunk.lane.run.to_string(), chunk.lane.fence.0]);
    }
    for chunk in chunks {
        chunk.add_rest(batch);
    }
    let patches = chunks.iter().filter_map(|chunk| {
        let (run, fence) = (chunk.lane.run.to_string(), chunk.lane.fence.0);
        chunk.patch.as_ref().map(|patch| patch.args(&run, fence))
    });
    batch.push_rows(PATCHES, patches.collect(), PATCHED);
    for chunk in chunks {
        chunk.add_end(batch);
    }
}

impl Patch {
    fn new(state: RunState) -> Self {
        Self { state, started_at: None, ended_at: None, waiting_until: None, reason: None, error: None, outputs: None }
    }

    fn args(&self, run: &str, fence: i64) -> Vec<Arg> {
        args![
            run,
            fence,
            self.state.name(),
            self.started_at,
            self.ended_at,
            self.waiting_until,
            self.reason.clone(),
            self.error.clone(),
            self.outputs.clone(),
        ]
    }
}

impl Change {
    fn new(state: EffectState, at: Timestamp) -> Self {
        Self { state, at, error: None, remote_id: None, settled_by: None }
    }

    fn because(mut self, error: &StepError) -> Self {
        self.error = Some(step_error_text(error));
        self
    }

    /// Returns the columns state, updated_at, error, remote_id, settled_by.
    fn args(&self) -> Vec<Arg> {
        args![
            self.state.name(),
            self.at.micros(),
            self.error.clone(),
            self.remote_id.clone(),
            self.settled_by.map(SettledBy::name),
        ]
    }
}
