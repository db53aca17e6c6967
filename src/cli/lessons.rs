//! `pipewright lessons`.

use clap::Subcommand;
use clap_complete::engine::ArgValueCandidates;

use super::Exit;
use super::Global;
use super::complete;
use super::person::Who;
use super::print;
use super::validate::open_project;
use crate::app::App;
use crate::app::Fault;
use crate::memory::lessons::HALF_LIFE;
use crate::memory::lessons::weight;
use crate::model::Timestamp;
use crate::model::Value;
use crate::store::LessonFilter;
use crate::store::LessonRecord;

/// What can be done with lessons.
#[derive(Debug, Subcommand)]
pub(super) enum Lessons {
    /// List what posts have taught, the weightiest first.
    List {
        /// Also what is retired.
        #[arg(long)]
        all: bool,
        /// How many, the newest.
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// One JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Show a lesson and the posts that it rests on.
    Show {
        /// The lesson's id, or its beginning.
        #[arg(add = ArgValueCandidates::new(complete::lessons))]
        lesson: String,
        /// Print it as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Let a lesson count no more.
    Retire {
        /// The lesson's id, or its beginning.
        #[arg(add = ArgValueCandidates::new(complete::lessons))]
        lesson: String,
        /// Say why.
        #[arg(short, long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        who: Who,
    },
    /// Let a retired lesson count again, as if it were confirmed now.
    Restore {
        /// The lesson's id, or its beginning.
        #[arg(add = ArgValueCandidates::new(complete::lessons))]
        lesson: String,
    },
}

impl Lessons {
    pub(super) async fn execute(self, global: &Global) -> Result<Exit, Fault> {
        let app = open_project(global).await?;
        match self {
            Self::List { all, limit, json } => {
                let filter = LessonFilter { active: !all, limit: Some(limit), ..LessonFilter::default() };
                list(&app, &filter, json).await
            }
            Self::Show { lesson, json } => show(&app, named(&app, &lesson).await?, json).await,
            Self::Retire { lesson, reason, who } => {
                let lesson = named(&app, &lesson).await?;
                retire(&app, &lesson, reason, &who).await
            }
            Self::Restore { lesson } => {
                let lesson = named(&app, &lesson).await?;
                let parts = app.engine.parts();
                let restored = parts.store.restore_lesson(&lesson.id, parts.system.clock.now()).await?;
                print::talk(if restored { "restored; it counts from now on" } else { "it counts already" });
                Ok(Exit::Well)
            }
        }
    }
}

/// Finds the one lesson whose id begins so.
async fn named(app: &App, prefix: &str) -> Result<LessonRecord, Fault> {
    super::runs::is_given(prefix)?;
    let filter = LessonFilter { id_prefix: Some(prefix.to_owned()), limit: Some(2), ..LessonFilter::default() };
    let mut found = app.engine.parts().store.lessons(&filter).await?;
    match (found.pop(), found.pop()) {
        (Some(lesson), None) => Ok(lesson),
        (None, _) => {
            Err(Fault::Usage(format!("there is no lesson `{prefix}`; `pipewright lessons list --all` shows them")))
        }
        (Some(_), Some(_)) => Err(Fault::Usage(format!("several lessons begin with `{prefix}`; give more of the id"))),
    }
}

fn claim(lesson: &LessonRecord) -> String {
    match (&lesson.feature, lesson.direction) {
        (Some(feature), Some(direction)) => format!("{feature} {}", direction.name()),
        _ => String::new(),
    }
}

fn scope(lesson: &LessonRecord) -> String {
    let labels: Vec<String> = lesson.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    labels.join(", ")
}

fn json(lesson: &LessonRecord, now: Timestamp) -> Value {
    let text = |text: &Option<String>| text.as_deref().map_or(Value::Null, Value::from);
    let labels = lesson.labels.iter().map(|(name, value)| (name.as_str(), Value::from(value.as_str())));
    let evidence = lesson.evidence.iter().map(|post| Value::from(post.as_str()));
    let retired = lesson.retired.as_ref();
    Value::map([
        ("lesson", Value::from(lesson.id.as_str())),
        ("state", if retired.is_some() { "retired" } else { "active" }.into()),
        ("text", lesson.text.as_str().into()),
        ("labels", Value::map(labels)),
        ("feature", text(&lesson.feature)),
        ("direction", lesson.direction.map_or(Value::Null, |direction| direction.name().into())),
        ("weight", Value::Decimal(weight(lesson, now, HALF_LIFE))),
        ("evidence", Value::list(evidence.collect())),
        ("generation", text(&lesson.generation)),
        ("learned", Value::Time(lesson.at)),
        ("confirmed", Value::Time(lesson.confirmed_at)),
        ("retired", retired.map_or(Value::Null, |(at, _)| Value::Time(*at))),
        ("reason", retired.map_or(Value::Null, |(_, reason)| reason.as_str().into())),
    ])
}

async fn list(app: &App, filter: &LessonFilter, as_json: bool) -> Result<Exit, Fault> {
    let parts = app.engine.parts();
    let now = parts.system.clock.now();
    let mut found = parts.store.lessons(filter).await?;
    // What is retired weighs nothing.
    found.sort_by_key(|lesson| (lesson.retired.is_some(), std::cmp::Reverse(weight(lesson, now, HALF_LIFE))));
    if as_json {
        found.iter().for_each(|lesson| print::line(&json(lesson, now).to_string()));
        return Ok(Exit::Well);
    }
    let rows: Vec<_> = found
        .iter()
        .map(|lesson| {
            let weight = match lesson.retired {
                Some(_) => "retired".to_owned(),
                None => weight(lesson, now, HALF_LIFE).to_string(),
            };
            let claim = claim(lesson);
            let text = print::clip(&lesson.text, 80);
            vec![lesson.id.clone(), weight, claim, scope(lesson), lesson.evidence.len().to_string(), text]
        })
        .collect();
    if rows.is_empty() {
        print::talk("nothing was learned yet");
    } else {
        print::table(&["lesson", "weight", "claim", "where", "posts", "text"], &rows);
    }
    Ok(Exit::Well)
}

async fn show(app: &App, lesson: LessonRecord, as_json: bool) -> Result<Exit, Fault> {
    let parts = app.engine.parts();
    let now = parts.system.clock.now();
    if as_json {
        print::line(&json(&lesson, now).to_string());
        return Ok(Exit::Well);
    }
    let retired = lesson.retired.as_ref().map(|(at, reason)| format!("{at}: {reason}")).unwrap_or_default();
    let facts = [
        ("lesson", lesson.id.clone()),
        ("says", lesson.text.clone()),
        ("claim", claim(&lesson)),
        ("where", scope(&lesson)),
        ("weight", format!("{}, {} when it was confirmed", weight(&lesson, now, HALF_LIFE), lesson.weight)),
        ("learned", lesson.at.to_string()),
        ("confirmed", lesson.confirmed_at.to_string()),
        ("retired", retired),
        ("said by", lesson.generation.clone().map(|id| format!("generation {id}")).unwrap_or_default()),
    ];
    for (name, text) in facts.into_iter().filter(|(_, text)| !text.is_empty()) {
        print::line(&format!("{name:<11}{}", print::clean(&text)));
    }
    let mut rows = Vec::new();
    for id in &lesson.evidence {
        let row = match parts.store.post(id).await? {
            Some(post) => {
                let at = post.published_at.map(|at| at.to_string()).unwrap_or_default();
                vec![id.clone(), post.connection, at, post.url.unwrap_or_default()]
            }
            None => vec![id.clone(), String::new(), String::new(), "no longer kept".to_owned()],
        };
        rows.push(row);
    }
    if !rows.is_empty() {
        print::line("");
        print::table(&["post", "connection", "published", "url"], &rows);
    }
    Ok(Exit::Well)
}

async fn retire(app: &App, lesson: &LessonRecord, reason: Option<String>, who: &Who) -> Result<Exit, Fault> {
    let parts = app.engine.parts();
    let by = who.name().map(|name| format!("by `{name}`")).unwrap_or_else(|| "by a person".to_owned());
    // What is said is kept and shown as it is.
    let reason = reason.map(|reason| parts.secrets.mask(reason));
    let reason = reason.map_or_else(|| by.clone(), |reason| format!("{by}: {reason}"));
    let retired = parts.store.retire_lesson(&lesson.id, parts.system.clock.now(), &reason).await?;
    print::talk(if retired { "retired; it counts no more" } else { "it is retired already" });
    Ok(Exit::Well)
}
