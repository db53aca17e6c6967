//! The one function that changes state: an event is applied.

use super::Halt;
use super::Machine;
use super::state::Begun;
use super::state::Items;
use super::state::Unit;
use super::state::UnitKey;
use super::state::UnitState;
use super::state::Work;
use crate::model::Happened;
use crate::model::Phase;
use crate::model::RunEvent;
use crate::model::SettledBy;
use crate::model::StepError;
use crate::model::StepPath;
use crate::model::StepState;
use crate::model::Value;
use crate::model::Verdict;
use crate::pipeline::OnError;

impl Machine {
    pub(super) fn apply(&mut self, event: &RunEvent) {
        self.length += 1;
        let key = event.path().and_then(|path| self.key(path));
        match (event, key) {
            (RunEvent::Items { items, .. }, Some(key)) => self.apply_items(key, items),
            (RunEvent::Skipped { .. }, Some(key)) => self.end(key, StepState::Skipped, Value::Null, None),
            (RunEvent::StepCanceled { .. }, Some(key)) => self.end(key, StepState::Canceled, Value::Null, None),
            (RunEvent::CancelRequested { undo, reason, .. }, _) => {
                self.halt = Some(Halt::Cancel { undo: *undo, reason: reason.clone() });
            }
            (RunEvent::Retried { from, .. }, _) => self.apply_retry(from.as_deref()),
            (RunEvent::PhaseStarted { phase, state, error, .. }, _) => {
                self.outcome = Some((*state, error.as_deref().cloned()));
                self.finished = None;
                self.enter_phase(*phase);
            }
            (RunEvent::Finished { state, outputs, error, .. }, _) => {
                self.finished = Some(*state);
                self.outcome = Some((*state, error.as_deref().cloned()));
                self.outputs = outputs.clone();
            }
            (RunEvent::Planned { bond, .. }, _) => self.bond = Some(bond.clone()),
            (RunEvent::Started { .. } | RunEvent::Parked { .. }, _) => {}
            (_, Some(key)) => self.apply_to_unit(event, key),
            // A step that this version of the pipeline does not have: versions are stored, so it cannot be.
            (_, None) => {}
        }
    }

    fn apply_to_unit(&mut self, event: &RunEvent, key: UnitKey) {
        self.ensure_single(key);
        // Whatever becomes of a step run, what it asked before is no longer asked.
        self.drop_ask(key);
        let (number, paid) = (self.length, self.is_paid_read(key));
        let Some(unit) = self.unit_mut(key) else { return };
        match event {
            RunEvent::StepStarted { attempt, at, .. } => {
                unit.attempt = *attempt;
                begin(unit);
                if paid {
                    unit.rare().begun = Some(Begun { number, at: *at });
                }
            }
            RunEvent::Intent { attempt, intent, at, .. } => {
                unit.attempt = *attempt;
                begin(unit);
                let rare = unit.rare();
                rare.first_intended.get_or_insert(*at);
                rare.intent = Some((**intent).clone());
                rare.unanswered = true;
            }
            RunEvent::Child { run, .. } => {
                unit.rare().child = Some(*run);
                begin(unit);
            }
            RunEvent::Succeeded { attempt, output, recovered, .. } => {
                unit.attempt = *attempt;
                self.end(key, StepState::Succeeded, output.clone(), recovered.as_deref().cloned());
            }
            RunEvent::Failed { attempt, error, retry_at, happened, .. } => {
                unit.attempt = *attempt;
                if let Some(rare) = &mut unit.rare {
                    rare.unanswered = false;
                    rare.child = None;
                    rare.begun = None;
                    rare.resent += u32::from(*happened == Happened::Perhaps);
                }
                match retry_at {
                    Some(until) => self.put_asleep(key, Some(*until), None),
                    None => self.end(key, StepState::Failed, Value::Null, Some((**error).clone())),
                }
            }
            RunEvent::Waiting { until, then, .. } => {
                unit.slept = true;
                self.put_asleep(key, *until, then.clone());
            }
            RunEvent::Asked { attempt, at, ask, .. } => {
                unit.attempt = *attempt;
                unit.slept = true;
                unit.rare().ask = Some((*at, ask.clone()));
                self.put_asleep(key, ask.lapse.as_ref().map(|lapse| lapse.at), None);
            }
            RunEvent::Woken { .. } => {
                if matches!(unit.state, UnitState::Asleep { .. }) {
                    unit.state = UnitState::Ready;
                    if self.started {
                        self.make_ready(key);
                    }
                }
            }
            RunEvent::Round { output, until, path, .. } => {
                unit.round = path.round.unwrap_or(1) + 1;
                unit.attempt = 0;
                let rare = unit.rare();
                rare.previous = Some(output.clone());
                // Each round has a child run of its own.
                rare.child = None;
                rare.begun = None;
                rare.intent = None;
                rare.first_intended = None;
                rare.unanswered = false;
                rare.unproven = false;
                rare.resent = 0;
                self.put_asleep(key, Some(*until), None);
            }
            RunEvent::InDoubt { error, .. } => {
                unit.rare().doubt = Some((**error).clone());
                unit.rare().unanswered = true;
                self.land(key);
                if let Some(unit) = self.unit_mut(key) {
                    unit.state = UnitState::InDoubt { held: false };
                }
                if self.started {
                    self.make_ready(key);
                }
            }
            RunEvent::Settled { verdict, by, .. } => {
                unit.rare().unanswered = false;
                unit.rare().unproven = matches!(by, SettledBy::Repeat | SettledBy::Policy);
                match &**verdict {
                    Verdict::Happened { output, .. } => self.end(key, StepState::Succeeded, output.clone(), None),
                    Verdict::Dropped => self.end(key, StepState::Skipped, Value::Null, None),
                    Verdict::SendAgain => {
                        unit.rare().resent += 1;
                        self.land(key);
                        if let Some(unit) = self.unit_mut(key) {
                            unit.state = UnitState::Ready;
                        }
                        if self.started {
                            self.make_ready(key);
                        }
                    }
                }
            }
            _ => {}
        }
    }

    fn apply_items(&mut self, key: UnitKey, items: &Value) {
        let values = match items {
            Value::List(values) => values.clone(),
            _ => return,
        };
        let Some(record) = self.part_mut(key.phase).steps.get_mut(key.step) else { return };
        record.state = StepState::Running;
        let empty = values.is_empty();
        record.work = Work::Items(Items::new(values, record.generation));
        if empty {
            self.end_step(key.phase, key.step, StepState::Succeeded, Value::list(Vec::new()), None);
        }
    }

    fn put_asleep(&mut self, key: UnitKey, until: Option<crate::model::Timestamp>, then: Option<Value>) {
        self.land(key);
        if let Some(unit) = self.unit_mut(key) {
            unit.state = UnitState::Asleep { until, then };
        }
        if let Some(until) = until {
            self.set_timer(key, until);
        }
    }

    /// A step run ended. A path without an item ends the whole step.
    fn end(&mut self, key: UnitKey, state: StepState, output: Value, error: Option<StepError>) {
        self.land(key);
        if key.phase == Phase::Undo {
            return self.end_undo(key, state, error);
        }
        let step = self.step(key);
        // A child run that can take nothing back stays as it is: else a retry would do it all again.
        let undoable = step.undo.is_some() || step.child.as_ref().is_some_and(|child| child.can_be_undone());
        let irreversible = step.irreversible.then(|| step.id.clone());
        let sequential = step.sequential;
        let continues = matches!(step.on_error, OnError::Continue);
        if state == StepState::Succeeded && key.phase == Phase::Main {
            if undoable {
                self.undo.completed.push(key);
            }
            if irreversible.is_some() {
                self.irreversible = irreversible;
            }
        }
        let Some(record) = self.part_mut(key.phase).steps.get_mut(key.step) else { return };
        let (Work::Items(items), Some(index)) = (&mut record.work, key.item) else {
            if let Work::Single(unit) = &mut record.work {
                finish(unit, state);
            }
            return self.end_step(key.phase, key.step, state, output, error);
        };
        let Some(position) = usize::try_from(index).ok().filter(|position| *position < items.units.len()) else {
            return;
        };
        if let Some(unit) = items.units.get_mut(position) {
            if unit.is_done() {
                return;
            }
            finish(unit, state);
        }
        if let Some(place) = items.outputs.get_mut(position) {
            *place = output;
        }
        items.done += 1;
        if let (StepState::Failed, Some(error)) = (state, error) {
            if continues {
                record.error.get_or_insert(error);
            } else if items.failed.as_ref().is_none_or(|(first, _)| index < *first) {
                items.failed = Some((index, error));
            }
        }
        if sequential && self.started {
            self.queue_items(key.phase, key.step);
        }
        self.end_items(key);
    }

    /// Ends a `for_each` when all its items have ended, or one failed and none is under way.
    fn end_items(&mut self, key: UnitKey) {
        let Some(record) = self.part_mut(key.phase).steps.get_mut(key.step) else { return };
        let Work::Items(items) = &mut record.work else { return };
        let all = items.done == items.units.len();
        if let Some((index, error)) = &items.failed {
            if all || items.units.iter().all(|unit| unit.is_done() || unit.state == UnitState::Fresh) {
                let error = StepError { class: error.class, message: format!("item {index}: {}", error.message) };
                self.end_step(key.phase, key.step, StepState::Failed, Value::Null, Some(error));
            }
        } else if all {
            let output = Value::list(std::mem::take(&mut items.outputs));
            let error = record.error.clone();
            let canceled = items.units.iter().any(|unit| unit.state == UnitState::Done(StepState::Canceled));
            let state = if canceled { StepState::Canceled } else { StepState::Succeeded };
            self.end_step(key.phase, key.step, state, output, error);
        }
    }

    fn end_undo(&mut self, key: UnitKey, state: StepState, error: Option<StepError>) {
        let undone = self.step(key).id.clone();
        let Some(unit) = self.undo.units.get_mut(&key) else { return };
        if let (StepState::Failed, Some(error)) = (state, error) {
            // A failed undo holds: on resuming, a person has looked and it is tried anew.
            unit.state = UnitState::Ready;
            unit.attempt = 0;
            self.held = Some(format!("the undo of step `{undone}` failed: {}", error.message));
            return;
        }
        finish(unit, state);
        self.undo.next += 1;
        if let (true, Some(next)) = (self.started, self.undo.queue.get(self.undo.next).copied()) {
            self.make_ready(next);
        }
    }

    fn end_step(&mut self, phase: Phase, step: usize, state: StepState, output: Value, error: Option<StepError>) {
        let definition = self.step(UnitKey { phase, step, item: None });
        let continues = matches!(definition.on_error, OnError::Continue);
        let id = definition.id.clone();
        let hard = state == StepState::Canceled || (state == StepState::Failed && !continues);
        let part = self.part_mut(phase);
        let Some(record) = part.steps.get_mut(step) else { return };
        if record.state.is_final() {
            return;
        }
        record.state = state;
        record.output = output;
        record.error.clone_from(&error);
        part.remaining -= 1;
        let dependents = part.dependents.get(step).cloned().unwrap_or_default();
        self.ended.push((phase, step));
        if let (true, true, Some(error)) = (phase == Phase::Main, state == StepState::Failed && hard, error) {
            let message = format!("step `{id}`: {}", error.message);
            self.first_error.get_or_insert(StepError { class: error.class, message });
        }
        for dependent in dependents {
            let Some(record) = self.part_mut(phase).steps.get_mut(dependent) else { continue };
            record.missing = record.missing.saturating_sub(1);
            record.blocked |= hard;
            if record.missing > 0 {
                continue;
            }
            if record.blocked {
                self.blocked.push_back((phase, dependent));
            } else if self.started {
                self.queue_prepare(phase, dependent);
            }
        }
    }

    /// Finds the step run of a path.
    pub fn key(&self, path: &StepPath) -> Option<UnitKey> {
        let step = *self.graph(path.phase).index.get(&path.step)?;
        Some(UnitKey { phase: path.phase, step, item: path.item })
    }
}

/// Notes in a replay that a step run is no longer fresh; live it flies.
fn begin(unit: &mut Unit) {
    if unit.state == UnitState::Fresh {
        unit.state = UnitState::Ready;
    }
}

fn finish(unit: &mut Unit, state: StepState) {
    unit.state = UnitState::Done(state);
    if let Some(rare) = &mut unit.rare {
        rare.unanswered = false;
        rare.begun = None;
        rare.previous = None;
        rare.doubt = None;
    }
}
