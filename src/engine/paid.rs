//! Paid reads that a crash, or the end of a process, cut off: what was asked counts as spent, and is asked again only if the
//! step says so.
//!
//! A row of the account of money is durable before a paid request leaves, and names the journal's event with which its attempt
//! began. So an attempt that has begun and not ended has paid for nothing, or the rows say for what.

use super::Engine;
use super::driver::Driver;
use super::finish::Done;
use super::ledger::RESENDS;
use super::ledger::pause;
use super::machine::UnitKey;
use super::perform::Doing;
use crate::model::Duration;
use crate::model::ErrorClass;
use crate::model::Happened;
use crate::model::InDoubt;
use crate::model::RunEvent;
use crate::model::RunId;
use crate::model::Value;
use crate::node::LogLevel;
use crate::node::LogSink;
use crate::store::Error;
use crate::store::SpendingRecord;
use crate::store::SpendingState;
use crate::template::EvalError;
use crate::template::Scope;

/// How many requests an error names.
const NAMED: usize = 3;

/// How to go on with a paid read whose attempt was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    /// It has paid for nothing.
    Begin,
    /// The step says: ask again, after this pause.
    Resend(Duration),
    /// It fails.
    Fail,
}

/// Decides it. `resent` is how often it was asked again already.
fn decide(asked: &[SpendingRecord], policy: InDoubt, resent: u32) -> Next {
    if asked.is_empty() {
        return Next::Begin;
    }
    match policy {
        InDoubt::Resend if resent < RESENDS => Next::Resend(pause(resent)),
        InDoubt::Resend | InDoubt::Hold | InDoubt::Drop => Next::Fail,
    }
}

/// Says what was asked, when, and what it counts as.
fn told(asked: &[SpendingRecord]) -> String {
    let one = |row: &SpendingRecord| {
        let new = &row.new;
        let word = if row.state == SpendingState::Settled { "spent" } else { "reserved" };
        let amount =
            row.counted().map_or("an unknown amount".to_owned(), |it| format!("{} {}", it.normalize(), new.unit));
        let (connector, operation, connection, at) = (&new.connector, &new.operation, &new.connection, new.at);
        format!("`{connector}.{operation}` of connection `{connection}` at {at}, {amount} {word}")
    };
    let mut told: Vec<_> = asked.iter().take(NAMED).map(one).collect();
    if asked.len() > NAMED {
        told.push(format!("and {} more", asked.len() - NAMED));
    }
    told.join("; ")
}

impl Driver {
    /// Starts an attempt, once it is known that none before it has paid for an answer that nobody has.
    pub(super) fn begin(&mut self, key: UnitKey, doing: Doing, input: Value, scope: Scope) -> Result<(), EvalError> {
        let Some(begun) = self.machine.begun(key) else { return self.start(key, doing, input, scope) };
        let (store, run, path) = (self.parts().store.clone(), self.run, self.machine.path(key));
        self.jobs.spawn(async move {
            let asked = store.paid_by(run, &path, begun.number).await;
            (key, Done::Paid(asked, Box::new((doing, input, scope))))
        });
        Ok(())
    }

    /// Goes on with a paid read whose attempt was cut off, now that it is known what that has asked.
    pub(super) fn looked_back(
        &mut self,
        key: UnitKey,
        asked: &[SpendingRecord],
        (doing, input, scope): (Doing, Value, Scope),
    ) {
        let now = self.now();
        if self.is_cut_off(key) {
            return self.machine.abandon(key, now);
        }
        let resent = self.machine.resent(key);
        let next = decide(asked, self.machine.definition(key).in_doubt, resent);
        let (Some(begun), Some(first)) = (self.machine.begun(key), asked.first()) else {
            if let Err(error) = self.start(key, doing, input, scope) {
                let error = self.step_error(ErrorClass::Invalid, error.message);
                self.give_up(key, now, error);
            }
            return;
        };
        let told = told(asked);
        let lost = format!("the process ended before the answer was kept, and it counts as spent ({told})");
        if let Next::Resend(pause) = next {
            let line = format!("asked again, as `in_doubt` says, and perhaps paid for once more: {lost}");
            self.log_sink(key).log(LogLevel::Warn, &line);
            let error = self.step_error(ErrorClass::Unavailable, lost);
            return self.machine.lose(key, begun.at, error, Some(now.plus(pause)), now);
        }
        let top = first.new.step.as_ref().map_or(self.run, |step| step.top);
        let mend = match resent {
            0 => "it is asked again where the step says `in_doubt: resend`".to_owned(),
            times => format!("it was asked again {times} times already"),
        };
        let message = format!("{lost}; {mend}; `pipewright runs retry {top}` asks once more");
        let error = self.step_error(ErrorClass::Unavailable, message);
        self.give_up_as(key, begun.at, error, Happened::Perhaps);
    }
}

impl Engine {
    /// Tells whether a run failed because the answer to a paid read was lost: to try it again would ask, and pay, again.
    pub(super) async fn has_lost(&self, run: RunId) -> Result<bool, Error> {
        let events = self.parts().store.journal(run).await?;
        let since = events.iter().rposition(|event| matches!(event, RunEvent::Retried { .. })).unwrap_or(0);
        let lost =
            |event: &RunEvent| matches!(event, RunEvent::Failed { retry_at: None, happened: Happened::Perhaps, .. });
        Ok(events.iter().skip(since).any(lost))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;
    use crate::store::NewSpending;

    fn asked(state: SpendingState, reserved: Option<&str>, settled: Option<&str>) -> SpendingRecord {
        let new = NewSpending {
            id: "1".to_owned(),
            at: Timestamp(0),
            day: "1970-01-01".to_owned(),
            step: None,
            pipeline: "news".to_owned(),
            connection: "writer".to_owned(),
            connector: "openai".to_owned(),
            operation: "chat".to_owned(),
            unit: "USD".parse().unwrap(),
            reserved: reserved.map(|it| it.parse().unwrap()),
        };
        let settled = settled.map(|it| it.parse().unwrap());
        SpendingRecord { new, model: None, tokens_in: None, tokens_out: None, settled, state }
    }

    #[test]
    fn only_what_was_paid_for_is_in_doubt_and_only_the_step_has_it_asked_again() {
        let one = [asked(SpendingState::Reserved, Some("0.01"), None)];
        let soon = Next::Resend(Duration::ZERO);
        let cases: [(&[SpendingRecord], InDoubt, u32, Next); 7] = [
            (&[], InDoubt::Hold, 0, Next::Begin),
            (&[], InDoubt::Resend, RESENDS, Next::Begin),
            (&one, InDoubt::Hold, 0, Next::Fail),
            (&one, InDoubt::Drop, 0, Next::Fail),
            (&one, InDoubt::Resend, 0, soon),
            (&one, InDoubt::Resend, 1, Next::Resend(pause(1))),
            (&one, InDoubt::Resend, RESENDS, Next::Fail),
        ];
        for (asked, policy, resent, expected) in cases {
            assert_eq!(decide(asked, policy, resent), expected, "{policy:?} {resent}");
        }
    }

    #[test]
    fn what_was_asked_is_told_with_what_it_counts_as() {
        let rows = [
            asked(SpendingState::Reserved, Some("0.010"), None),
            asked(SpendingState::Settled, Some("0.01"), Some("0.002")),
            asked(SpendingState::Unknown, None, None),
            asked(SpendingState::Unknown, None, None),
        ];
        let call = "`openai.chat` of connection `writer` at 1970-01-01T00:00:00Z";
        let expected = format!(
            "{call}, 0.01 USD reserved; {call}, 0.002 USD spent; {call}, an unknown amount reserved; and 1 more"
        );
        assert_eq!(told(&rows), expected);
    }
}
