//! The platform optimiser: a canonical post becomes what one platform takes, or a list of what is in the way. Pure.
//!
//! The rules are the input schema of the connector's own operation `publish`: whatever a manifest declares, a built-in one
//! or a user's, is what a post is adapted to.

mod adapt;
mod banned;
mod body;
mod media;
mod near;
mod post;
mod rules;
mod split;
mod tags;

pub use self::adapt::Adapted;
pub use self::adapt::Fault;
pub use self::adapt::Note;
pub use self::adapt::Threads;
pub use self::adapt::Wishes;
pub use self::adapt::adapt;
pub use self::adapt::twice_mapped;
pub use self::banned::Banned;
pub use self::near::Earlier;
pub use self::near::Near;
pub use self::near::nearest;
pub use self::post::KEYS;
pub use self::post::Medium;
pub use self::post::Post;
pub use self::rules::Length;
pub use self::rules::Rules;

/// The operation of a connector that takes a post.
pub const PUBLISH: &str = "publish";
