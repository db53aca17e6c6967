//! Which keys have an order, and which.

use super::Kind;

/// How an item of a list is written in a path.
pub(super) const ITEM: &str = "*";

/// The keys of a pipeline, in their order.
pub const PIPELINE: &[&str] = &[
    "name",
    "description",
    "labels",
    "inputs",
    "triggers",
    "concurrency",
    "priority",
    "timeout",
    "deadline",
    "budget",
    "durability",
    "defaults",
    "guards",
    "locks",
    "steps",
    "outputs",
    "on_failure",
    "finally",
    "tests",
];

/// The keys of a step: first when and how often, then what, then what if not.
pub const STEP: &[&str] = &[
    "needs",
    "when",
    "for_each",
    "max_parallel",
    "spread",
    "at",
    "delay",
    "uses",
    "with",
    "until",
    "key",
    "cache",
    "retry",
    "timeout",
    "in_doubt",
    "on_error",
    "into",
    "undo",
    "irreversible",
    "locks",
    "priority",
];

/// The keys of a trigger, in their order.
pub const TRIGGER: &[&str] = &[
    "cron", "every", "at", "webhook", "files", "after", "manual", "timezone", "dst", "missed", "window", "max",
    "jitter", "calendar", "settle", "existing", "bucket", "inputs", "enabled",
];

const CONNECTOR: &[&str] = &["connector", "title", "docs"];

const OPERATION: &[&str] = &["title", "description", "docs", "hidden", "effect"];

/// The keys of the project file, in their order.
pub const PROJECT: &[&str] =
    &["store", "secrets", "connections", "people", "server", "limits", "allow", "retention", "catalog"];

const CONNECTION: &[&str] = &["connector"];

/// The keys of a file of tests, in their order.
pub const TESTS: &[&str] = &["pipeline", "description", "given", "tests"];

/// The keys of a case of a test, in their order.
pub const CASE: &[&str] = &["name", "given", "faults", "then"];

/// Returns the order of the keys of a mapping, by the keys that lead to it; nothing where the author's counts.
pub(super) fn order(kind: Kind, path: &[&str]) -> Option<&'static [&'static str]> {
    match (kind, path) {
        (Kind::Pipeline, []) => Some(PIPELINE),
        (Kind::Pipeline, ["triggers", _]) => Some(TRIGGER),
        (Kind::Pipeline, ["steps" | "on_failure" | "finally", _])
        | (Kind::Pipeline, ["steps" | "on_failure" | "finally", _, "undo"])
        | (Kind::Connector, ["operations", _, "steps", _]) => Some(STEP),
        (Kind::Pipeline | Kind::Tests, ["tests", _]) => Some(CASE),
        (Kind::Tests, []) => Some(TESTS),
        (Kind::Connector, []) => Some(CONNECTOR),
        (Kind::Connector, ["operations", _]) => Some(OPERATION),
        (Kind::Project, []) => Some(PROJECT),
        (Kind::Project, ["connections", _]) => Some(CONNECTION),
        _ => None,
    }
}

/// Returns the places of keys in their order; keys that the order does not name stand behind, as they stood.
pub(super) fn sorted<'k>(order: &[&str], keys: impl Iterator<Item = &'k str>) -> Vec<usize> {
    let rank = |key: &str| order.iter().position(|name| *name == key).unwrap_or(order.len());
    let mut ranks: Vec<(usize, usize)> = keys.enumerate().map(|(place, key)| (rank(key), place)).collect();
    ranks.sort_unstable();
    ranks.into_iter().map(|(_, place)| place).collect()
}
