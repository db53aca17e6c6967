//! What a model says that is none: a call, a value that fits, or a few words about what was asked. The same question
//! gets the same answer, in whatever order questions come.

use super::check::at;
use super::fit::Source;
use super::fit::fit;
use super::list;
use super::script::Script;
use super::script::Wanted;
use super::settings::Tools;
use super::text;
use super::words::hash;
use super::words::said;
use super::words::words;
use crate::model::Map;
use crate::model::Value;
use crate::model::write_json;

/// How many words of a question come back in its answer.
const ECHOED: usize = 8;
/// How much of a tool's result comes back.
const QUOTED: usize = 200;
/// Shorter words of a tool's name are in too many messages.
const TELLING: usize = 4;

/// A question with what an answer depends on.
#[derive(Debug)]
pub(super) struct Question<'q> {
    pub wire: &'q Value,
    /// Where the form of the answer stands in it.
    pub format: &'static str,
    /// The canonical question, with the messages of answers before it.
    pub canonical: &'q Value,
    pub messages: &'q [Value],
    pub seed: u64,
}

/// What is said, before it is cut.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub text: Option<String>,
    pub refusal: Option<String>,
    pub calls: Vec<(String, Value)>,
    /// A reply that stops for a reason of its own.
    pub stop: Option<String>,
    /// The text at which it was to end, and did.
    pub stopped_at: Option<String>,
}

impl Question<'_> {
    /// The last message of the user.
    pub(super) fn last(&self) -> String {
        let last = self.messages.iter().rev().find(|message| text(message, "role") == Some("user"));
        last.map(said).unwrap_or_default()
    }

    /// The messages after the last one of the user.
    fn since(&self) -> &[Value] {
        let last = self.messages.iter().rposition(|message| text(message, "role") == Some("user"));
        self.messages.get(last.map_or(0, |at| at + 1)..).unwrap_or_default()
    }

    /// Names of the tools that were called since then.
    pub(super) fn called(&self) -> Vec<&str> {
        let calls = self.since().iter().flat_map(|message| list(message, "tool_calls"));
        calls.filter_map(|call| text(call, "name")).collect()
    }

    /// The tools that may be called.
    fn tools(&self) -> Vec<&Value> {
        let choice = self.choice();
        let allowed: Option<Vec<&str>> = choice.allowed.map(|tools| tools.iter().filter_map(name_of).collect());
        let tools = list(self.canonical, "tools").iter();
        tools
            .filter(|tool| text(tool, "name").is_some() && text(tool, "type").is_none_or(|kind| kind == "function"))
            .filter(|tool| {
                allowed.as_ref().is_none_or(|names| names.iter().any(|name| text(tool, "name") == Some(name)))
            })
            .collect()
    }

    pub(super) fn offered(&self) -> Vec<&str> {
        if self.choice().mode == "none" {
            return Vec::new();
        }
        self.tools().into_iter().filter_map(|tool| text(tool, "name")).collect()
    }

    fn choice(&self) -> Choice<'_> {
        let choice = at(self.canonical, "tool_choice");
        let Some(choice) = choice else { return Choice { mode: "auto", named: None, allowed: None } };
        if let Some(mode) = choice.as_str() {
            return Choice { mode, named: None, allowed: None };
        }
        if text(choice, "type") == Some("allowed_tools") {
            let inner = choice.get("allowed_tools").unwrap_or(choice);
            let mode = text(inner, "mode").unwrap_or("auto");
            return Choice { mode, named: None, allowed: Some(list(inner, "tools")) };
        }
        Choice { mode: "required", named: name_of(choice), allowed: None }
    }

    /// Which calls are due.
    fn due(&self, tools: Tools) -> Vec<Wanted> {
        let choice = self.choice();
        let offered = self.offered();
        let wanted = |name: &str| Wanted { name: name.to_owned(), arguments: None };
        if let Some(named) = choice.named {
            return vec![wanted(named)];
        }
        let last = self.last().to_lowercase();
        let spoken = words(&last);
        let mentioned: Vec<&str> = offered.iter().copied().filter(|name| mentions(&spoken, name)).collect();
        let must = choice.mode == "required";
        // A tool that has answered is not asked again.
        if !must && !self.called().is_empty() {
            return Vec::new();
        }
        let chosen = match tools {
            Tools::Never if !must => Vec::new(),
            _ if !mentioned.is_empty() => mentioned,
            Tools::Always => offered.into_iter().take(1).collect(),
            _ if must => offered.into_iter().take(1).collect(),
            _ => Vec::new(),
        };
        let one = at(self.canonical, "parallel_tool_calls").and_then(Value::as_bool) == Some(false);
        chosen.into_iter().take(if one { 1 } else { usize::MAX }).map(wanted).collect()
    }

    /// Makes what is said, by a written reply where there is one.
    pub(super) fn say(&self, script: Option<&Script>, tools: Tools) -> Said {
        let last = self.last();
        let own = words(&last);
        let source = Source { words: &own, seed: self.seed };
        let stop = script.and_then(|script| script.stop.clone());
        if let Some(refusal) = script.and_then(|script| script.refusal.clone()) {
            return Said { refusal: Some(refusal), stop, ..Said::default() };
        }
        let written = script.and_then(|script| script.text.clone().or_else(|| script.json.as_ref().map(json)));
        let wanted = match script {
            Some(script) if written.is_some() || script.tool.is_some() => script.wanted(),
            _ => self.due(tools),
        };
        if !wanted.is_empty() {
            let calls = wanted.into_iter().map(|call| {
                let arguments = call.arguments.unwrap_or_else(|| self.arguments(&call.name, &source));
                (call.name, arguments)
            });
            return Said { text: written, calls: calls.collect(), stop, ..Said::default() };
        }
        let text = written.unwrap_or_else(|| self.made_up(&own, &source));
        let (text, stopped_at) = ended(text, self.canonical.get("stop"));
        Said { text: Some(text), stop, stopped_at, ..Said::default() }
    }

    fn arguments(&self, name: &str, source: &Source<'_>) -> Value {
        let tools = self.tools();
        let tool = tools.iter().find(|tool| text(tool, "name") == Some(name));
        let parameters = tool.and_then(|tool| tool.get("parameters")).filter(|it| it.as_map().is_some());
        parameters.map_or_else(|| Map::new().into(), |schema| fit(schema, source))
    }

    fn made_up(&self, own: &[&str], source: &Source<'_>) -> String {
        if let Some(schema) = self.canonical.get("schema").filter(|schema| !schema.is_null()) {
            return json(&fit(schema, source));
        }
        let text = self.words(own);
        let form = at(self.wire, self.format).and_then(|form| form.get("type").unwrap_or(form).as_str());
        if matches!(form, Some("json_object" | "json")) {
            json(&Value::map([("answer", Value::from(text))]))
        } else {
            text
        }
    }

    fn words(&self, own: &[&str]) -> String {
        let results = self.since().iter().filter(|message| text(message, "role") == Some("tool"));
        let results: Vec<String> = results.map(|result| said(result).chars().take(QUOTED).collect()).collect();
        if !results.is_empty() {
            return format!("{} says: {}", self.called().join(" and "), results.join("; "));
        }
        let topic: Vec<&str> = own.iter().copied().take(ECHOED).collect();
        if topic.is_empty() {
            return "There is nothing to say about nothing.".to_owned();
        }
        let topic = topic.join(" ");
        match hash(self.seed, &topic) % 3 {
            0 => format!("About “{topic}”: noted, and this is all there is to say."),
            1 => format!("{topic}: a short answer, made up by the sandbox."),
            _ => format!("You asked about “{topic}”. Here is an answer to it."),
        }
    }
}

/// What the question says of tools.
struct Choice<'q> {
    mode: &'q str,
    named: Option<&'q str>,
    allowed: Option<&'q [Value]>,
}

fn name_of(tool: &Value) -> Option<&str> {
    text(tool, "name").or_else(|| tool.get("function").and_then(|function| text(function, "name")))
}

/// Tells whether a message mentions a tool: the whole name of it, or a telling word in it.
fn mentions(spoken: &[&str], name: &str) -> bool {
    let name = name.to_lowercase();
    let parts = name.split(['_', '-']).filter(|part| part.len() >= TELLING);
    spoken.contains(&name.as_str()) || parts.into_iter().any(|part| spoken.contains(&part))
}

fn json(value: &Value) -> String {
    let mut text = String::new();
    write_json(value, &mut text);
    text
}

/// Ends a text where the question says that it ends, and says where that was.
fn ended(text: String, stop: Option<&Value>) -> (String, Option<String>) {
    let stops: Vec<&str> = match stop {
        Some(Value::String(stop)) => vec![stop],
        Some(Value::List(stops)) => stops.iter().filter_map(Value::as_str).collect(),
        _ => return (text, None),
    };
    let found = stops.iter().filter(|stop| !stop.is_empty()).filter_map(|stop| Some((text.find(stop)?, *stop))).min();
    match found.and_then(|(end, stop)| Some((text.get(..end)?.to_owned(), stop.to_owned()))) {
        Some((before, stop)) => (before, Some(stop)),
        None => (text, None),
    }
}
