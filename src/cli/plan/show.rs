//! A plan as people read it: like a diff, then the sums.

use std::collections::BTreeMap;
use std::sync::Arc;

use rust_decimal::Decimal;

use crate::cli::print;
use crate::engine::plan::Open;
use crate::engine::plan::Plan;
use crate::engine::plan::PlannedEffect;
use crate::model::Value;
use crate::model::WriteKind;
use crate::node::Change;

/// The widest that a value is shown; the plan's file has it whole.
const WIDTH: usize = 96;
/// The most fields, and lines of a changed text, that are shown of an effect.
const LINES: usize = 24;
/// The reads that are named.
const NAMED: usize = 8;
/// How a failure of the run is named, which decides on `on_failure`.
const FAILURE: &str = "a failure of the run";

/// Returns a plan as text.
pub(super) fn plan(plan: &Plan, color: bool) -> String {
    let mut page = Page { text: String::new(), color };
    let version: String = plan.version.0.chars().take(12).collect();
    page.line(0, &format!("{}  version {version}  planned at {}", print::paint("1", &plan.pipeline, color), plan.at));
    page.line(0, "");
    let (aside, main): (Vec<_>, Vec<_>) =
        plan.effects.iter().partition(|effect| effect.only_if.iter().any(|of| &**of == FAILURE));
    if main.is_empty() {
        page.line(1, "nothing outside will change");
    }
    main.iter().for_each(|effect| page.effect(effect));
    if !aside.is_empty() {
        page.line(1, "if the run fails:");
        aside.iter().for_each(|effect| page.effect(effect));
    }
    let told = |open: &&Open| open.of.iter().all(|of| &**of != FAILURE);
    plan.open.iter().filter(told).for_each(|open| page.open(open));
    page.line(0, "");
    page.sums(plan, &main);
    page.text
}

struct Page {
    text: String,
    color: bool,
}

impl Page {
    fn line(&mut self, depth: usize, text: &str) {
        if !text.is_empty() {
            self.text.push_str(&"  ".repeat(depth));
            self.text.push_str(text);
        }
        self.text.push('\n');
    }

    fn paint(&self, code: &str, text: &str) -> String {
        print::paint(code, text, self.color)
    }

    fn effect(&mut self, effect: &PlannedEffect) {
        let (sign, code) = sign(effect);
        let place = if effect.each { format!("{}[…]", effect.place) } else { effect.place.to_string() };
        let mut head = format!("{} {place}  {}", self.paint(code, sign), effect.node);
        if let Some(connection) = &effect.connection {
            head.push_str(&format!(" over {connection}"));
        }
        let mut said = Vec::new();
        if effect.each {
            said.push("for each item, of which it is not known how many there are".to_owned());
        }
        if let Some(at) = effect.not_before {
            said.push(format!("not before {at}"));
        }
        let only_if: Vec<_> =
            effect.only_if.iter().filter(|of| &***of != FAILURE).map(|of| format!("`{of}`")).collect();
        if !only_if.is_empty() {
            said.push(format!("only if {} says so", only_if.join(", ")));
        }
        if !effect.after.is_empty() {
            said.push(format!("after {}", named(&effect.after)));
        }
        if !said.is_empty() {
            head.push_str(&self.paint("2", &format!("  ({})", said.join("; "))));
        }
        self.line(1, &head);
        if effect.changes.is_empty() || effect.exists != Some(true) {
            self.fields(&effect.input, &[]);
        } else {
            // What says which thing it is; what it sets stands in the changes.
            let changed: Vec<&str> = effect.changes.iter().map(|change| &*change.field).collect();
            self.fields(&effect.input, &changed);
            effect.changes.iter().for_each(|change| self.change(change));
        }
        if let Some(key) = &effect.key {
            self.line(3, &format!("key: {}", self.value(key)));
        }
    }

    /// Shows what is sent; where there are changes, what stands beside them.
    fn fields(&mut self, input: &Value, changed: &[&str]) {
        let Some(map) = input.as_map() else { return self.line(3, &self.value(input)) };
        let beside = |key: &str, value: &Value| {
            key != "connection" && (changed.is_empty() || !changed.contains(&key) && value.as_map().is_none())
        };
        for (key, value) in map.iter().filter(|(key, value)| beside(key, value)).take(LINES) {
            self.line(3, &format!("{key}: {}", self.value(value)));
        }
        if map.len() > LINES {
            self.line(3, &format!("… and {} more", map.len() - LINES));
        }
    }

    fn change(&mut self, change: &Change) {
        let lines = |value: &Value| value.as_str().is_some_and(|text| text.contains('\n'));
        if lines(&change.old) || lines(&change.new) {
            self.line(3, &format!("{}:", change.field));
            return self.text_change(&change.old, &change.new);
        }
        let (old, new) = (self.value(&change.old), self.value(&change.new));
        match old == new {
            true => self.line(3, &format!("{}: {new} {}", change.field, self.paint("2", "(as it is)"))),
            false => self.line(3, &format!("{}: {old} → {new}", change.field)),
        }
    }

    /// Shows a text of several lines as a diff: what both begin and end with is left out.
    fn text_change(&mut self, old: &Value, new: &Value) {
        let text = |value: &Value| if value.is_tainted() { "***".to_owned() } else { value.to_text() };
        let (old, new) = (text(old), text(new));
        let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
        let same = old.iter().zip(&new).take_while(|(old, new)| old == new).count();
        let (old, new) = (old.get(same..).unwrap_or_default(), new.get(same..).unwrap_or_default());
        let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
        if same > 0 {
            self.line(4, &self.paint("2", &format!("… {} as before", count(same, "line"))));
        }
        for (sign, code, lines) in [("-", "31", old), ("+", "32", new)] {
            let lines = lines.get(..lines.len() - tail).unwrap_or_default();
            for line in lines.iter().take(LINES) {
                let line = print::clip(line, WIDTH);
                self.line(4, &self.paint(code, &format!("{sign} {line}")));
            }
            if lines.len() > LINES {
                self.line(4, &self.paint(code, &format!("{sign} … {} more lines", lines.len() - LINES)));
            }
        }
        if tail > 0 {
            self.line(4, &self.paint("2", &format!("… {} as before", count(tail, "line"))));
        }
    }

    /// Shows a value in a line; what is not known in it as `?`, with where it will come from.
    fn value(&self, value: &Value) -> String {
        let mut of = Vec::new();
        value.unknowns(&mut of);
        let mut shown = match value {
            Value::Unknown(unknown) => match &unknown.shown {
                Some(text) => Value::from(&**text).to_string(),
                None => "?".to_owned(),
            },
            other => other.to_string(),
        };
        shown = print::clip(&shown, WIDTH);
        if !of.is_empty() {
            shown.push_str(&self.paint("33", &format!("  ? {}", of.join(", "))));
        }
        shown
    }

    fn open(&mut self, open: &Open) {
        let mut line = format!("{} {}  {}", self.paint("33", "?"), open.place, open.node);
        let of = if open.of.is_empty() { String::new() } else { format!(": {}", named(&open.of)) };
        line.push_str(&self.paint("2", &format!("  ({}{of})", open.reason)));
        self.line(1, &line);
    }

    fn sums(&mut self, plan: &Plan, main: &[&PlannedEffect]) {
        let mut kinds: BTreeMap<&str, usize> = BTreeMap::new();
        main.iter().for_each(|effect| *kinds.entry(effect.kind.name()).or_default() += 1);
        let kinds: Vec<_> = kinds.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let uncertain = main.iter().filter(|effect| !effect.is_certain()).count();
        let mut line = if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") };
        if uncertain > 0 {
            let each = if main.iter().any(|effect| effect.each) { ", and how often" } else { "" };
            line.push_str(&format!("; of {uncertain} it is not known whether{each}"));
        }
        self.line(0, &format!("effects: {line}"));
        let reads: Vec<_> = plan.reads.iter().filter(|read| !read.is_question).collect();
        let questions = plan.reads.len() - reads.len();
        let names: Vec<_> = reads.iter().take(NAMED).map(|read| format!("{} {}", read.place, read.node)).collect();
        let more = if reads.len() > NAMED { format!(" and {} more", reads.len() - NAMED) } else { String::new() };
        let names = if names.is_empty() { String::new() } else { format!(": {}{more}", names.join(", ")) };
        self.line(0, &format!("reads made: {}{names}", reads.len()));
        if questions > 0 {
            self.line(0, &format!("looked at what will change: {questions}"));
        }
        if !plan.open.is_empty() {
            self.line(0, &format!("unknown until then: {}", count(plan.open.len(), "step")));
        }
        self.costs(plan);
        for guard in &plan.guards {
            let (code, verdict) = match &guard.fault {
                None => ("32", "holds".to_owned()),
                Some(fault) => ("31", fault.clone()),
            };
            let line = format!("guard: {}  {}", print::clip(&guard.said, WIDTH), self.paint(code, &verdict));
            self.line(0, &line);
        }
        if let Some((place, error)) = &plan.failure {
            let line = format!("{} at `{place}`: {error}", self.paint("1;31", "the run would fail"));
            self.line(0, &line);
        }
    }

    /// Shows what all of it costs, budget by budget, and how much of each that is.
    fn costs(&mut self, plan: &Plan) {
        struct Sum {
            planned: Option<Decimal>,
            spent: Option<Decimal>,
            unit: Option<Arc<str>>,
            limit: Option<Decimal>,
        }
        let mut sums: BTreeMap<(Arc<str>, Arc<str>), Sum> = BTreeMap::new();
        let planned = plan.effects.iter().map(|effect| {
            let over = effect.connection.clone().unwrap_or_else(|| effect.node.clone());
            (over, &effect.costs, true)
        });
        let made = plan.reads.iter().map(|read| (read.node.clone(), &read.costs, false));
        for (over, costs, later) in planned.chain(made) {
            for cost in costs {
                let zero = || Sum {
                    planned: Some(Decimal::ZERO),
                    spent: Some(Decimal::ZERO),
                    unit: cost.unit.clone(),
                    limit: cost.limit,
                };
                let sum = sums.entry((over.clone(), cost.budget.clone())).or_insert_with(zero);
                let part = if later { &mut sum.planned } else { &mut sum.spent };
                *part = part.zip(cost.amount).map(|(sum, amount)| sum.saturating_add(amount));
            }
        }
        for ((over, budget), Sum { planned, spent, unit, limit }) in sums {
            let unit = unit.map(|unit| format!(" {unit}")).unwrap_or_default();
            let shown = |amount: Option<Decimal>| match amount {
                Some(amount) => format!("{}{unit}", amount.normalize()),
                None => "not known".to_owned(),
            };
            let mut line = format!("cost: {over} `{budget}` {}", shown(planned));
            if spent != Some(Decimal::ZERO) {
                line.push_str(&format!(", spent by this plan {}", shown(spent)));
            }
            if let (Some(amount), Some(limit)) = (planned, limit.filter(|limit| !limit.is_zero())) {
                let share = (amount * Decimal::ONE_HUNDRED / limit).round_dp(1).normalize();
                line.push_str(&format!(" of {}{unit} ({share} %)", limit.normalize()));
            }
            self.line(0, &line);
        }
    }
}

fn sign(effect: &PlannedEffect) -> (&'static str, &'static str) {
    match (effect.kind, effect.exists) {
        (WriteKind::Upsert, Some(true)) | (WriteKind::Update, _) => ("~", "33"),
        (WriteKind::Create | WriteKind::Upsert, _) => ("+", "32"),
        (WriteKind::Delete, _) => ("-", "31"),
        (WriteKind::Message, _) => (">", "36"),
        (WriteKind::Spend, _) => ("$", "35"),
    }
}

fn named(names: &[Arc<str>]) -> String {
    let shown: Vec<_> = names.iter().take(3).map(|name| format!("`{name}`")).collect();
    let more = if names.len() > 3 { format!(" and {} more", names.len() - 3) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}

fn count(count: usize, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}
