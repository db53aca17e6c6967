//! A circuit breaker for each host: a server that does not answer is left alone for a while; pure.

use crate::model::Duration;
use crate::model::Timestamp;

/// So many failures one after the other open it.
const FAILURES: u32 = 5;
const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);
/// How long the one that finds out may take.
const PROBE: Duration = Duration::from_secs(60);

/// What is known of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Breaker {
    failures: u32,
    open_until: Option<Timestamp>,
    length: Option<Duration>,
    /// Until when a single request that is to find out is waited for; one that was given up never tells.
    probing: Option<Timestamp>,
}

impl Breaker {
    /// Tells whether a request may go; else until when none may.
    pub(super) fn ask(&mut self, now: Timestamp) -> Result<(), Timestamp> {
        match self.open_until {
            None => Ok(()),
            Some(until) if now < until => Err(until),
            Some(_) if self.probing.is_some_and(|until| now < until) => Err(now.plus(Duration::from_secs(1))),
            Some(_) => {
                self.probing = Some(now.plus(PROBE));
                Ok(())
            }
        }
    }

    /// Notes that the host has answered.
    pub(super) fn answered(&mut self) {
        *self = Self::default();
    }

    /// Notes that it has not, or that it is down.
    pub(super) fn failed(&mut self, now: Timestamp) {
        self.failures = self.failures.saturating_add(1);
        let was_probe = self.probing.take().is_some();
        if self.failures < FAILURES && !was_probe {
            return;
        }
        let length = self.length.map_or(FIRST, |length| length.times(2).min(LONGEST));
        // Requests that were under way when it opened do not prolong it.
        if self.open_until.is_none_or(|until| now >= until) {
            self.open_until = Some(now.plus(length));
            self.length = Some(length);
        }
    }

    /// Notes that a request that was let go was not sent.
    pub(super) fn given_up(&mut self) {
        self.probing = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp(second * 1_000_000)
    }

    #[test]
    fn it_opens_probes_and_closes() {
        let mut breaker = Breaker::default();
        for second in 0..5 {
            assert_eq!(breaker.ask(at(second)), Ok(()));
            breaker.failed(at(second));
        }
        assert_eq!(breaker.ask(at(5)), Err(at(14)));
        // One goes to find out; the others wait for what it finds.
        assert_eq!(breaker.ask(at(14)), Ok(()));
        assert_eq!(breaker.ask(at(14)), Err(at(15)));
        breaker.failed(at(16));
        assert_eq!(breaker.ask(at(17)), Err(at(36)));
        assert_eq!(breaker.ask(at(36)), Ok(()));
        breaker.answered();
        assert_eq!((breaker.ask(at(37)), breaker.ask(at(37))), (Ok(()), Ok(())));
    }
}
