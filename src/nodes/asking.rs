//! Asking models: a chain of connections, answers by a schema, what it cost. Shared by the nodes of `ai.*`.

use std::sync::Mutex;
use std::sync::PoisonError;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;

use crate::ai::conversation;
use crate::ai::conversation::Came;
use crate::ai::structured;
use crate::connector::codec::chat::pieces::Pieces;
use crate::connector::runtime::Runtime;
use crate::http::Heard;
use crate::http::Request;
use crate::http::Response;
use crate::http::Transport;
use crate::http::TransportError;
use crate::memory;
use crate::memory::Conversation;
use crate::memory::Memory;
use crate::model::ErrorClass;
use crate::model::Map;
use crate::model::Money;
use crate::model::RunId;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::model::Value;
use crate::node::Live;
use crate::node::LogLevel;
use crate::node::Node;
use crate::node::NodeError;
use crate::node::Outcome;
use crate::node::Prediction;
use crate::node::StepContext;
use crate::node::Wanted;
use crate::store::GenerationRecord;
use crate::store::generation_id;

/// The operation of a connector that answers questions.
pub(super) const CHAT: &str = "chat";

/// Another connection that is asked where the one before cannot answer.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Fallback {
    /// The connection.
    pub connection: String,
    /// Its model; by default the one that the connection names.
    #[serde(default)]
    pub model: Option<String>,
}

/// A class of errors after which the next connection is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum On {
    Throttled,
    Unavailable,
    Timeout,
    Exhausted,
    Auth,
    Rejected,
    Invalid,
}

impl On {
    pub(super) fn class(self) -> ErrorClass {
        match self {
            Self::Throttled => ErrorClass::Throttled,
            Self::Unavailable => ErrorClass::Unavailable,
            Self::Timeout => ErrorClass::Timeout,
            Self::Exhausted => ErrorClass::Exhausted,
            Self::Auth => ErrorClass::Auth,
            Self::Rejected => ErrorClass::Rejected,
            Self::Invalid => ErrorClass::Invalid,
        }
    }

    pub(super) fn name(self) -> &'static str {
        self.class().name()
    }
}

/// The classes after which the next connection is asked where nobody says otherwise.
pub(super) fn usual() -> Vec<On> {
    vec![On::Throttled, On::Unavailable, On::Timeout, On::Exhausted]
}

/// How often a model may mend an answer that does not fit its schema.
pub(super) fn two() -> u32 {
    2
}

/// A turn of a conversation.
#[derive(Clone, Debug)]
pub(super) struct Turn {
    /// Who is asked, the first one first.
    pub chain: Vec<Fallback>,
    pub on: Vec<ErrorClass>,
    /// `system`, `tools`, `tool_choice`, `max_tokens` and the like, as the operation takes them.
    pub settings: Map,
    pub messages: Vec<Value>,
    pub schema: Option<Json>,
    pub repairs: u32,
    /// What the turns before have used, and what they cost; null where it is not known.
    pub usage: Value,
    pub cost: Value,
    pub turns: i128,
    /// How the answer is kept; nothing where it is the business of somebody else.
    pub record: Record,
}

/// How an answer is kept in the memory of content.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    /// `generate`, `classify` and the like.
    pub kind: String,
    pub topic: Option<String>,
    pub tags: Vec<String>,
    /// The prompt's file.
    pub prompt: Option<String>,
    /// The hash of the prompt's text.
    pub prompt_version: Option<String>,
    /// What the prompt was given.
    pub inputs: Value,
}

impl Record {
    pub(super) fn of(kind: &str) -> Self {
        Self { kind: kind.to_owned(), ..Self::default() }
    }
}

/// Lists the operations that a chain calls, for `with` as `Node::calls` sees it.
pub(super) fn wanted(with: &Value, operation: &'static str) -> Vec<Wanted> {
    let name = |value: &Value| value.as_str().map(str::to_owned);
    let first = Wanted { key: "connection".to_owned(), connection: with.get("connection").and_then(name), operation };
    let fallback = with.get("fallback");
    let mut all = vec![first];
    match fallback {
        Some(Value::List(items)) => all.extend(items.iter().map(|item| Wanted {
            key: "fallback".to_owned(),
            connection: item.get("connection").and_then(name),
            operation,
        })),
        // It is computed.
        Some(_) => all.push(Wanted { key: "fallback".to_owned(), connection: None, operation }),
        None => {}
    }
    all
}

/// Predicts what the first question of a turn costs where its first connection answers it.
///
/// # Errors
/// A question that the operation would refuse.
pub(super) async fn predict(turn: &Turn, ctx: &StepContext<'_>) -> Result<Prediction, NodeError> {
    let Some(provider) = turn.chain.first() else { return Ok(Prediction::default()) };
    let node = ctx.called(&provider.connection, CHAT)?;
    let question = question(turn, provider, &turn.messages, turn.schema.as_ref(), &**node, false);
    node.predict(question, &ctx.calling(&**node)).await
}

/// Takes a turn: asks, holds the answer against its schema, and has it mended.
///
/// # Errors
/// Those of the last connection of the chain; `rejected` where the model refuses, `invalid` where it cannot keep to the
/// schema.
pub(super) async fn take(turn: Turn, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
    let unfinished = ctx.services.get::<Memory>().map(Memory::unfinished);
    let began = began_with(&turn);
    // What an earlier attempt was answered is paid for: it goes on with that.
    let earlier = unfinished.and_then(|unfinished| unfinished.take(ctx.run, ctx.path, &began));
    if let Some(earlier) = &earlier {
        let line = format!("the conversation of the attempt before goes on, with {} repairs", earlier.repairs);
        ctx.log.log(LogLevel::Info, &line);
    }
    let Turn { messages, usage, cost, schema, .. } = turn.clone();
    let start = Conversation { asked: began.clone(), messages, usage, cost, repairs: 0 };
    let Conversation { mut messages, mut usage, mut cost, mut repairs, .. } = earlier.unwrap_or(start);
    loop {
        if let Some(unfinished) = unfinished.filter(|_| repairs > 0) {
            let (asked, messages) = (began.clone(), messages.clone());
            let (usage, cost) = (usage.clone(), cost.clone());
            unfinished.keep(ctx.run, ctx.path, Conversation { asked, messages, usage, cost, repairs });
        }
        let answered = match ask(&turn, &messages, schema.as_ref(), ctx).await? {
            Asked::Answered(answered) => answered,
            Asked::Later(until, reason) if repairs == 0 => return Ok(Outcome::Later { until, reason }),
            // What was answered is paid for: to begin again would pay for it again.
            Asked::Later(until, _) => {
                ctx.system.clock.sleep_until(until).await;
                continue;
            }
        };
        if let Some(unfinished) = unfinished.filter(|_| repairs > 0) {
            let _ = unfinished.take(ctx.run, ctx.path, &began);
        }
        let Answered { answer, connection } = answered;
        let text = |key: &str| answer.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let own = answer.get("usage").cloned().unwrap_or_default();
        let price = price(&answer, &connection, ctx);
        cost = if repairs == 0 && turn.turns == 0 { price } else { sum(&cost, &price) };
        usage = conversation::usage(&usage, &own);
        messages.push(answer.get("message").cloned().unwrap_or_default());
        let stop = text("stop");
        let refusal = text("refusal");
        if stop == "refusal" || !refusal.is_empty() {
            let said = if refusal.is_empty() { text("text") } else { refusal };
            return Err(NodeError::message(ErrorClass::Rejected, format!("the model refused: {said}")));
        }
        if stop == "filter" {
            return Err(NodeError::message(ErrorClass::Rejected, "the provider withheld the answer by its filter"));
        }
        let mut value = Value::Null;
        if stop != "tool_use"
            && let Some(schema) = &schema
        {
            if stop == "length" {
                return Err(NodeError::invalid("the answer was cut off at `max_tokens`, so that it fits no schema"));
            }
            match fitting(schema, &text("text")) {
                Ok(found) => value = found,
                Err(faults) if repairs >= turn.repairs => {
                    let told = faults.join("; ");
                    let message = format!("the answer does not fit its schema after {repairs} repairs: {told}");
                    return Err(NodeError { attempts: Some(1), ..NodeError::invalid(message) });
                }
                Err(faults) => {
                    ctx.log.log(LogLevel::Info, &format!("the answer is mended: {}", faults.join("; ")));
                    messages.push(conversation::message("user", structured::repair(&faults)));
                    repairs += 1;
                    continue;
                }
            }
        }
        // A turn that only wants tools has said nothing yet.
        let generation = match stop == "tool_use" {
            true => Value::Null,
            false => kept(&turn, &answer, &value, &usage, &cost, &connection, ctx).await?,
        };
        return Ok(Outcome::Done(Value::map([
            ("generation", generation),
            ("text", answer.get("text").cloned().unwrap_or_default()),
            ("value", value),
            ("stop", stop.into()),
            ("tool_calls", answer.get("tool_calls").cloned().unwrap_or_else(|| Value::list(Vec::new()))),
            ("connection", connection.into()),
            ("model", answer.get("model").cloned().unwrap_or_default()),
            ("usage", usage),
            ("cost", cost),
            ("repairs", Value::Int(repairs.into())),
            ("turns", Value::Int(turn.turns + 1)),
            ("messages", Value::list(messages)),
        ])));
    }
}

/// Returns what a turn asks: one that asks something else does not go on with what this one was answered.
fn began_with(turn: &Turn) -> Value {
    let schema = turn.schema.as_ref().map_or(Value::Null, |schema| schema.to_string().into());
    let one = |it: &Fallback| {
        let model = it.model.clone().map_or(Value::Null, Value::from);
        Value::list(vec![it.connection.as_str().into(), model])
    };
    let chain = Value::list(turn.chain.iter().map(one).collect());
    let messages = Value::list(turn.messages.clone());
    Value::list(vec![messages, Value::from(turn.settings.clone()), schema, chain])
}

/// Keeps an answer in the memory of content, where it is found again; gives its id, null in a plan.
async fn kept(
    turn: &Turn,
    answer: &Value,
    value: &Value,
    usage: &Value,
    cost: &Value,
    connection: &str,
    ctx: &StepContext<'_>,
) -> Result<Value, NodeError> {
    // Where there is no engine there is no memory.
    let Some(memory) = ctx.services.get::<Memory>().filter(|memory| !memory.looks_only()) else {
        return Ok(Value::Null);
    };
    let store = memory.changing()?;
    let id = generation_id(ctx.run, ctx.path, "");
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(str::to_owned);
    let (cost, unit) = match cost {
        Value::Money(money) => (Some(money.amount), Some(money.currency.to_string())),
        _ => (None, None),
    };
    let Record { kind, topic, tags, prompt, prompt_version, inputs } = turn.record.clone();
    let record = GenerationRecord {
        id: id.clone(),
        at: ctx.system.clock.now(),
        run: ctx.run,
        path: ctx.path.clone(),
        part: String::new(),
        pipeline: memory::pipeline_of(store, ctx.run).await.map_err(memory::failed)?.into(),
        kind,
        topic,
        connection: Some(connection.to_owned()),
        model: text(answer.get("model")),
        prompt,
        prompt_version,
        inputs,
        output: text(answer.get("text")).unwrap_or_default(),
        value: value.clone(),
        usage: usage.clone(),
        cost,
        unit,
        tags,
    };
    memory::keep(store, &record, None).await.map_err(memory::failed)?;
    Ok(id.into())
}

/// Makes the messages of a turn that reads what came of the calls of the one before.
pub(super) fn continued(after: &Value, outcomes: &Value, failures: &Value) -> Vec<Value> {
    let mut messages = after.get("messages").and_then(Value::as_list).unwrap_or_default().to_vec();
    let calls = after.get("tool_calls").and_then(Value::as_list).unwrap_or_default();
    let came = outcomes.as_map().into_iter().flatten().map(|(tool, outputs)| {
        let error = failures.get(tool).filter(|error| !error.is_null());
        let error = error.map(|error| {
            let part = |key: &str| error.get(key).map(Value::to_text).unwrap_or_default();
            format!("{}: {}", part("class"), part("message"))
        });
        Came { tool: tool.to_string(), outputs: outputs.as_list().unwrap_or_default().to_vec(), error }
    });
    messages.extend(conversation::results(calls, &came.collect::<Vec<_>>()));
    messages
}

fn fitting(schema: &Json, text: &str) -> Result<Value, Vec<String>> {
    let value = structured::read(text).map_err(|error| vec![error])?;
    let faults = structured::faults(schema, &value).map_err(|error| vec![error])?;
    if faults.is_empty() { Ok(value) } else { Err(faults) }
}

struct Answered {
    answer: Value,
    connection: String,
}

enum Asked {
    Answered(Answered),
    /// No connection of the chain may be asked before then.
    Later(Timestamp, String),
}

/// Asks one connection after the other until one answers.
async fn ask(
    turn: &Turn,
    messages: &[Value],
    schema: Option<&Json>,
    ctx: &StepContext<'_>,
) -> Result<Asked, NodeError> {
    let mut soonest: Option<(Timestamp, String)> = None;
    let mut last: Option<NodeError> = None;
    for (index, provider) in turn.chain.iter().enumerate() {
        let is_last = index + 1 == turn.chain.len();
        let node = ctx.called(&provider.connection, CHAT)?;
        if turn.settings.contains_key("tools") && !takes(&**node, "tools") {
            let message = format!("connection `{}` cannot call tools", provider.connection);
            return Err(NodeError::invalid(message));
        }
        let live = ctx.services.get::<Live>().filter(|live| live.is_heard());
        let question = question(turn, provider, messages, schema, &**node, live.is_some());
        let listening =
            live.map(|live| Listening { inner: ctx.http, live: live.clone(), run: ctx.run, path: ctx.path });
        let http: &dyn Transport = listening.as_ref().map_or(ctx.http, |listening| listening);
        let calling = StepContext { http, ..ctx.calling(&**node) };
        let why = match node.run(question, &calling).await {
            Ok(Outcome::Done(answer) | Outcome::Read { output: answer, .. }) => {
                return Ok(Asked::Answered(Answered { answer, connection: provider.connection.clone() }));
            }
            Ok(Outcome::Later { until, reason }) => {
                let why = reason.clone();
                if soonest.as_ref().is_none_or(|(other, _)| until < *other) {
                    soonest = Some((until, reason));
                }
                why
            }
            Ok(_) => return Err(NodeError::message(ErrorClass::Bug, "a chat operation gives an answer or fails")),
            Err(error) if !is_last && turn.on.contains(&error.class) => {
                let why = format!("{}: {}", error.class.name(), error.text());
                last = Some(error);
                why
            }
            Err(error) => return Err(error),
        };
        if !is_last {
            ctx.log.log(
                LogLevel::Warn,
                &format!("connection `{}` does not answer, the next one is asked: {why}", provider.connection),
            );
        }
    }
    match (soonest, last) {
        (Some((until, reason)), _) => Ok(Asked::Later(until, reason)),
        (None, Some(error)) => Err(error),
        (None, None) => Err(NodeError::invalid("there is no connection to ask")),
    }
}

fn takes(node: &dyn Node, key: &str) -> bool {
    declares(&node.input_schema(), key)
}

fn declares(schema: &Json, key: &str) -> bool {
    schema.get("properties").is_none_or(|properties| properties.get(key).is_some())
}

/// Makes the question for a connection, of what its operation takes.
fn question(
    turn: &Turn,
    provider: &Fallback,
    messages: &[Value],
    schema: Option<&Json>,
    node: &dyn Node,
    heard: bool,
) -> Value {
    let schema_of = node.input_schema();
    let known = |key: &str| declares(&schema_of, key);
    let mut question = turn.settings.clone();
    question.insert("messages".into(), Value::list(messages.to_vec()));
    if heard {
        question.insert("stream".into(), true.into());
    }
    match &provider.model {
        Some(model) => {
            question.insert("model".into(), model.as_str().into());
        }
        None => {
            question.shift_remove("model");
        }
    }
    if let Some(schema) = schema {
        if known("schema") {
            question.insert("schema".into(), to_value(schema));
            if known("strict") {
                question.insert("strict".into(), structured::is_strict(schema).into());
            }
        } else {
            let system = question.get("system").map(Value::to_text).unwrap_or_default();
            let gap = if system.is_empty() { "" } else { "\n\n" };
            question.insert("system".into(), format!("{system}{gap}{}", structured::instruction(schema)).into());
        }
    }
    // What one provider has and the other has not is left out: a chain would be of no use otherwise.
    question.retain(|key, value| !value.is_null() && known(key));
    question.insert("connection".into(), provider.connection.as_str().into());
    Value::from(question)
}

/// Reads JSON as a value.
pub(super) fn to_value(json: &Json) -> Value {
    crate::model::parse_json(&json.to_string()).unwrap_or_default()
}

/// Reads a value as JSON; a schema, say.
pub(super) fn to_json(value: &Value) -> Json {
    serde_json::from_str(&value.revealed().to_string()).unwrap_or_default()
}

/// Returns what an answer cost, by the prices in effect; null where they do not say.
pub(super) fn price(answer: &Value, connection: &str, ctx: &StepContext<'_>) -> Value {
    let known = || {
        let runtime = ctx.services.get::<Runtime>()?;
        let node = ctx.calls.iter().find(|called| *called.connection == *connection)?;
        let model = answer.get("model").and_then(Value::as_str)?;
        let (connector, now) = (node.node.connector()?, ctx.system.clock.now());
        let prices = runtime.prices();
        let row = prices.row(connector, model, now)?;
        // A server that is nobody's costs nothing, unless somebody bills for it.
        let hosted = || runtime.connected(connection).ok()?.connection().config.get("hosted").map(Value::is_truthy);
        if row.is_of_any() && hosted() == Some(true) {
            return None;
        }
        let usage = answer.get("usage")?;
        let amount = prices.cost(connector, model, usage, now)?;
        Some(Value::Money(Money { amount, currency: row.currency.parse().ok()? }))
    };
    known().unwrap_or_default()
}

/// Adds costs; unknown is not nothing.
pub(super) fn sum(one: &Value, other: &Value) -> Value {
    if one.is_null() || other.is_null() {
        return Value::Null;
    }
    crate::model::add(one, other).unwrap_or_default()
}

/// Tells whoever watches what comes of an answer while it comes.
#[derive(Debug)]
struct Listening<'a> {
    inner: &'a dyn Transport,
    live: Live,
    run: RunId,
    path: &'a StepPath,
}

#[async_trait]
impl Transport for Listening<'_> {
    async fn send(&self, mut request: Request) -> Result<Response, TransportError> {
        let pieces = Mutex::new(Pieces::default());
        let (live, run, path) = (self.live.clone(), self.run, self.path.clone());
        request.heard = Some(Heard::new(move |bytes| {
            let text = pieces.lock().unwrap_or_else(PoisonError::into_inner).push(bytes);
            if !text.is_empty() {
                live.tell(run, &path, &text);
            }
        }));
        self.inner.send(request).await
    }
}
