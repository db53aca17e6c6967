//! Rebalancing: from holdings, prices and target weights to orders, with books that balance to the last digit.
//!
//! Every amount is exact: a product or a sum that would need more than 28 digits is an error, never a rounding. Weights
//! are for people: they are rounded to ten digits, and nothing is decided by them.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use rust_decimal::Decimal;
use rust_decimal::RoundingStrategy;
use rust_decimal::prelude::ToPrimitive;

use crate::model::Currency;
use crate::model::NumberError;
use crate::model::exact_product;
use crate::model::exact_sum;

/// What there is, what it should be, and how trading is limited.
#[derive(Clone, Debug)]
pub struct Portfolio {
    /// Units held, by symbol; never negative.
    pub holdings: BTreeMap<String, Decimal>,
    /// The price of a unit, by symbol; needed for everything that is held or wanted.
    pub prices: BTreeMap<String, Decimal>,
    /// The share of the whole value that each symbol should have; the rest is cash.
    pub targets: BTreeMap<String, Decimal>,
    pub cash: Decimal,
    pub currency: Currency,
    /// A symbol is traded only where its weight is further than this from its target.
    pub band: Decimal,
    /// Orders of a smaller value are not placed.
    pub min_trade: Decimal,
    pub lots: Lots,
    pub fees: Fees,
}

/// How finely a symbol trades: orders are whole multiples of the lot.
#[derive(Clone, Debug)]
pub struct Lots {
    pub default: Decimal,
    pub by_symbol: BTreeMap<String, Decimal>,
}

/// What an order costs: `max(fixed + rate × value, minimum)`, rounded up to the currency's smallest coin.
#[derive(Clone, Debug, Default)]
pub struct Fees {
    pub fixed: Decimal,
    pub rate: Decimal,
    pub minimum: Decimal,
}

/// The orders and the books before and after them.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Sales first, then purchases, each by symbol.
    pub orders: Vec<Order>,
    /// Every symbol that is held or wanted, by symbol.
    pub positions: Vec<Position>,
    pub cash_before: Decimal,
    pub cash_after: Decimal,
    pub value_before: Decimal,
    pub value_after: Decimal,
    pub fees: Decimal,
    /// The value of all orders.
    pub turnover: Decimal,
    /// Whether `value_before` is `value_after` and `fees`, to the last digit.
    pub balanced: bool,
}

/// One order.
#[derive(Clone, Debug, PartialEq)]
pub struct Order {
    pub side: Side,
    pub symbol: String,
    pub quantity: Decimal,
    pub price: Decimal,
    /// Quantity × price.
    pub value: Decimal,
    pub fee: Decimal,
}

/// Whether an order buys or sells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Buy,
    Sell,
}

/// One symbol before and after the orders.
#[derive(Clone, Debug, PartialEq)]
pub struct Position {
    pub symbol: String,
    pub price: Decimal,
    pub quantity_before: Decimal,
    pub quantity_after: Decimal,
    pub value_before: Decimal,
    pub value_after: Decimal,
    pub target: Decimal,
    /// Shares of the whole value, rounded to ten digits.
    pub weight_before: Decimal,
    pub weight_after: Decimal,
    pub decision: Decision,
}

/// Why a symbol is traded or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The weight is within the band.
    WithinBand,
    /// An order brings it to the target, as near as whole lots allow.
    Traded,
    /// The order buys less than wanted, because the cash does not reach.
    Reduced,
    /// The order would be smaller than one lot or than the smallest trade, or would cost what it brings.
    TooSmall,
    /// There is no cash left to buy it.
    NoCash,
}

/// Why there is no plan.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum RebalanceError {
    #[error("`{symbol}` has no price")]
    NoPrice { symbol: String },
    #[error("the price of `{symbol}` must be more than zero, found {price}")]
    BadPrice { symbol: String, price: Decimal },
    #[error("`{what}` must not be negative, found {found}")]
    Negative { what: String, found: Decimal },
    #[error("the lot of `{symbol}` must be more than zero, found {lot}")]
    BadLot { symbol: String, lot: Decimal },
    #[error("the targets add up to {sum}, more than 1")]
    Targets { sum: Decimal },
    #[error("the numbers are too long to be calculated with exactly")]
    Digits(#[from] NumberError),
}

impl Side {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Buy => "buy",
            Self::Sell => "sell",
        }
    }
}

impl Decision {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::WithinBand => "within_band",
            Self::Traded => "traded",
            Self::Reduced => "reduced",
            Self::TooSmall => "too_small",
            Self::NoCash => "no_cash",
        }
    }
}

/// Finds the orders that bring a portfolio to its targets.
///
/// Only symbols outside the band are traded, to their targets and never past them. Sales come first; purchases take no
/// more cash than there is, fees included. Where it does not reach for all, every purchase is cut in proportion, and what
/// is left goes to the one that is furthest below its target first (then by symbol). The same input gives the same plan.
///
/// # Errors
/// Inputs that make no sense, and numbers too long to be exact.
pub fn rebalance(portfolio: &Portfolio) -> Result<Plan, RebalanceError> {
    check(portfolio)?;
    let mut lines = lines(portfolio)?;
    let mut cash = portfolio.cash;
    for line in lines.iter_mut().filter(|line| line.wanted < 0) {
        line.sell(portfolio, &mut cash)?;
    }
    buy_all(&mut lines, portfolio, &mut cash)?;
    close_books(lines, portfolio, cash)
}

/// A symbol on its way through the plan.
struct Line {
    symbol: String,
    price: Decimal,
    quantity: Decimal,
    value: Decimal,
    target: Decimal,
    lot: Decimal,
    /// The price of one lot.
    lot_value: Decimal,
    /// What is missing to the target (positive) or too much (negative), in money.
    gap: Decimal,
    /// The whole lots that fit into the gap: bought where positive.
    wanted: i128,
    /// The lots that are traded.
    lots: i128,
    decision: Decision,
}

fn check(portfolio: &Portfolio) -> Result<(), RebalanceError> {
    let fees = &portfolio.fees;
    let singles = [
        ("cash", portfolio.cash),
        ("band", portfolio.band),
        ("min_trade", portfolio.min_trade),
        ("fees.fixed", fees.fixed),
        ("fees.rate", fees.rate),
        ("fees.minimum", fees.minimum),
    ];
    let held = portfolio.holdings.iter().map(|(symbol, quantity)| (format!("holdings.{symbol}"), *quantity));
    let wanted = portfolio.targets.iter().map(|(symbol, weight)| (format!("targets.{symbol}"), *weight));
    let all = singles.into_iter().map(|(what, found)| (what.to_owned(), found)).chain(held).chain(wanted);
    for (what, found) in all {
        if found < Decimal::ZERO {
            return Err(RebalanceError::Negative { what, found });
        }
    }
    let mut sum = Decimal::ZERO;
    for weight in portfolio.targets.values() {
        sum = exact_sum(sum, *weight)?;
    }
    if sum > Decimal::ONE {
        return Err(RebalanceError::Targets { sum });
    }
    Ok(())
}

fn lines(portfolio: &Portfolio) -> Result<Vec<Line>, RebalanceError> {
    let mut symbols: Vec<&String> = portfolio.holdings.keys().chain(portfolio.targets.keys()).collect();
    symbols.sort();
    symbols.dedup();
    let mut lines = Vec::with_capacity(symbols.len());
    let mut total = portfolio.cash;
    for symbol in symbols {
        let line = line(portfolio, symbol)?;
        total = exact_sum(total, line.value)?;
        lines.push(line);
    }
    let allowed = exact_product(portfolio.band, total)?;
    for line in &mut lines {
        line.gap = exact_sum(exact_product(line.target, total)?, -line.value)?;
        if line.gap.abs() <= allowed {
            continue;
        }
        let lots = lots_within(line.gap.abs(), line.lot_value)?;
        line.wanted = if line.gap.is_sign_negative() { -lots } else { lots };
        line.decision = Decision::TooSmall;
    }
    Ok(lines)
}

fn line(portfolio: &Portfolio, symbol: &str) -> Result<Line, RebalanceError> {
    let of = |map: &BTreeMap<String, Decimal>| map.get(symbol).copied();
    let price = of(&portfolio.prices).ok_or_else(|| RebalanceError::NoPrice { symbol: symbol.to_owned() })?;
    if price <= Decimal::ZERO {
        return Err(RebalanceError::BadPrice { symbol: symbol.to_owned(), price });
    }
    let lot = of(&portfolio.lots.by_symbol).unwrap_or(portfolio.lots.default);
    if lot <= Decimal::ZERO {
        return Err(RebalanceError::BadLot { symbol: symbol.to_owned(), lot });
    }
    let quantity = of(&portfolio.holdings).unwrap_or_default();
    Ok(Line {
        symbol: symbol.to_owned(),
        price,
        quantity,
        value: exact_product(quantity, price)?,
        target: of(&portfolio.targets).unwrap_or_default(),
        lot,
        lot_value: exact_product(lot, price)?,
        gap: Decimal::ZERO,
        wanted: 0,
        lots: 0,
        decision: Decision::WithinBand,
    })
}

/// Returns how many lots fit into an amount, exactly.
fn lots_within(amount: Decimal, lot_value: Decimal) -> Result<i128, RebalanceError> {
    let quotient = amount.checked_div(lot_value).ok_or(NumberError::Overflow)?;
    let mut lots = quotient.floor().to_i128().ok_or(NumberError::Overflow)?;
    // The quotient is rounded at its last digit: it may have come up to a whole number from below.
    if lots > 0 && times(lot_value, lots)? > amount {
        lots -= 1;
    }
    Ok(lots)
}

fn times(amount: Decimal, count: i128) -> Result<Decimal, NumberError> {
    let count = Decimal::try_from_i128_with_scale(count, 0).map_err(|_| NumberError::Overflow)?;
    exact_product(amount, count)
}

fn fee(portfolio: &Portfolio, value: Decimal) -> Result<Decimal, NumberError> {
    let fees = &portfolio.fees;
    let fee = exact_sum(fees.fixed, exact_product(fees.rate, value)?)?.max(fees.minimum);
    Ok(fee.round_dp_with_strategy(coin_digits(portfolio.currency), RoundingStrategy::AwayFromZero))
}

/// Returns how many digits the smallest coin of a currency has (ISO 4217).
fn coin_digits(currency: Currency) -> u32 {
    match currency.as_str() {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "VND" | "VUV"
        | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        _ => 2,
    }
}

impl Line {
    /// Returns what an order of so many lots is worth.
    fn worth(&self, lots: i128) -> Result<Decimal, NumberError> {
        times(self.lot_value, lots)
    }

    /// Returns what buying so many lots takes, fee included.
    fn cost(&self, portfolio: &Portfolio, lots: i128) -> Result<Decimal, NumberError> {
        if lots == 0 {
            return Ok(Decimal::ZERO);
        }
        let value = self.worth(lots)?;
        exact_sum(value, fee(portfolio, value)?)
    }

    fn sell(&mut self, portfolio: &Portfolio, cash: &mut Decimal) -> Result<(), RebalanceError> {
        // No more than what is held can be too much, so a sale never leaves less than nothing.
        let value = self.worth(-self.wanted)?;
        let fee = fee(portfolio, value)?;
        if value < portfolio.min_trade || fee >= value {
            return Ok(());
        }
        *cash = exact_sum(exact_sum(*cash, value)?, -fee)?;
        self.lots = self.wanted;
        self.decision = Decision::Traded;
        Ok(())
    }

    /// Returns the most lots, up to `most`, that so much cash buys. The cost grows with the lots, so halving finds it.
    fn affordable(&self, portfolio: &Portfolio, cash: Decimal, most: i128) -> Result<i128, RebalanceError> {
        let (mut low, mut high) = (0, most);
        while low < high {
            let middle = low + (high - low + 1) / 2;
            if self.cost(portfolio, middle)? <= cash {
                low = middle;
            } else {
                high = middle - 1;
            }
        }
        Ok(low)
    }

    /// Sets how many lots are bought and takes the difference from the cash.
    fn buy(&mut self, portfolio: &Portfolio, cash: &mut Decimal, lots: i128) -> Result<(), RebalanceError> {
        let back = exact_sum(*cash, self.cost(portfolio, self.lots)?)?;
        *cash = exact_sum(back, -self.cost(portfolio, lots)?)?;
        self.lots = lots;
        Ok(())
    }
}

fn buy_all(lines: &mut [Line], portfolio: &Portfolio, cash: &mut Decimal) -> Result<(), RebalanceError> {
    let mut buys = Vec::new();
    let mut cost = Decimal::ZERO;
    for line in lines.iter_mut().filter(|line| line.wanted > 0) {
        let value = line.worth(line.wanted)?;
        if value >= portfolio.min_trade {
            cost = exact_sum(cost, line.cost(portfolio, line.wanted)?)?;
            buys.push(line);
        }
    }
    // The furthest below its target first; the lines are in the order of their symbols, and the sort is stable.
    buys.sort_by_key(|line| std::cmp::Reverse(line.gap));
    let short = cost > *cash;
    if short {
        let share = cash.checked_div(cost).ok_or(NumberError::Overflow)?;
        for line in &mut buys {
            let part = share_of(line.wanted, share)?;
            let lots = line.affordable(portfolio, *cash, part)?;
            line.buy(portfolio, cash, lots)?;
        }
    }
    for line in &mut buys {
        let room = exact_sum(*cash, line.cost(portfolio, line.lots)?)?;
        let lots = if short { line.affordable(portfolio, room, line.wanted)? } else { line.wanted };
        line.buy(portfolio, cash, lots)?;
    }
    for line in buys {
        if line.lots > 0 && line.worth(line.lots)? < portfolio.min_trade {
            line.buy(portfolio, cash, 0)?;
        }
        line.decision = match line.lots.cmp(&line.wanted) {
            Ordering::Less if line.lots == 0 => Decision::NoCash,
            Ordering::Less => Decision::Reduced,
            _ => Decision::Traded,
        };
    }
    Ok(())
}

/// Returns about so large a part of a number of lots; nothing is decided by its last digit.
fn share_of(lots: i128, share: Decimal) -> Result<i128, RebalanceError> {
    let lots = Decimal::try_from_i128_with_scale(lots, 0).map_err(|_| NumberError::Overflow)?;
    let part = lots.checked_mul(share).ok_or(NumberError::Overflow)?;
    Ok(part.floor().to_i128().ok_or(NumberError::Overflow)?)
}

fn close_books(lines: Vec<Line>, portfolio: &Portfolio, cash_after: Decimal) -> Result<Plan, RebalanceError> {
    let mut value_before = portfolio.cash;
    let mut value_after = cash_after;
    let (mut fees, mut turnover) = (Decimal::ZERO, Decimal::ZERO);
    let (mut sales, mut purchases, mut changes) = (Vec::new(), Vec::new(), Vec::new());
    for line in lines {
        let change = times(line.lot, line.lots)?;
        let quantity_after = exact_sum(line.quantity, change)?;
        let held_after = exact_product(quantity_after, line.price)?;
        value_before = exact_sum(value_before, line.value)?;
        value_after = exact_sum(value_after, held_after)?;
        if line.lots != 0 {
            let value = exact_product(change.abs(), line.price)?;
            let fee = fee(portfolio, value)?;
            fees = exact_sum(fees, fee)?;
            turnover = exact_sum(turnover, value)?;
            let side = if line.lots > 0 { Side::Buy } else { Side::Sell };
            let order =
                Order { side, symbol: line.symbol.clone(), quantity: change.abs(), price: line.price, value, fee };
            if side == Side::Sell { sales.push(order) } else { purchases.push(order) }
        }
        changes.push((line, quantity_after, held_after));
    }
    let balanced = value_before == exact_sum(value_after, fees)?;
    let positions = changes.into_iter().map(|(line, quantity_after, held_after)| Position {
        weight_before: weight(line.value, value_before),
        weight_after: weight(held_after, value_after),
        symbol: line.symbol,
        price: line.price,
        quantity_before: line.quantity,
        quantity_after,
        value_before: line.value,
        value_after: held_after,
        target: line.target,
        decision: line.decision,
    });
    Ok(Plan {
        positions: positions.collect(),
        orders: sales.into_iter().chain(purchases).collect(),
        cash_before: portfolio.cash,
        cash_after,
        value_before,
        value_after,
        fees,
        turnover,
        balanced,
    })
}

fn weight(part: Decimal, whole: Decimal) -> Decimal {
    part.checked_div(whole).unwrap_or_default().round_dp(10).normalize()
}

#[cfg(test)]
#[path = "rebalance_tests.rs"]
mod tests;
