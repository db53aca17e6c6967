//! `guards.plan`: conditions over the effects that a run would have.

use std::sync::Arc;

use super::PlannedEffect;
use super::view::Foreseen;
use crate::engine::Parts;
use crate::model::Timestamp;
use crate::model::Value;
use crate::pipeline::Guard;
use crate::template::Scope;

/// So often an effect is counted that happens for each item of a list that is not known.
const MANY: usize = 1_000;

/// What came of a guard.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// What the guard says, or its condition.
    pub said: Arc<str>,
    /// Why it does not hold, or that it cannot be told; nothing where it holds.
    pub fault: Option<String>,
}

impl Judged {
    /// Says why a guard refuses a run; nothing where all hold.
    #[must_use]
    pub fn refusal(judged: &[Self]) -> Option<String> {
        judged.iter().find_map(|guard| Some(format!("guard over the plan {}: {}", guard.fault.as_deref()?, guard.said)))
    }
}

/// Judges the guards over the effects.
pub(super) fn judge(
    guards: &[Guard],
    effects: &[PlannedEffect],
    inputs: &Value,
    parts: &Parts,
    at: Timestamp,
) -> Vec<Judged> {
    if guards.is_empty() {
        return Vec::new();
    }
    let scope = |effects: Vec<Value>| Scope {
        lookup: Arc::new(Foreseen::new(parts.secrets.clone())),
        globals: Arc::new(vec![("inputs".into(), inputs.clone())]),
        locals: vec![("effects", Value::list(effects))],
        now: at,
    };
    let planned = scope(effects.iter().map(seen).collect());
    // What may not happen, or may happen any number of times, must make no difference.
    let mut others = Vec::new();
    if effects.iter().any(|effect| !effect.is_certain()) {
        others.push(scope(effects.iter().filter(|effect| effect.is_certain()).map(seen).collect()));
    }
    if effects.iter().any(|effect| effect.each) {
        let often = |effect: &PlannedEffect| std::iter::repeat_n(seen(effect), if effect.each { MANY } else { 1 });
        others.push(scope(effects.iter().flat_map(often).collect()));
    }
    let judged = guards.iter().map(|guard| {
        let differs = || others.iter().any(|other| guard.that.eval(other).is_ok_and(|holds| !holds.is_truthy()));
        let fault = match guard.that.eval(&planned) {
            Ok(Value::Unknown(unknown)) => {
                let of: Vec<_> = unknown.of.iter().map(|place| format!("`{place}`")).collect();
                Some(format!("cannot be told before the run: it depends on {}", of.join(", ")))
            }
            Ok(holds) if holds.is_truthy() && differs() => {
                Some("cannot be told before the run: it depends on effects of which it is not known whether, or how often, they happen".to_owned())
            }
            Ok(holds) if holds.is_truthy() => None,
            Ok(_) => Some("does not hold".to_owned()),
            Err(error) => Some(format!("has no value: {}", parts.secrets.mask(error.message))),
        };
        Judged { said: guard.said().into(), fault }
    });
    judged.collect()
}

/// Returns an effect as `effects` shows it.
#[must_use]
pub(super) fn seen(effect: &PlannedEffect) -> Value {
    let names = |names: &[Arc<str>]| Value::list(names.iter().map(|name| Value::from(&**name)).collect());
    let costs = effect.costs.iter().map(|cost| {
        Value::map([
            ("budget", Value::from(&*cost.budget)),
            ("amount", cost.amount.map_or_else(|| crate::model::Unknown::of(effect.place.to_string()), Value::Decimal)),
            ("unit", cost.unit.as_deref().map_or(Value::Null, Value::from)),
        ])
    });
    Value::map([
        ("step", Value::from(effect.place.to_string())),
        ("kind", effect.kind.name().into()),
        ("operation", (&*effect.node).into()),
        ("connection", effect.connection.as_deref().map_or(Value::Null, Value::from)),
        ("input", effect.input.clone()),
        ("key", effect.key.clone().unwrap_or_default()),
        ("output", effect.output.clone()),
        ("costs", Value::list(costs.collect())),
        ("certain", effect.is_certain().into()),
        ("each", effect.each.into()),
        ("after", names(&effect.after)),
        ("only_if", names(&effect.only_if)),
    ])
}
