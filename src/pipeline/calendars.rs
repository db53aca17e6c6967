//! The calendars of a project: built in, or a file of its folder `calendars`.

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use super::files::Files;
use crate::diag::Code;
use crate::diag::Diagnostic;
use crate::diag::Position;
use crate::diag::Sources;
use crate::diag::Span;
use crate::diag::did_you_mean;
use crate::schedule::BUILT_IN_CALENDARS;
use crate::schedule::Calendar;

pub(super) const FOLDER: &str = "calendars";
const ENDINGS: [&str; 3] = ["yaml", "yml", "txt"];

/// The longest file, in bytes: a century of single days.
const MAX_BYTES: usize = 1 << 20;

/// A calendar, or why there is none.
#[derive(Clone, Debug)]
pub(super) enum FoundCalendar {
    Found(Arc<Calendar>),
    /// Its file has faults of its own, told when it was read first.
    Faulty,
    Unknown {
        near: Option<String>,
    },
    /// There is none, and none is missed: the file stands outside of its project.
    Unchecked,
}

/// Lists the files in which a calendar may stand; none for a built-in one, and for what is no plain name.
pub(super) fn paths(root: &Path, name: &str) -> Vec<PathBuf> {
    // A name is no path: what it leads to would be outside.
    let plain = name.chars().all(|letter| letter.is_alphanumeric() || matches!(letter, '-' | '_'));
    if !plain || Calendar::built_in(name).is_some() {
        return Vec::new();
    }
    ENDINGS.iter().map(|ending| root.join(FOLDER).join(format!("{name}.{ending}"))).collect()
}

/// Finds a calendar by name and reads its file, with the faults of it.
pub(super) fn find(
    files: &Files,
    root: &Path,
    name: &str,
    shown: &dyn Fn(&Path) -> String,
    sources: &mut Sources,
) -> (FoundCalendar, Vec<Diagnostic>) {
    if let Some(calendar) = Calendar::built_in(name) {
        return (FoundCalendar::Found(Arc::new(calendar)), Vec::new());
    }
    let Some(path) = paths(root, name).into_iter().find(|path| files.is_file(path)) else {
        let own = files.names(&root.join(FOLDER));
        let own = own.iter().map(|name| name.rsplit_once('.').map_or(name.as_str(), |(stem, _)| stem));
        let known = BUILT_IN_CALENDARS.into_iter().chain(own);
        return (FoundCalendar::Unknown { near: did_you_mean(name, known).map(str::to_owned) }, Vec::new());
    };
    let file: Arc<str> = shown(&path).into();
    let unreadable = |why: String| {
        let start = Position { line: 1, column: 1, offset: 0 };
        let span = Span { file: file.clone(), start, end: start };
        (FoundCalendar::Faulty, vec![Diagnostic::error(Code::Unreadable, span, why)])
    };
    let bytes = match files.read(&path) {
        Some(Ok(bytes)) if bytes.len() > MAX_BYTES => {
            return unreadable(format!("the file has more than {MAX_BYTES} bytes"));
        }
        Some(Ok(bytes)) => bytes,
        Some(Err(why)) => return unreadable(format!("the file cannot be read: {why}")),
        None => return unreadable("the file is gone".to_owned()),
    };
    let text: Arc<str> = match std::str::from_utf8(&bytes) {
        Ok(text) => text.into(),
        Err(_) => return unreadable("the file cannot be read: it is not UTF-8".to_owned()),
    };
    sources.insert(file.clone(), text.clone());
    let (calendar, faults) = Calendar::parse(&file, &text);
    let found = calendar.map_or(FoundCalendar::Faulty, |calendar| FoundCalendar::Found(Arc::new(calendar)));
    (found, faults)
}
