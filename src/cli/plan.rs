//! `pipewright plan` and `pipewright apply`: what a run would do, and doing exactly that.

mod budgets;
mod show;

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use clap::ValueHint;
use clap_complete::engine::ArgValueCandidates;
use rust_decimal::Decimal;

use super::Exit;
use super::Global;
use super::complete;
use super::print;
use super::run::Inputs;
use super::run::View;
use super::run::follow_bound;
use super::run::load;
use super::sandbox::Troubles;
use crate::app::App;
use crate::app::Fault;
use crate::engine::plan::Circumstances;
use crate::engine::plan::Judged;
use crate::engine::plan::MAX_AGE;
use crate::engine::plan::Plan;
use crate::engine::plan::PlanFile;
use crate::engine::plan::PlanOptions;
use crate::model::Duration;
use crate::model::Value;
use crate::pipeline::Given;
use crate::pipeline::Pipeline;

/// Shows what a run would do to the world, and does nothing: reads are made, writes are predicted.
#[derive(Debug, Args)]
pub(super) struct Planning {
    /// A file, or the name of a pipeline of the project.
    #[arg(value_name = "FILE|NAME", value_hint = ValueHint::FilePath, add = ArgValueCandidates::new(complete::pipelines))]
    target: String,
    #[command(flatten)]
    inputs: Inputs,
    /// Write the plan to a file, for `pipewright apply`.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,
    /// Print the plan as JSON, as its file has it.
    #[arg(long)]
    json: bool,
    /// Make reads that cost money, as long as they cost no more in all than this; without it they are unknown.
    #[arg(long, value_name = "MAX", value_parser = amount)]
    spend: Option<Decimal>,
    /// How long the plan may be applied.
    #[arg(long, value_name = "DURATION", default_value_t = MAX_AGE)]
    max_age: Duration,
    #[command(flatten)]
    troubles: Troubles,
}

/// Does exactly what a plan says: reads again, compares, and starts the run only where nothing has changed.
#[derive(Debug, Args)]
pub(super) struct Apply {
    /// A file that `pipewright plan -o` has written.
    #[arg(value_name = "FILE", value_hint = ValueHint::FilePath)]
    plan: PathBuf,
    /// Secret inputs, which are not in the file.
    #[command(flatten)]
    inputs: Inputs,
    /// Print one committed event a line as JSON, and nothing else, to stdout.
    #[arg(long)]
    json: bool,
    /// Print the outputs only.
    #[arg(short, long)]
    quiet: bool,
    /// Leave the run waiting when it has to wait longer than a minute, and end with code 3.
    #[arg(long)]
    detach: bool,
    #[command(flatten)]
    troubles: Troubles,
}

/// Reads an amount, with or without a currency behind it.
fn amount(text: &str) -> Result<Decimal, String> {
    let number = text.split_whitespace().next().unwrap_or_default();
    let amount: Decimal = number.parse().map_err(|_| format!("`{text}` is not an amount such as 0.50"))?;
    if amount.is_sign_negative() { Err("an amount is at least 0".to_owned()) } else { Ok(amount) }
}

impl Planning {
    pub(super) async fn execute(self, global: &Global) -> Result<Exit, Fault> {
        let rehearsal = self.troubles.rehearsal(global)?;
        let rehearses = rehearsal.is_some();
        let (app, pipeline) = load(global, &self.target, rehearsal).await?;
        let values = self.inputs.of(&app, &pipeline)?;
        let options = PlanOptions { spend: self.spend, ..PlanOptions::default() };
        let plan = app.engine.plan(&pipeline, values, options).await.map_err(super::run::fault)?;
        let file =
            PlanFile::new(&plan, &Circumstances { file: self.target, sandbox: rehearses, max_age: self.max_age });
        if let Some(path) = &self.output {
            std::fs::write(path, file.to_text())
                .map_err(|error| Fault::Usage(format!("cannot write `{}`: {error}", path.display())))?;
        }
        let budgets = budgets::of(&app, &pipeline, &plan).await?;
        match self.json {
            true => {
                print::data(&file.to_text_with(Value::list(budgets.iter().map(budgets::Allowance::json).collect())));
            }
            false => print::data(&shown(&plan, &budgets, print::color_out())),
        }
        let exit = judged(&plan, &budgets);
        if let Some(path) = self.output.filter(|_| !self.json && exit == Exit::Well) {
            let program = super::run::program(&app);
            print::hint(&format!("`{program} apply {}` does exactly this, until {}", path.display(), until(&file)));
        }
        Ok(exit)
    }
}

fn until(file: &PlanFile) -> String {
    file.made_at().plus(file.circumstances().max_age).to_string()
}

/// Returns how a plan ends that would fail, that a guard refuses, or that does not fit into a budget, and says the last.
fn judged(plan: &Plan, budgets: &[budgets::Allowance]) -> Exit {
    let mut exit =
        if plan.failure.is_some() || Judged::refusal(&plan.guards).is_some() { Exit::Failed } else { Exit::Well };
    for refusal in budgets.iter().filter_map(budgets::Allowance::refusal) {
        print::error(&refusal);
        exit = Exit::Failed;
    }
    exit
}

fn shown(plan: &Plan, budgets: &[budgets::Allowance], color: bool) -> String {
    let mut text = show::plan(plan, color);
    for budget in budgets {
        text.push_str(&budget.line());
        text.push('\n');
    }
    text
}

impl Apply {
    pub(super) async fn execute(self, global: &Global) -> Result<Exit, Fault> {
        let shown = self.plan.display();
        let text = std::fs::read_to_string(&self.plan)
            .map_err(|error| Fault::Usage(format!("cannot read `{shown}`: {error}")))?;
        let file = PlanFile::read(&text).map_err(|error| Fault::Usage(format!("`{shown}`: {error}")))?;
        let circumstances = file.circumstances();
        let rehearsal = self.troubles.rehearsal(global)?;
        if circumstances.sandbox != rehearsal.is_some() {
            let what = if circumstances.sandbox {
                "the plan is of a rehearsal: apply it with `--sandbox`"
            } else {
                "the plan is of the real world: apply it without `--sandbox`"
            };
            return Err(Fault::Usage(format!("`{shown}`: {what}")));
        }
        let (app, pipeline) = load(global, &circumstances.file, rehearsal).await?;
        let view = View { json: self.json, quiet: self.quiet, foreground: !self.detach };
        let now = app.engine.parts().system.clock.now();
        let ends = file.made_at().plus(circumstances.max_age);
        if ends < now {
            return Ok(stale(&[format!("the plan was good until {ends}")]));
        }
        if file.version() != &*pipeline.version.0 {
            return Ok(stale(&["the pipeline, a prompt or a manifest of it has changed".to_owned()]));
        }
        let inputs = self.known(&file, &pipeline)?;
        apply(&app, &pipeline, &file, inputs, self.inputs.person().as_deref(), view).await
    }

    /// Returns the inputs that the plan has, with the secret ones that it has not.
    fn known(&self, file: &PlanFile, pipeline: &Pipeline) -> Result<Value, Fault> {
        let (known, secrets) = file.inputs();
        let given: Vec<_> = known.into_iter().map(|(name, value)| (name.to_string(), Given::Value(value))).collect();
        let said = self.inputs.names();
        if let Some(other) = said.iter().find(|name| !secrets.iter().any(|secret| **secret == ***name)) {
            return Err(Fault::Usage(format!(
                "`-i {other}`: the plan has its inputs; only secret ones are given again"
            )));
        }
        if let Some(missing) = secrets.iter().find(|secret| !said.iter().any(|name| ***secret == **name)) {
            let text =
                format!("the input `{missing}` is secret, and so not in the plan: give it again with `-i {missing}=…`");
            return Err(Fault::Usage(text));
        }
        self.inputs.read(pipeline, given)
    }
}

/// Plans again, compares, and starts the run.
async fn apply(
    app: &App,
    pipeline: &Arc<Pipeline>,
    file: &PlanFile,
    inputs: Value,
    person: Option<&str>,
    view: View,
) -> Result<Exit, Fault> {
    // What paid reads gave stands in the plan; they are not made again.
    let plan = app.engine.plan(pipeline, inputs, file.options()).await.map_err(super::run::fault)?;
    let again = PlanFile::new(&plan, &file.circumstances());
    let differences = file.differences(&again);
    if !differences.is_empty() {
        return Ok(stale(&differences));
    }
    if let Some(message) = Judged::refusal(&plan.guards) {
        print::error(&print::clean(&message));
        return Ok(Exit::Failed);
    }
    if let Some((place, error)) = &plan.failure {
        print::error(&print::clean(&format!("the run would fail at `{place}`, so it is not started: {error}")));
        return Ok(Exit::Failed);
    }
    if judged(&plan, &budgets::of(app, pipeline, &plan).await?) != Exit::Well {
        return Ok(Exit::Failed);
    }
    let run = plan.run;
    let started = app.engine.start_planned(person, pipeline, &plan, again.hash()).await.map_err(super::run::fault)?;
    match started {
        Some(bond) => follow_bound(app, run, pipeline.clone(), None, view, Some(bond)).await,
        None => {
            let program = super::run::program(app);
            print::error(&format!("the plan was applied before: `{program} runs show {run}` shows its run"));
            Ok(Exit::Stale)
        }
    }
}

fn stale(reasons: &[String]) -> Exit {
    print::error("the plan no longer holds; nothing was written");
    for reason in reasons {
        print::talk(&format!("  - {}", print::clean(reason)));
    }
    print::hint("make it again with `pipewright plan`");
    Exit::Stale
}

/// Plans, shows it, asks on the terminal, and goes on.
pub(super) async fn first(
    app: &App,
    pipeline: &Arc<Pipeline>,
    inputs: Value,
    person: Option<&str>,
    view: View,
) -> Result<Exit, Fault> {
    let plan = app.engine.plan(pipeline, inputs.clone(), PlanOptions::default()).await.map_err(super::run::fault)?;
    let file = PlanFile::new(&plan, &Circumstances::default());
    let budgets = budgets::of(app, pipeline, &plan).await?;
    print::talk(shown(&plan, &budgets, print::color_err()).trim_end());
    if judged(&plan, &budgets) != Exit::Well {
        return Ok(Exit::Failed);
    }
    if !print::ask("Do this?") {
        print::talk("nothing was done");
        return Ok(Exit::Failed);
    }
    apply(app, pipeline, &file, inputs, person, view).await
}
