//! The keys of a connector's manifest, as types from which the schema is made. The runtime comes with a later version.

#![expect(dead_code, reason = "describes a file")]

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value as Json;

use crate::model::Duration;

/// An outside system: how to reach it, and what can be called.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, title = "Pipewright connector")]
pub(super) struct ConnectorFile {
    /// The name, by which `uses: NAME.OPERATION` finds it.
    connector: String,
    title: Option<String>,
    /// Where the system's own documentation stands.
    docs: Option<String>,
    /// URLs by name; the first is the default.
    base_url: Option<BTreeMap<String, String>>,
    /// Patterns of further hosts that a URL from an answer may name.
    hosts: Option<Vec<String>>,
    /// JSON Schema of what a connection must or may say.
    config: Option<Json>,
    auth: Option<AuthFile>,
    session: Option<Json>,
    account: Option<Json>,
    /// Goes with every request.
    send: Option<PatchFile>,
    limits: Option<LimitsFile>,
    /// What an answer means; the first rule that matches wins.
    errors: Option<Vec<ErrorRuleFile>>,
    /// Where a refusal says why.
    explain: Option<BTreeMap<String, String>>,
    /// Facts for expressions.
    tables: Option<BTreeMap<String, Json>>,
    timeout: Option<Duration>,
    operations: BTreeMap<String, OperationFile>,
    /// How the sandbox stands in for the system.
    sandbox: Option<StandFile>,
}

/// A stand-in: what it holds and how it answers. A family of protocols takes further keys.
#[derive(JsonSchema)]
#[schemars(title = "Stand-in")]
struct StandFile {
    /// A family of protocols, which answers for the operations that say nothing themselves.
    family: Option<String>,
    /// What a connection says in the sandbox where the project gives nothing.
    config: Option<BTreeMap<String, Json>>,
    /// The credentials that the stand-in takes.
    auth: Option<BTreeMap<String, Json>>,
    oauth: Option<IssuingFile>,
    /// The rows at the start, by collection.
    data: Option<BTreeMap<String, Vec<Json>>>,
    limits: Option<Vec<StandLimitFile>>,
    /// The answer to who may not.
    denied: Option<Json>,
    /// The answer where there is nothing.
    unknown: Option<Json>,
}

/// How the stand-in issues tokens.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct IssuingFile {
    /// How long access tokens serve; an expression where that depends on the request.
    lifetime: Option<String>,
    /// How long refresh tokens serve.
    refresh_lifetime: Option<Duration>,
    /// Whether a refresh token serves once.
    rotate: Option<bool>,
    /// Over the request for an authorization: whether it gives a refresh token.
    offline: Option<String>,
    /// What a token's answer has besides.
    token: Option<BTreeMap<String, Json>>,
}

/// A window of requests.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct StandLimitFile {
    limit: u32,
    /// A length of time from the first request, or `day`: from midnight to midnight.
    per: String,
    /// Whose midnight; UTC by default.
    timezone: Option<String>,
    operations: Option<Vec<String>>,
    /// How much of it a request takes; one by default.
    cost: Option<String>,
    /// Go with every answer.
    headers: Option<BTreeMap<String, String>>,
    refuse: Option<Json>,
}

/// What an operation does to the rows of the stand-in, in this order, and what it answers.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct HandlerFile {
    /// Where its requests arrive, where the whole URL is computed: `/uploads/{{ id }}`.
    path: Option<String>,
    /// Of several operations that one path leads to, the one for which this holds is meant.
    when: Option<String>,
    /// The first that holds answers, and nothing else is done.
    refuse: Option<Vec<RefusalFile>>,
    find: Option<FindFile>,
    list: Option<PageFile>,
    insert: Option<InsertsFile>,
    /// What changes of the row that was found.
    set: Option<Json>,
    /// Takes the row away that was found.
    remove: Option<bool>,
    /// `{ status, headers, json | text | xml | csv | bytes }`.
    reply: Option<Json>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct RefusalFile {
    when: String,
    reply: Json,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct FindFile {
    r#in: String,
    r#where: String,
    missing: Option<Json>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct PageFile {
    r#in: String,
    r#where: Option<String>,
    newest_first: Option<bool>,
    size: Option<String>,
    after: Option<String>,
    /// How a row is shown; as it is kept without.
    item: Option<Json>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct InsertFile {
    r#in: String,
    /// Whether it is added; always without.
    when: Option<String>,
    row: Json,
}

/// One row, or several.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum InsertsFile {
    One(InsertFile),
    Several(Vec<InsertFile>),
}

/// How a connection shows who it is: one of the kinds with its settings, or `none`.
#[derive(JsonSchema)]
#[schemars(untagged)]
enum AuthFile {
    Kind(BTreeMap<String, Json>),
    None(NoneWord),
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum NoneWord {
    None,
}

/// A patch of a request.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct PatchFile {
    headers: Option<BTreeMap<String, Json>>,
    query: Option<BTreeMap<String, Json>>,
    json: Option<Json>,
    form: Option<BTreeMap<String, Json>>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct LimitsFile {
    /// Budgets by name.
    budgets: Option<BTreeMap<String, Json>>,
    /// What answers teach about limits.
    learn: Option<Vec<BTreeMap<String, Json>>>,
}

/// What an answer means.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ErrorRuleFile {
    /// A number, a list, `4xx` or `any`.
    status: Option<Json>,
    when: Option<String>,
    /// The outcome, e.g. `throttled`.
    then: Option<String>,
    wait: Option<String>,
    budget: Option<String>,
    attempts: Option<u32>,
    /// Whether a write happened all the same.
    happened: Option<bool>,
    message: Option<String>,
    output: Option<Json>,
}

/// One callable thing.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct OperationFile {
    title: Option<String>,
    description: Option<String>,
    docs: Option<String>,
    effect: Option<EffectWord>,
    /// Only for use by other operations.
    hidden: Option<bool>,
    /// JSON Schema of the input.
    input: Option<Json>,
    /// JSON Schema of the output.
    returns: Option<Json>,
    request: Option<BTreeMap<String, Json>>,
    /// Another operation, instead of `request`.
    uses: Option<String>,
    with: Option<Json>,
    /// Several operations, instead of `request`.
    steps: Option<BTreeMap<String, Json>>,
    send: Option<PatchFile>,
    session: Option<Json>,
    answer: Option<String>,
    output: Option<Json>,
    items: Option<String>,
    item: Option<Json>,
    paging: Option<BTreeMap<String, String>>,
    batch: Option<BTreeMap<String, Json>>,
    sync: Option<BTreeMap<String, Json>>,
    /// Whether sending again does harm: `always`, or for how long it does none.
    repeat: Option<String>,
    reconcile: Option<Json>,
    undo: Option<Json>,
    /// What a plan may say of the result.
    predict: Option<Json>,
    /// How a plan reads what a write will change: `{ operation, with, changes }`.
    read_back: Option<Json>,
    cost: Option<BTreeMap<String, Json>>,
    spent: Option<BTreeMap<String, Json>>,
    errors: Option<Vec<ErrorRuleFile>>,
    explain: Option<BTreeMap<String, String>>,
    checks: Option<Vec<CheckFile>>,
    timeout: Option<Duration>,
    /// Exchanges that a test replays.
    examples: Option<Vec<BTreeMap<String, Json>>>,
    sandbox: Option<HandlerFile>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct CheckFile {
    that: String,
    message: String,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum EffectWord {
    Read,
    Create,
    Update,
    Upsert,
    Delete,
    Message,
    Spend,
}
