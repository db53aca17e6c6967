//! What several tests stand on.

pub(crate) mod bench;
pub(crate) mod clients;
pub(crate) mod daemon;
pub(crate) mod editor;
pub(crate) mod postgres;
pub(crate) mod server;
pub(crate) mod shell;
