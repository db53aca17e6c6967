//! The pieces of text in a stream of an answer, as they come: for the eye, and for nothing else.

use crate::connector::body::sse;
use crate::model::Value;
use crate::model::parse_json;

/// Finds pieces of text in the bytes of a stream, whichever dialect it is.
#[derive(Debug, Default)]
pub struct Pieces {
    events: sse::Parser,
    line: Vec<u8>,
    /// Whether it is lines of JSON rather than events; nothing until the first byte.
    lines: Option<bool>,
}

impl Pieces {
    /// Takes the next bytes, and returns the text that they complete. What it cannot read it leaves out: the whole answer is
    /// read by others.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
        let lines = *self.lines.get_or_insert(first == Some(&b'{'));
        let mut text = String::new();
        if !lines {
            for event in self.events.push(bytes).unwrap_or_default() {
                text.push_str(&parse_json(&event.data).ok().and_then(|data| piece(&data)).unwrap_or_default());
            }
            return text;
        }
        for byte in bytes {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let data = std::str::from_utf8(&line).ok().and_then(|line| parse_json(line).ok());
            text.push_str(&data.as_ref().and_then(piece).unwrap_or_default());
        }
        text
    }
}

/// Returns the piece of text that an event holds.
fn piece(data: &Value) -> Option<String> {
    let at = |path: &[&str]| path.iter().try_fold(data, |value, key| value.get(key)).and_then(Value::as_str);
    let kind = at(&["type"]);
    let found = match kind {
        // Responses.
        Some("response.output_text.delta") => at(&["delta"]),
        // Anthropic: thoughts come as deltas of another kind.
        Some("content_block_delta") => at(&["delta", "text"]),
        // Cohere.
        Some("content-delta") => at(&["delta", "message", "content", "text"]),
        Some(_) => None,
        None => {
            let choice = data.get("choices").and_then(Value::as_list).and_then(|choices| choices.first());
            let delta = choice.and_then(|choice| choice.get("delta")?.get("content")?.as_str());
            // Ollama.
            delta.or_else(|| at(&["message", "content"]))
        }
    };
    found.filter(|text| !text.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_found_in_every_dialect_wherever_the_bytes_are_cut() {
        let streams = [
            "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Rel\"}}]}\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"ease\"}}]}\n\ndata: [DONE]\n\n",
            "event: response.output_text.delta\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"Rel\"}\n\ndata: {\"type\":\"response.reasoning_text.delta\",\"delta\":\"hm\"}\n\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"ease\"}\n\n",
            "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"Release\"}}\n\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"hm\"}}\n\n",
            "data: {\"type\":\"content-delta\",\"index\":0,\"delta\":{\"message\":{\"content\":{\"text\":\"Release\"}}}}\n\n",
            "{\"message\":{\"role\":\"assistant\",\"content\":\"Rel\"},\"done\":false}\n{\"message\":{\"content\":\"ease\"}}\n{\"message\":{\"content\":\"\"},\"done\":true}\n",
        ];
        for stream in streams {
            for cut in [1, 2, 7, 64, 10_000] {
                let mut pieces = Pieces::default();
                let text: String = stream.as_bytes().chunks(cut).map(|bytes| pieces.push(bytes)).collect();
                assert_eq!(text, "Release", "{stream} cut at {cut}");
            }
        }
        let mut broken = Pieces::default();
        assert_eq!(broken.push(b"<html>{]}\n\ndata: {\"choices\":\n\n"), "");
    }
}
