//! Limits of outside systems: nothing is sent before its time, and a wait says for what and until when.
//!
//! ```text
//! cost ── reserve: host, connection, budgets ──> sent ── settle: spent, learned, paused ──> kept for the next request
//! ```
//!
//! What costs money is counted besides in the account of the store, against the budgets of whoever spends it.

mod breaker;
mod gauge;
mod keeper;
mod purse;
mod sending;
mod spec;
mod window;

pub use self::keeper::Amount;
pub use self::keeper::Keeper;
pub use self::keeper::Permit;
pub use self::keeper::costs;
pub use self::purse::Purse;
pub use self::sending::Declared;
pub use self::sending::Sending;
pub use self::spec::Limited;
pub use self::spec::Limits;
pub(super) use self::spec::read;
