//! What the product knows of portfolios: pure functions over exact numbers.

pub mod rebalance;

pub use self::rebalance::rebalance;
