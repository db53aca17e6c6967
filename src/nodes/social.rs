//! What `social.*` has in common: one canonical post, and the operation of the connection that it goes to.

use std::sync::Arc;

use serde_json::Map as JsonMap;
use serde_json::Value as Json;
use serde_json::json;

use crate::model::Value;
use crate::node::Misfit;
use crate::node::Node;
use crate::node::Surroundings;
use crate::node::Wanted;

/// A connection that may be meant, with its operation.
pub(super) struct Place {
    pub connection: String,
    pub node: Arc<dyn Node>,
}

/// Says which operation of which connections is called, for `with` as `Node::calls` sees it.
pub(super) fn wanted(with: &Value, operation: &'static str) -> Vec<Wanted> {
    let connection = with.get("connection").and_then(Value::as_str).map(str::to_owned);
    vec![Wanted { key: "connection".to_owned(), connection, operation }]
}

/// Lists the connections that may be meant: the one that is written out, else all that can do it.
///
/// # Errors
/// There is none.
pub(super) fn places(with: &Value, around: &dyn Surroundings, operation: &str) -> Result<Vec<Place>, Misfit> {
    if let Some(connection) = with.get("connection").and_then(Value::as_str) {
        // One that cannot do it is told by what the node calls.
        let node = around.operation(connection, operation);
        return Ok(node.into_iter().map(|node| Place { connection: connection.to_owned(), node }).collect());
    }
    let able = around.connections_with(operation);
    let places = able.into_iter().filter_map(|connection| {
        let node = around.operation(&connection, operation)?;
        Some(Place { connection, node })
    });
    let places: Vec<Place> = places.collect();
    if places.is_empty() {
        let message = format!("no connection of the project can `{operation}`");
        return Err(Misfit::new("connection", message).help("add one to `pipewright.yaml`, of connector `x`, say"));
    }
    Ok(places)
}

/// Writes a step for each place, of which the one of the connection that is meant runs; `from` is where the values of its
/// `with:` stand.
pub(super) fn steps(places: &[Place], also: &str, from: &str, needs: &[&str]) -> JsonMap<String, Json> {
    let mut steps = JsonMap::new();
    for (index, place) in places.iter().enumerate() {
        let name = &place.connection;
        let mut with = JsonMap::new();
        with.insert("connection".to_owned(), json!(name));
        for key in takes(&*place.node) {
            with.insert(key.clone(), json!(format!("{{{{ {from}.{key} }}}}")));
        }
        let step = json!({
            "when": format!("{{{{ {also}input.connection == '{}' }}}}", name.replace('\'', "\\'")),
            "needs": needs,
            "uses": place.node.name(),
            "with": with,
        });
        steps.insert(step_id(index), step);
    }
    steps
}

/// Returns an expression for the output of the place that ran.
pub(super) fn output(places: &[Place]) -> String {
    let all: Vec<String> = (0..places.len()).map(|index| format!("steps.{}.output", step_id(index))).collect();
    if all.is_empty() { "none".to_owned() } else { format!("({})", all.join(" or ")) }
}

fn step_id(index: usize) -> String {
    format!("place_{}", index + 1)
}

/// Lists what an operation takes beside its connection.
pub(super) fn takes(node: &dyn Node) -> Vec<String> {
    let schema = node.input_schema();
    let properties = schema.get("properties").and_then(Json::as_object);
    properties.into_iter().flatten().map(|(key, _)| key.clone()).filter(|key| key != "connection").collect()
}
