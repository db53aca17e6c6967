//! What is asked, and what the step gives when it is approved.

use crate::model::Timestamp;
use crate::model::Value;
use crate::store::Vote;

/// What a run asks people, as its journal keeps it.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// A text; secret where it holds a secret.
    pub title: Value,
    /// What those who are asked see.
    pub show: Value,
    /// The declarations of the fields that they fill in, by name.
    pub form: Value,
    /// Persons and roles; anybody where there are none.
    pub approvers: Vec<String>,
    /// How many people must approve.
    pub quorum: u32,
    /// How many must reject.
    pub rejections: u32,
    /// Whether whoever started the run may approve it.
    pub self_approval: bool,
}

impl Request {
    #[must_use]
    pub fn to_value(&self) -> Value {
        let approvers = self.approvers.iter().map(|name| Value::from(name.as_str())).collect();
        Value::map([
            ("title", self.title.clone()),
            ("show", self.show.clone()),
            ("form", self.form.clone()),
            ("approvers", Value::list(approvers)),
            ("quorum", self.quorum.into()),
            ("rejections", self.rejections.into()),
            ("self_approval", self.self_approval.into()),
        ])
    }

    /// Reads what `to_value` wrote.
    #[must_use]
    pub fn from_value(value: &Value) -> Option<Self> {
        let count = |key: &str| match value.get(key) {
            Some(Value::Int(count)) => u32::try_from(*count).ok(),
            _ => None,
        };
        let approvers = value.get("approvers")?.as_list()?.iter();
        Some(Self {
            title: value.get("title").cloned().unwrap_or_default(),
            show: value.get("show").cloned().unwrap_or_default(),
            form: value.get("form").cloned().unwrap_or_default(),
            approvers: approvers.map(|name| name.as_str().map(str::to_owned)).collect::<Option<_>>()?,
            quorum: count("quorum")?,
            rejections: count("rejections")?,
            self_approval: value.get("self_approval")?.as_bool()?,
        })
    }

    /// Says in words who is asked.
    #[must_use]
    pub fn asked(&self) -> String {
        let names = self.approvers.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        let who = if names.is_empty() { "anybody".to_owned() } else { names };
        if self.quorum > 1 { format!("{} of {who}", self.quorum) } else { who }
    }
}

/// Makes the output of a step that was approved by these votes, with what they filled in.
#[must_use]
pub fn output(votes: &[Vote], form: Value, at: Timestamp) -> Value {
    let by = votes.iter().filter(|vote| vote.approves).map(|vote| Value::from(vote.person.as_str()));
    let comments = votes.iter().filter_map(|vote| {
        let text = vote.comment.as_deref()?;
        Some(Value::map([("by", Value::from(vote.person.as_str())), ("text", text.into())]))
    });
    Value::map([
        ("approved", Value::Bool(true)),
        ("by", Value::list(by.collect())),
        ("at", Value::Time(at)),
        ("comments", Value::list(comments.collect())),
        ("form", form),
    ])
}
