//! What rooms above the contract share with their own nodes.

use std::any::Any;
use std::any::TypeId;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// Services by type: the composition root puts them in, a node takes out the one that it knows. Clones share them.
///
/// The engine hands them through without knowing any, so that a node can use a room that the contract must not know.
#[derive(Clone, Default)]
pub struct Services(Arc<HashMap<TypeId, Arc<dyn Any + Send + Sync>>>);

impl Services {
    /// Returns the services with one more; one of the same type is replaced.
    #[must_use]
    pub fn with<T: Send + Sync + 'static>(self, service: Arc<T>) -> Self {
        let mut services = HashMap::clone(&self.0);
        services.insert(TypeId::of::<T>(), service);
        Self(Arc::new(services))
    }

    #[must_use]
    pub fn get<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.0.get(&TypeId::of::<T>())?.downcast_ref()
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Services({})", self.0.len())
    }
}
