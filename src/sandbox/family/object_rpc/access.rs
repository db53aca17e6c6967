//! Users, their keys, and what they may do.

use super::fault::Fault;
use super::fault::Kind;
use super::settings::UserSettings;
use crate::model::Timestamp;

/// How many keys a user may have.
const MOST_KEYS: usize = 10;
/// How long a key may live, in days.
const LONGEST: i64 = 90;

/// All who may call.
#[derive(Debug)]
pub(super) struct Accounts {
    users: Vec<User>,
    keys: Vec<Key>,
}

#[derive(Clone, Debug)]
pub(super) struct User {
    pub(super) id: i64,
    pub(super) login: String,
    password: Option<String>,
    pub(super) language: String,
    pub(super) zone: Option<String>,
    may: Option<Vec<String>>,
}

#[derive(Debug)]
struct Key {
    user: i64,
    text: String,
    /// The last day on which it opens.
    until: Option<String>,
}

impl Accounts {
    pub(super) fn make(written: &[UserSettings]) -> Self {
        let users = written.iter().map(|user| User {
            id: user.id,
            login: user.login.clone(),
            password: user.password.clone(),
            language: user.language.clone().unwrap_or_else(|| "en_US".to_owned()),
            zone: user.zone.clone(),
            may: user.may.clone(),
        });
        let keys = written.iter().filter_map(|user| {
            let text = user.key.clone()?;
            Some(Key { user: user.id, text, until: user.key_until.clone() })
        });
        Self { users: users.collect(), keys: keys.collect() }
    }

    /// Finds the user of a key.
    pub(super) fn by_key(&self, text: &str, now: Timestamp) -> Option<&User> {
        let key = self.keys.iter().find(|key| key.text == text && key.opens(now))?;
        self.users.iter().find(|user| user.id == key.user)
    }

    /// Finds a user by login and password, or a key instead of it.
    pub(super) fn by_login(&self, login: &str, secret: &str, now: Timestamp) -> Option<&User> {
        let user = self.users.iter().find(|user| user.login == login)?;
        self.opens(user, secret, now).then_some(user)
    }

    /// Finds a user by number and password, or a key instead of it.
    pub(super) fn by_id(&self, id: i64, secret: &str, now: Timestamp) -> Option<&User> {
        let user = self.users.iter().find(|user| user.id == id)?;
        self.opens(user, secret, now).then_some(user)
    }

    fn opens(&self, user: &User, secret: &str, now: Timestamp) -> bool {
        user.password.as_deref() == Some(secret) || self.by_key(secret, now).is_some_and(|found| found.id == user.id)
    }

    /// Makes a further key for the user of one.
    pub(super) fn generate(
        &mut self,
        key: &str,
        until: Option<&str>,
        now: Timestamp,
        random: &mut fastrand::Rng,
    ) -> Result<String, Fault> {
        let user = self.by_key(key, now).ok_or_else(denied)?.id;
        if self.keys.iter().filter(|key| key.user == user && key.opens(now)).count() >= MOST_KEYS {
            return Err(Fault::new(Kind::User, format!("You cannot have more than {MOST_KEYS} keys.")));
        }
        let last = jiff::Timestamp::from_second(now.to_jiff().as_second().saturating_add(LONGEST * 86_400));
        match until {
            None => return Err(Fault::new(Kind::User, "The API key must have an expiration date")),
            Some(until) if last.is_ok_and(|last| until.get(..10).unwrap_or(until) > day(last).as_str()) => {
                return Err(Fault::new(Kind::User, format!("You cannot exceed {LONGEST} days.")));
            }
            Some(_) => {}
        }
        let text: String = (0..40).map(|_| char::from_digit(random.u32(0..16), 16).unwrap_or('0')).collect();
        self.keys.push(Key { user, text: text.clone(), until: until.map(str::to_owned) });
        Ok(text)
    }

    /// Takes a key away.
    pub(super) fn revoke(&mut self, text: &str, now: Timestamp) -> Result<(), Fault> {
        let at = self.keys.iter().position(|key| key.text == text && key.opens(now)).ok_or_else(denied)?;
        self.keys.remove(at);
        Ok(())
    }
}

impl Key {
    fn opens(&self, now: Timestamp) -> bool {
        let today = day(now.to_jiff());
        self.until.as_deref().is_none_or(|until| until.get(..10).unwrap_or(until) >= today.as_str())
    }
}

impl User {
    /// Refuses what the user may not do; `right` is `read`, `write`, `create` or `unlink`.
    pub(super) fn check(&self, right: &str, model: &str, title: &str) -> Result<(), Fault> {
        if self.may.as_ref().is_none_or(|may| may.iter().any(|it| it == right)) {
            return Ok(());
        }
        let verb = match right {
            "read" => "access",
            "write" => "modify",
            "unlink" => "delete",
            other => other,
        };
        Err(Fault::new(Kind::Access, format!("You are not allowed to {verb} '{title}' ({model}) records.")))
    }
}

fn day(moment: jiff::Timestamp) -> String {
    moment.strftime("%Y-%m-%d").to_string()
}

pub(super) fn denied() -> Fault {
    Fault::new(Kind::Denied, "Access Denied")
}
