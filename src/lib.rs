//! Pipewright: a declarative pipeline engine.
//!
//! The modules in reading order; `ARCHITECTURE.md` holds the map and the layers.

pub mod ai;
pub mod app;
pub mod approval;
pub mod cli;
pub mod connector;
pub mod content;
pub mod daemon;
pub mod diag;
pub mod difference;
pub mod engine;
pub mod format;
pub mod http;
pub mod lsp;
pub mod memory;
pub mod model;
pub mod node;
pub mod nodes;
pub mod pipeline;
pub mod portfolio;
pub mod replay;
pub mod sandbox;
pub mod schedule;
pub mod secrets;
pub mod store;
pub mod system;
pub mod telemetry;
pub mod template;
pub mod testing;
pub mod text;
pub mod why;
pub mod yaml;
