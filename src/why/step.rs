//! A step: what it waits for, or how it ended.

use super::Asker;
use super::Case;
use super::Cause;
use super::history::Last;
use super::history::StepRun;
use super::history::whole;
use super::words;
use crate::approval;
use crate::approval::Request;
use crate::approval::Standing;
use crate::model::Ask;
use crate::model::ErrorClass;
use crate::model::Phase;
use crate::model::RunId;
use crate::model::StepError;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::model::Value;
use crate::pipeline::Graph;
use crate::pipeline::OnError;
use crate::pipeline::Step;
use crate::store;

/// So many of the attempts, items and reasons of a kind are told one by one.
const MOST: usize = 10;

impl Case {
    fn graph(&self, phase: Phase) -> Option<&Graph> {
        self.pipeline.as_ref().map(|pipeline| pipeline.graph(phase))
    }

    pub(super) fn step(&self, path: &StepPath) -> Option<&Step> {
        self.graph(path.phase)?.step(&path.step)
    }

    /// Tells whether there is such a step, by the definition or by the journal.
    pub(super) fn has(&self, path: &StepPath) -> bool {
        let item = path.item.and_then(|item| usize::try_from(item).ok());
        let items = self.history.items.get(&whole(path)).copied();
        let known = self.step(path).is_some() || self.history.step_runs.keys().any(|known| known.step == path.step);
        known && item.is_none_or(|item| items.is_some_and(|items| item < items))
    }
}

impl Asker {
    /// Says why a step is as it is, or one item of it.
    pub(super) async fn of_step(&self, case: &Case, path: &StepPath, trail: &[RunId]) -> Result<Cause, store::Error> {
        let path = &StepPath { round: None, ..path.clone() };
        if let Some(run) = case.history.step_runs.get(path) {
            return self.of_step_run(case, path, run, trail).await;
        }
        let about = |text: String| Cause::new("step", text).with("step", path.to_string());
        // A whole step has ended with the last of its items, or stands over those that go on.
        if let (None, Some(items)) = (path.item, case.history.items.get(path)) {
            let of_step = |other: &StepPath| other.item.is_some() && whole(other) == *path;
            let own: Vec<_> = case.history.step_runs.iter().filter(|(other, _)| of_step(other)).collect();
            let over = own.iter().filter(|(_, run)| run.last.is_over()).count();
            let mut cause = about(format!("step `{path}`: {over} of {items} items have ended"));
            let telling = own.iter().filter(|(_, run)| !matches!(run.last, Last::Succeeded { recovered: None, .. }));
            for (other, run) in telling.take(MOST) {
                cause = cause.because([self.of_step_run(case, other, run, trail).await?]);
            }
            return Ok(cause);
        }
        if let Some(run) = case.history.step_runs.get(&whole(path)).filter(|run| run.last.is_over()) {
            return self.of_step_run(case, &whole(path), run, trail).await;
        }
        let cause = about(format!("step `{path}` has not started"));
        Ok(cause.because(self.of_pending(case, path, trail).await?))
    }

    /// Says what keeps a step from starting.
    async fn of_pending(&self, case: &Case, path: &StepPath, trail: &[RunId]) -> Result<Vec<Cause>, store::Error> {
        if let Some((at, state)) = case.history.ended {
            return Ok(vec![Cause::new("ended", format!("the run {} at {}", state.name(), words::at(at, self.now)))]);
        }
        if path.phase != Phase::Main && path.phase != case.history.phase {
            let text = format!("`{}` begins when the outcome of the run is clear", path.phase.name());
            return Ok(vec![Cause::new("phase", text)]);
        }
        let mut causes = Vec::new();
        let needs = case.step(path).map(|step| step.needs.clone()).unwrap_or_default();
        for need in needs {
            let Some(step) = case.graph(path.phase).and_then(|graph| graph.steps.get(need)) else { continue };
            let needed = StepPath { step: step.id.clone(), item: None, round: None, ..path.clone() };
            let ended = case.history.step_runs.get(&needed).is_some_and(|run| run.last.is_over());
            if !ended && !case.items_are_over(&needed) {
                let why = Box::pin(self.of_step(case, &needed, trail)).await?;
                causes.push(Cause::new("needs", format!("it needs `{}`", step.id)).because([why]));
            }
        }
        if causes.is_empty() {
            // Nothing keeps it but the run itself.
            causes.push(match case.record.started_at {
                None => self.of_run_alone(case, trail).await?,
                Some(_) if case.record.owned => Cause::new("soon", "it starts as soon as the run has a free place"),
                Some(_) => self.of_run_alone(case, trail).await?,
            });
        }
        Ok(causes)
    }

    async fn of_run_alone(&self, case: &Case, trail: &[RunId]) -> Result<Cause, store::Error> {
        Box::pin(self.of_run(case, trail)).await
    }

    /// Says what was last heard of a step run, and why.
    pub(super) async fn of_step_run(
        &self,
        case: &Case,
        path: &StepPath,
        run: &StepRun,
        trail: &[RunId],
    ) -> Result<Cause, store::Error> {
        let name = format!("step `{path}`");
        let at = |moment: Timestamp| words::at(moment, self.now);
        let about = |state: &'static str, text: String| {
            Cause::new("step", text).with("step", path.to_string()).with("state", state).with("attempt", run.attempt)
        };
        let step = case.step(path);
        let most = step.map_or(1, |step| step.retry.attempts);
        Ok(match &run.last {
            Last::Running { since } => match run.child {
                Some(child) => {
                    let why = self.of_other(child, trail).await?;
                    about("running", format!("{name} runs a pipeline of its own")).because([why])
                }
                None if case.record.owned => {
                    let attempt =
                        if run.attempt > 1 { format!(", attempt {} of {most}", run.attempt) } else { String::new() };
                    about("running", format!("{name} is under way since {}{attempt}", at(*since)))
                }
                None => about("running", format!("{name} was under way when its process ended, since {}", at(*since))),
            },
            Last::PutOff { until, reason } => {
                let cause = Cause::new("limit", reason.message.clone()).with("until", Value::Time(*until));
                about("waiting", format!("{name} waits until {}: nothing was sent", at(*until))).because([cause])
            }
            Last::Retrying { until, error } => {
                let text = format!("{name} is tried again at {}: attempt {} of {most} failed", at(*until), run.attempt);
                let cause = Cause::new("error", error.to_string()).with("class", error.class.name());
                about("waiting", text).with("until", Value::Time(*until)).because([cause])
            }
            Last::Waiting { since, until, reason } => {
                let causes = self.of_wait(case, path, run, reason, trail).await?;
                let text = match until {
                    Some(until) => format!("{name} sleeps until {}: {reason}", at(*until)),
                    None => format!("{name} {} since {}", verb(reason), at(*since)),
                };
                about("waiting", text).because(causes)
            }
            Last::Asks { since, ask } => {
                let text = format!("{name} {} (asked {})", ask.reason, at(*since));
                about("waiting", text).with("approval", &*ask.id.0).because(self.of_ask(ask).await?)
            }
            Last::NextRound { until } => {
                let limit = step.and_then(|step| step.until.as_ref()).map_or(0, |until| until.limit);
                let text = format!("{name} did not hold yet; round {} of {limit} begins at {}", run.round, at(*until));
                about("waiting", text).with("until", Value::Time(*until))
            }
            Last::InDoubt { since, error } => {
                let cause = Cause::new("error", error.to_string()).with("class", error.class.name());
                let text = format!("{name} is in doubt since {}: the answer to its write was lost", at(*since));
                let person = case.record.reason.as_deref().filter(|reason| reason.starts_with("in doubt"));
                let person = person.map(|reason| Cause::new("person", reason));
                about("waiting", text).because([cause]).because(person)
            }
            Last::Succeeded { at: ended, recovered } => {
                let attempts = if run.attempt > 1 { format!(", at attempt {}", run.attempt) } else { String::new() };
                let recovered = recovered
                    .as_ref()
                    .map(|error| Cause::new("recovered", format!("`on_error` gave a default instead of: {error}")));
                about("succeeded", format!("{name} succeeded at {}{attempts}", at(*ended))).because(recovered)
            }
            Last::Failed { at: ended, error } => about("failed", format!("{name} failed at {}: {error}", at(*ended)))
                .with("class", error.class.name())
                .because(self.of_failure(run, step, error)),
            Last::Skipped { at: ended, reason } => {
                about("skipped", format!("{name} was skipped at {}: {reason}", at(*ended))).because(of_when(case, step))
            }
            Last::Canceled { at: ended } => {
                let causes = self.of_canceled(case, path, trail).await?;
                about("canceled", format!("{name} was canceled at {}", at(*ended))).because(causes)
            }
        })
    }

    /// Says what a wait without an answer of its own is for: a child run, a lock.
    async fn of_wait(
        &self,
        case: &Case,
        path: &StepPath,
        run: &StepRun,
        reason: &str,
        trail: &[RunId],
    ) -> Result<Vec<Cause>, store::Error> {
        if let Some(child) = run.child {
            return Ok(vec![self.of_other(child, trail).await?]);
        }
        let mut causes = Vec::new();
        for waiting in self.store.requests_of(case.record.id).await? {
            if waiting.path.as_ref().is_some_and(|other| whole(other) == whole(path) && other.item == path.item) {
                causes.push(self.of_permit(&waiting, trail).await?);
            }
        }
        // A pause that the file asks for says so itself.
        let asked = case.step(path).and_then(|step| match reason {
            "`at`" => step.at.as_ref(),
            "`delay`" => step.delay.as_ref(),
            _ => None,
        });
        causes.extend(asked.map(|template| Cause::new("expression", format!("{reason} is `{}`", template.source()))));
        Ok(causes)
    }

    /// Says how far an approval is.
    async fn of_ask(&self, ask: &Ask) -> Result<Vec<Cause>, store::Error> {
        let mut causes = Vec::new();
        let Some(request) = Request::from_value(&ask.request) else { return Ok(causes) };
        let votes = self.store.votes(&ask.id).await?;
        if let Standing::Open { approvals, rejections } = approval::standing(&request, &votes) {
            let said = votes
                .iter()
                .map(|vote| format!("`{}` {}", vote.person, if vote.approves { "approves" } else { "rejects" }));
            let said: Vec<_> = said.collect();
            let who = if said.is_empty() { "nobody has said anything".to_owned() } else { said.join(", ") };
            let text = format!(
                "{approvals} of {} approve, {rejections} of {} reject: {who}",
                request.quorum, request.rejections
            );
            causes.push(Cause::new("votes", text).with("approvals", approvals).with("rejections", rejections));
        } else {
            causes.push(Cause::new("votes", "it is decided, and the run has not gone on yet"));
        }
        if !request.approvers.is_empty() {
            let asked = self.people.iter().filter(|person| approval::is_asked(&request, person));
            let asked: Vec<_> = asked.map(|person| format!("`{}`", person.name)).collect();
            let text = match asked.len() {
                0 => format!("nobody in the project file is asked: it asks {}", request.asked()),
                _ => format!("those who are asked: {}", asked.join(", ")),
            };
            causes.push(Cause::new("people", text));
        }
        Ok(causes)
    }

    /// Says why no further attempt was made.
    fn of_failure(&self, run: &StepRun, step: Option<&Step>, error: &StepError) -> Vec<Cause> {
        let mut causes = Vec::new();
        let Some(step) = step else { return causes };
        let retry = &step.retry;
        let text = if error.class == ErrorClass::Locked && error.message.starts_with("a deadlock") {
            "a step that gives way is not tried again: what others wait for is free when its run ends".to_owned()
        } else if !retry.on.contains(&error.class) {
            let classes = retry.on.iter().map(|class| class.name()).collect::<Vec<_>>().join(", ");
            format!("errors of class `{}` are not retried: `retry.on` is {classes}", error.class.name())
        } else if run.attempt >= retry.attempts && retry.attempts > 1 {
            format!("its {} attempts are used up", retry.attempts)
        } else if retry.attempts <= 1 {
            "it is tried once: it has no `retry`".to_owned()
        } else {
            format!("attempt {} of {} was the last that this failure allows", run.attempt.max(1), retry.attempts)
        };
        causes.push(Cause::new("retry", text).with("attempts", retry.attempts));
        let earlier = run.failures.iter().rev().skip(1).take(MOST);
        causes.extend(earlier.map(|(at, attempt, error)| {
            Cause::new("attempt", format!("attempt {attempt} failed at {}: {error}", words::at(*at, self.now)))
        }));
        if matches!(step.on_error, OnError::Continue) {
            causes.push(Cause::new("on_error", "the run goes on: `on_error: continue`"));
        }
        causes
    }

    /// Says what a step was canceled over: a step that it needs, or the end of the run.
    async fn of_canceled(&self, case: &Case, path: &StepPath, trail: &[RunId]) -> Result<Vec<Cause>, store::Error> {
        let mut causes = Vec::new();
        let needs = case.step(path).map(|step| step.needs.clone()).unwrap_or_default();
        for need in needs {
            let Some(step) = case.graph(path.phase).and_then(|graph| graph.steps.get(need)) else { continue };
            let needed = StepPath { step: step.id.clone(), item: None, round: None, ..path.clone() };
            let hard = |run: &StepRun| match run.last {
                Last::Failed { .. } => !matches!(step.on_error, OnError::Continue),
                Last::Canceled { .. } => true,
                _ => false,
            };
            let failed_item = case.history.step_runs.iter().find(|(other, run)| whole(other) == needed && hard(run));
            if let Some((other, run)) = failed_item {
                causes.push(Box::pin(self.of_step_run(case, other, run, trail)).await?);
            }
        }
        if causes.is_empty() {
            let cancel = case.history.cancel.as_ref().map(|(at, reason)| {
                let why = reason.as_deref().unwrap_or("somebody asked for it");
                Cause::new("cancel", format!("the run was canceled at {}: {why}", words::at(*at, self.now)))
            });
            let error = case.record.error.as_ref().map(|error| Cause::new("error", format!("the run ended: {error}")));
            causes.extend(cancel.or(error));
        }
        Ok(causes)
    }
}

impl Case {
    fn items_are_over(&self, step: &StepPath) -> bool {
        let Some(items) = self.history.items.get(step) else { return false };
        let own = self.history.step_runs.iter().filter(|(other, _)| other.item.is_some() && whole(other) == *step);
        own.filter(|(_, run)| run.last.is_over()).count() >= *items
    }
}

/// Says what `when` is, and what it reads of the inputs.
fn of_when(case: &Case, step: Option<&Step>) -> Option<Cause> {
    let when = step?.when.as_ref()?;
    let mut read = Vec::new();
    for reference in when.references() {
        if let [root, name, ..] = reference.path.as_slice()
            && &**root == "inputs"
        {
            let value = case.record.inputs.get(name).cloned().unwrap_or_default();
            read.push(format!("`inputs.{name}` is {value}"));
        }
    }
    read.dedup();
    let read = if read.is_empty() { String::new() } else { format!("; {}", read.join(", ")) };
    Some(Cause::new("when", format!("`when` is `{}`{read}", when.source())))
}

/// Returns a reason as the verb of a sentence.
fn verb(reason: &str) -> String {
    if reason.starts_with("waits") { reason.to_owned() } else { format!("waits: {reason}") }
}
