//! Tokens of connections as rows: who renews one, and what became of it. What is in them, the store cannot read.

use super::Error;
use super::Row;
use super::Store;
use super::db::args;
use crate::model::Timestamp;

/// A connection's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    pub connection: String,
    /// Empty where somebody has only claimed the place.
    pub sealed: String,
    pub state: TokenState,
    /// Why it is broken, for people.
    pub reason: Option<String>,
    /// Grows with every change of the tokens.
    pub version: i64,
}

/// Where tokens stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    Kept,
    /// The refresh token was sent, and no answer has been stored yet.
    Spending,
    /// The provider has refused it; only a person can mend that.
    Broken,
}

impl TokenState {
    const ALL: [Self; 3] = [Self::Kept, Self::Spending, Self::Broken];

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Spending => "spending",
            Self::Broken => "broken",
        }
    }
}

impl Store {
    /// Returns a connection's tokens.
    pub async fn token(&self, connection: &str) -> Result<Option<TokenRow>, Error> {
        const ONE: &str = "SELECT connection, sealed, state, reason, version FROM tokens WHERE connection = $1";
        self.fetch(ONE, args![connection]).await?.first().map(record).transpose()
    }

    /// Takes the right to renew a connection's tokens, unless somebody has it. Returns what is there now.
    pub async fn claim_token(
        &self,
        connection: &str,
        ticket: &str,
        now: Timestamp,
        until: Timestamp,
    ) -> Result<Option<TokenRow>, Error> {
        const CLAIM: &str = "INSERT INTO tokens (connection, sealed, state, version, ticket, ticket_until) \
             VALUES ($1, '', 'kept', 0, $2, $4) \
             ON CONFLICT (connection) DO UPDATE SET ticket = excluded.ticket, ticket_until = excluded.ticket_until \
             WHERE tokens.ticket IS NULL OR tokens.ticket_until <= $3 \
             RETURNING connection, sealed, state, reason, version";
        let args = args![connection, ticket, now.micros(), until.micros()];
        self.fetch_write(CLAIM, args).await?.first().map(record).transpose()
    }

    /// Notes, before a refresh token is sent, that it may be spent from now on; `sealed` holds it, because one that was
    /// given from elsewhere is not here yet. Returns false when the right to do so, or the token, is another's meanwhile.
    pub async fn spend_token(&self, connection: &str, ticket: &str, version: i64, sealed: &str) -> Result<bool, Error> {
        const SPEND: &str = "UPDATE tokens SET state = 'spending', sealed = $4 \
                             WHERE connection = $1 AND ticket = $2 AND version = $3";
        Ok(self.execute(SPEND, args![connection, ticket, version, sealed]).await? > 0)
    }

    /// Stores tokens over the version that was read. Returns false when somebody else was faster.
    pub async fn put_token(&self, connection: &str, seen: i64, sealed: &str) -> Result<bool, Error> {
        const PUT: &str = "UPDATE tokens SET sealed = $3, state = 'kept', reason = NULL, version = version + 1, \
                           ticket = NULL WHERE connection = $1 AND version = $2";
        Ok(self.execute(PUT, args![connection, seen, sealed]).await? > 0)
    }

    /// Stores tokens whatever was there: a person has logged in. Returns their version.
    pub async fn replace_token(&self, connection: &str, sealed: &str) -> Result<i64, Error> {
        const REPLACE: &str = "INSERT INTO tokens (connection, sealed, state, version, ticket_until) \
             VALUES ($1, $2, 'kept', 1, 0) \
             ON CONFLICT (connection) DO UPDATE SET sealed = excluded.sealed, state = 'kept', reason = NULL, \
             version = tokens.version + 1, ticket = NULL RETURNING version";
        let rows = self.fetch_write(REPLACE, args![connection, sealed]).await?;
        rows.first().map_or(Ok(1), |row| row.int(0))
    }

    /// Gives the right to renew back, and says where the tokens stand.
    pub async fn release_token(
        &self,
        connection: &str,
        ticket: &str,
        state: TokenState,
        reason: Option<&str>,
    ) -> Result<(), Error> {
        const RELEASE: &str =
            "UPDATE tokens SET ticket = NULL, state = $3, reason = $4 WHERE connection = $1 AND ticket = $2";
        self.execute(RELEASE, args![connection, ticket, state.name(), reason]).await?;
        Ok(())
    }

    /// Forgets a connection's tokens. Returns whether there were any.
    pub async fn delete_token(&self, connection: &str) -> Result<bool, Error> {
        Ok(self.execute("DELETE FROM tokens WHERE connection = $1", args![connection]).await? > 0)
    }
}

fn record(row: &Row) -> Result<TokenRow, Error> {
    let name = row.text(2)?;
    // What a later program may have written is not taken for usable.
    let state = TokenState::ALL.into_iter().find(|state| state.name() == name).unwrap_or(TokenState::Broken);
    Ok(TokenRow {
        connection: row.text(0)?.to_owned(),
        sealed: row.text(1)?.to_owned(),
        state,
        reason: row.optional_text(3)?.map(str::to_owned),
        version: row.int(4)?,
    })
}
