//! `ai.generate`: has a model write a text, or a value by a schema, with tools where it needs them.

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Map as JsonMap;
use serde_json::Value as Json;
use serde_json::json;

use super::ai_turn::AiTurn;
use super::ai_turn::Turned;
use super::asking;
use super::asking::Fallback;
use super::asking::On;
use crate::ai::conversation;
use crate::ai::rounds;
use crate::ai::rounds::Takes;
use crate::ai::rounds::Tool;
use crate::model::Effect;
use crate::model::ErrorClass;
use crate::model::Map;
use crate::model::Value;
use crate::model::decode;
use crate::node::ExpressionKey;
use crate::node::Misfit;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::Prediction;
use crate::node::StepContext;
use crate::node::Surroundings;
use crate::node::Wanted;

/// The settings that a prompt's file may have as front matter; `with` wins over them.
const SETTINGS: &[&str] = &[
    "model",
    "system",
    "schema",
    "schema_name",
    "repairs",
    "max_tokens",
    "temperature",
    "top_p",
    "stop",
    "seed",
    "effort",
    "extra",
];
/// The longest name of a tool that all providers take.
const LONGEST_NAME: usize = 64;

/// Has a model write a text, or a value by a schema.
///
/// The prompt is a file with the same expressions as pipelines, which may include others and may have settings as front
/// matter. Where a schema is given, the provider enforces it if it can; the answer is held against it in any case, and the
/// model mends what does not fit, a bounded number of times. Tools are operations, nodes and pipelines; each call is a step run of its
/// own. It costs money:
/// the intent is durable before it asks. After a crash what was asked counts as spent, and it is asked again only where the
/// step says `in_doubt: resend`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AiGenerate {
    /// The connection that is asked; its connector has an operation `chat`.
    connection: String,
    /// The model; by default the one that the prompt or the connection names.
    #[serde(default)]
    model: Option<String>,
    /// Connections that are asked, in this order, where the one before cannot answer.
    #[serde(default)]
    fallback: Vec<Fallback>,
    /// The classes of errors after which the next one is asked.
    #[serde(default = "asking::usual")]
    fallback_on: Vec<On>,
    /// The file of the prompt, relative to the pipeline's, e.g. `prompts/post.md.j2`; literal. Settings may stand before its
    /// text, between two lines `---`.
    #[serde(default, rename = "prompt")]
    _prompt: Option<String>,
    /// Values for the prompt, as `vars`.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, Value>")]
    vars: Value,
    /// The prompt itself, in place of a file.
    #[serde(default)]
    text: Option<String>,
    /// What the model is told before all else.
    #[serde(default)]
    system: Option<String>,
    /// Messages that come before the prompt: `{ role, content }` each.
    #[serde(default)]
    messages: Vec<Value>,
    /// Pictures that belong to the prompt: files, or addresses.
    #[serde(default)]
    images: Vec<Value>,
    /// A JSON Schema that the answer must fit; it is then the output's `value`.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, Value>")]
    schema: Value,
    /// What the schema is called, for the provider.
    #[serde(default)]
    schema_name: Option<String>,
    /// How often the model may mend an answer that does not fit; 2 by default.
    #[serde(default)]
    #[schemars(range(max = 10))]
    repairs: Option<u32>,
    /// What the model may call.
    #[serde(default)]
    tools: Vec<ToolSpec>,
    /// How many turns there are at most where there are tools, the last one without.
    #[serde(default = "five", rename = "rounds")]
    #[schemars(range(min = 1, max = 20))]
    _rounds: u32,
    /// The longest answer, in tokens, thoughts included.
    #[serde(default)]
    max_tokens: Option<u64>,
    /// How much chance there is in the answer; some models refuse it.
    #[serde(default)]
    #[schemars(with = "rust_decimal::Decimal")]
    temperature: Value,
    /// The share of likely words that is drawn from.
    #[serde(default)]
    #[schemars(with = "rust_decimal::Decimal")]
    top_p: Value,
    /// Texts at which the answer ends.
    #[serde(default)]
    stop: Value,
    /// A number from which the chance in it is drawn, where the provider has that.
    #[serde(default)]
    seed: Option<i64>,
    /// How hard the model thinks, e.g. `low`.
    #[serde(default)]
    effort: Option<String>,
    /// Further settings of the provider, laid over the request as they are.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, Value>")]
    extra: Value,
    /// What it is about: `context.recent` and `context.search` find it by that.
    #[serde(default)]
    topic: Option<String>,
    /// Words to find it by.
    #[serde(default)]
    tags: Vec<String>,
}

/// A tool that a model may call.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct ToolSpec {
    /// An operation or a node, as a step's `uses`.
    #[serde(default)]
    uses: Option<String>,
    /// A pipeline instead; its inputs are the arguments, its outputs the result.
    #[serde(default)]
    pipeline: Option<String>,
    /// What the model calls it; by default its own name with `_` for dots.
    #[serde(default)]
    name: Option<String>,
    /// What it is for; by default what its own documentation says.
    #[serde(default)]
    description: Option<String>,
    /// What is given beside the arguments: the model neither sees nor chooses it, e.g. `{ connection: x }`.
    #[serde(default)]
    #[schemars(with = "std::collections::BTreeMap<String, Value>")]
    with: Value,
    /// Allows a tool that changes the world; without it only those that read may be offered.
    #[serde(default)]
    writes: bool,
}

fn five() -> u32 {
    5
}

#[async_trait]
impl NodeType for AiGenerate {
    const NAME: &'static str = "ai.generate";
    const EXAMPLE: &'static str = "connection: openai
model: gpt-6-luna
text: Write a post about release 2.4 in one sentence.
max_tokens: 400
";
    const LITERALS: &'static [&'static str] = &["tools", "rounds"];
    const PROMPTS: &'static [ExpressionKey] = &[ExpressionKey { key: "prompt", roots: &["vars"] }];
    const FRONT_MATTER: &'static [&'static str] = SETTINGS;
    type Output = Turned;

    fn effect(with: &Value) -> Effect {
        // With tools it is a child run, whose steps have their own.
        if has_tools(with) { Effect::Read } else { Effect::PaidRead }
    }

    fn calls(with: &Value) -> Vec<Wanted> {
        if has_tools(with) { Vec::new() } else { asking::wanted(with, asking::CHAT) }
    }

    fn check(with: &Value) -> Vec<(Option<String>, String)> {
        let given = ["prompt", "text"].iter().filter(|key| with.get(key).is_some()).count();
        match given {
            0 if with.get("messages").is_none() => {
                vec![(None, "give the prompt: `prompt`, a file, or `text`".to_owned())]
            }
            2 => vec![(Some("text".to_owned()), "give one prompt: `prompt` or `text`".to_owned())],
            _ => Vec::new(),
        }
    }

    fn expand(with: &Value, around: &dyn Surroundings) -> Result<Option<String>, Misfit> {
        let Some(specs) = with.get("tools").and_then(Value::as_list).filter(|specs| !specs.is_empty()) else {
            return Ok(None);
        };
        let mut tools: Vec<Tool> = Vec::new();
        for (index, spec) in specs.iter().enumerate() {
            let key = format!("tools.{index}");
            let spec: ToolSpec = decode(spec.clone()).map_err(|error| Misfit::new(&key, error.to_string()))?;
            let tool = tool(&spec, around).map_err(|misfit| Misfit { key: key.clone(), ..misfit })?;
            if tools.iter().any(|other| other.name == tool.name) {
                return Err(Misfit::new(&key, format!("two tools are called `{}`", tool.name))
                    .help("give one of them another `name`"));
            }
            tools.push(tool);
        }
        let rounds = match with.get("rounds") {
            Some(Value::Int(rounds)) => u32::try_from(*rounds).unwrap_or(1).min(20),
            _ => five(),
        };
        let mut turn = JsonMap::new();
        let mut hand = |key: &str| turn.insert(key.to_owned(), json!(format!("{{{{ input.{key} }}}}")));
        for key in HANDED {
            hand(key);
        }
        // Where the connections are written out, no others need to be known.
        let literal = |key: &str| with.get(key).filter(|it| it.is_known() && !has_null(it)).map(asking::to_json);
        turn.extend(literal("connection").map(|name| ("connection".to_owned(), name)));
        turn.extend(literal("fallback").map(|chain| ("fallback".to_owned(), chain)));
        turn.insert("tools".to_owned(), tools.iter().map(Tool::offer).collect());
        Ok(Some(rounds::steps(&tools, rounds, &turn)))
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let has_tools = !self.tools.is_empty();
        let turn = self.asked(ctx).await?;
        if has_tools {
            let inputs = Value::map([("input", Value::from(turn))]);
            return Ok(Outcome::Child { pipeline: Self::NAME.to_owned(), inputs });
        }
        let turn: AiTurn = decode(Value::from(turn)).map_err(|error| NodeError::new(ErrorClass::Invalid, error))?;
        turn.run(ctx).await
    }

    async fn predict(self, ctx: &StepContext<'_>) -> Result<Prediction, NodeError> {
        let turn = self.asked(ctx).await?;
        let turn: AiTurn = decode(Value::from(turn)).map_err(|error| NodeError::new(ErrorClass::Invalid, error))?;
        turn.predict(ctx).await
    }
}

/// What every turn is handed.
const HANDED: [&str; 17] = [
    "record",
    "connection",
    "model",
    "fallback",
    "fallback_on",
    "system",
    "messages",
    "schema",
    "schema_name",
    "repairs",
    "max_tokens",
    "temperature",
    "top_p",
    "stop",
    "seed",
    "effort",
    "extra",
];

fn has_tools(with: &Value) -> bool {
    with.get("tools").and_then(Value::as_list).is_some_and(|tools| !tools.is_empty())
}

/// Tells whether a part of it is computed.
fn has_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::List(items) => items.iter().any(has_null),
        Value::Map(map) => map.values().any(has_null),
        _ => false,
    }
}

/// Finds what a tool is: its schema, and whether it writes.
fn tool(spec: &ToolSpec, around: &dyn Surroundings) -> Result<Tool, Misfit> {
    let fixed = match asking::to_json(&spec.with) {
        Json::Object(map) => map,
        _ => JsonMap::new(),
    };
    let named = match (&spec.uses, &spec.pipeline) {
        (Some(uses), None) => uses.clone(),
        (None, Some(pipeline)) => pipeline.clone(),
        _ => return Err(Misfit::new("", "a tool says either `uses` or `pipeline`")),
    };
    let name = spec.name.clone().unwrap_or_else(|| named.replace('.', "_"));
    let good = name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_' || letter == '-');
    if name.is_empty() || !good || name.len() > LONGEST_NAME {
        let message = format!("`{name}` cannot name a tool");
        return Err(Misfit::new("", message).help(format!("use letters, digits, `_` and `-`, at most {LONGEST_NAME}")));
    }
    let (mut parameters, documented, writes, uses, takes) = if spec.pipeline.is_some() {
        let found = around.pipeline(&named);
        let found =
            found.ok_or_else(|| Misfit::new("", format!("pipeline `{named}` does not exist, or has faults")))?;
        (found.inputs, found.description, found.writes, "pipeline.run".to_owned(), Takes::Inputs)
    } else {
        let node = around.node(&named).ok_or_else(|| Misfit::new("", format!("node `{named}` does not exist")))?;
        let takes = if node.connector().is_some() { Takes::Keys } else { Takes::Whole };
        (node.input_schema(), first_line(&node.docs()), node.changes(&spec.with), named.clone(), takes)
    };
    if writes && !spec.writes {
        let message = format!("tool `{named}` changes the world, and the model decides when");
        return Err(Misfit::new("", message).help("allow it with `writes: true`, or offer a tool that only reads"));
    }
    let mut fixed = fixed;
    let hidden: Vec<String> = fixed.keys().cloned().chain(["connection".to_owned()]).collect();
    leave_out(&mut parameters, &hidden);
    if takes == Takes::Inputs {
        fixed.insert("pipeline".to_owned(), json!(named));
    }
    let description = spec.description.clone().unwrap_or(documented);
    Ok(Tool { name, description, parameters, uses, fixed, takes, writes })
}

fn first_line(docs: &str) -> String {
    docs.lines().next().unwrap_or_default().to_owned()
}

/// Takes properties out of a schema, and what a model does not need to know of it.
fn leave_out(schema: &mut Json, hidden: &[String]) {
    let Some(schema) = schema.as_object_mut() else { return };
    for key in ["$schema", "title", "description"] {
        schema.remove(key);
    }
    schema.entry("type").or_insert_with(|| json!("object"));
    if let Some(properties) = schema.get_mut("properties").and_then(Json::as_object_mut) {
        properties.retain(|key, _| !hidden.contains(key));
    }
    if let Some(required) = schema.get_mut("required").and_then(Json::as_array_mut) {
        required.retain(|key| !hidden.iter().any(|hidden| key == hidden.as_str()));
    }
}

impl AiGenerate {
    /// Makes the `with:` of a turn: the prompt rendered, its settings under those of the step.
    async fn asked(self, ctx: &StepContext<'_>) -> Result<Map, NodeError> {
        let file = ctx.prompt("prompt");
        let front = file.map(|prompt| prompt.front().clone()).unwrap_or_default();
        let record = Value::map([
            ("kind", "generate".into()),
            ("topic", self.topic.map_or(Value::Null, Value::from)),
            ("tags", Value::list(self.tags.into_iter().map(Value::from).collect())),
            ("prompt", self._prompt.map_or(Value::Null, Value::from)),
            ("prompt_version", file.map_or(Value::Null, |prompt| prompt.fingerprint().into())),
            ("inputs", self.vars.clone()),
        ]);
        let own = |value: Value, key: &str| match value {
            Value::Null => front.get(key).cloned().unwrap_or_default(),
            value => value,
        };
        let text = |text: Option<String>| text.map_or(Value::Null, Value::from);
        let count = |count: Option<u64>| count.map_or(Value::Null, Value::from);
        let mut messages = self.messages;
        if let Some(prompt) = prompt(ctx, self.text, self.vars)? {
            let content = if self.images.is_empty() { prompt } else { with_images(ctx, prompt, &self.images).await? };
            messages.push(conversation::message("user", content));
        }
        let repairs = own(count(self.repairs.map(u64::from)), "repairs");
        let chain = self
            .fallback
            .into_iter()
            .map(|it| Value::map([("connection", it.connection.into()), ("model", text(it.model))]));
        let on = self.fallback_on.into_iter().map(|on| Value::from(on.name()));
        Ok(Map::from_iter([
            ("record".into(), record),
            ("connection".into(), self.connection.into()),
            ("model".into(), own(text(self.model), "model")),
            ("fallback".into(), Value::list(chain.collect())),
            ("fallback_on".into(), Value::list(on.collect())),
            ("system".into(), own(text(self.system), "system")),
            ("messages".into(), Value::list(messages)),
            ("schema".into(), own(self.schema, "schema")),
            ("schema_name".into(), own(text(self.schema_name), "schema_name")),
            ("repairs".into(), if repairs.is_null() { Value::Int(asking::two().into()) } else { repairs }),
            ("max_tokens".into(), own(count(self.max_tokens), "max_tokens")),
            ("temperature".into(), own(self.temperature, "temperature")),
            ("top_p".into(), own(self.top_p, "top_p")),
            ("stop".into(), own(self.stop, "stop")),
            ("seed".into(), own(self.seed.map_or(Value::Null, |seed| Value::Int(seed.into())), "seed")),
            ("effort".into(), own(text(self.effort), "effort")),
            ("extra".into(), own(self.extra, "extra")),
        ]))
    }
}

/// Renders the prompt; nothing where there is none beside the messages.
fn prompt(ctx: &StepContext<'_>, text: Option<String>, vars: Value) -> Result<Option<Value>, NodeError> {
    if let Some(text) = text {
        return Ok(Some(text.into()));
    }
    if !ctx.has_expression("prompt") {
        return Ok(None);
    }
    let vars = if vars.is_null() { Value::map::<&str>([]) } else { vars };
    let rendered = ctx.eval("prompt", &[("vars", vars)]);
    let value = rendered.map_err(|error| NodeError::new(ErrorClass::Invalid, error).at("`prompt`"))?;
    let text = Value::from(value.to_text());
    Ok(Some(if value.is_tainted() { text.tainted() } else { text }))
}

/// Makes the content of a message that has pictures.
async fn with_images(ctx: &StepContext<'_>, prompt: Value, images: &[Value]) -> Result<Value, NodeError> {
    let mut parts = vec![Value::map([("text", prompt)])];
    for image in images {
        let image = match image {
            Value::Blob(blob) => {
                let bytes = ctx.keep.read_blob(blob).await?;
                let kind = blob.media_type.as_deref().unwrap_or("image/png");
                Value::map([("data", STANDARD.encode(bytes).into()), ("media_type", kind.into())])
            }
            Value::String(url) => Value::map([("url", Value::String(url.clone()))]),
            other => {
                let message = format!("a picture is a file or an address, found {}", other.kind().name());
                return Err(NodeError::invalid(message));
            }
        };
        parts.push(Value::map([("image", image)]));
    }
    Ok(Value::list(parts))
}
