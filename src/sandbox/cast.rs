//! Which stand-ins a project needs, and its connections as they are with them.

use std::sync::Arc;

use super::world::Wanted;
use super::world::World;
use crate::connector::connection::Connection;
use crate::connector::manifest::Manifest;
use crate::connector::runtime::Connections;
use crate::pipeline::ProjectConnection;
use crate::template::Scope;
use crate::template::TemplateTree;

/// Tells what connections want of a sandbox; their expressions read secrets of the scope.
///
/// # Errors
/// A setting that has no value.
pub fn wanted(connections: &[ProjectConnection], scope: &Scope) -> Result<Vec<Wanted>, String> {
    let mut wanted = Vec::with_capacity(connections.len());
    for connection in connections {
        let name = &connection.name;
        let evaluated = |tree: &TemplateTree, what: &str| {
            tree.eval(scope).map_err(|error| format!("connection `{name}`, {what}: {}", error.message))
        };
        let auth = evaluated(&connection.auth, "`auth`")?.revealed();
        let kind = auth.as_map().filter(|map| map.len() == 1).and_then(|map| map.first());
        let kind = kind.filter(|(_, inner)| inner.as_map().is_some()).map(|(kind, _)| kind.clone());
        let inner = kind.as_deref().and_then(|kind| auth.get(kind)).unwrap_or(&auth);
        wanted.push(Wanted {
            connection: name.as_str().into(),
            connector: connection.connector.as_str().into(),
            settings: evaluated(&connection.settings, "its settings")?.revealed(),
            flow: inner.get("flow").cloned(),
            kind,
        });
    }
    Ok(wanted)
}

/// The connections of a rehearsal.
#[derive(Debug)]
pub struct SandboxConnections(pub Arc<World>);

impl Connections for SandboxConnections {
    fn get(&self, name: &str, manifest: &Manifest) -> Result<Connection, String> {
        self.0.connection(name, manifest)
    }

    fn connector(&self, name: &str) -> Option<Arc<str>> {
        self.0.connector(name)
    }
}
