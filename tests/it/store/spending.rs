//! The account of money: exact, all or none, never past a budget.

use std::sync::Arc;

use pipewright::model::Timestamp;
use pipewright::store::NewSpending;
use pipewright::store::Overspent;
use pipewright::store::Settlement;
use pipewright::store::SpendingFilter;
use pipewright::store::SpendingLimits;
use pipewright::store::SpendingScope;
use pipewright::store::SpendingState;
use pipewright::store::SpendingStep;
use rust_decimal::Decimal;

use super::Case;
use super::Ground;
use super::NOW;
use super::run_id;

pub(super) const CASES: &[(&str, Case)] = &[
    ("a_request_counts_in_all_its_scopes_or_in_none", |ground| Box::pin(all_or_none(ground))),
    ("two_processes_never_spend_past_a_budget", |ground| Box::pin(two_processes(ground))),
    ("what_is_said_behind_is_in_the_account_for_the_next_one_and_for_whoever_reads", |ground| Box::pin(behind(ground))),
    ("many_at_once_are_counted_as_one_after_the_other", |ground| Box::pin(many(ground))),
    ("whoever_is_gone_before_he_may_send_has_spent_nothing", |ground| Box::pin(gone(ground))),
    ("totals_that_another_process_has_changed_are_read_again", |ground| Box::pin(changed(ground))),
    ("an_answer_corrects_what_was_counted_once", |ground| Box::pin(settled(ground))),
    ("what_was_reserved_before_a_crash_stays_spent", |ground| Box::pin(crash(ground))),
    ("an_unknown_price_is_never_zero", |ground| Box::pin(unknown(ground))),
    ("old_spending_goes", |ground| Box::pin(removed(ground))),
];

const DAY: &str = "2026-03-02";

fn amount(text: &str) -> Decimal {
    text.parse().unwrap()
}

fn spending(id: &str, run: u128, reserved: Option<&str>) -> Arc<NewSpending> {
    Arc::new(NewSpending {
        id: id.to_owned(),
        at: NOW,
        day: DAY.to_owned(),
        step: Some(SpendingStep { top: run_id(1), run: run_id(run), path: "post".to_owned(), begun: None }),
        pipeline: "demo".to_owned(),
        connection: "far".to_owned(),
        connector: "far".to_owned(),
        operation: "post".to_owned(),
        unit: "USD".parse().unwrap(),
        reserved: reserved.map(amount),
    })
}

fn project() -> SpendingScope {
    SpendingScope::Project(DAY.to_owned())
}

async fn all_or_none(ground: Ground) {
    let store = ground.open().await;
    let usd = "USD".parse().unwrap();
    let limits = SpendingLimits { run: Some(amount("0.30")), step: Some(Decimal::ONE), ..SpendingLimits::default() };
    // Thirds of floats would not meet the bound.
    for id in ["a", "b", "c"] {
        assert!(store.reserve_spending(&spending(id, 2, Some("0.10")), &limits).await.unwrap().is_ok());
    }
    let over = store.reserve_spending(&spending("d", 3, Some("0.000001")), &limits).await.unwrap();
    let scope = SpendingScope::Run(run_id(1));
    assert_eq!(over, Err(Overspent { scope: scope.clone(), used: amount("0.30"), limit: amount("0.30") }));
    // Nothing of it was counted anywhere, not even where it would have fitted.
    for (scope, spent) in [
        (scope, "0.30"),
        (SpendingScope::Step(run_id(2), "post".to_owned()), "0.30"),
        (SpendingScope::Step(run_id(3), "post".to_owned()), "0"),
        (SpendingScope::Pipeline("demo".to_owned(), DAY.to_owned()), "0.30"),
        (project(), "0.30"),
    ] {
        assert_eq!(store.spent(&scope, usd).await.unwrap(), amount(spent), "{scope}");
    }
    assert_eq!(store.spent(&project(), "EUR".parse().unwrap()).await.unwrap(), Decimal::ZERO);
    assert_eq!(store.spending(&SpendingFilter { most: 10, ..SpendingFilter::default() }).await.unwrap().len(), 3);
}

async fn two_processes(ground: Ground) {
    let stores = [ground.open().await, ground.open().await];
    let limits = SpendingLimits { project: Some(amount("0.10")), ..SpendingLimits::default() };
    let tasks: Vec<_> = (0..64)
        .map(|number: u128| {
            let store = stores[usize::from(number % 2 == 1)].clone();
            let new = spending(&format!("r{number}"), number + 2, Some("0.015"));
            tokio::spawn(async move { store.reserve_spending(&new, &limits).await.unwrap().is_ok() })
        })
        .collect();
    let mut sent = 0;
    for task in tasks {
        sent += u32::from(task.await.unwrap());
    }
    // Six fit, and the seventh does not.
    assert_eq!(sent, 6);
    assert_eq!(stores[0].spent(&project(), "USD".parse().unwrap()).await.unwrap(), amount("0.09"));
}

async fn settled(ground: Ground) {
    let store = ground.open().await;
    let usd = "USD".parse().unwrap();
    let none = SpendingLimits::default();
    let end = |state, cost: Option<&str>| Settlement {
        amount: cost.map(amount),
        model: Some("m1".to_owned()),
        tokens_in: Some(7),
        tokens_out: Some(3),
        ..Settlement::bare(state)
    };
    let told = [
        ("above", end(SpendingState::Settled, Some("0.25"))),
        ("below", end(SpendingState::Settled, Some("0.01"))),
        ("refused", Settlement::bare(SpendingState::Released)),
        ("lost", Settlement::bare(SpendingState::Unknown)),
    ];
    for (id, end) in &told {
        let reservation = store.reserve_spending(&spending(id, 2, Some("0.10")), &none).await.unwrap().unwrap();
        assert!(store.settle_spending(&reservation, end.clone(), NOW).await.unwrap());
        // Saying it twice changes nothing, not even at the same time, or behind.
        let again = || store.settle_spending(&reservation, Settlement::bare(SpendingState::Released), NOW);
        let (one, other) = tokio::join!(again(), again());
        assert!(!one.unwrap() && !other.unwrap());
        store.settle_spending_behind(&reservation, Settlement::bare(SpendingState::Released), NOW);
    }
    assert_eq!(store.spent(&project(), usd).await.unwrap(), amount("0.36"));
    let rows = store.spending(&SpendingFilter { most: 10, ..SpendingFilter::default() }).await.unwrap();
    let counted: Vec<_> = rows.iter().map(|row| (row.new.id.as_str(), row.counted(), row.tokens_in)).collect();
    let all = [("above", "0.25", Some(7)), ("below", "0.01", Some(7)), ("lost", "0.10", None), ("refused", "0", None)];
    assert_eq!(counted, all.map(|(id, cost, tokens)| (id, Some(amount(cost)), tokens)));
    assert_eq!(rows[0].model.as_deref(), Some("m1"));
}

async fn crash(ground: Ground) {
    let limits = SpendingLimits { run: Some(amount("0.10")), ..SpendingLimits::default() };
    let store = ground.open().await;
    store.reserve_spending(&spending("a", 2, Some("0.10")), &limits).await.unwrap().unwrap();
    drop(store);
    let store = ground.open().await;
    let over = store.reserve_spending(&spending("b", 2, Some("0.01")), &limits).await.unwrap();
    assert_eq!(over.map_err(|over| over.used), Err(amount("0.10")));
    let rows = store.spending(&SpendingFilter { most: 10, ..SpendingFilter::default() }).await.unwrap();
    assert_eq!(
        rows.iter().map(|row| (row.state, row.counted())).collect::<Vec<_>>(),
        [(SpendingState::Reserved, Some(amount("0.10")))]
    );
}

async fn unknown(ground: Ground) {
    let store = ground.open().await;
    let limits = SpendingLimits { step: Some(amount("0.10")), ..SpendingLimits::default() };
    let one = store.reserve_spending(&spending("a", 2, None), &limits).await.unwrap().unwrap();
    store.settle_spending(&one, Settlement::bare(SpendingState::Settled), NOW).await.unwrap();
    let other = store.reserve_spending(&spending("b", 2, None), &limits).await.unwrap().unwrap();
    let known = Settlement { amount: Some(amount("0.10")), ..Settlement::bare(SpendingState::Settled) };
    store.settle_spending(&other, known, NOW).await.unwrap();
    let rows = store.spending(&SpendingFilter { most: 10, ..SpendingFilter::default() }).await.unwrap();
    let all: Vec<_> = rows.iter().map(|row| (row.state, row.counted())).collect();
    assert_eq!(all, [(SpendingState::Unknown, None), (SpendingState::Settled, Some(amount("0.10")))]);
    // With nothing left not even what nobody knows may go.
    assert!(store.reserve_spending(&spending("c", 2, None), &limits).await.unwrap().is_err());
}

async fn removed(ground: Ground) {
    let store = ground.open().await;
    for (id, at) in [("old", Timestamp(NOW.0 - 1)), ("new", NOW)] {
        let new = NewSpending { at, step: None, day: id.to_owned(), ..(*spending(id, 2, Some("1"))).clone() };
        store.reserve_spending(&Arc::new(new), &SpendingLimits::default()).await.unwrap().unwrap();
    }
    // A row, and the totals of its pipeline and of its day.
    assert_eq!(store.remove_spending(NOW, 100).await.unwrap(), 3);
    let rows = store.spending(&SpendingFilter { most: 10, ..SpendingFilter::default() }).await.unwrap();
    assert_eq!(rows.iter().map(|row| row.new.id.as_str()).collect::<Vec<_>>(), ["new"]);
    let usd = "USD".parse().unwrap();
    assert_eq!(store.spent(&SpendingScope::Project("new".to_owned()), usd).await.unwrap(), Decimal::ONE);
}

async fn behind(ground: Ground) {
    let store = ground.open().await;
    let usd = "USD".parse().unwrap();
    let limits = SpendingLimits { project: Some(amount("0.10")), ..SpendingLimits::default() };
    let cheap = Settlement { amount: Some(amount("0.01")), ..Settlement::bare(SpendingState::Settled) };
    // Each reserves all that there is, and gives most of it back: only in its order does that fit.
    for number in 1..=9 {
        let new = spending(&format!("r{number}"), 2, Some(if number == 1 { "0.10" } else { "0.02" }));
        let reservation = store.reserve_spending(&new, &limits).await.unwrap().unwrap();
        store.settle_spending_behind(&reservation, cheap.clone(), NOW);
    }
    assert_eq!(store.spent(&project(), usd).await.unwrap(), amount("0.09"));
    let rows = store.spending(&SpendingFilter { most: 10, ..SpendingFilter::default() }).await.unwrap();
    assert!(rows.iter().all(|row| row.state == SpendingState::Settled), "{rows:?}");
    // Closing the store, or its end without a word, leaves nothing behind.
    let last = store.reserve_spending(&spending("last", 2, Some("0.01")), &limits).await.unwrap().unwrap();
    store.settle_spending_behind(&last, Settlement::bare(SpendingState::Released), NOW);
    store.close().await.unwrap();
    let store = ground.open().await;
    assert_eq!(store.spent(&project(), usd).await.unwrap(), amount("0.09"));
}

async fn many(ground: Ground) {
    let store = ground.open().await;
    let usd = "USD".parse().unwrap();
    let limits = SpendingLimits { run: Some(amount("7")), ..SpendingLimits::default() };
    let tasks: Vec<_> = (0..1_500)
        .map(|number: u128| {
            let store = store.clone();
            let new = spending(&format!("r{number}"), number + 2, Some("0.01"));
            tokio::spawn(async move {
                let reservation = store.reserve_spending(&new, &limits).await.unwrap().ok()?;
                let cheap = Settlement { amount: Some(amount("0.001")), ..Settlement::bare(SpendingState::Settled) };
                assert!(store.settle_spending(&reservation, cheap, NOW).await.unwrap());
                Some(())
            })
        })
        .collect();
    let mut sent = 0;
    for task in tasks {
        sent += i64::from(task.await.unwrap().is_some());
    }
    // Seven hundred fit at once; what they give back makes room for others.
    assert!(sent >= 700, "{sent}");
    let spent = Decimal::new(sent, 3);
    assert_eq!(store.spent(&SpendingScope::Run(run_id(1)), usd).await.unwrap(), spent);
    assert_eq!(store.spent(&project(), usd).await.unwrap(), spent);
    let rows = store.spending(&SpendingFilter { most: 2_000, ..SpendingFilter::default() }).await.unwrap();
    assert_eq!(rows.iter().filter_map(pipewright::store::SpendingRecord::counted).sum::<Decimal>(), spent);
}

async fn gone(ground: Ground) {
    let store = ground.open().await;
    let usd = "USD".parse().unwrap();
    let mut answered = Vec::new();
    for number in 0..40 {
        let new = spending(&format!("r{number}"), 2, Some("1"));
        let none = SpendingLimits::default();
        let asks = store.reserve_spending(&new, &none);
        // It is given up before it is heard, unless the store was faster than this line.
        tokio::select! {
            biased;
            answer = asks => answered.push(answer.unwrap().unwrap()),
            () = std::future::ready(()) => {}
        }
    }
    assert!(answered.len() < 20, "nearly all are given up: {}", answered.len());
    for reservation in &answered {
        store.settle_spending(reservation, Settlement::bare(SpendingState::Released), NOW).await.unwrap();
    }
    store.spending_written().await;
    let counted = store.spent(&project(), usd).await.unwrap();
    assert_eq!(counted, Decimal::ZERO);
    let rows = store.spending(&SpendingFilter { most: 100, ..SpendingFilter::default() }).await.unwrap();
    assert!(rows.iter().all(|row| row.state == SpendingState::Released), "{rows:?}");
}

async fn changed(ground: Ground) {
    let stores = [ground.open().await, ground.open().await];
    let usd = "USD".parse().unwrap();
    let limits = SpendingLimits { project: Some(amount("1")), ..SpendingLimits::default() };
    let mut held = Vec::new();
    // Each in turn writes what the other remembers.
    for number in 0..10 {
        let store = &stores[number % 2];
        let new = spending(&format!("r{number}"), 2, Some("0.1"));
        held.push((store, store.reserve_spending(&new, &limits).await.unwrap().unwrap()));
    }
    assert!(stores[0].reserve_spending(&spending("over", 2, Some("0.1")), &limits).await.unwrap().is_err());
    // What one gives back the other may spend.
    let (store, reservation) = held.pop().unwrap();
    assert!(store.settle_spending(&reservation, Settlement::bare(SpendingState::Released), NOW).await.unwrap());
    assert!(stores[0].reserve_spending(&spending("again", 2, Some("0.1")), &limits).await.unwrap().is_ok());
    assert_eq!(stores[1].spent(&project(), usd).await.unwrap(), Decimal::ONE);
}
