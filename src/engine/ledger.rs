//! The effect ledger's decisions: how a write in doubt is settled, in the order of the design.
//!
//! `repeat` first, then `reconcile`, then the step's policy, then a person. All of it is a pure function of what is
//! stored; the driver does what it says.

use crate::model::Duration;
use crate::model::InDoubt;
use crate::model::Repeat;
use crate::model::Settlement;
use crate::model::Timestamp;

/// How many times doubt is settled by sending again before a person is asked.
pub(super) const RESENDS: u32 = 5;

/// How many questions to the remote may stay without an answer before a person is asked.
pub(super) const QUESTIONS: u32 = 5;

/// What is known of a write in doubt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doubt {
    pub(super) settlement: Settlement,
    pub(super) policy: InDoubt,
    /// When the write was first intended: `repeat: 24h` counts from here.
    pub(super) first_intended: Timestamp,
    /// The last sending's first byte left before this moment.
    pub(super) send_before: Timestamp,
    /// How often it was sent again already.
    pub(super) resent: u32,
}

/// The next step of a settlement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Sending again does no harm.
    Repeat,
    /// Ask the remote, but not before this moment: until then something may still arrive.
    Ask { not_before: Timestamp },
    /// The step says: send again.
    Resend,
    /// The step says: leave it.
    Drop,
    /// A person decides.
    Hold,
}

/// Decides how to go on with a write in doubt.
pub(super) fn decide(doubt: &Doubt, now: Timestamp) -> Next {
    let may_repeat = match doubt.settlement.repeat {
        Repeat::Never => false,
        Repeat::Always => true,
        // The sending that follows must arrive within the time, so its own length is left free.
        Repeat::Within(length) => now.plus(doubt.settlement.timeout) < doubt.first_intended.plus(length),
    };
    if may_repeat && doubt.resent < RESENDS {
        return Next::Repeat;
    }
    if doubt.settlement.reconcile {
        if doubt.resent >= RESENDS {
            return Next::Hold;
        }
        let settled = doubt.settlement.timeout.plus(doubt.settlement.settle);
        return Next::Ask { not_before: doubt.send_before.plus(settled) };
    }
    match doubt.policy {
        InDoubt::Hold => Next::Hold,
        InDoubt::Resend if doubt.resent < RESENDS => Next::Resend,
        InDoubt::Resend => Next::Hold,
        InDoubt::Drop => Next::Drop,
    }
}

/// Returns the pause before the next settlement of an effect that was sent again so often.
pub(super) fn pause(resent: u32) -> Duration {
    if resent == 0 { Duration::ZERO } else { Duration::from_millis(100).times(1_u64 << (2 * resent.min(10))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn doubt(repeat: Repeat, reconcile: bool, policy: InDoubt, resent: u32) -> Doubt {
        let settlement =
            Settlement { repeat, reconcile, settle: Duration::from_secs(5), timeout: Duration::from_secs(10) };
        Doubt { settlement, policy, first_intended: Timestamp(0), send_before: Timestamp(30_000_000), resent }
    }

    #[test]
    fn doubt_is_settled_in_the_order_of_the_design() {
        let now = Timestamp(60_000_000);
        let within = Repeat::Within(Duration::from_secs(3_600));
        let over = Repeat::Within(Duration::from_secs(65));
        let ask = Next::Ask { not_before: Timestamp(45_000_000) };
        let cases = [
            (doubt(Repeat::Always, true, InDoubt::Drop, 0), Next::Repeat),
            (doubt(within, true, InDoubt::Drop, 0), Next::Repeat),
            (doubt(over, true, InDoubt::Drop, 0), ask),
            (doubt(over, false, InDoubt::Hold, 0), Next::Hold),
            (doubt(Repeat::Never, true, InDoubt::Drop, 0), ask),
            (doubt(Repeat::Never, true, InDoubt::Drop, RESENDS), Next::Hold),
            (doubt(Repeat::Never, false, InDoubt::Hold, 0), Next::Hold),
            (doubt(Repeat::Never, false, InDoubt::Resend, 0), Next::Resend),
            (doubt(Repeat::Never, false, InDoubt::Resend, RESENDS), Next::Hold),
            (doubt(Repeat::Never, false, InDoubt::Drop, 0), Next::Drop),
            (doubt(Repeat::Always, false, InDoubt::Hold, RESENDS), Next::Hold),
        ];
        for (doubt, expected) in cases {
            assert_eq!(decide(&doubt, now), expected, "{doubt:?}");
        }
    }
}
