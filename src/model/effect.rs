//! What a step does to the outside world, and what may be done when its answer is lost.

use serde::Deserialize;
use serde::Serialize;

use super::Duration;

/// What a node does with a given config: decides checking, planning, caching and durability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Same input, same output; looks at nothing outside.
    Pure,
    /// Looks outside, changes nothing.
    Read,
    /// Looks outside, changes nothing, costs money.
    PaidRead,
    /// Changes the world.
    Write(WriteKind),
}

/// How a write changes the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WriteKind {
    Create,
    Update,
    Upsert,
    Delete,
    Message,
    Spend,
}

/// Whether a failed write changed the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Happened {
    /// Proven: nothing happened, a retry is safe.
    No,
    /// The answer was lost or says nothing: the effect is in doubt.
    Perhaps,
}

/// Whether sending a write again does harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Sending again is never proven harmless.
    Never,
    /// Sending again never does harm (an upsert, a delete).
    Always,
    /// Sending again within this time does no harm (the effect's key is sent as idempotency key).
    Within(Duration),
}

/// How a write's doubt can be settled; the node says it for its rendered input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settlement {
    pub repeat: Repeat,
    /// Whether `Node::reconcile` can ask the remote.
    pub reconcile: bool,
    /// How long the remote may take to show an effect, after `send_before` and the request's time-out.
    pub settle: Duration,
    /// How long one request may take, whole.
    pub timeout: Duration,
}

/// What becomes of a write in doubt that neither a key nor `reconcile` can tell, and of a paid read whose answer was lost in a
/// crash (`in_doubt` of a step).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InDoubt {
    /// A person decides with `pipewright effects resolve`. A paid read fails, and a person may run it again.
    #[default]
    Hold,
    /// Send it again: it may then have happened, or be paid for, twice.
    Resend,
    /// Leave it: it may never have happened. The step counts as skipped.
    Drop,
}

impl Effect {
    #[must_use]
    pub fn is_write(self) -> bool {
        matches!(self, Self::Write(_))
    }

    /// Returns the word that the language and the docs use.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Pure => "pure",
            Self::Read => "read",
            Self::PaidRead => "paid read",
            Self::Write(kind) => kind.name(),
        }
    }
}

impl WriteKind {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Upsert => "upsert",
            Self::Delete => "delete",
            Self::Message => "message",
            Self::Spend => "spend",
        }
    }

    /// Finds the kind by its lower-case word.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        let kinds = [Self::Create, Self::Update, Self::Upsert, Self::Delete, Self::Message, Self::Spend];
        kinds.into_iter().find(|kind| kind.name() == name)
    }
}

/// Nothing is known of a plain write: never repeat, no one to ask, thirty seconds a request.
impl Default for Settlement {
    fn default() -> Self {
        Self { repeat: Repeat::Never, reconcile: false, settle: Duration::ZERO, timeout: Duration::from_secs(30) }
    }
}
