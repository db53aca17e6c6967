//! `pipewright usage`.

use std::collections::BTreeMap;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use rust_decimal::Decimal;

use super::Exit;
use super::Global;
use super::complete;
use super::print;
use super::runs::find;
use super::validate::open_project;
use super::validate::quietly_all;
use crate::app::App;
use crate::app::Fault;
use crate::model::Currency;
use crate::model::Duration;
use crate::model::Money;
use crate::model::RunId;
use crate::model::Timestamp;
use crate::model::Value;
use crate::pipeline::Budget;
use crate::store::RunRecord;
use crate::store::SpendingFilter;
use crate::store::SpendingRecord;
use crate::store::SpendingScope;
use crate::store::SpendingState;
use crate::store::SpendingStep;

/// So many requests are read at once.
const PAGE: u32 = 5_000;
/// Of the runs and steps with a budget of their own so many are shown, those that used most of it.
const LARGEST: usize = 3;
/// The first day of a month is at most so long ago, wherever days begin.
const MONTH: Duration = Duration::from_secs(33 * 86_400);

/// Shows what requests to outside systems have cost, and what is left of budgets.
#[derive(Debug, Args)]
pub(super) struct Usage {
    /// What is told apart; by default pipelines and connections.
    #[arg(long, value_name = "WHAT")]
    by: Option<By>,
    /// From this day or moment on, or from so long ago: `2026-03-01`, `7d`. By default from the first of the month.
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<Since>,
    /// Only what runs of this pipeline have spent, with what ran below them.
    #[arg(long, value_name = "NAME", add = ArgValueCandidates::new(complete::pipelines))]
    pipeline: Option<String>,
    /// Only what this run has spent, with what ran below it, and what it used of its budgets.
    #[arg(long, value_name = "RUN", conflicts_with_all = ["since", "pipeline"], add = ArgValueCandidates::new(complete::runs))]
    run: Option<String>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// What is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum By {
    Run,
    Pipeline,
    Step,
    Connection,
    Model,
    Day,
}

/// From when on.
#[derive(Clone, Debug, PartialEq)]
enum Since {
    Ago(Duration),
    /// A date where the project counts its days.
    Day(String),
    Moment(Timestamp),
}

/// What requests have come to together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sum {
    spent: Decimal,
    /// What of it is only reserved: nobody has said yet what it has cost.
    reserved: Decimal,
    /// How many have cost what nobody knows.
    unknown: u64,
    requests: u64,
    tokens_in: u64,
    tokens_out: u64,
}

/// Sums by what is told apart and by currency.
type Sums = BTreeMap<(Vec<String>, Currency), Sum>;

/// A budget, and what is used of it.
struct Kept {
    name: String,
    pipeline: Option<String>,
    limit: Money,
    /// Nothing where each run, or each step run, has its own.
    used: Option<Decimal>,
    /// The run whose own it is, and its step.
    of: Option<(RunId, Option<String>)>,
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(length) = text.parse() {
        return Ok(Since::Ago(length));
    }
    if text.parse::<jiff::civil::Date>().is_ok() && text.len() == 10 {
        return Ok(Since::Day(text.to_owned()));
    }
    text.parse().map(Since::Moment).map_err(|_| "expected a day, a moment or a length of time".to_owned())
}

impl By {
    /// Returns the titles of its columns.
    fn titles(by: Option<Self>) -> &'static [&'static str] {
        match by {
            None => &["pipeline", "connection"],
            Some(Self::Run) => &["run", "pipeline"],
            Some(Self::Pipeline) => &["pipeline"],
            Some(Self::Step) => &["pipeline", "step"],
            Some(Self::Connection) => &["connection"],
            Some(Self::Model) => &["model"],
            Some(Self::Day) => &["day"],
        }
    }
}

/// Returns what a request is told apart by, in the order of the titles.
fn key(titles: &[&str], record: &SpendingRecord) -> Vec<String> {
    let new = &record.new;
    let step = new.step.as_ref();
    let or_none = |text: Option<String>| text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned());
    let cell = |title: &&str| match *title {
        "pipeline" => or_none(Some(new.pipeline.clone())),
        "connection" => new.connection.clone(),
        "run" => or_none(step.map(|step| step.top.to_string())),
        "step" => or_none(step.map(|step| step.path.split('[').next().unwrap_or_default().to_owned())),
        "model" => or_none(record.model.clone()),
        _ => new.day.clone(),
    };
    titles.iter().map(cell).collect()
}

fn summed<'r>(titles: &[&str], records: impl Iterator<Item = &'r SpendingRecord>) -> Sums {
    let mut sums = Sums::new();
    for record in records {
        let sum = sums.entry((key(titles, record), record.new.unit)).or_default();
        sum.requests += 1;
        sum.tokens_in += record.tokens_in.unwrap_or_default();
        sum.tokens_out += record.tokens_out.unwrap_or_default();
        if record.state == SpendingState::Reserved {
            sum.reserved = sum.reserved.saturating_add(record.new.reserved.unwrap_or_default());
        }
        match record.counted() {
            Some(amount) => sum.spent = sum.spent.saturating_add(amount),
            None => sum.unknown += 1,
        }
    }
    sums
}

impl Sum {
    /// Returns what is known, and `?` with the number of those of which nothing is.
    fn shown(&self, unit: Currency) -> String {
        let spent = self.spent.normalize();
        match self.unknown {
            0 => format!("{spent} {unit}"),
            unknown if unknown == self.requests => format!("? ({unknown})"),
            unknown => format!("{spent} {unit} + ? ({unknown})"),
        }
    }
}

impl Usage {
    pub(super) async fn execute(self, global: &Global) -> Result<Exit, Fault> {
        let app = open_project(global).await?;
        let now = app.engine.parts().system.clock.now();
        let today = app.runtime.limits().purse().day(now);
        let month = today.get(..7).unwrap_or_default().to_owned();
        let run = match &self.run {
            Some(run) => Some(find(&app, run).await?),
            None => None,
        };
        let (from, day) = match &self.since {
            None if run.is_some() => (Timestamp(i64::MIN), None),
            None => (before(now, MONTH), Some(format!("{month}-01"))),
            Some(Since::Ago(length)) => (before(now, *length), None),
            Some(Since::Moment(moment)) => (*moment, None),
            Some(Since::Day(day)) => (Timestamp(i64::MIN), Some(day.clone())),
        };
        let mut records = self.records(&app, from).await?;
        records.retain(|record| day.as_ref().is_none_or(|day| record.new.day >= *day));
        if let Some(run) = &run {
            let of = |step: &SpendingStep| step.top == run.id || step.run == run.id;
            records.retain(|record| record.new.step.as_ref().is_some_and(of));
        }
        let titles = By::titles(self.by.or(run.as_ref().map(|_| By::Step)));
        let mut periods = Vec::new();
        if self.by.is_none() && self.since.is_none() && run.is_none() {
            let todays = records.iter().filter(|record| record.new.day == today);
            periods.push(("today", summed(titles, todays)));
        }
        let whole = match (&run, &self.since) {
            (Some(_), _) => "this run",
            (None, None) => "this month",
            (None, Some(_)) => "since then",
        };
        periods.push((whole, summed(titles, records.iter())));
        let budgets = match &run {
            Some(run) => of_run(&app, run, &records).await?,
            None => self.budgets(global, &app, &today, &records).await?,
        };
        if self.json {
            for (period, sums) in &periods {
                print_json(period, titles, sums);
            }
            budgets.iter().for_each(|budget| print::line(&budget.json().to_string()));
            return Ok(Exit::Well);
        }
        for (period, sums) in &periods {
            show(period, titles, sums);
        }
        if !budgets.is_empty() {
            print::line("");
            let rows: Vec<_> = budgets.iter().map(Kept::row).collect();
            print::table(&["budget", "of", "limit", "used", "left"], &rows);
        }
        Ok(Exit::Well)
    }

    async fn records(&self, app: &App, from: Timestamp) -> Result<Vec<SpendingRecord>, Fault> {
        let mut filter = SpendingFilter { since: Some(from), pipeline: self.pipeline.clone(), after: None, most: PAGE };
        let mut records = Vec::new();
        loop {
            let page = app.engine.parts().store.spending(&filter).await?;
            let full = page.len() == PAGE as usize;
            filter.after = page.last().map(|last| (last.new.at, last.new.id.clone()));
            records.extend(page);
            if !full {
                return Ok(records);
            }
        }
    }

    /// Lists the budgets that hold today. Files with faults are told by `validate`.
    async fn budgets(
        &self,
        global: &Global,
        app: &App,
        today: &str,
        records: &[SpendingRecord],
    ) -> Result<Vec<Kept>, Fault> {
        let store = &app.engine.parts().store;
        let mut kept = Vec::new();
        if let Some(limit) = app.project.spend.day.filter(|_| self.pipeline.is_none()) {
            let used = store.spent(&SpendingScope::Project(today.to_owned()), limit.currency).await?;
            kept.push(Kept { name: "day".to_owned(), pipeline: None, limit, used: Some(used), of: None });
        }
        for pipeline in quietly_all(global)? {
            if self.pipeline.as_deref().is_some_and(|name| *name != *pipeline.name) {
                continue;
            }
            let budget = Budget::of_definition(&pipeline.definition);
            for (name, limit) in [("day", budget.day), ("run", budget.run), ("step", budget.step)] {
                let Some(limit) = limit else { continue };
                let scope = SpendingScope::Pipeline(pipeline.name.to_string(), today.to_owned());
                let used = if name == "day" { Some(store.spent(&scope, limit.currency).await?) } else { None };
                let pipeline = Some(pipeline.name.to_string());
                kept.push(Kept { name: name.to_owned(), pipeline: pipeline.clone(), limit, used, of: None });
                if used.is_none() {
                    kept.extend(largest(name, pipeline.as_deref().unwrap_or_default(), limit, records));
                }
            }
        }
        Ok(kept)
    }
}

/// Lists what a run and its steps have used of their budgets, which are those of the version that it runs by.
async fn of_run(app: &App, run: &RunRecord, records: &[SpendingRecord]) -> Result<Vec<Kept>, Fault> {
    let store = &app.engine.parts().store;
    if run.parent.is_some() {
        // The budgets of the run above hold for it, and others spend from them as well.
        return Ok(Vec::new());
    }
    let version = store.version(&run.version).await?;
    let budget = version.map(|version| Budget::of_definition(&version.definition)).unwrap_or_default();
    let mut kept = Vec::new();
    if let Some(limit) = budget.run {
        let spent = largest("run", &run.pipeline, limit, records).into_iter().next();
        let none = || Kept {
            name: "run".to_owned(),
            pipeline: Some(run.pipeline.to_string()),
            limit,
            used: Some(Decimal::ZERO),
            of: Some((run.id, None)),
        };
        kept.push(spent.unwrap_or_else(none));
    }
    if let Some(limit) = budget.step {
        kept.extend(largest("step", &run.pipeline, limit, records));
    }
    Ok(kept)
}

/// Lists those that have used most of a budget that each run, or each step run, has for itself. Their rows are summed:
/// totals are not kept of all of them.
fn largest(name: &str, pipeline: &str, limit: Money, records: &[SpendingRecord]) -> Vec<Kept> {
    let mut sums: BTreeMap<(RunId, Option<String>), Decimal> = BTreeMap::new();
    for record in records.iter().filter(|record| record.new.pipeline == pipeline && record.new.unit == limit.currency) {
        let Some(step) = &record.new.step else { continue };
        let of = if name == "run" { (step.top, None) } else { (step.run, Some(step.path.clone())) };
        let sum = sums.entry(of).or_default();
        *sum = sum.saturating_add(record.counted().unwrap_or_default());
    }
    let mut sums: Vec<_> = sums.into_iter().collect();
    sums.sort_by_key(|(_, used)| std::cmp::Reverse(*used));
    let kept = |(of, used)| Kept {
        name: name.to_owned(),
        pipeline: Some(pipeline.to_owned()),
        limit,
        used: Some(used),
        of: Some(of),
    };
    sums.into_iter().take(LARGEST).map(kept).collect()
}

impl Kept {
    /// Returns what is left; settling above a reservation may have used more than there was.
    fn left(&self) -> Option<Decimal> {
        Some((self.limit.amount - self.used?).max(Decimal::ZERO))
    }

    fn row(&self) -> Vec<String> {
        let unit = self.limit.currency;
        let own = format!("each {}", self.name);
        let amount = |amount: Option<Decimal>| amount.map_or(own.clone(), |it| format!("{} {unit}", it.normalize()));
        vec![
            self.name.clone(),
            match &self.of {
                Some((run, Some(path))) => format!("{run} {path}"),
                Some((run, None)) => run.to_string(),
                None => self.pipeline.clone().unwrap_or_else(|| "all".to_owned()),
            },
            amount(Some(self.limit.amount)),
            amount(self.used),
            amount(self.left()),
        ]
    }

    fn json(&self) -> Value {
        let amount = |amount: Option<Decimal>| amount.map_or(Value::Null, |it| Value::from(it.normalize().to_string()));
        Value::map([
            ("budget", Value::from(self.name.as_str())),
            ("pipeline", self.pipeline.as_deref().map_or(Value::Null, Value::from)),
            ("run", self.of.as_ref().map_or(Value::Null, |(run, _)| run.to_string().into())),
            ("step", self.of.as_ref().and_then(|(_, path)| path.as_deref()).map_or(Value::Null, Value::from)),
            ("limit", amount(Some(self.limit.amount))),
            ("used", amount(self.used)),
            ("left", amount(self.left())),
            ("unit", Value::from(self.limit.currency.as_str())),
        ])
    }
}

fn before(now: Timestamp, length: Duration) -> Timestamp {
    Timestamp(now.micros().saturating_sub_unsigned(length.micros()))
}

fn show(period: &str, titles: &[&str], sums: &Sums) {
    if sums.is_empty() {
        print::line(&format!("{period}: nothing was spent"));
        return;
    }
    let mut all: BTreeMap<Currency, Sum> = BTreeMap::new();
    for ((_, unit), sum) in sums {
        let all = all.entry(*unit).or_default();
        all.spent = all.spent.saturating_add(sum.spent);
        (all.unknown, all.requests) = (all.unknown + sum.unknown, all.requests + sum.requests);
    }
    let whole: Vec<_> = all.iter().map(|(unit, sum)| sum.shown(*unit)).collect();
    print::line(&format!("{period}: {}", whole.join(", ")));
    let rows: Vec<Vec<String>> = sums
        .iter()
        .map(|((key, unit), sum)| {
            let tokens = |tokens: u64| if tokens == 0 { "-".to_owned() } else { tokens.to_string() };
            let mut row = key.clone();
            row.extend([sum.requests.to_string(), tokens(sum.tokens_in), tokens(sum.tokens_out), sum.shown(*unit)]);
            let reserved = sum.reserved.normalize();
            row.push(if reserved.is_zero() { "-".to_owned() } else { format!("{reserved} {unit}") });
            row
        })
        .collect();
    let head: Vec<&str> =
        titles.iter().copied().chain(["requests", "tokens in", "tokens out", "spent", "of it reserved"]).collect();
    print::table(&head, &rows);
}

fn print_json(period: &str, titles: &[&str], sums: &Sums) {
    for ((key, unit), sum) in sums {
        let mut entries = vec![("period", Value::from(period))];
        let cell = |text: &str| if text == "-" { Value::Null } else { Value::from(text) };
        entries.extend(titles.iter().copied().zip(key.iter().map(|text| cell(text))));
        entries.extend([
            ("requests", Value::Int(sum.requests.into())),
            ("tokens_in", Value::Int(sum.tokens_in.into())),
            ("tokens_out", Value::Int(sum.tokens_out.into())),
            ("spent", Value::from(sum.spent.normalize().to_string())),
            ("reserved", Value::from(sum.reserved.normalize().to_string())),
            ("unknown", Value::Int(sum.unknown.into())),
            ("unit", Value::from(unit.as_str())),
        ]);
        print::line(&Value::map(entries).to_string());
    }
}
