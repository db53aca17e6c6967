//! Stand-ins of outside systems on loopback, made from manifests: a pipeline can be rehearsed without credentials and
//! without a network.
//!
//! ```text
//! Manifest ──plan──> Plan ─┐
//!                          ├─ Stand::answer(Received) -> Reply     no I/O: state, a clock, a seed
//! family (odata, chat, …) ─┘        ^
//!                                   └── server: axum on loopback, one port a connector, faults on the way out
//! ```

pub mod authority;
pub mod cast;
pub mod exchange;
pub mod family;
pub mod fault;
pub mod handle;
pub mod plan;
pub mod rows;
pub mod server;
pub mod stand;
pub mod transport;
pub mod world;
