//! The long-running loops: the worker executes what the queue has, the bell wakes it, the page tells how it goes.
//!
//! ```text
//! schedules, people ──enqueue──> store (queue) ──claim──> Worker ──execute──> engine
//!                                    │  ^                   ^
//!                      waiting_until │  └── requeue, park ──┤
//!                                    └──────── Bell ────────┘
//! ```

pub mod bell;
pub mod metrics;
pub mod page;
pub mod reload;
pub mod worker;
