//! Texts into vectors: the more words two texts share, the nearer they are.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::check;
use super::refusal::Refusal;
use super::settings::Model;
use super::words::hash;
use super::words::tokens;
use super::words::words;
use crate::model::Value;

const MOST_TEXTS: usize = 2_048;
/// In how many places of a vector a part of a text shows.
const PLACES: u64 = 16;
/// What letters weigh beside words, so that `post` and `posts` are near.
const LETTERS: f32 = 0.25;

/// What is to become a vector.
#[derive(Debug)]
enum Text<'v> {
    Written(&'v str),
    /// Tokens, by number.
    Tokens(&'v [Value]),
}

/// Answers what has been asked for.
pub(super) fn answer(wire: &Value, model: &Model) -> Result<(Value, u64), Refusal> {
    let Some(full) = model.dimensions else {
        return Err(Refusal::of("model", "", format!("The model `{}` makes no embeddings.", model.id)));
    };
    let texts = texts(check::at(wire, "input").ok_or_else(|| check::missing("input"))?)?;
    let mut used = 0;
    for text in &texts {
        let count = text.tokens();
        if model.context.is_some_and(|most| count > most) {
            let most = model.context.unwrap_or_default();
            let message = format!(
                "This model's maximum context length is {most} tokens, however you requested {count} tokens. Please reduce your prompt."
            );
            return Err(Refusal::of("input", "context_length_exceeded", message));
        }
        used += count;
    }
    let length = dimensions(wire, model, full)?;
    let base64 = match check::at(wire, "encoding_format") {
        None => false,
        Some(Value::String(format)) if &**format == "float" => false,
        Some(Value::String(format)) if &**format == "base64" => true,
        Some(Value::String(other)) => return Err(check::wrong_word("encoding_format", other, &["float", "base64"])),
        Some(other) => return Err(check::wrong_type("encoding_format", "a string", other)),
    };
    let rows = (0i64..).zip(&texts).map(|(index, text)| {
        let vector = vector(text, length);
        let shown = if base64 { in_base64(&vector) } else { in_numbers(&vector) };
        Value::map([("object", Value::from("embedding")), ("index", Value::from(index)), ("embedding", shown)])
    });
    let usage = Value::map([("prompt_tokens", Value::from(used)), ("total_tokens", Value::from(used))]);
    let body = Value::map([
        ("object", Value::from("list")),
        ("data", Value::list(rows.collect())),
        ("model", model.id.as_str().into()),
        ("usage", usage),
    ]);
    Ok((body, used))
}

impl Text<'_> {
    fn tokens(&self) -> u64 {
        match self {
            Self::Written(text) => tokens(text),
            Self::Tokens(tokens) => u64::try_from(tokens.len()).unwrap_or(u64::MAX),
        }
    }
}

fn is_tokens(items: &[Value]) -> bool {
    items.iter().all(|item| matches!(item, Value::Int(_)))
}

fn text_of(item: &Value) -> Result<Text<'_>, Refusal> {
    match item {
        Value::String(text) => Ok(Text::Written(text)),
        Value::List(tokens) if is_tokens(tokens) => Ok(Text::Tokens(tokens)),
        other => Err(check::wrong_type("input", "an array of strings or of tokens", other)),
    }
}

fn texts(input: &Value) -> Result<Vec<Text<'_>>, Refusal> {
    let found = match input {
        Value::String(text) => vec![Text::Written(text)],
        Value::List(items) if !items.is_empty() && is_tokens(items) => vec![Text::Tokens(items)],
        Value::List(items) => {
            check::length("input", items.len(), 1, MOST_TEXTS)?;
            items.iter().map(text_of).collect::<Result<_, _>>()?
        }
        other => return Err(check::wrong_type("input", "a string or an array", other)),
    };
    if found.iter().any(|text| text.tokens() == 0) {
        return Err(Refusal::of("input", "", "Invalid 'input': input cannot be an empty string."));
    }
    Ok(found)
}

fn dimensions(wire: &Value, model: &Model, full: usize) -> Result<usize, Refusal> {
    let Some(asked) = check::at(wire, "dimensions") else { return Ok(full) };
    let Value::Int(asked) = asked else { return Err(check::wrong_type("dimensions", "an integer", asked)) };
    if !model.shortens {
        return Err(Refusal::of("dimensions", "", "This model does not support specifying dimensions."));
    }
    match usize::try_from(*asked) {
        Ok(length) if (1..=full).contains(&length) => Ok(length),
        _ => {
            let message = format!("Invalid value for 'dimensions' = {asked}. Must be between 1 and {full}.");
            Err(Refusal::of("dimensions", "", message))
        }
    }
}

fn vector(text: &Text<'_>, length: usize) -> Vec<f32> {
    let mut vector = vec![0.0; length];
    match text {
        Text::Tokens(tokens) => {
            for token in *tokens {
                add(&mut vector, &token.to_text(), 1.0);
            }
        }
        Text::Written(text) => {
            let lower = text.to_lowercase();
            let words = words(&lower);
            for word in &words {
                add(&mut vector, word, 1.0);
                let letters: Vec<char> = format!("<{word}>").chars().collect();
                for three in letters.windows(3) {
                    add(&mut vector, &three.iter().collect::<String>(), LETTERS);
                }
            }
            if words.is_empty() {
                add(&mut vector, text, 1.0);
            }
        }
    }
    let norm = vector.iter().map(|part| part * part).sum::<f32>().sqrt();
    if norm > 0.0 {
        vector.iter_mut().for_each(|part| *part /= norm);
    } else if let Some(first) = vector.first_mut() {
        // What cancels out still has a direction.
        *first = 1.0;
    }
    vector
}

fn add(vector: &mut [f32], part: &str, weight: f32) {
    let seed = hash(0, part);
    let length = u64::try_from(vector.len()).unwrap_or(u64::MAX).max(1);
    for place in 0..PLACES {
        let number = hash(seed, &place.to_string());
        let sign = if number.is_multiple_of(2) { weight } else { -weight };
        if let Some(at) = usize::try_from((number >> 1) % length).ok().and_then(|at| vector.get_mut(at)) {
            *at += sign;
        }
    }
}

fn in_base64(vector: &[f32]) -> Value {
    let bytes: Vec<u8> = vector.iter().flat_map(|part| part.to_le_bytes()).collect();
    STANDARD.encode(bytes).into()
}

/// Writes the numbers as short as they are: those of `base64` are the same.
fn in_numbers(vector: &[f32]) -> Value {
    Value::list(vector.iter().map(|part| part.to_string().parse().map_or(Value::Null, Value::Float)).collect())
}
