//! Triggers: what starts runs, from the file to typed values. Only the daemon fires them.

mod events;
mod glob;
mod read;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::calendars::FoundCalendar;
use super::compile::Compiler;
use super::compile::first_line;
use crate::diag::Code;
use crate::diag::Diagnostic;
use crate::diag::Span;
use crate::model::Duration;
use crate::model::RunState;
use crate::schedule::Bucket;
use crate::schedule::Calendar;
use crate::schedule::Dst;
use crate::schedule::Policy;
use crate::schedule::Schedule;
use crate::schedule::When;
use crate::template::Template;
use crate::template::TemplateTree;
use crate::yaml::Tree;
use crate::yaml::TreeKind;

pub use self::glob::Glob;
pub use self::glob::Within;

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
    /// How often it may fire.
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
    Files(FilesTrigger),
    After(After),
    Manual,
}

/// A request from outside.
#[derive(Clone, Debug)]
pub struct Webhook {
    /// Below `/hooks/`.
    pub path: Arc<str>,
    /// What requests are signed with: any of these, so that a secret can be changed; none where nothing is signed.
    pub secrets: Vec<Template>,
    pub preset: Option<Preset>,
    /// How far the time stamp of a request may be from now.
    pub window: Duration,
    /// What Meta sends when the address is registered.
    pub verify_token: Option<Template>,
    /// The largest body, in bytes.
    pub max_body: u32,
    /// Whether members of the body are the inputs, as no `inputs` are written.
    pub takes_members: bool,
}

/// New and changed files whose paths match.
#[derive(Clone, Debug)]
pub struct FilesTrigger {
    pub pattern: Glob,
    /// How long a file must not change before it counts as written.
    pub settle: Duration,
    /// Whether files fire that were there before the trigger was.
    pub existing: bool,
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
    /// Well or not, but not canceled.
    Both,
    /// Canceled too.
    Ended,
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

impl Ending {
    /// Returns the states of the ends that count.
    #[must_use]
    pub fn states(self) -> &'static [RunState] {
        match self {
            Self::Succeeded => &[RunState::Succeeded],
            Self::Failed => &[RunState::Failed],
            Self::Both => &[RunState::Succeeded, RunState::Failed],
            Self::Ended => &[RunState::Succeeded, RunState::Failed, RunState::Canceled],
        }
    }

    /// Returns the word that says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Both => "both",
            Self::Ended => "ended",
        }
    }
}

impl Preset {
    /// Returns the word that says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Github => "github",
            Self::Stripe => "stripe",
            Self::Slack => "slack",
            Self::Meta => "meta",
        }
    }
}

impl fmt::Display for TriggerKind {
    /// Says what it waits for, for people.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(when) => write!(formatter, "{}: {when}", when.name()),
            Self::Webhook(webhook) => match webhook.preset {
                Some(preset) => write!(formatter, "webhook: POST /hooks/{} ({})", webhook.path, preset.name()),
                None => write!(formatter, "webhook: POST /hooks/{}", webhook.path),
            },
            Self::Files(files) => write!(formatter, "files: {}", files.pattern),
            Self::After(after) => write!(formatter, "after: {} {}", after.pipeline, after.on.name()),
            Self::Manual => formatter.write_str("manual"),
        }
    }
}

impl TriggerKind {
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
            Self::Files(files) => files.pattern.to_string(),
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
