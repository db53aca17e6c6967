//! Diagnostics as text for people and as JSON, SARIF or annotations for machines.

mod machine;
mod text;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::Diagnostic;
use super::Severity;

/// The texts of the files that diagnostics point into.
#[derive(Clone, Debug, Default)]
pub struct Sources(BTreeMap<Arc<str>, Source>);

#[derive(Clone, Debug)]
struct Source {
    text: Arc<str>,
    /// Where the lines begin: many diagnostics of a large file ask for many lines.
    lines: Arc<[usize]>,
}

/// How diagnostics are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people, with the lines themselves.
    #[default]
    Text,
    /// One JSON object.
    Json,
    /// SARIF 2.1.0, for code scanning services.
    Sarif,
    /// Workflow commands of GitHub Actions.
    Github,
}

impl Sources {
    /// Keeps the text of a file.
    pub fn insert(&mut self, file: Arc<str>, text: Arc<str>) {
        let ends = text.match_indices('\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(ends).collect();
        self.0.insert(file, Source { text, lines });
    }

    /// Keeps the texts of another set too.
    pub fn extend(&mut self, other: &Self) {
        self.0.extend(other.0.iter().map(|(file, source)| (file.clone(), source.clone())));
    }

    /// Returns a line of a file, counted from 1, without its end.
    #[must_use]
    pub fn line(&self, file: &str, line: u32) -> Option<&str> {
        let index = usize::try_from(line.checked_sub(1)?).ok()?;
        let source = self.0.get(file)?;
        let rest = source.text.get(*source.lines.get(index)?..)?;
        rest.lines().next()
    }

    /// Returns the text of a file.
    #[must_use]
    pub fn text(&self, file: &str) -> Option<&str> {
        self.0.get(file).map(|source| &*source.text)
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            "sarif" => Ok(Self::Sarif),
            "github" => Ok(Self::Github),
            other => Err(format!("no format `{other}`: text, json, sarif, github")),
        }
    }
}

/// Writes diagnostics, sorted by place.
///
/// # Errors
/// The writer's.
pub fn render(
    diagnostics: &[Diagnostic],
    sources: &Sources,
    format: Format,
    color: bool,
    out: &mut dyn fmt::Write,
) -> fmt::Result {
    let mut sorted: Vec<_> = diagnostics.iter().collect();
    sorted.sort_by_key(|diagnostic| (&diagnostic.span.file, diagnostic.span.start, diagnostic.code));
    sorted.dedup();
    match format {
        Format::Text => text::render(&sorted, sources, color, out),
        Format::Json => machine::json(&sorted, out),
        Format::Sarif => machine::sarif(&sorted, out),
        Format::Github => machine::github(&sorted, out),
    }
}

/// Says how many faults there are: `2 errors, 1 warning in 3 files`; nothing when there is none.
#[must_use]
pub fn summary(diagnostics: &[Diagnostic], files: usize) -> Option<String> {
    let count = |severity| diagnostics.iter().filter(|diagnostic| diagnostic.severity == severity).count();
    let counted = |count: usize, word: &str| match count {
        0 => None,
        1 => Some(format!("1 {word}")),
        count => Some(format!("{count} {word}s")),
    };
    let parts = [counted(count(Severity::Error), "error"), counted(count(Severity::Warning), "warning")];
    let parts: Vec<_> = parts.into_iter().flatten().collect();
    let files = counted(files, "file").unwrap_or_else(|| "no file".to_owned());
    (!parts.is_empty()).then(|| format!("{} in {files}", parts.join(", ")))
}

impl Severity {
    /// Returns the lower-case word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}
