//! Running cases: many at a time, each on a thread and a clock of its own.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;

use super::came::Played;
use super::case::Case;
use super::case::Suite;
use super::check::check;
use super::file::Found;
use super::judge::judge;
use super::play::play;
use super::snapshot::Mode;
use super::snapshot::Snapshots;
use super::stage::Stage;
use crate::diag::Code;
use crate::diag::Diagnostic;
use crate::diag::Severity;
use crate::diag::Sources;
use crate::pipeline::Catalog;
use crate::pipeline::Pipeline;
use crate::system::Clock;
use crate::system::SystemClock;

/// A case with the pipeline that it is of.
#[derive(Clone, Debug)]
pub struct Job {
    pub suite: Arc<Suite>,
    pub pipeline: Arc<Pipeline>,
    pub case: Arc<Case>,
}

/// Cases that can be played.
#[derive(Clone, Debug, Default)]
pub struct Prepared {
    pub jobs: Vec<Job>,
    /// What is wrong with the files of tests, and with their pipelines.
    pub diagnostics: Vec<Diagnostic>,
    pub sources: Sources,
    pub files: usize,
}

/// Compiles the pipelines of test files, each once, and holds the cases against them.
pub async fn prepare(stage: &Stage, catalog: &Catalog, found: Found) -> Prepared {
    let mut prepared =
        Prepared { jobs: Vec::new(), diagnostics: found.diagnostics, sources: found.sources, files: found.files };
    for suite in found.suites {
        let (target, span) = &suite.pipeline;
        let loaded = match catalog.load(target) {
            Ok(loaded) => loaded,
            Err(reason) => {
                let told = Diagnostic::error(Code::UnknownPipeline, span.clone(), reason);
                prepared.diagnostics.push(told.with_help("`pipeline:` names the one that is tested"));
                continue;
            }
        };
        prepared.sources.extend(&loaded.sources);
        let faults = loaded.diagnostics.into_iter().filter(|fault| fault.severity == Severity::Error);
        let faults: Vec<_> = faults.filter(|fault| !prepared.diagnostics.contains(fault)).collect();
        let is_faulty = !faults.is_empty();
        prepared.diagnostics.extend(faults);
        let Some(pipeline) = loaded.pipeline.filter(|_| !is_faulty) else { continue };
        prepared.diagnostics.extend(check(stage, &suite, &pipeline).await);
        let suite = Arc::new(suite);
        for case in &suite.cases {
            prepared.jobs.push(Job { suite: suite.clone(), pipeline: pipeline.clone(), case: case.clone() });
        }
    }
    prepared
}

/// What became of a case.
#[derive(Clone, Debug)]
pub struct Verdict {
    pub job: Job,
    pub played: Played,
    /// What is not as it must be; nothing where the case is kept.
    pub findings: Vec<Diagnostic>,
}

/// Plays all cases, as many at a time as there are threads, and judges them in their order.
///
/// # Errors
/// A file of snapshots that cannot be written.
pub fn run(stage: &Stage, jobs: &[Job], threads: usize, mode: Mode) -> Result<Vec<Verdict>, String> {
    let mut snapshots: Vec<(Arc<Suite>, Snapshots)> = Vec::new();
    let mut verdicts = Vec::with_capacity(jobs.len());
    for played in played(stage, jobs, threads).into_iter().zip(jobs) {
        let (played, job) = played;
        let kept = match snapshots.iter().position(|(suite, _)| Arc::ptr_eq(suite, &job.suite)) {
            Some(index) => index,
            None => {
                snapshots.push((job.suite.clone(), Snapshots::of(&job.suite.path, mode)));
                snapshots.len() - 1
            }
        };
        let Some((_, kept)) = snapshots.get_mut(kept) else { continue };
        let findings = judge(&played, kept);
        let verdict = Verdict { job: job.clone(), played, findings };
        verdicts.push(verdict);
    }
    for (_, kept) in &snapshots {
        kept.save()?;
    }
    Ok(verdicts)
}

/// Plays all cases; what comes of them stands in their order.
fn played(stage: &Stage, jobs: &[Job], threads: usize) -> Vec<Played> {
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Option<Played>>> = Mutex::new(vec![None; jobs.len()]);
    let clock = SystemClock::new();
    let work = || {
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(index) else { return };
            let began = clock.monotonic();
            let mut played = play(stage, &job.pipeline, &job.case);
            played.took = clock.monotonic().to_std().saturating_sub(began.to_std());
            if let Some(place) = done.lock().unwrap_or_else(PoisonError::into_inner).get_mut(index) {
                *place = Some(played);
            }
        }
    };
    std::thread::scope(|scope| {
        // Each has a runtime of its own, which must not lie in another's.
        for _ in 0..threads.clamp(1, jobs.len().max(1)) {
            scope.spawn(work);
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().flatten().collect()
}
