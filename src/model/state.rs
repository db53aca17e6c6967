//! The states of runs and step runs.

use serde::Deserialize;
use serde::Serialize;

macro_rules! states {
    ($(#[$doc:meta])* $name:ident { $($variant:ident => $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum $name { $($variant),* }

        impl $name {
            /// Returns the lower-case word.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),* }
            }

            /// Finds the state by its lower-case word.
            #[must_use]
            pub fn by_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

states! {
    /// queued → running → (waiting → queued)* → succeeded | failed | canceled.
    RunState {
        Queued => "queued", Running => "running", Waiting => "waiting",
        Succeeded => "succeeded", Failed => "failed", Canceled => "canceled",
    }
}

states! {
    /// pending → running → (waiting → running)* → succeeded | failed | skipped | canceled.
    StepState {
        Pending => "pending", Running => "running", Waiting => "waiting",
        Succeeded => "succeeded", Failed => "failed", Skipped => "skipped", Canceled => "canceled",
    }
}

impl RunState {
    /// Tells whether nothing more can happen.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Canceled)
    }
}

impl StepState {
    /// Tells whether nothing more can happen.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Skipped | Self::Canceled)
    }
}
