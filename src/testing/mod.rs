//! Tests of pipelines: cases that are run in this process, against stand-ins, on virtual time.
//!
//! ```text
//! x.test.yaml ──file──> Suite ─┐
//!                              ├─ play (a clock, a store, a sandbox of its own) ──> Played ──judge──> Finding…
//! x.yaml ──Catalog──> Pipeline ┘                                                       └──coverage, report, junit
//! ```

pub mod came;
pub mod case;
pub mod check;
pub mod coverage;
pub mod faults;
pub mod file;
pub mod given;
pub mod judge;
pub mod junit;
pub mod matcher;
mod people;
pub mod play;
pub mod report;
pub mod run;
pub mod snapshot;
pub mod stage;
mod stubs;
pub mod then;
