//! `runs retry`: what failed is done again, what succeeded stays, unless a person says from where to begin anew.

use super::Machine;
use super::Part;
use super::state::StepRecord;
use super::state::Unit;
use super::state::UnitState;
use super::state::Work;
use crate::model::Phase;
use crate::model::StepState;
use crate::model::Value;
use crate::pipeline::OnError;

impl Machine {
    pub(super) fn apply_retry(&mut self, from: Option<&str>) {
        // What was undone is no longer there, so it is done again, and so is all that read it.
        let undone: Vec<_> = self.undo.queue.iter().take(self.undo.next).map(|key| key.step).collect();
        let mut anew = vec![false; self.main.steps.len()];
        let first = from.and_then(|id| self.pipeline.main.index.get(id)).copied();
        let mut open: Vec<usize> = undone.into_iter().chain(first).collect();
        while let Some(step) = open.pop() {
            let Some(seen) = anew.get_mut(step) else { continue };
            if !std::mem::replace(seen, true) {
                open.extend(self.main.dependents.get(step).into_iter().flatten());
            }
        }
        for (step, record) in self.main.steps.iter_mut().enumerate() {
            if anew.get(step).copied().unwrap_or(false) {
                *record = StepRecord { generation: record.generation + 1, ..StepRecord::new(0) };
            } else if matches!(record.state, StepState::Failed | StepState::Canceled) {
                reopen(record);
            }
        }
        self.undo.completed.retain(|key| !anew.get(key.step).copied().unwrap_or(false));
        self.undo.queue.clear();
        self.undo.next = 0;
        self.undo.units.clear();
        self.on_failure = renewed(&self.on_failure, Part::new(&self.pipeline.on_failure));
        self.finally = renewed(&self.finally, Part::new(&self.pipeline.finally));
        self.recount();
        self.phase = Phase::Main;
        self.finished = None;
        self.outcome = None;
        self.held = None;
        self.halt = None;
        self.concluding = false;
        self.first_error = None;
        self.outputs = Value::Null;
        self.timers.clear();
    }

    /// Counts again what each step of the main part waits for.
    fn recount(&mut self) {
        let hard = self.main.steps.iter().zip(&self.pipeline.main.steps).map(|(record, step)| {
            record.state == StepState::Canceled
                || (record.state == StepState::Failed && !matches!(step.on_error, OnError::Continue))
        });
        let hard: Vec<bool> = hard.collect();
        let ended: Vec<bool> = self.main.steps.iter().map(|record| record.state.is_final()).collect();
        let is = |list: &[bool], step: &usize| list.get(*step).copied().unwrap_or(false);
        for (record, step) in self.main.steps.iter_mut().zip(&self.pipeline.main.steps) {
            record.missing = step.needs.iter().filter(|need| !is(&ended, need)).count();
            record.blocked = step.needs.iter().any(|need| is(&hard, need));
        }
        self.main.remaining = ended.iter().filter(|ended| !**ended).count();
    }
}

/// Opens a failed or canceled step again; items that succeeded keep their outputs.
fn reopen(record: &mut StepRecord) {
    record.error = None;
    record.output = Value::Null;
    let Work::Items(items) = &mut record.work else {
        *record = StepRecord { generation: record.generation, ..StepRecord::new(0) };
        return;
    };
    for unit in &mut items.units {
        if !matches!(unit.state, UnitState::Done(StepState::Succeeded | StepState::Skipped)) {
            let generation = unit.rare.as_ref().map_or(0, |rare| rare.generation);
            *unit = Unit::fresh(generation);
        }
    }
    items.done = items.units.iter().filter(|unit| unit.is_done()).count();
    items.outputs.resize(items.units.len(), Value::Null);
    items.failed = None;
    items.next = 0;
    items.flying = 0;
    items.stalled.clear();
    record.state = StepState::Running;
}

fn renewed(old: &Part, mut new: Part) -> Part {
    for (old, new) in old.steps.iter().zip(&mut new.steps) {
        new.generation = old.generation + u32::from(old.state != StepState::Pending);
    }
    new
}
