//! The long-running loops: the reloader keeps what is active, the scheduler fires it when its time comes, the hooks, the file
//! watch and the afters when something happens, the worker executes what the queue has, the bell wakes them, the keeper removes
//! what is no longer kept, the inspector looks whether all is well, the page tells it.
//!
//! ```text
//! requests, files, ends of runs ──> Hooks, FileWatch, Afters
//!                                               │ fire
//! files ──> Reloader ──> Scheduler ──fire──> store (queue) ──claim──> Worker ──execute──> engine
//!                                               │  ^                   ^
//!                                 waiting_until │  └── requeue, park ──┤
//!                                               └──────── Bell ────────┘
//! ```

pub mod after;
pub mod backfill;
pub mod bell;
pub mod files;
mod firing;
pub mod invariant;
pub mod keeper;
pub mod metrics;
pub mod page;
pub mod presence;
pub mod reload;
pub mod scheduler;
pub mod webhook;
pub mod worker;

use std::error::Error;

/// Returns what an error says with all its causes: only these tell whether the disk is full or somebody has the lock.
#[must_use]
pub fn told(error: &dyn Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.ends_with(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text
}
