//! `guards.plan`: conditions over the effects that a run would have.

use std::sync::Arc;

use super::PlannedEffect;
use super::view::Foreseen;
use crate::engine::Parts;
use crate::model::Timestamp;
use crate::model::Value;
use crate::pipeline::Guard;
use crate::template::Scope;

/// What came of a guard.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// What the guard says, or its condition.
    pub said: Arc<str>,
    /// Why it does not hold, or that it cannot be told; nothing where it holds.
    pub fault: Option<String>,
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
    let effects = Value::list(effects.iter().map(seen).collect());
    let scope = Scope {
        lookup: Arc::new(Foreseen::new(parts.secrets.clone())),
        globals: Arc::new(vec![("inputs".into(), inputs.clone())]),
        locals: vec![("effects", effects)],
        now: at,
    };
    let judged = guards.iter().map(|guard| {
        let fault = match guard.that.eval(&scope) {
            Ok(Value::Unknown(unknown)) => {
                let of: Vec<_> = unknown.of.iter().map(|place| format!("`{place}`")).collect();
                Some(format!("cannot be told before the run: it depends on {}", of.join(", ")))
            }
            Ok(holds) if holds.is_truthy() => None,
            Ok(_) => Some("does not hold".to_owned()),
            Err(error) => Some(format!("has no value: {}", parts.secrets.mask(error.message))),
        };
        let said = guard.message.as_deref().unwrap_or_else(|| guard.that.source()).into();
        Judged { said, fault }
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
