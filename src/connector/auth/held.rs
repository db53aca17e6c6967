//! Tokens in memory: what is held of a connection, how long it is good, and what of it is stored.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use super::request::expires_at;
use super::spec::Refresh;
use crate::connector::runtime::Link;
use crate::model::Duration;
use crate::model::Map;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::parse_json;

/// A token is renewed so long before it expires, or at a tenth of its life if that is shorter.
const MARGIN: Duration = Duration::from_secs(60);
/// How long a token that is still good is used before the next try to renew it.
const REST: Duration = Duration::from_secs(60);

/// The tokens of a connection in this process.
#[derive(Debug, Default)]
pub struct Slot {
    held: Mutex<Option<Arc<Held>>>,
    pub(super) turn: tokio::sync::Mutex<()>,
}

/// Tokens and what is known of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Held {
    /// What becomes root `auth`: `access_token`, `refresh_token`, and what the manifest names.
    pub values: Map,
    /// That of the store's row; 0 for what the project file gives.
    pub version: i64,
    pub obtained_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    /// Whether a refresh gave a new refresh token, once that is known.
    pub rotates: Option<bool>,
    /// Who we are, as the system says.
    pub account: Option<String>,
    /// When the next try to renew is due, after one that failed.
    pub(super) rest_until: Option<Timestamp>,
}

/// What a caller needs of a token.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wish {
    /// The version that the system has refused.
    pub refused: Option<i64>,
    /// Renewed even where it is still good.
    pub force: bool,
    /// Sends a refresh token although it may have been spent.
    pub again: bool,
}

impl Slot {
    #[must_use]
    pub fn get(&self) -> Option<Arc<Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Forgets a version that the system takes no more: a login elsewhere has stored another, perhaps.
    pub fn forget(&self, version: i64) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.as_ref().is_some_and(|held| held.version == version) {
            *held = None;
        }
    }

    pub fn put(&self, held: Held) -> Arc<Held> {
        let held = Arc::new(held);
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held.clone());
        held
    }
}

impl Held {
    /// Makes what is held of an answer that was asked for at `began`.
    #[must_use]
    pub fn new(values: Map, began: Timestamp) -> Self {
        let expires_at = expires_at(&values, began);
        Self { values, obtained_at: began, expires_at, ..Self::default() }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.values.get(key).is_some_and(|value| !value.is_null())
    }

    /// Tells whether the system should still take it.
    #[must_use]
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.has("access_token") && self.expires_at.is_none_or(|expires| now < expires)
    }

    pub(super) fn is_fresh(&self, by_age: Option<&Refresh>, now: Timestamp) -> bool {
        if !self.is_valid(now) {
            return false;
        }
        if self.rest_until.is_some_and(|until| now < until) {
            return true;
        }
        let age = now.since(self.obtained_at);
        if let Some(refresh) = by_age {
            if refresh.not_before.is_some_and(|least| age < least) {
                return true;
            }
            if refresh.due.is_some_and(|due| age >= due) {
                return false;
            }
        }
        let Some(expires) = self.expires_at else { return true };
        let life = expires.since(self.obtained_at);
        expires.since(now) > MARGIN.min(Duration::from_micros(life.micros() / 10))
    }

    pub(super) fn answers(&self, wish: &Wish, by_age: Option<&Refresh>, now: Timestamp) -> bool {
        wish.refused != Some(self.version) && !wish.force && self.is_fresh(by_age, now)
    }

    /// Whether it may be used though it could not be renewed.
    pub(super) fn still_serves(&self, wish: &Wish, now: Timestamp) -> bool {
        wish.refused != Some(self.version) && !wish.force && self.is_valid(now)
    }

    /// What follows when `values` came: what is not in them stays.
    pub(super) fn followed_by(&self, values: Map, began: Timestamp) -> Self {
        let old = self.values.get("refresh_token").cloned();
        let new = values.get("refresh_token").cloned();
        let rotates = match (&old, &new) {
            (Some(old), Some(new)) if old.to_text() != new.to_text() => Some(true),
            (Some(_), _) => Some(self.rotates.unwrap_or(false)),
            (None, _) => self.rotates,
        };
        let expires_at = expires_at(&values, began);
        let mut all = self.values.clone();
        all.shift_remove("expires_in");
        all.extend(values);
        Self { values: all, obtained_at: began, expires_at, rotates, account: self.account.clone(), ..Self::default() }
    }

    pub(super) fn to_text(&self, link: &Link) -> String {
        let moment = |moment: Timestamp| Value::Int(moment.micros().into());
        let state = Value::map([
            ("connection", Value::from(&*link.connection().name)),
            ("connector", Value::from(&*link.connection().connector)),
            ("given", Value::from(given_hash(link))),
            ("values", Value::from(self.values.clone()).revealed()),
            ("obtained_at", moment(self.obtained_at)),
            ("expires_at", self.expires_at.map_or(Value::Null, moment)),
            ("rotates", self.rotates.map_or(Value::Null, Value::Bool)),
            ("account", self.account.as_deref().map_or(Value::Null, Value::from)),
        ]);
        state.to_string()
    }

    pub(super) fn of_text(text: &str, version: i64) -> Option<(Self, String, String)> {
        let state = parse_json(text).ok()?;
        let moment = |key: &str| match state.get(key)? {
            Value::Int(micros) => i64::try_from(*micros).ok().map(Timestamp),
            _ => None,
        };
        let text = |key: &str| state.get(key).and_then(Value::as_str).map(str::to_owned);
        let held = Self {
            values: state.get("values")?.as_map()?.clone(),
            version,
            obtained_at: moment("obtained_at")?,
            expires_at: moment("expires_at"),
            rotates: state.get("rotates").and_then(Value::as_bool),
            account: text("account"),
            rest_until: None,
        };
        Some((held, text("connection")?, text("given")?))
    }
}

impl Held {
    /// The same, used for a while before the next try.
    pub(super) fn resting(self, now: Timestamp) -> Self {
        Self { rest_until: Some(now.plus(REST)), ..self }
    }
}

/// Marks which tokens the project file gave when these were had: other ones there replace what is stored.
pub(super) fn given_hash(link: &Link) -> String {
    let connection = link.connection();
    let keys = ["client_id", "access_token", "refresh_token", "username", "flow"];
    let given: Vec<String> =
        keys.iter().map(|key| connection.auth.get(key).map(|it| it.revealed().to_text()).unwrap_or_default()).collect();
    let digest = ring::digest::digest(&ring::digest::SHA256, given.join("\n").as_bytes());
    base64::Engine::encode(&base64::engine::general_purpose::STANDARD_NO_PAD, digest.as_ref())
}
