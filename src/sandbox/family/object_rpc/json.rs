//! JSON with one path for each method: arguments by name, statuses of HTTP, a key as bearer.

use super::Arguments;
use super::Asked;
use super::ObjectRpc;
use super::access::User;
use super::fault;
use super::fault::Fault;
use super::fault::Kind;
use super::values;
use crate::model::Map;
use crate::model::Value;
use crate::model::parse_json;
use crate::sandbox::exchange::Received;
use crate::sandbox::exchange::Reply;
use crate::sandbox::family::Moment;

impl ObjectRpc {
    /// Answers a call of a method by its path.
    pub(super) fn json_2(&mut self, request: &Received, path: &str, moment: &mut Moment) -> Reply {
        let parts: Vec<&str> = path.split('/').skip(3).collect();
        let [model, method] = parts.as_slice() else { return not_found("Did you mean POST /json/2/<model>/<method>?") };
        if request.method != "POST" {
            return not_found("Did you mean POST /json/2/<model>/<method>?");
        }
        let user = match self.let_in(request, moment) {
            Ok(user) => user,
            Err(reply) => return *reply,
        };
        let body = match parse_json(&request.text()) {
            Ok(body) => body,
            Err(_) if request.body.is_empty() => Value::from(Map::new()),
            Err(error) => {
                let message = format!("could not parse the body as json: {error}");
                return Reply::json(400, &fault::http_error(400, "BadRequest", &message));
            }
        };
        match self.called(&user, model, method, body, moment) {
            Ok(value) => Reply::json(200, &value),
            Err(fault) => {
                let (status, body) = fault.answered(&self.package);
                Reply::json(status, &body)
            }
        }
    }

    fn called(
        &mut self,
        user: &User,
        model: &str,
        method: &str,
        body: Value,
        moment: &mut Moment,
    ) -> Result<Value, Fault> {
        let wrong = |message: &str| Fault::new(Kind::Arguments, message);
        let mut named = match body {
            Value::Map(map) => (*map).clone(),
            _ => return Err(wrong("the body is an object of arguments by name")),
        };
        let ids = match named.shift_remove("ids") {
            None | Some(Value::Null) => Vec::new(),
            Some(ids) => values::ids_of(&ids),
        };
        let context = named.shift_remove("context").and_then(|context| context.as_map().cloned()).unwrap_or_default();
        let asked = Asked { model, method, arguments: Arguments::Ids(ids), named, context };
        self.run(user, asked, moment).map_err(|fault| match fault.kind {
            Kind::Model => Fault::new(Kind::Model, format!("the model '{}' does not exist", fault.message)),
            _ => fault,
        })
    }

    /// Finds the database and the user, or says why not.
    fn let_in(&self, request: &Received, moment: &Moment) -> Result<User, Box<Reply>> {
        let known = match request.header(&self.database_header) {
            Some(name) => name == self.database || self.hosted.iter().any(|other| other == name),
            None => self.hosted.is_empty(),
        };
        if !known {
            return Err(Box::new(not_found("The requested URL was not found on the server.")));
        }
        let given = request.header("authorization").and_then(|text| text.split_once(' '));
        let key = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, key)| key.trim());
        let refused = |message: &str| {
            let body = fault::http_error(401, "Unauthorized", message);
            Box::new(Reply::json(401, &body).with_header("www-authenticate", "bearer"))
        };
        let key = key.ok_or_else(|| refused("User not authenticated, use the 'Authorization' header"))?;
        self.accounts.by_key(key, moment.now).cloned().ok_or_else(|| refused("Invalid apikey"))
    }

    /// Tells the version to whoever asks.
    pub(super) fn version_page(&self) -> Value {
        Value::map([("version_info", self.version_parts()), ("version", Value::from(self.version.as_str()))])
    }

    /// Describes a model and its methods, for programs.
    pub(super) fn documentation(&self, model: &str, request: &Received, moment: &Moment) -> Reply {
        let user = match self.let_in(request, moment) {
            Ok(user) => user,
            Err(reply) => return *reply,
        };
        let Some(model) = self.schema.model(model) else { return not_found("") };
        if let Err(fault) = user.check("read", &model.name, &model.title) {
            let (status, body) = fault.answered(&self.package);
            return Reply::json(status, &body);
        }
        let method = |(name, signature): (String, super::Signature)| {
            let parameters = signature.names().map(|name| (name, Value::map([("name", Value::from(name))])));
            let parameters = Value::map(parameters.collect::<Vec<_>>());
            let api = if signature.of_model { vec![Value::from("model")] } else { Vec::new() };
            let entries = [
                ("signature", Value::from(format!("({})", signature.names().collect::<Vec<_>>().join(", ")))),
                ("parameters", parameters),
                ("api", Value::list(api)),
                ("model", Value::from("core")),
                ("module", Value::from("core")),
            ];
            (name, Value::map(entries))
        };
        let methods = self.special().signatures(model).into_iter().map(method).collect::<Vec<_>>();
        Reply::json(
            200,
            &Value::map([
                ("model", Value::from(&*model.name)),
                ("name", Value::from(model.title.as_str())),
                ("doc", Value::Null),
                ("fields", super::methods::described(model)),
                ("methods", Value::map(methods)),
            ]),
        )
    }
}

fn not_found(message: &str) -> Reply {
    Reply::json(404, &fault::http_error(404, "NotFound", message))
}
