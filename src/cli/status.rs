//! `pipewright status`: what runs, waits, is late, is in doubt.

use std::sync::Arc;

use clap::Args;

use super::Exit;
use super::Global;
use super::print;
use super::validate::open_project;
use super::validate::quietly_all;
use crate::app::App;
use crate::app::Fault;
use crate::daemon::invariant::astray_schedules;
use crate::model::Duration;
use crate::model::RunState;
use crate::model::Timestamp;
use crate::model::Value;
use crate::store::EffectFilter;
use crate::store::EffectState;
use crate::store::Presence;
use crate::store::RunFilter;
use crate::store::RunRecord;
use crate::store::WorkerRow;

/// A run that could have begun so long ago is late.
const LATE: Duration = Duration::from_secs(10);
/// At most so many runs of a kind are listed; all are counted.
const LISTED: usize = 20;

/// Shows what runs, waits, is late, or is in doubt, and whether a daemon sees to it.
#[derive(Debug, Args)]
pub(super) struct Status {
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

/// What is told of a run that has not ended.
#[derive(Debug)]
struct Line {
    run: RunRecord,
    word: &'static str,
    note: String,
}

impl Status {
    pub(super) async fn execute(self, global: &Global) -> Result<Exit, Fault> {
        let app = open_project(global).await?;
        let now = app.engine.parts().system.clock.now();
        let states = vec![RunState::Running, RunState::Queued, RunState::Waiting];
        let store = &app.engine.parts().store;
        let open = store.runs(&RunFilter { states, ..RunFilter::default() }).await?;
        // A child run is its parent's business.
        let lines: Vec<Line> = open.into_iter().filter(|run| run.parent.is_none()).map(|run| line(run, now)).collect();
        let doubts = EffectFilter { states: vec![EffectState::InDoubt], ..EffectFilter::default() };
        let doubts = store.effects(&doubts).await?.len();
        let approvals = store.open_approvals().await?;
        // To ring is to ask whether somebody is there; that it looks at the queue then does no harm.
        let daemon = app.ring().await?;
        let workers = store.workers().await?;
        // Files with faults are told by `validate`; here only what can be told counts.
        let active = Arc::new(quietly_all(global)?);
        let astray = astray_schedules(&active, &store.schedules().await?, now).len();
        if self.json {
            let workers = workers.iter().map(|worker| super::workers::json(&app, worker)).collect();
            print::line(&json(&lines, (doubts, approvals), daemon, (astray, workers)).to_string());
        } else {
            self.show(&app, &lines, (doubts, approvals), daemon, &workers);
            if astray > 0 {
                let program = super::run::program(&app);
                print::line(&format!("{astray} schedules have no next slot: `{program} schedules doctor` says why"));
            }
        }
        let late = lines.iter().any(|line| line.word == "late");
        Ok(if doubts > 0 || late || (daemon && astray > 0) { Exit::Waiting } else { Exit::Well })
    }

    fn show(&self, app: &App, lines: &[Line], (doubts, approvals): (usize, u64), daemon: bool, workers: &[WorkerRow]) {
        let counts = ["running", "queued", "late", "waiting"].map(|word| {
            let count = lines.iter().filter(|line| line.word == word).count();
            format!("{count} {word}")
        });
        let told = if approvals == 1 { "1 approval".to_owned() } else { format!("{approvals} approvals") };
        print::line(&format!("{}, {told} open, {doubts} effects in doubt", counts.join(", ")));
        let rows: Vec<_> = lines
            .iter()
            .take(LISTED)
            .map(|line| {
                let run = &line.run;
                vec![run.id.to_string(), run.pipeline.to_string(), line.word.to_owned(), print::clip(&line.note, 80)]
            })
            .collect();
        if !rows.is_empty() {
            print::table(&["run", "pipeline", "state", "note"], &rows);
        }
        if lines.len() > LISTED {
            print::talk(&format!("and {} more: `pipewright runs list`", lines.len() - LISTED));
        }
        for worker in workers.iter().filter(|worker| app.engine.lives(worker)) {
            let Presence { host, pid, roles, .. } = &worker.presence;
            let (roles, holds) = (roles.join(", "), worker.holds);
            print::talk(&format!("a daemon works on {host}, process {pid} ({roles}), with {holds} runs"));
        }
        let program = super::run::program(app);
        if approvals > 0 {
            print::hint(&format!("`{program} approvals list` shows what waits for people to decide"));
        }
        if doubts > 0 {
            print::hint(&format!("`{program} effects list --state in_doubt` shows what is in doubt"));
        }
        if !daemon {
            print::hint(&format!(
                "no daemon executes runs of this project: `{program} daemon` goes on with what waits"
            ));
        }
    }
}

fn line(run: RunRecord, now: Timestamp) -> Line {
    let due = match run.state {
        RunState::Waiting => run.waiting_until,
        _ => Some(run.created_at),
    };
    let overdue = due.map(|due| now.since(due)).filter(|late| *late > LATE && !run.owned);
    let (word, note) = match (run.state, overdue) {
        (RunState::Running, _) => ("running", String::new()),
        (_, Some(late)) => ("late", format!("by {}", print::length(late))),
        (RunState::Waiting, None) => ("waiting", waits(&run, now)),
        _ => ("queued", format!("priority {}", run.priority)),
    };
    Line { run, word, note }
}

fn waits(run: &RunRecord, now: Timestamp) -> String {
    let reason = run.reason.as_deref().unwrap_or_default();
    match run.waiting_until {
        Some(until) => format!("{reason} (in {})", print::length(until.since(now))),
        None => reason.to_owned(),
    }
}

fn json(
    lines: &[Line],
    (doubts, approvals): (usize, u64),
    daemon: bool,
    (astray, workers): (usize, Vec<Value>),
) -> Value {
    let runs = lines.iter().map(|line| {
        Value::map([
            ("run", Value::from(line.run.id.to_string())),
            ("pipeline", Value::from(&*line.run.pipeline)),
            ("state", Value::from(line.word)),
            ("until", line.run.waiting_until.map_or(Value::Null, Value::Time)),
            ("note", Value::from(line.note.as_str())),
        ])
    });
    Value::map([
        ("daemon", Value::Bool(daemon)),
        ("daemons", Value::list(workers)),
        ("in_doubt", Value::Int(doubts as i128)),
        ("approvals", Value::Int(approvals.into())),
        ("schedules_astray", Value::Int(astray as i128)),
        ("runs", Value::list(runs.collect())),
    ])
}
