//! What the providers beside OpenAI have of their own.

use super::Stand;
use super::at;
use super::body_of;
use super::json;
use crate::connector::codec::chat;
use crate::connector::library::Library;
use crate::connector::library::Loaded;
use crate::model::Value;
use crate::sandbox::exchange::Received;
use crate::sandbox::exchange::Reply;

const PROVIDERS: &[(&str, &str, &str, &str)] = &[
    ("anthropic", "/v1/messages", "claude-haiku-4-5-20251001", "anthropic"),
    ("cohere", "/v2/chat", "command-a-03-2025", "cohere"),
    ("local", "/v1/chat/completions", "mistral-small", "openai"),
    ("ollama", "/api/chat", "llama3.2", "ollama"),
];

fn stand(name: &str) -> Stand {
    match Library::default().whole(name) {
        Loaded::Manifest(manifest) => Stand::new(&manifest.sandbox.as_ref().unwrap().to_value()),
        other => panic!("{other:?}"),
    }
}

fn asked(path: &str, body: &str) -> Received {
    let mut request = Received::new("POST", path).with_json(&json(body));
    request.headers.push(("anthropic-version".to_owned(), "2023-06-01".to_owned()));
    request
}

fn question(model: &str, stream: bool) -> String {
    format!(
        r#"{{"model":"{model}","max_tokens":90,"stream":{stream},"messages":[{{"role":"user","content":"Hi there"}}]}}"#
    )
}

fn read(dialect: &str, reply: &Reply) -> Result<Value, String> {
    let options = Value::map([("dialect", Value::from(dialect))]);
    chat::decode(reply.header("content-type"), &reply.body, &options)
}

#[test]
fn a_stream_that_breaks_off_is_no_answer_in_any_dialect_and_one_that_fails_says_so() {
    for (name, path, model, dialect) in PROVIDERS {
        let mut stand = stand(name);
        stand.with(
            "replies",
            r#"[{"breaks":true},{"breaks":true,"error":{"message":"it broke","type":"overloaded_error"}},{"error":{"status":503,"message":"busy"}}]"#,
        );
        let mut ask = |stream: bool| stand.send(&asked(path, &question(model, stream)));
        assert!(read(dialect, &ask(true)).unwrap_err().contains("broke off"), "{name}");
        let failed = read(dialect, &ask(true)).unwrap();
        assert!(failed.get("error").unwrap().to_string().contains("it broke"), "{name}: {failed}");
        let refused = ask(false);
        assert!(refused.status == 503 && body_of(&refused).to_string().contains("busy"), "{name}");
        let well = ask(true);
        let answer = read(dialect, &well).unwrap();
        assert_eq!(answer.get("stop"), Some(&"end".into()), "{name}: {answer}");
        assert_eq!(at(&answer, "text"), at(&read(dialect, &ask(false)).unwrap(), "text"), "{name}");
    }
}

#[test]
fn a_model_that_there_is_not_is_refused_in_each_shape() {
    let refused = |name: &str| {
        let (_, path, ..) = PROVIDERS.iter().find(|(own, ..)| *own == name).unwrap();
        let reply = stand(name).send(&asked(path, &question("nobody", false)));
        assert_eq!(reply.status, 404, "{name}");
        body_of(&reply)
    };
    assert_eq!(
        refused("anthropic"),
        json(r#"{"type":"error","error":{"type":"not_found_error","message":"model: nobody"}}"#)
    );
    assert!(at(&refused("cohere"), "message").to_text().starts_with("model 'nobody' not found"));
    assert_eq!(at(&refused("local"), "error.code"), Value::Int(404));
    assert_eq!(refused("ollama"), json(r#"{"error":"model 'nobody' not found"}"#));
}

#[test]
fn a_version_is_needed_and_the_newest_refuses_what_samples() {
    let mut stand = stand("anthropic");
    let body = r#"{"model":"claude-haiku-4-5-20251001","max_tokens":9,"temperature":1,"messages":[{"role":"user","content":"x"}]}"#;
    for (version, expected) in [
        (None, Some("header is required")),
        (Some("2020-01-01"), Some("not a valid version")),
        (Some("2026-10-21"), Some("temperature: not supported with this API version")),
        (Some("2023-06-01"), None),
    ] {
        let mut request = Received::new("POST", "/v1/messages").with_json(&json(body));
        request.headers.extend(version.map(|version| ("anthropic-version".to_owned(), version.to_owned())));
        let reply = stand.send(&request);
        let told = body_of(&reply).to_string();
        match expected {
            Some(words) => assert!(reply.status == 400 && told.contains(words), "{told}"),
            None => assert_eq!(reply.status, 200, "{told}"),
        }
    }
}

#[test]
fn what_is_left_is_told_as_moments_or_not_at_all() {
    let headers = |name: &str, path: &str, model: &str| {
        let reply = stand(name).send(&asked(path, &question(model, false)));
        reply.headers.into_iter().filter(|(name, _)| name.contains("ratelimit")).collect::<Vec<_>>()
    };
    let told = headers("anthropic", "/v1/messages", "claude-haiku-4-5-20251001");
    let value = |name: &str| told.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str());
    assert_eq!(value("anthropic-ratelimit-requests-remaining"), Some("999"));
    assert!(value("anthropic-ratelimit-tokens-reset").unwrap().ends_with('Z'), "{told:?}");
    assert_eq!(headers("cohere", "/v2/chat", "command-a-03-2025"), []);
}
