//! The keys of a pipeline file, as types from which the schema is made.

#![expect(dead_code, reason = "describes a file")]

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value as Json;

use super::test::CaseFile;
use crate::model::Duration;
use crate::model::ErrorClass;
use crate::pipeline::Durability;
use crate::pipeline::InputType;

/// An expression such as `{{ steps.prices.output.rows }}`, or a text with expressions in it.
type Template = String;

/// A pipeline of Pipewright.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, title = "Pipewright pipeline")]
pub(super) struct PipelineFile {
    /// The name; by default the file's name.
    name: Option<String>,
    /// What it is for, in a sentence.
    description: Option<String>,
    /// Words for finding it.
    labels: Option<BTreeMap<String, String>>,
    /// What a run is given; checked before the run exists.
    inputs: Option<BTreeMap<String, InputFile>>,
    /// What starts runs. Checked now, working with the daemon.
    triggers: Option<Vec<TriggerFile>>,
    /// How many runs there may be at once. Checked now, working with the daemon.
    concurrency: Option<ConcurrencyFile>,
    /// 0 to 9, higher first.
    #[schemars(range(max = 9))]
    priority: Option<u8>,
    /// Of work: time asleep does not count.
    timeout: Option<Duration>,
    /// Of all time since the run was made.
    deadline: Option<Duration>,
    /// How much may be spent on requests to outside systems. One that does not fit is not sent.
    budget: Option<BudgetFile>,
    /// How soon results are durable.
    durability: Option<Durability>,
    /// What holds for steps that do not say their own.
    defaults: Option<DefaultsFile>,
    /// Conditions that stop a run.
    guards: Option<GuardsFile>,
    /// Locks that are held while a run works. Checked now, working with the daemon.
    locks: Option<Vec<LockFile>>,
    /// The steps by their ids.
    #[schemars(extend("minProperties" = 1))]
    steps: BTreeMap<String, StepFile>,
    /// What the run gives.
    outputs: Option<BTreeMap<String, Json>>,
    /// Steps that run when the run has failed.
    on_failure: Option<BTreeMap<String, StepFile>>,
    /// Steps that run in any case.
    #[serde(rename = "finally")]
    finally_: Option<BTreeMap<String, StepFile>>,
    /// Tests of the pipeline, run by `pipewright test`. No part of its version.
    tests: Option<Vec<CaseFile>>,
}

/// One step.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct StepFile {
    /// The node, e.g. `http.request`.
    uses: String,
    /// The node's input.
    with: Option<Json>,
    /// Steps that come first although nothing of them is read.
    needs: Option<Vec<String>>,
    /// False skips the step.
    when: Option<Flag>,
    /// Runs the step once an item; `output` is the list in the order of the items.
    for_each: Option<ListOrTemplate>,
    /// How many items at once; 16 by default.
    #[schemars(range(min = 1, max = 10000))]
    max_parallel: Option<u32>,
    /// Makes a child run of each item, which any worker may execute; with `pipeline.run` and operations made of steps.
    spread: Option<bool>,
    /// The step starts no earlier than this moment.
    at: Option<Template>,
    /// The step starts this long after what it needs has ended.
    delay: Option<Template>,
    /// Repeats the step until a condition over `output` holds.
    until: Option<UntilFile>,
    /// When and how often an attempt is repeated.
    retry: Option<RetryFile>,
    /// Of one attempt.
    timeout: Option<Duration>,
    /// What becomes of a step that fails for good.
    on_error: Option<OnErrorFile>,
    /// What becomes of a write whose answer was lost and that nothing else can settle, and of a paid read whose answer was
    /// lost in a crash.
    in_doubt: Option<InDoubtFile>,
    /// The step that takes this one back when the run fails for good; `auto` takes the operation's own.
    undo: Option<UndoChoice>,
    /// After it the run goes forward only.
    irreversible: Option<bool>,
    /// Gives an earlier output of the same again; only without effects.
    cache: Option<CacheFile>,
    /// The business key of the effect.
    key: Option<Template>,
    /// Locks that are held while the step works; working with the daemon.
    locks: Option<Vec<LockFile>>,
    /// 0 to 9, higher first among the steps that could start.
    #[schemars(range(max = 9))]
    priority: Option<u8>,
    /// The dataset that takes the rows of the output.
    into: Option<String>,
}

/// The compensation of a step.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct UndoFile {
    /// The node, e.g. `file.delete`.
    uses: String,
    /// The node's input; `output` is the step's.
    with: Option<Json>,
    retry: Option<RetryFile>,
    timeout: Option<Duration>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum UndoChoice {
    Step(Box<UndoFile>),
    Word(Auto),
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Auto {
    Auto,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum Flag {
    Literal(bool),
    Template(Template),
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum ListOrTemplate {
    List(Vec<Json>),
    Template(Template),
}

/// Repetition until a condition holds.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct UntilFile {
    /// The condition over `output`.
    holds: Flag,
    /// The pause between rounds: a duration, or an expression over `output`.
    every: Option<Template>,
    /// The number of rounds after which the step fails.
    #[schemars(range(min = 1, max = 1_000_000))]
    limit: Option<u32>,
}

/// When and how often an attempt is repeated.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct RetryFile {
    /// In all, the first included.
    #[schemars(range(min = 1, max = 1000))]
    attempts: Option<u32>,
    /// The classes of errors; by default throttled, unavailable, timeout and locked.
    on: Option<Vec<ErrorClass>>,
    backoff: Option<BackoffFile>,
    /// The first pause.
    delay: Option<Duration>,
    /// The longest pause.
    max_delay: Option<Duration>,
    /// Whether the pause is drawn from half to whole of its length.
    jitter: Option<bool>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum BackoffFile {
    Exponential,
    Constant,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum OnErrorFile {
    Word(OnErrorWord),
    Default(DefaultFile),
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum OnErrorWord {
    Fail,
    Continue,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct DefaultFile {
    /// The output instead.
    default: Json,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum InDoubtFile {
    /// A person decides; a paid read fails.
    Hold,
    /// It is sent again; what it costs is paid again.
    Resend,
    /// It is left as it is: the step counts as skipped. For writes only.
    Drop,
}

/// Gives an earlier output of the same operation, inputs and connection again.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct CacheFile {
    key: Option<Template>,
    /// How long an output serves.
    ttl: Duration,
}

/// A named lock.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct LockFile {
    name: Template,
    /// How many may hold it at once.
    #[schemars(range(min = 1, max = 1_000_000))]
    limit: Option<u32>,
}

/// What holds for steps that do not say their own.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct DefaultsFile {
    retry: Option<RetryFile>,
    timeout: Option<Duration>,
    #[schemars(range(min = 1, max = 10000))]
    max_parallel: Option<u32>,
    connection: Option<String>,
}

/// Conditions that stop a run.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct GuardsFile {
    /// Checked at the start.
    before: Option<Vec<GuardFile>>,
    /// Checked over the predicted effects; working with plans.
    plan: Option<Vec<GuardFile>>,
    /// Checked at the end.
    after: Option<Vec<GuardFile>>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum GuardFile {
    Condition(Flag),
    Told(ToldGuardFile),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ToldGuardFile {
    /// The condition.
    that: Flag,
    /// What is said when it does not hold.
    message: Option<String>,
}

/// How many runs there may be at once.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct ConcurrencyFile {
    #[schemars(range(min = 1, max = 1_000_000))]
    limit: Option<u32>,
    /// Runs with the same key count together.
    key: Option<Template>,
    when_full: Option<WhenFullFile>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum WhenFullFile {
    Queue,
    Skip,
    Replace,
}

/// What a run may spend.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct BudgetFile {
    /// By one run with all that runs below it, e.g. `0.50 USD`.
    #[schemars(extend("pattern" = r"^ *[0-9]+(\.[0-9]+)? +[A-Z]{3} *$"))]
    run: Option<String>,
    /// By all runs of the pipeline on one day.
    #[schemars(extend("pattern" = r"^ *[0-9]+(\.[0-9]+)? +[A-Z]{3} *$"))]
    day: Option<String>,
    /// By one step run, in all its attempts.
    #[schemars(extend("pattern" = r"^ *[0-9]+(\.[0-9]+)? +[A-Z]{3} *$"))]
    step: Option<String>,
}

/// One declared input.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct InputFile {
    #[serde(rename = "type")]
    kind: Option<InputType>,
    /// Stands where nothing is given; without it the input must be given.
    default: Option<Json>,
    description: Option<String>,
    /// The values that are allowed.
    #[serde(rename = "enum")]
    choices: Option<Vec<Json>>,
    /// A regular expression that a text must match.
    pattern: Option<String>,
    minimum: Option<Json>,
    maximum: Option<Json>,
    /// What the items of an array are.
    items: Option<Json>,
    /// What the members of an object are.
    properties: Option<Json>,
    /// The members that must be there.
    required: Option<Json>,
    /// The kinds of files that a blob may be.
    media_types: Option<Json>,
}

/// What starts runs: one of `cron`, `every`, `at`, `webhook`, `files`, `after`, `manual`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct TriggerFile {
    /// Minute, hour, day, month, weekday, e.g. `0 9 * * MON-FRI`.
    cron: Option<String>,
    every: Option<Duration>,
    /// A moment such as `2026-01-31T09:00:00Z`.
    at: Option<String>,
    webhook: Option<WebhookFile>,
    /// A pattern of paths, e.g. `inbox/**/*.csv`.
    files: Option<String>,
    /// The pipeline whose end starts this one.
    after: Option<AfterFile>,
    #[schemars(extend("const" = true))]
    manual: Option<bool>,
    /// An IANA name, e.g. `Europe/Berlin`; UTC by default.
    timezone: Option<String>,
    dst: Option<DstFile>,
    /// What becomes of firings that nobody was there for; `none` by default.
    missed: Option<MissedFile>,
    /// Older missed firings are let go; with `webhook`, `files` and `after` the time in which `max` firings may be.
    window: Option<Duration>,
    /// Of more missed firings the newest; with `webhook`, `files` and `after` how many firings may be in `window`.
    max: Option<u32>,
    /// The start is put off by less than this, always by the same for the same firing.
    jitter: Option<Duration>,
    /// The days on which it fires: `weekdays`, `weekends`, or a file `calendars/NAME.yaml`.
    calendar: Option<String>,
    /// How long a file must not change before it counts as written; 2 seconds by default.
    settle: Option<Duration>,
    /// Whether files fire that were there before the trigger was; they do not by default.
    existing: Option<bool>,
    /// How often a trigger that goes by time may fire; what is too much starts later.
    bucket: Option<BucketFile>,
    /// The inputs of the run; `event` is what fired.
    inputs: Option<BTreeMap<String, Json>>,
    enabled: Option<bool>,
}

/// A request from outside.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct WebhookFile {
    /// Below `/hooks/`: letters, digits and `-_.~`, divided by `/`.
    path: String,
    /// What requests are signed with; several while it is being changed.
    secret: Option<SecretFile>,
    /// How they are signed; by default as Standard Webhooks says.
    preset: Option<PresetFile>,
    /// `none` says aloud that requests are not signed.
    auth: Option<OpenFile>,
    /// How far a time stamp may be from now; 5 minutes by default.
    window: Option<Duration>,
    /// With `preset: meta` what Meta sends when the address is registered.
    verify_token: Option<Template>,
    /// The largest body in bytes; 1048576 by default.
    max_body: Option<u32>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum SecretFile {
    One(Template),
    Several(Vec<Template>),
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum OpenFile {
    None,
}

/// A bucket of `max` tokens that is full again `window` after it was empty.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct BucketFile {
    max: u32,
    window: Duration,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum PresetFile {
    Github,
    Stripe,
    Slack,
    Meta,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum AfterFile {
    Pipeline(String),
    Ended(EndedFile),
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct EndedFile {
    pipeline: String,
    /// Which ends count; `succeeded` by default.
    on: Option<EndingFile>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum EndingFile {
    Succeeded,
    Failed,
    /// Well or not, but not canceled.
    Both,
    /// Canceled too.
    Ended,
}

/// What becomes of local times that a clock change shows never or twice.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct DstFile {
    missing: Option<MissingFile>,
    repeated: Option<RepeatedFile>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum MissingFile {
    Shift,
    Skip,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum RepeatedFile {
    First,
    Last,
    Both,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum MissedFile {
    None,
    Last,
    All,
}
