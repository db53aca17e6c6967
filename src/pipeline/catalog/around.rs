//! What the triggers of a pipeline name of its project: other pipelines, calendars.

use std::path::Path;

use super::Catalog;
use crate::diag::Diagnostic;
use crate::diag::did_you_mean;
use crate::pipeline::calendars;
use crate::pipeline::calendars::FoundCalendar;
use crate::pipeline::files::ContentHash;
use crate::pipeline::files::plain;
use crate::pipeline::triggers::Around;

impl Around for Catalog {
    fn pipeline(&self, name: &str) -> Result<(), Option<String>> {
        if let Some(path) = self.by_name(name) {
            // That it goes away is told, too.
            let hash = self.files.read(&path).and_then(Result::ok).map(|bytes| ContentHash::of(&bytes));
            self.note(|uses| {
                uses.files.insert(plain(&path), hash);
            });
            return Ok(());
        }
        let names = self.names();
        Err(did_you_mean(name, names.iter().map(String::as_str)).map(str::to_owned))
    }

    fn calendar(&self, name: &str) -> (FoundCalendar, Vec<Diagnostic>) {
        for path in calendars::paths(&self.root, name) {
            let hash = self.files.read(&path).and_then(Result::ok).map(|bytes| ContentHash::of(&bytes));
            self.note(|uses| {
                uses.files.insert(plain(&path), hash);
            });
        }
        if let Some(found) = self.calendars.borrow().get(name) {
            return (found.clone(), Vec::new());
        }
        let shown = |path: &Path| self.shown(path);
        let (found, faults) = calendars::find(&self.files, &self.root, name, &shown, &mut self.sources.borrow_mut());
        self.calendars.borrow_mut().insert(name.to_owned(), found.clone());
        (found, faults)
    }
}

/// The surroundings of a file that may be meant for another project: what is not found is not missed.
pub(super) struct Elsewhere<'c>(pub(super) &'c Catalog);

impl Around for Elsewhere<'_> {
    fn pipeline(&self, _name: &str) -> Result<(), Option<String>> {
        Ok(())
    }

    fn calendar(&self, name: &str) -> (FoundCalendar, Vec<Diagnostic>) {
        match self.0.calendar(name) {
            (FoundCalendar::Unknown { .. }, faults) => (FoundCalendar::Unchecked, faults),
            found => found,
        }
    }
}
