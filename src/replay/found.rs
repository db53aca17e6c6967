//! Which recorded call answers one of a replay: a pure decision.
//!
//! Calls are known by their step run and input, not by their order: what ran at the same time may come in any order, and
//! equal calls of one step run, retries say, are taken in the order in which they were made.

use super::cassette::KeptCall;
use crate::difference::alike;
use crate::difference::changes;
use crate::model::StepPath;
use crate::model::Value;

/// What is looked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted<'w> {
    /// Prefix and path of the step run.
    pub(super) prefix: &'w str,
    pub(super) path: &'w StepPath,
    pub(super) node: &'w str,
    pub(super) question: bool,
    pub(super) writes: bool,
    pub(super) input: &'w Value,
}

/// A recorded call, with what stands before its path.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) prefix: String,
    pub(super) call: KeptCall,
    pub(super) used: bool,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The same was asked.
    Same(usize),
    /// Something like it was written: its answer stands for the one that nobody knows.
    Near(usize),
    /// Nothing answers it; the nearest of its kind, for people to compare.
    Nothing(Option<usize>),
}

/// How well a recorded call fits; the least is best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// The same step run asked the same.
    Whole,
    /// Another item of the same step did.
    Step,
    /// Another step did: this one has a new name, say.
    Node,
    /// A read was answered so before.
    Again,
}

/// Finds the call that answers.
pub(super) fn find(entries: &[Entry], wanted: &Wanted<'_>) -> Found {
    let same = |entry: &Entry| {
        let call = &entry.call;
        if *call.node != *wanted.node || call.question != wanted.question {
            return None;
        }
        let here = entry.prefix == wanted.prefix && call.path == *wanted.path;
        let equal = match &call.input {
            Some(input) => alike(input, wanted.input),
            // What the store does not know is taken for equal where it is the same step run.
            None => here,
        };
        if !equal {
            return None;
        }
        match (entry.used, here) {
            (false, true) => Some(Fit::Whole),
            (false, false) if is_of_step(entry, wanted) => Some(Fit::Step),
            (false, false) => Some(Fit::Node),
            (true, _) if !wanted.writes && call.input.is_some() => Some(Fit::Again),
            (true, _) => None,
        }
    };
    let fits = entries.iter().enumerate().filter_map(|(index, entry)| Some((same(entry)?, index)));
    // Of equal fits the first, but of what was used the last: a read that was retried ended well.
    let best = fits.min_by_key(|(fit, index)| (*fit, if *fit == Fit::Again { usize::MAX - index } else { *index }));
    if let Some((_, index)) = best {
        return Found::Same(index);
    }
    let near = nearest(entries, wanted, |entry| !entry.used);
    match near {
        Some(index) if wanted.writes => Found::Near(index),
        near => Found::Nothing(near.or_else(|| nearest(entries, wanted, |_| true))),
    }
}

/// Finds the call of the same node that is most like the wanted one: of the same step run, of the same step, by input.
fn nearest(entries: &[Entry], wanted: &Wanted<'_>, allowed: impl Fn(&Entry) -> bool) -> Option<usize> {
    let of_kind = entries.iter().enumerate().filter(|(_, entry)| {
        allowed(entry) && *entry.call.node == *wanted.node && entry.call.question == wanted.question
    });
    let distance = |entry: &Entry| {
        let here = entry.prefix == wanted.prefix && entry.call.path == *wanted.path;
        let far = entry.call.input.as_ref().map_or(usize::MAX, |input| changes(input, wanted.input).len());
        (!here, !is_of_step(entry, wanted), far)
    };
    of_kind.min_by_key(|(index, entry)| (distance(entry), *index)).map(|(index, _)| index)
}

fn is_of_step(entry: &Entry, wanted: &Wanted<'_>) -> bool {
    let path = &entry.call.path;
    entry.prefix == wanted.prefix && path.step == wanted.path.step && path.phase == wanted.path.phase
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Duration;
    use crate::model::RunId;
    use crate::model::Timestamp;
    use crate::replay::KeptSaid;

    fn entry(path: &str, input: Option<i128>, used: bool) -> Entry {
        let call = KeptCall {
            run: RunId::new(1, 1),
            path: path.parse().unwrap(),
            attempt: 1,
            question: false,
            node: "shop.read".into(),
            writes: false,
            input: input.map(Value::Int),
            began: Timestamp(0),
            took: Duration::ZERO,
            said: KeptSaid::NotFound,
            wire: Vec::new(),
        };
        Entry { prefix: String::new(), call, used }
    }

    #[track_caller]
    fn check(entries: &[Entry], path: &str, input: i128, writes: bool, expected: Found) {
        let (path, input) = (path.parse().unwrap(), Value::Int(input));
        let wanted = Wanted { prefix: "", path: &path, node: "shop.read", question: false, writes, input: &input };
        assert_eq!(find(entries, &wanted), expected, "{path} {input}");
    }

    #[test]
    fn a_call_is_known_by_its_step_run_and_input_not_by_its_order() {
        let entries = [entry("a[1]", Some(2), false), entry("a[0]", Some(1), false), entry("b", Some(1), false)];
        check(&entries, "a[0]", 1, false, Found::Same(1));
        check(&entries, "a[1]", 2, false, Found::Same(0));
        // An item moved; a step has a new name.
        check(&entries, "a[7]", 2, false, Found::Same(0));
        check(&entries, "c", 1, false, Found::Same(1));
        check(&entries, "a[0]", 9, false, Found::Nothing(Some(1)));
        check(&entries, "a[0]", 9, true, Found::Near(1));
    }

    #[test]
    fn equal_calls_are_taken_in_order_and_a_read_may_be_asked_once_more() {
        let entries = [entry("a", Some(1), true), entry("a", Some(1), false)];
        check(&entries, "a", 1, true, Found::Same(1));
        let used = [entry("a", Some(1), true), entry("a", Some(1), true)];
        check(&used, "a", 1, false, Found::Same(1));
        check(&used, "a", 1, true, Found::Nothing(Some(0)));
    }

    #[test]
    fn what_the_store_does_not_know_fits_its_own_step_run_alone() {
        let entries = [entry("a", None, false)];
        check(&entries, "a", 5, false, Found::Same(0));
        check(&entries, "b", 5, false, Found::Nothing(Some(0)));
    }
}
