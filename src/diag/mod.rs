//! What we tell the author of a file: a code, a place, one sentence, and a way out.

mod code;
mod render;

use std::sync::Arc;

pub use self::code::Code;
pub use self::render::Format;
pub use self::render::Sources;
pub use self::render::render;
pub use self::render::summary;

/// How many faults of one file are told; a file with more is damaged, or means harm.
pub const MOST_FAULTS: usize = 200;
/// The longest name that a similar one is looked for.
const LONGEST_NAME: usize = 100;
/// How many names are compared at most.
const MOST_NAMES: usize = 2_000;

/// A place in a file. Lines and columns count from 1, columns in characters; offsets are bytes from 0.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The file's path as the user would write it, relative to the project's folder.
    pub file: Arc<str>,
    pub start: Position,
    pub end: Position,
}

/// A point in a text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub line: u32,
    pub column: u32,
    pub offset: usize,
}

/// How bad it is: an error keeps the file from running, a warning does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Error,
    Warning,
}

/// One fault of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub code: Code,
    pub severity: Severity,
    /// One sentence, lower case, no final stop, names in backticks.
    pub message: String,
    pub span: Span,
    /// Other places that belong to it, each with what stands there.
    pub notes: Vec<(Option<Span>, String)>,
    /// The mend, in the imperative.
    pub help: Option<String>,
}

impl Diagnostic {
    /// Makes an error.
    #[must_use]
    pub fn error(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self { code, severity: Severity::Error, message: message.into(), span, notes: Vec::new(), help: None }
    }

    /// Makes a warning.
    #[must_use]
    pub fn warning(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, span, message) }
    }

    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    #[must_use]
    pub fn with_note(mut self, span: Option<Span>, note: impl Into<String>) -> Self {
        self.notes.push((span, note.into()));
        self
    }
}

/// Returns the first faults of a file, errors before warnings, and says how many more there are.
#[must_use]
pub fn first_faults(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let more = diagnostics.len().saturating_sub(MOST_FAULTS);
    if more == 0 {
        return diagnostics;
    }
    diagnostics.sort_by(|one, other| (one.severity, &one.span).cmp(&(other.severity, &other.span)));
    diagnostics.truncate(MOST_FAULTS);
    if let Some(last) = diagnostics.last_mut() {
        last.notes.push((None, format!("{more} more faults of this file are not shown")));
    }
    diagnostics
}

/// Returns the candidate that the user most likely meant, if one is near enough.
#[must_use]
pub fn did_you_mean<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Comparing takes time and memory by the product of both lengths.
    if name.len() > LONGEST_NAME {
        return None;
    }
    let length = name.chars().count();
    let allowed = |candidate: &str| (length.max(candidate.chars().count()) / 3).max(1);
    let possible = |candidate: &&str| {
        candidate.len() <= LONGEST_NAME && candidate.chars().count().abs_diff(length) <= allowed(candidate)
    };
    let compared = candidates.into_iter().filter(possible).take(MOST_NAMES);
    let (distance, best) =
        compared.map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate)).min_by_key(|it| it.0)?;
    // A name of one letter is near to every other: that tells nothing.
    (distance <= allowed(best) && distance < length).then_some(best)
}
