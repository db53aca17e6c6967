//! `portfolio.rebalance`: orders that bring a portfolio to its targets.

use std::collections::BTreeMap;

use async_trait::async_trait;
use indexmap::IndexMap;
use rust_decimal::Decimal;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::model::Currency;
use crate::model::Effect;
use crate::model::ErrorClass;
use crate::model::Map;
use crate::model::Money;
use crate::model::Value;
use crate::model::decode;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::StepContext;
use crate::portfolio::rebalance;
use crate::portfolio::rebalance::Fees;
use crate::portfolio::rebalance::Lots;
use crate::portfolio::rebalance::Plan;
use crate::portfolio::rebalance::Portfolio;

/// Finds the orders that bring a portfolio to its target weights.
///
/// A symbol is traded only where its weight is further than `band` from its target; then it is brought to the target as
/// near as whole lots allow, never past it. Sales come first; purchases never take more cash than there is, fees included:
/// where it does not reach for all, every purchase is cut in proportion, and what is left goes to the symbol furthest
/// below its target.
///
/// Every amount is exact. `value_before` is `value_after` plus `fees` to the last digit, and `balanced` says so; numbers
/// too long to be exact are an error. A fee is rounded up to the currency's smallest coin. It only calculates: placing the
/// orders is a step of its own.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PortfolioRebalance {
    /// Units held, by symbol, e.g. `{ ACME: 120 }`.
    holdings: BTreeMap<String, Decimal>,
    /// The price of a unit, by symbol, in the currency of `cash`; other keys are ignored, so a row of a table will do.
    prices: IndexMap<String, Value>,
    /// The share of the whole value that each symbol should have, e.g. `{ ACME: 0.25 }`; the rest is cash.
    targets: BTreeMap<String, Decimal>,
    /// The cash, e.g. `10000.00 USD`.
    cash: Money,
    /// How far a weight may be from its target without a trade: `0.02` is two percent of the whole value.
    #[serde(default)]
    band: Decimal,
    /// The smallest order, e.g. `250 USD`; none where it is not given.
    #[serde(default)]
    min_trade: Option<Money>,
    /// Orders are whole multiples of this many units; `0.001` for fractional shares.
    #[serde(default = "one")]
    lot: Decimal,
    /// The lots of single symbols.
    #[serde(default)]
    lots: BTreeMap<String, Decimal>,
    /// What an order costs.
    #[serde(default)]
    fees: FeeTable,
}

/// What an order costs: `fixed + rate × value`, at least `minimum`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
struct FeeTable {
    /// For every order, e.g. `1.00 USD`.
    fixed: Option<Money>,
    /// A share of the order's value: `0.0005` is five basis points.
    rate: Decimal,
    /// The least that an order costs, e.g. `1.00 USD`.
    minimum: Option<Money>,
}

fn one() -> Decimal {
    Decimal::ONE
}

/// The orders, and the books before and after them.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct Rebalanced {
    /// Sales first, then purchases, each by symbol.
    orders: Vec<OrderRow>,
    /// Units held after the orders, by symbol.
    holdings: BTreeMap<String, Decimal>,
    /// Every symbol that is held or wanted, before and after.
    positions: Vec<PositionRow>,
    cash_before: Money,
    cash_after: Money,
    /// The value of everything, cash included.
    value_before: Money,
    value_after: Money,
    /// All fees.
    fees: Money,
    /// The value of all orders.
    turnover: Money,
    /// The largest distance of a weight from its target.
    max_drift_before: Decimal,
    max_drift_after: Decimal,
    /// Whether `value_before` is `value_after` plus `fees`, to the last digit.
    balanced: bool,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
struct OrderRow {
    /// `buy` or `sell`.
    side: String,
    symbol: String,
    quantity: Decimal,
    price: Money,
    /// Quantity times price.
    value: Money,
    fee: Money,
}

#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
struct PositionRow {
    symbol: String,
    price: Money,
    quantity_before: Decimal,
    quantity_after: Decimal,
    value_before: Money,
    value_after: Money,
    target: Decimal,
    /// Weights and drifts are rounded to ten digits.
    weight_before: Decimal,
    weight_after: Decimal,
    /// Weight less target.
    drift_before: Decimal,
    drift_after: Decimal,
    /// `within_band`, `traded`, `reduced` (the cash does not reach), `too_small` or `no_cash`.
    decision: String,
}

#[async_trait]
impl NodeType for PortfolioRebalance {
    const NAME: &'static str = "portfolio.rebalance";
    const EXAMPLE: &'static str = "holdings: { ACME: 120, BOLT: 10 }
prices: { ACME: 19.90, BOLT: 250 }
targets: { ACME: 0.40, BOLT: 0.55 }
cash: 1000.00 USD
band: 0.02
fees: { fixed: 1.00 USD, rate: 0.0005 }
";
    type Output = Rebalanced;

    fn effect(_with: &Value) -> Effect {
        Effect::Pure
    }

    async fn run(self, _ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let currency = self.cash.currency;
        let portfolio = self.portfolio()?;
        let plan = rebalance(&portfolio).map_err(|error| NodeError::new(ErrorClass::Invalid, error))?;
        Ok(Outcome::Done(output(&plan, currency)))
    }
}

impl PortfolioRebalance {
    fn portfolio(self) -> Result<Portfolio, NodeError> {
        let currency = self.cash.currency;
        let mut prices = BTreeMap::new();
        for symbol in self.holdings.keys().chain(self.targets.keys()) {
            if let Some(price) = self.prices.get(symbol) {
                prices.insert(symbol.clone(), price_of(symbol, price, currency)?);
            }
        }
        let amount = |key: &str, money: Option<Money>| match money {
            None => Ok(Decimal::ZERO),
            Some(money) if money.currency == currency => Ok(money.amount),
            Some(money) => Err(NodeError::invalid(format!("`{key}` is in {}, the cash in {currency}", money.currency))),
        };
        Ok(Portfolio {
            prices,
            currency,
            cash: self.cash.amount,
            band: self.band,
            min_trade: amount("min_trade", self.min_trade)?,
            lots: Lots { default: self.lot, by_symbol: self.lots },
            fees: Fees {
                fixed: amount("fees.fixed", self.fees.fixed)?,
                rate: self.fees.rate,
                minimum: amount("fees.minimum", self.fees.minimum)?,
            },
            holdings: self.holdings,
            targets: self.targets,
        })
    }
}

fn price_of(symbol: &str, price: &Value, currency: Currency) -> Result<Decimal, NodeError> {
    match price.revealed() {
        Value::Money(money) if money.currency == currency => Ok(money.amount),
        Value::Money(money) => {
            Err(NodeError::invalid(format!("the price of `{symbol}` is in {}, the cash in {currency}", money.currency)))
        }
        plain => decode(plain).map_err(|error| {
            NodeError::new(ErrorClass::Invalid, error).at(format!("the price of `{symbol}` is not a number"))
        }),
    }
}

fn output(plan: &Plan, currency: Currency) -> Value {
    let money = |amount: Decimal| Value::Money(Money { amount, currency });
    let orders = plan.orders.iter().map(|order| {
        Value::map([
            ("side", Value::from(order.side.name())),
            ("symbol", Value::from(order.symbol.as_str())),
            ("quantity", order.quantity.into()),
            ("price", money(order.price)),
            ("value", money(order.value)),
            ("fee", money(order.fee)),
        ])
    });
    let positions = plan.positions.iter().map(|position| {
        Value::map([
            ("symbol", Value::from(position.symbol.as_str())),
            ("price", money(position.price)),
            ("quantity_before", position.quantity_before.into()),
            ("quantity_after", position.quantity_after.into()),
            ("value_before", money(position.value_before)),
            ("value_after", money(position.value_after)),
            ("target", position.target.into()),
            ("weight_before", position.weight_before.into()),
            ("weight_after", position.weight_after.into()),
            ("drift_before", (position.weight_before - position.target).into()),
            ("drift_after", (position.weight_after - position.target).into()),
            ("decision", position.decision.name().into()),
        ])
    });
    let held = plan.positions.iter().filter(|position| !position.quantity_after.is_zero());
    let held: Map = held.map(|position| (position.symbol.as_str().into(), position.quantity_after.into())).collect();
    let drift = |weight: fn(&rebalance::Position) -> Decimal| {
        plan.positions.iter().map(|position| (weight(position) - position.target).abs()).max().unwrap_or_default()
    };
    Value::map([
        ("orders", Value::list(orders.collect())),
        ("holdings", held.into()),
        ("positions", Value::list(positions.collect())),
        ("cash_before", money(plan.cash_before)),
        ("cash_after", money(plan.cash_after)),
        ("value_before", money(plan.value_before)),
        ("value_after", money(plan.value_after)),
        ("fees", money(plan.fees)),
        ("turnover", money(plan.turnover)),
        ("max_drift_before", drift(|position| position.weight_before).into()),
        ("max_drift_after", drift(|position| position.weight_after).into()),
        ("balanced", plan.balanced.into()),
    ])
}
