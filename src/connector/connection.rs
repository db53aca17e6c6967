//! A connection: one account of one system, as the project file states it.

use std::sync::Arc;

use super::credentials::KINDS;
use super::credentials::Kind;
use super::manifest::Manifest;
use super::runtime;
use super::schema;
use crate::diag::did_you_mean;
use crate::model::Value;

/// A connection with its settings evaluated; secrets in it are marked as such.
#[derive(Clone, Debug)]
pub struct Connection {
    pub name: Arc<str>,
    pub connector: Arc<str>,
    /// Root `config`: the settings, completed from the manifest's `config` schema.
    pub config: Value,
    /// The kind of auth that it uses, a key of the manifest's `auth`.
    pub kind: Arc<str>,
    /// What the project file says under `auth`: client id and secret, API key. Not the tokens.
    pub auth: Value,
    /// Whether private and loopback addresses may be reached.
    pub private: bool,
}

impl Connection {
    /// Makes a connection of what the project file says of it, evaluated.
    ///
    /// # Errors
    /// What does not fit the manifest.
    pub fn make(name: &str, manifest: &Manifest, settings: Value, auth: &Value, private: bool) -> Result<Self, String> {
        let config =
            runtime::completed_config(manifest, settings).map_err(|reason| format!("connection `{name}`: {reason}"))?;
        let (kind, auth) = given_auth(manifest, auth);
        // Whatever stands under `auth` is a secret, also where it is written out.
        let auth = runtime::with_nulls(&auth, manifest.auth_keys.iter()).tainted();
        Ok(Self { name: name.into(), connector: manifest.name.clone(), config, kind, auth, private })
    }

    /// Makes the connection of a system that needs none.
    ///
    /// # Errors
    /// The manifest wants settings or credentials.
    pub fn without_settings(name: &str, manifest: &Manifest) -> Result<Self, String> {
        if !manifest.auth_keys.is_empty() {
            let help =
                format!("add it to `pipewright.yaml`: `connections: {{ {name}: {{ connector: {} }} }}`", manifest.name);
            return Err(format!("there is no connection `{name}`; {help}"));
        }
        Self::make(name, manifest, Value::map::<&str>([]), &Value::Null, false)
    }
}

/// Says what is wrong with a connection's settings; what an expression gives is null here and fits anything.
#[must_use]
pub fn check(manifest: &Manifest, settings: &Value, auth: &Value) -> Vec<(Option<String>, String)> {
    let mut faults = Vec::new();
    let mut schema = manifest.config.clone();
    if let Some(schema) = schema.as_object_mut() {
        schema.entry("additionalProperties").or_insert(serde_json::Value::Bool(false));
    }
    for fault in schema::check(&schema, settings, true) {
        let key = fault.path.strip_prefix("input.").map(|key| key.split(['.', '[']).next().unwrap_or(key).to_owned());
        let known = schema.get("properties").and_then(serde_json::Value::as_object);
        let mut message = match &key {
            Some(key) => format!("`{key}` {}", fault.message),
            None => fault.message,
        };
        if let (Some(key), Some(known)) = (&key, known)
            && let Some(near) = did_you_mean(key, known.keys().map(String::as_str))
            && !known.contains_key(key)
        {
            message = format!("{message}; did you mean `{near}`?");
        }
        faults.push((key, message));
    }
    let (kind, given) = given_auth(manifest, auth);
    if let Some(schema) = manifest.auth.iter().find(|own| own.name == kind).and_then(|own| own.given.as_ref()) {
        let told = schema::check(schema, &given, true).into_iter();
        let told = told.map(|fault| format!("`{}` {}", fault.path.replacen("input", "auth", 1), fault.message));
        faults.extend(told.map(|message| (Some("auth".to_owned()), message)));
    }
    for key in given.as_map().into_iter().flatten().map(|(key, _)| key) {
        if !manifest.takes_auth(key) && !manifest.auth.iter().any(|kind| kind.name == *key) {
            let near = did_you_mean(key, manifest.auth_keys.iter().map(|key| &**key));
            let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            faults.push((Some("auth".to_owned()), format!("`auth` takes no `{key}`{near}")));
        }
    }
    faults
}

/// Lists what a connection may say under `auth`: the names that expressions read, and those of its kinds.
#[must_use]
pub fn auth_names(manifest: &Manifest) -> Vec<Arc<str>> {
    let mut names = manifest.auth_keys.clone();
    let kinds = KINDS.iter().filter(|(name, _)| manifest.auth.iter().any(|kind: &Kind| *kind.name == **name));
    for key in kinds.flat_map(|(_, keys)| *keys) {
        if !names.iter().any(|name| **name == **key) {
            names.push((*key).into());
        }
    }
    names
}

/// Splits what a connection says under `auth` into the kind and its values.
#[must_use]
pub fn given_auth(manifest: &Manifest, auth: &Value) -> (Arc<str>, Value) {
    let kinds: Vec<_> = manifest.auth.iter().map(|kind| kind.name.clone()).collect();
    let first = kinds.first().cloned().unwrap_or_else(|| "none".into());
    let Some(map) = auth.as_map() else { return (first, Value::map::<&str>([])) };
    if let (1, Some((kind, inner @ (Value::Map(_) | Value::Null)))) = (map.len(), map.first())
        && kinds.contains(kind)
    {
        let inner = if inner.is_null() { Value::map::<&str>([]) } else { inner.clone() };
        return (kind.clone(), inner);
    }
    (first, auth.clone())
}
