//! The journal of a run as rows: each row is a chunk of consecutive events.

use super::Error;
use super::Store;
use super::db::args;
use crate::model::RunEvent;
use crate::model::RunId;
use crate::system::outside;

impl Store {
    /// Returns the events of a run in order; the first has the number 1.
    pub async fn journal(&self, id: RunId) -> Result<Vec<RunEvent>, Error> {
        const ALL: &str = "SELECT seq, last_seq, events FROM journal WHERE run_id = $1 ORDER BY seq";
        let rows = self.fetch(ALL, args![id.to_string()]).await?;
        let shared = self.0.shared.clone();
        // Long journals take a while, and large outputs are files.
        let decode = move || {
            let what = format!("the journal of run {id}");
            let damaged = |reason: String| Error::Damaged { what: what.clone(), reason };
            let mut events = Vec::new();
            for row in &rows {
                let (seq, last) = (row.int(0)?, row.int(1)?);
                if i64::try_from(events.len()).unwrap_or(i64::MAX) != seq - 1 {
                    return Err(damaged(format!("event {seq} follows event {}", events.len())));
                }
                for line in row.text(2)?.lines() {
                    events.push(shared.codec.decode_event(line, &what)?);
                }
                if i64::try_from(events.len()).unwrap_or(i64::MAX) != last {
                    return Err(damaged(format!("events {seq} to {last} are not all there")));
                }
            }
            Ok(events)
        };
        outside(tokio::task::spawn_blocking(decode)).await.map_err(|_| Error::Closed)?
    }

    /// Returns one event of a run by its number.
    pub(super) async fn event(&self, run: RunId, seq: i64) -> Result<Option<RunEvent>, Error> {
        const CHUNK: &str = "SELECT seq, events FROM journal WHERE run_id = $1 AND seq <= $2 ORDER BY seq DESC LIMIT 1";
        let rows = self.fetch(CHUNK, args![run.to_string(), seq]).await?;
        let Some(row) = rows.first() else { return Ok(None) };
        let index = usize::try_from(seq - row.int(0)?).unwrap_or(usize::MAX);
        let line = row.text(1)?.lines().nth(index);
        line.map(|line| self.codec().decode_event(line, &format!("event {seq} of run {run}"))).transpose()
    }
}
