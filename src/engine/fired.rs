//! What a trigger gives to the run that it starts.

use std::sync::Arc;

use super::Engine;
use super::SecretSource;
use crate::model::Value;
use crate::pipeline::Pipeline;
use crate::pipeline::Trigger;
use crate::pipeline::check_values;
use crate::template::Lookup;
use crate::template::Scope;
use crate::template::StepView;

impl Engine {
    /// Evaluates the inputs of a trigger over what fired, and checks them. `event` are the members of `event` beside its
    /// `kind` and `trigger`; `slot` is what `run.slot` gives.
    ///
    /// # Errors
    /// Every reason why they do not fit, in words without secrets.
    pub fn inputs_of_event<'e>(
        &self,
        pipeline: &Pipeline,
        trigger: &Trigger,
        event: impl IntoIterator<Item = (&'e str, Value)>,
        slot: Value,
    ) -> Result<Value, Vec<String>> {
        let given = self.given_by_event(trigger, event, slot).map_err(|reason| vec![reason])?;
        check_values(pipeline, given).map_err(|reasons| self.masked(reasons))
    }

    /// Evaluates the inputs of a trigger over what fired, as far as it gives them; see `inputs_of_event`.
    ///
    /// # Errors
    /// Why an expression has no value, without secrets.
    pub fn given_by_event<'e>(
        &self,
        trigger: &Trigger,
        event: impl IntoIterator<Item = (&'e str, Value)>,
        slot: Value,
    ) -> Result<Value, String> {
        let parts = self.parts();
        let own = [("kind", Value::from(trigger.kind.name())), ("trigger", Value::from(&*trigger.id))];
        let scope = Scope {
            lookup: Arc::new(SecretsOnly(parts.secrets.clone())),
            globals: Arc::default(),
            locals: vec![("event", Value::map(own.into_iter().chain(event))), ("run", Value::map([("slot", slot)]))],
            now: parts.system.clock.now(),
        };
        trigger.inputs.eval(&scope).map_err(|error| parts.secrets.mask(error.message))
    }

    /// Hides secrets in reasons.
    #[must_use]
    pub fn masked(&self, reasons: Vec<String>) -> Vec<String> {
        reasons.into_iter().map(|reason| self.parts().secrets.mask(reason)).collect()
    }

    /// Evaluates a template that reads secrets and nothing else.
    ///
    /// # Errors
    /// Why it has no value: there is no such secret, say.
    pub fn secret_text(&self, template: &crate::template::Template) -> Result<String, String> {
        let parts = self.parts();
        let scope = Scope {
            lookup: Arc::new(SecretsOnly(parts.secrets.clone())),
            globals: Arc::default(),
            locals: Vec::new(),
            now: parts.system.clock.now(),
        };
        template.eval(&scope).map(|value| value.revealed().to_text()).map_err(|error| parts.secrets.mask(error.message))
    }
}

/// Returns what `run.slot` gives of a slot `TRIGGER@WHAT`: the logical time of one that goes by time, else all of it, as
/// that is unique in the pipeline.
#[must_use]
pub fn slot(slot: &str) -> Value {
    if slot.starts_with(super::PLANNED) {
        return Value::Null;
    }
    let what = slot.split_once('@').map_or(slot, |(_, what)| what);
    what.parse().map_or_else(|_| Value::from(slot), Value::Time)
}

/// What the inputs of a trigger may read beside the event: secrets.
#[derive(Debug)]
struct SecretsOnly(Arc<dyn SecretSource>);

impl Lookup for SecretsOnly {
    fn step(&self, _: &str) -> Option<StepView> {
        None
    }

    fn secret(&self, name: &str) -> Result<Value, String> {
        self.0.get(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_slot_of_time_is_a_time() {
        assert!(matches!(slot("cron-1f6d3a90@2026-03-01T09:00:00Z"), Value::Time(_)));
        assert!(matches!(slot("2026-03-01T09:00:00Z"), Value::Time(_)), "a slot that a program gives");
        for text in ["webhook-1f6d3a90@delivery:a@2026-03-01T09:00:00Z", "files-1f6d3a90@file:x", "x"] {
            assert_eq!(slot(text), Value::from(text));
        }
    }
}
