//! OAuth 2.0: getting tokens, keeping them, renewing them once.
//!
//! ```text
//! spec: what a manifest says ── request: one token request ── custody: kept in the store, renewed by one at a time
//!                                        └─ login: a person's consent (loopback, pasted code, device)
//! ```

pub mod custody;
mod held;
pub mod login;
pub mod loopback;
mod request;
mod spec;
pub mod standing;

pub use self::spec::Flow;
pub use self::spec::Oauth2;
pub(super) use self::spec::read;
