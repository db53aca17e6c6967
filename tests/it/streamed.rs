//! Files that are too large for memory: read piece by piece while they are sent.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use async_trait::async_trait;
use pipewright::connector::call::Asked;
use pipewright::connector::call::Means;
use pipewright::connector::call::Stop;
use pipewright::connector::call::call;
use pipewright::connector::connection::Connection;
use pipewright::connector::library;
use pipewright::connector::library::Loaded;
use pipewright::connector::manifest::Manifest;
use pipewright::connector::runtime::Connections;
use pipewright::connector::runtime::Runtime;
use pipewright::http::ReqwestTransport;
use pipewright::model::Blob;
use pipewright::model::Value;
use pipewright::node::Keep;
use pipewright::node::LogLevel;
use pipewright::node::LogSink;
use pipewright::node::NodeError;
use pipewright::system::System;
use tokio_util::sync::CancellationToken;

use crate::support::server::Reply;
use crate::support::server::Server;

const DEPOT: &str = r#"connector: depot
base_url: { api: "{{ config.base_url }}" }
operations:
  put: { effect: upsert, repeat: always, input: { properties: { file: { type: blob } } }, request: { put: /file, bytes: "{{ input.file }}" }, output: { ok: "{{ body.ok }}" } }
  part: { effect: upsert, repeat: always, input: { properties: { file: { type: blob } } }, request: { put: /part, bytes: "{{ input.file | slice(5, 3000000) }}" }, output: { ok: "{{ body.ok }}" } }
"#;

const SIZE: u64 = 8 * 1024 * 1024 + 17;

/// A file that nobody keeps: its bytes follow from their places.
#[derive(Debug, Default)]
struct Endless {
    largest: AtomicU64,
    damaged: bool,
}

fn letter(at: u64) -> u8 {
    b"abcdefghijklmnopqrstuvw"[usize::try_from(at % 23).unwrap()]
}

fn letters(from: u64, size: u64) -> Vec<u8> {
    (from..from + size).map(letter).collect()
}

#[async_trait]
impl Keep for Endless {
    async fn read_blob(&self, blob: &Blob) -> Result<Vec<u8>, NodeError> {
        self.largest.fetch_max(blob.size, Ordering::Relaxed);
        let from = blob.offset.unwrap_or(0);
        let mut bytes = letters(from, blob.size);
        if self.damaged && from == 0 {
            bytes[3] = b'!';
        }
        Ok(bytes)
    }

    async fn put_blob(&self, _: Vec<u8>, _: Option<&str>, _: Option<&str>) -> Result<Blob, NodeError> {
        Err(NodeError::invalid("nothing is kept"))
    }

    async fn stream(&self, _: &str) -> Result<Option<Value>, NodeError> {
        Ok(None)
    }
}

#[derive(Debug)]
struct Quiet;

impl LogSink for Quiet {
    fn log(&self, _: LogLevel, _: &str) {}
}

#[derive(Debug)]
struct To(String);

impl Connections for To {
    fn get(&self, name: &str, manifest: &Manifest) -> Result<Connection, String> {
        let settings = Value::map([("base_url", Value::from(self.0.as_str()))]);
        Connection::make(name, manifest, settings, &Value::Null, true)
    }
}

async fn sent(server: &Server, keep: &Endless, operation: &str) -> Result<(), Stop> {
    let Loaded::Manifest(manifest) = library::read(&"depot.yaml".into(), &DEPOT.into()) else { panic!() };
    let link = Runtime::new(Arc::new(To(server.url.clone()))).link(&manifest, "depot").unwrap();
    let (system, http, canceled) = (System::real(), ReqwestTransport::new(), CancellationToken::new());
    let means = Means {
        system: &system,
        http: &http,
        log: &Quiet,
        keep,
        canceled: &canceled,
        deadline: None,
        attempt: 1,
        effect: None,
        step: None,
        begun: None,
    };
    let digest = ring::digest::digest(&ring::digest::SHA256, &letters(0, SIZE));
    let digest: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let blob = Blob {
        address: format!("sha256:{digest}"),
        size: SIZE,
        offset: None,
        media_type: Some("text/plain".to_owned()),
        file_name: None,
    };
    let input = Value::map([("file", Value::Blob(Arc::new(blob)))]);
    call(&link, &means, Asked::new(manifest.operation(operation).unwrap(), input)).await.map(drop)
}

#[tokio::test]
async fn a_large_file_is_never_in_memory_as_a_whole() {
    let server = Server::start(|_| Reply::json(200, r#"{"ok":true}"#));
    let keep = Endless::default();
    sent(&server, &keep, "put").await.unwrap();
    sent(&server, &keep, "part").await.unwrap();
    assert_eq!(keep.largest.load(Ordering::Relaxed), 256 * 1024);
    let [whole, part] = server.seen().try_into().unwrap();
    assert_eq!((whole.header("content-length"), whole.header("content-type")), (Some("8388625"), Some("text/plain")));
    assert!(whole.body.as_bytes() == letters(0, SIZE), "another file arrived");
    assert!(part.body.as_bytes() == letters(5, 3_000_000), "another part arrived");
}

#[tokio::test]
async fn a_file_that_is_not_what_its_address_says_does_not_arrive_whole() {
    let server = Server::start(|_| Reply::json(200, r#"{"ok":true}"#));
    let keep = Endless { damaged: true, ..Endless::default() };
    let Err(Stop::Failed(failure)) = sent(&server, &keep, "put").await else { panic!("it was sent") };
    assert!(failure.message.contains("broke"), "{}", failure.message);
    assert!(server.seen().is_empty());
}
