//! What a plan will cost against the budgets of money that hold for its run.

use rust_decimal::Decimal;

use crate::app::App;
use crate::app::Fault;
use crate::engine::plan::Plan;
use crate::model::Currency;
use crate::model::Money;
use crate::model::Value;
use crate::node::Cost;
use crate::pipeline::Budget;
use crate::pipeline::Pipeline;
use crate::store::SpendingScope;

/// A budget, what is used of it, and what the run will need.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Allowance {
    /// How the project's files call it.
    name: String,
    limit: Money,
    used: Decimal,
    needs: Needs,
}

/// What something will cost, as far as that is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Needs {
    /// In any case.
    certain: Decimal,
    /// With all that may happen.
    possible: Decimal,
    /// How many cost what nobody knows.
    unknown: usize,
    /// How many of them happen in any case.
    certainly_unknown: usize,
}

/// What one effect or paid read costs.
#[derive(Clone, Copy, Debug)]
struct Item {
    certain: bool,
    /// Nothing where nobody knows.
    amount: Option<Decimal>,
}

/// Holds a plan against the budgets of its pipeline and of the project.
pub(super) async fn of(app: &App, pipeline: &Pipeline, plan: &Plan) -> Result<Vec<Allowance>, Fault> {
    let parts = app.engine.parts();
    let today = app.runtime.limits().purse().day(parts.system.clock.now());
    let budget = Budget::of_definition(&pipeline.definition);
    let own = |name: &str| format!("`budget.{name}` of pipeline `{}`", pipeline.name);
    let day = SpendingScope::Pipeline(pipeline.name.to_string(), today.clone());
    let all = [
        (own("step"), budget.step, None),
        (own("run"), budget.run, None),
        (own("day"), budget.day, Some(day)),
        ("the project's `limits.spend.day`".to_owned(), app.project.spend.day, Some(SpendingScope::Project(today))),
    ];
    let mut allowances = Vec::new();
    for (index, (name, limit, scope)) in all.into_iter().enumerate() {
        let Some(limit) = limit else { continue };
        let used = match scope {
            Some(scope) => parts.store.spent(&scope, limit.currency).await?,
            None => Decimal::ZERO,
        };
        let items = items(plan, limit.currency);
        let needs = if index == 0 { Needs::of_dearest(&items) } else { Needs::of_all(&items) };
        allowances.push(Allowance { name, limit, used, needs });
    }
    Ok(allowances)
}

/// Lists what the run will pay for. What the plan has paid for is not paid again.
fn items(plan: &Plan, currency: Currency) -> Vec<Item> {
    let mut items = Vec::new();
    for effect in &plan.effects {
        let certain = effect.is_certain();
        let money = effect.costs.iter().filter(|cost| unit(cost).is_some());
        items.extend(money.map(|cost| Item { certain, amount: amount(cost, currency) }));
    }
    for open in plan.open.iter().filter(|open| open.paid) {
        let money: Vec<_> = open.costs.iter().filter(|cost| unit(cost).is_some()).collect();
        if money.is_empty() {
            items.push(Item { certain: open.certain, amount: None });
        }
        items.extend(money.into_iter().map(|cost| Item { certain: open.certain, amount: amount(cost, currency) }));
    }
    items
}

fn unit(cost: &Cost) -> Option<Currency> {
    cost.unit.as_deref()?.parse().ok()
}

/// Returns the amount where it is in this currency: of another one nobody knows what it is worth.
fn amount(cost: &Cost, currency: Currency) -> Option<Decimal> {
    cost.amount.filter(|_| unit(cost) == Some(currency))
}

impl Needs {
    fn of_all(items: &[Item]) -> Self {
        let mut needs = Self::default();
        for item in items {
            match item.amount {
                Some(amount) => {
                    needs.possible = needs.possible.saturating_add(amount);
                    if item.certain {
                        needs.certain = needs.certain.saturating_add(amount);
                    }
                }
                None => {
                    needs.unknown += 1;
                    needs.certainly_unknown += usize::from(item.certain);
                }
            }
        }
        needs
    }

    /// Returns what the dearest one needs: each step run has a budget of its own.
    fn of_dearest(items: &[Item]) -> Self {
        let most = |certain: bool| {
            let amounts = items.iter().filter(|item| item.certain || !certain).filter_map(|item| item.amount);
            amounts.max().unwrap_or_default()
        };
        Self { certain: most(true), possible: most(false), ..Self::of_all(items) }
    }
}

impl Allowance {
    /// Says why the run cannot stay within it; nothing where it may.
    pub(super) fn refusal(&self) -> Option<String> {
        let left = (self.limit.amount - self.used).max(Decimal::ZERO);
        let nothing_left = left.is_zero() && self.needs.certainly_unknown > 0;
        if self.needs.certain <= left && !nothing_left {
            return None;
        }
        let unit = self.limit.currency;
        let needs = if self.needs.certain.is_zero() {
            "an unknown amount".to_owned()
        } else {
            format!("{} {unit}", self.needs.certain.normalize())
        };
        let (left, limit) = (left.normalize(), self.limit.amount.normalize());
        Some(format!("the run would need {needs}, and of {} {left} of {limit} {unit} are left", self.name))
    }

    /// Says in a line how it stands.
    pub(super) fn line(&self) -> String {
        let Needs { certain, possible, unknown, .. } = self.needs;
        let unit = self.limit.currency;
        let shown = |amount: Decimal| format!("{} {unit}", amount.normalize());
        let mut needs = if unknown > 0 && possible.is_zero() { Vec::new() } else { vec![shown(certain)] };
        if possible != certain {
            needs.push(format!("up to {} with what may happen", shown(possible)));
        }
        match unknown {
            0 => {}
            1 => needs.push("1 request of which nobody knows the price".to_owned()),
            unknown => needs.push(format!("{unknown} requests of which nobody knows the price")),
        }
        let used = if self.used.is_zero() { String::new() } else { format!(", {} are used", shown(self.used)) };
        let doubt = if self.refusal().is_some() {
            "; it does not fit"
        } else if self.used.saturating_add(possible) > self.limit.amount {
            "; it may not fit"
        } else {
            ""
        };
        format!("budget: {}: {}{used}; the run needs {}{doubt}", self.name, shown(self.limit.amount), needs.join(", "))
    }

    pub(super) fn json(&self) -> Value {
        let number = |count: usize| Value::Int(count.try_into().unwrap_or(i128::MAX));
        let text = |amount: Decimal| Value::from(amount.normalize().to_string());
        Value::map([
            ("budget", Value::from(self.name.as_str())),
            ("limit", text(self.limit.amount)),
            ("used", text(self.used)),
            ("planned", text(self.needs.certain)),
            ("possible", text(self.needs.possible)),
            ("unknown", number(self.needs.unknown)),
            ("unit", self.limit.currency.as_str().into()),
            ("fits", self.refusal().is_none().into()),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowance(used: &str, items: &[(bool, Option<&str>)]) -> Allowance {
        let items = items
            .iter()
            .map(|(certain, amount)| Item { certain: *certain, amount: amount.map(|amount| amount.parse().unwrap()) });
        let items: Vec<_> = items.collect();
        Allowance {
            name: "`budget.day` of pipeline `news`".to_owned(),
            limit: "0.50 USD".parse().unwrap(),
            used: used.parse().unwrap(),
            needs: Needs::of_all(&items),
        }
    }

    #[test]
    fn what_is_certain_refuses_and_what_may_be_warns() {
        let fits = allowance("0.10", &[(true, Some("0.40"))]);
        assert_eq!(fits.refusal(), None);
        assert_eq!(
            fits.line(),
            "budget: `budget.day` of pipeline `news`: 0.5 USD, 0.1 USD are used; the run needs 0.4 USD"
        );
        let not = allowance("0.10", &[(true, Some("0.401"))]);
        let why = "the run would need 0.401 USD, and of `budget.day` of pipeline `news` 0.4 of 0.5 USD are left";
        assert_eq!(not.refusal().as_deref(), Some(why));
        assert!(not.line().ends_with("; it does not fit"), "{}", not.line());
        let may = allowance("0.10", &[(true, Some("0.40")), (false, Some("0.01"))]);
        assert_eq!(may.refusal(), None);
        assert!(
            may.line().contains("the run needs 0.4 USD, up to 0.41 USD with what may happen; it may not fit"),
            "{}",
            may.line()
        );
        assert!(may.line().ends_with("; it may not fit"), "{}", may.line());
    }

    #[test]
    fn an_unknown_price_is_never_nothing() {
        let unknown = allowance("0.10", &[(true, None)]);
        assert_eq!(unknown.refusal(), None);
        let line = "budget: `budget.day` of pipeline `news`: 0.5 USD, 0.1 USD are used; the run needs 1 request of which nobody knows the price";
        assert_eq!(unknown.line(), line);
        let spent = allowance("0.50", &[(true, None)]);
        assert!(spent.refusal().is_some_and(|why| why.starts_with("the run would need an unknown amount")));
        assert_eq!(allowance("0.50", &[(false, None)]).refusal(), None);
    }

    #[test]
    fn each_step_run_has_a_budget_of_its_own() {
        let item = |amount: &str| Item { certain: true, amount: Some(amount.parse().unwrap()) };
        assert_eq!(Needs::of_dearest(&[item("0.3"), item("0.4")]).certain, "0.4".parse().unwrap());
    }
}
