//! Runs again, offline: what a run was told by the world is kept on a cassette, and the run, or another version of its
//! pipeline, is executed against it.
//!
//! A cassette holds the run's journal (and its children's) and, where it was recorded, every call of a node that looks or
//! works outside: what it was asked, what it said, when, and what went over the wire meanwhile. From the store alone, which
//! keeps no inputs of reads, one is made of the journal. Secrets are on neither.
//!
//! Calls, not requests, are what is answered. A request depends on tokens, sessions, limits and what was learned before,
//! of which nothing may be kept; a call depends on its input alone, and files, databases and programs are calls like any
//! other. So a replay opens no connection, reads no secret, and needs neither the project's settings nor its manifests'
//! systems.

mod calls;
mod cassette;
mod clock;
mod compare;
mod file;
mod found;
mod gather;
mod play;
mod player;
mod recorder;
mod veil;

use std::sync::Arc;

pub use self::cassette::Cassette;
pub use self::cassette::Head;
pub use self::cassette::KeptCall;
pub use self::cassette::KeptRun;
pub use self::cassette::KeptSaid;
pub use self::compare::Compared;
pub use self::compare::Difference;
pub use self::compare::EffectSeen;
pub use self::compare::Sum;
pub use self::compare::compare;
pub use self::compare::sum;
pub use self::file::ReadError;
pub use self::file::read;
pub use self::file::write;
pub use self::gather::GatherError;
pub use self::gather::gather;
pub use self::play::PlayError;
pub use self::play::Played;
pub use self::play::play;
pub use self::player::Miss;
pub use self::recorder::Recorder;
use crate::pipeline::Pipeline;

/// Executes a run again, or what another version of its pipeline would have made of it, and compares.
///
/// Of reads that the store alone tells of, inputs are not known. Where another version is held against them, the recorded
/// one is executed first: it asks the same again, and so says what was asked.
///
/// # Errors
/// What keeps it from being executed.
pub fn replay(
    mut cassette: Cassette,
    recorded: &Arc<Pipeline>,
    with: Option<&Arc<Pipeline>>,
) -> Result<Compared, PlayError> {
    let Some(with) = with else {
        let played = play(&cassette, recorded, recorded)?;
        return Ok(compare(&cassette, recorded, &played));
    };
    if !cassette.head.recorded {
        let played = play(&cassette, recorded, recorded)?;
        for (index, input) in played.asked {
            if let Some(call) = cassette.calls.get_mut(index) {
                call.input.get_or_insert(input);
            }
        }
    }
    let played = play(&cassette, recorded, with)?;
    Ok(compare(&cassette, recorded, &played))
}
