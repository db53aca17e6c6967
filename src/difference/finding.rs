//! What a comparison finds.

/// How much somebody who reviews a change should care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Weight {
    /// Something could go wrong that did not before: a new effect, a guard that is gone, a key that changes.
    Risk,
    /// What the pipeline does to the world, or gives, is another.
    Effect,
    /// The rest: pace, reads, names, texts.
    Other,
}

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Area {
    Inputs,
    Schedule,
    Graph,
    Effects,
    Guards,
    Retries,
    Limits,
    Prompts,
    Children,
    Outputs,
}

/// One thing that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub weight: Weight,
    pub area: Area,
    /// The step that it is about, with the child pipelines that it is in.
    pub step: Option<String>,
    /// A sentence: lower case, no final stop.
    pub text: String,
    /// What it was, and what it is, where that is more than the sentence says; lines of a text begin with `+` or `-`.
    pub details: Vec<String>,
}

impl Weight {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Risk => "risk",
            Self::Effect => "effect",
            Self::Other => "other",
        }
    }
}

impl Area {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Inputs => "inputs",
            Self::Schedule => "schedule",
            Self::Graph => "graph",
            Self::Effects => "effects",
            Self::Guards => "guards",
            Self::Retries => "retries",
            Self::Limits => "limits",
            Self::Prompts => "prompts",
            Self::Children => "children",
            Self::Outputs => "outputs",
        }
    }
}

/// Collects findings; those of a child pipeline bear its step's name.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) all: Vec<Finding>,
    prefix: String,
}

impl Findings {
    pub(super) fn within(prefix: String) -> Self {
        Self { all: Vec::new(), prefix }
    }

    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Adds what is about no step.
    pub(super) fn add(&mut self, weight: Weight, area: Area, text: impl Into<String>) {
        self.add_with(weight, area, None, text, Vec::new());
    }

    pub(super) fn add_with(
        &mut self,
        weight: Weight,
        area: Area,
        step: Option<&str>,
        text: impl Into<String>,
        details: Vec<String>,
    ) {
        let step = match step {
            Some(step) => Some(format!("{}{step}", self.prefix)),
            None => self.prefix.strip_suffix(" > ").map(str::to_owned),
        };
        self.all.push(Finding { weight, area, step, text: text.into(), details });
    }
}
