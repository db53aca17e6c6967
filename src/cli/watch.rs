//! `pipewright watch`: checks again on every save, prints what changed, and runs what was edited.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::Exit;
use super::Global;
use super::complete;
use super::interrupts::Interrupts;
use super::print;
use super::run;
use super::run::Inputs;
use super::run::View;
use super::sandbox::Troubles;
use super::validate;
use crate::app;
use crate::app::Fault;
use crate::daemon::reload::Edits;
use crate::daemon::reload::absolute;
use crate::diag;
use crate::diag::Diagnostic;
use crate::diag::Severity;
use crate::model::VersionId;
use crate::pipeline::Catalog;
use crate::pipeline::Checked;
use crate::pipeline::Knowledge;
use crate::system::System;

/// Checks files whenever they are saved, and prints what changed: new faults, and those that are mended.
#[derive(Debug, Args)]
pub(super) struct Watch {
    /// Files or folders; by default the project's pipelines.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Run the pipeline that was edited whenever it is valid; with a name or a file that one, now and when it changes.
    #[arg(long, value_name = "NAME", num_args = 0..=1, add = ArgValueCandidates::new(complete::pipelines))]
    run: Option<Option<String>>,
    #[command(flatten)]
    inputs: Inputs,
    #[command(flatten)]
    troubles: Troubles,
}

/// Which pipelines are run again.
pub(super) struct Again {
    /// Those that are edited where none is named.
    named: Option<String>,
    inputs: Inputs,
    troubles: Troubles,
}

impl Watch {
    pub(super) async fn execute(self, global: &Global) -> Result<Exit, Fault> {
        let Self { paths, run, inputs, troubles } = self;
        // What is wrong with the command line is told now, not at the first save.
        troubles.rehearsal(global)?;
        if run.is_none() && !inputs.is_empty() {
            return Err(Fault::Usage("inputs go with `--run`".to_owned()));
        }
        let again = run.map(|named| Again { named, inputs, troubles });
        watch(global, &paths, again).await
    }
}

/// Watches until it is interrupted.
pub(super) async fn watch(global: &Global, paths: &[PathBuf], again: Option<Again>) -> Result<Exit, Fault> {
    validate::they_exist(paths)?;
    let mut interrupts = Interrupts::listen()?;
    let root = app::find_root(global.project.as_deref(), &validate::folder_of(paths));
    // A folder without `pipelines` is itself one of pipelines.
    let flat = paths.is_empty() && !root.join("pipelines").is_dir();
    let also = if flat { vec![root.clone()] } else { paths.iter().map(|path| absolute(path)).collect() };
    let mut edits = Edits::open(&absolute(&root), also, System::real()).await;
    let mut seen = Seen::default();
    loop {
        let (catalog, _) = validate::catalog(global, &validate::folder_of(paths))?;
        let catalog = catalog.knowing(seen.knowledge.clone());
        let checked = catalog.check(paths);
        seen.tell(&checked);
        let mut targets = Vec::new();
        if let Some(Some(named)) = again.as_ref().map(|again| &again.named) {
            targets.extend(seen.changed(&catalog, named).then(|| named.clone()));
        }
        let knowledge = Arc::new(catalog.into_knowledge());
        if again.as_ref().is_some_and(|again| again.named.is_none()) && !seen.is_first {
            targets.extend(knowledge.edited_since(&seen.knowledge).map(|(path, _)| path.display().to_string()));
        }
        let asked: Vec<PathBuf> = knowledge.asked().into_iter().map(absolute).collect();
        edits.ask(asked.iter().map(PathBuf::as_path)).await;
        (seen.knowledge, seen.is_first) = (knowledge, false);
        for target in targets {
            if run_again(global, &target, again.as_ref()).await == Some(Exit::Interrupted) {
                return Ok(Exit::Interrupted);
            }
        }
        tokio::select! {
            _ = edits.next() => {}
            () = interrupts.next() => return Ok(Exit::Well),
        }
    }
}

async fn run_again(global: &Global, target: &str, again: Option<&Again>) -> Option<Exit> {
    let Again { inputs, troubles, .. } = again?;
    let view = View { json: false, quiet: false, foreground: true };
    let ended = match troubles.rehearsal(global) {
        Ok(rehearsal) => run::start(global, target, inputs, rehearsal, view, None).await,
        Err(fault) => Err(fault),
    };
    match ended {
        Ok(exit) => Some(exit),
        Err(fault) => {
            // The next edit may mend it.
            print::fault(&fault);
            None
        }
    }
}

/// What has been told already.
struct Seen {
    is_first: bool,
    faults: BTreeMap<String, usize>,
    knowledge: Arc<Knowledge>,
    /// The version of the named pipeline that was run last.
    ran: Option<VersionId>,
    /// Why the named pipeline cannot be found, as it was told.
    missing: Option<String>,
}

impl Default for Seen {
    fn default() -> Self {
        Self { is_first: true, faults: BTreeMap::new(), knowledge: Arc::default(), ran: None, missing: None }
    }
}

impl Seen {
    /// Prints the faults that are new and those that are gone, and how things stand.
    fn tell(&mut self, checked: &Checked) {
        let mut now: BTreeMap<String, usize> = BTreeMap::new();
        let mut new =
            validate::Checked { diagnostics: Vec::new(), sources: checked.sources.clone(), files: checked.files };
        for diagnostic in &checked.diagnostics {
            let fault = named(diagnostic);
            let count = now.entry(fault.clone()).or_default();
            *count += 1;
            if *count > self.faults.get(&fault).copied().unwrap_or_default() {
                new.diagnostics.push(diagnostic.clone());
            }
        }
        let gone = |(fault, before): (&String, &usize)| {
            let left = now.get(fault).copied().unwrap_or_default();
            std::iter::repeat_n(fault.clone(), before.saturating_sub(left)).collect::<Vec<_>>()
        };
        let gone: Vec<String> = self.faults.iter().flat_map(gone).collect();
        print::data(&new.rendered(diag::Format::Text, print::color_out()).0);
        for fault in &gone {
            print::talk(&format!("mended: {fault}"));
        }
        if self.is_first || !gone.is_empty() || !new.diagnostics.is_empty() {
            let summary = diag::summary(&checked.diagnostics, checked.files);
            let files = if checked.files == 1 { "file is" } else { "files are" };
            print::talk(&summary.unwrap_or_else(|| format!("{} {files} valid", checked.files)));
        }
        self.faults = now;
    }

    /// Tells whether the named pipeline is valid and another than was run last.
    fn changed(&mut self, catalog: &Catalog, named: &str) -> bool {
        let loaded = match catalog.load(named) {
            Ok(loaded) => loaded,
            Err(why) => {
                if self.missing.as_ref() != Some(&why) {
                    print::error(&why);
                }
                self.missing = Some(why);
                return false;
            }
        };
        self.missing = None;
        let faulty = loaded.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
        let Some(pipeline) = loaded.pipeline.filter(|_| !faulty) else { return false };
        let other = self.ran.as_ref() != Some(&pipeline.version);
        self.ran = Some(pipeline.version.clone());
        other
    }
}

/// Names a fault by what it is, not by its line: an edit above it makes no other of it.
fn named(diagnostic: &Diagnostic) -> String {
    format!("{}: {}: {}", diagnostic.span.file, diagnostic.code.as_str(), diagnostic.message)
}
