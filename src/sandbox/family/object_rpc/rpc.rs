//! The services behind XML-RPC and JSON-RPC: `common` lets in, `object` calls methods.

use super::Arguments;
use super::Asked;
use super::ObjectRpc;
use super::access;
use super::fault::Fault;
use super::fault::Kind;
use super::values;
use crate::connector::codec::xmlrpc;
use crate::model::Map;
use crate::model::Value;
use crate::model::parse_json;
use crate::sandbox::exchange::Received;
use crate::sandbox::exchange::Reply;
use crate::sandbox::family::Moment;

/// What codes of faults are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Codes {
    Numbers,
    /// As the first of the two paths has them.
    Texts,
}

impl ObjectRpc {
    /// Answers a call of XML-RPC; faults are answered with 200 too.
    pub(super) fn xml_rpc(&mut self, service: &str, request: &Received, moment: &mut Moment, codes: Codes) -> Reply {
        if request.method != "POST" {
            return Reply::empty(405).with_header("allow", "POST");
        }
        let result = xmlrpc::decode_call(&request.text())
            .map_err(|error| Fault::new(Kind::Broken("xml.parsers.expat.ExpatError"), error))
            .and_then(|(method, params)| self.serve(service, &method, &params, moment));
        // What was done stays done: only its answer cannot be written.
        let result = result.and_then(|value| match holds_null(&value) {
            true => {
                Err(Fault::new(Kind::Broken("builtins.TypeError"), "cannot marshal None unless allow_none is enabled"))
            }
            false => Ok(without_controls(&value)),
        });
        let written = match (result, codes) {
            (Ok(value), _) => xmlrpc::encode_answer(&value),
            (Err(fault), Codes::Numbers) => {
                let (code, text) = fault.coded(&self.package);
                xmlrpc::encode_fault(code, &text)
            }
            (Err(fault), Codes::Texts) => {
                let (code, text) = fault.named(&self.package);
                xmlrpc::encode_fault(code, &text)
            }
        };
        written.map_or_else(|error| Reply::typed(500, "text/plain", error), |payload| Reply::payload(200, payload))
    }

    /// Answers a call of JSON-RPC; errors are answered with 200 too.
    pub(super) fn json_rpc(&mut self, request: &Received, moment: &mut Moment) -> Reply {
        if request.method != "POST" {
            return Reply::empty(405).with_header("allow", "POST");
        }
        let Ok(body) = parse_json(&request.text()) else {
            return Reply::typed(400, "text/plain", "Invalid JSON data");
        };
        let params = body.get("params").cloned().unwrap_or_default();
        let text = |key: &str| params.get(key).map(Value::to_text).unwrap_or_default();
        let args = params.get("args").and_then(Value::as_list).unwrap_or_default();
        let mut answer = Map::from_iter([
            ("jsonrpc".into(), Value::from("2.0")),
            ("id".into(), body.get("id").cloned().unwrap_or_default()),
        ]);
        match self.serve(&text("service"), &text("method"), args, moment) {
            // What a method gives is left out where it gives nothing.
            Ok(Value::Null) => {}
            Ok(value) => {
                answer.insert("result".into(), value);
            }
            Err(fault) => {
                let error = Value::map([
                    ("code", Value::Int(0)),
                    ("message", Value::from(format!("{} Server Error", self.product))),
                    ("data", fault.described(&self.package)),
                ]);
                answer.insert("error".into(), error);
            }
        }
        Reply::json(200, &Value::from(answer))
    }

    fn serve(&mut self, service: &str, method: &str, params: &[Value], moment: &mut Moment) -> Result<Value, Fault> {
        match service {
            "common" => self.common(method, params, moment),
            "object" => self.object(method, params, moment),
            "db" => Err(access::denied()),
            other => Err(Fault::new(Kind::Broken("builtins.KeyError"), format!("'{other}'"))),
        }
    }

    fn common(&self, method: &str, params: &[Value], moment: &Moment) -> Result<Value, Fault> {
        match method {
            "version" => Ok(self.version_told()),
            "login" | "authenticate" => {
                let [database, login, secret, ..] = params else { return Err(arguments(method)) };
                self.check_database(&database.to_text())?;
                let user = self.accounts.by_login(&login.to_text(), &secret.to_text(), moment.now);
                Ok(user.map_or(Value::Bool(false), |user| Value::from(user.id)))
            }
            _ => Err(Fault::new(Kind::Broken("builtins.Exception"), format!("Method not found: {method}"))),
        }
    }

    fn object(&mut self, method: &str, params: &[Value], moment: &mut Moment) -> Result<Value, Fault> {
        let [database, user, secret, model, called, rest @ ..] = params else { return Err(arguments(method)) };
        self.check_database(&database.to_text())?;
        let user = values::id_of(user).and_then(|id| self.accounts.by_id(id, &secret.to_text(), moment.now));
        let user = user.cloned().ok_or_else(access::denied)?;
        let (positional, mut named) = match (method, rest) {
            ("execute", rest) => (rest.to_vec(), Map::new()),
            ("execute_kw", []) => (Vec::new(), Map::new()),
            ("execute_kw", [args]) => (args.as_list().unwrap_or_default().to_vec(), Map::new()),
            ("execute_kw", [args, named, ..]) => {
                (args.as_list().unwrap_or_default().to_vec(), named.as_map().cloned().unwrap_or_default())
            }
            _ => {
                let message = format!("Method not available {method}");
                return Err(Fault::new(Kind::Broken("builtins.NameError"), message));
            }
        };
        let (model, called) = (model.to_text(), called.to_text());
        let context = named.shift_remove("context").and_then(|context| context.as_map().cloned()).unwrap_or_default();
        let one = matches!(positional.first().or_else(|| named.get("vals_list")), Some(Value::Map(_)));
        let arguments = Arguments::Positional(positional);
        let asked = Asked { model: &model, method: &called, arguments, named, context };
        let result = self.run(&user, asked, moment).map_err(|fault| match fault.kind {
            Kind::Model => Fault::new(Kind::Model, format!("Object {} doesn't exist", fault.message)),
            _ => fault,
        })?;
        match result.as_list() {
            // One object makes one row, and its id comes alone.
            Some([id]) if one && called == "create" => Ok(id.clone()),
            _ => Ok(result),
        }
    }

    fn check_database(&self, name: &str) -> Result<(), Fault> {
        if name == self.database || self.hosted.iter().any(|other| other == name) {
            return Ok(());
        }
        let message = format!("connection failed: FATAL:  database \"{name}\" does not exist");
        Err(Fault::new(Kind::Broken("psycopg2.OperationalError"), message))
    }

    fn version_told(&self) -> Value {
        Value::map([
            ("server_version", Value::from(self.version.as_str())),
            ("server_version_info", self.version_parts()),
            ("server_serie", Value::from(self.version.as_str())),
            ("protocol_version", Value::Int(1)),
        ])
    }

    pub(super) fn version_parts(&self) -> Value {
        let mut numbers = self.version.split('.').map(|part| part.parse::<i64>().unwrap_or(0));
        let mut next = || Value::from(numbers.next().unwrap_or(0));
        Value::list(vec![next(), next(), next(), Value::from("final"), Value::Int(0), Value::from("")])
    }
}

fn arguments(method: &str) -> Fault {
    Fault::new(Kind::Arguments, format!("{method}() missing required positional arguments"))
}

fn holds_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::List(items) => items.iter().any(holds_null),
        Value::Map(map) => map.values().any(holds_null),
        _ => false,
    }
}

/// Drops what XML cannot hold.
fn without_controls(value: &Value) -> Value {
    match value {
        Value::String(text) if text.chars().any(is_control) => {
            Value::from(text.chars().filter(|letter| !is_control(*letter)).collect::<String>())
        }
        Value::List(items) => Value::list(items.iter().map(without_controls).collect()),
        Value::Map(map) => Value::map(map.iter().map(|(key, value)| (key.clone(), without_controls(value)))),
        other => other.clone(),
    }
}

fn is_control(letter: char) -> bool {
    letter < ' ' && !matches!(letter, '\t' | '\n' | '\r')
}
