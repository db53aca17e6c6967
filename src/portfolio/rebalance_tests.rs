//! What every plan must keep, for many portfolios, and some plans to the last digit.

use proptest::prelude::*;

use super::*;

fn decimal(text: &str) -> Decimal {
    Decimal::from_str_exact(text).unwrap()
}

fn map(entries: &[(&str, &str)]) -> BTreeMap<String, Decimal> {
    entries.iter().map(|(symbol, number)| ((*symbol).to_owned(), decimal(number))).collect()
}

fn portfolio() -> Portfolio {
    Portfolio {
        holdings: map(&[("A", "100"), ("B", "10")]),
        prices: map(&[("A", "10"), ("B", "50"), ("C", "3.333")]),
        targets: map(&[("A", "0.5"), ("B", "0.3"), ("C", "0.1")]),
        cash: decimal("500"),
        currency: "USD".parse().unwrap(),
        band: decimal("0"),
        min_trade: decimal("0"),
        lots: Lots { default: Decimal::ONE, by_symbol: BTreeMap::new() },
        fees: Fees::default(),
    }
}

fn orders(portfolio: &Portfolio) -> Vec<String> {
    let plan = rebalance(portfolio).unwrap();
    assert!(plan.balanced);
    let shown = |order: &Order| {
        format!(
            "{} {} {} = {} fee {}",
            order.side.name(),
            order.quantity,
            order.symbol,
            order.value,
            order.fee.normalize()
        )
    };
    plan.orders.iter().map(shown).collect()
}

#[test]
fn orders_lead_to_the_targets_in_whole_lots() {
    // 2000 in all: A 1000 wanted 1000, B 500 wanted 600, C 0 wanted 200.
    assert_eq!(orders(&portfolio()), ["buy 2 B = 100 fee 0", "buy 60 C = 199.980 fee 0"]);
}

#[test]
fn fractional_lots_and_lots_by_symbol() {
    let mut portfolio = portfolio();
    portfolio.lots.by_symbol = map(&[("C", "0.001"), ("B", "5")]);
    assert_eq!(orders(&portfolio), ["buy 60.006 C = 199.999998 fee 0"]);
}

#[test]
fn within_the_band_nothing_is_traded() {
    let mut portfolio = portfolio();
    // B is exactly 0.05 below its target: the band's edge belongs to the band.
    portfolio.band = decimal("0.05");
    assert_eq!(orders(&portfolio), ["buy 60 C = 199.980 fee 0"]);
}

#[test]
fn small_trades_are_left_out() {
    let mut portfolio = portfolio();
    portfolio.min_trade = decimal("150");
    assert_eq!(orders(&portfolio), ["buy 60 C = 199.980 fee 0"]);
}

#[test]
fn fees_are_rounded_up_to_the_coin_and_have_a_minimum() {
    let mut portfolio = portfolio();
    portfolio.fees = Fees { fixed: decimal("0.10"), rate: decimal("0.001"), minimum: decimal("0.25") };
    assert_eq!(orders(&portfolio), ["buy 2 B = 100 fee 0.25", "buy 60 C = 199.980 fee 0.3"]);
}

#[test]
fn sales_pay_for_purchases_and_cash_is_never_overspent() {
    let mut portfolio = portfolio();
    portfolio.cash = Decimal::ZERO;
    portfolio.targets = map(&[("B", "1")]);
    portfolio.fees.fixed = decimal("1");
    // A brings 1000 - 1; that buys 19 B and not the 20 that would reach the target.
    assert_eq!(orders(&portfolio), ["sell 100 A = 1000 fee 1", "buy 19 B = 950 fee 1"]);
    let plan = rebalance(&portfolio).unwrap();
    assert_eq!(plan.cash_after, decimal("48"));
    assert_eq!(plan.positions.last().unwrap().decision, Decision::Reduced);
}

#[test]
fn too_little_cash_is_shared_in_proportion() {
    let portfolio = Portfolio {
        holdings: map(&[("X", "90")]),
        prices: map(&[("X", "1"), ("A", "1"), ("B", "1")]),
        targets: map(&[("A", "0.4"), ("B", "0.2"), ("X", "0.4")]),
        cash: decimal("10"),
        band: decimal("0.1"),
        lots: Lots { default: Decimal::ONE, by_symbol: map(&[("X", "1000")]) },
        ..portfolio()
    };
    assert_eq!(orders(&portfolio), ["buy 7 A = 7 fee 0", "buy 3 B = 3 fee 0"]);
}

#[test]
fn nonsense_is_refused() {
    let refused = |change: fn(&mut Portfolio)| {
        let mut portfolio = portfolio();
        change(&mut portfolio);
        rebalance(&portfolio).unwrap_err().to_string()
    };
    assert_eq!(refused(|p| p.prices.retain(|symbol, _| symbol != "C")), "`C` has no price");
    assert_eq!(refused(|p| p.cash = decimal("-1")), "`cash` must not be negative, found -1");
    assert_eq!(refused(|p| p.targets = map(&[("A", "0.7"), ("B", "0.31")])), "the targets add up to 1.01, more than 1");
    assert_eq!(refused(|p| p.lots.default = Decimal::ZERO), "the lot of `A` must be more than zero, found 0");
    assert_eq!(
        refused(|p| p.prices = map(&[("A", "0"), ("B", "1"), ("C", "1")])),
        "the price of `A` must be more than zero, found 0"
    );
    assert_eq!(
        refused(|p| p.holdings = map(&[("A", "12345678901234567890.12345678"), ("B", "0.1234567890123456")])),
        "the numbers are too long to be calculated with exactly"
    );
}

fn amount(max: i64, scale: u32) -> impl Strategy<Value = Decimal> {
    (0..=max).prop_map(move |units| Decimal::new(units, scale))
}

prop_compose! {
    fn portfolios()(
        symbols in proptest::collection::vec(
            (amount(5_000_000, 3), 1..500_000_i64, 0..100_i64, prop_oneof![Just("1"), Just("100"), Just("0.001"), Just("7")]),
            1..12,
        ),
        cash in amount(100_000_000, 2),
        band in amount(200, 3),
        min_trade in amount(50_000, 2),
        fixed in amount(2_000, 2),
        rate in amount(500, 5),
        minimum in amount(3_000, 2),
        cash_share in 0..100_i64,
        currency in prop_oneof![Just("USD"), Just("JPY"), Just("KWD")],
    ) -> Portfolio {
        let names = (0..symbols.len()).map(|index| format!("S{index:02}"));
        let parts = symbols.iter().map(|(_, _, part, _)| part).sum::<i64>() + cash_share + 1;
        let mut portfolio = Portfolio {
            holdings: BTreeMap::new(), prices: BTreeMap::new(), targets: BTreeMap::new(),
            cash, currency: currency.parse().unwrap(), band, min_trade,
            lots: Lots { default: Decimal::ONE, by_symbol: BTreeMap::new() },
            fees: Fees { fixed, rate, minimum },
        };
        for (name, (held, price, part, lot)) in names.zip(&symbols) {
            portfolio.holdings.insert(name.clone(), *held);
            portfolio.prices.insert(name.clone(), Decimal::new(*price, 3));
            portfolio.targets.insert(name.clone(), Decimal::new(part * 10_000 / parts, 4));
            portfolio.lots.by_symbol.insert(name, decimal(lot));
        }
        portfolio
    }
}

proptest! {
    #[test]
    fn every_plan_keeps_its_books(portfolio in portfolios()) {
        let plan = rebalance(&portfolio).unwrap();
        prop_assert!(plan.balanced);
        prop_assert_eq!(plan.value_before, plan.value_after + plan.fees);
        prop_assert!(plan.cash_after >= Decimal::ZERO);
        prop_assert_eq!(&plan, &rebalance(&portfolio).unwrap());

        let mut cash = portfolio.cash;
        let mut held = portfolio.holdings.clone();
        for order in &plan.orders {
            prop_assert_eq!(order.value, order.quantity * portfolio.prices[&order.symbol]);
            prop_assert!(order.value >= portfolio.min_trade && order.quantity > Decimal::ZERO);
            prop_assert!((order.quantity % portfolio.lots.by_symbol[&order.symbol]).is_zero());
            let signed = if order.side == Side::Buy { order.quantity } else { -order.quantity };
            *held.get_mut(&order.symbol).unwrap() += signed;
            cash -= signed * order.price + order.fee;
            // At no point of the list is there less than nothing: sales come first.
            prop_assert!(cash >= Decimal::ZERO);
        }
        prop_assert_eq!(cash, plan.cash_after);
        for position in &plan.positions {
            prop_assert_eq!(held[&position.symbol], position.quantity_after);
            prop_assert!(position.quantity_after >= Decimal::ZERO);
        }
    }

    #[test]
    fn the_band_is_respected_and_no_target_is_passed(portfolio in portfolios()) {
        let plan = rebalance(&portfolio).unwrap();
        for position in &plan.positions {
            let wanted = position.target * plan.value_before;
            let gap = wanted - position.value_before;
            if gap.abs() <= portfolio.band * plan.value_before {
                prop_assert_eq!(position.decision, Decision::WithinBand);
                prop_assert_eq!(position.quantity_before, position.quantity_after);
            } else if gap > Decimal::ZERO {
                prop_assert!(position.value_after <= wanted && position.value_after >= position.value_before);
            } else {
                prop_assert!(position.value_after >= wanted && position.value_after <= position.value_before);
            }
        }
    }

    #[test]
    fn without_limits_every_symbol_ends_within_one_lot_of_its_target(mut portfolio in portfolios()) {
        portfolio.fees = Fees::default();
        portfolio.min_trade = Decimal::ZERO;
        portfolio.band = Decimal::ZERO;
        let plan = rebalance(&portfolio).unwrap();
        for position in &plan.positions {
            if position.decision == Decision::Traded {
                let lot_value = portfolio.lots.by_symbol[&position.symbol] * position.price;
                let rest = position.target * plan.value_before - position.value_after;
                prop_assert!(rest.abs() < lot_value, "{} misses its target by {rest}", position.symbol);
            }
        }
    }
}
