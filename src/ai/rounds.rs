//! A conversation with tools as steps: a turn of the model, the calls that it wants, a turn that reads what came of them.
//!
//! The rounds are written out, so that every call is a step run like any other: checked and planned beforehand, retried,
//! in the ledger, seen. What is not reached is skipped.

use serde_json::Map as JsonMap;
use serde_json::Value as Json;
use serde_json::json;

/// How many calls of one tool run at once; writes run one after the other, as a model expects.
const AT_ONCE: u32 = 4;

/// A tool as it is offered to a model.
#[derive(Clone, Debug, PartialEq)]
pub struct Tool {
    /// What the model calls it: letters, digits, `_` and `-`, at most 64.
    pub name: String,
    pub description: String,
    /// JSON Schema of its arguments.
    pub parameters: Json,
    /// What a step uses for it.
    pub uses: String,
    /// What `with:` holds beside the arguments.
    pub fixed: JsonMap<String, Json>,
    pub takes: Takes,
    pub writes: bool,
}

/// How a step takes the arguments of a tool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Takes {
    /// Each under its own key: what a model leaves out is null, and an operation reads that as not given.
    Keys,
    /// As they are, beside what is fixed.
    Whole,
    /// As `inputs`, as a pipeline does.
    Inputs,
}

impl Tool {
    /// Returns what a model is told of it.
    #[must_use]
    pub fn offer(&self) -> Json {
        json!({ "name": self.name, "description": self.description, "parameters": self.parameters })
    }

    /// Returns the `with:` of a step that calls it for `item`.
    fn with(&self) -> Json {
        let properties = self.parameters.get("properties").and_then(Json::as_object).into_iter().flatten();
        let arguments =
            properties.map(|(key, _)| (key.clone(), json!(format!("{{{{ item.arguments[{}] }}}}", quoted(key)))));
        let mut with = self.fixed.clone();
        match self.takes {
            Takes::Keys => with.extend(arguments),
            Takes::Inputs => {
                with.insert("inputs".to_owned(), json!("{{ item.arguments }}"));
            }
            Takes::Whole => {
                let fixed = quoted(&Json::Object(with).to_string());
                return json!(format!("{{{{ item.arguments | merge({fixed} | from_json) }}}}"));
            }
        }
        Json::Object(with)
    }
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// Writes the steps of a conversation of at most so many turns: YAML, which JSON is. `turn` is the `with:` of every turn.
/// The last turn gets no tools, so that it ends in an answer.
#[must_use]
pub fn steps(tools: &[Tool], rounds: u32, turn: &JsonMap<String, Json>) -> String {
    let rounds = rounds.max(1);
    let mut steps = JsonMap::new();
    for round in 1..=rounds {
        let mut with = turn.clone();
        let mut step = JsonMap::new();
        step.insert("uses".to_owned(), json!("ai.turn"));
        if round > 1 {
            let before = round - 1;
            let (mut outcomes, mut failures) = (JsonMap::new(), JsonMap::new());
            for (index, tool) in tools.iter().enumerate() {
                let id = call_id(before, index);
                outcomes.insert(tool.name.clone(), json!(format!("{{{{ steps.{id}.output }}}}")));
                failures.insert(tool.name.clone(), json!(format!("{{{{ steps.{id}.error }}}}")));
            }
            with.insert("after".to_owned(), json!(format!("{{{{ steps.turn_{before}.output }}}}")));
            with.insert("outcomes".to_owned(), Json::Object(outcomes));
            with.insert("failures".to_owned(), Json::Object(failures));
            let needs: Vec<String> = (0..tools.len()).map(|index| call_id(before, index)).collect();
            step.insert("needs".to_owned(), json!(needs));
            step.insert("when".to_owned(), json!(wants(before)));
        }
        if round == rounds {
            with.insert("tool_choice".to_owned(), json!("none"));
        }
        step.insert("with".to_owned(), Json::Object(with));
        steps.insert(format!("turn_{round}"), Json::Object(step));
        if round == rounds {
            break;
        }
        for (index, tool) in tools.iter().enumerate() {
            let wanted = format!(
                "{{{{ steps.turn_{round}.output.tool_calls | selectattr('name', 'equalto', {}) | rejectattr('error') | list }}}}",
                quoted(&tool.name)
            );
            let step = json!({
                "when": wants(round),
                "for_each": wanted,
                "uses": tool.uses,
                "with": tool.with(),
                "max_parallel": if tool.writes { 1 } else { AT_ONCE },
                "on_error": "continue",
            });
            steps.insert(call_id(round, index), step);
        }
    }
    let turns: Vec<String> = (1..=rounds).rev().map(|round| format!("steps.turn_{round}.output")).collect();
    let output = format!("{{{{ {} }}}}", turns.join(" or "));
    json!({ "steps": steps, "output": output }).to_string()
}

fn call_id(round: u32, tool: usize) -> String {
    format!("call_{round}_{}", tool + 1)
}

fn wants(round: u32) -> String {
    format!("{{{{ steps.turn_{round}.output.stop == 'tool_use' }}}}")
}
