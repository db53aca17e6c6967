//! Triggers: what starts runs, from the file to typed values. Only the daemon fires them.

mod read;

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::calendars::FoundCalendar;
use super::compile::Compiler;
use super::compile::first_line;
use crate::diag::Code;
use crate::diag::Diagnostic;
use crate::diag::Span;
use crate::model::Duration;
use crate::schedule::Calendar;
use crate::schedule::Dst;
use crate::schedule::Policy;
use crate::schedule::Schedule;
use crate::schedule::When;
use crate::template::Template;
use crate::template::TemplateTree;
use crate::yaml::Tree;
use crate::yaml::TreeKind;

#[cfg(test)]
pub(super) use self::read::KEYS;

/// What starts runs of a pipeline.
#[derive(Clone, Debug)]
pub struct Trigger {
    /// Its kind and a hash of what it waits for, `cron-1f6d3a90`: the same wherever it stands in the file, and whatever
    /// else it says. A second trigger that waits for the same has `-2` behind it.
    pub id: Arc<str>,
    pub kind: TriggerKind,
    /// UTC where nothing else is said.
    pub zone: TimeZone,
    pub dst: Dst,
    pub missed: Policy,
    pub jitter: Duration,
    /// A stored version knows the built-in ones only: what is scheduled is the file.
    pub calendar: Option<Arc<Calendar>>,
    /// How often it may fire; only for what comes from outside.
    pub bucket: Option<Bucket>,
    /// The inputs of the run, over `event`.
    pub inputs: TemplateTree,
    pub enabled: bool,
    pub span: Span,
}

/// What a trigger waits for.
#[derive(Clone, Debug)]
pub enum TriggerKind {
    Time(When),
    Webhook(Webhook),
    /// New and changed files whose paths match.
    Files(Arc<str>),
    After(After),
    Manual,
}

/// A request from outside.
#[derive(Clone, Debug)]
pub struct Webhook {
    pub path: Arc<str>,
    /// What requests are signed with.
    pub secret: Option<Template>,
    pub preset: Option<Preset>,
}

/// How a request is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preset {
    Github,
    Stripe,
    Slack,
    Meta,
}

/// The end of a run of another pipeline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct After {
    pub pipeline: Arc<str>,
    pub on: Ending,
}

/// The ends that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    Succeeded,
    Failed,
    Both,
}

/// At most so many firings in any such length of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket {
    pub max: u32,
    pub window: Duration,
}

/// The project around a pipeline's file.
pub(super) trait Around {
    /// Tells whether there is a pipeline of this name; else which one is near.
    fn pipeline(&self, name: &str) -> Result<(), Option<String>>;

    /// Finds a calendar; the faults of its file come with the first answer only.
    fn calendar(&self, name: &str) -> (FoundCalendar, Vec<Diagnostic>);
}

impl Trigger {
    /// Returns when it is due; nothing where it does not go by time.
    #[must_use]
    pub fn schedule(&self, pipeline: &str) -> Option<Schedule> {
        let TriggerKind::Time(when) = &self.kind else { return None };
        Some(Schedule {
            when: when.clone(),
            zone: self.zone.clone(),
            dst: self.dst,
            calendar: self.calendar.clone(),
            jitter: self.jitter,
            name: format!("{pipeline}/{}", self.id).into(),
        })
    }
}

impl TriggerKind {
    /// Tells whether nothing fires it in this version.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self, Self::Webhook(_) | Self::Files(_) | Self::After(_))
    }

    /// Returns the key that says it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Time(when) => when.name(),
            Self::Webhook(_) => "webhook",
            Self::Files(_) => "files",
            Self::After(_) => "after",
            Self::Manual => "manual",
        }
    }

    /// Returns what it waits for, as text: its identity.
    fn identity(&self) -> String {
        match self {
            // `0 9 * * mon` is what `0  9 * * MON` is.
            Self::Time(When::Cron(pattern)) => {
                pattern.as_str().split_whitespace().collect::<Vec<_>>().join(" ").to_uppercase()
            }
            Self::Time(when) => when.to_string(),
            Self::Webhook(webhook) => webhook.path.to_string(),
            Self::Files(pattern) => pattern.to_string(),
            Self::After(after) => format!("{} {:?}", after.pipeline, after.on),
            Self::Manual => String::new(),
        }
    }
}

pub(super) fn compile(compiler: &mut Compiler<'_>, pipeline: &str, tree: &Tree) -> Vec<Trigger> {
    if !matches!(tree.kind, TreeKind::Sequence(_)) {
        compiler.error(
            Code::WrongType,
            &first_line(&tree.span),
            format!("expected a list of triggers, found {}", tree.describe()),
        );
        return Vec::new();
    }
    let mut taken = BTreeSet::new();
    let mut triggers = Vec::new();
    for tree in tree.items() {
        if let Some(mut trigger) = read::trigger(compiler, pipeline, tree) {
            let id = trigger.id.clone();
            let mut number = 2;
            while !taken.insert(trigger.id.clone()) {
                trigger.id = format!("{id}-{number}").into();
                number += 1;
            }
            triggers.push(trigger);
        }
    }
    triggers
}

/// Returns the identity of a trigger; where it stands in the file is no part of it.
fn id(kind: &TriggerKind, zone: &str) -> Arc<str> {
    let text = format!("{}\n{}\n{zone}", kind.name(), kind.identity());
    let hash = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let hex: String = hash.as_ref().iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{hex}", kind.name()).into()
}
