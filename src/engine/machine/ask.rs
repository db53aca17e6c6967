//! Step runs that ask and sleep, and those whose child run was told something while they sleep.

use super::Machine;
use super::state::Unit;
use super::state::UnitKey;
use super::state::UnitState;
use super::state::Work;
use crate::model::Ask;
use crate::model::AskId;
use crate::model::Phase;
use crate::model::RunEvent;
use crate::model::RunId;
use crate::model::StepPath;
use crate::model::Timestamp;

impl Machine {
    /// A step run asks, and sleeps until it is answered.
    pub fn ask(&mut self, key: UnitKey, ask: Ask, now: Timestamp) {
        let (path, attempt) = self.path_and_attempt(key);
        self.record(RunEvent::Asked { path, attempt, at: now, ask: Box::new(ask) });
        self.settle_blocked(now);
    }

    /// Returns what a step run asks and has no answer to, and since when.
    #[must_use]
    pub fn asks(&self, key: UnitKey) -> Option<(Timestamp, &Ask)> {
        asked(self.unit(key)?)
    }

    /// Finds the step run that asks this and has no answer.
    #[must_use]
    pub fn asker(&self, id: &AskId) -> Option<UnitKey> {
        self.askers().into_iter().find(|(_, ask)| ask.id == *id).map(|(key, _)| key)
    }

    /// Lists what is asked and has no answer, each with the path of its step run.
    #[must_use]
    pub fn open_asks(&self) -> Vec<(StepPath, AskId)> {
        self.askers().into_iter().map(|(key, ask)| (self.path(key), ask.id.clone())).collect()
    }

    /// Says why the run waits where it waits for answers.
    #[must_use]
    pub fn asking(&self) -> Option<String> {
        let askers = self.askers();
        let (_, first) = askers.first()?;
        Some(match askers.len() {
            1 => first.reason.to_string(),
            more => format!("{}, and {} more", first.reason, more - 1),
        })
    }

    /// The answer is on its way in the inbox: the step run sleeps until it is read.
    pub fn doze(&mut self, key: UnitKey) {
        self.land(key);
        if let Some(unit) = self.unit_mut(key) {
            unit.state = UnitState::Asleep { until: None, then: None };
        }
    }

    /// The child run of a step run was told something, and perhaps nobody executes it: the step run goes on with it.
    pub fn rouse(&mut self, child: RunId, now: Timestamp) {
        let Some(key) = self.children().into_iter().find(|known| known.run == child).map(|child| child.key) else {
            return;
        };
        let path = self.path(key);
        let Some(unit) = self.unit_mut(key) else { return };
        match unit.state {
            UnitState::Asleep { .. } => self.record(RunEvent::Woken { path, at: now }),
            // Whether it has heard of it shows when its execution ends.
            UnitState::Flying => unit.rare().roused = true,
            _ => {}
        }
    }

    /// The execution of a child run begins.
    pub fn forget_rousing(&mut self, key: UnitKey) {
        if let Some(rare) = self.unit_mut(key).and_then(|unit| unit.rare.as_mut()) {
            rare.roused = false;
        }
    }

    /// The child run of a step run has just fallen asleep, perhaps over what it was told meanwhile.
    pub fn rouse_again(&mut self, key: UnitKey, now: Timestamp) {
        let roused = self.unit_mut(key).and_then(|unit| unit.rare.as_ref()).is_some_and(|rare| rare.roused);
        if roused {
            let path = self.path(key);
            self.record(RunEvent::Woken { path, at: now });
        }
    }

    /// What a step run asked has its answer, or is no longer asked; its timer goes with it.
    pub(super) fn drop_ask(&mut self, key: UnitKey) {
        let Some(rare) = self.unit_mut(key).and_then(|unit| unit.rare.as_mut()) else { return };
        let Some(at) = rare.ask.take().and_then(|(_, ask)| ask.lapse).map(|lapse| lapse.at) else { return };
        let timers = self.timers.range((at, 0)..=(at, u64::MAX));
        let own: Vec<_> = timers.filter(|(_, sleeper)| **sleeper == key).map(|(timer, _)| *timer).collect();
        for timer in own {
            self.timers.remove(&timer);
        }
    }

    fn askers(&self) -> Vec<(UnitKey, &Ask)> {
        let undone = self.undo.units.iter();
        let mut found: Vec<_> = undone.filter_map(|(key, unit)| Some((*key, asked(unit)?.1))).collect();
        for phase in [Phase::Main, Phase::OnFailure, Phase::Finally] {
            let open = self.part(phase).steps.iter().enumerate().filter(|(_, record)| !record.state.is_final());
            for (step, record) in open {
                match &record.work {
                    Work::None => {}
                    Work::Single(unit) => {
                        found.extend(asked(unit).map(|(_, ask)| (UnitKey { phase, step, item: None }, ask)));
                    }
                    Work::Items(items) => {
                        for (item, unit) in (0..).zip(&items.units) {
                            found.extend(asked(unit).map(|(_, ask)| (UnitKey { phase, step, item: Some(item) }, ask)));
                        }
                    }
                }
            }
        }
        found
    }
}

fn asked(unit: &Unit) -> Option<(Timestamp, &Ask)> {
    let (at, ask) = unit.rare.as_ref()?.ask.as_ref().filter(|_| !unit.is_done())?;
    Some((*at, ask))
}
