//! The stand-in of one connector: its state, and what it answers. No I/O, no clock.

use std::sync::Arc;

use rust_decimal::Decimal;

use super::authority::Authority;
use super::authority::Terms;
use super::exchange::Received;
use super::exchange::Reply;
use super::family;
use super::family::Family;
use super::family::Moment;
use super::handle;
use super::handle::Roots;
use super::plan::Limit;
use super::plan::Plan;
use super::plan::Route;
use super::plan::Shown;
use super::plan::reply_of;
use super::rows::Rows;
use crate::connector::credentials::Carried;
use crate::connector::render;
use crate::http::Request;
use crate::model::Duration;
use crate::model::Timestamp;
use crate::model::Value;

/// When a window ends that a fault calls full.
const SOON: Duration = Duration::from_secs(2);

/// A stand-in at work.
#[derive(Debug)]
pub struct Stand {
    plan: Arc<Plan>,
    rows: Rows,
    authority: Authority,
    family: Option<Box<dyn Family>>,
    windows: Vec<Window>,
}

/// How much of a limit is used.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    end: Timestamp,
    used: u32,
}

/// What was answered, and as which operation.
#[derive(Debug)]
pub struct Answered {
    pub operation: Option<Arc<str>>,
    pub reply: Reply,
}

impl Stand {
    /// Makes a stand-in in the state that its manifest gives.
    ///
    /// # Errors
    /// The manifest names a family that there is not, or that cannot do what it says.
    pub fn new(plan: impl Into<Arc<Plan>>) -> Result<Self, String> {
        let plan = plan.into();
        let family = match &plan.family {
            Some((name, settings)) => Some(family::make(name, settings)?),
            None => None,
        };
        let mut stand =
            Self { rows: Rows::default(), authority: Authority::new("", ""), family, windows: Vec::new(), plan };
        stand.start();
        Ok(stand)
    }

    fn start(&mut self) {
        let text = |key: &str| self.plan.auth.get(key).map(Value::to_text).unwrap_or_default();
        self.authority = Authority::new(&text("access_token"), &text("refresh_token"));
        self.rows = Rows::new(&self.plan.data);
        self.windows = vec![Window::default(); self.plan.limits.len()];
    }

    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Has access tokens serve no longer than this.
    pub fn expire_tokens(&mut self, lifetime: Duration) {
        self.authority.expire(lifetime);
    }

    /// Has the access token that a request shows serve no longer.
    pub fn spend_token(&mut self, request: &Received) {
        if let Some(token) = token_of(request) {
            self.authority.spend(token);
        }
    }

    /// Returns all that the stand-in holds: collection → rows.
    #[must_use]
    pub fn state(&self) -> Value {
        let own = self.rows.value();
        let Some(family) = &self.family else { return own };
        let mut map = own.as_map().cloned().unwrap_or_default();
        map.extend(family.state().as_map().into_iter().flatten().map(|(key, value)| (key.clone(), value.clone())));
        Value::from(map)
    }

    /// Replaces the rows of a collection.
    ///
    /// # Errors
    /// There is no such collection, or a row does not fit it.
    pub fn load(&mut self, collection: &str, rows: &[Value]) -> Result<(), String> {
        match &mut self.family {
            Some(family) if !self.rows.has(collection) => family.load(collection, rows),
            None if !self.rows.has(collection) => Err(format!("there is no collection `{collection}`")),
            _ => {
                self.rows.load(collection, rows);
                Ok(())
            }
        }
    }

    /// Names the operation that a request is, if it is one.
    #[must_use]
    pub fn operation_of(&self, request: &Received, now: Timestamp) -> Option<Arc<str>> {
        self.route(request, now).map(|(route, _)| route.operation.clone())
    }

    fn route(&self, request: &Received, now: Timestamp) -> Option<(&Route, Value)> {
        let fitting = self.plan.routes.iter().filter_map(|route| Some((route, route.parameters(request)?)));
        let meant = fitting.filter(|(route, parameters)| self.is_meant(route, parameters, request, now));
        // Of equals the first in the manifest.
        meant.collect::<Vec<_>>().into_iter().rev().max_by_key(|(route, _)| route.fitness(request))
    }

    /// Tells whether a request that fits an operation by its path is the operation's, as its `when` says.
    fn is_meant(&self, route: &Route, parameters: &Value, request: &Received, now: Timestamp) -> bool {
        let Some(when) = route.handler.as_ref().and_then(|handler| handler.when.as_ref()) else { return true };
        let mut roots = self.roots(request);
        roots.push(("operation", Value::from(&*route.operation)));
        roots.push(("params", parameters.clone()));
        roots.push(("rows", self.rows.value()));
        when.eval(&render::scope(roots, now)).is_ok_and(|value| value.is_truthy())
    }

    /// Answers a request.
    pub fn answer(&mut self, request: &Received, moment: &mut Moment) -> Answered {
        let roots = self.roots(request);
        let route = self.route(request, moment.now);
        let is_operation = route.as_ref().is_some_and(|(route, _)| route.handler.is_some());
        let route = route.map(|(route, parameters)| (route.operation.clone(), route.bare, parameters));
        if let Some(oauth) = &self.plan.oauth {
            let scope = render::scope(roots.clone(), moment.now);
            let more = oauth.extra.as_ref().map(|tree| render::value(tree, &scope));
            let by = oauth.lifetime_by.as_ref().and_then(|by| by.eval(&scope).ok()?.to_text().parse().ok());
            if let Some(offline) = &oauth.offline {
                self.authority.allow_offline(offline.eval(&scope).is_ok_and(|allowed| allowed.is_truthy()));
            }
            let terms = Terms {
                lifetime: by.unwrap_or(oauth.lifetime),
                more: more.and_then(Result::ok).unwrap_or_default(),
                is_operation,
            };
            if let Some(reply) = self.authority.answer(oauth, request, &terms, moment) {
                return Answered { operation: None, reply };
            }
        }
        let (operation, bare, parameters) = match route {
            Some((operation, bare, parameters)) => (Some(operation), bare, parameters),
            None => (None, false, Value::Null),
        };
        let mut roots = roots;
        roots.push(("operation", operation.as_deref().map_or(Value::Null, Value::from)));
        roots.push(("params", parameters));
        let reply = if !bare && !self.is_let_in(request, moment.now) {
            self.denied(&roots, moment.now)
        } else {
            let (headers, refused) = self.count(operation.as_deref(), &roots, moment.now);
            let mut reply = match refused {
                Some(reply) => reply,
                None => self.served(operation.as_deref(), request, roots, moment),
            };
            for (name, value) in headers {
                if reply.header(&name).is_none() {
                    reply.headers.push((name, value));
                }
            }
            reply
        };
        Answered { operation, reply }
    }

    fn roots(&self, request: &Received) -> Roots {
        vec![
            ("request", handle::request_root(request)),
            ("config", self.plan.config.clone()),
            ("tables", self.plan.manifest.tables.clone()),
        ]
    }

    /// Tells whether a request shows, in one of the manifest's ways, who it is from.
    fn is_let_in(&self, request: &Received, now: Timestamp) -> bool {
        let carries = |way: &Carried| match way {
            Carried::Anywhere => true,
            Carried::Header(name, wanted) => {
                request.header(name).is_some_and(|given| wanted.as_ref().is_none_or(|wanted| wanted == given))
            }
            Carried::Query(name, wanted) => {
                request.parameter(name).is_some_and(|given| wanted.as_ref().is_none_or(|wanted| wanted == given))
            }
            Carried::Token => token_of(request).is_some_and(|token| self.authority.takes(token, now)),
        };
        self.plan.carried.is_empty() || self.plan.carried.iter().any(carries)
    }

    fn denied(&self, roots: &Roots, now: Timestamp) -> Reply {
        let written = self.plan.denied.as_ref().map(|tree| handle::reply(tree, roots, now));
        let shown = || self.plan.faults.iter().find(|(status, _)| *status == 401).map(|(_, reply)| reply_of(reply));
        match written {
            Some(reply) => reply.unwrap_or_else(|error| broken(&error.message)),
            None => shown().unwrap_or_else(|| message(401, "the sandbox does not know these credentials")),
        }
    }

    /// Makes the answer of a fault that was asked for: a 429 as the limit of the operation refuses, else as an example of
    /// the manifest shows it, else a plain one.
    #[must_use]
    pub fn fault(&self, status: u16, operation: Option<&str>, request: &Received, now: Timestamp) -> Reply {
        let limit = self.plan.limits.iter().find(|limit| operation.is_some_and(|name| limit.counts(name)));
        let Some((limit, refuse)) =
            limit.and_then(|limit| Some((limit, limit.refuse.as_ref()?))).filter(|_| status == 429)
        else {
            return self.plan.fault(status);
        };
        // The window is full, and ends soon.
        let mut roots = self.roots(request);
        roots.push(("operation", operation.map_or(Value::Null, Value::from)));
        roots.push(("params", Value::Null));
        roots.extend(limit_roots(limit, Window { end: now.plus(SOON), used: limit.limit }, now));
        let mut reply = handle::reply(refuse, &roots, now).unwrap_or_else(|error| broken(&error.message));
        reply.headers.extend(limit_headers(limit, &roots, now));
        reply
    }

    /// Counts a request against the limits: the headers that go with its answer, and the refusal if there is one.
    fn count(
        &mut self,
        operation: Option<&str>,
        roots: &Roots,
        now: Timestamp,
    ) -> (Vec<(String, String)>, Option<Reply>) {
        let (mut headers, mut refused) = (Vec::new(), None);
        for (limit, window) in self.plan.limits.iter().zip(&mut self.windows) {
            if !operation.is_some_and(|name| limit.counts(name)) {
                continue;
            }
            if now >= window.end {
                *window = Window { end: limit.per.end(now), used: 0 };
            }
            let cost = limit.cost_of(roots, now);
            let over = window.used.saturating_add(cost) > limit.limit;
            if !over {
                window.used += cost;
            }
            let mut roots = roots.clone();
            roots.extend(limit_roots(limit, *window, now));
            headers.extend(limit_headers(limit, &roots, now));
            if over && refused.is_none() {
                let written = limit.refuse.as_ref().map(|tree| handle::reply(tree, &roots, now));
                let written = written.map(|reply| reply.unwrap_or_else(|error| broken(&error.message)));
                refused = Some(written.unwrap_or_else(|| self.plan.fault(429)));
            }
        }
        (headers, refused)
    }

    fn served(&mut self, operation: Option<&str>, request: &Received, roots: Roots, moment: &mut Moment) -> Reply {
        let route = operation.and_then(|name| self.plan.routes.iter().find(|route| &*route.operation == name));
        if let Some(handler) = route.and_then(|route| route.handler.as_ref()) {
            let mut roots = roots;
            if let Some(oauth) = &self.plan.oauth {
                roots.push(("new_token", Value::from(self.authority.token(oauth.lifetime, moment))));
            }
            return match handle::handle(handler, &mut self.rows, roots, moment.now) {
                Ok(reply) => reply,
                Err(error) => broken(&error.message),
            };
        }
        if let Some(reply) = self.family.as_mut().and_then(|family| family.answer(request, moment)) {
            return reply;
        }
        let known = match route {
            Some(route) => shown(&route.shown, request),
            None => shown(self.plan.shown.iter().filter(|shown| shown.is_of(request)), request),
        };
        known.unwrap_or_else(|| match (&self.plan.unknown, route) {
            (_, Some(route)) => {
                let name = &route.operation;
                unanswered(&format!("the sandbox has no answer for `{name}`: give it an example, or a key `sandbox`"))
            }
            (Some(tree), None) => {
                handle::reply(tree, &roots, moment.now).unwrap_or_else(|error| broken(&error.message))
            }
            (None, None) => unanswered(&format!("the sandbox knows no {} {}", request.method, request.path)),
        })
    }
}

/// Returns the access token that a request shows.
fn token_of(request: &Received) -> Option<&str> {
    let header = request.header("authorization").and_then(|text| text.split_once(' '));
    let header = header.filter(|(scheme, _)| matches!(&*scheme.to_lowercase(), "bearer" | "oauth"));
    header.map(|(_, token)| token.trim()).or_else(|| request.parameter("access_token"))
}

impl Limit {
    fn counts(&self, operation: &str) -> bool {
        self.operations.is_empty() || self.operations.iter().any(|own| &**own == operation)
    }

    /// Returns how much of the limit a request takes.
    fn cost_of(&self, roots: &Roots, now: Timestamp) -> u32 {
        let cost = self.cost.as_ref().and_then(|cost| cost.eval(&render::scope(roots.clone(), now)).ok());
        cost.and_then(|cost| cost.to_text().parse().ok()).unwrap_or(1)
    }
}

fn limit_headers(limit: &Limit, roots: &Roots, now: Timestamp) -> Vec<(String, String)> {
    let Some(tree) = &limit.headers else { return Vec::new() };
    let value = render::value(tree, &render::scope(roots.clone(), now)).unwrap_or_default();
    value.as_map().into_iter().flatten().map(|(name, value)| (name.to_lowercase(), value.to_text())).collect()
}

fn limit_roots(limit: &Limit, window: Window, now: Timestamp) -> Roots {
    let reset = window.end;
    let milliseconds = i64::try_from(reset.since(now).micros().div_ceil(1_000)).unwrap_or(i64::MAX);
    vec![
        ("limit", Value::Int(limit.limit.into())),
        ("remaining", Value::Int(limit.limit.saturating_sub(window.used).into())),
        ("reset", Value::Time(reset)),
        // In seconds, rounded up to thousandths: who waits so long is not early.
        ("reset_after", Value::Decimal(Decimal::new(milliseconds, 3).normalize())),
    ]
}

/// Answers as an example of the manifest does: the one whose request is most like it.
fn shown<'s>(shown: impl IntoIterator<Item = &'s Shown>, request: &Received) -> Option<Reply> {
    let as_sent = Request {
        headers: request.headers.clone(),
        body: request.body.clone(),
        ..Request::new(&request.method, &request.url())
    };
    let mut best: Option<((bool, usize), &Shown)> = None;
    for one in shown {
        let fitness = one.fitness(&as_sent);
        // Of equals the first.
        if best.as_ref().is_none_or(|(own, _)| fitness > *own) {
            best = Some((fitness, one));
        }
    }
    best.map(|(_, one)| reply_of(&one.reply))
}

/// Tells a client of the sandbox that it is the sandbox that does not know, not the vendor.
pub const UNANSWERED: &str = "x-sandbox-unanswered";

fn unanswered(reason: &str) -> Reply {
    message(501, reason).with_header(UNANSWERED, reason)
}

fn message(status: u16, text: &str) -> Reply {
    Reply::json(status, &Value::map([("error", Value::map([("message", Value::from(text))]))]))
}

fn broken(reason: &str) -> Reply {
    message(500, &format!("the manifest's `sandbox` is wrong: {reason}"))
}

impl Plan {
    /// Makes the answer of a fault: as an example of the manifest shows it, else a plain one.
    #[must_use]
    pub fn fault(&self, status: u16) -> Reply {
        match self.faults.iter().find(|(own, _)| *own == status) {
            Some((_, reply)) => reply_of(reply),
            None => message(status, "a fault that the sandbox was asked for"),
        }
    }
}
