//! Housekeeping: what is no longer kept goes, in small pieces, so that a daemon that runs for years does not grow.
//!
//! What goes is decided by `retention` of the project file and by plain functions; the store removes it so that a crash
//! in between does no harm. Of several daemons on one store one does a round.

use std::collections::HashMap;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::metrics::Metrics;
use super::scheduler::Active;
use super::told;
use crate::model::Duration;
use crate::model::Timestamp;
use crate::pipeline::Keep;
use crate::pipeline::Retention;
use crate::store::Belonging;
use crate::store::Ended;
use crate::store::Error;
use crate::store::Garbage;
use crate::store::Store;
use crate::system::System;

/// How often the files of the database are looked at.
pub const TEND: Duration = Duration::from_secs(60);
/// How often what is no longer kept is removed; more often where it is kept for minutes only.
pub const ROUND: Duration = Duration::from_secs(600);
/// How often files that nobody names are looked for: all rows are read for it.
const COLLECT: Duration = Duration::from_secs(86_400);
/// A file that is younger may be about to be named.
pub const YOUNG: Duration = Duration::from_secs(86_400);
/// A version that nothing has needed for so long goes: whoever starts a run keeps its version just before.
const IDLE: Duration = Duration::from_secs(86_400);
/// Where a schedule stands is forgotten when no file has had it for so long.
const GONE: Duration = Duration::from_secs(30 * 86_400);
/// How long it is remembered what has fired: longer than a sender tries again, and than a daemon looks back.
const FIRED: Duration = Duration::from_secs(14 * 86_400);
/// How long it is remembered what contents files had that have others now.
const CONTENTS: Duration = Duration::from_secs(90 * 86_400);
/// So many runs are removed by one transaction.
const BATCH: u32 = 100;
/// So many versions are looked at in a round.
const VERSIONS: u32 = 50;
/// So many times in a row free pages are given back.
const GIVEN: usize = 50;

/// The housekeeper of a daemon.
#[derive(Debug)]
pub struct Keeper {
    store: Store,
    system: System,
    active: watch::Receiver<Active>,
    retention: watch::Receiver<Arc<Retention>>,
    metrics: Arc<Metrics>,
    stop: CancellationToken,
    /// Of which runs logs and wire records are gone.
    gone: HashMap<(String, &'static str), Ended>,
    /// Up to which version all have been looked at.
    versions: String,
    claims: Option<(String, String)>,
    held: bool,
}

/// Which runs are removed.
#[derive(Clone, Debug)]
pub struct Scope<'a> {
    pub retention: &'a Retention,
    /// Only this pipeline's.
    pub pipeline: Option<&'a str>,
    /// Only say how many there are.
    pub dry: bool,
}

/// What was removed, or would be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Runs by pipeline.
    pub runs: Vec<(String, u64)>,
    /// Runs that stay although their time is over: an effect of theirs is not settled.
    pub stay: u64,
}

impl Keeper {
    #[must_use]
    pub fn new(
        store: Store,
        system: System,
        active: watch::Receiver<Active>,
        retention: watch::Receiver<Arc<Retention>>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Self {
        let (gone, versions) = (HashMap::new(), String::new());
        Self { store, system, active, retention, metrics, stop, gone, versions, claims: None, held: false }
    }

    /// Keeps house until it is stopped.
    pub async fn keep(mut self) {
        let clock = self.system.clock.clone();
        while !self.stop.is_cancelled() {
            tokio::select! {
                () = clock.sleep_until(clock.now().plus(TEND)) => {}
                () = self.stop.cancelled() => return,
            }
            if let Err(error) = self.turn().await {
                tracing::error!(error = told(&error), "housekeeping failed; it is tried again");
                self.metrics.keeping.failures.fetch_add(1, Relaxed);
            }
        }
    }

    /// Does what is due now.
    ///
    /// # Errors
    /// The store's.
    pub async fn turn(&mut self) -> Result<(), Error> {
        let now = self.system.clock.now();
        let pause = self.retention.borrow().shortest().map_or(ROUND, |shortest| ROUND.min(shortest).max(TEND));
        if self.store.take_chore("round", now, now.plus(pause)).await? {
            self.round(now).await?;
            let seconds = u64::try_from(now.micros() / 1_000_000).unwrap_or(0);
            self.metrics.keeping.done_at.store(seconds, Relaxed);
        }
        if !self.stop.is_cancelled() && self.store.take_chore("blobs", now, now.plus(COLLECT)).await? {
            self.collect(now).await?;
        }
        self.tend().await
    }

    async fn round(&mut self, now: Timestamp) -> Result<(), Error> {
        let retention = self.retention.borrow_and_update().clone();
        let scope = Scope { retention: &retention, pipeline: None, dry: false };
        let pruned = prune(&self.store, &self.system, &scope, &self.stop).await?;
        let runs: u64 = pruned.runs.iter().map(|(_, count)| count).sum();
        let lines = self.belongings(&retention, now).await?;
        let cached = self.cache(now).await?;
        let versions = self.retire_versions(now).await?;
        let schedules = self.retire_schedules(now).await?;
        let claims = self.claims(&retention, now).await?;
        let firings = self.firings(now).await?;
        let content = self.content(&retention, now).await?;
        let keeping = &self.metrics.keeping;
        let counts = [
            (&keeping.runs, runs),
            (&keeping.lines, lines),
            (&keeping.cached, cached),
            (&keeping.versions, versions),
            (&keeping.schedules, schedules),
            (&keeping.claims, claims),
            (&keeping.firings, firings),
            (&keeping.content, content),
        ];
        let any = counts.iter().any(|(_, count)| *count > 0);
        for (counter, count) in counts {
            AtomicU64::fetch_add(counter, count, Relaxed);
        }
        if any {
            tracing::info!(
                runs,
                lines,
                cached,
                versions,
                schedules,
                claims,
                firings,
                content,
                "what is no longer kept is removed"
            );
        }
        Ok(())
    }

    /// Removes logs and wire records that are kept for a shorter time than their runs.
    async fn belongings(&mut self, retention: &Retention, now: Timestamp) -> Result<u64, Error> {
        let mut lines = 0;
        for pipeline in self.store.ended_pipelines().await? {
            let keep = retention.of(&pipeline);
            for (what, name, bound) in [(Belonging::Logs, "logs", keep.logs), (Belonging::Wire, "wire", keep.wire)] {
                let Some(bound) = bound.filter(|bound| keep.age.is_none_or(|age| *bound < age)) else { continue };
                let upto = Ended::upto(before(now, bound));
                let place = (pipeline.clone(), name);
                loop {
                    let after = self.gone.get(&place).copied();
                    let runs = self.store.all_ended_runs(&pipeline, after, upto, BATCH).await?;
                    let Some(last) = runs.last().copied().filter(|_| !self.stop.is_cancelled()) else { break };
                    let ids: Vec<_> = runs.iter().map(|ended| ended.run).collect();
                    loop {
                        let began = self.system.clock.monotonic();
                        let dropped = self.store.drop_belongings(what, &ids).await?;
                        if dropped == 0 {
                            break;
                        }
                        lines += dropped;
                        rest(&self.system, began).await;
                    }
                    self.gone.insert(place.clone(), last);
                }
            }
        }
        Ok(lines)
    }

    async fn cache(&self, now: Timestamp) -> Result<u64, Error> {
        const MOST: u32 = 500;
        let mut removed = 0;
        while !self.stop.is_cancelled() {
            let began = self.system.clock.monotonic();
            let some = self.store.cache_prune(now, MOST).await?;
            removed += some;
            if some < u64::from(MOST) {
                break;
            }
            rest(&self.system, began).await;
        }
        Ok(removed)
    }

    async fn firings(&self, now: Timestamp) -> Result<u64, Error> {
        let mut forgotten = 0;
        while !self.stop.is_cancelled() {
            let began = self.system.clock.monotonic();
            let some = self.store.forget_firings(before(now, FIRED), before(now, CONTENTS)).await?;
            forgotten += some;
            if some == 0 {
                break;
            }
            rest(&self.system, began).await;
        }
        Ok(forgotten)
    }

    /// Removes what was generated, posts, lessons and spending that are no longer kept.
    async fn content(&self, retention: &Retention, now: Timestamp) -> Result<u64, Error> {
        let mut removed = 0;
        while !self.stop.is_cancelled() {
            let began = self.system.clock.monotonic();
            let mut some = 0;
            if let Some(bound) = retention.generations {
                some += self.store.remove_generations(before(now, bound), BATCH).await?;
            }
            if let Some(bound) = retention.posts {
                some += self.store.remove_posts(before(now, bound), BATCH).await?;
                some += self.store.remove_lessons(before(now, bound), BATCH).await?;
            }
            if let Some(bound) = retention.spending {
                some += self.store.remove_spending(before(now, bound), BATCH).await?;
            }
            removed += some;
            if some == 0 {
                break;
            }
            rest(&self.system, began).await;
        }
        Ok(removed)
    }

    /// Looks at some versions a round, all of them in turn.
    async fn retire_versions(&mut self, now: Timestamp) -> Result<u64, Error> {
        let found = self.store.versions_after(&self.versions, VERSIONS).await?;
        let more = found.len() == VERSIONS as usize;
        self.versions = found.last().filter(|_| more).map(|(id, _)| id.to_string()).unwrap_or_default();
        let idle: Vec<_> = {
            let active = self.active.borrow();
            let active: HashSet<_> = active.iter().map(|pipeline| &pipeline.version).collect();
            found.into_iter().filter(|(id, needed)| !needed && !active.contains(id)).map(|(id, _)| id).collect()
        };
        self.store.retire_versions(&idle, now, before(now, IDLE)).await
    }

    async fn retire_schedules(&self, now: Timestamp) -> Result<u64, Error> {
        let active = self.active.borrow().clone();
        let known: HashSet<(&str, &str)> = active
            .iter()
            .flat_map(|pipeline| pipeline.triggers.iter().map(|trigger| (&*pipeline.name, &*trigger.id)))
            .collect();
        self.store.retire_schedules(&known, now, before(now, GONE)).await
    }

    async fn claims(&mut self, retention: &Retention, now: Timestamp) -> Result<u64, Error> {
        let Some(bound) = retention.claims else { return Ok(0) };
        let (forgotten, next) = self.store.forget_claims(before(now, bound), self.claims.take()).await?;
        self.claims = next;
        Ok(forgotten)
    }

    async fn collect(&self, now: Timestamp) -> Result<(), Error> {
        let garbage = self.store.collect_garbage(now, YOUNG).await?;
        let Garbage { files, bytes, aside, kept, kept_bytes } = garbage;
        let keeping = &self.metrics.keeping;
        keeping.blobs.fetch_add(files, Relaxed);
        keeping.blob_files.store(kept, Relaxed);
        keeping.blob_bytes.store(kept_bytes, Relaxed);
        if files + aside > 0 {
            tracing::info!(files, bytes, aside, "files that nobody names are removed or put aside");
        }
        Ok(())
    }

    async fn tend(&mut self) -> Result<(), Error> {
        let mut tended = self.store.tend().await?;
        for _ in 0..GIVEN {
            if !tended.more || self.stop.is_cancelled() {
                break;
            }
            let began = self.system.clock.monotonic();
            tended = self.store.tend().await?;
            rest(&self.system, began).await;
        }
        let (size, keeping) = (tended.size, &self.metrics.keeping);
        keeping.store_bytes.store(size.bytes, Relaxed);
        keeping.free_bytes.store(size.free_bytes, Relaxed);
        keeping.log_bytes.store(size.log_bytes, Relaxed);
        if tended.held && !self.held {
            let bytes = size.log_bytes;
            tracing::warn!(bytes, "the store's write-ahead log grows: another process reads in one long transaction");
        }
        self.held = tended.held;
        Ok(())
    }
}

/// Removes the ended runs that are no longer kept, and all that belongs to them.
///
/// # Errors
/// The store's. What was removed so far stays removed.
pub async fn prune(
    store: &Store,
    system: &System,
    scope: &Scope<'_>,
    stop: &CancellationToken,
) -> Result<Pruned, Error> {
    let now = system.clock.now();
    let mut pruned = Pruned::default();
    if !scope.dry {
        // What an earlier round left unfinished.
        sweep(store, system, stop).await?;
    }
    let pipelines = match scope.pipeline {
        Some(pipeline) => vec![pipeline.to_owned()],
        None => store.ended_pipelines().await?,
    };
    for pipeline in pipelines {
        let keep = scope.retention.of(&pipeline);
        let beyond = match keep.count {
            Some(count) => store.first_beyond(&pipeline, count).await?,
            None => None,
        };
        let Some(upto) = cut(&keep, now, beyond) else { continue };
        let (mut after, mut count) = (None, 0);
        while !stop.is_cancelled() {
            let began = system.clock.monotonic();
            let ended = store.ended_runs(&pipeline, after, upto, BATCH).await?;
            let Some(last) = ended.last() else { break };
            after = Some(*last);
            let mut runs: Vec<_> = ended.iter().map(|ended| ended.run).collect();
            let stay = store.must_stay(&runs).await?;
            runs.retain(|run| !stay.contains(run));
            pruned.stay += stay.len() as u64;
            if scope.dry {
                count += runs.len() as u64;
                continue;
            }
            count += store.remove_runs(&runs).await?;
            rest(system, began).await;
            sweep(store, system, stop).await?;
        }
        if count > 0 {
            pruned.runs.push((pipeline, count));
        }
    }
    Ok(pruned)
}

async fn sweep(store: &Store, system: &System, stop: &CancellationToken) -> Result<(), Error> {
    loop {
        let began = system.clock.monotonic();
        if !store.sweep().await? || stop.is_cancelled() {
            return Ok(());
        }
        rest(system, began).await;
    }
}

/// Returns up to which end runs go: those that ended too long ago, and those beyond the count.
fn cut(keep: &Keep, now: Timestamp, beyond: Option<Ended>) -> Option<Ended> {
    let old = keep.age.map(|age| Ended::upto(before(now, age)));
    old.max(beyond)
}

fn before(now: Timestamp, length: Duration) -> Timestamp {
    Timestamp(now.0.saturating_sub_unsigned(length.micros()))
}

/// Leaves the store to others for as long as it was busy with this.
async fn rest(system: &System, began: Duration) {
    let took = system.clock.monotonic().micros().saturating_sub(began.micros());
    system.clock.sleep_until(system.clock.now().plus(Duration::from_micros(took))).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RunId;

    #[test]
    fn age_and_count_each_let_go_of_what_is_beyond_them() {
        let at = |second: i64| Timestamp(second * 1_000_000);
        let one = |second| Ended { at: at(second), run: RunId::new(1, 7) };
        let keep = |age: Option<u64>| Keep { age: age.map(Duration::from_secs), ..Keep::default() };
        for (age, beyond, expected) in [
            (None, None, None),
            (Some(100), None, Some(Ended::upto(at(900)))),
            (None, Some(one(500)), Some(one(500))),
            (Some(100), Some(one(500)), Some(Ended::upto(at(900)))),
            (Some(100), Some(one(950)), Some(one(950))),
        ] {
            assert_eq!(cut(&keep(age), at(1_000), beyond), expected, "{age:?} {beyond:?}");
        }
    }
}
