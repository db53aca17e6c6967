//! `pipewright runs prune`.

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use tokio_util::sync::CancellationToken;

use super::Exit;
use super::complete;
use super::interrupts::Interrupts;
use super::print;
use crate::app::App;
use crate::app::Fault;
use crate::daemon::keeper;
use crate::daemon::keeper::Scope;
use crate::model::Duration;
use crate::pipeline::Keep;
use crate::pipeline::Retention;

/// Which runs are removed.
#[derive(Clone, Debug, Args)]
pub(super) struct Arguments {
    /// Only say how many it would be.
    #[arg(long)]
    dry: bool,
    /// Remove runs that ended longer ago, e.g. `30d`, instead of what the project file says.
    #[arg(long, value_name = "DURATION")]
    older_than: Option<Duration>,
    /// Keep so many of each pipeline, the newest, instead of what the project file says.
    #[arg(long, value_name = "N")]
    keep: Option<u64>,
    /// Only runs of this pipeline.
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(complete::pipelines))]
    pipeline: Option<String>,
    /// Write the database anew afterwards, as small as it can be; nobody else can write meanwhile.
    #[arg(long, conflicts_with = "dry")]
    compact: bool,
}

pub(super) async fn prune(app: &App, arguments: Arguments) -> Result<Exit, Fault> {
    let Arguments { dry, older_than, keep, pipeline, compact } = arguments;
    let retention = match (older_than, keep) {
        (None, None) => app.project.retention.clone(),
        // What is stated counts alone.
        (age, count) => Retention::every(Keep { age, count, logs: None, wire: None }),
    };
    let parts = app.engine.parts();
    let stop = CancellationToken::new();
    let scope = Scope { retention: &retention, pipeline: pipeline.as_deref(), dry };
    let mut interrupts = Interrupts::listen()?;
    let pruning = keeper::prune(&parts.store, &parts.system, &scope, &stop);
    tokio::pin!(pruning);
    let pruned = loop {
        tokio::select! {
            pruned = &mut pruning => break pruned?,
            () = interrupts.next() => stop.cancel(),
        }
    };
    let rows: Vec<_> = pruned.runs.iter().map(|(name, count)| vec![name.clone(), count.to_string()]).collect();
    if !rows.is_empty() {
        print::table(&["pipeline", if dry { "would go" } else { "removed" }], &rows);
    }
    let count: u64 = pruned.runs.iter().map(|(_, count)| count).sum();
    let verb = if dry { "would be removed" } else { "are removed" };
    print::talk(&format!("{count} runs {verb}"));
    if pruned.stay > 0 {
        let program = super::run::program(app);
        print::talk(&format!("{} runs stay: an effect of theirs is not settled", pruned.stay));
        print::hint(&format!("`{program} effects list --state in_doubt` shows what is in doubt"));
    }
    if stop.is_cancelled() {
        return Ok(Exit::Interrupted);
    }
    if compact {
        let before = parts.store.size().await?.bytes;
        parts.store.compact().await?;
        let after = parts.store.size().await?.bytes;
        print::talk(&format!("the database has {after} bytes, {before} before"));
    }
    Ok(Exit::Well)
}
