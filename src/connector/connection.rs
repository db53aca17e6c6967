//! A connection: one account of one system, as the project file states it.

use std::sync::Arc;

use crate::model::Value;

/// A connection with its settings evaluated; secrets in it are marked as such.
#[derive(Clone, Debug)]
pub struct Connection {
    pub name: Arc<str>,
    pub connector: Arc<str>,
    /// Root `config`: the settings, completed from the manifest's `config` schema.
    pub config: Value,
    /// The kind of auth that it uses, a key of the manifest's `auth`.
    pub kind: Arc<str>,
    /// What the project file says under `auth`: client id and secret, API key. Not the tokens.
    pub auth: Value,
    /// Whether private and loopback addresses may be reached.
    pub private: bool,
}
