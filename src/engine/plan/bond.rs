//! What a run is bound to by a plan: the effects that it may have, and what it begins with.

use std::collections::BTreeSet;
use std::str::FromStr;
use std::sync::Arc;

use super::Fact;
use super::Place;
use super::Plan;
use super::PlannedEffect;
use super::value::bound;
use crate::model::ErrorClass;
use crate::model::Phase;
use crate::model::RunEvent;
use crate::model::StepError;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::model::Unknown;
use crate::model::Value;

/// What a run is bound to. It stands in the run's journal, so that whoever goes on with the run is bound, too.
#[derive(Clone, Debug, PartialEq)]
pub struct Bond {
    /// The hash of the plan.
    pub hash: Arc<str>,
    effects: Vec<Allowed>,
    facts: Vec<Fact>,
    /// The steps whose effects are bound; nothing where all are.
    only: Option<BTreeSet<Arc<str>>>,
}

/// An effect that the run may have.
#[derive(Clone, Debug, PartialEq)]
struct Allowed {
    place: Place,
    each: bool,
    node: Arc<str>,
    input: Value,
}

impl Bond {
    /// Binds a run to a plan with this hash.
    #[must_use]
    pub fn of(plan: &Plan, hash: &str) -> Self {
        let allowed = |effect: &PlannedEffect| Allowed {
            place: effect.place.clone(),
            each: effect.each,
            node: effect.node.clone(),
            input: effect.input.clone(),
        };
        Self {
            hash: hash.into(),
            effects: plan.effects.iter().map(allowed).collect(),
            facts: plan.facts.clone(),
            only: None,
        }
    }

    /// Binds these steps alone; others as an earlier bond does.
    #[must_use]
    pub fn only(self, steps: BTreeSet<Arc<str>>, earlier: Option<&Self>) -> Self {
        let mut effects = self.effects;
        let others = earlier.iter().flat_map(|earlier| &earlier.effects);
        effects.extend(others.filter(|effect| !steps.contains(effect.place.first())).cloned());
        let only = match earlier {
            Some(Self { only: None, .. }) => None,
            Some(Self { only: Some(bound), .. }) => Some(steps.union(bound).cloned().collect()),
            None => Some(steps),
        };
        Self { effects, only, ..self }
    }

    /// Tells whether the effects of a step are bound.
    fn binds(&self, path: &StepPath) -> bool {
        self.only.as_ref().is_none_or(|only| path.phase == Phase::Main && only.contains(&path.step))
    }

    /// Returns what the run that a step calls is bound to.
    #[must_use]
    pub fn below(&self, path: &StepPath) -> Option<Self> {
        if !self.binds(path) {
            return None;
        }
        let path = path.clone().whole();
        let inside = |place: &Place, each: bool| {
            let (first, rest) = place.above.split_first()?;
            let same = *first == path || each && first.step == path.step && first.phase == path.phase;
            same.then(|| Place { above: rest.to_vec(), path: place.path.clone() })
        };
        let effects = self
            .effects
            .iter()
            .filter_map(|effect| Some(Allowed { place: inside(&effect.place, effect.each)?, ..effect.clone() }));
        let facts = self.facts.iter().filter_map(|fact| {
            let place = inside(fact.place(), false)?;
            Some(match fact.clone() {
                Fact::Skipped { reason, .. } => Fact::Skipped { place, reason },
                Fact::Items { items, .. } => Fact::Items { place, items },
                Fact::Done { output, recovered, visible, .. } => Fact::Done { place, output, recovered, visible },
            })
        });
        Some(Self { hash: self.hash.clone(), effects: effects.collect(), facts: facts.collect(), only: None })
    }

    /// Returns what an effect is to send: what the plan knows of it, and for the rest what came out in the run.
    ///
    /// # Errors
    /// The plan has no such effect.
    pub fn input_of(&self, path: &StepPath, node: &str, input: Value) -> Result<Value, String> {
        // What is taken back was planned.
        if path.phase == Phase::Undo || !self.binds(path) {
            return Ok(input);
        }
        let path = path.clone().whole();
        let planned = self.effects.iter().find(|effect| {
            let own = &effect.place;
            let same = own.path == path || effect.each && own.path.step == path.step && own.path.phase == path.phase;
            own.above.is_empty() && same && *effect.node == *node
        });
        let Some(planned) = planned else {
            return Err(format!("the plan has no effect `{node}` of step `{path}`: nothing was sent"));
        };
        bound(&planned.input, input, "with").map_err(|how| {
            format!("the effect `{node}` of step `{path}` is another than planned: {how}; nothing was sent")
        })
    }

    /// Returns the events with which the run's journal begins.
    #[must_use]
    pub fn events(&self, at: Timestamp) -> Vec<RunEvent> {
        let mut events = vec![RunEvent::Planned { at, bond: self.to_value() }];
        for fact in self.facts.iter().filter(|fact| fact.place().above.is_empty()) {
            let path = fact.place().path.clone();
            match fact.clone() {
                Fact::Skipped { reason, .. } => events.push(RunEvent::Skipped { path, at, reason }),
                Fact::Items { items, .. } => events.push(RunEvent::Items { step: path, items, at }),
                Fact::Done { output, recovered, visible, .. } => {
                    if visible {
                        events.push(RunEvent::StepStarted { path: path.clone(), attempt: 1, at });
                    }
                    let recovered = recovered.map(Box::new);
                    events.push(RunEvent::Succeeded { path, attempt: 1, started: at, at, output, recovered });
                }
            }
        }
        events
    }

    /// Returns it as the journal keeps it.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let effects = self.effects.iter().map(|effect| {
            Value::map([
                ("place", place_value(&effect.place)),
                ("each", effect.each.into()),
                ("node", (&*effect.node).into()),
                ("input", marked(&effect.input)),
            ])
        });
        // What this run begins with stands behind it in its journal; what those begin with that it calls, does not.
        let facts = self.facts.iter().filter(|fact| !fact.place().above.is_empty()).map(|fact| match fact {
            Fact::Skipped { place, reason } => {
                Value::map([("place", place_value(place)), ("skipped", (&**reason).into())])
            }
            Fact::Items { place, items } => Value::map([("place", place_value(place)), ("items", items.clone())]),
            Fact::Done { place, output, recovered, visible } => {
                let recovered = recovered.as_ref().map_or(Value::Null, |error| {
                    Value::list(vec![error.class.name().into(), error.message.as_str().into()])
                });
                Value::map([
                    ("place", place_value(place)),
                    ("output", output.clone()),
                    ("recovered", recovered),
                    ("visible", (*visible).into()),
                ])
            }
        });
        Value::map([
            ("hash", Value::from(&*self.hash)),
            ("effects", Value::list(effects.collect())),
            ("facts", Value::list(facts.collect())),
            (
                "only",
                self.only
                    .as_ref()
                    .map_or(Value::Null, |only| Value::list(only.iter().map(|step| Value::from(&**step)).collect())),
            ),
        ])
    }

    /// Reads it back; nothing where it is none.
    #[must_use]
    pub fn from_value(value: &Value) -> Option<Self> {
        let effects = value.get("effects")?.as_list()?.iter().map(|effect| {
            Some(Allowed {
                place: place_of(effect.get("place")?)?,
                each: effect.get("each")?.as_bool()?,
                node: effect.get("node")?.as_str()?.into(),
                input: unmarked(effect.get("input")?),
            })
        });
        let facts = value.get("facts")?.as_list()?.iter().map(|fact| {
            let place = place_of(fact.get("place")?)?;
            if let Some(reason) = fact.get("skipped") {
                return Some(Fact::Skipped { place, reason: reason.as_str()?.into() });
            }
            if let Some(items) = fact.get("items") {
                return Some(Fact::Items { place, items: items.clone() });
            }
            let recovered = match fact.get("recovered").and_then(Value::as_list) {
                Some([class, message]) => {
                    let class = ErrorClass::by_name(class.as_str()?)?;
                    Some(StepError { class, message: message.as_str()?.to_owned() })
                }
                _ => None,
            };
            let (output, visible) = (fact.get("output")?.clone(), fact.get("visible")?.as_bool()?);
            Some(Fact::Done { place, output, recovered, visible })
        });
        let only = value.get("only").and_then(Value::as_list);
        let only = only.map(|steps| steps.iter().filter_map(|step| step.as_str().map(Arc::from)).collect());
        Some(Self {
            only,
            hash: value.get("hash")?.as_str()?.into(),
            effects: effects.collect::<Option<Vec<_>>>()?,
            facts: facts.collect::<Option<Vec<_>>>()?,
        })
    }
}

fn place_value(place: &Place) -> Value {
    let paths = place.above.iter().chain([&place.path]);
    Value::list(paths.map(|path| Value::from(path.to_string())).collect())
}

fn place_of(value: &Value) -> Option<Place> {
    let mut paths = value.as_list()?.iter().map(|path| StepPath::from_str(path.as_str()?).ok());
    let mut above = paths.by_ref().collect::<Option<Vec<_>>>()?;
    let path = above.pop()?;
    Some(Place { above, path })
}

/// Marks what is unknown so that the journal can keep it: no value of a run is unknown.
fn marked(value: &Value) -> Value {
    match value {
        Value::Unknown(_) => Value::map([(UNKNOWN, Value::Null)]),
        Value::List(items) => Value::list(items.iter().map(marked).collect()),
        Value::Map(map) if map.len() == 1 && map.contains_key(UNKNOWN) => Value::map([(UNKNOWN, value.clone())]),
        Value::Map(map) => Value::map(map.iter().map(|(key, value)| (key.clone(), marked(value)))),
        other => other.clone(),
    }
}

fn unmarked(value: &Value) -> Value {
    match value {
        Value::Map(map) if map.len() == 1 && map.contains_key(UNKNOWN) => match map.get(UNKNOWN) {
            Some(Value::Null) | None => Unknown::of_all([]),
            Some(own) => own.clone(),
        },
        Value::List(items) => Value::list(items.iter().map(unmarked).collect()),
        Value::Map(map) => Value::map(map.iter().map(|(key, value)| (key.clone(), unmarked(value)))),
        other => other.clone(),
    }
}

const UNKNOWN: &str = "?";
