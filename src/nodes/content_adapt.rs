//! `content.adapt`: makes of one post what a platform takes.

use std::collections::BTreeMap;

use async_trait::async_trait;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use schemars::JsonSchema;
use serde::Deserialize;

use super::files;
use super::posts;
use super::posts::Mentions;
use super::posts::Platform;
use super::social;
use crate::connector::runtime::Runtime;
use crate::content;
use crate::content::Adapted;
use crate::content::Banned;
use crate::content::Earlier;
use crate::content::Fault;
use crate::content::PUBLISH;
use crate::content::Post;
use crate::content::Threads;
use crate::content::Wishes;
use crate::memory;
use crate::memory::Memory;
use crate::model::Duration;
use crate::model::Effect;
use crate::model::ErrorClass;
use crate::model::Timestamp;
use crate::model::Value;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::StepContext;
use crate::node::Wanted;
use crate::store::PostFilter;

/// How far back texts count that are not given.
const EARLIER: Duration = Duration::from_secs(90 * 86_400);

/// Makes of one post what the platform of a connection takes, or says all that is in the way.
///
/// The rules are what the connector declares as the input of its operation `publish`: lengths as the platform counts them,
/// threads, hashtags, media. A text that is too long becomes a thread where the platform has threads; else it is shortened
/// only where `shorten` allows it. Tags become hashtags where there is no place for tags, a link goes behind the text where
/// it has none of its own. What was changed stands in `notes`. What cannot be adapted ends the step with an error of class
/// `rejected` that names every reason. Adapting what was adapted changes nothing.
///
/// Where post and connection are written out, `validate` tells the same.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ContentAdapt {
    /// The connection that the post is for.
    connection: String,
    /// The post: `text`, `title`, `description`, `link`, `media` (a list of `{ file, url, alt }`), `thread` (further parts),
    /// `tags`, `reply_to`, `visibility`, `made_with_ai`, and what only this platform knows.
    post: Value,
    /// Whether a text that is too long becomes a thread: `auto`, `numbered` (the parts end with `1/3`) or `never`.
    #[serde(default)]
    thread: Thread,
    /// Whether something may be left out: a text is cut behind a sentence, with an ellipsis, and media beyond the number are
    /// not posted.
    #[serde(default)]
    shorten: bool,
    /// What each platform calls those who are mentioned, by connector or connection, e.g. `{ acme: { x: "@acmedata",
    /// linkedin: Acme Data } }` for `@acme`; where one has no name the mention becomes a plain word.
    #[serde(default)]
    mentions: Mentions,
    /// A file with words that no post may have, one word or phrase a line, `#` before comments; whole words, without regard
    /// to case and accents.
    #[serde(default)]
    banned: Option<String>,
    /// How near the text may be to an earlier one, from 0 to 1: the share of rows of three words that both have.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1))]
    near: Option<Decimal>,
    /// Texts that were posted before, a list of `{ id, text, at }`; by default what the connection has published in the last 90
    /// days, as the calendar of posts knows it.
    #[serde(default)]
    earlier: Option<Vec<Posted>>,
}

/// When a text that is too long becomes a thread.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Thread {
    #[default]
    Auto,
    Numbered,
    Never,
}

/// A text that was posted before.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Posted {
    /// What it is called, e.g. the id of the post.
    id: String,
    /// Its text.
    #[serde(default)]
    text: Option<String>,
    /// When it was posted.
    #[serde(default)]
    at: Value,
}

/// A post as the platform takes it.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct ForPlatform {
    /// The post, with those keys alone that the platform takes.
    post: Value,
    /// What was changed, or is worth a look.
    notes: Vec<Changed>,
}

/// Something that was done to the post.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
struct Changed {
    /// Where, e.g. `thread[1]`.
    at: String,
    message: String,
}

impl Posted {
    fn known(&self) -> Earlier {
        Earlier { id: self.id.clone(), text: self.text.clone().unwrap_or_default(), at: moment(&self.at) }
    }
}

#[async_trait]
impl NodeType for ContentAdapt {
    const NAME: &'static str = "content.adapt";
    const EXAMPLE: &'static str = "connection: x
post: { text: Release 2.4 is out., link: \"https://example.com/r/24\", tags: [data, etl] }
thread: numbered
";
    type Output = ForPlatform;

    fn effect(_with: &Value) -> Effect {
        // It reads a file of words, and what a connector declares now.
        Effect::Read
    }

    fn check(with: &Value) -> Vec<(Option<String>, String)> {
        let mut faults = Vec::new();
        if let Some(post) = with.get("post").filter(|post| !post.is_null())
            && let Err(wrong) = Post::read(post)
        {
            faults.extend(wrong.into_iter().map(|(key, message)| (Some(place(&key)), message)));
        }
        if let Some(mentions) = with.get("mentions").and_then(table) {
            for name in twice(&mentions) {
                let message = format!("`{name}` is called by a name that is in the table itself");
                faults.push((Some("mentions".to_owned()), message));
            }
        }
        faults
    }

    fn calls(with: &Value) -> Vec<Wanted> {
        social::wanted(with, PUBLISH)
    }

    fn check_called(with: &Value, declared: &serde_json::Value) -> Vec<(Option<String>, String)> {
        let Some(post) = with.get("post").filter(|post| !post.is_null()) else { return Vec::new() };
        // What becomes of mentions is another length; what is not known may be anything.
        if with.get("mentions").is_some() {
            return Vec::new();
        }
        let threads = match with.get("thread").and_then(Value::as_str) {
            Some("never") => Threads::Never,
            Some("numbered") => Threads::Numbered,
            _ => Threads::Auto,
        };
        let shorten = with.get("shorten").is_some_and(|given| given.is_null() || given.is_truthy());
        let wishes = Wishes { threads, shorten, ..Wishes::default() };
        let faults = posts::known_faults(post, declared, &wishes);
        faults.into_iter().map(|fault| (Some(place(&fault.at)), posts::in_words(&fault))).collect()
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let tainted = self.post.is_tainted();
        let post = Post::read(&self.post).map_err(|wrong| {
            let told = wrong.into_iter().map(|(key, message)| format!("`{}` {message}", place(&key)));
            NodeError::invalid(told.collect::<Vec<_>>().join("; "))
        })?;
        let name = &self.connection;
        let runtime = ctx.services.get::<Runtime>();
        let runtime = runtime.ok_or_else(|| NodeError::invalid("no connector can be reached here"))?;
        let link = runtime.connected(name).map_err(|failure| failure.into_node_error())?;
        let now = ctx.system.clock.now();
        let platform = Platform::of(name, &link.manifest, link.connection().config.clone(), now);
        let platform = platform.ok_or_else(|| {
            NodeError::invalid(format!(
                "connector `{}` of connection `{name}` has no operation `{PUBLISH}`",
                link.manifest.name
            ))
        })?;
        if let Some(twice) = twice(&self.mentions).first() {
            let message = format!("`mentions`: `{twice}` is called by a name that is in the table itself");
            return Err(NodeError::invalid(message));
        }
        let banned = match &self.banned {
            Some(path) => Banned::parse(&files::read_text(ctx, path, files::default_max_bytes()).await?),
            None => Banned::default(),
        };
        let mut adapted = platform.adapt(post, &self.wishes(&platform), now);
        adapted.faults.extend(posts::banned_words(&adapted.post, &banned));
        adapted.faults.extend(self.too_near(&adapted.post, ctx).await?);
        if adapted.faults.is_empty() {
            let output = output(adapted);
            return Ok(Outcome::Done(if tainted { output.tainted() } else { output }));
        }
        let reasons = adapted.faults.iter().map(posts::in_words).collect::<Vec<_>>().join("; ");
        // What is secret in a post is not told with its faults.
        let reasons =
            if tainted { "the post holds a secret, so the reasons are not shown".to_owned() } else { reasons };
        Err(NodeError::message(ErrorClass::Rejected, format!("`{name}` does not take the post: {reasons}")))
    }
}

impl ContentAdapt {
    fn wishes(&self, platform: &Platform) -> Wishes {
        let threads = match self.thread {
            Thread::Auto => Threads::Auto,
            Thread::Numbered => Threads::Numbered,
            Thread::Never => Threads::Never,
        };
        Wishes { threads, shorten: self.shorten, mentions: platform.mentions(&self.mentions) }
    }

    /// Tells where the post is too near to an earlier one.
    async fn too_near(&self, post: &Post, ctx: &StepContext<'_>) -> Result<Option<Fault>, NodeError> {
        let Some(near) = self.near else { return Ok(None) };
        let most = (near * Decimal::ONE_HUNDRED).to_u32().unwrap_or(100);
        let earlier: Vec<Earlier> = match &self.earlier {
            Some(earlier) => earlier.iter().map(Posted::known).collect(),
            None => self.published(ctx).await?,
        };
        let found = content::nearest(&post.words(), &earlier).filter(|near| near.hundredths >= most.max(1));
        let Some(near) = found else { return Ok(None) };
        let at = near.earlier.at.map(|at| format!(" of {at}")).unwrap_or_default();
        let message =
            format!("says {} % of what `{}`{at} said, less than {most} % is allowed", near.hundredths, near.earlier.id);
        Ok(Some(Fault { at: "text".to_owned(), message, mend: Some("say something new".to_owned()) }))
    }

    /// Returns what the connection has published lately, as the calendar knows it; nothing where there is no memory.
    async fn published(&self, ctx: &StepContext<'_>) -> Result<Vec<Earlier>, NodeError> {
        let Some(memory) = ctx.services.get::<Memory>() else { return Ok(Vec::new()) };
        let since = Timestamp(ctx.system.clock.now().micros().saturating_sub_unsigned(EARLIER.micros()));
        let filter = PostFilter {
            connection: Some(self.connection.clone()),
            published_since: Some(since),
            ..PostFilter::default()
        };
        let posts = memory.store().posts(&filter).await.map_err(memory::failed)?;
        let known = posts.into_iter().map(|post| {
            // A text is what was posted: with the parts of its thread.
            let text = Post::read(&post.post).map(|read| read.words()).unwrap_or_default();
            Earlier { id: post.remote_id.unwrap_or(post.id), text, at: post.published_at }
        });
        Ok(known.collect())
    }
}

fn output(adapted: Adapted) -> Value {
    let notes = adapted
        .notes
        .into_iter()
        .map(|note| Value::map([("at", Value::from(note.at)), ("message", Value::from(note.message))]));
    Value::map([("post", adapted.post.to_value()), ("notes", Value::list(notes.collect()))])
}

/// Reads when something was posted: a moment, or its text.
fn moment(value: &Value) -> Option<Timestamp> {
    match value {
        Value::Time(at) => Some(*at),
        other => other.as_str()?.parse().ok(),
    }
}

/// Names the key of `with:` that a place of the post stands under.
fn place(at: &str) -> String {
    match at.split(['[', '.']).next() {
        None | Some("") => "post".to_owned(),
        Some(key) => format!("post.{key}"),
    }
}

/// Returns the names whose replacement, on any platform, is a name of the table again.
fn twice(mentions: &Mentions) -> Vec<String> {
    let platforms: std::collections::BTreeSet<&String> = mentions.values().flat_map(BTreeMap::keys).collect();
    let mut found: Vec<String> = Vec::new();
    for platform in platforms {
        let own = mentions.iter().map(|(name, names)| (name.clone(), names.get(platform).cloned())).collect();
        found.extend(content::twice_mapped(&own));
    }
    found.sort();
    found.dedup();
    found
}

fn table(value: &Value) -> Option<Mentions> {
    crate::model::decode(value.clone()).ok()
}
