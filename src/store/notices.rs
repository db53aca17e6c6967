//! Tells whoever shares the store that there is something to look at: LISTEN and NOTIFY on PostgreSQL.
//!
//! A notice carries nothing but that; what there is stands in the tables, and who misses one looks by itself some seconds
//! later. NOTIFY takes a lock of the whole database when its transaction ends, so it is none of the transactions that
//! matter, and a process sends few: what is announced within a pause is one notice.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Executor;
use sqlx::PgPool;
use sqlx::postgres::PgListener;
use sqlx::postgres::PgPoolOptions;
use tokio::sync::watch;
use tokio::time::timeout;

use super::Shared;
use super::Store;
use super::db::Db;
use super::db::args;

/// All stores of a database share the channel; the payload tells them apart.
const CHANNEL: &str = "pipewright";
/// The time between two notices of a process.
const PAUSE: Duration = Duration::from_millis(5);
/// The time between two attempts to reach a server that is gone.
const REST: Duration = Duration::from_secs(1);
/// A connection that has been quiet for so long is asked whether it still is one.
const QUIET: Duration = Duration::from_secs(30);
/// A command does not wait longer for its notice to be sent.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was announced, and how much of it others were told.
#[derive(Debug)]
pub(super) struct Notices {
    /// Rung by this process and by others.
    here: watch::Sender<u64>,
    /// How often this process had something to announce.
    announced: watch::Sender<u64>,
    /// How much of that others know.
    told: watch::Receiver<u64>,
    /// Names this process, so that it does not hear itself twice.
    own: String,
}

/// Makes the notices of a store; a task sends them to other processes as long as it is open.
pub(super) fn start(shared: &Arc<Shared>) -> Notices {
    let (announced, mut heard) = watch::channel(0);
    let (sent, told) = watch::channel(0);
    let own = format!("{:016x}", fastrand::u64(..));
    if matches!(shared.db, Db::Postgres(_)) {
        let (shared, own) = (shared.clone(), own.clone());
        tokio::spawn(async move {
            while heard.changed().await.is_ok() {
                let number = *heard.borrow_and_update();
                notify(&shared, &own).await;
                sent.send_replace(number);
                rest(PAUSE).await;
            }
        });
    }
    Notices { here: watch::Sender::new(0), announced, told, own }
}

async fn notify(shared: &Shared, own: &str) {
    const NOTIFY: &str = "SELECT pg_notify($1, $2 || ' ' || current_schema())";
    if let Err(error) = shared.db.execute(NOTIFY, args![CHANNEL, own]).await {
        // Others look by themselves some seconds later.
        tracing::debug!(%error, "a notice could not be sent");
    }
}

#[expect(clippy::disallowed_methods, reason = "paces a connection, which no simulated clock can move")]
async fn rest(length: Duration) {
    tokio::time::sleep(length).await;
}

impl Store {
    /// Tells this process and all others that there is something to look at. Returns at once.
    pub fn announce(&self) {
        self.0.notices.here.send_modify(|rings| *rings += 1);
        self.0.notices.announced.send_modify(|number| *number += 1);
    }

    /// Returns when others have been told what was announced so far, or cannot be told.
    pub async fn announced(&self) {
        if !self.is_postgres() {
            return;
        }
        let wanted = *self.0.notices.announced.borrow();
        let mut told = self.0.notices.told.clone();
        // Whoever cannot be told looks by itself.
        let _ = timeout(PATIENCE, told.wait_for(|told| *told >= wanted)).await;
    }

    /// Returns what hears announcements from now on: of this process, and of others while somebody `listen`s.
    #[must_use]
    pub fn notices(&self) -> watch::Receiver<u64> {
        self.0.notices.here.subscribe()
    }

    /// Hears what other processes announce, for as long as it is polled. After a cut connection it rings once: nobody
    /// knows what was missed.
    pub async fn listen(&self) {
        let Db::Postgres(pool) = &self.0.shared.db else { return std::future::pending().await };
        let mut failing = false;
        loop {
            match self.listen_once(pool, &mut failing).await {
                // A server that ends its connections in good order says so in the same way as a fault.
                Err(error) if !failing => {
                    tracing::warn!(error = %self.place().error(error), "the store sends no notices; it is looked at every few seconds");
                    failing = true;
                }
                Err(error) => tracing::debug!(%error, "the store sends no notices"),
                Ok(()) => {}
            }
            rest(REST).await;
        }
    }

    /// Listens until the connection is cut.
    async fn listen_once(&self, pool: &PgPool, failing: &mut bool) -> Result<(), sqlx::Error> {
        let options = (*pool.connect_options()).clone();
        let line = PgPoolOptions::new().max_connections(1).acquire_timeout(QUIET).connect_lazy_with(options);
        let mut listener = PgListener::connect_with(&line).await?;
        listener.eager_reconnect(false);
        listener.listen(CHANNEL).await?;
        let schema: Option<String> =
            sqlx::query_scalar("SELECT CAST(current_schema() AS TEXT)").fetch_one(&mut listener).await?;
        let schema = schema.unwrap_or_default();
        if std::mem::take(failing) {
            tracing::info!("the store sends notices again");
        }
        let notices = &self.0.notices;
        // Nobody knows what was announced while nobody listened.
        notices.here.send_modify(|rings| *rings += 1);
        loop {
            let meant = match timeout(QUIET, listener.try_recv()).await {
                Ok(Ok(Some(notice))) => {
                    let (from, place) = notice.payload().split_once(' ').unwrap_or_default();
                    place == schema && from != notices.own
                }
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) => return Err(error),
                Err(_) => {
                    let asked = timeout(QUIET, listener.execute("SELECT 1")).await;
                    asked.map_err(|_| sqlx::Error::PoolTimedOut)??;
                    false
                }
            };
            if meant {
                notices.here.send_modify(|rings| *rings += 1);
            }
        }
    }
}
