//! A plan as a file: readable, versioned, with a hash, without secrets.

use std::str::FromStr;
use std::sync::Arc;

use super::Open;
use super::Place;
use super::Plan;
use super::PlanOptions;
use super::PlannedEffect;
use super::Read;
use super::value::restored;
use super::value::stored;
use crate::engine::finish::hash;
use crate::model::Duration;
use crate::model::Map;
use crate::model::RunId;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::parse_json;
use crate::node::Cost;

/// What is printed beside a plan: how it stands to the budgets of money.
pub(super) const BUDGETS: &str = "budgets";
/// The number of the form.
const FORM: i64 = 1;
/// How long a plan holds where nobody says.
pub const MAX_AGE: Duration = Duration::from_secs(3_600);

/// What a plan's file says beside the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// The pipeline's file, as `apply` finds it again.
    pub file: String,
    /// Whether it is of a rehearsal.
    pub sandbox: bool,
    /// How long after it was made it may be applied.
    pub max_age: Duration,
}

impl Default for Circumstances {
    fn default() -> Self {
        Self { file: String::new(), sandbox: false, max_age: MAX_AGE }
    }
}

/// A plan as it stands in a file.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanFile {
    body: Map,
    hash: String,
}

/// Why a file is no plan that can be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoPlan {
    #[error("this is not a plan: {0}")]
    Unreadable(String),
    #[error("the plan has form {found}, and this version knows form {FORM}: make it again")]
    Form { found: String },
    #[error("the plan was changed by hand: its hash does not fit what it says")]
    Changed,
}

impl PlanFile {
    /// Makes the file of a plan.
    #[must_use]
    pub fn new(plan: &Plan, circumstances: &Circumstances) -> Self {
        let list = |values: Vec<Value>| Value::list(values);
        let body: Map = [
            ("plan", Value::from(FORM)),
            ("pipeline", (&*plan.pipeline).into()),
            ("file", circumstances.file.as_str().into()),
            ("version", (&*plan.version.0).into()),
            ("run", plan.run.to_string().into()),
            ("made_at", plan.at.to_string().into()),
            ("max_age", circumstances.max_age.to_string().into()),
            ("sandbox", circumstances.sandbox.into()),
            ("inputs", stored(&plan.inputs)),
            ("reads", list(plan.reads.iter().map(read_value).collect())),
            ("effects", list(plan.effects.iter().map(effect_value).collect())),
            ("open", list(plan.open.iter().map(open_value).collect())),
            ("outputs", stored(&plan.outputs)),
            (
                "failure",
                plan.failure.as_ref().map_or(Value::Null, |(place, error)| {
                    Value::map([
                        ("step", Value::from(place.to_string())),
                        ("class", error.class.name().into()),
                        ("message", error.message.as_str().into()),
                    ])
                }),
            ),
            (
                "guards",
                list(
                    plan.guards
                        .iter()
                        .map(|guard| {
                            let fault = guard.fault.as_deref().map_or(Value::Null, Value::from);
                            Value::map([("guard", Value::from(&*guard.said)), ("fault", fault)])
                        })
                        .collect(),
                ),
            ),
        ]
        .into_iter()
        .map(|(key, value)| (Arc::from(key), value))
        .collect();
        let hash = hash_of(&body);
        Self { body, hash }
    }

    /// Reads a file.
    ///
    /// # Errors
    /// Why it cannot be applied.
    pub fn read(text: &str) -> Result<Self, NoPlan> {
        let value = parse_json(text).map_err(|error| NoPlan::Unreadable(error.to_string()))?;
        let Some(map) = value.as_map() else { return Err(NoPlan::Unreadable("expected an object".to_owned())) };
        let mut body = map.clone();
        match body.get("plan") {
            Some(Value::Int(form)) if *form == i128::from(FORM) => {}
            Some(found) => return Err(NoPlan::Form { found: found.to_string() }),
            None => return Err(NoPlan::Unreadable("it has no `plan`".to_owned())),
        }
        // Stands beside the plan, and is another with every moment.
        body.shift_remove(BUDGETS);
        let said = body.shift_remove("hash");
        let hash = hash_of(&body);
        if said.as_ref().and_then(Value::as_str) != Some(hash.as_str()) {
            return Err(NoPlan::Changed);
        }
        let file = Self { body, hash };
        file.times().ok_or_else(|| NoPlan::Unreadable("a time in it is none".to_owned()))?;
        Ok(file)
    }

    /// Returns the text of the file.
    #[must_use]
    pub fn to_text(&self) -> String {
        self.to_text_with(Value::Null)
    }

    /// Returns the text of the file, with how it stands to the budgets of money; reading it again passes over that.
    #[must_use]
    pub fn to_text_with(&self, budgets: Value) -> String {
        let mut text = String::new();
        let mut whole = self.body.clone();
        if !budgets.is_null() {
            whole.insert(BUDGETS.into(), budgets);
        }
        whole.insert("hash".into(), Value::from(self.hash.as_str()));
        pretty(&Value::from(whole), 0, &mut text);
        text.push('\n');
        text
    }

    /// Returns what it says, as JSON has it.
    #[must_use]
    pub fn value(&self) -> Value {
        let mut whole = self.body.clone();
        whole.insert("hash".into(), Value::from(self.hash.as_str()));
        Value::from(whole)
    }

    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    fn text(&self, key: &str) -> &str {
        self.body.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    #[must_use]
    pub fn pipeline(&self) -> &str {
        self.text("pipeline")
    }

    #[must_use]
    pub fn version(&self) -> &str {
        self.text("version")
    }

    #[must_use]
    pub fn circumstances(&self) -> Circumstances {
        let (_, max_age) = self.times().unwrap_or_default();
        let sandbox = self.body.get("sandbox").and_then(Value::as_bool).unwrap_or(false);
        Circumstances { file: self.text("file").to_owned(), sandbox, max_age }
    }

    fn times(&self) -> Option<(Timestamp, Duration)> {
        Some((self.text("made_at").parse().ok()?, self.text("max_age").parse().ok()?))
    }

    #[must_use]
    pub fn made_at(&self) -> Timestamp {
        self.times().unwrap_or_default().0
    }

    /// Returns the inputs, without secret ones; and the names of those.
    #[must_use]
    pub fn inputs(&self) -> (Map, Vec<Arc<str>>) {
        let (mut inputs, mut secrets) = (Map::new(), Vec::new());
        for (name, value) in self.body.get("inputs").and_then(Value::as_map).into_iter().flatten() {
            match restored(value) {
                Ok(value) => drop(inputs.insert(name.clone(), value)),
                Err(_) => secrets.push(name.clone()),
            }
        }
        (inputs, secrets)
    }

    /// Returns how it is planned again: as the same run, for the same moment, with what paid reads gave.
    #[must_use]
    pub fn options(&self) -> PlanOptions {
        let of = self.text("run").parse::<RunId>().ok().zip(self.times().map(|(at, _)| at));
        let reads = self.body.get("reads").and_then(Value::as_list).unwrap_or_default();
        let paid = reads.iter().filter_map(|read| {
            let output = restored(read.get("output")?).ok()?;
            Some((place_of(read.get("step")?.as_str()?)?, output))
        });
        PlanOptions { of, paid: paid.collect(), ..PlanOptions::default() }
    }

    /// Says how a plan that was made again differs from this one; nothing where they are the same.
    #[must_use]
    pub fn differences(&self, again: &Self) -> Vec<String> {
        if self.hash == again.hash {
            return Vec::new();
        }
        let mut told = Vec::new();
        if self.version() != again.version() {
            told.push("the pipeline, a prompt or a manifest of it has changed".to_owned());
        }
        let failure = again.body.get("failure").filter(|failure| self.body.get("failure") != Some(failure));
        if let Some(failure) = failure.filter(|failure| !failure.is_null()) {
            let [step, message] =
                ["step", "message"].map(|key| failure.get(key).map(Value::to_text).unwrap_or_default());
            told.push(format!("it would fail now at `{step}`: {message}"));
        }
        let list = |file: &Self, key: &str| file.body.get(key).and_then(Value::as_list).unwrap_or_default().to_vec();
        let (reads, now) = (list(self, "reads"), list(again, "reads"));
        let named = |read: &Value| (read.get("step").map(Value::to_text), read.get("question").cloned());
        for read in &reads {
            let step = read.get("step").map(Value::to_text).unwrap_or_default();
            match now.iter().find(|other| named(other) == named(read)) {
                Some(other) if other == read => {}
                Some(_) if read.get("question") == Some(&Value::Bool(true)) => {
                    told.push(format!("what effect `{step}` would change has changed"));
                }
                Some(_) => told.push(format!("what `{step}` reads has changed")),
                // What stands behind a failure is not reached.
                None if again.body.get("failure").is_some_and(|failure| !failure.is_null()) => {}
                None => told.push(format!("`{step}` reads nothing now")),
            }
        }
        for other in now.iter().filter(|other| !reads.iter().any(|read| named(read) == named(other))) {
            told.push(format!("`{}` reads, and did not", other.get("step").map(Value::to_text).unwrap_or_default()));
        }
        if told.is_empty() && list(self, "effects") != list(again, "effects") {
            told.push("its effects have changed".to_owned());
        }
        if told.is_empty() {
            let changed = self.body.iter().filter(|(key, value)| again.body.get(*key) != Some(value));
            told.extend(changed.map(|(key, _)| format!("`{key}` has changed")));
        }
        told
    }
}

fn hash_of(body: &Map) -> String {
    format!("sha256:{}", hash(&Value::from(body.clone()).to_string()))
}

fn place_of(text: &str) -> Option<Place> {
    let mut above = text.split(" > ").map(|path| StepPath::from_str(path).ok()).collect::<Option<Vec<_>>>()?;
    let path = above.pop()?;
    Some(Place { above, path })
}

fn names(names: &[Arc<str>]) -> Value {
    Value::list(names.iter().map(|name| Value::from(&**name)).collect())
}

fn costs_value(costs: &[Cost]) -> Value {
    let costs = costs.iter().map(|cost| {
        Value::map([
            ("budget", Value::from(&*cost.budget)),
            ("amount", cost.amount.map_or(Value::Null, |amount| amount.to_string().into())),
            ("unit", cost.unit.as_deref().map_or(Value::Null, Value::from)),
            ("limit", cost.limit.map_or(Value::Null, |limit| limit.to_string().into())),
        ])
    });
    Value::list(costs.collect())
}

fn read_value(read: &Read) -> Value {
    let mut entries = vec![
        ("step", Value::from(read.place.to_string())),
        ("operation", (&*read.node).into()),
        ("fingerprint", (&*read.fingerprint).into()),
        ("question", read.is_question.into()),
        ("paid", read.paid.into()),
    ];
    if let Some(output) = &read.output {
        entries.push(("output", stored(output)));
    }
    Value::map(entries)
}

fn open_value(open: &Open) -> Value {
    Value::map([
        ("step", Value::from(open.place.to_string())),
        ("operation", (&*open.node).into()),
        ("of", names(&open.of)),
        ("reason", (&*open.reason).into()),
    ])
}

fn effect_value(effect: &PlannedEffect) -> Value {
    let changes = effect.changes.iter().map(|change| {
        Value::map([("field", Value::from(&*change.field)), ("old", stored(&change.old)), ("new", stored(&change.new))])
    });
    Value::map([
        ("step", Value::from(effect.place.to_string())),
        ("each", effect.each.into()),
        ("operation", (&*effect.node).into()),
        ("connection", effect.connection.as_deref().map_or(Value::Null, Value::from)),
        ("kind", effect.kind.name().into()),
        ("input", stored(&effect.input)),
        ("key", effect.key.as_ref().map_or(Value::Null, stored)),
        ("exists", effect.exists.map_or(Value::Null, Value::from)),
        ("changes", Value::list(changes.collect())),
        ("output", stored(&effect.output)),
        ("costs", costs_value(&effect.costs)),
        ("after", names(&effect.after)),
        ("only_if", names(&effect.only_if)),
        ("not_before", effect.not_before.map_or(Value::Null, |at| at.to_string().into())),
    ])
}

/// Writes a value as JSON with a line for each member; short lists and objects in one.
fn pretty(value: &Value, depth: usize, out: &mut String) {
    let line = value.to_string();
    let nested =
        matches!(value, Value::List(items) if !items.is_empty()) || matches!(value, Value::Map(map) if !map.is_empty());
    if !nested || depth > 0 && line.len() <= 80 {
        out.push_str(&line);
        return;
    }
    let pad = "  ".repeat(depth + 1);
    let (open, close) = if matches!(value, Value::List(_)) { ('[', ']') } else { ('{', '}') };
    out.push(open);
    let mut first = true;
    let mut begin = |out: &mut String| {
        out.push_str(if std::mem::take(&mut first) { "\n" } else { ",\n" });
        out.push_str(&pad);
    };
    match value {
        Value::List(items) => {
            for item in items.iter() {
                begin(out);
                pretty(item, depth + 1, out);
            }
        }
        Value::Map(map) => {
            for (key, item) in map.iter() {
                begin(out);
                out.push_str(&Value::from(&**key).to_string());
                out.push_str(": ");
                pretty(item, depth + 1, out);
            }
        }
        _ => {}
    }
    out.push('\n');
    out.push_str(&"  ".repeat(depth));
    out.push(close);
}
