//! `pipewright workers`.

use clap::Args;

use super::Exit;
use super::Global;
use super::print;
use super::validate::open_project;
use crate::app::App;
use crate::app::Fault;
use crate::model::Value;
use crate::store::WorkerRow;

/// Lists the daemons that work on this project, on whatever machines.
#[derive(Debug, Args)]
pub(super) struct Workers {
    /// Print one a line as JSON.
    #[arg(long)]
    json: bool,
}

impl Workers {
    pub(super) async fn execute(self, global: &Global) -> Result<Exit, Fault> {
        let app = open_project(global).await?;
        let workers = app.engine.parts().store.workers().await?;
        if self.json {
            for worker in &workers {
                print::line(&json(&app, worker).to_string());
            }
            return Ok(Exit::Well);
        }
        if workers.is_empty() {
            let program = super::run::program(&app);
            print::talk(&format!("no daemon works on this project; `{program} daemon` starts one"));
            return Ok(Exit::Well);
        }
        let rows = workers.iter().map(|worker| {
            let presence = &worker.presence;
            vec![
                presence.host.clone(),
                presence.pid.to_string(),
                presence.roles.join(", "),
                worker.holds.to_string(),
                worker.started_at.to_string(),
                seen(&app, worker),
                presence.version.clone(),
            ]
        });
        print::table(&["host", "pid", "roles", "runs", "since", "seen", "version"], &rows.collect::<Vec<_>>());
        Ok(Exit::Well)
    }
}

/// Tells when a daemon was last known to live.
fn seen(app: &App, worker: &WorkerRow) -> String {
    let lives = app.engine.lives(worker);
    match (lives, app.engine.parts().store.is_shared()) {
        (true, false) => "now".to_owned(),
        (true, true) => format!("{} ago", print::length(worker.silent)),
        (false, true) => format!("{} ago: gone, or cut off", print::length(worker.silent)),
        (false, false) => "gone".to_owned(),
    }
}

pub(super) fn json(app: &App, worker: &WorkerRow) -> Value {
    let presence = &worker.presence;
    Value::map([
        ("id", Value::from(presence.id.as_str())),
        ("host", presence.host.as_str().into()),
        ("pid", Value::Int(i128::from(presence.pid))),
        ("roles", Value::list(presence.roles.iter().map(|role| role.as_str().into()).collect())),
        ("runs", Value::Int(i128::from(worker.holds))),
        ("since", Value::Time(worker.started_at)),
        ("lives", Value::Bool(app.engine.lives(worker))),
        ("version", presence.version.as_str().into()),
    ])
}
