//! The only integration target: a list of modules.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

mod approvals;
mod auth;
mod backfill;
mod chaos;
mod check;
mod cli;
mod connectors;
mod crash;
mod daemon;
mod difference;
mod examples;
mod fmt;
mod foreign;
mod hostile;
mod http;
mod limits;
mod lsp;
mod many;
mod nodes;
mod odoo;
mod paging;
mod plan;
mod reload;
mod replay;
mod run;
mod sandbox;
mod schedules;
mod schemas;
mod store;
mod streamed;
mod support;
mod testing;
mod tidy;
mod triggers;
mod watch;
