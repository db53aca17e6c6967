//! The keys of test files, and of `tests` in a pipeline, as types from which the schema is made.

#![expect(dead_code, reason = "describes a file")]

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value as Json;

use crate::model::Duration;
use crate::model::ErrorClass;

/// Tests of a pipeline: cases that are run against stand-ins, on virtual time.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, title = "Pipewright tests")]
pub(super) struct TestFile {
    /// The pipeline, by file or by name; by default the one beside whose name is this file's.
    pipeline: Option<String>,
    /// What the cases show, in a sentence.
    description: Option<String>,
    /// What all cases begin with; each may say otherwise.
    given: Option<GivenFile>,
    /// The cases.
    tests: Vec<CaseFile>,
}

/// One case.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct CaseFile {
    /// What the case shows, in a few words.
    name: String,
    /// What it begins with.
    given: Option<GivenFile>,
    /// What goes wrong.
    faults: Option<Vec<FaultFile>>,
    /// What must come of it.
    then: ThenFile,
}

/// What a case begins with.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct GivenFile {
    /// The inputs of the run.
    inputs: Option<BTreeMap<String, Json>>,
    /// When it begins; 2026-01-01T00:00:00Z by default.
    clock: Option<String>,
    /// Makes chance repeat itself; 1 by default.
    seed: Option<u32>,
    /// Secrets by name; every other one is `sandbox-NAME`.
    secrets: Option<BTreeMap<String, String>>,
    /// Rows that stand-ins begin with, by connection or connector and by collection.
    sandbox: Option<BTreeMap<String, BTreeMap<String, Vec<Json>>>>,
    /// Settings of connections, laid over those of the project.
    connections: Option<BTreeMap<String, BTreeMap<String, Json>>>,
    /// What steps give instead of what their nodes do.
    steps: Option<BTreeMap<String, StubFile>>,
    /// Files by path, laid over those of the project.
    files: Option<BTreeMap<String, Json>>,
    /// The trigger that fires, by id or kind.
    trigger: Option<String>,
    /// The members of `event`.
    event: Option<BTreeMap<String, Json>>,
    /// The logical time of the firing.
    slot: Option<String>,
    /// Who starts the run.
    started_by: Option<String>,
    /// What people say to approvals, by step.
    answers: Option<BTreeMap<String, AnswersFile>>,
    /// How much virtual time it may take; 400 days by default.
    limit: Option<Duration>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum StubFile {
    Once(OnceFile),
    /// At each call in order; the last one again and again.
    Calls(Vec<OnceFile>),
    Items(ItemsFile),
}

/// What a step gives once.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct OnceFile {
    /// Its output; may read `input`, `item` and `attempt`.
    output: Option<Json>,
    /// Its error.
    error: Option<StubErrorFile>,
    /// How long it takes.
    after: Option<Duration>,
}

/// What a step gives for each item.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ItemsFile {
    items: Vec<CallsFile>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum CallsFile {
    Once(OnceFile),
    Calls(Vec<OnceFile>),
}

/// An error that is given instead of the node's.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct StubErrorFile {
    /// Its class; `unavailable` by default.
    class: Option<ErrorClass>,
    message: Option<String>,
    /// Whether what was asked for may have happened.
    lost: Option<bool>,
    /// How long the other side asks to wait.
    retry_after: Option<Duration>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum AnswersFile {
    One(AnswerFile),
    Several(Vec<AnswerFile>),
}

/// What somebody says to an approval.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct AnswerFile {
    /// Whether it is approved, or rejected.
    approve: bool,
    /// Who says it.
    by: Option<String>,
    /// How long after it was asked.
    after: Option<Duration>,
    comment: Option<String>,
    /// The fields that are filled in.
    form: Option<BTreeMap<String, Json>>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum FaultFile {
    /// As `--fault` of a rehearsal takes it, e.g. `x.create_post:429=#2`.
    Text(String),
    Written(Box<WrittenFault>),
}

/// Something that goes wrong.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct WrittenFault {
    /// A stand-in, or one of its operations: `x`, `x.create_post`.
    on: Option<String>,
    /// At which calls, counted from 1; by default at all.
    call: Option<CallFile>,
    /// At the first request for this page.
    page: Option<u32>,
    /// How often, e.g. `0.2`.
    share: Option<Json>,
    /// The answer has this status, and nothing is done.
    #[schemars(range(min = 400, max = 599))]
    status: Option<u16>,
    /// The request is lost before it arrives, or its answer after it worked.
    lost: Option<LostFile>,
    /// No connection comes about.
    refuse: Option<bool>,
    /// The answer takes so long.
    delay: Option<Duration>,
    /// The access token has just expired.
    token: Option<TokenFile>,
    /// Access tokens serve no longer than this.
    tokens_serve: Option<Duration>,
    /// A step that fails.
    step: Option<String>,
    /// How it fails.
    error: Option<StubErrorFile>,
    /// The process dies, and another goes on.
    crash: Option<CrashFile>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum CallFile {
    One(u32),
    Several(Vec<u32>),
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum LostFile {
    Before,
    After,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum TokenFile {
    Expired,
}

/// When the process dies; one of these, with a step.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct CrashFile {
    /// It has ended, and that is durable.
    after: Option<String>,
    /// Its write, or its paid read, is intended, and nothing of it has left.
    sending: Option<String>,
    /// Its write, or its paid read, is answered, and nothing of that is kept.
    answered: Option<String>,
}

/// What must come of a case.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct ThenFile {
    /// How the run ends; `succeeded` where nothing else is said.
    state: Option<RunStateFile>,
    /// Why it fails: a part of the message, or class and message.
    error: Option<Json>,
    /// Why it waits in the end.
    waits: Option<Json>,
    /// What it gives; what is not named may be anything.
    outputs: Option<Json>,
    /// What becomes of its steps.
    steps: Option<BTreeMap<String, StepThenFile>>,
    /// Expressions that must hold.
    that: Option<ConditionsFile>,
    /// How often operations are asked, by `CONNECTION.OPERATION`, `CONNECTION`, or `METHOD /path`.
    requests: Option<BTreeMap<String, Json>>,
    /// What stand-ins hold in the end, by connection or connector and by collection.
    sandbox: Option<BTreeMap<String, Json>>,
    /// Which messages were delivered, by connection, connector or operation.
    messages: Option<BTreeMap<String, Json>>,
    /// How many effects came about by kind, and how many did not.
    effects: Option<EffectsFile>,
    /// What was asked of people.
    asks: Option<Json>,
    /// The lines of the log.
    logs: Option<Json>,
    /// What files hold, by path.
    files: Option<BTreeMap<String, Json>>,
    /// A length of time after the start, or a moment.
    finished_by: Option<String>,
    /// Whether the outputs must be what they were when somebody looked at them.
    snapshot: Option<bool>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum ConditionsFile {
    One(String),
    Several(Vec<String>),
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum StepThenFile {
    State(StepStateFile),
    Written(Box<WrittenStepThen>),
}

/// What must become of a step.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct WrittenStepThen {
    state: Option<StepStateFile>,
    /// What it gives; what is not named may be anything.
    output: Option<Json>,
    /// Why it fails: a part of the message, or class and message.
    error: Option<Json>,
    /// How many attempts are made, of all items and rounds.
    attempts: Option<Json>,
    /// Whether, or why, it is skipped.
    skipped: Option<Json>,
    /// How many rounds an `until` goes.
    rounds: Option<Json>,
    /// What becomes of the items of a `for_each`: `{ state, output, error, attempts }` each.
    items: Option<Json>,
    /// How many of its step runs are undone.
    undone: Option<Json>,
    /// Expressions over `value`, its output.
    that: Option<ConditionsFile>,
    /// Whether its output must be what it was when somebody looked at it.
    snapshot: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum RunStateFile {
    Succeeded,
    Failed,
    Canceled,
    Waiting,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum StepStateFile {
    Succeeded,
    Failed,
    Skipped,
    Canceled,
    Waiting,
    Pending,
    Running,
}

/// Counts of effects.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct EffectsFile {
    create: Option<Json>,
    update: Option<Json>,
    upsert: Option<Json>,
    delete: Option<Json>,
    message: Option<Json>,
    spend: Option<Json>,
    /// Refused by the other side.
    refused: Option<Json>,
    in_doubt: Option<Json>,
    /// Left as they were.
    dropped: Option<Json>,
}
