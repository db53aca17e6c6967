//! The long-running loops: the reloader keeps what is active, the scheduler fires it when its time comes, the hooks, the file
//! watch and the afters when something happens, the worker executes what the queue has, the bell wakes them, the page tells
//! how it goes.
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
pub mod bell;
pub mod files;
mod firing;
pub mod metrics;
pub mod page;
pub mod reload;
pub mod scheduler;
pub mod webhook;
pub mod worker;
