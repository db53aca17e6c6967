//! The keys of `pipewright.yaml`, as types from which the schema is made.

#![expect(dead_code, reason = "describes a file")]

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value as Json;

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
    /// Working with a later version.
    retention: Option<Json>,
    /// Working with a later version.
    catalog: Option<Json>,
}

#[derive(JsonSchema)]
#[schemars(deny_unknown_fields)]
struct LimitsFile {
    /// So many runs of a daemon; 32 by default.
    #[schemars(range(min = 1, max = 10_000))]
    runs: Option<u32>,
    /// So many steps that look or work outside, of all runs; without a limit by default.
    #[schemars(range(min = 1, max = 1_000_000))]
    steps: Option<u32>,
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
