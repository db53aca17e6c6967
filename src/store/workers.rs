//! The daemons that share a store.
//!
//! A row says who is there. That somebody still lives is seen by the beat that grows; how long ago it did is told by the
//! database's own clock, so that no clocks of two machines are compared.

use super::Error;
use super::Store;
use super::db::args;
use crate::model::Duration;
use crate::model::Timestamp;

/// Who has not beaten for so long is not counted on; it beats every five seconds.
pub const SILENT: Duration = Duration::from_secs(20);

/// What a daemon tells of itself when it joins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Presence {
    /// The owner that its leases name.
    pub id: String,
    pub host: String,
    pub pid: u32,
    /// E.g. `scheduler`, `worker`.
    pub roles: Vec<String>,
    pub version: String,
}

/// A daemon that has joined and not left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerRow {
    pub presence: Presence,
    pub started_at: Timestamp,
    pub beat: i64,
    /// How long ago it last beat, by the database's clock.
    pub silent: Duration,
    /// How many runs it holds.
    pub holds: u64,
}

impl WorkerRow {
    /// Tells whether it has a role.
    #[must_use]
    pub fn has_role(&self, role: &str) -> bool {
        self.presence.roles.iter().any(|own| own == role)
    }
}

impl Store {
    /// Tells whether daemons of several machines may share the store.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.is_postgres()
    }

    /// Returns what time the database says it is; nothing where it has no clock of its own.
    ///
    /// # Errors
    /// The store's.
    pub async fn clock(&self) -> Result<Option<Timestamp>, Error> {
        if !self.is_postgres() {
            return Ok(None);
        }
        let rows = self.fetch(format!("SELECT {}", self.now()), args![]).await?;
        rows.first().map(|row| row.int(0).map(Timestamp)).transpose()
    }

    /// Notes that a daemon is there; repeating is harmless.
    ///
    /// # Errors
    /// The store's.
    pub async fn join_workers(&self, presence: &Presence) -> Result<(), Error> {
        let sql = format!(
            "INSERT INTO workers (id, host, pid, roles, version, started_at, beat, beaten_at) \
             VALUES ($1, $2, $3, $4, $5, {now}, 0, {now}) \
             ON CONFLICT (id) DO UPDATE SET beat = workers.beat + 1, beaten_at = excluded.beaten_at",
            now = self.now()
        );
        let Presence { id, host, pid, roles, version } = presence;
        let args = args![id.as_str(), host.as_str(), i64::from(*pid), roles.join(","), version.as_str()];
        self.execute(sql, args).await?;
        Ok(())
    }

    /// Shows that a daemon lives. Returns false where it was taken for dead and its row is gone.
    ///
    /// # Errors
    /// The store's.
    pub async fn show_up(&self, id: &str) -> Result<bool, Error> {
        let sql = format!("UPDATE workers SET beat = beat + 1, beaten_at = {} WHERE id = $1", self.now());
        Ok(self.execute(sql, args![id]).await? > 0)
    }

    /// Notes that a daemon has left.
    ///
    /// # Errors
    /// The store's.
    pub async fn leave_workers(&self, id: &str) -> Result<(), Error> {
        self.execute("DELETE FROM workers WHERE id = $1", args![id]).await?;
        Ok(())
    }

    /// Takes the row of a daemon away that is taken for dead: its beat has not grown since it was `seen`.
    ///
    /// # Errors
    /// The store's.
    pub async fn forget_worker(&self, id: &str, seen: i64) -> Result<bool, Error> {
        let forgotten = self.execute("DELETE FROM workers WHERE id = $1 AND beat = $2", args![id, seen]).await?;
        Ok(forgotten > 0)
    }

    /// Lists the daemons that have joined and not left, in the order in which they came.
    ///
    /// # Errors
    /// The store's.
    pub async fn workers(&self) -> Result<Vec<WorkerRow>, Error> {
        let sql = format!(
            "SELECT id, host, pid, roles, version, started_at, beat, {} - beaten_at, \
             (SELECT COUNT(*) FROM runs WHERE owner = workers.id AND state NOT IN ('succeeded', 'failed', 'canceled')) \
             FROM workers ORDER BY started_at, id",
            self.now()
        );
        let rows = self.fetch(sql, args![]).await?;
        rows.iter()
            .map(|row| {
                let roles = row.text(3)?.split(',').filter(|role| !role.is_empty()).map(str::to_owned).collect();
                Ok(WorkerRow {
                    presence: Presence {
                        id: row.text(0)?.to_owned(),
                        host: row.text(1)?.to_owned(),
                        pid: u32::try_from(row.int(2)?).unwrap_or_default(),
                        roles,
                        version: row.text(4)?.to_owned(),
                    },
                    started_at: Timestamp(row.int(5)?),
                    beat: row.int(6)?,
                    silent: Duration::from_micros(u64::try_from(row.int(7)?).unwrap_or_default()),
                    holds: row.int(8)?.unsigned_abs(),
                })
            })
            .collect()
    }

    /// Returns the expression of the database's own time, in microseconds since 1970.
    fn now(&self) -> &'static str {
        if self.is_postgres() {
            "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS BIGINT)"
        } else {
            "CAST(unixepoch('subsec') * 1000000 AS INTEGER)"
        }
    }
}
