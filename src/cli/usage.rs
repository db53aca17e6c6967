//! `pipewright usage`.

use std::collections::BTreeMap;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use rust_decimal::Decimal;

use super::Exit;
use super::Global;
use super::complete;
use super::print;
use super::validate::open_project;
use super::validate::quietly_all;
use crate::app::App;
use crate::app::Fault;
use crate::model::Currency;
use crate::model::Duration;
use crate::model::Money;
use crate::model::Timestamp;
use crate::model::Value;
use crate::pipeline::Budget;
use crate::store::SpendingFilter;
use crate::store::SpendingRecord;
use crate::store::SpendingScope;

/// So many requests are read at once.
const PAGE: u32 = 5_000;
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
        let (from, day) = match &self.since {
            None => (before(now, MONTH), Some(format!("{month}-01"))),
            Some(Since::Ago(length)) => (before(now, *length), None),
            Some(Since::Moment(moment)) => (*moment, None),
            Some(Since::Day(day)) => (Timestamp(i64::MIN), Some(day.clone())),
        };
        let mut records = self.records(&app, from).await?;
        records.retain(|record| day.as_ref().is_none_or(|day| record.new.day >= *day));
        let titles = By::titles(self.by);
        let mut periods = Vec::new();
        if self.by.is_none() && self.since.is_none() {
            let todays = records.iter().filter(|record| record.new.day == today);
            periods.push(("today", summed(titles, todays)));
        }
        let whole = if self.since.is_none() { "this month" } else { "since then" };
        periods.push((whole, summed(titles, records.iter())));
        let budgets = self.budgets(global, &app, &today).await?;
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
            print::table(&["budget", "pipeline", "limit", "used", "left"], &rows);
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
    async fn budgets(&self, global: &Global, app: &App, today: &str) -> Result<Vec<Kept>, Fault> {
        let store = &app.engine.parts().store;
        let mut kept = Vec::new();
        if let Some(limit) = app.project.spend.day.filter(|_| self.pipeline.is_none()) {
            let used = store.spent(&SpendingScope::Project(today.to_owned()), limit.currency).await?;
            kept.push(Kept { name: "day".to_owned(), pipeline: None, limit, used: Some(used) });
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
                kept.push(Kept { name: name.to_owned(), pipeline: Some(pipeline.name.to_string()), limit, used });
            }
        }
        Ok(kept)
    }
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
            self.pipeline.clone().unwrap_or_else(|| "all".to_owned()),
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
            row
        })
        .collect();
    let head: Vec<&str> = titles.iter().copied().chain(["requests", "tokens in", "tokens out", "spent"]).collect();
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
            ("unknown", Value::Int(sum.unknown.into())),
            ("unit", Value::from(unit.as_str())),
        ]);
        print::line(&Value::map(entries).to_string());
    }
}
