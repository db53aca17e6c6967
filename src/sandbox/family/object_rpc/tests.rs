//! The stand-in as clients see it, with the rows of the built-in manifest.

use std::sync::Arc;

use super::*;
use crate::connector::codec::xmlrpc;
use crate::connector::library;
use crate::connector::manifest::Manifest;
use crate::model::parse_json;
use crate::sandbox::plan::Plan;

const KEY: &str = "6578616d706c65206a736f6e206b6579";
const READER: &str = "72656164696e67206f6e6c79206b6579";

/// A server and its clock.
struct Server {
    family: Box<dyn Family>,
    moment: Moment,
}

fn manifest() -> Arc<Manifest> {
    let (name, text) = library::BUILT_IN.iter().find(|(name, _)| *name == "odoo").unwrap();
    match library::read(&Arc::from(format!("{name}.yaml")), &Arc::from(*text)) {
        library::Loaded::Manifest(manifest) => manifest,
        other => panic!("{other:?}"),
    }
}

fn settings() -> Value {
    let (plan, diagnostics) = Plan::make(&manifest());
    assert!(diagnostics.is_empty(), "{diagnostics:?}");
    plan.family.unwrap().1
}

fn value(json: &str) -> Value {
    parse_json(json).unwrap_or_else(|error| panic!("{json}: {error}"))
}

impl Server {
    fn new() -> Self {
        Self::of(&settings())
    }

    fn of(settings: &Value) -> Self {
        let moment = Moment { now: "2026-11-02T09:15:30.250Z".parse().unwrap(), random: fastrand::Rng::with_seed(7) };
        Self { family: super::super::make("object_rpc", settings).unwrap(), moment }
    }

    fn ask(&mut self, request: &Received) -> Reply {
        self.family.answer(request, &mut self.moment).expect("the path is the family's")
    }

    /// Calls a method by its path and returns status and body.
    fn json2(&mut self, path: &str, body: &str) -> (u16, Value) {
        self.json2_by(KEY, path, body)
    }

    fn json2_by(&mut self, key: &str, path: &str, body: &str) -> (u16, Value) {
        let request =
            Received::new("POST", &format!("/json/2/{path}")).with_header("authorization", &format!("bearer {key}"));
        let reply = self.ask(&request.with_json(&value(body)));
        (reply.status, value(&String::from_utf8(reply.body).unwrap()))
    }

    fn ok(&mut self, path: &str, body: &str) -> Value {
        let (status, value) = self.json2(path, body);
        assert_eq!(status, 200, "{path} {body}: {value}");
        value
    }

    /// Calls a service over XML-RPC: `{ value }` or `{ fault }`.
    fn xml(&mut self, path: &str, method: &str, params: &str) -> Value {
        let call = Value::map([("method", Value::from(method)), ("params", value(params))]);
        let mut request = Received::new("POST", path);
        request.body = xmlrpc::encode(&call).unwrap().bytes;
        let reply = self.ask(&request);
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/xml")));
        xmlrpc::decode(&String::from_utf8(reply.body).unwrap()).unwrap()
    }

    fn execute(&mut self, rest: &str) -> Value {
        self.xml("/xmlrpc/2/object", "execute_kw", &format!("[\"sandbox\", 7, \"{KEY}\", {rest}]"))
    }
}

#[test]
fn the_manifest_has_a_stand_in() {
    Server::new();
}
