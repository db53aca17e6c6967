//! `pipewright posts`.

use clap::Subcommand;
use clap_complete::engine::ArgValueCandidates;
use jiff::tz::TimeZone;

use super::Exit;
use super::Global;
use super::approvals::goes_on;
use super::complete;
use super::print;
use super::validate::open_project;
use super::validate::quietly_all;
use crate::app::App;
use crate::app::Fault;
use crate::memory::calendar;
use crate::memory::calendar::Change;
use crate::memory::calendar::Refusal;
use crate::memory::calendar::Standing;
use crate::model::RunState;
use crate::model::Timestamp;
use crate::model::Value;
use crate::pipeline::Trigger;
use crate::pipeline::TriggerKind;
use crate::store::Measurement;
use crate::store::PostFilter;
use crate::store::PostRecord;
use crate::store::PostState;

/// What can be done with posts.
#[derive(Debug, Subcommand)]
pub(super) enum Posts {
    /// List the publishing calendar: what is scheduled and under way, the next last.
    List {
        /// Also what is published, canceled, failed or deleted.
        #[arg(long)]
        all: bool,
        /// Only posts in this state; may be repeated.
        #[arg(long, value_name = "STATE", value_parser = state)]
        state: Vec<PostState>,
        /// Only posts over this connection.
        #[arg(long, add = ArgValueCandidates::new(complete::connections))]
        connection: Option<String>,
        /// How many, those that are due last.
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Show a post, and what it has come to.
    Show {
        /// The post's id, or its beginning.
        #[arg(add = ArgValueCandidates::new(complete::posts))]
        post: String,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Cancel a post that waits for its time.
    Cancel {
        /// The post's id, or its beginning.
        #[arg(add = ArgValueCandidates::new(complete::posts))]
        post: String,
    },
    /// Move a post that waits to another time.
    Reschedule {
        /// The post's id, or its beginning.
        #[arg(add = ArgValueCandidates::new(complete::posts))]
        post: String,
        /// A time as `2026-12-01T09:00`, a moment as `2026-12-01T09:00:00+01:00`, or how long from now as `+2h`.
        when: String,
        /// On which clocks a time is read; by default on those of the pipeline's schedule, else where the project's days begin.
        #[arg(long, value_name = "ZONE")]
        timezone: Option<String>,
    },
}

impl Posts {
    pub(super) async fn execute(self, global: &Global) -> Result<Exit, Fault> {
        let app = open_project(global).await?;
        match self {
            Self::List { all, state, connection, limit, json } => {
                let states = match (all, state.is_empty()) {
                    (_, false) => state,
                    (true, true) => Vec::new(),
                    (false, true) => vec![PostState::Scheduled, PostState::Publishing],
                };
                let filter = PostFilter { states, connection, limit: Some(limit), ..PostFilter::default() };
                list(&app, &filter, json).await
            }
            Self::Show { post, json } => show(&app, named(&app, &post).await?, json).await,
            Self::Cancel { post } => {
                let record = named(&app, &post).await?;
                change(&app, &record, Change::Cancel, "canceled".to_owned()).await
            }
            Self::Reschedule { post, when, timezone } => {
                let record = named(&app, &post).await?;
                let clocks = Clocks::of(global, &app, &record, timezone)?;
                let now = app.engine.parts().system.clock.now();
                let at = calendar::when(&when, &clocks.zone, now).map_err(Fault::Usage)?;
                let at_local = clocks.shown(at);
                let word = if at > now {
                    format!("rescheduled to {at}{at_local}, in {}", print::length(at.since(now)))
                } else {
                    format!("rescheduled to {at}{at_local}, which has passed: it is published at once")
                };
                change(&app, &record, Change::Reschedule(at), word).await
            }
        }
    }
}

/// The clocks on which a time is read.
struct Clocks {
    zone: TimeZone,
    /// Why these.
    reason: String,
}

impl Clocks {
    /// Takes those that are named, else those of the pipeline's schedule, else those by which the project counts its days.
    fn of(global: &Global, app: &App, record: &PostRecord, named: Option<String>) -> Result<Self, Fault> {
        let get = |name: &str| TimeZone::get(name).map_err(|_| format!("time zone `{name}` does not exist"));
        if let Some(name) = named {
            return Ok(Self { zone: get(&name).map_err(Fault::Usage)?, reason: String::new() });
        }
        let pipelines = quietly_all(global)?;
        let timed = |trigger: &&Trigger| matches!(trigger.kind, TriggerKind::Time(_)) && trigger.zone != TimeZone::UTC;
        let own = pipelines.iter().find(|pipeline| *pipeline.name == *record.pipeline);
        if let Some(trigger) = own.and_then(|pipeline| pipeline.triggers.iter().find(timed)) {
            let reason = format!(", the zone of the schedule of `{}`", record.pipeline);
            return Ok(Self { zone: trigger.zone.clone(), reason });
        }
        match app.project.spend.timezone.as_deref().and_then(|name| get(name).ok()) {
            Some(zone) => Ok(Self { zone, reason: ", where the project's days begin".to_owned() }),
            None => Ok(Self { zone: TimeZone::UTC, reason: String::new() }),
        }
    }

    /// Says what a moment is on these clocks, and why on these; nothing for UTC.
    fn shown(&self, at: Timestamp) -> String {
        if self.zone == TimeZone::UTC {
            return String::new();
        }
        let local = at.to_jiff().to_zoned_datetime(self.zone.clone());
        format!(" ({} {}{})", local.strftime("%Y-%m-%d %H:%M"), self.zone.iana_name().unwrap_or("there"), self.reason)
    }
}

fn state(text: &str) -> Result<PostState, String> {
    let names = PostState::ALL.map(PostState::name).join(", ");
    PostState::by_name(text).ok_or_else(|| format!("expected one of {names}"))
}

/// Finds the one post whose id begins so.
async fn named(app: &App, prefix: &str) -> Result<PostRecord, Fault> {
    super::runs::is_given(prefix)?;
    let filter = PostFilter { id_prefix: Some(prefix.to_owned()), limit: Some(2), ..PostFilter::default() };
    let mut found = app.engine.parts().store.posts(&filter).await?;
    match (found.pop(), found.pop()) {
        (Some(record), None) => Ok(record),
        (None, _) => {
            Err(Fault::Usage(format!("there is no post `{prefix}`; `pipewright posts list --all` shows them")))
        }
        (Some(_), Some(_)) => Err(Fault::Usage(format!("several posts begin with `{prefix}`; give more of the id"))),
    }
}

/// A post with what its run makes of it.
struct Told {
    record: PostRecord,
    /// Whether a run above its own has ended, or is gone.
    abandoned: bool,
    /// Why its run waits, where it does.
    reason: Option<String>,
}

async fn told(app: &App, record: PostRecord) -> Result<Told, Fault> {
    let store = &app.engine.parts().store;
    let own = store.run(record.run).await?;
    let reason = own.as_ref().filter(|run| run.state == RunState::Waiting).and_then(|run| run.reason.clone());
    // Who executes a child run is its parent: where that has ended, nobody does.
    let (mut abandoned, mut above) = (own.is_none(), own.and_then(|run| run.parent));
    while let Some((parent, _)) = above {
        let run = store.run(parent).await?;
        abandoned |= run.as_ref().is_none_or(|run| run.state.is_final());
        above = run.and_then(|run| run.parent);
    }
    Ok(Told { record, abandoned, reason })
}

impl Told {
    fn standing(&self) -> Standing {
        let waits = matches!(self.record.state, PostState::Scheduled | PostState::Publishing);
        if waits && self.abandoned { Standing::Stranded } else { calendar::standing(&self.record) }
    }

    /// Says in a line what is to be known beside its state.
    fn note(&self) -> String {
        let record = &self.record;
        match (self.standing(), record.state) {
            (Standing::Stranded, _) => match record.run_state {
                Some(state) if state.is_final() => format!("its run {} {}", record.run, calendar::ended(state)),
                _ => format!("its run {} is no longer executed", record.run),
            },
            (_, PostState::Publishing) => self.reason.clone().unwrap_or_default(),
            (_, PostState::Failed) => record.error.clone().unwrap_or_default(),
            (_, PostState::Published) => record.url.clone().or_else(|| record.remote_id.clone()).unwrap_or_default(),
            _ => String::new(),
        }
    }

    /// Returns the beginning of its text; a secret is shown as its mask.
    fn text(&self) -> String {
        let post = &self.record.post;
        let text = ["text", "title", "description"].iter().find_map(|key| post.get(key)).filter(|text| !text.is_null());
        match text {
            Some(Value::String(text)) => text.to_string(),
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }

    fn json(&self, measurements: &[Measurement]) -> Value {
        let record = &self.record;
        let text = |text: &Option<String>| text.as_deref().map_or(Value::Null, Value::from);
        let texts = |texts: &[String]| Value::list(texts.iter().map(|text| Value::from(text.as_str())).collect());
        let labels = record.labels.iter().map(|(name, value)| (name.as_str(), Value::from(value.as_str())));
        let measured = measurements.iter().map(|measurement| {
            let figures = measurement.metrics.all();
            let figures = figures.map(|(name, figure)| (name, figure.map_or(Value::Null, Value::from)));
            let fixed = [("at", Value::Time(measurement.at)), ("age", Value::Duration(measurement.age))];
            Value::map(fixed.into_iter().chain(figures))
        });
        Value::map([
            ("post", Value::from(record.id.as_str())),
            ("state", self.standing().name().into()),
            ("connection", record.connection.as_str().into()),
            ("connector", text(&record.connector)),
            ("pipeline", record.pipeline.as_str().into()),
            ("run", record.run.to_string().into()),
            ("step", record.path.to_string().into()),
            ("run_state", record.run_state.map_or(Value::Null, |state| state.name().into())),
            ("content", record.post.clone()),
            ("labels", Value::map(labels)),
            ("generations", texts(&record.generations)),
            ("made", Value::Time(record.made_at)),
            ("due", Value::Time(record.due_at)),
            ("published", record.published_at.map_or(Value::Null, Value::Time)),
            ("remote_id", text(&record.remote_id)),
            ("ids", texts(&record.ids)),
            ("url", text(&record.url)),
            ("error", text(&record.error)),
            ("measurements", Value::list(measured.collect())),
        ])
    }
}

fn due(at: Timestamp, now: Timestamp) -> String {
    if at > now { format!("in {}", print::length(at.since(now))) } else { at.to_string() }
}

async fn list(app: &App, filter: &PostFilter, json: bool) -> Result<Exit, Fault> {
    let parts = app.engine.parts();
    let found = parts.store.posts(filter).await?;
    let ids: Vec<String> = found.iter().map(|post| post.id.clone()).collect();
    let measurements = if json { parts.store.measurements(&ids).await? } else { Vec::new() };
    let now = parts.system.clock.now();
    let mut rows = Vec::new();
    for record in found.into_iter().rev() {
        let told = told(app, record).await?;
        if json {
            let own = measurements.iter().filter(|measurement| measurement.post == told.record.id);
            print::line(&told.json(&own.cloned().collect::<Vec<_>>()).to_string());
            continue;
        }
        let record = &told.record;
        rows.push(vec![
            record.id.clone(),
            record.connection.clone(),
            told.standing().name().to_owned(),
            due(record.published_at.unwrap_or(record.due_at), now),
            record.pipeline.clone(),
            print::clip(&[told.text(), told.note()].join("  "), 80).trim().to_owned(),
        ]);
    }
    if json {
        return Ok(Exit::Well);
    }
    if rows.is_empty() {
        print::talk("no post waits to be published");
    } else {
        print::table(&["post", "connection", "state", "due", "pipeline", "text"], &rows);
    }
    Ok(Exit::Well)
}

async fn show(app: &App, record: PostRecord, json: bool) -> Result<Exit, Fault> {
    let parts = app.engine.parts();
    let measurements = parts.store.measurements(std::slice::from_ref(&record.id)).await?;
    let told = told(app, record).await?;
    if json {
        print::line(&told.json(&measurements).to_string());
        return Ok(Exit::Well);
    }
    let record = &told.record;
    let labels: Vec<String> = record.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let optional = |text: &Option<String>| text.clone().unwrap_or_default();
    let connector = record.connector.as_ref().map(|name| format!(" ({name})")).unwrap_or_default();
    let facts = [
        ("post", record.id.clone()),
        ("state", told.standing().name().to_owned()),
        ("note", told.note()),
        ("connection", format!("{}{connector}", record.connection)),
        ("run", format!("{} ({})", record.run, record.pipeline)),
        ("step", record.path.to_string()),
        ("due", record.due_at.to_string()),
        ("published", record.published_at.map(|at| at.to_string()).unwrap_or_default()),
        ("remote id", optional(&record.remote_id)),
        ("parts", if record.ids.len() > 1 { record.ids.join(", ") } else { String::new() }),
        ("url", optional(&record.url)),
        ("labels", labels.join(", ")),
        ("made of", record.generations.join(", ")),
    ];
    for (name, text) in facts.into_iter().filter(|(_, text)| !text.is_empty()) {
        print::line(&format!("{name:<12}{}", print::clean(&text)));
    }
    print::line(&format!("\n{}", print::clean(&print::pretty(&record.post))));
    let rows = measurements.iter().map(|measurement| {
        let said =
            measurement.metrics.all().into_iter().filter_map(|(name, figure)| Some(format!("{name} {}", figure?)));
        vec![measurement.age.to_string(), measurement.at.to_string(), said.collect::<Vec<_>>().join(", ")]
    });
    let rows: Vec<_> = rows.collect();
    if !rows.is_empty() {
        print::line("");
        print::table(&["age", "measured", "figures"], &rows);
    }
    Ok(Exit::Well)
}

async fn change(app: &App, record: &PostRecord, change: Change, word: String) -> Result<Exit, Fault> {
    let parts = app.engine.parts();
    let told = told(app, record.clone()).await?;
    if matches!(change, Change::Reschedule(_)) && told.standing() == Standing::Stranded {
        let text = format!("post `{}`: {}, so nobody would publish it", record.id, told.note());
        return Err(Fault::Usage(text));
    }
    match calendar::change(&parts.store, &record.id, change, parts.system.clock.now()).await {
        // Nobody has to go on with a run that has ended.
        Ok(_) if told.standing() == Standing::Stranded => {
            print::talk(&word);
            Ok(Exit::Well)
        }
        Ok(seen) => goes_on(app, seen.run, &word).await,
        Err(calendar::Error::Refused(Refusal::Over(PostState::Published))) => {
            let text = format!("post `{}` is published already; delete it where it is", record.id);
            Err(Fault::Usage(text))
        }
        Err(calendar::Error::Refused(refusal)) => Err(Fault::Usage(format!("post `{}`: {refusal}", record.id))),
        Err(calendar::Error::Store(error)) => Err(error.into()),
    }
}
