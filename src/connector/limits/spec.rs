//! `limits` of a manifest.

use std::sync::Arc;

use rust_decimal::Decimal;

use crate::connector::manifest::place::Place;
use crate::connector::notes::Notes;
use crate::diag::Code;
use crate::model::Duration;
use crate::node::Cost;
use crate::template::Scope;
use crate::template::Template;
use crate::template::TemplateTree;
use crate::yaml::Tree;

/// What a manifest says of limits.
#[derive(Debug, Default)]
pub struct Limits {
    pub(super) budgets: Vec<Budget>,
    pub(super) learn: Vec<Learn>,
}

/// A budget that requests draw on.
#[derive(Debug)]
pub(super) struct Budget {
    pub name: Arc<str>,
    /// How much there is in `per`; without one it is only counted.
    pub limit: Option<TemplateTree>,
    pub per: Option<Per>,
    /// How many requests may be under way at once.
    pub in_flight: Option<TemplateTree>,
    /// What it is counted in, e.g. a currency.
    pub unit: Option<Arc<str>>,
    pub shared_by: SharedBy,
    /// Whether an operation's `cost` names it; a budget that none does counts every request as one.
    pub is_named: bool,
    pub line: u32,
}

/// A budget that has a limit, for those who look whether it is kept.
#[derive(Debug)]
pub struct Limited<'m> {
    pub name: &'m Arc<str>,
    pub limit: &'m TemplateTree,
    /// Whether every request counts.
    pub counts_all: bool,
    /// Where it stands in the manifest.
    pub line: u32,
}

/// How long a budget lasts.
#[derive(Debug)]
pub(super) enum Per {
    /// Moves with the clock.
    Rolling(Duration),
    /// Follows the calendar of a zone; UTC where none is named.
    Calendar(Calendar, Option<Template>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Calendar {
    Minute,
    Hour,
    Day,
    Week,
    Month,
}

/// Whose budget it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SharedBy {
    /// Each connection's.
    Account,
    /// All connections' with the same client.
    App,
    /// All connections' to the same host.
    Host,
}

/// What an answer teaches of a limit.
#[derive(Debug)]
pub(super) struct Learn {
    /// Without one it is the operation's own.
    pub budget: Option<Arc<str>>,
    pub limit: Option<Template>,
    pub remaining: Option<Template>,
    pub used: Option<Template>,
    pub reset: Option<Template>,
}

const CALENDARS: &[(&str, Calendar)] = &[
    ("minute", Calendar::Minute),
    ("hour", Calendar::Hour),
    ("day", Calendar::Day),
    ("week", Calendar::Week),
    ("month", Calendar::Month),
];

const SHARED: &[(&str, SharedBy)] = &[("account", SharedBy::Account), ("app", SharedBy::App), ("host", SharedBy::Host)];

impl Limits {
    /// Lists the budgets that allow so much in some time.
    pub fn limited(&self) -> impl Iterator<Item = Limited<'_>> {
        let limited = self.budgets.iter().filter(|budget| budget.per.is_some());
        limited.filter_map(|budget| {
            let limit = budget.limit.as_ref()?;
            Some(Limited { name: &budget.name, limit, counts_all: !budget.is_named, line: budget.line })
        })
    }

    /// Says what an amount of a budget is counted in, and how much there is.
    pub(in crate::connector) fn cost(&self, budget: &Arc<str>, amount: Option<Decimal>, scope: &Scope) -> Cost {
        let own = self.budgets.iter().find(|own| own.name == *budget);
        let limit = own.and_then(|own| own.limit.as_ref()?.eval(scope).ok());
        Cost {
            budget: budget.clone(),
            amount,
            unit: own.and_then(|own| own.unit.clone()),
            limit: limit.and_then(|limit| limit.revealed().to_text().parse().ok()),
        }
    }

    /// Returns the unit of the first budget that has one: what the manifest counts money in.
    pub(in crate::connector) fn currency(&self) -> Option<&str> {
        self.budgets.iter().find_map(|own| own.unit.as_deref())
    }

    /// Tells whether a budget counts something else than requests, money above all.
    #[must_use]
    pub fn has_unit(&self, budget: &str) -> bool {
        self.budgets.iter().any(|own| *own.name == *budget && own.unit.is_some())
    }
}

impl Calendar {
    pub(super) fn word(self) -> &'static str {
        CALENDARS.iter().find(|(_, own)| *own == self).map_or("", |(word, _)| word)
    }
}

/// Reads `limits`; `named` are the budgets that some `cost` names.
pub(in crate::connector) fn read(tree: &Tree, place: &Place<'_>, named: &[Arc<str>], notes: &mut Notes) -> Limits {
    let mut limits = Limits::default();
    if !notes.keys(tree, &["budgets", "learn"]) {
        return limits;
    }
    if let Some(budgets) = tree.get("budgets").filter(|budgets| notes.mapping(budgets)) {
        for entry in budgets.entries() {
            if let Some(budget) = read_budget(&entry.key, &entry.value, place, named, notes) {
                limits.budgets.push(budget);
            }
        }
    }
    if let Some(learn) = tree.get("learn").filter(|learn| notes.sequence(learn)) {
        let place = place.answered();
        limits.learn = learn.items().iter().filter_map(|item| read_learn(item, &place, notes)).collect();
        // What is only learned is a budget all the same, each its own.
        for name in limits.learn.iter().filter_map(|learn| learn.budget.clone()) {
            if limits.budgets.iter().all(|budget| budget.name != name) {
                limits.budgets.push(Budget {
                    is_named: named.contains(&name),
                    name,
                    limit: None,
                    per: None,
                    in_flight: None,
                    unit: None,
                    shared_by: SharedBy::Account,
                    line: 0,
                });
            }
        }
    }
    limits
}

fn read_budget(
    name: &Arc<str>,
    tree: &Tree,
    place: &Place<'_>,
    named: &[Arc<str>],
    notes: &mut Notes,
) -> Option<Budget> {
    if !notes.keys(tree, &["limit", "per", "timezone", "in_flight", "unit", "shared_by"]) {
        return None;
    }
    let zone = tree.get("timezone").and_then(|zone| {
        let named = zone.as_text().filter(|text| !text.contains("{{"));
        if let Some(named) = named.filter(|named| jiff::tz::TimeZone::get(named).is_err()) {
            notes.error(Code::UnknownName, &zone.span, format!("there is no time zone `{named}`")).help =
                Some("write a name of the time zone database, e.g. `America/Los_Angeles`".to_owned());
        }
        place.template(zone, notes)
    });
    let per = tree.get("per").and_then(|per| match CALENDARS.iter().find(|(word, _)| per.as_text() == Some(*word)) {
        Some((_, calendar)) => Some(Per::Calendar(*calendar, zone)),
        None => {
            let length = notes.duration(per)?;
            if length.micros() == 0 {
                notes.wrong(per, "a length of time, or `minute`, `hour`, `day`, `week`, `month`");
                return None;
            }
            Some(Per::Rolling(length))
        }
    });
    let limit = tree.get("limit").map(|limit| place.tree(limit, notes));
    if let (true, None, Some(at)) = (limit.is_some(), &per, tree.get("limit"))
        && tree.get("per").is_none()
    {
        notes
            .error(Code::MissingKey, &at.span, format!("budget `{name}` says how much, but not `per` what time"))
            .help = Some("add `per: 15m`, or `per: day`".to_owned());
    }
    Some(Budget {
        name: name.clone(),
        limit,
        per,
        in_flight: tree.get("in_flight").map(|it| place.tree(it, notes)),
        unit: tree.get("unit").and_then(|it| notes.text(it)).map(Arc::from),
        shared_by: tree.get("shared_by").and_then(|it| notes.word(it, SHARED)).unwrap_or(SharedBy::Account),
        is_named: named.contains(name),
        line: tree.span.start.line,
    })
}

fn read_learn(tree: &Tree, place: &Place<'_>, notes: &mut Notes) -> Option<Learn> {
    if !notes.keys(tree, &["budget", "limit", "remaining", "used", "reset"]) {
        return None;
    }
    let template = |key: &str, notes: &mut Notes| tree.get(key).and_then(|it| place.template(it, notes));
    Some(Learn {
        budget: tree.get("budget").and_then(|it| notes.text(it)).map(Arc::from),
        limit: template("limit", notes),
        remaining: template("remaining", notes),
        used: template("used", notes),
        reset: template("reset", notes),
    })
}
