use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::connector::library::Library;
use crate::connector::library::Loaded;
use crate::connector::manifest::Manifest;
use crate::model::Timestamp;
use crate::model::parse_json;
use crate::sandbox::family::make;

mod dialects;
mod operations;

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";

fn json(text: &str) -> Value {
    parse_json(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn manifest() -> Arc<Manifest> {
    match Library::open(Path::new("/nowhere")).whole("openai") {
        Loaded::Manifest(manifest) => manifest,
        other => panic!("{other:?}"),
    }
}

/// A stand-in with a clock and chance of its own.
struct Stand {
    family: Box<dyn Family>,
    moment: Moment,
}

impl Stand {
    fn new(settings: &Value) -> Self {
        let moment = Moment { now: Timestamp(1_795_000_000_000_000), random: fastrand::Rng::with_seed(7) };
        Self { family: make("chat", settings).unwrap(), moment }
    }

    /// The one of the manifest.
    fn built_in() -> Self {
        Self::new(&manifest().sandbox.as_ref().unwrap().to_value())
    }

    fn with(&mut self, collection: &str, rows: &str) {
        self.family.load(collection, json(rows).as_list().unwrap()).unwrap();
    }

    fn send(&mut self, request: &Received) -> Reply {
        self.family.answer(request, &mut self.moment).unwrap()
    }

    fn post(&mut self, path: &str, body: &str) -> Reply {
        self.send(&Received::new("POST", path).with_json(&json(body)))
    }

    /// Posts what is answered well, and reads the answer.
    fn ask(&mut self, path: &str, body: &str) -> Value {
        let reply = self.post(path, body);
        assert_eq!(reply.status, 200, "{}", body_of(&reply));
        body_of(&reply)
    }

    /// Asks in the shape of completions and returns `what` of the only choice.
    fn said(&mut self, body: &str) -> Value {
        let answer = self.ask(CHAT, body);
        at(&answer, "choices.0.message.content")
    }
}

fn body_of(reply: &Reply) -> Value {
    parse_json(std::str::from_utf8(&reply.body).unwrap()).unwrap_or_else(|_| Value::from(text_of(reply)))
}

fn text_of(reply: &Reply) -> String {
    String::from_utf8(reply.body.clone()).unwrap()
}

fn at(value: &Value, path: &str) -> Value {
    let found = path.split('.').try_fold(value.clone(), |value, key| match &value {
        Value::List(items) => items.get(key.parse::<usize>().ok()?).cloned(),
        value => value.get(key).cloned(),
    });
    found.unwrap_or_default()
}

fn plain(model: &str, said: &str) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"{said}"}}]}}"#)
}

#[test]
fn an_answer_speaks_of_what_was_asked_and_is_always_the_same() {
    let body = plain("gpt-6-luna", "Post about release 2.4");
    let mut one = Stand::built_in();
    let answer = one.ask(CHAT, &body);
    assert!(at(&answer, "choices.0.message.content").to_text().contains("Post about release 2.4"));
    assert_eq!(at(&answer, "choices.0.finish_reason"), "stop".into());
    assert_eq!(at(&answer, "created"), Value::Int(1_795_000_000));
    assert!(at(&answer, "id").to_text().starts_with("chatcmpl-"));
    let count = |path: &str| match at(&answer, path) {
        Value::Int(count) => count,
        other => panic!("{path}: {other}"),
    };
    assert_eq!(count("usage.total_tokens"), count("usage.prompt_tokens") + count("usage.completion_tokens"));
    assert!(count("usage.completion_tokens_details.reasoning_tokens") < count("usage.completion_tokens"));
    // Whatever was asked in between, by whatever way.
    let first = at(&answer, "choices.0.message.content");
    one.said(&plain("gpt-6-luna", "Something else"));
    assert_eq!(one.said(&body), first);
    let other = one.ask(RESPONSES, r#"{"model":"gpt-6-luna","input":"Post about release 2.4"}"#);
    assert_eq!(at(&other, "output.1.content.0.text"), first);
    let mut another = Stand::built_in();
    another.send(&Received::new("GET", "/v1/models"));
    assert_eq!(another.said(&body), first);
}

#[test]
fn a_schema_gets_what_fits_it() {
    let schema = r#"{"type":"object","properties":{"mood":{"enum":["calm","urgent"]},"score":{"type":"integer","minimum":1,"maximum":5}},"required":["mood","score"],"additionalProperties":false}"#;
    let mut stand = Stand::built_in();
    let asked = format!(
        r#"{{"model":"gpt-6-sol","messages":[{{"role":"user","content":"This is urgent"}}],"response_format":{{"type":"json_schema","json_schema":{{"name":"r","strict":true,"schema":{schema}}}}}}}"#
    );
    let value = json(&stand.said(&asked).to_text());
    assert_eq!(value.get("mood"), Some(&"urgent".into()));
    let asked = format!(
        r#"{{"model":"gpt-6-sol","input":"This is urgent","text":{{"format":{{"type":"json_schema","name":"r","strict":true,"schema":{schema}}}}}}}"#
    );
    let answer = stand.ask(RESPONSES, &asked);
    assert_eq!(json(&at(&answer, "output.1.content.0.text").to_text()), value);
    assert_eq!(at(&answer, "text.format.name"), "r".into());
    let any = r#"{"model":"gpt-6-sol","messages":[{"role":"user","content":"Give me JSON"}],"response_format":{"type":"json_object"}}"#;
    assert!(json(&stand.said(any).to_text()).get("answer").is_some());
}

const QUOTE: &str = r#"{"name":"get_quote","strict":true,"parameters":{"type":"object","properties":{"symbol":{"type":"string","pattern":"^[A-Z]{4}$"}},"required":["symbol"],"additionalProperties":false}}"#;

#[test]
fn tools_are_called_when_they_must_be_or_are_mentioned() {
    let mut stand = Stand::built_in();
    let mut calls = |said: &str, more: &str| {
        let tools = format!(
            r#"[{{"type":"function","function":{QUOTE}}},{{"type":"function","function":{{"name":"other_thing"}}}}]"#
        );
        let body = format!(
            r#"{{"model":"gpt-6-luna","messages":[{{"role":"user","content":"{said}"}}],"tools":{tools}{more}}}"#
        );
        let answer = stand.ask(CHAT, &body);
        let calls = at(&answer, "choices.0.message.tool_calls");
        let names = calls.as_list().unwrap_or_default().iter().map(|call| at(call, "function.name").to_text());
        let names = names.collect::<Vec<_>>().join(" ");
        assert_eq!(at(&answer, "choices.0.finish_reason").to_text() == "tool_calls", !names.is_empty());
        names
    };
    for (said, more, expected) in [
        ("Is ACME above 100?", "", ""),
        ("Give me the quote of ACME", "", "get_quote"),
        ("A quote and some other thing", "", "get_quote other_thing"),
        ("A quote and some other thing", r#","parallel_tool_calls":false"#, "get_quote"),
        ("Give me the quote of ACME", r#","tool_choice":"none""#, ""),
        ("Hello", r#","tool_choice":"required""#, "get_quote"),
        ("Hello", r#","tool_choice":{"type":"function","function":{"name":"other_thing"}}"#, "other_thing"),
        (
            "Hello",
            r#","tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"required","tools":[{"type":"function","function":{"name":"other_thing"}}]}}"#,
            "other_thing",
        ),
    ] {
        assert_eq!(calls(said, more), expected, "{said} {more}");
    }
}

#[test]
fn a_tools_result_is_spoken_of() {
    let mut stand = Stand::built_in();
    // A tool of this dialect is flat.
    let flat = QUOTE.replacen('{', r#"{"type":"function","#, 1);
    let first = format!(r#"{{"model":"gpt-6-sol","input":"The quote of ACME?","tools":[{flat}]}}"#);
    let answer = stand.ask(RESPONSES, &first);
    let call = at(&answer, "output.1");
    assert_eq!(at(&call, "type"), "function_call".into());
    assert_eq!(json(&at(&call, "arguments").to_text()).get("symbol").unwrap().to_text().len(), 4);
    // Back with all items, or with the id of what was kept.
    let result = format!(r#"{{"type":"function_call_output","call_id":{},"output":"101.25"}}"#, at(&call, "call_id"));
    let items = format!(
        r#"{{"model":"gpt-6-sol","input":[{{"role":"user","content":"The quote of ACME?"}},{},{call},{result}],"tools":[{flat}]}}"#,
        at(&answer, "output.0")
    );
    let whole = stand.ask(RESPONSES, &items);
    assert_eq!(at(&whole, "output.1.content.0.text"), "get_quote says: 101.25".into());
    let short = format!(r#"{{"model":"gpt-6-sol","previous_response_id":{},"input":[{result}]}}"#, at(&answer, "id"));
    let went_on = stand.ask(RESPONSES, &short);
    assert_eq!(at(&went_on, "output.1.content.0.text"), "get_quote says: 101.25".into());
    assert_eq!(at(&went_on, "previous_response_id"), at(&answer, "id"));
}

#[test]
fn an_answer_is_no_longer_than_it_may_be() {
    let mut stand = Stand::built_in();
    let answer = stand.ask(
        CHAT,
        r#"{"model":"gpt-4.1-mini","max_tokens":5,"messages":[{"role":"user","content":"Tell me everything"}]}"#,
    );
    assert_eq!(at(&answer, "choices.0.finish_reason"), "length".into());
    assert_eq!(at(&answer, "usage.completion_tokens"), Value::Int(5));
    let answer = stand.ask(RESPONSES, r#"{"model":"gpt-6-sol","max_output_tokens":16,"input":"Tell me everything"}"#);
    assert_eq!(at(&answer, "status"), "incomplete".into());
    assert_eq!(at(&answer, "incomplete_details.reason"), "max_output_tokens".into());
    assert_eq!(at(&answer, "usage.output_tokens"), Value::Int(16));
    let must = format!(
        r#"{{"model":"gpt-4.1-mini","max_completion_tokens":4,"tool_choice":"required","messages":[{{"role":"user","content":"x"}}],"tools":[{{"type":"function","function":{QUOTE}}}]}}"#
    );
    let answer = stand.ask(CHAT, &must);
    assert_eq!(at(&answer, "choices.0.finish_reason"), "length".into());
    assert!(parse_json(&at(&answer, "choices.0.message.tool_calls.0.function.arguments").to_text()).is_err());
    let stopped =
        stand.said(r#"{"model":"gpt-4.1-mini","stop":["Tell"],"messages":[{"role":"user","content":"Tell me"}]}"#);
    assert!(!stopped.to_text().contains("Tell"));
}

#[test]
fn a_stream_says_the_same_in_pieces() {
    let mut stand = Stand::built_in();
    let whole = stand.said(&plain("gpt-6-luna", "Hi"));
    let body = r#"{"model":"gpt-6-luna","stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"Hi"}]}"#;
    let reply = stand.post(CHAT, body);
    assert!(reply.header("content-type").unwrap().starts_with("text/event-stream"));
    assert!(text_of(&reply).ends_with("data: [DONE]\n\n"));
    assert!(text_of(&reply).contains(r#""choices":[],"usage":{"prompt_tokens""#));
    let read = crate::connector::codec::chat::decode(reply.header("content-type"), &reply.body, &Value::Null).unwrap();
    assert_eq!(read.get("text"), Some(&whole));
    let reply = stand.post(RESPONSES, r#"{"model":"gpt-6-luna","stream":true,"input":"Hi"}"#);
    let names: Vec<&str> =
        std::str::from_utf8(&reply.body).unwrap().lines().filter_map(|it| it.strip_prefix("event: ")).collect();
    assert_eq!(
        names[..4],
        ["response.created", "response.in_progress", "response.output_item.added", "response.output_item.done"]
    );
    assert_eq!(names.last(), Some(&"response.completed"));
    let read = crate::connector::codec::chat::decode(reply.header("content-type"), &reply.body, &Value::Null).unwrap();
    assert_eq!(read.get("text"), Some(&whole));
    // What was streamed is kept whole.
    let kept = stand.send(&Received::new("GET", &format!("/v1/responses/{}", read.get("id").unwrap().to_text())));
    assert_eq!(at(&body_of(&kept), "status"), "completed".into());
}

#[test]
fn what_is_wrong_with_a_question_is_said_as_the_wire_says_it() {
    let mut stand = Stand::built_in();
    let message = r#""messages":[{"role":"user","content":"x"}]"#;
    let strict = r#"{"type":"object","properties":{"a":{"type":"string"}},"additionalProperties":false}"#;
    let cases: &[(&str, String, u16, &str, &str)] = &[
        (CHAT, format!("{{{message}}}"), 400, "model", "missing_required_parameter"),
        (CHAT, plain("gpt-9", "x"), 404, "", "model_not_found"),
        (CHAT, plain("text-embedding-3-small", "x"), 400, "model", ""),
        (CHAT, r#"{"model":"gpt-6-sol"}"#.into(), 400, "messages", "missing_required_parameter"),
        (CHAT, r#"{"model":"gpt-6-sol","messages":[]}"#.into(), 400, "messages", "empty_array"),
        (CHAT, r#"{"model":"gpt-6-sol","messages":"x"}"#.into(), 400, "messages", "invalid_type"),
        (CHAT, r#"{"model":"gpt-6-sol","messages":[{"role":"boss","content":"x"}]}"#.into(), 400, "messages[0].role", "invalid_value"),
        (CHAT, format!(r#"{{"model":"gpt-6-sol","temperature":3,{message}}}"#), 400, "temperature", "decimal_above_max_value"),
        (CHAT, format!(r#"{{"model":"gpt-6-sol","temperature":0.4,{message}}}"#), 400, "temperature", "unsupported_parameter"),
        (CHAT, format!(r#"{{"model":"gpt-6-sol","temperature":0.4,"reasoning_effort":"none",{message}}}"#), 200, "", ""),
        (CHAT, format!(r#"{{"model":"gpt-6.2-astra","reasoning_effort":"none",{message}}}"#), 400, "reasoning_effort", "unsupported_value"),
        (CHAT, format!(r#"{{"model":"gpt-4.1-mini","reasoning_effort":"low",{message}}}"#), 400, "reasoning_effort", "unsupported_parameter"),
        (CHAT, format!(r#"{{"model":"gpt-6-sol","reasoning_effort":"most",{message}}}"#), 400, "reasoning_effort", "invalid_value"),
        (CHAT, format!(r#"{{"model":"gpt-6-sol","max_tokens":9,{message}}}"#), 400, "max_tokens", "unsupported_parameter"),
        (CHAT, format!(r#"{{"model":"gpt-4.1-mini","stop":["a","b","c","d","e"],{message}}}"#), 400, "stop", "array_above_max_length"),
        (CHAT, format!(r#"{{"model":"gpt-4.1-mini","n":2,{message}}}"#), 400, "n", ""),
        (CHAT, format!(r#"{{"model":"gpt-4.1-mini","stream_options":{{"include_usage":true}},{message}}}"#), 400, "stream_options", ""),
        (CHAT, format!(r#"{{"model":"gpt-6-sol","tools":[{{"type":"function","function":{{"name":"a b"}}}}],{message}}}"#), 400, "tools[0].function.name", "invalid_value"),
        (CHAT, format!(r#"{{"model":"gpt-6-sol","response_format":{{"type":"json_object"}},{message}}}"#), 400, "messages", ""),
        (CHAT, format!(r#"{{"model":"gpt-6-sol","response_format":{{"type":"json_schema","json_schema":{{"name":"r","strict":true,"schema":{strict}}}}},{message}}}"#), 400, "response_format.json_schema.schema", "invalid_json_schema"),
        (CHAT, r#"{"model":"gpt-6-sol","messages":[{"role":"user","content":"x"},{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{}"}}]},{"role":"user","content":"y"}]}"#.into(), 400, "messages", ""),
        (CHAT, r#"{"model":"gpt-6-sol","messages":[{"role":"tool","tool_call_id":"c","content":"x"}]}"#.into(), 400, "messages", ""),
        (RESPONSES, r#"{"model":"gpt-6-sol"}"#.into(), 400, "input", "missing_required_parameter"),
        (RESPONSES, r#"{"model":"gpt-6-sol","input":"x","max_output_tokens":15}"#.into(), 400, "max_output_tokens", "integer_below_min_value"),
        (RESPONSES, r#"{"model":"gpt-6-sol","input":"x","previous_response_id":"resp_0"}"#.into(), 400, "previous_response_id", "previous_response_not_found"),
        (RESPONSES, r#"{"model":"gpt-6-sol","input":"x","background":true}"#.into(), 400, "background", ""),
        (RESPONSES, r#"{"model":"gpt-6-sol","input":[{"type":"function_call_output","call_id":"c","output":"x"}]}"#.into(), 400, "input", ""),
        (RESPONSES, format!(r#"{{"model":"gpt-6-sol","input":"x","text":{{"format":{{"type":"json_schema","name":"r","strict":true,"schema":{strict}}}}}}}"#), 400, "text.format.schema", "invalid_json_schema"),
    ];
    for (path, body, status, param, code) in cases {
        let reply = stand.post(path, body);
        let answer = body_of(&reply);
        assert_eq!(reply.status, *status, "{body}: {answer}");
        if *status != 200 {
            let error = answer.get("error").and_then(Value::as_map).unwrap();
            assert_eq!(error.keys().map(|key| &**key).collect::<Vec<_>>(), ["message", "type", "param", "code"]);
            let shown = (at(&answer, "error.param").to_text(), at(&answer, "error.code").to_text());
            assert_eq!((shown.0.as_str(), shown.1.as_str()), (*param, *code), "{body}: {answer}");
        }
        assert!(reply.header("x-request-id").unwrap().starts_with("req_"));
    }
    let garbage = Received { body: b"{".to_vec(), ..Received::new("POST", CHAT) };
    assert_eq!(stand.send(&garbage).status, 400);
    assert_eq!(stand.send(&Received::new("GET", CHAT)).status, 405);
    assert!(stand.family.answer(&Received::new("GET", "/v1/files"), &mut stand.moment).is_none());
    stand.with("models", r#"[{"id":"small","context":10}]"#);
    let long = stand.post(CHAT, &plain("small", &"long ".repeat(20)));
    assert_eq!(at(&body_of(&long), "error.code"), "context_length_exceeded".into());
}

#[test]
fn kept_answers_are_read_and_deleted() {
    let mut stand = Stand::built_in();
    let kept = stand.ask(RESPONSES, r#"{"model":"gpt-6-sol","input":"Hi","metadata":{"a":"b"}}"#);
    let path = format!("/v1/responses/{}", at(&kept, "id").to_text());
    assert_eq!(body_of(&stand.send(&Received::new("GET", &path))), kept);
    let gone = stand.send(&Received::new("DELETE", &path));
    assert_eq!(at(&body_of(&gone), "deleted"), Value::Bool(true));
    for method in ["GET", "DELETE"] {
        assert_eq!(stand.send(&Received::new(method, &path)).status, 404);
    }
    let loose = stand.ask(RESPONSES, r#"{"model":"gpt-6-sol","input":"Hi","store":false}"#);
    let path = format!("/v1/responses/{}", at(&loose, "id").to_text());
    assert_eq!(stand.send(&Received::new("GET", &path)).status, 404);
    assert_eq!(stand.send(&Received::new("GET", "/v1/models/gpt-6-sol")).status, 200);
    assert_eq!(
        at(&body_of(&stand.send(&Received::new("GET", "/v1/models/none"))), "error.code"),
        "model_not_found".into()
    );
    assert_eq!(at(&stand.family.state(), "questions.1.asked"), "Hi".into());
}

fn vectors(answer: &Value) -> Vec<Vec<f64>> {
    let rows = answer.get("data").unwrap().as_list().unwrap();
    let row = |row: &Value| {
        let numbers = row.get("embedding").unwrap().as_list().unwrap();
        numbers.iter().map(|number| number.to_text().parse().unwrap()).collect()
    };
    rows.iter().map(row).collect()
}

#[test]
fn similar_texts_are_near_each_other() {
    let mut stand = Stand::built_in();
    let texts = r#""input":["the release notes of the shop","release note for our shop","cats sleep all day"]"#;
    let answer = stand.ask("/v1/embeddings", &format!(r#"{{"model":"text-embedding-3-small",{texts}}}"#));
    let found = vectors(&answer);
    let near =
        |one: usize, other: usize| found[one].iter().zip(&found[other]).map(|(one, other)| one * other).sum::<f64>();
    assert_eq!(found[0].len(), 1536);
    assert!((near(0, 0) - 1.0).abs() < 1e-5);
    assert!(near(0, 1) > 0.2 && near(0, 1) > near(0, 2) + 0.2, "{} {}", near(0, 1), near(0, 2));
    let short = stand.ask("/v1/embeddings", &format!(r#"{{"model":"text-embedding-3-small","dimensions":3,{texts}}}"#));
    let packed = stand.ask(
        "/v1/embeddings",
        &format!(r#"{{"model":"text-embedding-3-small","dimensions":3,"encoding_format":"base64",{texts}}}"#),
    );
    for (index, vector) in vectors(&short).iter().enumerate() {
        let bytes = STANDARD.decode(at(&packed, &format!("data.{index}.embedding")).to_text()).unwrap();
        let numbers: Vec<f32> = bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect();
        assert_eq!(
            numbers.iter().map(|number| number.to_string()).collect::<Vec<_>>(),
            vector.iter().map(|it| it.to_string()).collect::<Vec<_>>()
        );
    }
    assert_eq!(at(&packed, "usage.prompt_tokens"), at(&packed, "usage.total_tokens"));
    for (body, param) in [
        (r#"{"model":"text-embedding-3-small"}"#, "input"),
        (r#"{"model":"text-embedding-3-small","input":[]}"#, "input"),
        (r#"{"model":"text-embedding-3-small","input":["a",""]}"#, "input"),
        (r#"{"model":"text-embedding-3-small","input":["a",1]}"#, "input"),
        (r#"{"model":"text-embedding-3-small","input":"a","dimensions":1537}"#, "dimensions"),
        (r#"{"model":"text-embedding-ada-002","input":"a","dimensions":8}"#, "dimensions"),
        (r#"{"model":"text-embedding-3-small","input":"a","encoding_format":"hex"}"#, "encoding_format"),
        (r#"{"model":"gpt-6-sol","input":"a"}"#, "model"),
    ] {
        let reply = stand.post("/v1/embeddings", body);
        assert_eq!((reply.status, at(&body_of(&reply), "error.param")), (400, param.into()), "{body}");
    }
    let tokens = stand.ask("/v1/embeddings", r#"{"model":"text-embedding-3-small","input":[[1,2],[3]]}"#);
    assert_eq!(at(&tokens, "usage.total_tokens"), Value::Int(3));
}

#[test]
fn limits_are_told_and_kept() {
    let mut stand = Stand::new(&json(
        r#"{"family":"chat","paths":{"/chat":"openai"},"quota":{"requests":2,"tokens":1000,"per":"60s"}}"#,
    ));
    let reply = stand.post("/chat", r#"{"model":"any","max_tokens":400,"messages":[{"role":"user","content":"x"}]}"#);
    assert_eq!(reply.status, 200);
    for (header, expected) in [
        ("x-ratelimit-limit-requests", "2"),
        ("x-ratelimit-remaining-requests", "1"),
        ("x-ratelimit-reset-requests", "30s"),
        ("x-ratelimit-remaining-tokens", "600"),
        ("x-ratelimit-reset-tokens", "24s"),
    ] {
        assert_eq!(reply.header(header), Some(expected), "{header}");
    }
    let tokens = stand.post("/chat", r#"{"model":"any","max_tokens":700,"messages":[{"role":"user","content":"x"}]}"#);
    assert_eq!((tokens.status, at(&body_of(&tokens), "error.type")), (429, "tokens".into()));
    assert_eq!(tokens.header("retry-after-ms"), Some("6000"));
    let requests = stand.post("/chat", &plain("any", "x"));
    assert_eq!((requests.status, at(&body_of(&requests), "error.type")), (429, "requests".into()));
    assert_eq!(requests.header("retry-after"), Some("30"));
    assert_eq!(requests.header("x-ratelimit-remaining-requests"), Some("0"));
    stand.moment.now = stand.moment.now.plus(crate::model::Duration::from_secs(30));
    assert_eq!(stand.post("/chat", &plain("any", "x")).status, 200);
}

#[test]
fn written_replies_are_given_in_order_or_where_they_fit() {
    let mut stand = Stand::built_in();
    stand.with(
        "replies",
        r#"[{"when":"weather","tool":{"name":"get_weather","arguments":{"city":"Bonn"}}},{"when":"weather","text":"It rains."},
        {"text":"first"},{"json":{"a":1}},{"refusal":"No."},{"text":"cut","stop":"filter"},{"tool":"absent"}]"#,
    );
    let weather = r#"{"model":"gpt-6-sol","tools":[{"type":"function","function":{"name":"get_weather"}}],"messages":[{"role":"user","content":"The weather?"}"#;
    let call = stand.ask(CHAT, &format!("{weather}]}}"));
    assert_eq!(at(&call, "choices.0.message.tool_calls.0.function.arguments"), r#"{"city":"Bonn"}"#.into());
    let message = at(&call, "choices.0.message");
    let id = at(&message, "tool_calls.0.id");
    let back = format!(r#"{weather},{message},{{"role":"tool","tool_call_id":{id},"content":"rain"}}]}}"#);
    assert_eq!(stand.said(&back), "It rains.".into());
    assert_eq!(stand.said(&plain("gpt-6-sol", "x")), "first".into());
    assert_eq!(stand.said(&plain("gpt-6-sol", "x")), r#"{"a":1}"#.into());
    let refused = stand.ask(CHAT, &plain("gpt-6-sol", "x"));
    assert_eq!(at(&refused, "choices.0.message.refusal"), "No.".into());
    let cut = stand.ask(CHAT, &plain("gpt-6-sol", "x"));
    assert_eq!(at(&cut, "choices.0.finish_reason"), "content_filter".into());
    // A tool that is not offered cannot be called.
    assert!(stand.said(&plain("gpt-6-sol", "About cats")).to_text().contains("About cats"));
    assert_eq!(at(&stand.family.state(), "replies.2.times"), Value::Int(0));
    for (rows, expected) in [
        (r#"[{"when":"("}]"#, "`when` of a reply"),
        ("[{}]", "a reply says one of"),
        (r#"[{"text":"x","stop":"never"}]"#, "`stop` of a reply"),
        (r#"[{"tool":{"arguments":{}}}]"#, "`tool` of a reply"),
        (r#"[{"says":"x"}]"#, "unknown field"),
    ] {
        let error = stand.family.load("replies", json(rows).as_list().unwrap()).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    assert!(stand.family.load("orders", &[]).unwrap_err().contains("no collection `orders`"));
}

#[test]
fn written_failures_come_as_the_wire_has_them() {
    let mut stand = Stand::built_in();
    stand.with(
        "replies",
        r#"[{"error":{"status":429,"code":"slow_down","message":"Slower.","headers":{"retry-after":"60"}}},
        {"failed":{"code":"server_error","message":"Broken."}},{"breaks":true},
        {"breaks":true,"error":{"message":"overloaded","code":"server_error"}},{"breaks":true,"error":{"message":"late","code":"server_error"}}]"#,
    );
    let slower = stand.post(CHAT, &plain("gpt-6-sol", "x"));
    assert_eq!((slower.status, slower.header("retry-after")), (429, Some("60")));
    let expected = r#"{"error":{"message":"Slower.","type":"requests","param":null,"code":"slow_down"}}"#;
    assert_eq!(text_of(&slower), expected);
    let failed = stand.ask(RESPONSES, r#"{"model":"gpt-6-sol","input":"x"}"#);
    assert_eq!((at(&failed, "status"), at(&failed, "error.code")), ("failed".into(), "server_error".into()));
    let read =
        |reply: &Reply| crate::connector::codec::chat::decode(reply.header("content-type"), &reply.body, &Value::Null);
    let stream = r#"{"model":"gpt-6-sol","stream":true,"messages":[{"role":"user","content":"x"}]}"#;
    assert!(read(&stand.post(CHAT, stream)).unwrap_err().contains("broke off"));
    assert_eq!(at(&read(&stand.post(CHAT, stream)).unwrap(), "error.message"), "overloaded".into());
    let late = stand.post(RESPONSES, r#"{"model":"gpt-6-sol","stream":true,"input":"x"}"#);
    assert_eq!(at(&read(&late).unwrap(), "error.message"), "late".into());
}

#[test]
fn settings_that_cannot_be_are_refused() {
    for (settings, expected) in [
        (r#"{"family":"chat","path":{}}"#, "unknown field `path`"),
        (r#"{"paths":{"/x":"latin"}}"#, "there is no dialect `latin`"),
        (r#"{"kept":"/x"}"#, "has no `{id}`"),
        (r#"{"replies":[{}]}"#, "a reply says one of"),
        (r#"{"errors":{"kinds":{"strange":{}}}}"#, "unknown variant `strange`"),
    ] {
        let error = make("chat", &json(settings)).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
    let mut other = Stand::new(&json(
        r#"{"paths":{"/x":"openai"},"models":{"list":[{"id":"m"}]},"errors":{"body":{"type":"error","error":{"type":"{type}","message":"{message}"}},"kinds":{"unknown_model":{"status":400,"type":"not_found_error"}}}}"#,
    ));
    let reply = other.post("/x", &plain("n", "x"));
    assert_eq!((reply.status, at(&body_of(&reply), "error.type")), (400, "not_found_error".into()));
    assert_eq!(at(&body_of(&reply), "error.code"), Value::Null);
}
