//! What the driver may ask the machine.

use super::Begun;
use super::Child;
use super::Machine;
use super::state::Unit;
use super::state::UnitKey;
use super::state::UnitState;
use super::state::Work;
use crate::model::Effect;
use crate::model::EffectId;
use crate::model::EffectIntent;
use crate::model::Phase;
use crate::model::RunId;
use crate::model::RunState;
use crate::model::StepError;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::model::Value;
use crate::pipeline::Step;
use crate::template::StepView;

impl Machine {
    /// Returns the journal's name of a step run as it stands now, with its round.
    #[must_use]
    pub fn path(&self, key: UnitKey) -> StepPath {
        let step = self.step(key);
        let round = step.until.is_some().then(|| self.unit(key).map_or(1, |unit| unit.round));
        let round = round.filter(|_| key.phase != Phase::Undo);
        StepPath { phase: key.phase, step: step.id.clone(), item: key.item, round }
    }

    /// Returns the definition of the step that a key belongs to.
    #[must_use]
    pub fn definition(&self, key: UnitKey) -> &Step {
        self.step(key)
    }

    /// Returns the item of a step run.
    #[must_use]
    pub fn item(&self, key: UnitKey) -> Option<Value> {
        let items = self.items(key)?;
        items.values.get(usize::try_from(key.item?).ok()?).cloned()
    }

    /// Returns what `previous` means to a step run: the output of the round before, else of the item before.
    #[must_use]
    pub fn previous(&self, key: UnitKey) -> Option<Value> {
        let unit = self.unit(key)?;
        if let Some(previous) = unit.rare.as_ref().and_then(|rare| rare.previous.clone()) {
            return Some(previous);
        }
        let before = usize::try_from(key.item?.checked_sub(1)?).ok()?;
        self.items(key)?.outputs.get(before).cloned()
    }

    /// Returns the output that a step run ended with; for its `undo`.
    #[must_use]
    pub fn output(&self, key: UnitKey) -> Value {
        let record = self.part(key.phase).steps.get(key.step);
        let whole = record.map(|record| record.output.clone()).unwrap_or_default();
        let Some(item) = key.item.and_then(|item| usize::try_from(item).ok()) else { return whole };
        if let Value::List(outputs) = &whole {
            return outputs.get(item).cloned().unwrap_or_default();
        }
        // The step as a whole failed, but this item of it had succeeded.
        self.items(key).and_then(|items| items.outputs.get(item).cloned()).unwrap_or_default()
    }

    /// Returns the write that a step run last intended.
    #[must_use]
    pub fn intent(&self, key: UnitKey) -> Option<&EffectIntent> {
        self.unit(key)?.rare.as_ref()?.intent.as_ref()
    }

    /// Returns when a step run's write was first intended.
    #[must_use]
    pub fn first_intended(&self, key: UnitKey) -> Option<Timestamp> {
        self.unit(key)?.rare.as_ref()?.first_intended
    }

    /// Returns how often a doubt about this step run was settled by sending again.
    #[must_use]
    pub fn resent(&self, key: UnitKey) -> u32 {
        self.unit(key).and_then(|unit| unit.rare.as_ref()).map_or(0, |rare| rare.resent)
    }

    /// Tells whether an earlier sending of the step run's write may have happened, whatever became of a later one.
    #[must_use]
    pub fn is_unproven(&self, key: UnitKey) -> bool {
        self.unit(key).and_then(|unit| unit.rare.as_ref()).is_some_and(|rare| rare.unproven)
    }

    /// Returns the beginning of a paid read's attempt that has not ended.
    #[must_use]
    pub(in crate::engine) fn begun(&self, key: UnitKey) -> Option<Begun> {
        self.unit(key)?.rare.as_ref()?.begun
    }

    pub(super) fn is_paid_read(&self, key: UnitKey) -> bool {
        let step = self.step(key);
        let undo = step.undo.as_ref().filter(|_| key.phase == Phase::Undo);
        undo.map_or(step.effect, |undo| undo.effect) == Effect::PaidRead
    }

    /// Returns how often the effect had been done before a person asked for it again.
    #[must_use]
    pub fn generation(&self, key: UnitKey) -> u32 {
        self.unit(key).and_then(|unit| unit.rare.as_ref()).map_or(0, |rare| rare.generation)
    }

    /// Returns the number of the attempt that was begun last, at least 1.
    #[must_use]
    pub fn attempt(&self, key: UnitKey) -> u32 {
        self.unit(key).map_or(1, |unit| unit.attempt.max(1))
    }

    /// Returns how many attempts of a step run were begun in its round.
    #[must_use]
    pub fn attempts_begun(&self, key: UnitKey) -> u32 {
        self.unit(key).map_or(0, |unit| unit.attempt)
    }

    /// Lists the child runs of step runs that have not ended.
    #[must_use]
    pub(in crate::engine) fn children(&self) -> Vec<Child> {
        let mut children = Vec::new();
        let mut add = |key: UnitKey, unit: &Unit| {
            if let Some(run) = unit.rare.as_ref().and_then(|rare| rare.child).filter(|_| !unit.is_done()) {
                let (flies, away) = (unit.state == UnitState::Flying, unit.state == UnitState::Away);
                children.push(Child { key, run, flies, away });
            }
        };
        for phase in [Phase::Main, Phase::OnFailure, Phase::Finally] {
            for (step, record) in self.part(phase).steps.iter().enumerate() {
                match &record.work {
                    Work::None => {}
                    Work::Single(unit) => add(UnitKey { phase, step, item: None }, unit),
                    Work::Items(items) => {
                        for (item, unit) in (0..).zip(&items.units) {
                            add(UnitKey { phase, step, item: Some(item) }, unit);
                        }
                    }
                }
            }
        }
        children
    }

    /// Lists the writes whose outcome is not known, with their effects.
    #[must_use]
    pub fn open_effects(&self) -> Vec<(StepPath, EffectId)> {
        let mut open = Vec::new();
        for phase in [Phase::Main, Phase::Undo, Phase::OnFailure, Phase::Finally] {
            for key in self.unanswered(phase) {
                if let Some(intent) = self.intent(key) {
                    open.push((self.path(key), intent.id.clone()));
                }
            }
        }
        open
    }

    fn unanswered(&self, phase: Phase) -> Vec<UnitKey> {
        if phase == Phase::Undo {
            let units = self.undo.units.iter().filter(|(_, unit)| unit.is_unanswered());
            return units.map(|(key, _)| *key).collect();
        }
        let mut found = Vec::new();
        for (step, record) in self.part(phase).steps.iter().enumerate() {
            match &record.work {
                Work::Single(unit) if unit.is_unanswered() => found.push(UnitKey { phase, step, item: None }),
                Work::Items(items) => {
                    let open = items.units.iter().enumerate().filter(|(_, unit)| unit.is_unanswered());
                    found.extend(open.map(|(item, _)| UnitKey { phase, step, item: u32::try_from(item).ok() }));
                }
                _ => {}
            }
        }
        found
    }

    /// Finds the step run whose effect of this id is in doubt.
    #[must_use]
    pub fn doubt_by_effect(&self, effect: &str) -> Option<UnitKey> {
        let is = |key: UnitKey| self.intent(key).is_some_and(|intent| *intent.id.0 == *effect);
        self.units().into_iter().map(|(key, _)| key).find(|key| is(*key))
    }

    #[must_use]
    pub fn round(&self, key: UnitKey) -> u32 {
        self.unit(key).map_or(1, |unit| unit.round)
    }

    /// Tells whether `at` and `delay` have been obeyed.
    #[must_use]
    pub fn has_slept(&self, key: UnitKey) -> bool {
        self.unit(key).is_some_and(|unit| unit.slept)
    }

    /// Returns the child run that a step run started.
    #[must_use]
    pub fn child(&self, key: UnitKey) -> Option<RunId> {
        self.unit(key)?.rare.as_ref()?.child
    }

    /// Returns the error that put a step run's write in doubt.
    #[must_use]
    pub fn doubt_of(&self, key: UnitKey) -> Option<&StepError> {
        self.unit(key)?.rare.as_ref()?.doubt.as_ref()
    }

    /// Returns a step as expressions see it.
    #[must_use]
    pub fn view(&self, phase: Phase, step: usize) -> Option<StepView> {
        let record = self.part(phase).steps.get(step)?;
        Some(StepView { output: record.output.clone(), state: record.state, error: record.error.clone() })
    }

    /// Returns the final state, once the run has ended.
    #[must_use]
    pub fn finished(&self) -> Option<RunState> {
        self.finished
    }

    /// Returns state and error of the main part, once they are clear.
    #[must_use]
    pub fn outcome(&self) -> Option<&(RunState, Option<StepError>)> {
        self.outcome.as_ref()
    }

    #[must_use]
    pub fn outputs(&self) -> &Value {
        &self.outputs
    }

    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Returns how many step runs are under way in this process.
    #[must_use]
    pub fn flying(&self) -> usize {
        self.flying - self.away
    }

    /// Returns how many step runs have left their child runs to others.
    #[must_use]
    pub fn away(&self) -> usize {
        self.away
    }

    /// Tells whether the run is being ended before its time.
    #[must_use]
    pub fn is_halting(&self) -> bool {
        self.halt.is_some()
    }

    /// Returns why nothing goes on without a person.
    #[must_use]
    pub fn held(&self) -> Option<&str> {
        self.held.as_deref()
    }

    /// Tells whether an attempt of a step run is under way.
    #[must_use]
    pub fn flies(&self, key: UnitKey) -> bool {
        self.unit(key).is_some_and(|unit| unit.state == UnitState::Flying)
    }

    /// Tells whether a step run has begun and has not ended.
    #[must_use]
    pub fn is_open(&self, key: UnitKey) -> bool {
        self.unit(key).is_some_and(|unit| !unit.is_done())
    }

    /// Lists the step runs of the current phase that sleep without a time.
    #[must_use]
    pub fn without_time(&self) -> Vec<UnitKey> {
        let asleep =
            |unit: &super::state::Unit| (unit.state == UnitState::Asleep { until: None, then: None }).then_some(());
        self.found(asleep).into_iter().map(|(key, ())| key).collect()
    }

    /// Lists the writes in doubt that only a person can settle.
    #[must_use]
    pub fn held_doubts(&self) -> Vec<UnitKey> {
        self.units().into_iter().filter(|(_, held)| *held).map(|(key, _)| key).collect()
    }

    /// Lists all writes in doubt of the current phase, each with whether only a person can settle it.
    fn units(&self) -> Vec<(UnitKey, bool)> {
        self.found(|unit| match unit.state {
            UnitState::InDoubt { held } => Some(held),
            _ => None,
        })
    }

    /// Lists the step runs of the current phase of which something holds.
    fn found<T>(&self, held: impl Fn(&super::state::Unit) -> Option<T>) -> Vec<(UnitKey, T)> {
        if self.phase == Phase::Undo {
            let units = self.undo.units.iter();
            return units.filter_map(|(key, unit)| held(unit).map(|held| (*key, held))).collect();
        }
        let phase = self.phase;
        let mut found = Vec::new();
        for (step, record) in self.part(phase).steps.iter().enumerate() {
            match &record.work {
                Work::Single(unit) => {
                    found.extend(held(unit).map(|held| (UnitKey { phase, step, item: None }, held)));
                }
                Work::Items(items) => {
                    for (item, unit) in items.units.iter().enumerate() {
                        let Some(held) = held(unit) else { continue };
                        found.push((UnitKey { phase, step, item: u32::try_from(item).ok() }, held));
                    }
                }
                Work::None => {}
            }
        }
        found
    }

    fn items(&self, key: UnitKey) -> Option<&super::state::Items> {
        let phase = if key.phase == Phase::Undo { Phase::Main } else { key.phase };
        match &self.part(phase).steps.get(key.step)?.work {
            Work::Items(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn unit(&self, key: UnitKey) -> Option<&super::state::Unit> {
        if key.phase == Phase::Undo {
            return self.undo.units.get(&key);
        }
        match (&self.part(key.phase).steps.get(key.step)?.work, key.item) {
            (Work::Single(unit), None) => Some(unit),
            (Work::Items(items), Some(item)) => items.units.get(usize::try_from(item).ok()?),
            _ => None,
        }
    }
}
