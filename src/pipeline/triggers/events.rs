//! Reading what does not go by time: requests, files, the end of other runs, a person.

use super::After;
use super::Ending;
use super::FilesTrigger;
use super::Glob;
use super::Preset;
use super::TriggerKind;
use super::Webhook;
use crate::diag::Code;
use crate::diag::Span;
use crate::model::Duration;
use crate::pipeline::compile::Compiler;
use crate::pipeline::compile::first_line;
use crate::pipeline::expressions::Place;
use crate::pipeline::read::Reader;
use crate::template::Template;
use crate::yaml::Tree;
use crate::yaml::TreeKind;

/// How far the time stamp of a request may be from now unless the file says otherwise.
const WINDOW: Duration = Duration::from_secs(5 * 60);
/// Deliveries are remembered for longer than this.
const LONGEST_WINDOW: Duration = Duration::from_secs(86_400);
/// The largest body unless the file says otherwise, and the largest of all.
const BODY: u32 = 1 << 20;
const LARGEST_BODY: u32 = 16 << 20;
/// How long a file must not change unless the file says otherwise.
const SETTLE: Duration = Duration::from_secs(2);
/// So many secrets may be valid at the same time.
const SECRETS: usize = 8;

const WEBHOOK_KEYS: &[&str] = &["path", "secret", "preset", "auth", "window", "verify_token", "max_body"];

pub(super) fn webhook(compiler: &mut Compiler<'_>, tree: &Tree, takes_members: bool) -> Option<Webhook> {
    let mut reader = Reader::new(compiler, tree, WEBHOOK_KEYS)?;
    reader.require("path");
    let path = reader.text("path");
    let preset = reader.word("preset", &["github", "stripe", "slack", "meta"]).map(|preset| match preset {
        "github" => Preset::Github,
        "stripe" => Preset::Stripe,
        "slack" => Preset::Slack,
        _ => Preset::Meta,
    });
    let open = reader.word("auth", &["none"]).is_some();
    let window = reader.duration("window");
    let max_body = reader.number("max_body", 1, LARGEST_BODY).unwrap_or(BODY);
    let secrets = tree.get("secret").map(|secret| secrets(compiler, secret)).unwrap_or_default();
    let verify_token = tree.get("verify_token").and_then(|token| compiler.template(token, &Place::event()));
    signed(compiler, tree, preset, open);
    let window = window.map_or(WINDOW, |window| within(compiler, tree, window));
    if let Some(entry) = tree.entry("window").filter(|_| matches!(preset, Some(Preset::Github | Preset::Meta)) || open)
    {
        let message = "`window` says nothing here: the requests bear no signed time stamp";
        compiler.warning(Code::UselessKey, &entry.key_span, message).help = Some("take it away".to_owned());
    }
    if let Some(entry) = tree.entry("verify_token").filter(|_| preset != Some(Preset::Meta)) {
        compiler.warning(Code::UselessKey, &entry.key_span, "`verify_token` goes with `preset: meta` only").help =
            Some("take it away".to_owned());
    }
    let (path, span) = path?;
    let path = checked_path(compiler, path, span)?.into();
    Some(Webhook { path, secrets, preset, window, verify_token, max_body, takes_members })
}

/// Sees that whoever can reach the address cannot start runs, unless the file says so aloud.
fn signed(compiler: &mut Compiler<'_>, tree: &Tree, preset: Option<Preset>, open: bool) {
    // What a run began with was checked when it was active.
    if compiler.world.around.is_none() {
        return;
    }
    let help = || Some("add `secret: \"{{ secrets.NAME }}\"`".to_owned());
    match (tree.entry("secret"), tree.entry("auth")) {
        (Some(_), Some(auth)) if open => {
            let message = "`auth: none` and `secret` exclude each other";
            compiler.error(Code::InvalidWith, &auth.key_span, message).help = Some("take one of them away".to_owned());
        }
        (Some(_), _) => {}
        (None, _) if preset.is_some() => {
            if let Some(entry) = tree.entry("preset") {
                let message = "a preset checks signatures, and needs `secret`";
                compiler.error(Code::MissingKey, &entry.key_span, message).help = help();
            }
        }
        (None, Some(auth)) if open => {
            let message = "whoever reaches this webhook can start runs";
            compiler.warning(Code::UnsignedWebhook, &auth.key_span, message).help =
                Some("see that only those reach it who may, e.g. by the proxy before it".to_owned());
        }
        // A word that is not known has been told.
        (None, Some(_)) => {}
        (None, None) => {
            let span = tree.entry("path").map_or(&tree.span, |path| &path.key_span);
            let message = "a webhook without `secret`: whoever reaches it could start runs";
            compiler.error(Code::UnsignedWebhook, &first_line(span), message).help =
                Some("add `secret: \"{{ secrets.NAME }}\"`, or say `auth: none`".to_owned());
        }
    }
}

fn secrets(compiler: &mut Compiler<'_>, tree: &Tree) -> Vec<Template> {
    let TreeKind::Sequence(items) = &tree.kind else {
        return compiler.template(tree, &Place::event()).into_iter().collect();
    };
    if items.is_empty() || items.len() > SECRETS {
        let message = format!("expected 1 to {SECRETS} secrets, found {}", items.len());
        compiler.error(Code::WrongType, &first_line(&tree.span), message);
    }
    items.iter().filter_map(|item| compiler.template(item, &Place::event())).collect()
}

fn within(compiler: &mut Compiler<'_>, tree: &Tree, window: Duration) -> Duration {
    let fits = window > Duration::ZERO && window <= LONGEST_WINDOW;
    if let Some(window_tree) = tree.get("window").filter(|_| !fits) {
        let message =
            format!("a replay window is longer than nothing and at most `{LONGEST_WINDOW}`, found `{window}`");
        compiler.error(Code::BadDuration, &window_tree.span, message);
    }
    window
}

/// Sees that a path is written as it comes in a request, so that two of them are one only where they are equal.
fn checked_path<'t>(compiler: &mut Compiler<'_>, path: &'t str, span: &Span) -> Option<&'t str> {
    let below = path.strip_prefix('/').unwrap_or(path);
    let below = below.strip_prefix("hooks/").filter(|_| path.starts_with('/')).unwrap_or(below);
    let plain = |part: &str| {
        let letter = |letter: u8| letter.is_ascii_alphanumeric() || matches!(letter, b'-' | b'_' | b'.' | b'~');
        !part.is_empty() && part != "." && part != ".." && part.bytes().all(letter)
    };
    if below.len() <= 200 && below.split('/').all(plain) {
        return Some(below);
    }
    let message = format!("`{path}` is not a path of a webhook");
    compiler.error(Code::BadPath, span, message).help =
        Some("letters, digits and `-_.~`, divided by `/`, e.g. `shop/orders` for `/hooks/shop/orders`".to_owned());
    None
}

pub(super) fn files(
    compiler: &mut Compiler<'_>,
    (text, span): (&str, &Span),
    settle: Option<Duration>,
    existing: Option<bool>,
) -> Option<FilesTrigger> {
    let pattern = match Glob::parse(text) {
        Ok(pattern) => pattern,
        Err(why) => {
            compiler.error(Code::BadPath, span, format!("`{text}` is not a pattern of paths: {why}")).help =
                Some("e.g. `inbox/*.csv` or `inbox/**/*.{json,xml}`".to_owned());
            return None;
        }
    };
    if pattern.leads_out() && compiler.world.declared.keeps_files_inside() {
        compiler.error(Code::BadPath, span, format!("`{text}` leads out of the project")).help =
            Some("the project file can allow it by `allow: { files_outside: true }`".to_owned());
    }
    Some(FilesTrigger { pattern, settle: settle.unwrap_or(SETTLE), existing: existing.unwrap_or(false) })
}

pub(super) fn after(compiler: &mut Compiler<'_>, own: &str, tree: &Tree) -> Option<After> {
    let (name, span, on) = if matches!(tree.kind, TreeKind::Mapping(_)) {
        let mut reader = Reader::new(compiler, tree, &["pipeline", "on"])?;
        reader.require("pipeline");
        let on = reader.word("on", &["succeeded", "failed", "both", "ended"]);
        let (name, span) = reader.text("pipeline")?;
        (name, span, on)
    } else {
        match tree.as_text().filter(|_| !tree.is_null()) {
            Some(name) => (name, &tree.span, None),
            None => {
                let message = format!("expected a pipeline or `{{ pipeline, on }}`, found {}", tree.describe());
                compiler.error(Code::WrongType, &first_line(&tree.span), message);
                return None;
            }
        }
    };
    let on = match on {
        Some("failed") => Ending::Failed,
        Some("both") => Ending::Both,
        Some("ended") => Ending::Ended,
        _ => Ending::Succeeded,
    };
    if name == own {
        let message = format!("`{name}` would start itself again whenever it ends");
        compiler.error(Code::TriggerCycle, span, message).help = Some("use `every:` to repeat it".to_owned());
    } else if let Some(Err(near)) = compiler.world.around.map(|around| around.pipeline(name)) {
        compiler.error(Code::UnknownPipeline, span, format!("pipeline `{name}` does not exist")).help =
            near.map(|near| format!("did you mean `{near}`?"));
    }
    Some(After { pipeline: name.into(), on })
}

pub(super) fn manual(compiler: &mut Compiler<'_>, tree: &Tree) -> TriggerKind {
    if tree.as_text() != Some("true") {
        let message = format!("expected `true`, found {}", tree.describe());
        compiler.error(Code::WrongType, &first_line(&tree.span), message).help =
            Some("to switch the trigger off, say `enabled: false`".to_owned());
    }
    TriggerKind::Manual
}
