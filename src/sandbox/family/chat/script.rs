//! Replies that someone wrote: what the model says where it matters what it says.

use regex_lite::Regex;
use serde::Deserialize;

use crate::model::Map;
use crate::model::Value;

/// A written reply.
///
/// One with `when` is given whenever the last message of the user matches, one without is given once, so that a list of
/// them is a conversation; `times` says otherwise.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Script {
    /// A regular expression over the last message of the user.
    pub when: Option<String>,
    /// The model that it is for; nothing means any.
    pub model: Option<String>,
    pub times: Option<u32>,
    pub text: Option<String>,
    /// A text that is this value.
    pub json: Option<Value>,
    pub refusal: Option<String>,
    /// A tool's name, `{ name, arguments }`, or a list of them; arguments that are not given are made up.
    pub tool: Option<Value>,
    /// Why it stops: `length`, `filter` or `pause`.
    pub stop: Option<String>,
    /// Instead of an answer: `{ status, headers, message, type, param, code }`.
    pub error: Option<Value>,
    /// An answer that is none, in a dialect that has such: `{ code, message }`.
    pub failed: Option<Value>,
    /// A stream ends in its middle; with `error`, that is the last that comes of it.
    pub breaks: bool,
    #[serde(skip)]
    pattern: Option<Regex>,
}

/// A call that a reply wants: its arguments may be made up.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub name: String,
    pub arguments: Option<Value>,
}

/// What is asked, as far as a reply depends on it.
#[derive(Debug)]
pub(super) struct Asked<'q> {
    pub model: &'q str,
    /// The last message of the user.
    pub said: &'q str,
    /// Names of the tools that are offered.
    pub offered: &'q [&'q str],
    /// Names of the tools that were called since that message.
    pub called: &'q [&'q str],
}

impl Script {
    pub(super) fn read(row: &Value) -> Result<Self, String> {
        let script: Self = crate::model::decode(row.clone()).map_err(|error| error.to_string())?;
        script.checked()
    }

    pub(super) fn checked(mut self) -> Result<Self, String> {
        let pattern = self.when.as_deref().map(|when| Regex::new(&format!("(?i){when}")));
        self.pattern = pattern.transpose().map_err(|error| format!("`when` of a reply: {error}"))?;
        let says = [&self.json, &self.tool, &self.error, &self.failed].iter().any(|it| it.is_some());
        let says = says || [&self.text, &self.refusal, &self.stop].iter().any(|it| it.is_some());
        if !says && !self.breaks {
            return Err(
                "a reply says one of `text`, `json`, `tool`, `refusal`, `stop`, `error`, `failed`, `breaks`".to_owned()
            );
        }
        if self.stop.as_deref().is_some_and(|stop| !matches!(stop, "length" | "filter" | "pause")) {
            return Err("`stop` of a reply is `length`, `filter` or `pause`".to_owned());
        }
        let nameless =
            self.tool.is_some() && (self.wanted().is_empty() || self.wanted().iter().any(|it| it.name.is_empty()));
        if nameless {
            return Err("`tool` of a reply is a name, `{ name, arguments }`, or a list of them".to_owned());
        }
        Ok(self)
    }

    /// Returns the calls that it wants.
    pub(super) fn wanted(&self) -> Vec<Wanted> {
        let one = |tool: &Value| match tool {
            Value::String(name) => Wanted { name: name.to_string(), arguments: None },
            other => Wanted {
                name: other.get("name").and_then(Value::as_str).unwrap_or_default().to_owned(),
                arguments: other.get("arguments").cloned(),
            },
        };
        match &self.tool {
            None => Vec::new(),
            Some(Value::List(tools)) => tools.iter().map(one).collect(),
            Some(tool) => vec![one(tool)],
        }
    }

    fn fits(&self, asked: &Asked<'_>) -> bool {
        let wanted = self.wanted();
        self.times != Some(0)
            && self.model.as_deref().is_none_or(|model| model == asked.model)
            && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(asked.said))
            && wanted.iter().all(|call| asked.offered.contains(&call.name.as_str()))
            // The message stays the last one while tools answer: what it made the model call is not called again.
            && (self.when.is_none() || !wanted.iter().any(|call| asked.called.contains(&call.name.as_str())))
    }

    /// Writes it as a row.
    pub(super) fn row(&self) -> Value {
        let mut row = Map::new();
        let text = |text: &Option<String>| text.as_deref().map(Value::from);
        let keys = [
            ("when", text(&self.when)),
            ("model", text(&self.model)),
            ("times", self.times.map(Value::from)),
            ("text", text(&self.text)),
            ("json", self.json.clone()),
            ("refusal", text(&self.refusal)),
            ("tool", self.tool.clone()),
            ("stop", text(&self.stop)),
            ("error", self.error.clone()),
            ("failed", self.failed.clone()),
            ("breaks", self.breaks.then_some(Value::Bool(true))),
        ];
        row.extend(keys.into_iter().filter_map(|(key, value)| Some((key.into(), value?))));
        row.into()
    }
}

/// Takes the first reply that fits, and counts it.
pub(super) fn take(scripts: &mut [Script], asked: &Asked<'_>) -> Option<Script> {
    let found = scripts.iter_mut().find(|script| script.fits(asked))?;
    let given = found.clone();
    found.times = match (found.times, &found.when) {
        (Some(times), _) => Some(times.saturating_sub(1)),
        (None, None) => Some(0),
        (None, Some(_)) => None,
    };
    Some(given)
}
