//! What of a question is kept, where it says so: the same beginning is read from there the next time.

use indexmap::IndexSet;

use super::HELD;
use super::check::at;
use super::list;
use super::text;
use super::words::hash;
use super::words::tokens;
use crate::model::Value;
use crate::model::write_json;

/// The beginnings of questions that are kept.
#[derive(Debug, Default)]
pub(super) struct Cache {
    kept: IndexSet<u64>,
}

/// How many tokens of a question came from the cache, and how many went into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counted {
    pub read: u64,
    pub written: u64,
    /// Those of `written` that are kept for an hour.
    pub hour: u64,
}

impl Cache {
    /// Looks a question up and keeps it, as far as it says.
    pub(super) fn count(&mut self, wire: &Value, model: &str) -> Counted {
        let mut parts: Vec<(&Value, Option<&Value>)> = Vec::new();
        for key in ["tools", "system"] {
            if let Some(part) = wire.get(key) {
                parts.push((part, mark_of(part)));
            }
        }
        parts.extend(list(wire, "messages").iter().map(|turn| (turn, turn.get("content").and_then(mark_of))));
        let top = at(wire, "cache_control");
        if let (Some((_, mark)), Some(top)) = (parts.last_mut(), top) {
            *mark = Some(top);
        }
        let Some(last) = parts.iter().rposition(|(_, mark)| mark.is_some()) else { return Counted::default() };
        let hours = parts.get(last).and_then(|(_, mark)| text((*mark)?, "ttl")) == Some("1h");
        let (mut sum, mut total, mut counted) = (hash(0, model), 0, Counted::default());
        for (part, _) in parts.iter().take(last + 1) {
            let mut written = String::new();
            write_json(&unmarked(part), &mut written);
            sum = hash(sum, &written);
            total += tokens(&written);
            if !self.kept.insert(sum) {
                counted.read = total;
            }
        }
        while self.kept.len() > HELD {
            self.kept.shift_remove_index(0);
        }
        counted.written = total - counted.read;
        counted.hour = if hours { counted.written } else { 0 };
        counted
    }
}

/// Returns the last mark in a part that says it is to be kept up to there.
fn mark_of(part: &Value) -> Option<&Value> {
    let blocks = part.as_list().unwrap_or_default();
    blocks.iter().rev().find_map(|block| at(block, "cache_control"))
}

/// Returns a part without its marks, which move from question to question.
fn unmarked(part: &Value) -> Value {
    match part {
        Value::List(items) => Value::list(items.iter().map(unmarked).collect()),
        Value::Map(map) => {
            let kept = map.iter().filter(|(key, _)| &***key != "cache_control");
            Value::map(kept.map(|(key, value)| (key.clone(), unmarked(value))))
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parse_json;

    #[test]
    fn what_was_kept_is_read_the_next_time_and_only_the_rest_is_written() {
        let mut cache = Cache::default();
        let mut count = |body: &str| cache.count(&parse_json(body).unwrap(), "m");
        let system = r#""system":[{"type":"text","text":"A long text about all that matters.","cache_control":{"type":"ephemeral","ttl":"1h"}}]"#;
        let first = count(&format!(r#"{{{system},"messages":[{{"role":"user","content":"a"}}]}}"#));
        assert!(first.read == 0 && first.written > 10 && first.hour == first.written, "{first:?}");
        let second = count(&format!(r#"{{{system},"messages":[{{"role":"user","content":"b"}}]}}"#));
        assert_eq!((second.read, second.written), (first.written, 0));
        // A mark for the whole moves along with the conversation.
        let top = r#""cache_control":{"type":"ephemeral"}"#;
        let begun = count(&format!(r#"{{{top},"messages":[{{"role":"user","content":"one"}}]}}"#));
        let on = count(&format!(
            r#"{{{top},"messages":[{{"role":"user","content":"one"}},{{"role":"assistant","content":"two"}},{{"role":"user","content":"three"}}]}}"#
        ));
        assert_eq!(on.read, begun.written);
        assert!(on.written > 0 && on.hour == 0, "{on:?}");
        assert_eq!(count(r#"{"messages":[{"role":"user","content":"one"}]}"#), Counted::default());
    }
}
