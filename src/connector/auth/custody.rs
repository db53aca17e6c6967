//! Keeps the tokens of connections: sealed in the store, renewed by one at a time over all processes, a new refresh
//! token stored before the old one is given up, and none ever sent twice.
//!
//! ```text
//! kept ──claim, mark──> spending ──answer stored──> kept (next version)
//!   ^                      │ refused by the provider ──> broken (a person logs in again)
//!   └── nothing was spent ─┘ killed, or the answer is lost: stays `spending`, and the message says so
//! ```

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

pub use super::held::Held;
pub use super::held::Slot;
pub use super::held::Wish;
use super::held::given_hash;
use super::request::Asker;
use super::request::Denied;
use super::spec::Flow;
use super::spec::Oauth2;
use super::spec::Refresh;
use crate::connector::call::Means;
use crate::connector::call::Stop;
use crate::connector::judge::Failure;
use crate::connector::manifest::OutcomeKind;
use crate::connector::render;
use crate::connector::runtime::Link;
use crate::http::Transport;
use crate::model::Blob;
use crate::model::Duration;
use crate::model::Map;
use crate::model::Timestamp;
use crate::model::Value;
use crate::node::Keep;
use crate::node::LogLevel;
use crate::node::LogSink;
use crate::node::NodeError;
use crate::store::Store;
use crate::store::TokenRow;
use crate::store::TokenState;
use crate::system::System;

/// How long the right to renew lasts; a token request is given up well before.
const TICKET: Duration = Duration::from_secs(30);
/// How long somebody waits for another who renews.
const PATIENCE: Duration = Duration::from_secs(90);

/// What renewing works with, apart from the call that needs it: a call that is given up must not take an answer with it.
#[derive(Clone, Debug)]
pub struct Custody {
    pub store: Store,
    pub http: Arc<dyn Transport>,
    pub system: System,
}

/// Returns what the project file gives, as if it had been had.
fn given(link: &Link, version: i64) -> Held {
    let auth = &link.connection().auth;
    let values = ["access_token", "refresh_token"].into_iter().filter_map(|key| {
        let value = auth.get(key).filter(|value| !value.is_null())?;
        Some((Arc::from(key), value.clone()))
    });
    Held { values: values.collect(), version, ..Held::default() }
}

/// Returns the flow of a connection: what it names, else the manifest's first.
#[must_use]
pub fn flow(link: &Link, oauth2: &Oauth2) -> Flow {
    let named = link.connection().auth.get("flow").filter(|flow| !flow.is_null());
    let named = named.and_then(|flow| Flow::by_word(&flow.revealed().to_text()));
    named.or(oauth2.flows.first().copied()).unwrap_or(Flow::AuthorizationCode)
}

/// Returns how the tokens of a connection are renewed off the standard, if they are.
#[must_use]
pub fn refresh<'o>(link: &Link, oauth2: &'o Oauth2) -> Option<&'o Refresh> {
    let refresh = oauth2.refresh.as_ref()?;
    let Some(when) = &refresh.when else { return Some(refresh) };
    let mut roots = link.settings();
    roots.push(("auth", Value::from(auth_root(link, &Held::default()))));
    when.eval(&render::scope(roots, Timestamp(0))).is_ok_and(|value| value.is_truthy()).then_some(refresh)
}

/// Tells whether a refused token can be replaced by another without a person.
#[must_use]
pub fn can_renew(link: &Link, oauth2: &Oauth2, held: &Held) -> bool {
    // Renewal by the calendar says nothing of a refusal.
    if refresh(link, oauth2).is_some_and(|refresh| refresh.due.is_some()) {
        return false;
    }
    let fixed = link.connection().auth.get("access_token").is_some_and(|token| !token.is_null());
    held.has("refresh_token") || (!fixed && !flow(link, oauth2).needs_consent())
}

/// Returns root `auth` with these tokens.
#[must_use]
pub fn auth_root(link: &Link, held: &Held) -> Map {
    let connection = link.connection();
    let mut auth = connection.auth.as_map().cloned().unwrap_or_default();
    auth.insert("kind".into(), Value::from(&*connection.kind));
    // Whatever a token's answer gives is a secret.
    auth.extend(held.values.iter().map(|(key, value)| (key.clone(), value.clone().tainted())));
    auth
}

/// Returns a token that serves: from memory, from the store, or a new one.
///
/// # Errors
/// None can be had; the message says what to do.
pub async fn token(link: &Link, means: &Means<'_>, oauth2: &Oauth2, wish: Wish) -> Result<Arc<Held>, Stop> {
    let now = means.system.clock.now();
    if let Some(held) = link.state.token.get().filter(|held| held.answers(&wish, refresh(link, oauth2), now)) {
        return Ok(held);
    }
    let Some(custody) = link.custody().cloned() else {
        return in_memory(link, means, oauth2, &wish).await;
    };
    // On its own: whoever waits may give up, and an answer that has come must still be stored.
    let link = link.clone();
    let renewed = tokio::spawn(async move {
        match link.oauth2() {
            Some(oauth2) => renewed(&link, &custody, oauth2, wish).await,
            None => Err(Failure::invalid("the manifest has no `oauth2`").into()),
        }
    });
    renewed.await.unwrap_or_else(|_| Err(Failure::invalid("renewing a token has failed").into()))
}

/// Gets a token that lives as long as the process: where nothing can be sealed, none is stored.
async fn in_memory(link: &Link, means: &Means<'_>, oauth2: &Oauth2, wish: &Wish) -> Result<Arc<Held>, Stop> {
    let slot = &link.state.token;
    let _turn = slot.turn.lock().await;
    let now = means.system.clock.now();
    let held = slot.get().map_or_else(|| given(link, 0), |held| Held::clone(&held));
    // A token that is given serves, though nothing can renew it here.
    if held.answers(wish, refresh(link, oauth2), now) || (held.version == 0 && held.still_serves(wish, now)) {
        return Ok(slot.put(held));
    }
    let name = &link.connection().name;
    if held.has("refresh_token") || flow(link, oauth2).needs_consent() {
        let message = format!(
            "connection `{name}`: its tokens have to be kept, and there is no master key to seal them with: \
             `pipewright init` makes one"
        );
        return Err(Failure::new(OutcomeKind::AuthBroken, message).into());
    }
    let asker = Asker { link, means, oauth2, auth: auth_root(link, &held) };
    match asker.alone(flow(link, oauth2)).await {
        Ok(values) => Ok(slot.put(Held { version: held.version + 1, ..Held::new(values, now) })),
        Err(denied) => Err(failed(link, denied).into()),
    }
}

async fn renewed(link: &Link, custody: &Custody, oauth2: &Oauth2, wish: Wish) -> Result<Arc<Held>, Stop> {
    let slot = &link.state.token;
    let _turn = slot.turn.lock().await;
    let clock = &custody.system.clock;
    if let Some(held) = slot.get().filter(|held| held.answers(&wish, refresh(link, oauth2), clock.now())) {
        return Ok(held);
    }
    let name = link.connection().name.clone();
    let ticket = format!("{:032x}", custody.system.random.bits());
    let began = clock.monotonic();
    loop {
        // What another process has stored serves as well, and asking for it takes no right.
        if let Some(row) = custody.store.token(&name).await.map_err(stored)?
            && row.state != TokenState::Broken
            && let Some(held) =
                opened(link, custody, &row)?.filter(|held| held.answers(&wish, refresh(link, oauth2), clock.now()))
        {
            return Ok(slot.put(held));
        }
        let now = clock.now();
        let claimed = custody.store.claim_token(&name, &ticket, now, now.plus(TICKET)).await.map_err(stored)?;
        if let Some(row) = claimed {
            return claimed_renewal(link, custody, oauth2, &wish, &ticket, row).await.map(|held| slot.put(held));
        }
        if clock.monotonic().micros().saturating_sub(began.micros()) > PATIENCE.micros() {
            let message = format!("connection `{name}`: another process has been renewing its token for too long");
            return Err(Failure::new(OutcomeKind::Unavailable, message).into());
        }
        let pause = 50_000 + (custody.system.random.bits() % 200_000) as u64;
        clock.sleep_until(now.plus(Duration::from_micros(pause))).await;
    }
}

/// Opens what a row holds; nothing where it is empty, or of other tokens than the project file gives now.
fn opened(link: &Link, custody: &Custody, row: &TokenRow) -> Result<Option<Held>, Stop> {
    if row.sealed.is_empty() {
        return Ok(None);
    }
    let text = custody.store.unseal(&row.sealed).map_err(stored)?;
    let Some((held, connection, given)) = Held::of_text(&text, row.version) else {
        return Err(Failure::invalid(format!("the stored token of `{}` cannot be read", row.connection)).into());
    };
    // A row that was put in another's place is none.
    Ok(Some(held).filter(|_| connection == *link.connection().name && given == given_hash(link)))
}

/// What renews a token.
enum Way {
    /// The vendor's own request, with what is held.
    Own,
    /// A refresh token, which may be good only once.
    Spend(String),
    /// A flow that needs no person.
    Alone(Flow),
}

fn way(link: &Link, oauth2: &Oauth2, held: &Held) -> Way {
    if refresh(link, oauth2).is_some() && held.has("access_token") {
        return Way::Own;
    }
    match held.values.get("refresh_token").filter(|token| !token.is_null()) {
        Some(token) => Way::Spend(token.revealed().to_text()),
        None => Way::Alone(flow(link, oauth2)),
    }
}

/// Renews with the right to do so. Whatever happens, the row says where the token stands, and the right is given back.
async fn claimed_renewal(
    link: &Link,
    custody: &Custody,
    oauth2: &Oauth2,
    wish: &Wish,
    ticket: &str,
    row: TokenRow,
) -> Result<Held, Stop> {
    let name = link.connection().name.clone();
    let release = async |state: TokenState, reason: Option<&str>| {
        // The right lapses by itself where the store is gone.
        if let Err(error) = custody.store.release_token(&name, ticket, state, reason).await {
            tracing::warn!(connection = &*name, %error, "the right to renew a token was not given back");
        }
    };
    let kept = match opened(link, custody, &row) {
        Ok(kept) => kept,
        Err(stop) => {
            release(row.state, row.reason.as_deref()).await;
            return Err(stop);
        }
    };
    let now = custody.system.clock.now();
    // The state of other tokens than those of now says nothing.
    let state = if kept.is_some() { row.state } else { TokenState::Kept };
    let held = kept.unwrap_or_else(|| given(link, row.version));
    if state != TokenState::Broken && held.answers(wish, refresh(link, oauth2), now) {
        release(state, row.reason.as_deref()).await;
        return Ok(held);
    }
    let once = held.rotates != Some(false);
    match state {
        TokenState::Broken if !wish.again => {
            release(state, row.reason.as_deref()).await;
            return Err(refused(link, oauth2, row.reason.as_deref().unwrap_or("it was refused")).into());
        }
        TokenState::Spending if once && !wish.again => {
            release(state, row.reason.as_deref()).await;
            return if held.still_serves(wish, now) { Ok(held.resting(now)) } else { Err(spent(link, &row).into()) };
        }
        _ => {}
    }
    let way = way(link, oauth2, &held);
    if let Way::Spend(_) = way {
        let sealed = custody.store.seal(&held.to_text(link)).map_err(stored)?;
        if !custody.store.spend_token(&name, ticket, row.version, &sealed).await.map_err(stored)? {
            let message = format!("connection `{name}`: its tokens have just been changed by another process");
            return Err(Failure::new(OutcomeKind::Unavailable, message).into());
        }
    }
    let canceled = CancellationToken::new();
    let means = custody.means(&canceled);
    let asker = Asker { link, means: &means, oauth2, auth: auth_root(link, &held) };
    let answer = match (&way, &oauth2.refresh) {
        (Way::Own, Some(refresh)) => asker.own(&refresh.request, refresh.token.as_ref()).await,
        (Way::Spend(token), _) => asker.refresh(token).await,
        (Way::Alone(flow), _) => asker.alone(*flow).await,
        (Way::Own, None) => Err(Denied::Wrong("there is no `refresh`".to_owned())),
    };
    let denied = match answer {
        Ok(values) => return store_answer(link, custody, &row, held.followed_by(values, now)).await,
        Err(denied) => denied,
    };
    let spends = matches!(way, Way::Spend(_));
    let is_lost = matches!(denied, Denied::Lost(_));
    if let Denied::Refused(reason) = &denied {
        // Somebody may have been faster in spite of all.
        if let Some(newer) = custody.store.token(&name).await.ok().flatten().filter(|it| it.version != row.version)
            && let Ok(Some(held)) = opened(link, custody, &newer)
        {
            return Ok(held);
        }
        // Without a refresh token, the next try costs nothing and may find other settings.
        let state = if spends { TokenState::Broken } else { TokenState::Kept };
        release(state, Some(reason)).await;
        if state == TokenState::Kept && held.still_serves(wish, now) {
            return Ok(held.resting(now));
        }
        return Err(match way {
            Way::Alone(flow) if flow.needs_consent() => Failure::new(OutcomeKind::AuthBroken, reason.clone()).into(),
            _ => refused(link, oauth2, reason).into(),
        });
    }
    let reason = match &denied {
        Denied::Lost(reason) if spends => Some(reason.clone()),
        _ => None,
    };
    let doubtful = is_lost && spends;
    release(if doubtful { TokenState::Spending } else { TokenState::Kept }, reason.as_deref()).await;
    if held.still_serves(wish, now) {
        tracing::warn!(connection = &*name, "a token could not be renewed; the one that is there serves on");
        return Ok(held.resting(now));
    }
    if doubtful && once {
        return Err(spent(link, &TokenRow { reason, ..row }).into());
    }
    Err(failed(link, denied).into())
}

/// Stores what came before anybody uses it.
async fn store_answer(link: &Link, custody: &Custody, row: &TokenRow, next: Held) -> Result<Held, Stop> {
    let name = &link.connection().name;
    let sealed = custody.store.seal(&next.to_text(link)).map_err(stored)?;
    let mut attempt = 0;
    loop {
        match custody.store.put_token(name, row.version, &sealed).await {
            Ok(true) => {
                tracing::info!(connection = &**name, "a token was renewed");
                return Ok(Held { version: row.version + 1, ..next });
            }
            // A person has logged in meanwhile.
            Ok(false) => {
                let newer = custody.store.token(name).await.map_err(stored)?;
                let held = newer.as_ref().map(|row| opened(link, custody, row)).transpose()?.flatten();
                return held.ok_or_else(|| {
                    let message = format!("connection `{name}`: its tokens were taken away while they were renewed");
                    Failure::new(OutcomeKind::AuthBroken, message).into()
                });
            }
            Err(error) if attempt < 3 => {
                attempt += 1;
                tracing::warn!(connection = &**name, %error, "a renewed token could not be stored; trying again");
                let clock = &custody.system.clock;
                clock.sleep_until(clock.now().plus(Duration::from_secs(1))).await;
            }
            Err(error) => return Err(stored(error)),
        }
    }
}

impl Custody {
    /// Keeps the tokens of a person's consent, whatever was there.
    pub(super) async fn keep(&self, link: &Link, held: &Held) -> Result<Held, Stop> {
        let sealed = self.store.seal(&held.to_text(link)).map_err(stored)?;
        let version = self.store.replace_token(&link.connection().name, &sealed).await.map_err(stored)?;
        Ok(Held { version, ..held.clone() })
    }

    /// Returns what is stored of a connection, and where it stands.
    ///
    /// # Errors
    /// The store, or a seal that does not open.
    pub async fn look(&self, link: &Link) -> Result<Option<(TokenRow, Option<Held>)>, Stop> {
        let Some(row) = self.store.token(&link.connection().name).await.map_err(stored)? else { return Ok(None) };
        let held = opened(link, self, &row)?;
        Ok(Some((row, held)))
    }

    /// Returns what a request outside any run is made with.
    #[must_use]
    pub fn means<'a>(&'a self, canceled: &'a CancellationToken) -> Means<'a> {
        Means {
            system: &self.system,
            http: &*self.http,
            log: &Nowhere,
            keep: &Nowhere,
            canceled,
            deadline: None,
            attempt: 1,
            effect: None,
            step: None,
            begun: None,
        }
    }
}

/// Neither logs nor keeps: no token request is recorded, and none has a file.
#[derive(Debug)]
struct Nowhere;

impl LogSink for Nowhere {
    fn log(&self, _: LogLevel, _: &str) {}
}

#[async_trait::async_trait]
impl Keep for Nowhere {
    async fn read_blob(&self, _: &Blob) -> Result<Vec<u8>, NodeError> {
        Err(NodeError::invalid("there are no files here"))
    }

    async fn put_blob(&self, _: Vec<u8>, _: Option<&str>, _: Option<&str>) -> Result<Blob, NodeError> {
        Err(NodeError::invalid("no file is kept here"))
    }

    async fn stream(&self, _: &str) -> Result<Option<Value>, NodeError> {
        Ok(None)
    }
}

fn stored(error: impl std::fmt::Display) -> Stop {
    Failure::new(OutcomeKind::Unavailable, format!("the tokens in the store: {error}")).into()
}

fn refused(link: &Link, oauth2: &Oauth2, reason: &str) -> Failure {
    let name = &link.connection().name;
    let help = if flow(link, oauth2).needs_consent() {
        format!("`pipewright auth login {name}`")
    } else {
        "mend its `auth` in the project file".to_owned()
    };
    Failure::new(
        OutcomeKind::AuthBroken,
        format!("connection `{name}`: the provider gives no new token ({reason}): {help}"),
    )
}

/// Says that nobody knows whether the refresh token is spent.
fn spent(link: &Link, row: &TokenRow) -> Failure {
    let name = &link.connection().name;
    let why = row.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let message = format!(
        "connection `{name}`: its refresh token was sent and the answer was not kept: the process was stopped, or no \
         answer came{why}. It may be spent, and a second sending could revoke the account's tokens. \
         `pipewright auth login {name}` gets new ones; `pipewright auth refresh {name} --again` sends it once more"
    );
    Failure::new(OutcomeKind::AuthBroken, message)
}

pub(super) fn failed(link: &Link, denied: Denied) -> Failure {
    let name = &link.connection().name;
    let of = |outcome, reason: String| Failure::new(outcome, format!("connection `{name}`: no token: {reason}"));
    match denied {
        Denied::Refused(reason) | Denied::Wrong(reason) => of(OutcomeKind::AuthBroken, reason),
        Denied::Lost(reason) => of(OutcomeKind::Unavailable, reason),
        Denied::Unavailable { reason, wait } => Failure { retry_after: wait, ..of(OutcomeKind::Unavailable, reason) },
        Denied::Pending { .. } => of(OutcomeKind::AuthBroken, "nobody has agreed yet".to_owned()),
    }
}
