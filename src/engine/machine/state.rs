//! What the machine remembers of steps and step runs.

use std::sync::Arc;

use crate::model::Ask;
use crate::model::EffectIntent;
use crate::model::Phase;
use crate::model::RunId;
use crate::model::StepError;
use crate::model::StepState;
use crate::model::Timestamp;
use crate::model::Value;

/// A step run without its round: phase, index of the step, index of the item.
///
/// Undo runs bear the index that the step has in the main graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitKey {
    pub phase: Phase,
    pub step: usize,
    /// Nothing where the step has no `for_each`.
    pub item: Option<u32>,
}

/// What the driver has to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Evaluate `when` and `for_each` of a step whose needs are met.
    Prepare { phase: Phase, step: usize },
    /// Run an attempt.
    Run(UnitKey),
    /// Find out what became of a write in doubt.
    Settle(UnitKey),
    /// Every step of the main part has ended: evaluate guards and outputs.
    Conclude,
}

/// Where a step run stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum UnitState {
    /// Nothing happened yet.
    Fresh,
    /// It may run now (again).
    Ready,
    /// An attempt or a settlement is under way in this process.
    Flying,
    /// Its child run is executed by whoever has claimed it. It keeps its place of `max_parallel`.
    Away,
    /// It sleeps; on waking it ends with `then`, or is ready.
    Asleep { until: Option<Timestamp>, then: Option<Value> },
    /// A write's answer was lost; `held` when only a person can say more.
    InDoubt { held: bool },
    /// It ended.
    Done(StepState),
}

/// A step run.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    pub(super) state: UnitState,
    /// Attempts begun in this round.
    pub(super) attempt: u32,
    /// From 1; counts only where the step has `until`.
    pub(super) round: u32,
    /// Whether `at` and `delay` have been obeyed.
    pub(super) slept: bool,
    pub(super) rare: Option<Box<Rare>>,
}

/// What few step runs have.
#[derive(Clone, Debug, Default)]
pub(super) struct Rare {
    /// The write that was last intended.
    pub(super) intent: Option<EffectIntent>,
    /// When it was first intended.
    pub(super) first_intended: Option<Timestamp>,
    /// Whether an answer that proves the outcome is missing.
    pub(super) unanswered: bool,
    /// Whether it was sent again although nothing proved that the sending before had not happened: a refusal of a later
    /// sending then proves nothing.
    pub(super) unproven: bool,
    /// How often doubt was settled by sending again.
    pub(super) resent: u32,
    /// The attempt of a paid read that has begun and not ended.
    pub(super) begun: Option<Begun>,
    /// Output of the round before.
    pub(super) previous: Option<Value>,
    /// The child run of a `pipeline.run`.
    pub(super) child: Option<RunId>,
    /// Whether the child run was told something while it was executed here: it may fall asleep over it.
    pub(super) roused: bool,
    /// What it asks and has no answer to, and since when.
    pub(super) ask: Option<(Timestamp, Box<Ask>)>,
    /// How often a person had it done again after it had succeeded: a new effect each time.
    pub(super) generation: u32,
    pub(super) doubt: Option<StepError>,
    /// How often the remote was asked in vain since this process took the run.
    pub(super) questions: u32,
}

/// The beginning of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Begun {
    /// The number of the journal's event that says so, from 1.
    pub(in crate::engine) number: u64,
    pub(in crate::engine) at: Timestamp,
}

/// The child run of a step run that has not ended.
#[derive(Clone, Copy, Debug)]
pub(in crate::engine) struct Child {
    pub(in crate::engine) key: UnitKey,
    pub(in crate::engine) run: RunId,
    /// Whether it is executed at this moment.
    pub(in crate::engine) flies: bool,
    /// Whether others execute it.
    pub(in crate::engine) away: bool,
}

/// The step runs of a step.
#[derive(Clone, Debug)]
pub(super) enum Work {
    /// `when` and `for_each` are not evaluated yet.
    None,
    Single(Unit),
    Items(Items),
}

/// The items of a `for_each`.
#[derive(Clone, Debug)]
pub(super) struct Items {
    pub(super) values: Arc<Vec<Value>>,
    pub(super) units: Vec<Unit>,
    pub(super) outputs: Vec<Value>,
    /// No item before this one is fresh.
    pub(super) next: usize,
    /// How many hold a place of `max_parallel`.
    pub(super) flying: usize,
    pub(super) done: usize,
    /// The failed item with the smallest index, and its error.
    pub(super) failed: Option<(u32, StepError)>,
    /// Woken items that wait for a place.
    pub(super) stalled: Vec<u32>,
}

/// A step in a run.
#[derive(Clone, Debug)]
pub(super) struct StepRecord {
    pub(super) state: StepState,
    /// How many of its needs have not ended.
    pub(super) missing: usize,
    /// Whether a need failed for good or was canceled.
    pub(super) blocked: bool,
    pub(super) work: Work,
    pub(super) output: Value,
    pub(super) error: Option<StepError>,
    pub(super) generation: u32,
}

impl Unit {
    pub(super) fn fresh(generation: u32) -> Self {
        let rare = (generation > 0).then(|| Box::new(Rare { generation, ..Rare::default() }));
        Self { state: UnitState::Fresh, attempt: 0, round: 1, slept: false, rare }
    }

    pub(super) fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_with(Box::default)
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state, UnitState::Done(_))
    }

    pub(super) fn is_unanswered(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.unanswered)
    }
}

impl StepRecord {
    pub(super) fn new(missing: usize) -> Self {
        Self {
            state: StepState::Pending,
            missing,
            blocked: false,
            work: Work::None,
            output: Value::Null,
            error: None,
            generation: 0,
        }
    }

    pub(super) fn unit(&mut self, item: Option<u32>) -> Option<&mut Unit> {
        match (&mut self.work, item) {
            (Work::Single(unit), None) => Some(unit),
            (Work::Items(items), Some(item)) => items.units.get_mut(usize::try_from(item).ok()?),
            _ => None,
        }
    }
}

impl Items {
    pub(super) fn new(values: Arc<Vec<Value>>, generation: u32) -> Self {
        let units = vec![Unit::fresh(generation); values.len()];
        let outputs = vec![Value::Null; values.len()];
        Self { values, units, outputs, next: 0, flying: 0, done: 0, failed: None, stalled: Vec::new() }
    }
}
