//! Reading many: pages, streams that go on from run to run, lists that are asked in parts.

use std::sync::Arc;

use super::call::Asked;
use super::call::Means;
use super::call::Stop;
use super::call::Success;
use super::call::call;
use super::call::output_of;
use super::judge::Failure;
use super::manifest::Manifest;
use super::manifest::Operation;
use super::manifest::OutcomeKind;
use super::manifest::Paging;
use super::manifest::Sync;
use super::manifest::Window;
use super::render;
use super::runtime::Link;
use super::url;
use crate::model::Duration;
use crate::model::ErrorClass;
use crate::model::Map;
use crate::model::Timestamp;
use crate::model::Value;
use crate::node::EffectContext;
use crate::node::RowSink;
use crate::node::StreamState;

/// How many rows fit into one output; more go into a dataset.
const MAX_ROWS: usize = 100_000;

/// What a read came to.
#[derive(Debug)]
pub struct Rows {
    /// Nothing where they went into a dataset.
    pub rows: Option<Vec<Value>>,
    pub stream: Option<StreamState>,
}

/// Where a read stands: what is kept with every page.
#[derive(Clone, Debug, Default, PartialEq)]
struct Place {
    next: Value,
    url: Option<String>,
    window: Option<(Timestamp, Timestamp)>,
    cursor: Value,
}

/// Reads all rows of an operation.
///
/// # Errors
/// Those of a page. What is in a dataset by then stays there, and an attempt that follows goes on behind it.
pub async fn read(
    link: &Link,
    means: &Means<'_>,
    operation: &Arc<Operation>,
    input: &Value,
    sink: Option<&dyn RowSink>,
) -> Result<Rows, Stop> {
    let key = operation.sync.as_ref().map(|_| stream_key(link, operation, input));
    let mut lost = false;
    loop {
        match read_once(link, means, operation, input, sink, key.as_deref(), lost).await {
            Err(Stop::Failed(failure)) if failure.outcome == OutcomeKind::CursorLost && !lost => {
                // The system no longer knows where we stood: everything is read anew.
                lost = true;
                if let Some(sink) = sink {
                    sink.restart().await.map_err(|error| Failure::invalid(error.text()))?;
                }
            }
            other => return other,
        }
    }
}

async fn read_once(
    link: &Link,
    means: &Means<'_>,
    operation: &Arc<Operation>,
    input: &Value,
    sink: Option<&dyn RowSink>,
    key: Option<&str>,
    anew: bool,
) -> Result<Rows, Stop> {
    let kept = match (key, anew) {
        (Some(key), false) => means.keep.stream(key).await.map_err(|error| Failure::invalid(error.text()))?,
        _ => None,
    };
    let resumed = match sink {
        Some(sink) => sink.resume().await.map_err(|error| Failure::invalid(error.text()))?,
        None => None,
    };
    let now = means.system.clock.now();
    let mut place = match &resumed {
        Some((_, stored)) => Place::from_stored(stored),
        None => match first_place(operation, kept.as_ref(), now) {
            Some(place) => place,
            // Nothing can have changed since the last time.
            None => {
                let stream = key.zip(kept).map(|(key, state)| StreamState { key: key.to_owned(), state });
                if let Some(sink) = sink {
                    append(sink, Vec::new(), None, None).await?;
                }
                return Ok(Rows { rows: sink.is_none().then(Vec::new), stream });
            }
        },
    };
    let mut all = Vec::new();
    let mut pages = 0_u64;
    let mut circle = Circle::default();
    loop {
        let asked =
            Asked { places: place.roots(), verbatim: place.url.clone(), ..Asked::new(operation, input.clone()) };
        let mut success = match sink {
            None if pages > 0 => go_on(link, means, asked).await?,
            // In a dataset the pages stay, and a read that is put off goes on behind them.
            _ => call(link, means, asked).await?,
        };
        pages += 1;
        let (rows, items) = rows_of(operation, &mut success)?;
        let next = next_place(operation, &place, &success, &items)?;
        let stream = match (key, &next) {
            (Some(key), None) => {
                Some(StreamState { key: key.to_owned(), state: end_state(operation, &place, &success, now)? })
            }
            _ => None,
        };
        match sink {
            Some(sink) => append(sink, rows, next.as_ref().map(Place::to_stored), stream.clone()).await?,
            None => {
                all.extend(rows);
                if all.len() > MAX_ROWS {
                    let message = format!(
                        "`{}` gives more than {MAX_ROWS} rows; put them into a dataset by `into: NAME`",
                        link.name_of(operation)
                    );
                    return Err(Failure { class: ErrorClass::Exhausted, ..Failure::invalid(message) }.into());
                }
            }
        }
        if means.canceled.is_cancelled() && means.effect.is_none() {
            return Err(Failure { class: ErrorClass::Canceled, ..Failure::invalid("canceled") }.into());
        }
        match next {
            Some(next) => {
                if circle.closes(&next) {
                    let message = format!("the pages of `{}` go round in a circle", link.name_of(operation));
                    return Err(Failure::new(OutcomeKind::Rejected, message).into());
                }
                place = next;
            }
            None => return Ok(Rows { rows: sink.is_none().then_some(all), stream }),
        }
    }
}

/// Calls an operation of which earlier pages or parts have come: they must not be asked for again, so a limit is waited
/// for here instead of putting off the whole.
async fn go_on(link: &Link, means: &Means<'_>, asked: Asked<'_>) -> Result<Success, Stop> {
    let clock = &means.system.clock;
    // The first byte of the whole has left. What follows may leave as long as its answer can be waited for.
    let left = means.deadline.map(|deadline| clock.monotonic().plus(deadline.since(clock.now())));
    let effect = means.effect.map(|effect| EffectContext { send_within: left, ..effect.clone() });
    let means = &Means { effect: effect.as_ref(), ..*means };
    loop {
        let (until, reason) = match call(link, means, asked.clone()).await {
            Err(Stop::Later { until, reason }) => (until, reason),
            ended => return ended,
        };
        let now = clock.now();
        if means.deadline.is_some_and(|deadline| until >= deadline) {
            let message = format!("`{}`: {reason}, and the time is up before the rest may go", link.manifest.name);
            let failure = Failure::new(OutcomeKind::Throttled, message);
            return Err(Failure { retry_after: Some(until.since(now)), ..failure }.into());
        }
        tracing::debug!(reason, "the rest of a read waits for a limit");
        tokio::select! {
            () = clock.sleep_until(until.max(now.plus(Duration::from_secs(1)))) => {}
            () = means.canceled.cancelled() => {
                return Err(Failure { class: ErrorClass::Canceled, ..Failure::invalid("canceled") }.into());
            }
        }
    }
}

/// Notices when places come again, however many lie between, and remembers one of them only (after R. P. Brent).
#[derive(Debug, Default)]
struct Circle {
    kept: Option<Place>,
    since: u64,
    until: u64,
}

impl Circle {
    fn closes(&mut self, place: &Place) -> bool {
        if self.kept.as_ref() == Some(place) {
            return true;
        }
        self.since += 1;
        if self.since >= self.until {
            *self = Self { kept: Some(place.clone()), since: 0, until: (self.until * 2).max(1) };
        }
        false
    }
}

async fn append(
    sink: &dyn RowSink,
    rows: Vec<Value>,
    place: Option<Value>,
    stream: Option<StreamState>,
) -> Result<(), Stop> {
    let appended = sink.append(rows, place, stream).await;
    appended.map_err(|error| Failure { class: error.class, ..Failure::invalid(error.text()) }.into())
}

/// Takes the rows out of an answer, in the shape that the operation gives them.
pub fn rows_of(operation: &Operation, success: &mut Success) -> Result<(Vec<Value>, Value), Failure> {
    let items = match (&success.output, &operation.items) {
        // A rule that says what comes out says it of the rows.
        (Some(output), _) => output.clone(),
        (None, Some(items)) => items.eval(&success.scope)?,
        (None, None) => Value::Null,
    };
    let list = match &items {
        Value::List(list) => list.clone(),
        Value::Null => Arc::default(),
        other => {
            let message = format!("`items` gives {}, expected a list", other.kind().name());
            return Err(Failure::new(OutcomeKind::Rejected, message));
        }
    };
    success.scope.locals.push(("items", items.clone()));
    let plain = operation.item.is_none() && operation.sync.is_none();
    if plain {
        return Ok((list.to_vec(), items));
    }
    let mut rows = Vec::with_capacity(list.len());
    for (index, item) in list.iter().enumerate() {
        let depth = success.scope.locals.len();
        success.scope.locals.push(("item", item.clone()));
        success.scope.locals.push(("index", Value::Int(i128::try_from(index).unwrap_or(i128::MAX))));
        let row = match &operation.item {
            Some(tree) => render::output(tree, &success.scope)?,
            None => item.clone(),
        };
        let row = match &operation.sync {
            Some(sync) => marked(sync, row, success)?,
            None => row,
        };
        success.scope.locals.truncate(depth);
        rows.push(row);
    }
    Ok((rows, items))
}

/// Puts what a stream knows of a row beside its members, under `@sync`.
fn marked(sync: &Sync, row: Value, success: &Success) -> Result<Value, Failure> {
    let Value::Map(map) = &row else { return Ok(row) };
    let mut marks = Map::new();
    for (name, template) in
        [("id", &sync.id), ("changed_at", &sync.changed_at), ("version", &sync.version), ("deleted", &sync.deleted)]
    {
        if let Some(template) = template {
            let value = template.eval(&success.scope)?;
            marks.insert(name.into(), if name == "deleted" { Value::Bool(value.is_truthy()) } else { value });
        }
    }
    let mut map = Map::clone(map);
    map.insert("@sync".into(), Value::from(marks));
    Ok(Value::from(map))
}

/// Returns where a read begins; nothing where its window is empty.
fn first_place(operation: &Operation, kept: Option<&Value>, now: Timestamp) -> Option<Place> {
    let Some(sync) = &operation.sync else { return Some(Place::default()) };
    match &sync.window {
        Some(window) => {
            let last = kept.and_then(|kept| moment(kept.get("to")?));
            let to = ended(window, now);
            if last.is_some_and(|last| to <= last) {
                return None;
            }
            let from = last.map_or(Timestamp(0), |last| Timestamp(last.0.saturating_sub(micros(window.overlap))));
            Some(Place { window: Some((floored(from, window.resolution), to)), ..Place::default() })
        }
        None => {
            let fresh = |kept: &&Value| match (sync.valid, kept.get("at").and_then(moment)) {
                (Some(valid), Some(at)) => now < at.plus(valid),
                _ => true,
            };
            let cursor = kept.filter(fresh).and_then(|kept| kept.get("cursor")).cloned().unwrap_or_default();
            Some(Place { cursor, ..Place::default() })
        }
    }
}

/// The end of a window: what is younger may still be changed by a transaction that has not ended.
fn ended(window: &Window, now: Timestamp) -> Timestamp {
    floored(Timestamp(now.0.saturating_sub(micros(window.settle))), window.resolution)
}

fn floored(moment: Timestamp, resolution: Duration) -> Timestamp {
    match micros(resolution) {
        0 => moment,
        step => Timestamp(moment.0.div_euclid(step).saturating_mul(step)),
    }
}

fn micros(length: Duration) -> i64 {
    i64::try_from(length.micros()).unwrap_or(i64::MAX)
}

fn moment(value: &Value) -> Option<Timestamp> {
    match value {
        Value::Time(moment) => Some(*moment),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// Returns where the page behind this one is; nothing where there is none.
fn next_place(
    operation: &Operation,
    place: &Place,
    success: &Success,
    items: &Value,
) -> Result<Option<Place>, Failure> {
    match &operation.paging {
        None => Ok(None),
        Some(Paging::Next(template)) => {
            let next = template.eval(&success.scope)?;
            if next.is_null() {
                return Ok(None);
            }
            if next == place.next {
                let message = format!("the page behind `{}` is the same page again", next.revealed().to_text());
                return Err(Failure::new(OutcomeKind::Rejected, message));
            }
            let _ = items;
            Ok(Some(Place { next, ..place.clone() }))
        }
        Some(Paging::Url(template)) => {
            let Some(url) = url::next_page(template, &success.scope, &success.url)? else { return Ok(None) };
            if place.url.as_deref() == Some(&url) {
                return Err(Failure::new(
                    OutcomeKind::Rejected,
                    "the link to the next page leads to the same page again",
                ));
            }
            Ok(Some(Place { url: Some(url), ..place.clone() }))
        }
    }
}

/// Returns where the stream stands behind the last page.
fn end_state(operation: &Operation, place: &Place, success: &Success, now: Timestamp) -> Result<Value, Failure> {
    if let Some((_, to)) = place.window {
        return Ok(Value::map([("to", Value::Time(to))]));
    }
    let cursor = operation.sync.as_ref().and_then(|sync| sync.cursor.as_ref());
    let cursor = cursor.map(|cursor| cursor.eval(&success.scope)).transpose()?.unwrap_or_default();
    Ok(Value::map([("cursor", cursor), ("at", Value::Time(now))]))
}

/// Names the stream of an operation with an input.
fn stream_key(link: &Link, operation: &Operation, input: &Value) -> String {
    let text = input.to_string();
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    let hash: String = digest.as_ref().iter().take(12).map(|byte| format!("{byte:02x}")).collect();
    format!("{}/{}/{hash}", link.connection().name, link.name_of(operation))
}

impl Place {
    fn roots(&self) -> Vec<(&'static str, Value)> {
        let mut roots = vec![("next", self.next.clone()), ("cursor", self.cursor.clone())];
        if let Some((from, to)) = self.window {
            roots.push(("window", Value::map([("from", Value::Time(from)), ("to", Value::Time(to))])));
        }
        roots
    }

    fn to_stored(&self) -> Value {
        let (from, to) =
            self.window.map_or((Value::Null, Value::Null), |(from, to)| (Value::Time(from), Value::Time(to)));
        Value::map([
            ("next", self.next.clone()),
            ("url", self.url.as_deref().map_or(Value::Null, Value::from)),
            ("from", from),
            ("to", to),
            ("cursor", self.cursor.clone()),
        ])
    }

    fn from_stored(stored: &Value) -> Self {
        let of = |key: &str| stored.get(key).cloned().unwrap_or_default();
        Self {
            next: of("next"),
            url: of("url").as_str().map(str::to_owned),
            window: moment(&of("from")).zip(moment(&of("to"))),
            cursor: of("cursor"),
        }
    }
}

/// Asks for a list in parts, and gives one `{ ok, output, error }` for each item, in its order.
///
/// # Errors
/// Those of a part. Of a write, whether earlier parts have happened.
pub async fn batched(link: &Link, means: &Means<'_>, operation: &Arc<Operation>, input: &Value) -> Result<Value, Stop> {
    let Some(batch) = &operation.batch else { return Err(Failure::invalid("there is no batch").into()) };
    let mut roots = link.settings();
    roots.push(("input", input.clone()));
    let over = match batch.over.eval(&link.scope(means, roots)).map_err(Failure::from)? {
        Value::List(items) => items,
        Value::Null => Arc::default(),
        other => {
            let message = format!("`over` gives {}, expected a list", other.kind().name());
            return Err(Failure::invalid(message).into());
        }
    };
    let mut results = Vec::with_capacity(over.len());
    for part in over.chunks(usize::try_from(batch.max).unwrap_or(1).max(1)) {
        let places = vec![("batch", Value::list(part.to_vec()))];
        let asked = Asked { places, ..Asked::new(operation, input.clone()) };
        let answered =
            if results.is_empty() { call(link, means, asked).await } else { go_on(link, means, asked).await };
        let success = match answered {
            Ok(success) => success,
            Err(Stop::Failed(failure)) if !results.is_empty() && means.effect.is_some() => {
                // Earlier parts have happened: sending all of it again would repeat them.
                return Err(Failure { happened: crate::model::Happened::Perhaps, ..failure }.into());
            }
            Err(stop) => return Err(stop),
        };
        results.extend(super::batch::judged(link, operation, batch, part, &success)?);
    }
    Ok(Value::list(results))
}

/// Returns how many requests a batch makes of an input, as far as it can be told without its connection; 1 where there is
/// none.
pub(super) fn parts(manifest: &Manifest, operation: &Operation, input: &Value) -> u64 {
    let Some(batch) = &operation.batch else { return 1 };
    let roots = vec![("tables", manifest.tables.clone()), ("input", input.clone())];
    let over = batch.over.eval(&render::scope(roots, Timestamp(0)));
    let count = over.as_ref().ok().and_then(Value::as_list).map_or(1, |items| items.len());
    u64::try_from(count).unwrap_or(u64::MAX).div_ceil(u64::from(batch.max.max(1))).max(1)
}

/// Calls an operation and returns its output: all rows of one that has rows.
///
/// # Errors
/// Those of its requests.
pub async fn output(link: &Link, means: &Means<'_>, operation: &Arc<Operation>, input: &Value) -> Result<Value, Stop> {
    if operation.batch.is_some() {
        return batched(link, means, operation, input).await;
    }
    if operation.items.is_some() {
        let rows = read(link, means, operation, input, None).await?;
        return Ok(Value::list(rows.rows.unwrap_or_default()));
    }
    let success = call(link, means, Asked::new(operation, input.clone())).await?;
    Ok(output_of(operation, &success)?)
}
