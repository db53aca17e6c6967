//! Texts into vectors: the more words two texts share, the nearer they are.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::Moment;
use super::check;
use super::dialect::Style;
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

/// What differs between providers.
struct Names {
    texts: &'static str,
    most: usize,
    dimensions: &'static str,
    /// Where the form of the numbers stands.
    form: &'static str,
}

fn names(style: Style) -> Names {
    match style {
        Style::Cohere => Names { texts: "texts", most: 96, dimensions: "output_dimension", form: "embedding_types" },
        Style::Ollama => Names { texts: "input", most: usize::MAX, dimensions: "dimensions", form: "" },
        _ => Names { texts: "input", most: MOST_TEXTS, dimensions: "dimensions", form: "encoding_format" },
    }
}

/// Answers what has been asked for.
pub(super) fn answer(style: Style, wire: &Value, model: &Model, moment: &mut Moment) -> Result<(Value, u64), Refusal> {
    let Some(full) = model.dimensions else {
        return Err(Refusal::of("model", "", format!("The model `{}` makes no embeddings.", model.id)));
    };
    let names = names(style);
    let given = check::at(wire, names.texts).ok_or_else(|| check::missing(names.texts))?;
    let texts = texts(given, &names)?;
    if style == Style::Cohere {
        let known = ["search_document", "search_query", "classification", "clustering", "image"];
        let kind = check::at(wire, "input_type").ok_or_else(|| check::missing("input_type"))?;
        let word = kind.as_str().ok_or_else(|| check::wrong_type("input_type", "a string", kind))?;
        if !known.contains(&word) {
            return Err(check::wrong_word("input_type", word, &known));
        }
    }
    let mut used = 0;
    for text in &texts {
        let count = text.tokens();
        // The others cut what is too long, unless they are told not to.
        if style == Style::OpenAi && model.context.is_some_and(|most| count > most) {
            let most = model.context.unwrap_or_default();
            let message = format!(
                "This model's maximum context length is {most} tokens, however you requested {count} tokens. Please reduce your prompt."
            );
            return Err(Refusal::of("input", "context_length_exceeded", message));
        }
        used += count;
    }
    let length = dimensions(wire, model, full, &names)?;
    let forms = forms(wire, &names)?;
    let vectors: Vec<Vec<f32>> = texts.iter().map(|text| vector(text, length)).collect();
    let body = match style {
        Style::Cohere => of_cohere(wire, &vectors, &forms, used, moment),
        Style::Ollama => Value::map([
            ("model", Value::from(model.id.as_str())),
            ("embeddings", Value::list(vectors.iter().map(|vector| in_numbers(vector)).collect())),
            ("total_duration", Value::Int(14_143_917)),
            ("load_duration", Value::Int(1_019_500)),
            ("prompt_eval_count", Value::from(used)),
        ]),
        _ => of_openai(&vectors, forms.contains(&Form::Base64), model, used),
    };
    Ok((body, used))
}

/// How the numbers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Float,
    Base64,
}

fn forms(wire: &Value, names: &Names) -> Result<Vec<Form>, Refusal> {
    let path = names.form;
    let one = |form: &Value| match form.as_str() {
        Some("float") => Ok(Form::Float),
        Some("base64") => Ok(Form::Base64),
        Some(other) => Err(check::wrong_word(path, other, &["float", "base64"])),
        None => Err(check::wrong_type(path, "a string", form)),
    };
    match check::at(wire, path).filter(|_| !path.is_empty()) {
        None => Ok(vec![Form::Float]),
        Some(Value::List(forms)) => forms.iter().map(one).collect(),
        Some(form) => Ok(vec![one(form)?]),
    }
}

fn of_openai(vectors: &[Vec<f32>], base64: bool, model: &Model, used: u64) -> Value {
    let rows = (0i64..).zip(vectors).map(|(index, vector)| {
        let shown = if base64 { in_base64(vector) } else { in_numbers(vector) };
        Value::map([("object", Value::from("embedding")), ("index", Value::from(index)), ("embedding", shown)])
    });
    let usage = Value::map([("prompt_tokens", Value::from(used)), ("total_tokens", Value::from(used))]);
    Value::map([
        ("object", Value::from("list")),
        ("data", Value::list(rows.collect())),
        ("model", model.id.as_str().into()),
        ("usage", usage),
    ])
}

fn of_cohere(wire: &Value, vectors: &[Vec<f32>], forms: &[Form], used: u64, moment: &mut Moment) -> Value {
    let shown = forms.iter().map(|form| match form {
        Form::Float => ("float", Value::list(vectors.iter().map(|vector| in_numbers(vector)).collect())),
        Form::Base64 => ("base64", Value::list(vectors.iter().map(|vector| in_base64(vector)).collect())),
    });
    let version = Value::map([("version", Value::from("2"))]);
    let billed = Value::map([("input_tokens", Value::from(used))]);
    Value::map([
        ("response_type", Value::from("embeddings_by_type")),
        ("id", format!("{:032x}", moment.random.u128(..)).into()),
        ("embeddings", Value::map(shown)),
        ("texts", wire.get("texts").cloned().unwrap_or_default()),
        ("meta", Value::map([("api_version", version), ("billed_units", billed)])),
    ])
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

fn texts<'v>(input: &'v Value, names: &Names) -> Result<Vec<Text<'v>>, Refusal> {
    let found = match input {
        Value::String(text) => vec![Text::Written(text)],
        Value::List(items) if !items.is_empty() && is_tokens(items) => vec![Text::Tokens(items)],
        Value::List(items) => {
            check::length(names.texts, items.len(), 1, names.most)?;
            items.iter().map(text_of).collect::<Result<_, _>>()?
        }
        other => return Err(check::wrong_type("input", "a string or an array", other)),
    };
    if found.iter().any(|text| text.tokens() == 0) {
        return Err(Refusal::of("input", "", "Invalid 'input': input cannot be an empty string."));
    }
    Ok(found)
}

fn dimensions(wire: &Value, model: &Model, full: usize, names: &Names) -> Result<usize, Refusal> {
    let path = names.dimensions;
    let Some(asked) = check::at(wire, path) else { return Ok(full) };
    let Value::Int(asked) = asked else { return Err(check::wrong_type(path, "an integer", asked)) };
    if !model.shortens {
        return Err(Refusal::of(path, "", "This model does not support specifying dimensions."));
    }
    match usize::try_from(*asked) {
        Ok(length) if (1..=full).contains(&length) => Ok(length),
        _ => {
            let message = format!("Invalid value for '{path}' = {asked}. Must be between 1 and {full}.");
            Err(Refusal::of(path, "", message))
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
