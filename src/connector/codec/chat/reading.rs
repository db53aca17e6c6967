//! What is read of an answer, whatever its dialect.

use super::Dialect;
use super::count;
use super::list;
use super::object;
use super::or_null;
use super::text;
use crate::model::Map;
use crate::model::Value;
use crate::template::estimate_tokens;

/// An answer that was read.
#[derive(Debug, Default)]
pub(super) struct Reading {
    pub id: Value,
    pub model: Value,
    pub text: Value,
    /// What it thought, where that is told.
    pub thinking: String,
    pub refusal: Value,
    pub stop: &'static str,
    /// Why it stopped, in the provider's word.
    pub reason: String,
    pub calls: Vec<Value>,
    /// Nothing where the answer does not say: that is not zero.
    pub usage: Option<Usage>,
    /// The message as it came.
    pub raw: Value,
    pub status: Option<Value>,
    pub error: Value,
}

impl Reading {
    pub(super) fn value(self, dialect: Dialect) -> Value {
        let calls = Value::list(self.calls);
        let message = object([
            ("role", "assistant".into()),
            ("content", self.text.clone()),
            ("tool_calls", calls.clone()),
            ("raw", self.raw),
            ("dialect", dialect.name().into()),
        ]);
        let mut answer = Map::from_iter([
            ("id".into(), self.id),
            ("model".into(), self.model),
            ("text".into(), self.text),
            ("thinking".into(), or_null(self.thinking)),
            ("refusal".into(), self.refusal),
            ("stop".into(), self.stop.into()),
            ("stop_reason".into(), or_null(self.reason)),
            ("tool_calls".into(), calls),
            ("usage".into(), self.usage.map(Usage::value).unwrap_or_default()),
            ("message".into(), message),
            ("error".into(), self.error),
        ]);
        answer.extend(self.status.map(|status| ("status".into(), status)));
        answer.into()
    }
}

/// What an answer used, in tokens.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// All that was read, from and for the cache as well.
    pub input: i128,
    pub cached: i128,
    pub cache_write: i128,
    /// Those of `cache_write` that are kept for an hour.
    pub cache_write_1h: i128,
    pub output: i128,
    pub reasoning: i128,
    /// Nobody has counted them.
    pub estimated: bool,
}

impl Usage {
    pub(super) fn value(self) -> Value {
        let mut usage = Map::from_iter([
            ("input".into(), Value::Int(self.input)),
            ("cached".into(), Value::Int(self.cached)),
            ("cache_write".into(), Value::Int(self.cache_write)),
            ("output".into(), Value::Int(self.output)),
            ("reasoning".into(), Value::Int(self.reasoning)),
            ("total".into(), Value::Int(self.input + self.output)),
        ]);
        if self.cache_write_1h > 0 {
            usage.insert("cache_write_1h".into(), Value::Int(self.cache_write_1h));
        }
        if self.estimated {
            usage.insert("estimated".into(), Value::Bool(true));
        }
        usage.into()
    }

    pub(super) fn of(answer: &Value) -> Self {
        let get = |key: &str| count(answer.get("usage").and_then(|usage| usage.get(key)));
        Self {
            input: get("input"),
            cached: get("cached"),
            cache_write: get("cache_write"),
            cache_write_1h: get("cache_write_1h"),
            output: get("output"),
            reasoning: get("reasoning"),
            estimated: false,
        }
    }
}

/// Estimates what an answer used that does not say it, or says it of its own words only.
pub(super) fn estimated(answer: Value, asked: &Value) -> Value {
    let Some(map) = answer.as_map().filter(|map| map.contains_key("stop")) else { return answer };
    let said = map.get("usage").filter(|usage| !usage.is_null());
    let mut usage = said.map(|_| Usage::of(&answer)).unwrap_or_default();
    if said.is_some() && (usage.input > 0 || usage.output == 0) {
        return answer;
    }
    let tokens = |value: Option<&Value>| value.filter(|value| !value.is_null()).map_or(0, estimate_tokens);
    usage.input = ["system", "messages", "tools", "schema"].iter().map(|key| tokens(asked.get(key))).sum();
    if said.is_none() {
        let calls: i128 = list(&answer, "tool_calls").iter().map(|call| tokens(call.get("arguments"))).sum();
        let thinking = text(&answer, "thinking").map_or(0, |it| estimate_tokens(&it.into()));
        usage.reasoning = thinking;
        usage.output = tokens(map.get("text")) + thinking + calls;
    }
    usage.estimated = true;
    let mut map = map.clone();
    map.insert("usage".into(), usage.value());
    map.into()
}
