//! The manifest of a connector: one YAML file, read once, every expression compiled, every fault told.

mod example;
mod operation;
mod patch;
pub mod place;
mod read;
mod request;
mod rules;
mod schema;

use std::sync::Arc;

use indexmap::IndexMap;

pub use self::patch::read_patch;
pub use self::read::read;
pub(in crate::connector) use self::request::read_request;
pub(in crate::connector) use self::schema::read_schema;
use super::credentials::KINDS;
use super::credentials::Kind;
use super::limits::Limits;
use crate::diag::Span;
use crate::model::Duration;
use crate::model::Effect;
use crate::model::Repeat;
use crate::model::Value;
use crate::template::Template;
use crate::template::TemplateTree;
use crate::yaml::Tree;

/// A manifest.
#[derive(Debug)]
pub struct Manifest {
    pub name: Arc<str>,
    pub title: Option<Arc<str>>,
    pub docs: Option<Arc<str>>,
    /// The file and its text: a version keeps the text, and diagnostics name the file.
    pub file: Arc<str>,
    pub source: Arc<str>,
    /// By name; the first is the default.
    pub base_url: IndexMap<Arc<str>, Template>,
    /// Patterns of further hosts, `*.example.com`.
    pub hosts: Vec<Arc<str>>,
    /// JSON Schema of what a connection says.
    pub config: serde_json::Value,
    /// The kinds of auth; a connection uses one.
    pub auth: Vec<Kind>,
    pub limits: Limits,
    /// The names that expressions read of `auth`.
    pub auth_keys: Vec<Arc<str>>,
    /// Goes with every request.
    pub send: Patch,
    pub session: Option<Session>,
    pub account: Option<Account>,
    /// The connector's error rules, which follow an operation's own.
    pub errors: Vec<Rule>,
    pub explain: Explain,
    pub tables: Value,
    /// Of one request, whole.
    pub timeout: Option<Duration>,
    pub operations: IndexMap<Arc<str>, Arc<Operation>>,
    /// How the sandbox stands in for the system.
    pub sandbox: Option<Tree>,
}

/// One callable thing.
#[derive(Debug)]
pub struct Operation {
    pub name: Arc<str>,
    pub title: Option<Arc<str>>,
    pub description: Option<Arc<str>>,
    /// Nothing for a hidden operation that has its caller's.
    pub effect: Option<Effect>,
    pub hidden: bool,
    /// JSON Schemas, with the further words of the vocabulary (`count`, `blob`, `secret`).
    pub input: serde_json::Value,
    pub returns: Option<serde_json::Value>,
    pub act: Act,
    pub output: Option<TemplateTree>,
    pub answer: Option<Answer>,
    pub items: Option<Template>,
    pub item: Option<TemplateTree>,
    pub paging: Option<Paging>,
    pub batch: Option<Batch>,
    pub sync: Option<Sync>,
    pub repeat: Repeat,
    pub reconcile: Reconcile,
    pub undo: Option<Call>,
    pub predict: Option<TemplateTree>,
    pub read_back: Option<ReadBack>,
    /// Budget → amount.
    pub cost: Vec<(Arc<str>, TemplateTree)>,
    pub spent: Vec<(Arc<str>, TemplateTree)>,
    pub errors: Vec<Rule>,
    pub explain: Explain,
    /// Goes with every request of the operation, over the connector's.
    pub send: Patch,
    pub checks: Vec<Check>,
    pub session: SessionUse,
    pub timeout: Option<Duration>,
    pub examples: Vec<Example>,
    /// Whether words of the input's schema depend on the connection.
    pub computed_input: bool,
    /// Whether an expression of it reads `account`.
    pub reads_account: bool,
    /// Whether an expression beside its rows reads `items`.
    pub reads_items: bool,
    /// Whether its output has secrets.
    pub secret_output: bool,
    /// How the sandbox answers it.
    pub sandbox: Option<Tree>,
    /// Where its name stands.
    pub span: Span,
}

/// What an operation does.
#[derive(Debug)]
pub enum Act {
    Request(Box<RequestSpec>),
    /// Another operation of the manifest; the name may depend on `config` and `tables`.
    Uses {
        operation: Template,
        with: TemplateTree,
    },
    /// Several, as in a pipeline.
    Steps {
        steps: Tree,
        output: Option<Tree>,
    },
}

/// What is sent.
#[derive(Debug)]
pub struct RequestSpec {
    /// Upper case.
    pub method: Arc<str>,
    /// A path below the base, percent-encoded where it is computed; or one expression that gives a whole URL.
    pub path: Template,
    /// Names one of `base_url`.
    pub base: Option<Arc<str>>,
    pub query: Query,
    pub headers: TemplateTree,
    pub body: Body,
    /// Sent without credentials.
    pub bare: bool,
    pub redirects: u32,
}

/// The query of a request.
#[derive(Debug)]
pub enum Query {
    None,
    /// Each value is encoded.
    Map(TemplateTree),
    /// As it is written; what is computed in it is encoded.
    Text(Template),
}

/// The body of a request.
#[derive(Debug)]
pub enum Body {
    None,
    Json(TemplateTree),
    Form(TemplateTree),
    Multipart(Vec<Part>),
    Text(TemplateTree),
    Bytes(TemplateTree),
    Xml(TemplateTree),
    Csv(TemplateTree),
    /// A codec of the closed list and what it is given.
    Codec(Arc<str>, TemplateTree),
}

/// A part of a multipart body.
#[derive(Debug)]
pub struct Part {
    pub each: Option<Template>,
    pub name: TemplateTree,
    pub filename: Option<TemplateTree>,
    pub content: PartContent,
}

#[derive(Debug)]
pub enum PartContent {
    Text(TemplateTree),
    Json(TemplateTree),
    Bytes(TemplateTree),
}

/// How an answer is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Json,
    Text,
    Bytes,
    Xml,
    Csv,
    Ndjson,
    Codec(Arc<str>),
}

/// What is laid over a request: later wins, null removes.
#[derive(Debug, Default)]
pub struct Patch {
    pub headers: Option<TemplateTree>,
    pub query: Option<TemplateTree>,
    pub json: Option<TemplateTree>,
    pub form: Option<TemplateTree>,
}

#[derive(Debug)]
pub enum Paging {
    /// Any value; the next request sees it as `next`. Null ends.
    Next(Template),
    /// Followed verbatim.
    Url(Template),
}

/// Splits a list into requests, and judges each result by its own rules.
#[derive(Debug)]
pub struct Batch {
    pub over: Template,
    pub max: u32,
    pub results: Template,
    /// Expressions over `item` and over `row` that meet; by position without.
    pub matching: Option<(Template, Template)>,
    pub missing: Option<Then>,
    pub output: Option<TemplateTree>,
    pub errors: Vec<Rule>,
}

/// Incremental reading.
#[derive(Debug)]
pub struct Sync {
    pub id: Option<Template>,
    pub changed_at: Option<Template>,
    pub version: Option<Template>,
    pub deleted: Option<Template>,
    pub window: Option<Window>,
    pub cursor: Option<Template>,
    /// How long a cursor is good for.
    pub valid: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
pub struct Window {
    pub overlap: Duration,
    pub settle: Duration,
    pub resolution: Duration,
}

/// How to find out afterwards whether a write happened.
#[derive(Debug)]
pub enum Reconcile {
    /// Nobody can tell.
    None,
    /// The remote itself refuses a second.
    Resend,
    Ask(Box<Ask>),
}

#[derive(Debug)]
pub struct Ask {
    pub operation: Arc<str>,
    pub with: TemplateTree,
    pub after: Duration,
    pub found: Template,
    pub output: TemplateTree,
    /// Where ids are told apart only within a kind: that of the thing which is made.
    pub kind: Option<TemplateTree>,
}

/// An operation and its input.
#[derive(Debug)]
pub struct Call {
    pub operation: Arc<str>,
    pub with: TemplateTree,
}

/// How a plan finds out what a write will change.
#[derive(Debug)]
pub struct ReadBack {
    /// A read; its output, or first row, is what is there now.
    pub operation: Arc<str>,
    pub with: TemplateTree,
    /// The new values, by the names that the read has for them.
    pub changes: TemplateTree,
}

/// What an answer means.
#[derive(Debug)]
pub struct Rule {
    pub status: Statuses,
    pub when: Option<Template>,
    pub then: Then,
    /// A duration or a moment.
    pub wait: Option<TemplateTree>,
    /// What is paused; `host` is built in.
    pub budget: Option<Arc<str>>,
    pub attempts: Option<u32>,
    /// Whether a write happened all the same.
    pub happened: Option<bool>,
    pub message: Option<TemplateTree>,
    pub output: Option<TemplateTree>,
    /// Where it stands in the manifest, for the contract suite.
    pub line: u32,
    pub column: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Statuses {
    Any,
    /// From the first to the last, each.
    Ranges(Vec<(u16, u16)>),
}

/// The outcome of a rule.
#[derive(Clone, Debug)]
pub enum Then {
    Word(OutcomeKind),
    /// From `tables`.
    Computed(Template),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeKind {
    Done,
    Duplicate,
    Throttled,
    Unavailable,
    Locked,
    Conflict,
    NotFound,
    Rejected,
    Exhausted,
    RefreshAuth,
    RenewSession,
    AuthBroken,
    CursorLost,
}

/// Where a refusal says why.
#[derive(Debug, Default)]
pub struct Explain {
    pub message: Option<TemplateTree>,
    pub code: Option<TemplateTree>,
    pub request_id: Option<TemplateTree>,
}

/// A condition over `input`, before anything is sent.
#[derive(Debug)]
pub struct Check {
    pub that: Template,
    pub message: Arc<str>,
}

/// What is opened beside `auth` before requests.
#[derive(Debug)]
pub struct Session {
    pub open: Vec<Arc<str>>,
    pub keep: TemplateTree,
    pub cookies: bool,
    pub send: Patch,
    pub when: Option<Template>,
    pub lifetime: Option<Duration>,
}

/// How an operation uses the session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SessionUse {
    #[default]
    Full,
    Cookies,
    None,
}

/// Who we are to the system.
#[derive(Debug)]
pub struct Account {
    pub operation: Arc<str>,
    pub id: Template,
}

/// Exchanges that a test replays, and that the sandbox and the reference show.
#[derive(Debug)]
pub struct Example {
    pub title: Option<Arc<str>>,
    pub config: Value,
    /// What the connection says under `auth`; stand-ins for what is not given.
    pub auth: Value,
    pub account: Value,
    pub session: Value,
    /// `doubted`: an earlier sending of the same write is in doubt.
    pub state: Value,
    pub input: Value,
    pub exchanges: Vec<ExchangeSpec>,
    /// What comes out; nothing where an error is expected.
    pub output: Option<Value>,
    /// The class of the error that comes out.
    pub error: Option<Arc<str>>,
    /// The first line of the example.
    pub line: u32,
}

/// A request that is expected and the answer to it, as they are written.
#[derive(Debug)]
pub struct ExchangeSpec {
    pub expect: Value,
    pub reply: Value,
}

impl Manifest {
    /// Tells whether a connection may say something under `auth`.
    #[must_use]
    pub fn takes_auth(&self, key: &str) -> bool {
        let known = |kind: &Kind| KINDS.iter().any(|(name, keys)| **name == *kind.name && keys.contains(&key));
        self.auth_keys.iter().any(|own| &**own == key) || self.auth.iter().any(known)
    }
}

impl Operation {
    /// Lists the expressions that read its answers.
    #[must_use]
    pub fn answer_templates(&self) -> Vec<&Template> {
        let mut found = Vec::new();
        let trees = [&self.output, &self.item, &self.explain.message, &self.explain.code];
        let spent = self.spent.iter().map(|(_, tree)| tree);
        let rules = self.errors.iter().flat_map(|rule| [&rule.wait, &rule.message, &rule.output]).flatten();
        for tree in trees.into_iter().flatten().chain(spent).chain(rules) {
            gather(tree, &mut found);
        }
        found.extend(&self.items);
        match &self.paging {
            Some(Paging::Next(template) | Paging::Url(template)) => found.push(template),
            None => {}
        }
        found.extend(self.batch.as_ref().map(|batch| &batch.results));
        found.extend(self.errors.iter().filter_map(|rule| rule.when.as_ref()));
        found
    }

    /// Lists the expressions that read each of its rows as `item`.
    #[must_use]
    pub fn item_templates(&self) -> Vec<&Template> {
        let mut found = Vec::new();
        if let Some(tree) = &self.item {
            gather(tree, &mut found);
        }
        if let Some(sync) = &self.sync {
            found.extend([&sync.id, &sync.changed_at, &sync.version, &sync.deleted].into_iter().flatten());
        }
        found
    }

    /// Lists the expressions that read each result of a batch as `row`.
    #[must_use]
    pub fn row_templates(&self) -> Vec<&Template> {
        let Some(batch) = &self.batch else { return Vec::new() };
        let mut found = Vec::new();
        let rules = batch.errors.iter().flat_map(|rule| [&rule.message, &rule.output]).flatten();
        batch.output.iter().chain(rules).for_each(|tree| gather(tree, &mut found));
        found.extend(batch.errors.iter().filter_map(|rule| rule.when.as_ref()));
        found.extend(batch.matching.as_ref().map(|(_, result)| result));
        found
    }
}

fn gather<'t>(tree: &'t TemplateTree, found: &mut Vec<&'t Template>) {
    match tree {
        TemplateTree::Literal(_) => {}
        TemplateTree::Template(template) => found.push(template),
        TemplateTree::List(items) => items.iter().for_each(|item| gather(item, found)),
        TemplateTree::Map(entries) => entries.iter().for_each(|(_, tree)| gather(tree, found)),
    }
}
