//! Runs manifests: an outside system is one YAML file, and what one of its operations declares drives everything.
//!
//! ```text
//! connectors/x.yaml ── manifest::read ──> Manifest ── operation::Operation (a Node) ── call ──> http
//!                                            │
//!                                            └─> limits, auth, session, rules, paging: each from its own section
//! ```

pub mod account;
pub mod answer;
pub mod auth;
mod batch;
pub mod body;
pub mod call;
pub mod codec;
pub mod connection;
pub mod contract;
pub mod credentials;
mod inline;
pub mod judge;
pub mod library;
pub mod limits;
pub mod manifest;
pub mod notes;
mod operation;
pub mod plain;
mod predict;
pub mod prices;
pub mod read;
pub mod render;
pub mod runtime;
pub mod schema;
mod send;
pub mod session;
pub mod sign;
pub mod url;
mod wire;
