//! `pipewright preview`.

mod file;

use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::Exit;
use super::Global;
use super::complete;
use super::print;
use crate::app;
use crate::app::Fault;
use crate::connector::library::Library;
use crate::connector::library::Loaded;
use crate::connector::manifest::Manifest;
use crate::connector::schema;
use crate::content::Adapted;
use crate::content::Banned;
use crate::content::Fault as Refusal;
use crate::content::Post;
use crate::content::Threads;
use crate::content::Wishes;
use crate::diag::did_you_mean;
use crate::model::Timestamp;
use crate::model::Value;
use crate::nodes::posts;
use crate::nodes::posts::Platform;
use crate::pipeline::Catalog;
use crate::pipeline::Project;
use crate::system::System;
use crate::text::media_type;

/// Shows how a post would look on each platform: its parts, their lengths, what is changed, what is refused.
#[derive(Debug, Args)]
pub(super) struct Preview {
    /// The post: YAML, or Markdown with front matter (title, link, tags, media).
    file: PathBuf,
    /// For these connections; by default all of the project that take posts.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', add = ArgValueCandidates::new(complete::connections))]
    connection: Vec<String>,
    /// For every connector that takes posts, with the settings that a connection has by default.
    #[arg(long, conflicts_with = "connection")]
    all: bool,
    /// When a text that is too long becomes a thread.
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    thread: When,
    /// Allow that something is left out: a text is cut behind a sentence, media beyond the number are not posted.
    #[arg(long)]
    shorten: bool,
    /// A file with words that no post may have, one a line.
    #[arg(long, value_name = "FILE")]
    banned: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// When a text that is too long becomes a thread.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum When {
    Auto,
    Numbered,
    Never,
}

impl Preview {
    pub(super) fn execute(self, global: &Global) -> Result<Exit, Fault> {
        let post = file::read(&self.file)?;
        let banned = match &self.banned {
            Some(path) => {
                let text = std::fs::read_to_string(path);
                Banned::parse(
                    &text.map_err(|error| Fault::Usage(format!("cannot read `{}`: {error}", path.display())))?,
                )
            }
            None => Banned::default(),
        };
        let root = app::find_root(global.project.as_deref(), Path::new("."));
        let now = System::real().clock.now();
        let platforms = self.platforms(&root, now)?;
        let threads = match self.thread {
            When::Auto => Threads::Auto,
            When::Numbered => Threads::Numbered,
            When::Never => Threads::Never,
        };
        let wishes = Wishes { threads, shorten: self.shorten, ..Wishes::default() };
        let mut shown = Vec::new();
        for platform in &platforms {
            let mut adapted = platform.adapt(Post::clone(&post), &wishes, now);
            adapted.faults.extend(posts::banned_words(&adapted.post, &banned));
            shown.push((platform, adapted));
        }
        if self.json {
            let listed = shown.iter().map(|(platform, adapted)| json(platform, adapted)).collect();
            print::line(&Value::list(listed).to_string());
        } else {
            let color = print::color_out();
            let pages: Vec<_> = shown.iter().map(|(platform, adapted)| page(platform, adapted, color)).collect();
            print::data(&pages.join("\n"));
        }
        let refused = shown.iter().any(|(_, adapted)| !adapted.faults.is_empty());
        Ok(if refused { Exit::Failed } else { Exit::Well })
    }

    /// Finds what the post is held against.
    fn platforms(&self, root: &Path, now: Timestamp) -> Result<Vec<Platform>, Fault> {
        let library = Library::open(root);
        if self.all {
            let mut platforms = Vec::new();
            for (name, _) in library.names() {
                // The faults of others do not keep anybody from a preview.
                if let Loaded::Manifest(manifest) = library.get(&name) {
                    platforms.extend(Platform::of(&name, &manifest, config(&manifest, Value::Null), now));
                }
            }
            return Ok(platforms);
        }
        let catalog = Catalog::open(root, app::registry(root));
        let project = catalog.project().map_err(|checked| Fault::Invalid {
            diagnostics: checked.diagnostics,
            sources: checked.sources,
            files: checked.files,
        })?;
        if !self.connection.is_empty() {
            return self.connection.iter().map(|name| named(&library, &project, name, now)).collect();
        }
        let mut platforms = Vec::new();
        for connection in &project.connections {
            if let Loaded::Manifest(manifest) = library.get(&connection.connector) {
                let config = config(&manifest, connection.literal.0.clone());
                platforms.extend(Platform::of(&connection.name, &manifest, config, now));
            }
        }
        if platforms.is_empty() {
            let text = "no connection of the project takes posts; `--all` shows every connector that does";
            return Err(Fault::Usage(text.to_owned()));
        }
        Ok(platforms)
    }
}

fn named(library: &Library, project: &Project, name: &str, now: Timestamp) -> Result<Platform, Fault> {
    let known = &project.connections;
    let Some(found) = known.iter().find(|connection| connection.name == name) else {
        let near = did_you_mean(name, known.iter().map(|connection| connection.name.as_str()));
        let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
        return Err(Fault::Usage(format!("the project file has no connection `{name}`{near}")));
    };
    let manifest = match library.get(&found.connector) {
        Loaded::Manifest(manifest) => manifest,
        Loaded::Faulty { diagnostics, sources } => return Err(Fault::Invalid { diagnostics, sources, files: 1 }),
        Loaded::Missing => {
            return Err(Fault::Usage(format!("connection `{name}`: there is no connector `{}`", found.connector)));
        }
    };
    let config = config(&manifest, found.literal.0.clone());
    Platform::of(name, &manifest, config, now)
        .ok_or_else(|| Fault::Usage(format!("connection `{name}`: connector `{}` takes no posts", found.connector)))
}

/// Completes the settings of a connection; one that an expression gives is not known here.
fn config(manifest: &Arc<Manifest>, settings: Value) -> Value {
    schema::completed(&manifest.config, settings)
}

/// Returns a platform's post for people.
fn page(platform: &Platform, adapted: &Adapted, color: bool) -> String {
    let mut page = String::new();
    let name = print::paint("1", &platform.name, color);
    let kind =
        if platform.connector() == platform.name { String::new() } else { format!(" ({})", platform.connector()) };
    let parts = match adapted.post.thread.len() {
        0 => String::new(),
        further => format!(", {} parts", further + 1),
    };
    let verdict = match adapted.faults.is_empty() {
        true => print::paint("32", "fits", color),
        false => print::paint("31", "refused", color),
    };
    page.push_str(&format!("{name}{kind}: {verdict}{parts}\n"));
    for length in platform.rules.lengths(&adapted.post) {
        let most = length.most.map(|most| format!("/{most}")).unwrap_or_default();
        let is_long = length.most.is_some_and(|most| length.length > most);
        let count = format!("{}{most}", length.length);
        let count = if is_long { print::paint("31", &count, color) } else { count };
        row(&mut page, &length.at, &format!("{count} {}", length.unit), color);
        for line in length.text.lines() {
            page.push_str(format!("      {}", print::clean(line)).trim_end());
            page.push('\n');
        }
    }
    for (index, medium) in adapted.post.media.iter().enumerate() {
        let name = match &medium.file {
            Value::Blob(blob) => blob.file_name.clone().unwrap_or_else(|| blob.address.clone()),
            _ => medium.url.clone(),
        };
        let kind = media_type(&medium.to_value()).map(|kind| format!(" ({kind})")).unwrap_or_default();
        let alt = if medium.alt.is_empty() { String::new() } else { format!(": {}", medium.alt) };
        row(&mut page, &format!("media[{index}]"), &print::clean(&format!("{name}{kind}{alt}")), color);
    }
    for (key, value) in [("link", &adapted.post.link), ("tags", &adapted.post.tags.join(", "))] {
        if !value.is_empty() {
            row(&mut page, key, &print::clean(value), color);
        }
    }
    for (key, value) in &adapted.post.rest {
        row(&mut page, &print::clean(key), &print::clean(&value.to_text()), color);
    }
    for note in &adapted.notes {
        page.push_str(&format!(
            "  {} `{}` {}\n",
            print::paint("33", "note:", color),
            note.at,
            print::clean(&note.message)
        ));
    }
    for fault in &adapted.faults {
        page.push_str(&format!("  {} {}\n", print::paint("31", "refused:", color), print::clean(&told(fault))));
        if let Some(mend) = &fault.mend {
            page.push_str(&format!("    {} {}\n", print::paint("36", "mend:", color), print::clean(mend)));
        }
    }
    page
}

fn row(page: &mut String, at: &str, text: &str, color: bool) {
    page.push_str(&format!("  {} {text}\n", print::paint("36", at, color)));
}

fn told(fault: &Refusal) -> String {
    if fault.at.is_empty() { fault.message.clone() } else { format!("`{}` {}", fault.at, fault.message) }
}

fn json(platform: &Platform, adapted: &Adapted) -> Value {
    let parts = platform.rules.lengths(&adapted.post).into_iter().map(|length| {
        let most = length.most.map_or(Value::Null, |most| Value::from(u64::try_from(most).unwrap_or(u64::MAX)));
        let own = Value::from(u64::try_from(length.length).unwrap_or(u64::MAX));
        Value::map([
            ("at", Value::from(length.at)),
            ("length", own),
            ("most", most),
            ("unit", Value::from(length.unit)),
            ("text", Value::from(length.text)),
        ])
    });
    let notes = adapted.notes.iter().map(|note| {
        Value::map([("at", Value::from(note.at.as_str())), ("message", Value::from(note.message.as_str()))])
    });
    let faults = adapted.faults.iter().map(|fault| {
        let mend = fault.mend.as_deref().map_or(Value::Null, Value::from);
        Value::map([
            ("at", Value::from(fault.at.as_str())),
            ("message", Value::from(fault.message.as_str())),
            ("mend", mend),
        ])
    });
    Value::map([
        ("connection", Value::from(platform.name.as_str())),
        ("connector", Value::from(platform.connector())),
        ("fits", Value::Bool(adapted.faults.is_empty())),
        ("parts", Value::list(parts.collect())),
        ("post", adapted.post.to_value()),
        ("notes", Value::list(notes.collect())),
        ("faults", Value::list(faults.collect())),
    ])
}
