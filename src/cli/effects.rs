//! `pipewright effects`.

use clap::Subcommand;
use clap_complete::engine::ArgValueCandidates;

use super::Exit;
use super::Global;
use super::complete;
use super::print;
use super::run::View;
use super::run::follow;
use super::runs::find;
use super::validate::open_project;
use super::validate::stored_pipeline;
use crate::app::App;
use crate::app::Fault;
use crate::engine::Signal;
use crate::model::EffectId;
use crate::model::Value;
use crate::model::Verdict;
use crate::model::parse_json;
use crate::store::EffectFilter;
use crate::store::EffectRecord;
use crate::store::EffectState;

/// What can be done with effects.
#[derive(Debug, Subcommand)]
pub(super) enum Effects {
    /// List writes to the outside world, the newest first.
    List {
        /// Only effects of this run.
        #[arg(long, add = ArgValueCandidates::new(complete::runs))]
        run: Option<String>,
        /// Only effects in this state: open, confirmed, refused, in_doubt, dropped.
        #[arg(long, value_name = "STATE", value_parser = state)]
        state: Option<EffectState>,
        /// How many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Show one effect with the request that was sent, secrets masked.
    Show {
        /// The effect's id.
        #[arg(add = ArgValueCandidates::new(complete::effects))]
        effect: String,
    },
    /// Say what became of an effect in doubt, and go on with its run.
    Resolve {
        /// The effect's id.
        #[arg(add = ArgValueCandidates::new(complete::effects))]
        effect: String,
        /// It happened; `--output` is what the step gives.
        #[arg(long, conflicts_with_all = ["did_not_happen", "drop"])]
        happened: bool,
        /// It did not happen: it is sent again.
        #[arg(long, conflicts_with = "drop")]
        did_not_happen: bool,
        /// Leave it as it is: the step counts as skipped.
        #[arg(long)]
        drop: bool,
        /// The output of the step, as JSON.
        #[arg(long, requires = "happened", value_name = "JSON")]
        output: Option<String>,
    },
}

fn state(text: &str) -> Result<EffectState, String> {
    EffectState::by_name(text).ok_or_else(|| "open, confirmed, refused, in_doubt, dropped".to_owned())
}

impl Effects {
    pub(super) async fn execute(self, global: &Global) -> Result<Exit, Fault> {
        let app = open_project(global).await?;
        match self {
            Self::List { run, state, limit } => {
                let run = match run {
                    Some(run) => Some(find(&app, &run).await?.id),
                    None => None,
                };
                let filter = EffectFilter { states: state.into_iter().collect(), run, limit: Some(limit) };
                list(&app, &filter).await
            }
            Self::Show { effect } => show(&get(&app, &effect).await?),
            Self::Resolve { effect, happened, did_not_happen, drop, output } => {
                let verdict = match (happened, did_not_happen, drop) {
                    (true, false, false) => {
                        let output = output.map(|text| parse_json(&text)).transpose();
                        let output =
                            output.map_err(|error| Fault::Usage(format!("`--output` is not JSON: {error}")))?;
                        Verdict::Happened { output: output.unwrap_or(Value::Null), remote_id: None }
                    }
                    (false, true, false) => Verdict::SendAgain,
                    (false, false, true) => Verdict::Dropped,
                    _ => {
                        let text = "say what became of it: --happened, --did-not-happen or --drop";
                        return Err(Fault::Usage(text.to_owned()));
                    }
                };
                resolve(&app, &get(&app, &effect).await?, verdict).await
            }
        }
    }
}

async fn get(app: &App, id: &str) -> Result<EffectRecord, Fault> {
    let found = app.engine.parts().store.effect(&EffectId(id.into())).await?;
    found.ok_or_else(|| Fault::Usage(format!("there is no effect `{id}`; `pipewright effects list` shows them")))
}

async fn list(app: &App, filter: &EffectFilter) -> Result<Exit, Fault> {
    let effects = app.engine.parts().store.effects(filter).await?;
    if effects.is_empty() {
        print::talk("no such effects");
        return Ok(Exit::Well);
    }
    let rows = effects.iter().map(|effect| {
        let note = effect.error.as_ref().map(ToString::to_string);
        let note = note.or_else(|| effect.settled_by.map(|by| format!("settled by {}", by.name()))).unwrap_or_default();
        vec![
            effect.id.to_string(),
            effect.kind.name().to_owned(),
            effect.state.name().replace('_', " "),
            effect.intended_at.to_string(),
            print::clip(&note, 60),
        ]
    });
    print::table(&["effect", "kind", "state", "intended", "note"], &rows.collect::<Vec<_>>());
    Ok(Exit::Well)
}

fn show(effect: &EffectRecord) -> Result<Exit, Fault> {
    let settled = effect.settled_by.map_or("", crate::model::SettledBy::name);
    for (name, text) in [
        ("effect", effect.id.to_string()),
        ("key", effect.key.to_string()),
        ("kind", effect.kind.name().to_owned()),
        ("state", effect.state.name().replace('_', " ")),
        ("attempts", effect.attempt.to_string()),
        ("intended", effect.intended_at.to_string()),
        ("changed", effect.updated_at.to_string()),
        ("error", effect.error.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("remote id", effect.remote_id.clone().unwrap_or_default()),
        ("settled by", settled.to_owned()),
    ] {
        if !text.is_empty() {
            print::line(&format!("{name:<11} {}", print::clean(&text)));
        }
    }
    print::line(&format!("request     {}", print::pretty(effect.request.as_ref().unwrap_or(&Value::Null))));
    Ok(Exit::Well)
}

async fn resolve(app: &App, effect: &EffectRecord, verdict: Verdict) -> Result<Exit, Fault> {
    if !matches!(effect.state, EffectState::InDoubt | EffectState::Open) {
        return Err(Fault::Usage(format!("effect `{}` is {}, not in doubt", effect.id, effect.state.name())));
    }
    let id = effect.id.to_string();
    app.engine.signal(effect.run, &Signal::Resolve { effect: id, verdict }).await?;
    if app.ring().await? {
        print::talk(&format!("the daemon goes on with run {}", effect.run));
        return Ok(Exit::Well);
    }
    let store = &app.engine.parts().store;
    let owner = store.lease(effect.run).await?.and_then(|lease| lease.owner);
    if owner.is_some_and(|owner| !(app.engine.parts().owner_is_gone)(&owner)) {
        print::talk(&format!("run {} is told; the process that executes it goes on within a second", effect.run));
        return Ok(Exit::Well);
    }
    let Some(run) = store.run(effect.run).await? else {
        return Err(Fault::Usage(format!("run `{}` is gone", effect.run)));
    };
    let pipeline = stored_pipeline(app, &run.version).await?;
    follow(app, run.id, pipeline, None, View { json: false, quiet: false, foreground: true }).await
}
