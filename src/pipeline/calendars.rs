//! The calendars of a project: built in, or a file of its folder `calendars`.

use std::path::Path;
use std::sync::Arc;

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
const MAX_BYTES: u64 = 1 << 20;

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

/// Finds a calendar by name and reads its file, with the faults of it.
pub(super) fn find(
    root: &Path,
    name: &str,
    shown: &dyn Fn(&Path) -> String,
    sources: &mut Sources,
) -> (FoundCalendar, Vec<Diagnostic>) {
    if let Some(calendar) = Calendar::built_in(name) {
        return (FoundCalendar::Found(Arc::new(calendar)), Vec::new());
    }
    let folder = root.join(FOLDER);
    // A name is no path: what it leads to would be outside.
    let plain = name.chars().all(|letter| letter.is_alphanumeric() || matches!(letter, '-' | '_'));
    let paths = ENDINGS.map(|ending| folder.join(format!("{name}.{ending}")));
    let Some(path) = paths.iter().find(|path| plain && path.is_file()) else {
        let own: Vec<String> = std::fs::read_dir(&folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_string_lossy().into_owned()))
            .collect();
        let known = BUILT_IN_CALENDARS.into_iter().chain(own.iter().map(String::as_str));
        return (FoundCalendar::Unknown { near: did_you_mean(name, known).map(str::to_owned) }, Vec::new());
    };
    let file: Arc<str> = shown(path).into();
    let unreadable = |why: String| {
        let start = Position { line: 1, column: 1, offset: 0 };
        let span = Span { file: file.clone(), start, end: start };
        (FoundCalendar::Faulty, vec![Diagnostic::error(Code::Unreadable, span, why)])
    };
    match std::fs::metadata(path) {
        Ok(about) if about.len() > MAX_BYTES => return unreadable(format!("the file has more than {MAX_BYTES} bytes")),
        _ => {}
    }
    let text: Arc<str> = match std::fs::read_to_string(path) {
        Ok(text) => text.into(),
        Err(error) => return unreadable(format!("the file cannot be read: {error}")),
    };
    sources.insert(file.clone(), text.clone());
    let (calendar, faults) = Calendar::parse(&file, &text);
    let found = calendar.map_or(FoundCalendar::Faulty, |calendar| FoundCalendar::Found(Arc::new(calendar)));
    (found, faults)
}
