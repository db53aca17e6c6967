//! Messages of a conversation: what was asked, what models said, what tools gave.

use crate::model::Map;
use crate::model::Value;

/// What is counted of tokens.
const COUNTS: [&str; 6] = ["input", "cached", "cache_write", "output", "reasoning", "total"];

/// Makes a message.
#[must_use]
pub fn message(role: &str, content: impl Into<Value>) -> Value {
    Value::map([("role", role.into()), ("content", content.into())])
}

/// What came of the calls of one tool, in the order in which they were asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Came {
    pub tool: String,
    /// An output each; null of one that failed.
    pub outputs: Vec<Value>,
    /// Why a call failed, where one has.
    pub error: Option<String>,
}

/// Makes the messages that tell a model what came of the calls that it asked for. Each call is answered, as all providers
/// want: one of a tool that there is not, or whose arguments are none, with what is wrong.
#[must_use]
pub fn results(calls: &[Value], came: &[Came]) -> Vec<Value> {
    let mut taken: Vec<(&str, usize)> = Vec::new();
    let mut messages = Vec::with_capacity(calls.len());
    for call in calls {
        let name = call.get("name").and_then(Value::as_str).unwrap_or_default();
        let written = call.get("error").and_then(Value::as_str);
        let nth = taken.iter().filter(|(own, _)| *own == name).count();
        let content = match (written, came.iter().find(|came| came.tool == name)) {
            (Some(wrong), _) => failed(wrong),
            (None, None) => failed(&format!("there is no tool `{name}`")),
            (None, Some(came)) => {
                taken.push((name, nth));
                match came.outputs.get(nth) {
                    Some(Value::Null) | None => failed(came.error.as_deref().unwrap_or("the call failed")),
                    Some(output) => output.to_string(),
                }
            }
        };
        messages.push(Value::map([
            ("role", "tool".into()),
            ("tool_call_id", call.get("id").cloned().unwrap_or_default()),
            ("name", name.into()),
            ("content", content.into()),
        ]));
    }
    messages
}

fn failed(why: &str) -> String {
    Value::map([("error", Value::from(why))]).to_string()
}

/// Adds up what is counted of tokens; what one does not count is not counted.
#[must_use]
pub fn usage(one: &Value, other: &Value) -> Value {
    let mut sum = Map::new();
    for key in COUNTS {
        let of = |usage: &Value| match usage.get(key) {
            Some(Value::Int(count)) => Some(*count),
            _ => None,
        };
        let total = match (of(one), of(other)) {
            (None, None) => continue,
            (one, other) => one.unwrap_or(0).saturating_add(other.unwrap_or(0)),
        };
        sum.insert(key.into(), Value::Int(total));
    }
    let estimated = [one, other].iter().any(|usage| usage.get("estimated").is_some_and(Value::is_truthy));
    if estimated {
        sum.insert("estimated".into(), true.into());
    }
    Value::from(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parse_json;

    fn list(text: &str) -> Vec<Value> {
        parse_json(text).unwrap().as_list().unwrap().to_vec()
    }

    #[test]
    fn every_call_is_answered_in_its_order() {
        let calls = list(
            r#"[{"id":"1","name":"quote","arguments":{"s":"A"}},{"id":"2","name":"nothing","arguments":{}},
                {"id":"3","name":"quote","arguments":null,"error":"the arguments are no JSON: x"},
                {"id":"4","name":"quote","arguments":{"s":"B"}},{"id":"5","name":"post","arguments":{}}]"#,
        );
        let came = [
            Came { tool: "quote".into(), outputs: list(r#"[{"price":"1.10"},{"price":"2.20"}]"#), error: None },
            Came { tool: "post".into(), outputs: vec![Value::Null], error: Some("rejected: too long".into()) },
        ];
        let told: Vec<String> = results(&calls, &came).iter().map(|it| it.get("content").unwrap().to_text()).collect();
        let wanted = [
            r#"{"price":"1.10"}"#,
            r#"{"error":"there is no tool `nothing`"}"#,
            r#"{"error":"the arguments are no JSON: x"}"#,
            r#"{"price":"2.20"}"#,
            r#"{"error":"rejected: too long"}"#,
        ];
        assert_eq!(told, wanted);
    }

    #[test]
    fn tokens_add_up_and_what_nobody_counts_is_missing() {
        let one = parse_json(r#"{"input":3,"output":1}"#).unwrap();
        let other = parse_json(r#"{"input":4,"reasoning":2,"estimated":true}"#).unwrap();
        assert_eq!(usage(&one, &other).to_string(), r#"{"input":7,"output":1,"reasoning":2,"estimated":true}"#);
        assert_eq!(usage(&Value::Null, &Value::Null).to_string(), "{}");
    }
}
