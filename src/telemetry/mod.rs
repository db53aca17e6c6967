//! Logs for operators: structured, on stderr; pretty on a terminal, JSON otherwise.

use std::io::IsTerminal;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Starts logging; a second call changes nothing.
pub fn start(level: tracing::Level) {
    let terminal = std::io::stderr().is_terminal();
    let registry = tracing_subscriber::registry().with(LevelFilter::from_level(level));
    // A subscriber that is there already stays: tests run several commands in one process.
    let _ = if terminal {
        let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).compact();
        registry.with(layer).try_init()
    } else {
        registry.with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr).json()).try_init()
    };
}
