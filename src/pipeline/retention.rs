//! How long what has ended is kept: `retention` of the project file.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::compile::first_line;
use super::project::known;
use crate::diag::Code;
use crate::diag::Diagnostic;
use crate::model::Duration;
use crate::yaml::Tree;
use crate::yaml::TreeKind;

/// How long what has ended is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    usual: Keep,
    pipelines: BTreeMap<String, Keep>,
    /// How long it is remembered which remote objects effects of removed runs made; for ever without it. Who forgets them
    /// may take such an object for that of a later effect with an equal request.
    pub claims: Option<Duration>,
    /// How long what was generated is kept, and can be found.
    pub generations: Option<Duration>,
    /// How long posts of the calendar are kept after their time, with what they have come to, and lessons after they were
    /// confirmed last.
    pub posts: Option<Duration>,
    /// How long it is kept what requests have cost.
    pub spending: Option<Duration>,
}

/// What is kept of one pipeline's runs; for ever where there is no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// How long after its end a run is kept.
    pub age: Option<Duration>,
    /// How many ended runs are kept, the newest.
    pub count: Option<u64>,
    /// How long after the end of a run its log is kept.
    pub logs: Option<Duration>,
    /// How long after the end of a run it is kept what went over the wire.
    pub wire: Option<Duration>,
}

pub(super) const KEYS: &[&str] = &["runs", "logs", "wire", "claims", "generations", "posts", "spending", "pipelines"];
pub(super) const RUNS_KEYS: &[&str] = &["age", "count"];
pub(super) const PIPELINE_KEYS: &[&str] = &["runs", "logs", "wire"];

/// Whoever has just started a run looks at it a moment later.
const SHORTEST: Duration = Duration::from_secs(60);
const DAY: u64 = 86_400;
/// What is kept of content where nothing is said: seasons come again after a year.
const CONTENT: Duration = Duration::from_secs(400 * DAY);
/// A month is accounted for when it is over.
const SHORTEST_SPENDING: Duration = Duration::from_secs(62 * DAY);
/// A post is looked at for so long so that it is not published again, and learned from.
const SHORTEST_POSTS: Duration = Duration::from_secs(90 * DAY);

impl Default for Keep {
    /// 90 days and 10,000 runs; logs for 30 days; what went over the wire for a week.
    fn default() -> Self {
        Self {
            age: Some(Duration::from_secs(90 * DAY)),
            count: Some(10_000),
            logs: Some(Duration::from_secs(30 * DAY)),
            wire: Some(Duration::from_secs(7 * DAY)),
        }
    }
}

impl Default for Retention {
    fn default() -> Self {
        Self::every(Keep::default())
    }
}

impl Retention {
    /// Keeps the same of every pipeline's runs.
    #[must_use]
    pub fn every(usual: Keep) -> Self {
        let content = Some(CONTENT);
        let pipelines = BTreeMap::new();
        Self { usual, pipelines, claims: None, generations: content, posts: content, spending: content }
    }

    /// Returns the shortest time that anything is kept.
    #[must_use]
    pub fn shortest(&self) -> Option<Duration> {
        let all = self.pipelines.values().chain([&self.usual]);
        all.flat_map(|keep| [keep.age, keep.logs, keep.wire]).flatten().min()
    }

    /// Returns what is kept of a pipeline's runs.
    #[must_use]
    pub fn of(&self, pipeline: &str) -> Keep {
        self.pipelines.get(pipeline).copied().unwrap_or(self.usual)
    }
}

/// Reads `retention`; every fault is told.
pub(super) fn read(tree: &Tree, diagnostics: &mut Vec<Diagnostic>) -> Retention {
    known(tree, KEYS, diagnostics);
    let mut retention = Retention::every(keep(tree, Keep::default(), diagnostics));
    if let Some(claims) = tree.get("claims") {
        retention.claims = bound(claims, "forever", "a duration such as `30d`", diagnostics).flatten();
    }
    let bounds = [
        ("generations", &mut retention.generations),
        ("posts", &mut retention.posts),
        ("spending", &mut retention.spending),
    ];
    for (key, place) in bounds {
        if let Some(length) = tree.get(key) {
            *place = bound(length, "forever", "a duration such as `400d`", diagnostics).unwrap_or(*place);
        }
    }
    let least = [
        ("posts", retention.posts, SHORTEST_POSTS, "posts are"),
        ("spending", retention.spending, SHORTEST_SPENDING, "what is spent is"),
    ];
    for (key, stated, shortest, what) in least {
        if let Some(length) = stated.filter(|length| *length < shortest)
            && let Some(tree) = tree.get(key)
        {
            let message = format!("{what} kept for at least `{shortest}`, found `{length}`");
            diagnostics.push(Diagnostic::error(Code::BadDuration, tree.span.clone(), message));
        }
    }
    let Some(pipelines) = tree.get("pipelines") else { return retention };
    if !matches!(pipelines.kind, TreeKind::Mapping(_)) {
        let message = format!("expected a mapping of pipelines by name, found {}", pipelines.describe());
        diagnostics.push(
            Diagnostic::error(Code::WrongType, first_line(&pipelines.span), message)
                .with_help("write `pipelines: { report: { runs: { count: 100 } } }`"),
        );
    }
    for entry in pipelines.entries() {
        known(&entry.value, PIPELINE_KEYS, diagnostics);
        // What a pipeline does not say is as for all.
        let own = keep(&entry.value, retention.usual, diagnostics);
        retention.pipelines.insert(entry.key.to_string(), own);
    }
    retention
}

fn keep(tree: &Tree, usual: Keep, diagnostics: &mut Vec<Diagnostic>) -> Keep {
    let mut keep = usual;
    if let Some(runs) = tree.get("runs") {
        known(runs, RUNS_KEYS, diagnostics);
        if let Some(age) = runs.get("age") {
            keep.age = bound(age, "forever", "a duration such as `90d`", diagnostics).unwrap_or(keep.age);
            if let Some(length) = keep.age.filter(|length| *length < SHORTEST) {
                let message = format!("a run is kept for at least `{SHORTEST}`, found `{length}`");
                diagnostics.push(Diagnostic::error(Code::BadDuration, age.span.clone(), message));
            }
        }
        if let Some(count) = runs.get("count") {
            let stated = bound::<u64>(count, "all", "a whole number from 1", diagnostics);
            if stated == Some(Some(0)) {
                let message = "a pipeline keeps at least 1 run, found 0".to_owned();
                diagnostics.push(Diagnostic::error(Code::OutOfRange, count.span.clone(), message));
            }
            keep.count = stated.unwrap_or(keep.count);
        }
    }
    for (key, place) in [("logs", &mut keep.logs), ("wire", &mut keep.wire)] {
        if let Some(length) = tree.get(key) {
            *place = bound(length, "forever", "a duration such as `14d`", diagnostics).unwrap_or(*place);
        }
    }
    keep
}

/// Reads a bound, or the word that means that there is none; nothing where it is neither, which is told.
fn bound<T: FromStr>(tree: &Tree, none: &str, expected: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Option<T>> {
    match tree.as_text() {
        Some(text) if text == none => return Some(None),
        Some(text) if !tree.is_null() => {
            if let Ok(value) = text.parse() {
                return Some(Some(value));
            }
        }
        _ => {}
    }
    let code =
        if expected.contains("duration") && tree.as_text().is_some() { Code::BadDuration } else { Code::WrongType };
    let message = format!("expected {expected} or `{none}`, found {}", tree.describe());
    diagnostics.push(Diagnostic::error(code, first_line(&tree.span), message));
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Retention, Vec<String>) {
        let (tree, faults) = crate::yaml::parse(&"pipewright.yaml".into(), text);
        assert!(faults.is_empty(), "{faults:?}");
        let mut diagnostics = Vec::new();
        let retention = read(&tree.unwrap(), &mut diagnostics);
        (retention, diagnostics.into_iter().map(|told| told.message).collect())
    }

    #[test]
    fn a_pipeline_says_only_what_is_different() {
        let (retention, faults) = parsed(
            "runs: { age: 10d, count: 50 }\nwire: forever\npipelines: { report: { runs: { count: all }, logs: 1h } }\n",
        );
        assert_eq!(faults, [""; 0]);
        let (days, usual) = (|days| Some(Duration::from_secs(days * DAY)), Keep::default());
        assert_eq!(retention.of("other"), Keep { age: days(10), count: Some(50), wire: None, ..usual });
        let logs = Some(Duration::from_secs(3_600));
        assert_eq!(retention.of("report"), Keep { age: days(10), count: None, logs, wire: None });
        assert_eq!((retention.claims, retention.generations, retention.posts), (None, days(400), days(400)));
        let (retention, faults) = parsed("generations: forever\nposts: 100d\n");
        assert_eq!((retention.generations, retention.posts, faults), (None, days(100), Vec::new()));
    }

    #[test]
    fn what_cannot_be_meant_is_told() {
        let (_, faults) = parsed(
            "runs: { age: 1s, count: 0, keep: 3 }\nlogs: 14\nclaims: [a]\nposts: 89d\ngenerations: long\npipelines: { a: { claims: 1d, logs: long }, b: 3 }\n",
        );
        assert_eq!(
            faults,
            [
                "unknown key `keep`",
                "a run is kept for at least `1m`, found `1s`",
                "a pipeline keeps at least 1 run, found 0",
                "expected a duration such as `14d` or `forever`, found `14`",
                "expected a duration such as `30d` or `forever`, found a list",
                "expected a duration such as `400d` or `forever`, found `long`",
                "posts are kept for at least `90d`, found `89d`",
                "unknown key `claims`",
                "expected a duration such as `14d` or `forever`, found `long`",
                "expected a mapping, found `3`",
            ]
        );
    }
}
