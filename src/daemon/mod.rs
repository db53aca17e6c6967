//! The long-running loops: the reloader keeps what is active, the scheduler fires it, the worker executes what the queue has,
//! the bell wakes them, the page tells how it goes.
//!
//! ```text
//! files ──> Reloader ──> Scheduler ──fire──> store (queue) ──claim──> Worker ──execute──> engine
//!                                               │  ^                   ^
//!                                 waiting_until │  └── requeue, park ──┤
//!                                               └──────── Bell ────────┘
//! ```

pub mod bell;
pub mod metrics;
pub mod page;
pub mod reload;
pub mod scheduler;
pub mod worker;
