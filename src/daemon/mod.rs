//! What runs as long as the process does.

pub mod reload;
