//! What a manifest says of the family, as it is written.

use std::collections::BTreeMap;
use std::sync::Arc;

use indexmap::IndexMap;
use serde::Deserialize;

use crate::model::Value;

/// The section `sandbox` of a manifest.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "keys that every stand-in has are read by the plan")]
pub(super) struct Settings {
    family: Value,
    #[serde(default)]
    config: Value,
    #[serde(default)]
    auth: Value,
    #[serde(default)]
    oauth: Value,
    #[serde(default)]
    data: Value,
    #[serde(default)]
    limits: Value,
    #[serde(default)]
    denied: Value,
    #[serde(default)]
    unknown: Value,
    /// The product's name: its first letters small, it is the package of its exceptions.
    pub(super) product: String,
    /// What it says to be, `19.0`.
    pub(super) version: String,
    /// The only database, unless `hosted` says that there are more.
    pub(super) database: String,
    /// Further databases of the same server: requests must say which they mean.
    #[serde(default)]
    pub(super) hosted: Vec<String>,
    /// The header that names the database, in lower case.
    pub(super) database_header: String,
    pub(super) users: Vec<UserSettings>,
    /// The model of the users, which tells a caller who he is.
    pub(super) user_model: Arc<str>,
    /// The model that makes and revokes keys.
    pub(super) key_model: Arc<str>,
    /// The model whose rows are external ids: `module`, `name`, `model`, `res_id`.
    pub(super) external_ids: Arc<str>,
    /// When the first row was written; the others follow.
    pub(super) since: String,
    /// Transactions that last long: their rows show later than they are dated.
    #[serde(default)]
    pub(super) slow: Option<SlowSettings>,
    /// Of so many writing calls one fails, by chance: others write the same rows.
    #[serde(default)]
    pub(super) contended: Option<u32>,
    pub(super) models: IndexMap<Arc<str>, ModelSettings>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SlowSettings {
    /// One of so many writing calls, by chance.
    pub(super) one_in: u32,
    /// The longest of them, in seconds.
    pub(super) seconds: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UserSettings {
    pub(super) id: i64,
    pub(super) login: String,
    #[serde(default)]
    pub(super) password: Option<String>,
    #[serde(default)]
    pub(super) key: Option<String>,
    /// The day on which the key runs out.
    #[serde(default)]
    pub(super) key_until: Option<String>,
    #[serde(default)]
    pub(super) language: Option<String>,
    #[serde(default)]
    pub(super) zone: Option<String>,
    /// Which of `read`, `write`, `create`, `unlink`; all where nothing is said.
    #[serde(default)]
    pub(super) may: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModelSettings {
    pub(super) title: String,
    /// By name: a type, or more.
    pub(super) fields: IndexMap<Arc<str>, Value>,
    /// How rows come where nobody says: `name, id desc`.
    #[serde(default)]
    pub(super) order: Option<String>,
    /// What a row is called, an expression over `row`; its field `name` otherwise.
    #[serde(default)]
    pub(super) display: Option<String>,
    /// The field that points to the row above, in a tree; `parent_id` where nothing is said.
    #[serde(default)]
    pub(super) parent: Option<Arc<str>>,
    /// A model whose row stands behind each of this one, and the field that points to it.
    #[serde(default)]
    pub(super) inherits: Option<Inherited>,
    /// A model that gets a row for each new one here, and its field that points back.
    #[serde(default)]
    pub(super) brings: Option<Inherited>,
    #[serde(default)]
    pub(super) methods: IndexMap<Arc<str>, MethodSettings>,
    #[serde(default)]
    pub(super) unique: Vec<UniqueSettings>,
    #[serde(default)]
    pub(super) checks: Vec<CheckSettings>,
    /// Rows whose fields may not be written any more.
    #[serde(default)]
    pub(super) frozen: Vec<GuardSettings>,
    /// Rows that may not be deleted.
    #[serde(default)]
    pub(super) kept: Vec<GuardSettings>,
    #[serde(default)]
    pub(super) rows: Vec<Value>,
    /// Further rows, made by expressions over `n`.
    #[serde(default)]
    pub(super) made: Option<MadeSettings>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Inherited {
    pub(super) model: Arc<str>,
    pub(super) field: Arc<str>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MethodSettings {
    /// Rows must be found by this domain, else the call is refused with `refuse`.
    #[serde(default)]
    pub(super) when: Value,
    #[serde(default)]
    pub(super) refuse: Option<String>,
    /// What is written to each row; expressions over `row`, `id`, `now`, `user`.
    #[serde(default)]
    pub(super) set: IndexMap<Arc<str>, Value>,
    /// What it returns; nothing at all where this is not said.
    #[serde(default)]
    pub(super) returns: Value,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct UniqueSettings {
    pub(super) fields: Vec<Arc<str>>,
    pub(super) message: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckSettings {
    /// An expression over `row`.
    pub(super) that: String,
    pub(super) message: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GuardSettings {
    /// Which rows, a domain.
    pub(super) when: Value,
    /// Fields that may be written all the same.
    #[serde(default)]
    pub(super) except: Vec<Arc<str>>,
    pub(super) message: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MadeSettings {
    pub(super) count: u32,
    pub(super) row: BTreeMap<Arc<str>, Value>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FieldSettings {
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// What people call it.
    #[serde(default)]
    pub(super) string: Option<String>,
    #[serde(default)]
    pub(super) required: bool,
    #[serde(default)]
    pub(super) readonly: bool,
    #[serde(default)]
    pub(super) relation: Option<Arc<str>>,
    /// The field of `relation` that points back, for `one2many`.
    #[serde(default)]
    pub(super) inverse: Option<Arc<str>>,
    /// Keys, or pairs of key and label.
    #[serde(default)]
    pub(super) selection: Vec<Value>,
    /// A value, or an expression over `row`, `id`, `now`, `user`.
    #[serde(default)]
    pub(super) default: Value,
    /// An expression over `row`.
    #[serde(default)]
    pub(super) compute: Option<String>,
    /// The sum of a field of rows that this one has, `order_line.price_subtotal`.
    #[serde(default)]
    pub(super) sum: Option<String>,
    /// A field of a row that this one points to, `order_id.currency_id`.
    #[serde(default)]
    pub(super) related: Option<String>,
    /// Whether a value for a `related` field is written to where it comes from.
    #[serde(default)]
    pub(super) through: bool,
    /// Where a value is taken from once, if nobody gives one: a path, `product_id.list_price`.
    #[serde(default)]
    pub(super) from: Option<String>,
    /// What becomes of a row whose `many2one` loses its target: `cascade`, `restrict`, `set null`.
    #[serde(default)]
    pub(super) ondelete: Option<String>,
    /// For expressions only: callers do not see it.
    #[serde(default)]
    pub(super) hidden: bool,
}
