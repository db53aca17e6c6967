//! Families of protocols: what no list of rows can say. A manifest names one under `sandbox.family`.

mod chat;
mod object_rpc;
mod odata;

use crate::model::Timestamp;
use crate::model::Value;
use crate::sandbox::exchange::Received;
use crate::sandbox::exchange::Reply;

/// A stand-in of a family: it holds its own state, and neither reads a clock nor reaches out.
pub trait Family: Send + std::fmt::Debug {
    /// Answers a request; nothing where the path is not the family's.
    fn answer(&mut self, request: &Received, moment: &mut Moment) -> Option<Reply>;

    /// Returns what it holds, for people and tests: collection → rows.
    fn state(&self) -> Value;

    /// Replaces the rows of a collection.
    ///
    /// # Errors
    /// There is no such collection, or a row does not fit it.
    fn load(&mut self, collection: &str, rows: &[Value]) -> Result<(), String>;
}

/// What an answer depends on beside the state.
#[derive(Debug)]
pub struct Moment {
    pub now: Timestamp,
    pub random: fastrand::Rng,
}

/// Makes the family of this name.
///
/// # Errors
/// There is no such family, or its settings say what it cannot do.
pub fn make(name: &str, settings: &Value) -> Result<Box<dyn Family>, String> {
    match name {
        "odata" => Ok(Box::new(odata::make(settings)?)),
        "object_rpc" => Ok(Box::new(object_rpc::ObjectRpc::make(settings)?)),
        "chat" => Ok(Box::new(chat::Chat::new(settings)?)),
        _ => Err(format!("there is no family `{name}`")),
    }
}
