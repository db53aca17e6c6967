//! The `sandbox` section of a manifest as it is written for this family; `Model` is what it means.

use indexmap::IndexMap;
use serde::Deserialize;

use crate::model::Duration;
use crate::model::Value;

/// Services, how they are reached, and what they know at the start.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Settings {
    pub v2: Option<Protocol>,
    pub v4: Option<Protocol>,
    pub csrf: Option<Csrf>,
    /// The header in which a message rides on a success.
    pub message_header: Option<String>,
    /// Attributes of a vendor in the descriptions of V2 services.
    pub annotations: Option<Annotations>,
    /// Where links to next pages of V2 point instead of to where the client asked, e.g. `https://internal.example`.
    pub link_origin: Option<String>,
    /// What errors say of the vendor's name space.
    pub error_namespace: String,
    /// Name, as it stands in the path behind the root, → service.
    pub services: IndexMap<String, Service>,
    /// Set, or `SERVICE/SET`, or table → its rows at the start, by the names of that set's properties.
    pub rows: IndexMap<String, Vec<Value>>,
    /// What goes wrong: the first that fits answers.
    pub scenes: Vec<Scene>,
}

/// Where the services of a version are, and how long their pages are.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Protocol {
    /// The path of all services, e.g. `/odata`.
    pub root: String,
    /// Rows of a page at most.
    pub page: usize,
    /// The codes of the faults that every service has, by what is wrong (see `Reason`).
    #[serde(default)]
    pub codes: IndexMap<String, String>,
}

/// The token that writes need, which is one with the cookies that came with it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Csrf {
    pub header: String,
    /// Name → value; null is a new one for each session.
    pub cookies: IndexMap<String, Option<String>>,
    /// How long a session lives when nothing uses it, e.g. `30m`.
    pub lifetime: Duration,
    /// After how many writes a session ends; never without.
    pub writes: Option<u32>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Annotations {
    pub prefix: String,
    pub namespace: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Service {
    pub version: u8,
    /// The name space of its types; by default its name.
    #[serde(default)]
    pub namespace: Option<String>,
    /// What errors name as the part of the system that failed.
    #[serde(default)]
    pub component: String,
    pub sets: IndexMap<String, Set>,
    #[serde(default)]
    pub functions: IndexMap<String, Function>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Set {
    /// The name of its type; by default the set's, with the ending that the version has.
    #[serde(rename = "type", default)]
    pub type_name: Option<String>,
    /// Sets of one table show the same rows; by default each has its own.
    #[serde(default)]
    pub table: Option<String>,
    pub key: Vec<String>,
    /// Name → type: `String(10)`, `Decimal(16,3)`, `Date`, `DateTimeOffset`, …; `String(40) of Material` where the
    /// table's column has another name.
    pub properties: IndexMap<String, String>,
    #[serde(default)]
    pub navigations: IndexMap<String, Navigation>,
    /// The property that tells an entity's version; changes and deletions then need `If-Match`.
    #[serde(default)]
    pub etag: Option<String>,
    /// The last property of the key is given by the service.
    #[serde(default)]
    pub number: Option<Number>,
    #[serde(default)]
    pub read_only: bool,
    /// Properties without which nothing is created.
    #[serde(default)]
    pub required: Vec<String>,
    /// Values of new entities where the client gives none.
    #[serde(default)]
    pub defaults: IndexMap<String, Value>,
    /// Properties that hold when an entity was created, and when it was last changed.
    #[serde(default)]
    pub created: Vec<String>,
    #[serde(default)]
    pub changed: Vec<String>,
    /// Property → what it is the sum of, `to_Item/NetAmount`.
    #[serde(default)]
    pub sums: IndexMap<String, String>,
    #[serde(default)]
    pub price: Option<Price>,
    /// Properties that name entities of other sets.
    #[serde(default)]
    pub refers: IndexMap<String, Refers>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Navigation {
    pub set: String,
    /// Own property → the other's.
    pub on: IndexMap<String, String>,
    #[serde(default)]
    pub many: bool,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Number {
    pub first: i64,
    #[serde(default = "one")]
    pub step: i64,
}

fn one() -> i64 {
    1
}

/// An amount that the service works out: a quantity at a price.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Price {
    pub amount: String,
    pub quantity: String,
    /// The property that the list of prices goes by.
    pub by: String,
    pub list: IndexMap<String, Value>,
}

/// An entity that must be there.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Refers {
    /// `SERVICE/SET`, whose key it is.
    pub to: String,
    pub code: String,
    /// `{value}` stands for what there is none of.
    pub message: String,
}

/// An operation of a service: it finds entities by its parameters or is bound to them, changes and returns them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Function {
    pub set: String,
    /// `GET` or `POST`.
    pub method: String,
    #[serde(default)]
    pub parameters: IndexMap<String, String>,
    /// V4: called behind an entity.
    #[serde(default)]
    pub bound: bool,
    /// What becomes of the entities.
    #[serde(default)]
    pub change: IndexMap<String, Value>,
    /// `one`, `many`, `nothing`, or the property whose value it is.
    pub returns: String,
}

/// A fault that the content of a request brings about.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scene {
    /// `SERVICE/SET`.
    pub set: String,
    /// `GET` of one entity, `POST`, `PATCH`, `PUT` or `DELETE`.
    pub methods: Vec<String>,
    /// A filter: over the new entity, else over what was there.
    pub when: String,
    /// How often; always without.
    #[serde(default)]
    pub times: Option<u32>,
    /// A success is answered as it would be, with the message in its header.
    pub status: u16,
    #[serde(default)]
    pub code: String,
    pub message: String,
    /// `info`, `warning` or `error`.
    #[serde(default)]
    pub severity: Option<String>,
    /// The body is a page for people.
    #[serde(default)]
    pub html: bool,
}
