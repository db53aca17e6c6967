//! The calendar of posts: what people may still change, and what a row says together with its run.

use jiff::civil::DateTime;
use jiff::tz::AmbiguousOffset;
use jiff::tz::TimeZone;

use crate::model::Duration;
use crate::model::RunState;
use crate::model::Timestamp;
use crate::model::Value;
use crate::store;
use crate::store::PostRecord;
use crate::store::PostState;
use crate::store::Store;

/// How often a change is made anew because somebody else was at it.
const ATTEMPTS: usize = 16;

/// What a person does to a post that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Cancel,
    Reschedule(Timestamp),
}

/// Why a post is not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it is {} already", .0.name())]
    Over(PostState),
    #[error("its run {}, so nobody would publish it", ended(*.0))]
    Ended(RunState),
    #[error("its run is no longer kept, so nobody would publish it")]
    Lost,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the store failed")]
    Store(#[from] store::Error),
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// What a row says together with its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    As(PostState),
    /// Its run ended, or is gone, before it was published.
    Stranded,
}

impl Standing {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::As(state) => state.name(),
            Self::Stranded => "stranded",
        }
    }
}

/// Says in words how a run has ended.
#[must_use]
pub fn ended(state: RunState) -> &'static str {
    match state {
        RunState::Canceled => "was canceled",
        RunState::Failed => "has failed",
        RunState::Succeeded => "has ended",
        _ => "goes on",
    }
}

/// Says where a post stands: one that waits for a run that has ended waits for nothing.
#[must_use]
pub fn standing(record: &PostRecord) -> Standing {
    let waits = matches!(record.state, PostState::Scheduled | PostState::Publishing);
    let alive = record.run_state.is_some_and(|state| !state.is_final());
    if waits && !alive { Standing::Stranded } else { Standing::As(record.state) }
}

/// Makes what a step that holds a post gives back.
#[must_use]
pub fn held(id: &str, state: &str, at: Timestamp, post: &Value, published: Value) -> Value {
    Value::map([
        ("id", Value::from(id)),
        ("state", state.into()),
        ("at", Value::Time(at)),
        ("post", post.clone()),
        ("output", published),
    ])
}

/// Cancels a post, or moves it to another time; its run, where it sleeps over it, is told in the same transaction. Returns
/// the row as it was before.
///
/// # Errors
/// Why it cannot be changed, and the store's.
pub async fn change(store: &Store, id: &str, change: Change, now: Timestamp) -> Result<PostRecord, Error> {
    for _ in 0..ATTEMPTS {
        let seen = store.post(id).await?.ok_or(Refusal::Lost)?;
        if seen.state != PostState::Scheduled {
            return Err(Refusal::Over(seen.state).into());
        }
        let (state, word, due) = match change {
            Change::Cancel => (PostState::Canceled, "canceled", seen.due_at),
            Change::Reschedule(to) => match seen.run_state {
                None => return Err(Refusal::Lost.into()),
                Some(state) if state.is_final() => return Err(Refusal::Ended(state).into()),
                Some(_) => (PostState::Scheduled, "rescheduled", to),
            },
        };
        let answer = held(&seen.id, word, due, &seen.post, Value::Null);
        if store.change_post(&seen, state, due, &answer, now).await? {
            return Ok(seen);
        }
    }
    Err(store::Error::Locked { place: format!("post {id}") }.into())
}

/// Reads a time as people write it: a distance from now as `+2h`, a moment as `2026-12-01T09:00:00+01:00`, or a time on the
/// clocks of a zone as `2026-12-01T09:00`.
///
/// # Errors
/// What is wrong with it.
pub fn when(text: &str, zone: &TimeZone, now: Timestamp) -> Result<Timestamp, String> {
    let text = text.trim();
    if let Some(length) = text.strip_prefix('+') {
        let length: Duration = length.parse().map_err(|error| format!("{error}"))?;
        return Ok(now.plus(length));
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    let local: DateTime = text.parse().map_err(|_| {
        format!("expected a time such as `2026-12-01T09:00`, or a distance such as `+2h`, found `{text}`")
    })?;
    let ambiguous = zone.to_ambiguous_zoned_datetime(local);
    let name = zone.iana_name().unwrap_or("this zone");
    match ambiguous.offset() {
        AmbiguousOffset::Gap { .. } => Err(format!("{local} does not exist in {name}: the clock jumps over it")),
        AmbiguousOffset::Fold { before, after } => {
            Err(format!("{local} is there twice in {name}: say `{local}{before}` or `{local}{after}`"))
        }
        AmbiguousOffset::Unambiguous { .. } => ambiguous
            .earlier()
            .map(|zoned| Timestamp::from_jiff(zoned.timestamp()))
            .map_err(|_| format!("{local} is no time that can be told")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let now: Timestamp = "2026-11-28T10:00:00Z".parse().unwrap();
        let berlin = TimeZone::get("Europe/Berlin").unwrap();
        let said = |text: &str| match when(text, &berlin, now) {
            Ok(at) => at.to_string(),
            Err(problem) => problem,
        };
        assert_eq!(said("+2h"), "2026-11-28T12:00:00Z");
        assert_eq!(said("2026-12-01T09:00"), "2026-12-01T08:00:00Z");
        assert_eq!(said("2026-12-01 09:00:30"), "2026-12-01T08:00:30Z");
        assert_eq!(said("2026-07-01T09:00"), "2026-07-01T07:00:00Z");
        assert_eq!(said("2026-12-01T09:00:00-05:00"), "2026-12-01T14:00:00Z");
        assert_eq!(
            said("2026-03-29T02:30"),
            "2026-03-29T02:30:00 does not exist in Europe/Berlin: the clock jumps over it"
        );
        assert_eq!(
            said("2026-10-25T02:30"),
            "2026-10-25T02:30:00 is there twice in Europe/Berlin: say `2026-10-25T02:30:00+02` or `2026-10-25T02:30:00+01`"
        );
        assert_eq!(said("2026-10-25T02:30:00+01"), "2026-10-25T01:30:00Z");
        let help = "expected a time such as `2026-12-01T09:00`, or a distance such as `+2h`, found `tomorrow`";
        assert_eq!(said("tomorrow"), help);
        assert!(said("+soon").starts_with("expected a duration"));
    }
}
