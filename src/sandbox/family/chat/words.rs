//! What texts are made of: words, tokens, and numbers that depend on nothing else.

use crate::model::Value;
use crate::model::write_json;

/// How many bytes of a text make a token, about. What is counted and what is cut off is counted alike.
const BYTES_A_TOKEN: u64 = 4;
/// What a message costs beside its text.
const TOKENS_A_MESSAGE: u64 = 4;
const TOKENS_AN_IMAGE: u64 = 85;

/// Counts the tokens of a text.
pub(super) fn tokens(text: &str) -> u64 {
    u64::try_from(text.len()).unwrap_or(u64::MAX).div_ceil(BYTES_A_TOKEN)
}

/// Counts the tokens of a value as it is written.
pub(super) fn tokens_of(value: &Value) -> u64 {
    let mut text = String::new();
    write_json(value, &mut text);
    tokens(&text)
}

/// Counts the tokens of canonical messages.
pub(super) fn tokens_of_messages(messages: &[Value]) -> u64 {
    messages.iter().map(tokens_of_message).sum()
}

fn tokens_of_message(message: &Value) -> u64 {
    let content = match message.get("content") {
        Some(Value::String(text)) => tokens(text),
        Some(Value::List(parts)) => {
            parts.iter().map(|part| part.get("text").and_then(Value::as_str).map_or(TOKENS_AN_IMAGE, tokens)).sum()
        }
        _ => 0,
    };
    TOKENS_A_MESSAGE + content + message.get("tool_calls").map_or(0, tokens_of)
}

/// Returns the beginning of a text that is no longer than so many tokens.
pub(super) fn cut(text: &str, tokens: u64) -> &str {
    let mut end = usize::try_from(tokens.saturating_mul(BYTES_A_TOKEN)).unwrap_or(usize::MAX).min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Returns the words of a text without what stands around them; `2.4` stays one.
pub(super) fn words(text: &str) -> Vec<&str> {
    text.split_whitespace()
        .map(|word| word.trim_matches(|letter: char| !letter.is_alphanumeric()))
        .filter(|word| !word.is_empty())
        .collect()
}

/// Returns what a message says, as one text.
pub(super) fn said(message: &Value) -> String {
    match message.get("content") {
        Some(Value::String(text)) => text.to_string(),
        Some(Value::List(parts)) => {
            let texts: Vec<&str> = parts.iter().filter_map(|part| part.get("text")?.as_str()).collect();
            texts.join("\n")
        }
        _ => String::new(),
    }
}

/// Makes a number of a text: the same on every machine and in every version, which `std`'s hashes do not promise.
pub(super) fn hash(seed: u64, text: &str) -> u64 {
    // FNV-1a, and the last step of splitmix64, since the upper bits of the former stir little.
    let start = 0xcbf2_9ce4_8422_2325 ^ seed;
    let mixed = text.bytes().fold(start, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Picks one of a list by a number.
pub(super) fn pick<T>(items: &[T], number: u64) -> Option<&T> {
    let length = u64::try_from(items.len()).ok().filter(|length| *length > 0)?;
    items.get(usize::try_from(number % length).ok()?)
}
