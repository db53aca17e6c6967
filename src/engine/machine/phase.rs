//! From one phase of a run to the next: main, undo, `on_failure`, `finally`, the end.

use std::sync::Arc;

use super::Halt;
use super::Machine;
use super::state::Task;
use super::state::Unit;
use super::state::UnitKey;
use super::state::UnitState;
use super::state::Work;
use crate::model::ErrorClass;
use crate::model::Phase;
use crate::model::RunEvent;
use crate::model::RunState;
use crate::model::StepError;
use crate::model::StepPath;
use crate::model::StepState;
use crate::model::Timestamp;
use crate::model::Value;

impl Machine {
    /// Tells the outcome of guards and outputs, after `Task::Conclude`.
    pub fn conclude(&mut self, result: Result<Value, StepError>, now: Timestamp) {
        let (state, error) = match (&self.halt, &self.first_error, result) {
            (Some(Halt::Cancel { reason, .. }), _, _) => {
                let told = |reason: &Arc<str>| StepError { class: ErrorClass::Canceled, message: reason.to_string() };
                (RunState::Canceled, reason.as_ref().map(told))
            }
            (Some(Halt::Failure(error)), _, _) | (None, Some(error), _) => (RunState::Failed, Some(error.clone())),
            (None, None, Err(error)) => (RunState::Failed, Some(error)),
            (None, None, Ok(outputs)) => {
                self.outputs = outputs;
                (RunState::Succeeded, None)
            }
        };
        if let (RunState::Failed, Some(step), Some(error)) = (state, &self.irreversible, &error) {
            self.held = Some(format!(
                "{}; step `{step}` is irreversible, so the run goes forward only: retry or cancel it",
                error.message
            ));
            self.concluding = false;
            return;
        }
        self.outcome = Some((state, error));
        self.next_phase(now);
    }

    /// Fails the run before its first step: a guard does not hold.
    pub fn refuse(&mut self, error: StepError, now: Timestamp) {
        self.first_error.get_or_insert(error.clone());
        self.halt = Some(Halt::Failure(error));
        self.settle_blocked(now);
    }

    fn next_phase(&mut self, now: Timestamp) {
        let Some((state, error)) = self.outcome.clone() else { return };
        let failed = state == RunState::Failed;
        let undoes = failed || matches!(self.halt, Some(Halt::Cancel { undo: true, .. }));
        let wanted = [
            (Phase::Undo, undoes && !self.undo.completed.is_empty()),
            (Phase::OnFailure, failed && !self.pipeline.on_failure.is_empty()),
            (Phase::Finally, !self.pipeline.finally.is_empty()),
        ];
        let next = wanted.into_iter().find(|(phase, wanted)| *phase > self.phase && *wanted);
        let error = error.map(Box::new);
        match next {
            Some((phase, _)) => {
                self.record(RunEvent::PhaseStarted { phase, at: now, state, error });
                self.settle_blocked(now);
            }
            None => {
                let outputs = if failed { Value::Null } else { self.outputs.clone() };
                self.record(RunEvent::Finished { at: now, state, outputs, error });
            }
        }
    }

    pub(super) fn enter_phase(&mut self, phase: Phase) {
        self.phase = phase;
        if phase == Phase::Undo {
            self.undo.queue = self.undo.completed.iter().rev().map(|key| UnitKey { phase, ..*key }).collect();
            self.undo.next = 0;
            for key in self.undo.queue.clone() {
                let main = UnitKey { phase: Phase::Main, ..key };
                let generation =
                    self.unit_mut(main).and_then(|unit| unit.rare.as_ref()).map_or(0, |rare| rare.generation);
                self.undo.units.insert(key, Unit::fresh(generation));
            }
            if let (true, Some(first)) = (self.started, self.undo.queue.first().copied()) {
                self.make_ready(first);
            }
            return;
        }
        if self.started || phase == Phase::Main {
            for step in self.roots(phase) {
                self.queue_prepare(phase, step);
            }
        }
    }

    fn roots(&self, phase: Phase) -> Vec<usize> {
        let steps = self.part(phase).steps.iter().enumerate();
        let open = steps.filter(|(_, record)| record.missing == 0 && record.state == StepState::Pending);
        open.filter(|(_, record)| !record.blocked).map(|(step, _)| step).collect()
    }

    /// Returns the task that closes the main part, once.
    pub(super) fn conclusion(&mut self) -> Option<Task> {
        let over = self.phase == Phase::Main && self.main.remaining == 0 && self.flying == 0;
        if !over || self.concluding || self.outcome.is_some() {
            return None;
        }
        self.concluding = true;
        Some(Task::Conclude)
    }

    /// Ends what can no longer run, and goes to the next phase where this one is over.
    pub(super) fn settle_blocked(&mut self, now: Timestamp) {
        while let Some((phase, step)) = self.blocked.pop_front() {
            let pending = self.part(phase).steps.get(step).is_some_and(|record| record.state == StepState::Pending);
            if pending {
                self.cancel_step(phase, step, now);
            }
        }
        if self.halt.is_some() && self.phase == Phase::Main {
            self.cancel_the_rest(now);
        }
        if self.outcome.is_none() || self.finished.is_some() || self.held.is_some() {
            return;
        }
        let over = match self.phase {
            Phase::Main => false,
            Phase::Undo => self.undo.next >= self.undo.queue.len(),
            phase => self.part(phase).remaining == 0,
        };
        if over && self.flying == 0 {
            self.next_phase(now);
        }
    }

    fn cancel_step(&mut self, phase: Phase, step: usize, now: Timestamp) {
        let path = StepPath { round: None, ..self.path(UnitKey { phase, step, item: None }) };
        self.record(RunEvent::StepCanceled { path, at: now });
    }

    /// Cancels every step run of the main part that is neither under way nor in doubt.
    fn cancel_the_rest(&mut self, now: Timestamp) {
        for step in 0..self.main.steps.len() {
            let Some(record) = self.main.steps.get(step) else { continue };
            if record.state.is_final() {
                continue;
            }
            let busy =
                |unit: &Unit| matches!(unit.state, UnitState::Flying | UnitState::Away | UnitState::InDoubt { .. });
            let idle = match &record.work {
                Work::None => true,
                Work::Single(unit) => !busy(unit),
                Work::Items(items) => !items.units.iter().any(busy),
            };
            if idle {
                self.cancel_step(Phase::Main, step, now);
            }
        }
        while self.blocked.pop_front().is_some() {}
    }

    /// Queues everything of the current phase that can go on, after a replay.
    pub(super) fn requeue(&mut self, now: Timestamp) {
        self.blocked.clear();
        if self.phase == Phase::Undo {
            if let Some(key) = self.undo.queue.get(self.undo.next).copied() {
                self.requeue_unit(key, now);
            }
            return;
        }
        let phase = self.phase;
        for queue in &mut self.ready {
            queue.clear();
        }
        let mut units = Vec::new();
        let mut whole = Vec::new();
        for (step, record) in self.part(phase).steps.iter().enumerate() {
            match (&record.work, record.state) {
                (_, state) if state.is_final() => {}
                (Work::None, _) if record.missing == 0 => whole.push((step, record.blocked)),
                (Work::None, _) => {}
                (Work::Single(_), _) => units.push(UnitKey { phase, step, item: None }),
                (Work::Items(items), _) => {
                    let begun = items.units.iter().enumerate();
                    let begun = begun.filter(|(_, unit)| unit.state != UnitState::Fresh && !unit.is_done());
                    let items = begun.filter_map(|(item, _)| u32::try_from(item).ok());
                    units.extend(items.map(|item| UnitKey { phase, step, item: Some(item) }));
                    whole.push((step, false));
                }
            }
        }
        for (step, blocked) in whole {
            if blocked {
                self.blocked.push_back((phase, step));
            } else if matches!(self.part(phase).steps.get(step).map(|record| &record.work), Some(Work::Items(_))) {
                self.queue_items(phase, step);
            } else {
                self.queue_prepare(phase, step);
            }
        }
        for key in units {
            self.requeue_unit(key, now);
        }
    }

    fn requeue_unit(&mut self, key: UnitKey, now: Timestamp) {
        let Some(unit) = self.unit_mut(key) else { return };
        if unit.is_unanswered() && !matches!(unit.state, UnitState::InDoubt { .. }) {
            let message = "the process ended before the answer came".to_owned();
            return self.doubt(key, StepError { class: ErrorClass::Unavailable, message }, now);
        }
        if let UnitState::InDoubt { held } = &mut unit.state {
            *held = false;
        }
        let has_child = unit.rare.as_ref().is_some_and(|rare| rare.child.is_some());
        let asleep = matches!(unit.state, UnitState::Asleep { .. });
        let for_long = matches!(unit.state, UnitState::Asleep { until: None, then: None });
        if has_child && !asleep && self.step(key).spread && key.phase != Phase::Undo {
            return self.send_away(key);
        }
        // Of a child run that waits for a person or a signal only a look can tell whether it has come.
        let undoes_child = key.phase == Phase::Undo && self.step(key).child.is_some();
        if !asleep || (for_long && (has_child || undoes_child)) {
            self.make_ready(key);
        }
    }

    /// Takes a step run up again whose child run others may execute: it has its place as before.
    fn send_away(&mut self, key: UnitKey) {
        if let Some(unit) = self.unit_mut(key) {
            unit.state = UnitState::Away;
        }
        self.flying += 1;
        self.away += 1;
        if let Some(Work::Items(items)) = self.part_mut(key.phase).steps.get_mut(key.step).map(|step| &mut step.work) {
            items.flying += 1;
        }
    }
}
