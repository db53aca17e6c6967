//! What a request shows who it is from.

use super::call::Means;
use super::judge::Failure;
use super::manifest::Patch;
use super::runtime::Link;
use crate::http::Request;
use crate::model::Value;

/// What a connection may use for now.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Root `auth`.
    pub auth: Value,
    pub version: u64,
}

impl Grant {
    /// Takes what the project file says.
    #[must_use]
    pub fn of(link: &Link) -> Self {
        Self { auth: link.connection().auth.clone(), version: 0 }
    }

    /// Returns the patch of the kind of auth.
    #[must_use]
    pub fn patch<'l>(&self, _link: &'l Link) -> Option<&'l Patch> {
        None
    }

    /// Signs a request, or puts a token into it.
    ///
    /// # Errors
    /// A key that cannot sign.
    pub fn apply(&self, _request: &mut Request, _means: &Means<'_>) -> Result<(), Failure> {
        Ok(())
    }

    /// Tells whether a refused one can be renewed.
    #[must_use]
    pub fn can_renew(&self) -> bool {
        false
    }
}
