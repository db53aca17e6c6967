//! The keys of `pipewright.yaml`, as types from which the schema is made.

#![expect(dead_code, reason = "describes a file")]

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value as Json;

use crate::model::Duration;

/// The settings of a project of Pipewright; all are optional.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields, title = "Pipewright project")]
pub(super) struct ProjectFile {
    /// Where runs are kept: `sqlite://PATH` or `postgres://…`.
    #[schemars(regex(pattern = "^(sqlite:|postgres://|postgresql://)"))]
    store: Option<String>,
    /// Where secrets come from, the first that has one wins.
    secrets: Option<Vec<SecretFile>>,
    /// Outside systems by name.
    connections: Option<BTreeMap<String, BTreeMap<String, Json>>>,
    /// Who may be asked for approval, and in which roles, e.g. `anna: [editor]`.
    people: Option<BTreeMap<String, Vec<String>>>,
    /// Working with a later version.
    server: Option<Json>,
    /// What one process does at the same time.
    limits: Option<LimitsFile>,
    /// What steps may do beyond the project.
    allow: Option<AllowFile>,
    /// How long what has ended is kept.
    retention: Option<RetentionFile>,
    /// Working with a later version.
    catalog: Option<Json>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct LimitsFile {
    /// So many runs of a daemon; 128 by default.
    #[schemars(range(min = 1, max = 10_000))]
    runs: Option<u32>,
    /// So many steps that look or work outside, of all runs; without a limit by default.
    #[schemars(range(min = 1, max = 1_000_000))]
    steps: Option<u32>,
    /// How much may be spent on requests to outside systems.
    spend: Option<SpendFile>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct SpendFile {
    /// By everything in the project on one day, e.g. `20 USD`.
    #[schemars(extend("pattern" = r"^ *[0-9]+(\.[0-9]+)? +[A-Z]{3} *$"))]
    day: Option<String>,
    /// Where days begin, for the budgets of pipelines, too; UTC by default.
    timezone: Option<String>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum SecretFile {
    Word(SecretWord),
    EnvFile(EnvFile),
    Directory(Directory),
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum SecretWord {
    /// Environment variables.
    Env,
    /// The store's own table, sealed.
    Store,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct EnvFile {
    /// A file of lines `NAME=value`.
    env_file: String,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Directory {
    /// A folder with a file for each secret.
    dir: String,
}

/// What steps may do beyond the project.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct AllowFile {
    /// Whether files outside the project may be read and written.
    files_outside: Option<bool>,
    /// Whether `shell.run` may run programs.
    shell: Option<bool>,
}

/// How long what has ended is kept. It is removed by the daemon, and by `pipewright runs prune`.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct RetentionFile {
    /// Which ended runs are kept of each pipeline.
    runs: Option<KeptRuns>,
    /// How long after the end of a run its log is kept; 30 days by default.
    logs: Option<Length>,
    /// How long after the end of a run it is kept what went over the wire; a week by default.
    wire: Option<Length>,
    /// How long it is remembered which remote objects the effects of removed runs made; for ever by default.
    claims: Option<Length>,
    /// How long what was generated is kept, and can be found; 400 days by default.
    generations: Option<Length>,
    /// How long posts of the publishing calendar are kept after their time, with what they have come to, at least 90 days;
    /// and lessons after they were confirmed last. 400 days by default.
    posts: Option<Length>,
    /// How long it is kept what requests have cost, at least 62 days; 400 days by default.
    spending: Option<Length>,
    /// What is different for single pipelines, by their names.
    pipelines: Option<BTreeMap<String, KeptPipeline>>,
}

/// Which ended runs are kept.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct KeptRuns {
    /// How long after its end a run is kept, at least a minute; 90 days by default.
    age: Option<Length>,
    /// How many are kept, the newest; 10,000 by default.
    count: Option<Count>,
}

/// What is kept of one pipeline; what it does not say is as for all.
#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
pub(super) struct KeptPipeline {
    /// Which ended runs are kept.
    runs: Option<KeptRuns>,
    /// How long after the end of a run its log is kept.
    logs: Option<Length>,
    /// How long after the end of a run it is kept what went over the wire.
    wire: Option<Length>,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum Length {
    Of(Duration),
    Forever(Forever),
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Forever {
    Forever,
}

#[derive(JsonSchema)]
#[schemars(untagged)]
enum Count {
    Of(#[schemars(range(min = 1))] u64),
    All(All),
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum All {
    All,
}
