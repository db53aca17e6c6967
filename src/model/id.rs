//! Ids of runs, versions and effects.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;
use ulid::Ulid;

/// The id of a run: a ULID, so ids sort by the time of their making.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RunId(Ulid);

/// The hash over all that a run's behaviour depends on (64 hexadecimal digits).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VersionId(pub Arc<str>);

/// The id of one effect: run + path (+ `undo`). The attempt is not in it, so a retry bears the same id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EffectId(pub Arc<str>);

impl RunId {
    /// Makes an id from a time in milliseconds since 1970 and 80 random bits.
    #[must_use]
    pub fn new(milliseconds: u64, random: u128) -> Self {
        Self(Ulid::from_parts(milliseconds, random))
    }

    /// Derives the id of a child run from its parent and the step that starts it, so that a repeated insert is harmless.
    #[must_use]
    pub fn child_of(parent: Self, path: &str) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, format!("{parent}/{path}").as_bytes());
        let mut random = [0_u8; 16];
        random.copy_from_slice(digest.as_ref().get(..16).expect("SHA-256 gives 32 bytes"));
        Self(Ulid::from_parts(parent.0.timestamp_ms(), u128::from_be_bytes(random)))
    }

    /// Returns the time of its making, in milliseconds since 1970.
    #[must_use]
    pub fn milliseconds(self) -> u64 {
        self.0.timestamp_ms()
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

impl fmt::Debug for RunId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

impl FromStr for RunId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ulid::from_string(text).map(Self).map_err(|_| format!("`{text}` is not a run id"))
    }
}

impl TryFrom<String> for RunId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<RunId> for String {
    fn from(id: RunId) -> Self {
        id.to_string()
    }
}

impl fmt::Display for VersionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Display for EffectId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}
