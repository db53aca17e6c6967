//! What a model thinks before it answers, as each dialect tells it.

use super::Moment;
use super::dialect::Dialect;
use super::dialect::Style;
use crate::model::Map;
use crate::model::Value;

/// Makes the items of the wire that bear the thoughts; `sealed` where they are asked for so.
pub(super) fn items(dialect: &Dialect, about: &str, sealed: bool, moment: &mut Moment) -> Vec<Value> {
    let told = format!("I am asked about “{}”.", about.chars().take(60).collect::<String>());
    let item = match dialect.style {
        Style::OpenAi if !dialect.keeps => return Vec::new(),
        Style::OpenAi => {
            let mut item = Map::from_iter([
                ("id".into(), Value::from(format!("rs_{}", letters(moment)))),
                ("type".into(), "reasoning".into()),
                ("summary".into(), Value::list(Vec::new())),
            ]);
            if sealed {
                item.insert("encrypted_content".into(), format!("gAAAAA{}", letters(moment)).into());
            }
            item.into()
        }
        Style::Anthropic => Value::map([
            ("type", "thinking".into()),
            ("thinking", Value::from(told)),
            ("signature", format!("EqQB{}", letters(moment)).into()),
        ]),
        Style::Cohere | Style::Ollama => Value::map([("type", "thinking".into()), ("thinking", Value::from(told))]),
    };
    vec![item]
}

/// Draws the part of an id that nobody can guess.
pub(super) fn letters(moment: &mut Moment) -> String {
    std::iter::repeat_with(|| moment.random.alphanumeric()).take(24).collect()
}

/// Draws the id of an answer.
pub(super) fn id(dialect: &Dialect, moment: &mut Moment) -> Value {
    match dialect.style {
        Style::OpenAi | Style::Anthropic => format!("{}{}", dialect.id, letters(moment)).into(),
        Style::Ollama => Value::Null,
        Style::Cohere => {
            let hex = format!("{:032x}", moment.random.u128(..));
            let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().to_owned();
            [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)].join("-").into()
        }
    }
}

/// Draws the id of a call.
pub(super) fn call_id(dialect: &Dialect, name: &str, moment: &mut Moment) -> String {
    let letters = letters(moment);
    match dialect.style {
        Style::Cohere => format!("{name}_{}", letters.get(..8).unwrap_or_default().to_lowercase()),
        _ => format!("{}{letters}", dialect.call),
    }
}
