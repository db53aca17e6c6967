//! What all calls of a process share: manifests, connections, their sessions and accounts, limits, tokens.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::RwLock;
use std::sync::Weak;

use super::auth;
use super::auth::Oauth2;
use super::auth::custody::Custody;
use super::auth::custody::Wish;
use super::call::Asked;
use super::call::Means;
use super::call::Stop;
use super::call::TIMEOUT;
use super::connection::Connection;
use super::contract::Fired;
use super::credentials::Grant;
use super::judge::Failure;
use super::library::Library;
use super::library::Loaded;
use super::limits::Keeper;
use super::limits::Purse;
use super::manifest::Manifest;
use super::manifest::Operation;
use super::manifest::OutcomeKind;
use super::prices::Prices;
use super::render;
use super::schema;
use super::session::Opened;
use super::session::Slot;
use super::url;
use super::wire;
use crate::model::Duration;
use crate::model::Map;
use crate::model::Timestamp;
use crate::model::Value;
use crate::template::Scope;

/// The table of prices, which every manifest has without a word.
pub(super) const PRICES: &str = "prices";

/// Gives connections by name, with their settings evaluated.
pub trait Connections: Send + Sync + std::fmt::Debug {
    /// Returns a connection, or why there is none.
    fn get(&self, name: &str, manifest: &Manifest) -> Result<Connection, String>;
    /// Names the connector of a connection; nothing where there is no such connection.
    fn connector(&self, _name: &str) -> Option<Arc<str>> {
        None
    }
}

/// The connector runtime of a process.
#[derive(Debug)]
pub struct Runtime {
    connections: Arc<dyn Connections>,
    /// The manifests that there are now, for those who know a connection alone.
    library: Option<Arc<Library>>,
    custody: Option<Custody>,
    limits: Arc<Keeper>,
    /// A daemon replaces them when their file is edited; a request keeps those it began with.
    prices: RwLock<Arc<Prices>>,
    states: Mutex<HashMap<(String, usize), Known>>,
    /// By connector which error rules were applied, where somebody wants to know.
    fired: Option<Mutex<BTreeMap<Arc<str>, Fired>>>,
}

/// By connector the places of error rules: line and column of its manifest.
pub type RulesApplied = BTreeMap<Arc<str>, BTreeSet<(u32, u32)>>;

/// What is known of a connection by those who use one version of its manifest.
#[derive(Debug)]
struct Known {
    /// Holds the place in memory by which the version is told apart, as long as it is known here.
    manifest: Weak<Manifest>,
    state: Arc<State>,
}

/// What is known of a connection while the process lives.
#[derive(Debug)]
pub struct State {
    pub connection: Connection,
    pub session: Slot,
    pub account: tokio::sync::OnceCell<Value>,
    pub token: auth::custody::Slot,
    pub(super) masks: wire::Masks,
}

/// A connection at work: its manifest, its settings and its state.
#[derive(Clone, Debug)]
pub struct Link {
    pub manifest: Arc<Manifest>,
    pub state: Arc<State>,
    /// Where tokens are kept.
    pub(super) custody: Option<Custody>,
    /// All limits of the process.
    pub limits: Arc<Keeper>,
    prices: Arc<Prices>,
    /// The session that is being opened, for the requests that open it.
    opening: Option<Arc<Opened>>,
    /// Where the contract suite notes which rules were applied.
    pub(super) fired: Option<Fired>,
}

impl Runtime {
    #[must_use]
    pub fn new(connections: Arc<dyn Connections>) -> Self {
        let (limits, states) = Default::default();
        let prices = RwLock::new(Arc::new(Prices::built_in()));
        Self { connections, library: None, custody: None, limits, prices, states, fired: None }
    }

    /// Gives the runtime the manifests that there are.
    #[must_use]
    pub fn with_library(self, library: Arc<Library>) -> Self {
        Self { library: Some(library), ..self }
    }

    /// Gives the runtime other prices than those in the binary.
    #[must_use]
    pub fn with_prices(self, prices: Prices) -> Self {
        Self { prices: RwLock::new(Arc::new(prices)), ..self }
    }

    /// Returns what models cost.
    #[must_use]
    pub fn prices(&self) -> Arc<Prices> {
        self.prices.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes other prices from now on.
    pub fn replace_prices(&self, prices: Prices) {
        *self.prices.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(prices);
    }

    /// Gives the runtime a place to keep tokens.
    #[must_use]
    pub fn with_custody(self, custody: Custody) -> Self {
        Self { custody: Some(custody), ..self }
    }

    /// Gives the runtime an account of money with limits of its own.
    #[must_use]
    pub fn with_purse(self, purse: Purse) -> Self {
        Self { limits: Arc::new(Keeper::with_purse(purse)), ..self }
    }

    /// Has the runtime note which error rules are applied.
    #[must_use]
    pub fn noting_rules(self) -> Self {
        Self { fired: Some(Mutex::default()), ..self }
    }

    /// Returns which error rules were applied; nothing where it was not to be noted.
    #[must_use]
    pub fn rules_applied(&self) -> RulesApplied {
        let noted = self.fired.iter().flat_map(|noted| {
            let noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
            noted.iter().map(|(name, fired)| (name.clone(), fired.clone())).collect::<Vec<_>>()
        });
        noted.map(|(name, fired)| (name, fired.lock().unwrap_or_else(PoisonError::into_inner).clone())).collect()
    }

    fn fired(&self, connector: &Arc<str>) -> Option<Fired> {
        let mut noted = self.fired.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        Some(noted.entry(connector.clone()).or_default().clone())
    }

    /// Returns where tokens are kept, and what requests outside a run are made with.
    #[must_use]
    pub fn custody(&self) -> Option<&Custody> {
        self.custody.as_ref()
    }

    /// Returns all limits of the process.
    #[must_use]
    pub fn limits(&self) -> &Keeper {
        &self.limits
    }

    /// Links a connection with the manifest of a version.
    ///
    /// # Errors
    /// There is no such connection, or a secret of it is missing.
    pub fn link(&self, manifest: &Arc<Manifest>, connection: &str) -> Result<Link, Failure> {
        // A run that keeps an older manifest has sessions of its own.
        let key = (connection.to_owned(), Arc::as_ptr(manifest).addr());
        let mut states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        let state = match states.get(&key) {
            Some(known) => known.state.clone(),
            None => {
                let made = self.connections.get(connection, manifest);
                let connection = made.map_err(|reason| Failure::new(OutcomeKind::AuthBroken, reason))?;
                // Versions that nobody runs any more are forgotten with their sessions.
                states.retain(|_, known| known.manifest.strong_count() > 0);
                let state = Arc::new(State::new(connection));
                states.insert(key, Known { manifest: Arc::downgrade(manifest), state: state.clone() });
                state
            }
        };
        let (custody, limits, prices) = (self.custody.clone(), self.limits.clone(), self.prices());
        let fired = self.fired(&manifest.name);
        Ok(Link { manifest: manifest.clone(), state, custody, limits, prices, opening: None, fired })
    }
}

impl Runtime {
    /// Links a connection with the manifest that its connector has now; a connector that needs no connection goes by its
    /// own name.
    ///
    /// # Errors
    /// There is no such connection, or its manifest has faults.
    pub fn connected(&self, connection: &str) -> Result<Link, Failure> {
        let connector = self.connections.connector(connection).unwrap_or_else(|| connection.into());
        let loaded = self.library.as_ref().map_or(Loaded::Missing, |library| library.current(&connector));
        match loaded {
            Loaded::Manifest(manifest) => self.link(&manifest, connection),
            Loaded::Faulty { .. } => {
                let message =
                    format!("the manifest of connector `{connector}` has faults; `pipewright validate` tells");
                Err(Failure::invalid(message))
            }
            Loaded::Missing if *connector == *connection => {
                Err(Failure::invalid(format!("there is no connection `{connection}`")))
            }
            Loaded::Missing => {
                Err(Failure::invalid(format!("connection `{connection}`: there is no connector `{connector}`")))
            }
        }
    }
}

impl State {
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            connection,
            session: Slot::default(),
            account: tokio::sync::OnceCell::new(),
            token: auth::custody::Slot::default(),
            masks: wire::Masks::default(),
        }
    }
}

/// Completes what a project file says of a connection.
///
/// # Errors
/// What does not fit the manifest's `config`.
pub fn completed_config(manifest: &Manifest, settings: Value) -> Result<Value, String> {
    let config = schema::completed(&manifest.config, settings);
    let faults = schema::check(&manifest.config, &config, false);
    match faults.first() {
        None => Ok(config),
        Some(fault) => Err(format!("`{}` {}", fault.path.replacen("input", "connection", 1), fault.message)),
    }
}

impl Link {
    /// Returns the connection.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.state.connection
    }

    /// Returns the roots that a connection gives: `config`, `tables`, `base_url`.
    #[must_use]
    pub fn settings(&self) -> Vec<(&'static str, Value)> {
        vec![("config", self.connection().config.clone()), ("tables", self.manifest.tables.clone())]
    }

    /// Makes a scope of roots.
    #[must_use]
    pub fn scope(&self, means: &Means<'_>, mut roots: Vec<(&'static str, Value)>) -> Scope {
        let now = means.system.clock.now();
        for (_, tables) in roots.iter_mut().filter(|(name, _)| *name == "tables") {
            self.lay_prices(tables, now);
        }
        render::scope(roots, now)
    }

    /// Puts the prices of the connector's models among its tables, where its manifest has none.
    fn lay_prices(&self, tables: &mut Value, now: Timestamp) {
        if tables.get(PRICES).is_some() {
            return;
        }
        let table = self.prices.table(&self.manifest.name, self.manifest.limits.currency(), now);
        let mut map = tables.as_map().cloned().unwrap_or_default();
        map.insert(PRICES.into(), table);
        *tables = map.into();
    }

    /// Names an operation for messages.
    #[must_use]
    pub fn name_of(&self, operation: &Operation) -> String {
        format!("{}.{}", self.manifest.name, operation.name)
    }

    #[must_use]
    pub fn timeout(&self, operation: &Operation) -> Duration {
        operation.timeout.or(self.manifest.timeout).unwrap_or(TIMEOUT)
    }

    /// Returns what the manifest says of OAuth 2.0, if the connection uses that.
    #[must_use]
    pub fn oauth2(&self) -> Option<&Oauth2> {
        let kind = &self.connection().kind;
        self.manifest.auth.iter().find(|own| own.name == *kind)?.oauth2()
    }

    /// Returns what the requests of this connection show who they are with.
    ///
    /// # Errors
    /// A token that cannot be had.
    pub async fn grant(&self, means: &Means<'_>) -> Result<Grant, Stop> {
        let Some(oauth2) = self.oauth2() else { return Ok(Grant::of(self)) };
        let held = auth::custody::token(self, means, oauth2, Wish::default()).await?;
        Ok(Grant::of_token(self, oauth2, &held))
    }

    /// Renews a token that was refused, unless another has been faster.
    ///
    /// # Errors
    /// There is nothing to renew it with.
    pub async fn renew(&self, means: &Means<'_>, grant: &Grant) -> Result<(), Stop> {
        let Some(oauth2) = self.oauth2() else { return Ok(()) };
        let wish = Wish { refused: Some(grant.version), ..Wish::default() };
        auth::custody::token(self, means, oauth2, wish).await?;
        Ok(())
    }

    /// Returns the connection as it is for somebody who has not been here yet, and who keeps nothing.
    #[must_use]
    pub(super) fn anew(&self) -> Self {
        Self { state: Arc::new(State::new(self.connection().clone())), custody: None, ..self.clone() }
    }

    /// Returns where the tokens of the connection are kept; nothing where nothing can be sealed.
    #[must_use]
    pub fn custody(&self) -> Option<&Custody> {
        self.custody.as_ref().filter(|custody| custody.store.can_seal())
    }

    /// Tells whether a URL may be asked by this connection.
    #[must_use]
    pub fn is_ours(&self, target: &str, scope: &Scope) -> bool {
        let bases = self.manifest.base_url.keys().filter_map(|name| url::base(&self.manifest, Some(name), scope).ok());
        let bases: Vec<String> = bases.map(|base| base.url).collect();
        url::is_ours(&self.manifest, &bases, target)
    }

    /// Replaces the secrets of the connection in a text that people see.
    #[must_use]
    pub fn masked(&self, text: &str) -> String {
        // Not those of the wire, which have more of them.
        wire::Masks::default().of(self.secrets()).hide(text)
    }

    /// Lists the secrets of the connection that are long enough to be told apart from other text.
    #[must_use]
    pub fn secrets(&self) -> Vec<String> {
        let mut found = Vec::new();
        gather(&self.connection().auth, &mut found);
        for (_, value) in self.state.token.get().iter().flat_map(|held| &held.values) {
            gather(&value.clone().tainted(), &mut found);
        }
        found
    }

    /// Returns the session that is being opened, for a request that opens it.
    #[must_use]
    pub fn opening(&self, asked: &Asked<'_>) -> Option<Arc<Opened>> {
        self.opening
            .clone()
            .filter(|_| asked.operation.session != super::manifest::SessionUse::None || asked.session.is_some())
    }

    /// Returns a link that notes which rules were applied.
    #[must_use]
    pub(super) fn watched(self, fired: Fired) -> Self {
        Self { fired: Some(fired), ..self }
    }

    /// Returns a link for the requests that open a session.
    #[must_use]
    pub fn while_opening(&self, opened: Opened) -> Self {
        Self { opening: Some(Arc::new(opened)), ..self.clone() }
    }
}

/// Gathers the texts of secrets.
pub fn gather(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Secret(inner) => {
            let text = inner.to_text();
            // What is shorter stands in too many other texts.
            if text.len() >= 4 {
                found.push(text);
            }
        }
        Value::List(items) => items.iter().for_each(|item| gather(item, found)),
        Value::Map(map) => map.values().for_each(|item| gather(item, found)),
        _ => {}
    }
}

/// Returns an object of nulls for names that expressions read and nobody has given.
#[must_use]
pub fn with_nulls<'n>(value: &Value, names: impl Iterator<Item = &'n Arc<str>>) -> Value {
    let mut map: Map = value.as_map().cloned().unwrap_or_default();
    for name in names {
        map.entry(name.clone()).or_default();
    }
    Value::from(map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connector::library::Loaded;
    use crate::connector::library::read;

    #[derive(Debug)]
    struct One;

    impl Connections for One {
        fn get(&self, name: &str, manifest: &Manifest) -> Result<Connection, String> {
            Connection::make(name, manifest, Value::map::<&str>([]), &Value::Null, false)
        }
    }

    fn manifest(number: usize) -> Arc<Manifest> {
        let text = format!("connector: a\ntitle: number {number}\nbase_url: {{ api: https://a.example }}\n");
        let text = format!("{text}operations: {{ get: {{ effect: read, request: {{ get: / }} }} }}\n");
        match read(&"a.yaml".into(), &text.as_str().into()) {
            Loaded::Manifest(manifest) => manifest,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_version_that_nobody_runs_is_forgotten_and_none_takes_its_session_over() {
        let runtime = Runtime::new(Arc::new(One));
        let kept = manifest(0);
        let first = runtime.link(&kept, "a").unwrap();
        first.state.session.put(Value::from("first")).await;
        assert!(Arc::ptr_eq(&runtime.link(&kept, "a").unwrap().state, &first.state));
        for number in 1..50 {
            // It may well come to lie where the one before has lain.
            let link = runtime.link(&manifest(number), "a").unwrap();
            assert!(link.state.account.get().is_none());
            link.state.account.set(Value::from(number as u64)).unwrap();
        }
        assert!(runtime.states.lock().unwrap().len() <= 2);
    }
}
