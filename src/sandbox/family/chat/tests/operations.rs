//! The manifest's own operations, over the stand-in as their network.

use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use super::Stand;
use super::at;
use super::json;
use super::manifest;
use crate::connector::call::Means;
use crate::connector::connection::Connection;
use crate::connector::manifest::Manifest;
use crate::connector::read;
use crate::connector::runtime::Connections;
use crate::connector::runtime::Runtime;
use crate::http::Request;
use crate::http::Response;
use crate::http::Transport;
use crate::http::TransportError;
use crate::model::Blob;
use crate::model::Timestamp;
use crate::model::Value;
use crate::node::Keep;
use crate::node::LogLevel;
use crate::node::LogSink;
use crate::node::NodeError;
use crate::sandbox::exchange::Received;
use crate::sandbox::family::Family;
use crate::sandbox::family::Moment;
use crate::system::System;

/// The stand-in as the network that a connector reaches.
#[derive(Debug)]
struct Wire(Mutex<(Box<dyn Family>, Moment)>);

#[async_trait]
impl Transport for Wire {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        let target = request.url.strip_prefix("https://api.openai.com").unwrap();
        let received = Received {
            headers: request.headers.iter().map(|(name, value)| (name.to_lowercase(), value.clone())).collect(),
            body: request.body,
            ..Received::new(&request.method, target)
        };
        let mut state = self.0.lock().unwrap();
        let (family, moment) = &mut *state;
        let reply = family.answer(&received, moment).unwrap();
        Ok(Response { status: reply.status, headers: reply.headers, body: reply.body })
    }
}

#[derive(Debug)]
struct Alone;

#[async_trait]
impl Keep for Alone {
    async fn read_blob(&self, _: &Blob) -> Result<Vec<u8>, NodeError> {
        Err(NodeError::invalid("there are no files"))
    }
    async fn put_blob(&self, _: Vec<u8>, _: Option<&str>, _: Option<&str>) -> Result<Blob, NodeError> {
        Err(NodeError::invalid("there are no files"))
    }
    async fn stream(&self, _: &str) -> Result<Option<Value>, NodeError> {
        Ok(None)
    }
}

impl LogSink for Alone {
    fn log(&self, _: LogLevel, _: &str) {}
}

impl Connections for Alone {
    fn get(&self, _: &str, manifest: &Manifest) -> Result<Connection, String> {
        Ok(Connection {
            name: "openai".into(),
            connector: manifest.name.clone(),
            config: json(r#"{"base_url":null,"organization":null,"project":null}"#),
            kind: "bearer".into(),
            auth: json(r#"{"api_key":"sk-1"}"#).tainted(),
            private: true,
        })
    }
}

#[tokio::test]
async fn every_operation_of_the_manifest_works_against_it() {
    let manifest = manifest();
    let Stand { family, moment } = Stand::built_in();
    let wire = Wire(Mutex::new((family, moment)));
    let (system, _) = System::simulated(Timestamp(1_795_000_000_000_000), 1);
    let runtime = Runtime::new(Arc::new(Alone));
    let link = runtime.link(&manifest, "openai").unwrap();
    let canceled = CancellationToken::new();
    let means = Means {
        system: &system,
        http: &wire,
        log: &Alone,
        keep: &Alone,
        canceled: &canceled,
        deadline: None,
        attempt: 1,
        effect: None,
        step: None,
        begun: None,
    };
    let mut asked = Vec::new();
    let mut call = async |operation: &str, input: &str| {
        asked.push(operation.to_owned());
        let operation = &manifest.operations[operation];
        let output = read::output(&link, &means, operation, &json(input)).await;
        output.unwrap_or_else(|stop| panic!("{}: {stop:?}", operation.name)).revealed()
    };
    let schema = r#"{"type":"object","properties":{"score":{"type":"integer"}},"required":["score"],"additionalProperties":false}"#;
    let question = format!(
        r#"{{"model":"gpt-6-sol","system":"Be short.","max_tokens":600,"effort":"low","schema":{schema},"messages":[{{"role":"user","content":"Rate this"}}]"#
    );
    for operation in ["chat", "complete"] {
        for stream in ["", r#","stream":true"#] {
            let answer = call(operation, &format!("{question}{stream}}}")).await;
            assert_eq!(at(&answer, "stop"), "end".into(), "{answer}");
            assert!(json(&at(&answer, "text").to_text()).get("score").is_some());
        }
    }
    let called = call("chat", r#"{"model":"gpt-6-sol","store":true,"messages":[{"role":"user","content":"Go"}],"tool_choice":"required","tools":[{"name":"go","parameters":{"type":"object"}}]}"#).await;
    assert_eq!(at(&called, "stop"), "tool_use".into());
    let id = at(&called, "tool_calls.0.id");
    let back = format!(
        r#"{{"model":"gpt-6-sol","messages":[{{"role":"user","content":"Go"}},{},{{"role":"tool","tool_call_id":{id},"content":"gone"}}]}}"#,
        at(&called, "message")
    );
    assert_eq!(at(&call("chat", &back).await, "text"), "go says: gone".into());
    let kept = format!(r#"{{"id":{}}}"#, at(&called, "id"));
    assert_eq!(at(&call("get", &kept).await, "status"), "completed".into());
    assert_eq!(at(&call("delete", &kept).await, "deleted"), Value::Bool(true));
    assert_eq!(at(&call("delete", &kept).await, "deleted"), Value::Bool(true));
    let embedded = call("embed", r#"{"model":"text-embedding-3-small","texts":["a","b"],"dimensions":4}"#).await;
    assert_eq!(at(&embedded, "vectors.1").as_list().map(<[Value]>::len), Some(4));
    assert!(call("models", "{}").await.to_string().contains("gpt-6-sol"));
    for name in manifest.operations.keys() {
        assert!(asked.iter().any(|it| it == &**name), "`{name}` is not asked");
    }
}
