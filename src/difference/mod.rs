//! What is different between two versions of a pipeline, and between two values: pure comparisons.

mod fields;
mod finding;
mod graph;
mod pipelines;
mod schedule;
mod step;
mod texts;
mod words;

pub use self::fields::Change;
pub use self::fields::alike;
pub use self::fields::changes;
pub use self::finding::Area;
pub use self::finding::Finding;
pub use self::finding::Weight;
pub use self::pipelines::compare;
