//! Runs manifests: an outside system is one YAML file, and what one of its operations declares drives everything.
//!
//! ```text
//! connectors/x.yaml ── manifest::read ──> Manifest ── operation::Operation (a Node) ── call ──> http
//!                                            │
//!                                            └─> limits, auth, session, rules, paging: each from its own section
//! ```

pub mod auth;
pub mod body;
pub mod codec;
pub mod connection;
pub mod limits;
pub mod manifest;
pub mod notes;
pub mod render;
pub mod sign;
