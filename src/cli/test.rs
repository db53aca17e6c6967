//! `pipewright test`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use clap::ValueHint;

use super::Exit;
use super::Global;
use super::interrupts::Interrupts;
use super::print;
use super::validate;
use crate::app;
use crate::app::Fault;
use crate::connector::library::Library;
use crate::daemon::reload::Edits;
use crate::daemon::reload::absolute;
use crate::diag::Severity;
use crate::model::VersionId;
use crate::pipeline::Catalog;
use crate::system::Clock;
use crate::system::System;
use crate::system::SystemClock;
use crate::testing::coverage::Coverage;
use crate::testing::file;
use crate::testing::junit;
use crate::testing::report;
use crate::testing::run;
use crate::testing::run::Job;
use crate::testing::run::Prepared;
use crate::testing::run::Verdict;
use crate::testing::snapshot::Mode;
use crate::testing::stage::Stage;

/// Runs the tests of pipelines: the cases of `NAME.test.yaml` beside them, and of `tests:` in them.
///
/// Each case has a store, a sandbox and a clock of its own: nothing outside is reached, no file of the project changes, and
/// time passes by itself.
#[derive(Debug, Args)]
pub(super) struct Test {
    /// Test files, pipelines, or folders; by default the project's pipelines.
    #[arg(value_name = "PATH", value_hint = ValueHint::AnyPath)]
    paths: Vec<PathBuf>,
    /// Run the cases only whose file and name contain this; `*` stands for anything.
    #[arg(short, long, value_name = "TEXT")]
    filter: Option<String>,
    /// List the cases, and run none.
    #[arg(long, conflicts_with_all = ["coverage", "coverage_min", "junit", "watch", "update"])]
    list: bool,
    /// Show what the cases exercise of pipelines and connectors, and what they do not.
    #[arg(long)]
    coverage: bool,
    /// Fail where less than this is exercised, in percent.
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(0..=100))]
    coverage_min: Option<u32>,
    /// Write the results as JUnit XML, too.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    junit: Option<PathBuf>,
    /// Keep what cases give now as their snapshots.
    #[arg(long)]
    update: bool,
    /// Run again what is affected whenever a file is saved.
    #[arg(long, conflicts_with_all = ["json", "junit"])]
    watch: bool,
    /// Print the results as JSON.
    #[arg(long)]
    json: bool,
    /// How many cases run at the same time; by default one for each core.
    #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: Option<u16>,
}

/// A project whose tests are run.
struct Tests {
    stage: Stage,
    catalog: Catalog,
    paths: Vec<PathBuf>,
}

impl Test {
    pub(super) async fn execute(self, global: &Global) -> Result<Exit, Fault> {
        validate::they_exist(&self.paths)?;
        if self.watch {
            return self.watch(global).await;
        }
        let tests = open(global, &self.paths)?;
        let prepared = self.prepared(&tests).await?;
        if self.list {
            return Ok(self.listed(&prepared.jobs));
        }
        self.run(&tests, &prepared, &prepared.jobs)
    }

    /// Reads and checks the cases that are asked for.
    async fn prepared(&self, tests: &Tests) -> Result<Prepared, Fault> {
        let found = file::read(&tests.paths);
        let mut prepared = run::prepare(&tests.stage, &tests.catalog, found).await;
        if prepared.diagnostics.iter().any(|fault| fault.severity == Severity::Error) {
            let Prepared { diagnostics, sources, files, .. } = prepared;
            return Err(Fault::Invalid { diagnostics, sources, files });
        }
        if let Some(filter) = &self.filter {
            prepared.jobs.retain(|job| fits(filter, &format!("{} {}", job.suite.file, job.case.name)));
        }
        Ok(prepared)
    }

    fn listed(&self, jobs: &[Job]) -> Exit {
        if self.json {
            let case = |job: &Job| {
                crate::model::Value::map([
                    ("file", crate::model::Value::from(&*job.suite.file)),
                    ("line", crate::model::Value::from(job.case.span.start.line)),
                    ("name", crate::model::Value::from(&*job.case.name)),
                    ("pipeline", crate::model::Value::from(&*job.pipeline.name)),
                ])
            };
            print::line(&crate::model::Value::list(jobs.iter().map(case).collect()).to_string());
            return Exit::Well;
        }
        for job in jobs {
            print::line(&format!("{}:{}: {}", job.suite.file, job.case.span.start.line, job.case.name));
        }
        Exit::Well
    }

    fn run(&self, tests: &Tests, prepared: &Prepared, jobs: &[Job]) -> Result<Exit, Fault> {
        if jobs.is_empty() {
            let what = if self.filter.is_some() { "no case is called so" } else { "there are no tests" };
            print::talk(&format!("{what}; `pipewright docs testing` tells how to write one"));
            return Ok(if self.filter.is_some() { Exit::Wrong } else { Exit::Well });
        }
        let clock = SystemClock::new();
        let began = clock.monotonic();
        let threads = self.jobs.map_or_else(super::threads, usize::from);
        let mode = match (self.update, app::environment("CI").is_some_and(|text| !text.is_empty())) {
            (true, _) => Mode::Update,
            (false, true) => Mode::Strict,
            (false, false) => Mode::New,
        };
        let verdicts = run::run(&tests.stage, jobs, threads, mode).map_err(Fault::Usage)?;
        let took = clock.monotonic().to_std().saturating_sub(began.to_std());
        if let Some(path) = &self.junit {
            std::fs::write(path, junit::document(&verdicts))
                .map_err(|error| Fault::Usage(format!("cannot write `{}`: {error}", path.display())))?;
        }
        let wanted = self.coverage || self.coverage_min.is_some();
        let coverage = wanted.then(|| Coverage::of(&verdicts, &tests.stage));
        if self.json {
            let mut told = report::json(&verdicts, took).as_map().cloned().unwrap_or_default();
            told.extend(coverage.as_ref().map(|coverage| ("coverage".into(), coverage.to_value())));
            print::line(&crate::model::Value::from(told).to_string());
        } else {
            tell(&verdicts, prepared, took);
            if let (Some(coverage), true) = (&coverage, self.coverage) {
                print::table(&["of", "exercised", "", "never"], &coverage.rows());
            }
        }
        let failed = verdicts.iter().any(|verdict| !verdict.findings.is_empty());
        let least = self.coverage_min.unwrap_or(0);
        if let Some(percent) = coverage.as_ref().map(Coverage::percent).filter(|percent| *percent < least) {
            print::error(&format!("the cases exercise {percent}%, less than {least}%"));
            return Ok(Exit::Failed);
        }
        Ok(if failed { Exit::Failed } else { Exit::Well })
    }

    /// Runs all cases, and then what is affected by each edit, until it is interrupted.
    async fn watch(&self, global: &Global) -> Result<Exit, Fault> {
        let mut interrupts = Interrupts::listen()?;
        let root = app::find_root(global.project.as_deref(), &validate::folder_of(&self.paths));
        let also: Vec<PathBuf> = self.paths.iter().map(|path| absolute(path)).collect();
        let mut edits = Edits::open(&absolute(&root), also, System::real()).await;
        let mut seen: HashMap<Arc<str>, (Arc<str>, VersionId)> = HashMap::new();
        loop {
            let mut asked: Vec<PathBuf> = Vec::new();
            match self.again(global, &mut seen, &mut asked).await {
                Ok(_) => {}
                // The next edit may mend it.
                Err(fault) => print::fault(&fault),
            }
            edits.ask(asked.iter().map(PathBuf::as_path)).await;
            tokio::select! {
                _ = edits.next() => {}
                () = interrupts.next() => return Ok(Exit::Well),
            }
        }
    }

    /// Runs the cases whose file, pipeline, or what that is made of, is another than before.
    async fn again(
        &self,
        global: &Global,
        seen: &mut HashMap<Arc<str>, (Arc<str>, VersionId)>,
        asked: &mut Vec<PathBuf>,
    ) -> Result<Exit, Fault> {
        let tests = open(global, &self.paths)?;
        asked.extend(file::files(&tests.paths).iter().map(|path| absolute(path)));
        let prepared = self.prepared(&tests).await?;
        let before = seen.clone();
        let changed = |job: &&Job| {
            let now = (&job.suite.source, &job.pipeline.version);
            before.get(&job.suite.file).is_none_or(|(source, version)| (source, version) != now)
        };
        let jobs: Vec<Job> = prepared.jobs.iter().filter(changed).cloned().collect();
        *seen = prepared
            .jobs
            .iter()
            .map(|job| (job.suite.file.clone(), (job.suite.source.clone(), job.pipeline.version.clone())))
            .collect();
        if jobs.is_empty() {
            return Ok(Exit::Well);
        }
        self.run(&tests, &prepared, &jobs)
    }
}

/// Checks the tests of the pipelines that are checked, and adds what is wrong with them.
pub(super) async fn check(global: &Global, paths: &[PathBuf], checked: &mut validate::Checked) {
    // What is wrong with the project file is told by whoever reads it.
    let Ok(tests) = open(global, paths) else { return };
    let found = file::read(&tests.paths);
    // A file of tests that is named is one that is checked; pipelines are counted already.
    let own = found.suites.iter().filter(|suite| file::is_tests(&suite.path));
    checked.files += own.filter(|suite| !paths.contains(&suite.path)).count();
    let prepared = run::prepare(&tests.stage, &tests.catalog, found).await;
    let known = checked.diagnostics.clone();
    checked.diagnostics.extend(prepared.diagnostics.into_iter().filter(|fault| !known.contains(fault)));
    checked.sources.extend(&prepared.sources);
}

fn open(global: &Global, paths: &[PathBuf]) -> Result<Tests, Fault> {
    let root = app::find_root(global.project.as_deref(), &validate::folder_of(paths));
    let library = Arc::new(Library::open(&root));
    let registry = crate::nodes::registry().with_operations(library.clone());
    let catalog = Catalog::open(&root, registry);
    let stage = Stage::new(&root, validate::project_of(&catalog)?, &library).map_err(Fault::Usage)?;
    let folder = root.join("pipelines");
    let paths = match (paths.is_empty(), folder.is_dir()) {
        (false, _) => paths.to_vec(),
        (true, true) => vec![folder],
        (true, false) => vec![root],
    };
    Ok(Tests { stage, catalog, paths })
}

/// Tells whether a text contains what a filter says, whose `*` stands for anything.
fn fits(filter: &str, text: &str) -> bool {
    let mut rest = text;
    for part in filter.split('*') {
        let Some((_, behind)) = rest.split_once(part) else { return false };
        rest = behind;
    }
    true
}

/// Tells what became of the cases: a line a file, and all of what failed.
fn tell(verdicts: &[Verdict], prepared: &Prepared, took: std::time::Duration) {
    let mut files: Vec<(Arc<str>, usize, usize)> = Vec::new();
    for verdict in verdicts {
        let file = &verdict.job.suite.file;
        if files.last().is_none_or(|(own, ..)| own != file) {
            files.push((file.clone(), 0, 0));
        }
        if let Some((_, all, failed)) = files.last_mut() {
            *all += 1;
            *failed += usize::from(!verdict.findings.is_empty());
        }
    }
    let color = print::color_out();
    for (file, all, failed) in &files {
        let word = if *failed > 0 { print::paint("31", "FAIL", color) } else { print::paint("32", "ok  ", color) };
        let of = if *failed > 0 { format!("{failed} of {all} failed") } else { format!("{all} passed") };
        print::line(&format!("{word}  {file}  {of}"));
    }
    for verdict in verdicts.iter().filter(|verdict| !verdict.findings.is_empty()) {
        let job = &verdict.job;
        let title = format!("{}: {}", job.suite.file, job.case.name);
        print::line(&format!("\n{} {}", print::paint("31", "FAIL", color), print::paint("1", &title, color)));
        print::data(&report::failure(verdict, &prepared.sources, color));
    }
    let failed = verdicts.iter().filter(|verdict| !verdict.findings.is_empty()).count();
    let seconds = format!("{}.{:02} s", took.as_secs(), took.subsec_millis() / 10);
    let cases = |count: usize| if count == 1 { "1 case".to_owned() } else { format!("{count} cases") };
    print::talk(&match failed {
        0 => format!("{} passed in {seconds}", cases(verdicts.len())),
        failed => format!("{failed} of {} failed in {seconds}", cases(verdicts.len())),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_fits_a_part_and_stars_stand_for_anything() {
        for (filter, expected) in
            [("two", true), ("one*three", true), ("three*one", false), ("", true), ("four", false)]
        {
            assert_eq!(fits(filter, "one two three"), expected, "{filter}");
        }
    }
}
