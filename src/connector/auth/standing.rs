//! Where the credentials of a connection stand, and what to do about it.

use super::custody;
use super::custody::Held;
use crate::connector::call::Stop;
use crate::connector::runtime::Link;
use crate::model::Duration;
use crate::model::Timestamp;
use crate::store::TokenState;

/// Where a connection's credentials stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The project file gives them; nothing is fetched.
    Given,
    /// They are fetched when they are first needed, without a person.
    Unfetched,
    /// A person has to log in.
    Nobody,
    Good,
    /// Good, but for the last time: nothing can renew it.
    Ending,
    /// Expired, and renewed when it is next needed.
    Stale,
    /// Expired, and only a person can get another.
    Expired,
    /// A refresh token was sent, and its answer was not kept.
    Spending,
    /// The provider has refused it.
    Broken,
    /// There is no master key to keep tokens with.
    Keyless,
}

/// What is known of a connection's credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub standing: Standing,
    pub account: Option<String>,
    pub obtained_at: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    /// Until when the refresh token is good, where the provider says so.
    pub refresh_expires_at: Option<Timestamp>,
    /// What the provider said last, if it refused.
    pub reason: Option<String>,
}

/// A token that nothing renews is told of so long before it ends.
const WARNING: Duration = Duration::from_secs(7 * 24 * 3600);

impl Standing {
    /// Returns its word for listings.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Given => "given",
            Self::Unfetched => "not fetched yet",
            Self::Nobody => "not logged in",
            Self::Good => "good",
            Self::Ending => "ending",
            Self::Stale => "renewed when needed",
            Self::Expired => "expired",
            Self::Spending => "perhaps spent",
            Self::Broken => "refused",
            Self::Keyless => "no master key",
        }
    }

    /// Tells whether a person has to do something.
    #[must_use]
    pub fn needs_a_person(&self) -> bool {
        matches!(self, Self::Nobody | Self::Ending | Self::Expired | Self::Spending | Self::Broken | Self::Keyless)
    }
}

/// Finds out where the credentials of a connection stand; nothing is asked of the provider.
///
/// # Errors
/// The store, or a seal that does not open.
pub async fn report(link: &Link, now: Timestamp) -> Result<Report, Stop> {
    let mut report = Report {
        standing: Standing::Given,
        account: None,
        obtained_at: None,
        expires_at: None,
        refresh_expires_at: None,
        reason: None,
    };
    let Some(oauth2) = link.oauth2() else { return Ok(report) };
    let consent = custody::flow(link, oauth2).needs_consent();
    let given = |key: &str| link.connection().auth.get(key).is_some_and(|value| !value.is_null());
    let Some(custody) = link.custody() else {
        report.standing = match (given("access_token"), consent || given("refresh_token")) {
            (true, _) => Standing::Given,
            (false, true) => Standing::Keyless,
            (false, false) => Standing::Unfetched,
        };
        return Ok(report);
    };
    let found = custody.look(link).await?.and_then(|(row, held)| Some((row, held?)));
    let Some((row, held)) = found else {
        report.standing = match (given("access_token") || given("refresh_token"), consent) {
            (true, _) => Standing::Given,
            (false, true) => Standing::Nobody,
            (false, false) => Standing::Unfetched,
        };
        return Ok(report);
    };
    let renewable = custody::can_renew(link, oauth2, &held) || custody::refresh(link, oauth2).is_some();
    let refresh_ends = refresh_expires_at(&held);
    let valid = held.is_valid(now);
    let soon = |moment: Option<Timestamp>| moment.is_some_and(|moment| moment.since(now) < WARNING);
    report.standing = match row.state {
        TokenState::Broken => Standing::Broken,
        TokenState::Spending => Standing::Spending,
        TokenState::Kept if refresh_ends.is_some_and(|ends| ends <= now) && !valid => Standing::Expired,
        TokenState::Kept if renewable && soon(refresh_ends) => Standing::Ending,
        TokenState::Kept if valid && !renewable && soon(held.expires_at) => Standing::Ending,
        TokenState::Kept if valid => Standing::Good,
        // What renews itself by the calendar cannot when it has expired.
        TokenState::Kept if custody::can_renew(link, oauth2, &held) => Standing::Stale,
        TokenState::Kept => Standing::Expired,
    };
    report.account = held.account.clone();
    report.obtained_at = Some(held.obtained_at);
    report.expires_at = held.expires_at;
    report.refresh_expires_at = refresh_ends;
    report.reason = row.reason;
    Ok(report)
}

/// Providers that limit the life of a refresh token say so beside it, in seconds.
fn refresh_expires_at(held: &Held) -> Option<Timestamp> {
    let keys = ["refresh_expires_in", "refresh_token_expires_in"];
    let value = keys.into_iter().find_map(|key| held.values.get(key))?;
    let seconds = value.to_text().parse().ok().filter(|seconds: &u64| *seconds > 0)?;
    Some(held.obtained_at.plus(Duration::from_secs(seconds)))
}

/// Says what to do; nothing where nothing is to be done.
#[must_use]
pub fn advice(name: &str, report: &Report) -> Option<String> {
    let login = format!("`pipewright auth login {name}`");
    Some(match report.standing {
        Standing::Nobody => format!("nobody has logged in yet: {login}"),
        Standing::Ending => format!("it ends soon and cannot renew itself for longer: {login}"),
        Standing::Expired => format!("it has expired: {login}"),
        Standing::Spending => format!(
            "its refresh token was sent and no answer was kept; it may be spent: {login}, or try once more with \
             `pipewright auth refresh {name} --again`, which some providers answer by revoking everything"
        ),
        Standing::Broken => format!("the provider has refused it: {login}"),
        Standing::Keyless => "there is no master key to seal its tokens with: `pipewright init` makes one".to_owned(),
        Standing::Given | Standing::Unfetched | Standing::Good | Standing::Stale => return None,
    })
}
