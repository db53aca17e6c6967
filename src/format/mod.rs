//! The one layout of our files: indentation, order of keys, blank lines. Comments stay, and so does every meaning.
//!
//! `read` makes of the tree and the text a layout in which every comment has its place; `write` writes it again. Texts,
//! numbers and flow collections are copied as they were written, so nothing is quoted or broken anew. What comes out is
//! read once more and compared: a formatter that changes what a file means is worse than none.

mod order;
mod read;
mod same;
mod write;

use std::path::Path;
use std::sync::Arc;

pub use self::order::CASE;
pub use self::order::PIPELINE;
pub use self::order::PROJECT;
pub use self::order::STEP;
pub use self::order::TESTS;
pub use self::order::TRIGGER;
use crate::diag::Diagnostic;
use crate::yaml;
use crate::yaml::Tree;

/// The widest line on which a value is drawn up to its key.
const WIDTH: usize = 120;
/// The byte order mark that some editors put in front.
const MARK: &str = "\u{feff}";

/// What a file is: that decides which keys have an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    Pipeline,
    /// `*.test.yaml`
    Tests,
    Connector,
    /// `pipewright.yaml`
    Project,
    /// YAML of others: only its layout is ours to say.
    Other,
}

/// Why a text is not formatted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The text has faults, or says something in a way that has no other layout.
    Invalid(Vec<Diagnostic>),
    /// The formatted text would not mean the same. That is our fault.
    Changed(String),
}

impl Kind {
    /// Tells what a file is by its name, and else by its first keys.
    #[must_use]
    pub fn of(path: &Path, text: &str) -> Self {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if name == "pipewright.yaml" {
            return Self::Project;
        }
        if name.ends_with(".test.yaml") || name.ends_with(".test.yml") {
            return Self::Tests;
        }
        let has = |key: &str| {
            text.lines().any(|line| line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(':')))
        };
        match () {
            () if has("connector") => Self::Connector,
            () if has("steps") => Self::Pipeline,
            () => Self::Other,
        }
    }
}

/// Formats a text. What comes out means the same, and formatted again it stays as it is.
///
/// # Errors
/// The text's faults; or that formatting would change its meaning, which is a fault of ours.
pub fn format(file: &Arc<str>, text: &str, kind: Kind) -> Result<String, Fault> {
    let (mark, body) = text.strip_prefix(MARK).map_or(("", text), |body| (MARK, body));
    let returns = body.matches("\r\n").count();
    let unix;
    let source = if returns > 0 {
        unix = body.replace("\r\n", "\n");
        &unix
    } else {
        body
    };
    let tree = parsed(file, source).map_err(Fault::Invalid)?;
    let document = read::read(source, &tree, kind).map_err(|diagnostic| Fault::Invalid(vec![*diagnostic]))?;
    let mut lines = write::write(document);
    lines.push(String::new());
    let mut formatted = lines.join("\n");
    if let Err(what) = same::same(file, source, &tree, &formatted, kind) {
        // A last line that ends with the file is another text of a block than one that ends with a line.
        let ends = source.ends_with('\n');
        let without = formatted.strip_suffix('\n').filter(|_| !ends).map(str::to_owned);
        let without = without.filter(|text| same::same(file, source, &tree, text, kind).is_ok());
        formatted = without.ok_or(Fault::Changed(what))?;
    }
    if returns * 2 > body.matches('\n').count() {
        formatted = formatted.replace('\n', "\r\n");
    }
    Ok(format!("{mark}{formatted}"))
}

fn parsed(file: &Arc<str>, text: &str) -> Result<Tree, Vec<Diagnostic>> {
    match yaml::parse(file, text) {
        (Some(tree), diagnostics) if diagnostics.is_empty() => Ok(tree),
        (_, diagnostics) => Err(diagnostics),
    }
}

#[cfg(test)]
mod tests;
