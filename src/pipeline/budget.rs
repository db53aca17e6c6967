//! How much may be spent: `budget` of a pipeline, `limits.spend` of the project file.

use rust_decimal::Decimal;

use super::project::known;
use crate::diag::Code;
use crate::diag::Diagnostic;
use crate::model::Money;
use crate::model::Value;
use crate::model::parse_json;
use crate::yaml;
use crate::yaml::Tree;

/// How much a pipeline may spend; all in one currency.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    /// By one run with all that runs below it.
    pub run: Option<Money>,
    /// By all its runs on one day.
    pub day: Option<Money>,
    /// By one step run, in all its attempts.
    pub step: Option<Money>,
}

/// How much the whole project may spend.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spend {
    /// On one day.
    pub day: Option<Money>,
    /// Where days begin; UTC where nothing is said. It exists.
    pub timezone: Option<String>,
}

impl Budget {
    /// Returns the budget of a stored definition.
    #[must_use]
    pub fn of_definition(definition: &str) -> Self {
        let definition = parse_json(definition).unwrap_or_default();
        let text = definition.get("text").and_then(Value::as_str).unwrap_or_default();
        let (tree, _) = yaml::parse(&"budget".into(), text);
        // It was compiled before it was stored.
        tree.as_ref().and_then(|tree| tree.get("budget")).map(|tree| read(tree, &mut Vec::new())).unwrap_or_default()
    }
}

/// Reads `budget` of a pipeline; every fault is told.
pub(super) fn read(tree: &Tree, diagnostics: &mut Vec<Diagnostic>) -> Budget {
    known(tree, &["run", "day", "step"], diagnostics);
    let mut read = |key: &str| money(tree, key, diagnostics);
    let budget = Budget { run: read("run"), day: read("day"), step: read("step") };
    let mut stated = [("run", budget.run), ("day", budget.day), ("step", budget.step)].into_iter();
    let mut stated = stated.by_ref().filter_map(|(key, money)| Some((key, money?)));
    let Some((first, own)) = stated.next() else { return budget };
    for (key, money) in stated.filter(|(_, money)| money.currency != own.currency) {
        let span = tree.get(key).map_or(&tree.span, |tree| &tree.span).clone();
        let message = format!("`{key}` is in {}, and `{first}` in {}", money.currency, own.currency);
        diagnostics.push(
            Diagnostic::error(Code::MixedCurrencies, span, message)
                .with_help("a budget is in the one currency in which its requests are paid"),
        );
    }
    budget
}

/// Reads `limits.spend` of the project file; every fault is told.
pub(super) fn read_spend(tree: &Tree, diagnostics: &mut Vec<Diagnostic>) -> Spend {
    known(tree, &["day", "timezone"], diagnostics);
    let mut spend = Spend { day: money(tree, "day", diagnostics), timezone: None };
    if let Some(zone) = tree.get("timezone") {
        match zone.as_text().filter(|name| jiff::tz::TimeZone::get(name).is_ok()) {
            Some(name) => spend.timezone = Some(name.to_owned()),
            None => {
                let message = format!("there is no time zone {}", zone.describe());
                diagnostics.push(
                    Diagnostic::error(Code::UnknownTimeZone, zone.span.clone(), message)
                        .with_help("write one such as `Europe/Berlin`"),
                );
            }
        }
    }
    spend
}

fn money(tree: &Tree, key: &str, diagnostics: &mut Vec<Diagnostic>) -> Option<Money> {
    let value = tree.get(key)?;
    let text = value.as_text().filter(|_| !value.is_null());
    let money = text.and_then(|text| text.parse::<Money>().ok()).filter(|money| money.amount >= Decimal::ZERO);
    if money.is_none() {
        let message = format!("expected an amount of money, found {}", value.describe());
        diagnostics.push(
            Diagnostic::error(Code::WrongType, value.span.clone(), message)
                .with_help(format!("write an amount and a currency: `{key}: 0.50 USD`")),
        );
    }
    money
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> (Budget, Vec<(Code, String)>) {
        let (tree, faults) = yaml::parse(&"x.yaml".into(), text);
        assert!(faults.is_empty(), "{faults:?}");
        let mut diagnostics = Vec::new();
        let budget = read(&tree.unwrap(), &mut diagnostics);
        (budget, diagnostics.into_iter().map(|told| (told.code, told.message)).collect())
    }

    #[test]
    fn a_budget_is_exact_money_of_one_currency() {
        let (budget, faults) = told("run: 0.50 USD\nday: 5 USD\n");
        let money = |text: &str| Some(text.parse::<Money>().unwrap());
        assert_eq!((budget.run, budget.day, budget.step), (money("0.50 USD"), money("5 USD"), None));
        assert_eq!(faults, []);
        let (_, faults) = told("run: 0.5 USD\nstep: 1 EUR\n");
        assert_eq!(faults, [(Code::MixedCurrencies, "`step` is in EUR, and `run` in USD".to_owned())]);
    }

    #[test]
    fn what_is_no_money_is_told() {
        for wrong in ["5", "five USD", "5USD", "-1 USD", "5 usd", "~", "[1]", "1e-3 USD"] {
            let (budget, faults) = told(&format!("run: {wrong}\n"));
            assert_eq!(budget.run, None, "{wrong}");
            assert!(matches!(&faults[..], [(Code::WrongType, _)]), "{wrong}: {faults:?}");
        }
        let (_, faults) = told("money: 1 USD\n");
        assert!(matches!(&faults[..], [(Code::UnknownKey, _)]), "{faults:?}");
    }

    #[test]
    fn days_begin_somewhere() {
        let (tree, _) = yaml::parse(&"x.yaml".into(), "day: 20 USD\ntimezone: Europe/Berlin\n");
        let mut faults = Vec::new();
        let spend = read_spend(&tree.unwrap(), &mut faults);
        assert_eq!((spend.timezone.as_deref(), faults.len()), (Some("Europe/Berlin"), 0));
        let (tree, _) = yaml::parse(&"x.yaml".into(), "timezone: Europe/Bärlin\n");
        read_spend(&tree.unwrap(), &mut faults);
        assert_eq!(faults.first().map(|fault| fault.code), Some(Code::UnknownTimeZone));
    }

    #[test]
    fn a_stored_definition_keeps_it() {
        let text = "steps: {}\nbudget: { day: 2.50 EUR }\n";
        let definition = Value::map([("file", Value::from("x.yaml")), ("text", Value::from(text))]).to_string();
        assert_eq!(Budget::of_definition(&definition).day, Some("2.50 EUR".parse().unwrap()));
        assert_eq!(Budget::of_definition("damaged"), Budget::default());
    }
}
