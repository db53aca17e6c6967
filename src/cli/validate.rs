//! `pipewright validate`, and loading what other commands name.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;

use super::Exit;
use super::Global;
use super::print;
use crate::app;
use crate::app::App;
use crate::app::Fault;
use crate::app::Rehearsal;
use crate::diag;
use crate::diag::Format;
use crate::diag::Severity;
use crate::model::VersionId;
use crate::node::Registry;
use crate::pipeline;
use crate::pipeline::Catalog;
use crate::pipeline::Pipeline;

/// Checks pipeline files without running anything.
#[derive(Debug, Args)]
pub(super) struct Validate {
    /// Files or folders; by default the project's pipelines.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// How diagnostics are printed: text, json, sarif, github.
    #[arg(long, default_value = "text", value_name = "FORMAT")]
    format: Format,
    /// Check again whenever a file is saved, and print what changed.
    #[arg(long)]
    watch: bool,
}

impl Validate {
    pub(super) async fn execute(self, global: &Global) -> Result<Exit, Fault> {
        if self.watch {
            return super::watch::watch(global, &self.paths, None).await;
        }
        let mut checked = check(global, &self.paths)?;
        super::test::check(global, &self.paths, &mut checked).await;
        let (text, exit) = checked.rendered(self.format, print::color_out());
        print::data(&text);
        if self.format == Format::Text {
            match diag::summary(&checked.diagnostics, checked.files) {
                Some(summary) => print::talk(&summary),
                None => print::talk(&format!(
                    "{} {} valid",
                    checked.files,
                    if checked.files == 1 { "file is" } else { "files are" }
                )),
            }
        }
        Ok(exit)
    }
}

/// What a check found.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) diagnostics: Vec<diag::Diagnostic>,
    pub(super) sources: diag::Sources,
    pub(super) files: usize,
}

impl Checked {
    pub(super) fn rendered(&self, format: Format, color: bool) -> (String, Exit) {
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = diag::render(&self.diagnostics, &self.sources, format, color, &mut text);
        let errors = self.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
        (text, if errors { Exit::Wrong } else { Exit::Well })
    }
}

/// Checks files, folders, or the whole project.
pub(super) fn check(global: &Global, paths: &[PathBuf]) -> Result<Checked, Fault> {
    let (catalog, _) = catalog(global, &folder_of(paths))?;
    they_exist(paths)?;
    let checked = catalog.check(paths);
    Ok(Checked { diagnostics: checked.diagnostics, sources: checked.sources, files: checked.files })
}

/// Returns the folder from which the project of some files is looked for.
pub(super) fn folder_of(paths: &[PathBuf]) -> PathBuf {
    let from = paths.first().cloned().unwrap_or_else(|| PathBuf::from("."));
    if from.is_dir() { from } else { from.parent().map(PathBuf::from).unwrap_or_default() }
}

pub(super) fn they_exist(paths: &[PathBuf]) -> Result<(), Fault> {
    match paths.iter().find(|path| !path.exists()) {
        Some(path) => Err(Fault::Usage(format!("there is no `{}`", path.display()))),
        None => Ok(()),
    }
}

pub(super) fn catalog(global: &Global, from: &std::path::Path) -> Result<(Catalog, Registry), Fault> {
    let root = app::find_root(global.project.as_deref(), from);
    let registry = app::registry(&root);
    let catalog = Catalog::open(&root, registry.clone());
    // A key that cannot be read is told where it is needed.
    let has_key = global.sandbox.is_some() || app::master_key(&root).map_or(true, |key| key.is_some());
    let catalog = if has_key { catalog } else { catalog.without_master_key() };
    Ok((catalog, registry))
}

/// Loads the one pipeline that a command names, and opens its project.
pub(super) async fn load_one(
    global: &Global,
    target: &str,
    rehearsal: Option<Rehearsal>,
) -> Result<(App, Arc<Pipeline>), Fault> {
    let path = PathBuf::from(target);
    let from = path.parent().filter(|_| path.is_file()).map(PathBuf::from).unwrap_or_default();
    let (catalog, registry) = catalog(global, &from)?;
    let pipeline = load_from(&catalog, target)?;
    let project = project_of(&catalog)?;
    let app = app::open(catalog.root().to_owned(), registry, project, rehearsal).await?;
    Ok((app, pipeline))
}

/// Loads a pipeline without opening the project's store.
pub(super) fn load_definition(global: &Global, target: &str) -> Result<Arc<Pipeline>, Fault> {
    let path = PathBuf::from(target);
    let from = path.parent().filter(|_| path.is_file()).map(PathBuf::from).unwrap_or_default();
    load_from(&catalog(global, &from)?.0, target)
}

/// Loads a pipeline that will not run as it is: what it would need of the project's keys is not asked for.
pub(super) fn load_to_read(global: &Global, target: &str) -> Result<Arc<Pipeline>, Fault> {
    load_definition(&Global { sandbox: Some(None), ..global.clone() }, target)
}

/// Loads all pipelines of the project without opening its store, and says on stderr which have faults.
pub(super) fn load_all(global: &Global) -> Result<(Vec<Arc<Pipeline>>, Exit), Fault> {
    let (pipelines, checked) = catalog(global, &PathBuf::from("."))?.0.all();
    let faulty: BTreeSet<_> = checked
        .diagnostics
        .iter()
        .filter(|diagnostic| diagnostic.severity == Severity::Error)
        .map(|diagnostic| diagnostic.span.file.clone())
        .collect();
    for file in &faulty {
        print::error(&format!("{file} has faults: `pipewright validate` tells them"));
    }
    Ok((pipelines, if faulty.is_empty() { Exit::Well } else { Exit::Wrong }))
}

/// Loads the pipelines of the project that have no faults, without a word on the others.
pub(super) fn quietly_all(global: &Global) -> Result<Vec<Arc<Pipeline>>, Fault> {
    Ok(catalog(global, &PathBuf::from("."))?.0.all().0)
}

fn load_from(catalog: &Catalog, target: &str) -> Result<Arc<Pipeline>, Fault> {
    let loaded = catalog.load(target).map_err(Fault::Usage)?;
    let errors = loaded.diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
    match loaded.pipeline.filter(|_| !errors) {
        Some(pipeline) => Ok(pipeline),
        None => Err(Fault::Invalid { diagnostics: loaded.diagnostics, sources: loaded.sources, files: loaded.files }),
    }
}

pub(super) fn project_of(catalog: &Catalog) -> Result<pipeline::Project, Fault> {
    catalog.project().map_err(|checked| Fault::Invalid {
        diagnostics: checked.diagnostics,
        sources: checked.sources,
        files: checked.files,
    })
}

/// Opens the project that a command stands in.
pub(super) async fn open_project(global: &Global) -> Result<App, Fault> {
    let (catalog, registry) = catalog(global, &PathBuf::from("."))?;
    let project = project_of(&catalog)?;
    app::open(catalog.root().to_owned(), registry, project, global.rehearsal()).await
}

/// Opens the settings of the project that a command stands in, and nothing else of it.
pub(super) fn settings(global: &Global) -> Result<(PathBuf, pipeline::Project), Fault> {
    let (catalog, _) = catalog(global, &PathBuf::from("."))?;
    Ok((catalog.root().to_owned(), project_of(&catalog)?))
}

/// Compiles the version that a run keeps.
pub(super) async fn stored_pipeline(app: &App, version: &VersionId) -> Result<Arc<Pipeline>, Fault> {
    let record = app.engine.parts().store.version(version).await?;
    let record = record.ok_or_else(|| Fault::Usage(format!("the version `{version}` is not in the store")))?;
    pipeline::compile_definition(&record.definition, &app.registry).map_err(|(diagnostics, sources)| Fault::Invalid {
        diagnostics,
        sources,
        files: 1,
    })
}
