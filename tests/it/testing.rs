//! `pipewright test` from outside: each thing that a case can say, kept and not kept; and what the shipped pipelines' own
//! tests catch.

mod audiences;
mod command;
mod given;
mod models;
mod months;
mod mutation;
mod shipped;
mod then;
mod told;

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use pipewright::connector::library::Library;
use pipewright::diag::Severity;
use pipewright::diag::Sources;
use pipewright::pipeline::Catalog;
use pipewright::testing::coverage::Coverage;
use pipewright::testing::file;
use pipewright::testing::report;
use pipewright::testing::run;
use pipewright::testing::run::Verdict;
use pipewright::testing::snapshot::Mode;
use pipewright::testing::stage::Stage;

/// A project, in a folder of its own or ours.
struct Bench {
    root: PathBuf,
    _own: Option<tempfile::TempDir>,
}

/// What became of the cases of a project.
struct Tested {
    verdicts: Vec<Verdict>,
    sources: Sources,
    stage: Stage,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { root: folder.path().to_owned(), _own: Some(folder) }
    }

    /// What we ship, where it stands: cases change no file.
    fn shipped() -> Self {
        Self { root: PathBuf::from(env!("CARGO_MANIFEST_DIR")), _own: None }
    }

    fn root(&self) -> &Path {
        &self.root
    }

    fn file(&self, name: &str, text: &str) -> &Self {
        let path = self.root().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
        self
    }

    /// Checks the tests of the project; gives faults of the files as they are told.
    fn prepare(&self, paths: &[&str]) -> Result<(Stage, run::Prepared), String> {
        let library = Arc::new(Library::open(self.root()));
        let registry = pipewright::nodes::registry().with_operations(library.clone());
        let catalog = Catalog::open(self.root(), registry);
        let project = catalog.project().map_err(|checked| format!("{:#?}", checked.diagnostics))?;
        let stage = Stage::new(self.root(), project, &library).unwrap();
        let paths: Vec<_> = paths.iter().map(|path| self.root().join(path)).collect();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let prepared = runtime.block_on(run::prepare(&stage, &catalog, file::read(&paths)));
        if prepared.diagnostics.iter().any(|fault| fault.severity == Severity::Error) {
            let mut text = String::new();
            let format = pipewright::diag::Format::Text;
            pipewright::diag::render(&prepared.diagnostics, &prepared.sources, format, false, &mut text).unwrap();
            return Err(text.replace(&format!("{}/", self.root().display()), ""));
        }
        Ok((stage, prepared))
    }

    fn test(&self, paths: &[&str]) -> Tested {
        self.test_as(paths, Mode::Strict)
    }

    fn test_as(&self, paths: &[&str], mode: Mode) -> Tested {
        let (stage, prepared) = self.prepare(paths).unwrap_or_else(|faults| panic!("{faults}"));
        let verdicts = run::run(&stage, &prepared.jobs, 4, mode).unwrap();
        Tested { verdicts, sources: prepared.sources, stage }
    }

    /// Plays one case of a pipeline.
    fn case(&self, pipeline: &str, case: &str) -> Tested {
        self.file("pipelines/x.yaml", pipeline);
        let indented: String = case.trim().lines().map(|line| format!("    {line}\n")).collect();
        self.file("pipelines/x.test.yaml", &format!("tests:\n  - name: a case\n{indented}"));
        self.test(&["pipelines"])
    }
}

impl Tested {
    /// Lists what is told of all cases: line, and what.
    fn findings(&self) -> Vec<String> {
        let all = self.verdicts.iter().flat_map(|verdict| &verdict.findings);
        all.map(|finding| format!("{}: {}", finding.span.start.line, finding.message)).collect()
    }

    #[track_caller]
    fn is_kept(&self) -> &Self {
        let told = self.told();
        assert!(self.findings().is_empty(), "{}\n{told}", self.findings().join("\n"));
        assert!(!self.verdicts.is_empty());
        self
    }

    /// Returns all that is told of cases that are not kept.
    fn told(&self) -> String {
        let failed = self.verdicts.iter().filter(|verdict| !verdict.findings.is_empty());
        failed.map(|verdict| report::failure(verdict, &self.sources, false)).collect()
    }

    fn journal(&self) -> String {
        self.verdicts.iter().map(|verdict| report::journal(&verdict.played).join("\n")).collect()
    }

    fn coverage(&self) -> Coverage {
        Coverage::of(&self.verdicts, &self.stage)
    }
}
