//! `validate --watch`: checks again on every save, and prints what changed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use notify::RecursiveMode;
use notify::Watcher;
use tokio::sync::mpsc;

use super::Exit;
use super::Global;
use super::print;
use super::validate;
use crate::app;
use crate::app::Fault;
use crate::diag;

/// How long files must be quiet before they are read: editors write in several steps.
const QUIET: Duration = Duration::from_millis(80);

pub(super) async fn watch(global: &Global, paths: &[PathBuf]) -> Result<Exit, Fault> {
    let (sender, mut saved) = mpsc::unbounded_channel();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Reading is an event too; only what may have changed a file counts.
        if event.is_ok_and(|event| !event.kind.is_access()) {
            let _ = sender.send(());
        }
    })?;
    let root = app::find_root(global.project.as_deref(), &PathBuf::from("."));
    let watched: Vec<PathBuf> = if paths.is_empty() { vec![root] } else { paths.to_vec() };
    for path in &watched {
        watcher.watch(path, RecursiveMode::Recursive)?;
    }
    let mut before: BTreeSet<String> = BTreeSet::new();
    let mut first = true;
    loop {
        let checked = validate::check(global, paths)?;
        let now: BTreeSet<String> = checked.diagnostics.iter().map(key).collect();
        let new = validate::Checked {
            diagnostics: checked.diagnostics.iter().filter(|it| !before.contains(&key(it))).cloned().collect(),
            sources: checked.sources.clone(),
            files: checked.files,
        };
        print::data(&new.rendered(diag::Format::Text, print::color_out()).0);
        let mended = before.difference(&now).count();
        if first || mended > 0 || !new.diagnostics.is_empty() {
            let summary = diag::summary(&checked.diagnostics, checked.files);
            let mended = if mended > 0 { format!(", {mended} mended") } else { String::new() };
            print::talk(&format!(
                "{}{mended}",
                summary.unwrap_or_else(|| format!("{} files are valid", checked.files))
            ));
        }
        (before, first) = (now, false);
        tokio::select! {
            saved = saved.recv() => if saved.is_none() { return Ok(Exit::Well) },
            _ = tokio::signal::ctrl_c() => return Ok(Exit::Well),
        }
        while tokio::time::timeout(QUIET, saved.recv()).await.is_ok_and(|event| event.is_some()) {}
    }
}

fn key(diagnostic: &diag::Diagnostic) -> String {
    let span = &diagnostic.span;
    format!(
        "{}:{}:{} {} {}",
        span.file,
        span.start.line,
        span.start.column,
        diagnostic.code.as_str(),
        diagnostic.message
    )
}
