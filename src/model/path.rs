//! The path of a step run: the key under which everything about it is kept.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;
use serde::Serialize;

/// The part of a run that a step belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    #[default]
    Main,
    Undo,
    OnFailure,
    Finally,
}

/// Phase, step, item of a `for_each`, round of an `until`. Written `publish[3]#2`, `finally/tell`, `undo/publish[3]`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepPath {
    pub phase: Phase,
    pub step: Arc<str>,
    /// Index of the item, from 0.
    pub item: Option<u32>,
    /// Number of the round, from 1; the first round of a step without `until` is not written.
    pub round: Option<u32>,
}

impl Phase {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Undo => "undo",
            Self::OnFailure => "on_failure",
            Self::Finally => "finally",
        }
    }

    fn by_name(name: &str) -> Option<Self> {
        [Self::Undo, Self::OnFailure, Self::Finally].into_iter().find(|phase| phase.name() == name)
    }
}

impl StepPath {
    /// Makes the path of a whole step of the main phase.
    #[must_use]
    pub fn step(step: impl Into<Arc<str>>) -> Self {
        Self { phase: Phase::Main, step: step.into(), item: None, round: None }
    }

    /// Returns the path of the step run over all its rounds.
    #[must_use]
    pub fn whole(self) -> Self {
        Self { round: None, ..self }
    }
}

impl fmt::Display for StepPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.phase != Phase::Main {
            write!(formatter, "{}/", self.phase.name())?;
        }
        formatter.write_str(&self.step)?;
        if let Some(item) = self.item {
            write!(formatter, "[{item}]")?;
        }
        if let Some(round) = self.round {
            write!(formatter, "#{round}")?;
        }
        Ok(())
    }
}

impl FromStr for StepPath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{text}` is not the path of a step run");
        let (phase, rest) = match text.split_once('/') {
            Some((phase, rest)) => (Phase::by_name(phase).ok_or_else(wrong)?, rest),
            None => (Phase::Main, text),
        };
        let (rest, round) = match rest.split_once('#') {
            Some((rest, round)) => (rest, Some(round.parse().map_err(|_| wrong())?)),
            None => (rest, None),
        };
        let (step, item) = match rest.split_once('[') {
            Some((step, item)) => {
                let item = item.strip_suffix(']').ok_or_else(wrong)?;
                (step, Some(item.parse().map_err(|_| wrong())?))
            }
            None => (rest, None),
        };
        if step.is_empty() {
            return Err(wrong());
        }
        Ok(Self { phase, step: step.into(), item, round })
    }
}

impl Serialize for StepPath {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StepPath {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_round_trip() {
        for text in ["publish", "publish[3]", "publish[3]#2", "poll#7", "finally/tell", "undo/publish[0]"] {
            assert_eq!(text.parse::<StepPath>().unwrap().to_string(), text);
        }
        for text in ["", "[1]", "a[", "a[x]", "nowhere/a", "a#"] {
            assert!(text.parse::<StepPath>().is_err(), "{text}");
        }
    }
}
