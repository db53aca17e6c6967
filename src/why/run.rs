//! A run: queued, held, waiting, or how it ended.

use super::Asker;
use super::Case;
use super::Cause;
use super::history::Last;
use super::words;
use crate::model::RunId;
use crate::model::RunState;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::model::Value;
use crate::pipeline::OnError;
use crate::store;
use crate::store::Gate;
use crate::store::RunRecord;
use crate::store::Waiting;

/// So many open step runs are told of one by one.
const MOST: usize = 10;

impl Asker {
    pub(super) async fn of_run(&self, case: &Case, trail: &[RunId]) -> Result<Cause, store::Error> {
        let record = &case.record;
        let trail = &[trail, &[record.id]].concat();
        let name = format!("run {} of `{}`", record.id, record.pipeline);
        let about = |text: String| {
            Cause::new("run", text)
                .with("run", record.id.to_string())
                .with("pipeline", &*record.pipeline)
                .with("state", record.state.name())
        };
        let ended = record.ended_at.unwrap_or(self.now);
        Ok(match record.state {
            RunState::Succeeded => about(format!("{name} succeeded at {}", words::at(ended, self.now))),
            RunState::Failed => {
                let error = record.error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
                let causes = self.of_failures(case, trail).await?;
                about(format!("{name} failed at {}{error}", words::at(ended, self.now))).because(causes)
            }
            RunState::Canceled => {
                about(format!("{name} was canceled at {}", words::at(ended, self.now))).because(self.of_cancel(case))
            }
            RunState::Queued => {
                let since = if record.started_at.is_some() { self.now } else { record.created_at };
                let text = if record.started_at.is_some() {
                    format!("{name} can go on and is queued for that")
                } else {
                    format!("{name} is queued since {}", words::at(since, self.now))
                };
                about(text).because(self.of_queue(record, trail).await?)
            }
            RunState::Running => {
                let holder = self.of_holder(record).await?;
                let text =
                    if record.owned { format!("{name} is being executed") } else { format!("{name} stands still") };
                about(text).because([holder]).because(self.of_open(case, trail).await?)
            }
            RunState::Waiting => {
                let since = case.history.parked.map(|at| format!(" since {}", words::at(at, self.now)));
                let cause = about(format!("{name} waits{}", since.unwrap_or_default()));
                let open = self.of_open(case, trail).await?;
                // What no step tells, the run itself does: it is held, say.
                let own = record.reason.clone().filter(|_| open.is_empty());
                let own = own.map(|reason| Cause::new("held", reason));
                let overdue = record.waiting_until.filter(|until| *until <= self.now && !record.owned);
                let late = overdue.map(|until| self.of_nobody("late", until));
                cause.because(own).because(open).because(late)
            }
        })
    }

    /// Says that something is due and nobody does it.
    fn of_nobody(&self, kind: &'static str, until: Timestamp) -> Cause {
        let why = if self.daemon { "the daemon has not come to it yet" } else { "no daemon works on this project" };
        Cause::new(kind, format!("it could have gone on at {}: {why}", words::at(until, self.now)))
            .with("due", Value::Time(until))
            .with("daemon", self.daemon)
    }

    fn of_cancel(&self, case: &Case) -> Option<Cause> {
        let (at, reason) = case.history.cancel.as_ref()?;
        let text = match reason {
            Some(reason) => format!("{reason} ({})", words::at(*at, self.now)),
            None => format!("somebody asked for it at {}", words::at(*at, self.now)),
        };
        Some(Cause::new("cancel", text).with("at", Value::Time(*at)))
    }

    /// Says which steps failed the run; where none did, its error says all there is.
    async fn of_failures(&self, case: &Case, trail: &[RunId]) -> Result<Vec<Cause>, store::Error> {
        let mut causes = Vec::new();
        let mut told: Vec<StepPath> = Vec::new();
        for (path, run) in &case.history.step_runs {
            let fails = case.step(path).is_none_or(|step| matches!(step.on_error, OnError::Fail));
            if !matches!(run.last, Last::Failed { .. }) || !fails || path.phase != crate::model::Phase::Main {
                continue;
            }
            told.push(path.clone());
            if told.len() <= MOST {
                causes.push(self.of_step_run(case, path, run, trail).await?);
            }
        }
        Ok(causes)
    }

    async fn of_queue(&self, record: &RunRecord, trail: &[RunId]) -> Result<Vec<Cause>, store::Error> {
        match record.gate {
            Gate::Parent => {
                let Some((parent, path)) = &record.parent else { return Ok(Vec::new()) };
                let text = format!("only its parent executes it: run {parent}, step `{path}`");
                Ok(vec![Cause::new("parent", text).with("run", parent.to_string()).with("step", path.to_string())])
            }
            Gate::Permits => {
                let mut causes = Vec::new();
                for waiting in self.store.requests_of(record.id).await?.iter().filter(|it| it.path.is_none()) {
                    causes.push(self.of_permit(waiting, trail).await?);
                }
                Ok(causes)
            }
            Gate::Open => {
                let ahead = self.store.ahead_of(record.turn, record.id).await?;
                let mut causes = Vec::new();
                let total: u64 = ahead.iter().map(|(_, count)| count).sum();
                if total > 0 {
                    let parts = ahead
                        .iter()
                        .map(|(priority, count)| format!("{} of priority {priority}", words::count(*count, "run")));
                    let text = format!("behind {}", parts.collect::<Vec<_>>().join(", "));
                    causes.push(Cause::new("queue", text).with("ahead", i64::try_from(total).unwrap_or(i64::MAX)));
                }
                causes.push(self.of_workers().await?);
                Ok(causes)
            }
        }
    }

    /// Says who works off the queue.
    async fn of_workers(&self) -> Result<Cause, store::Error> {
        let counts = self.store.run_counts().await?;
        let running = counts.iter().find(|(state, _)| state == "running").map_or(0, |(_, count)| *count);
        let text = if self.daemon {
            format!("the daemon works off the queue; {} under way", words::count(running, "run"))
        } else {
            "no daemon works on this project, so nobody works off the queue".to_owned()
        };
        Ok(Cause::new("daemon", text).with("daemon", self.daemon))
    }

    /// Says who holds a run that is being executed.
    async fn of_holder(&self, record: &RunRecord) -> Result<Cause, store::Error> {
        let lease = self.store.lease(record.id).await?;
        let Some((owner, lease)) = lease.and_then(|lease| Some((lease.owner.clone()?, lease))) else {
            let text = match &record.parent {
                Some((parent, _)) => format!("its parent goes on with it: run {parent}"),
                None => "its process was stopped or ended; `pipewright runs resume` goes on with it".to_owned(),
            };
            return Ok(Cause::new("nobody", text));
        };
        let (process, space) = owner.split_once('@').unwrap_or((&owner, ""));
        let here = self.owner.split_once('@').is_some_and(|(_, own)| own == space);
        let text = if (self.owner_is_gone)(&owner) {
            format!("process {process}, which held it, is gone; the daemon takes it over")
        } else if here {
            format!("process {process} of this machine holds it, and lives")
        } else {
            format!("process {process} of another machine holds it; without a beat for 15 s it is taken over")
        };
        Ok(Cause::new("holder", text)
            .with("owner", owner.as_str())
            .with("fence", lease.fence.0)
            .with("beat", lease.beat))
    }

    /// Says what a run or a step run waits for, who holds it, and who stands before it.
    pub(super) async fn of_permit(&self, waiting: &Waiting, trail: &[RunId]) -> Result<Cause, store::Error> {
        let what = store::describe(&waiting.scope);
        let most = if waiting.most == 1 { "one at a time".to_owned() } else { format!("{} at a time", waiting.most) };
        let line = self.store.line_for(&waiting.scope).await?;
        let own = |other: &&Waiting| other.run != waiting.run || other.path != waiting.path;
        let before = line.iter().take_while(own).count();
        let mut cause = Cause::new("permit", format!("it waits for {what}, {most}"))
            .with("scope", waiting.scope.as_str())
            .with("before", i64::try_from(before).unwrap_or(i64::MAX));
        for permit in self.store.holders(&waiting.scope).await?.into_iter().take(MOST) {
            let step = permit.path.as_ref().map(|path| format!(", step `{path}`")).unwrap_or_default();
            let since = self.store.run(permit.run).await?.and_then(|run| run.started_at);
            let since = since.map(|at| format!(", which began at {}", words::at(at, self.now))).unwrap_or_default();
            let held = Cause::new("holder", format!("it is held by run {}{step}{since}", permit.run))
                .with("run", permit.run.to_string());
            let why = if permit.run == waiting.run { None } else { Some(self.of_other(permit.run, trail).await?) };
            cause = cause.because([held.because(why)]);
        }
        if before > 0 {
            let text = format!("{} stand before it", words::count(u64::try_from(before).unwrap_or(0), "other"));
            cause = cause.because([Cause::new("line", text)]);
        }
        Ok(cause)
    }

    /// Says of each open step run what it does or waits for.
    async fn of_open(&self, case: &Case, trail: &[RunId]) -> Result<Vec<Cause>, store::Error> {
        let mut causes = Vec::new();
        let mut more = 0;
        for (path, run) in case.history.open() {
            // A step with items says nothing by itself.
            if causes.len() < MOST {
                causes.push(self.of_step_run(case, path, run, trail).await?);
            } else {
                more += 1;
            }
        }
        if more > 0 {
            causes.push(Cause::new("more", format!("and {} more", words::count(more, "step run"))));
        }
        Ok(causes)
    }
}
