//! Reading one trigger, with a diagnostic for each key that is wrong.

use std::sync::Arc;

use jiff::tz::TimeZone;

use super::After;
use super::Bucket;
use super::Ending;
use super::Preset;
use super::Trigger;
use super::TriggerKind;
use super::Webhook;
use crate::diag::Code;
use crate::diag::Span;
use crate::model::Duration;
use crate::model::Timestamp;
use crate::model::Value;
use crate::pipeline::calendars::FoundCalendar;
use crate::pipeline::compile::Compiler;
use crate::pipeline::compile::first_line;
use crate::pipeline::expressions::Place;
use crate::pipeline::inputs::literal_problem;
use crate::pipeline::read::Reader;
use crate::schedule::Calendar;
use crate::schedule::Dst;
use crate::schedule::MOST_MISSED;
use crate::schedule::Missed;
use crate::schedule::Missing;
use crate::schedule::Pattern;
use crate::schedule::Policy;
use crate::schedule::Repeated;
use crate::schedule::When;
use crate::template::TemplateTree;
use crate::yaml::Tree;
use crate::yaml::TreeKind;

const KINDS: [&str; 7] = ["cron", "every", "at", "webhook", "files", "after", "manual"];
pub(in crate::pipeline) const KEYS: &[&str] = &[
    "cron", "every", "at", "webhook", "files", "after", "manual", "timezone", "dst", "missed", "window", "max",
    "jitter", "calendar", "inputs", "enabled",
];

const TIMES: &[&str] = &["cron", "every", "at"];
const EVENTS: &[&str] = &["webhook", "files", "after"];

/// The keys that some kinds do not know, with the kinds that do.
const BELONGS: [(&str, &[&str]); 7] = [
    ("timezone", TIMES),
    ("dst", &["cron"]),
    ("missed", TIMES),
    ("window", &["cron", "every", "at", "webhook", "files", "after"]),
    ("max", &["cron", "every", "webhook", "files", "after"]),
    ("jitter", TIMES),
    ("calendar", TIMES),
];

/// A daemon that fires more often than this does nothing else.
const SHORTEST: Duration = Duration::from_secs(1);

/// A text with its place.
type Text<'t> = Option<(&'t str, &'t Span)>;

/// The keys that are read alike whatever the kind.
struct Plain<'t> {
    cron: Text<'t>,
    every: Option<Duration>,
    at: Text<'t>,
    files: Text<'t>,
    zone: Text<'t>,
    calendar: Text<'t>,
    missed: Option<&'static str>,
    window: Option<Duration>,
    max: Option<u32>,
    jitter: Option<Duration>,
    enabled: Option<bool>,
}

pub(super) fn trigger(compiler: &mut Compiler<'_>, pipeline: &str, tree: &Tree) -> Option<Trigger> {
    let mut reader = Reader::new(compiler, tree, KEYS)?;
    let plain = Plain {
        cron: reader.text("cron"),
        every: reader.duration("every"),
        at: reader.text("at"),
        files: reader.text("files"),
        zone: reader.text("timezone"),
        calendar: reader.text("calendar"),
        missed: reader.word("missed", &["none", "last", "all"]),
        window: reader.duration("window"),
        max: reader.number("max", 1, 1_000_000),
        jitter: reader.duration("jitter"),
        enabled: reader.flag("enabled"),
    };
    let key = the_one(compiler, tree);
    let kind = kind(compiler, pipeline, tree, &plain);
    if let Some(key) = key {
        belonging(compiler, tree, key);
    }
    let zone = zone(compiler, plain.zone);
    let usual = match &kind {
        Some(TriggerKind::Time(when)) => when.usual_dst(),
        _ => Dst { missing: Missing::Shift, repeated: Repeated::First },
    };
    let dst = dst(compiler, tree, usual);
    let (missed, bucket) = limits(compiler, tree, key, &plain);
    let calendar = calendar(compiler, plain.calendar);
    let inputs = inputs(compiler, tree, key);
    let (kind, zone, _) = (kind?, zone?, key?);
    let id = super::id(&kind, plain.zone.map_or("UTC", |(name, _)| name));
    let (jitter, enabled, span) = (plain.jitter.unwrap_or_default(), plain.enabled.unwrap_or(true), tree.span.clone());
    let trigger = Trigger { id, kind, zone, dst, missed, jitter, calendar, bucket, inputs, enabled, span };
    silent(compiler, tree, &trigger);
    Some(trigger)
}

/// Returns the kind that the trigger states, and says so where it is not exactly one.
fn the_one<'t>(compiler: &mut Compiler<'_>, tree: &'t Tree) -> Option<&'t str> {
    let given: Vec<_> = tree.entries().iter().filter(|entry| KINDS.contains(&&*entry.key)).collect();
    match given.as_slice() {
        [one] => Some(&one.key),
        [] => {
            let kinds = KINDS.map(|kind| format!("`{kind}`")).join(", ");
            compiler.error(Code::MissingKey, &first_line(&tree.span), format!("a trigger needs one of {kinds}"));
            None
        }
        [first, second, ..] => {
            let message = format!("a trigger is one thing: `{}` or `{}`", first.key, second.key);
            compiler.error(Code::WrongType, &second.key_span, message).help =
                Some("make two triggers of it".to_owned());
            None
        }
    }
}

/// Refuses keys that say nothing of this kind.
fn belonging(compiler: &mut Compiler<'_>, tree: &Tree, kind: &str) {
    for entry in tree.entries() {
        let Some((_, kinds)) = BELONGS.iter().find(|(key, _)| *key == &*entry.key) else { continue };
        if !kinds.contains(&kind) {
            let listed = kinds.iter().map(|kind| format!("`{kind}`")).collect::<Vec<_>>().join(", ");
            let message = format!("`{}` says nothing of `{kind}`", entry.key);
            compiler.error(Code::UnknownKey, &entry.key_span, message).help = Some(format!("it goes with {listed}"));
        }
    }
}

fn kind(compiler: &mut Compiler<'_>, pipeline: &str, tree: &Tree, plain: &Plain<'_>) -> Option<TriggerKind> {
    // All that are given are checked, also where they are too many.
    let cron = plain.cron.and_then(|(text, span)| cron(compiler, text, span));
    let at = plain.at.and_then(|(text, span)| at(compiler, text, span));
    let every = plain.every.filter(|length| long_enough(compiler, tree, *length));
    let webhook = tree.get("webhook").and_then(|tree| webhook(compiler, tree));
    let after = tree.get("after").and_then(|tree| after(compiler, pipeline, tree));
    let manual = tree.get("manual").map(|tree| manual(compiler, tree));
    let when = cron.map(When::Cron).or(every.map(When::Every)).or(at.map(When::At));
    when.map(TriggerKind::Time)
        .or(webhook.map(TriggerKind::Webhook))
        .or(plain.files.map(|(pattern, _)| TriggerKind::Files(pattern.into())))
        .or(after.map(TriggerKind::After))
        .or(manual)
}

fn cron(compiler: &mut Compiler<'_>, text: &str, span: &Span) -> Option<Pattern> {
    match text.parse::<Pattern>() {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            let usual = || "minute hour day month weekday, e.g. `0 9 * * MON-FRI`, or `@daily` and its like".to_owned();
            let message = format!("`{text}` is not a schedule: {error}");
            compiler.error(Code::BadCron, span, message).help = Some(error.help.unwrap_or_else(usual));
            None
        }
    }
}

fn at(compiler: &mut Compiler<'_>, text: &str, span: &Span) -> Option<Timestamp> {
    match text.parse::<Timestamp>() {
        Ok(moment) => Some(moment),
        Err(error) => {
            compiler.error(Code::BadTime, span, error.to_string());
            None
        }
    }
}

fn long_enough(compiler: &mut Compiler<'_>, tree: &Tree, length: Duration) -> bool {
    let span = tree.get("every").map(|every| &every.span);
    match span.filter(|_| length < SHORTEST) {
        Some(span) => {
            compiler.error(Code::BadDuration, span, format!("`every` is at least `{SHORTEST}`, found `{length}`"));
            false
        }
        None => true,
    }
}

fn webhook(compiler: &mut Compiler<'_>, tree: &Tree) -> Option<Webhook> {
    let mut reader = Reader::new(compiler, tree, &["path", "secret", "preset"])?;
    reader.require("path");
    let path = reader.text("path");
    let preset = reader.word("preset", &["github", "stripe", "slack", "meta"]).map(|preset| match preset {
        "github" => Preset::Github,
        "stripe" => Preset::Stripe,
        "slack" => Preset::Slack,
        _ => Preset::Meta,
    });
    let secret = tree.get("secret").and_then(|secret| compiler.template(secret, &Place::event()));
    if let (Some(_), None, Some(entry)) = (preset, tree.get("secret"), tree.entry("preset")) {
        compiler.error(Code::MissingKey, &entry.key_span, "a preset checks signatures, and needs `secret`").help =
            Some("add `secret: \"{{ secrets.NAME }}\"`".to_owned());
    }
    path.map(|(path, _)| Webhook { path: path.into(), secret, preset })
}

fn after(compiler: &mut Compiler<'_>, own: &str, tree: &Tree) -> Option<After> {
    let (name, span, on) = if matches!(tree.kind, TreeKind::Mapping(_)) {
        let mut reader = Reader::new(compiler, tree, &["pipeline", "on"])?;
        reader.require("pipeline");
        let on = reader.word("on", &["succeeded", "failed", "both"]);
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
        _ => Ending::Succeeded,
    };
    if name == own {
        let message = format!("`{name}` would start itself again whenever it ends");
        compiler.error(Code::PipelineCycle, span, message).help = Some("use `every:` to repeat it".to_owned());
    } else if let Some(Err(near)) = compiler.world.around.map(|around| around.pipeline(name)) {
        compiler.error(Code::UnknownPipeline, span, format!("pipeline `{name}` does not exist")).help =
            near.map(|near| format!("did you mean `{near}`?"));
    }
    Some(After { pipeline: name.into(), on })
}

fn manual(compiler: &mut Compiler<'_>, tree: &Tree) -> TriggerKind {
    if tree.as_text() != Some("true") {
        let message = format!("expected `true`, found {}", tree.describe());
        compiler.error(Code::WrongType, &first_line(&tree.span), message).help =
            Some("to switch the trigger off, say `enabled: false`".to_owned());
    }
    TriggerKind::Manual
}

fn zone(compiler: &mut Compiler<'_>, text: Text<'_>) -> Option<TimeZone> {
    let Some((name, span)) = text else { return Some(TimeZone::UTC) };
    if let Ok(zone) = TimeZone::get(name) {
        return Some(zone);
    }
    let known: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
    let known = known.iter().map(String::as_str);
    compiler.unknown(Code::UnknownTimeZone, span, "time zone {} does not exist", name, known);
    None
}

fn dst(compiler: &mut Compiler<'_>, tree: &Tree, usual: Dst) -> Dst {
    let Some(tree) = tree.get("dst") else { return usual };
    let Some(mut reader) = Reader::new(compiler, tree, &["missing", "repeated"]) else { return usual };
    let missing = match reader.word("missing", &["shift", "skip"]) {
        Some("shift") => Missing::Shift,
        Some(_) => Missing::Skip,
        None => usual.missing,
    };
    let repeated = match reader.word("repeated", &["first", "last", "both"]) {
        Some("first") => Repeated::First,
        Some("last") => Repeated::Last,
        Some(_) => Repeated::Both,
        None => usual.repeated,
    };
    Dst { missing, repeated }
}

/// Reads `window` and `max`: of missed slots where it goes by time, of firings where it does not.
fn limits(compiler: &mut Compiler<'_>, tree: &Tree, kind: Option<&str>, plain: &Plain<'_>) -> (Policy, Option<Bucket>) {
    let missed = match plain.missed {
        Some("last") => Missed::Last,
        Some("all") => Missed::All,
        _ => Missed::None,
    };
    let policy = Policy { missed, window: plain.window, max: plain.max.unwrap_or(MOST_MISSED) };
    if kind.is_some_and(|kind| EVENTS.contains(&kind)) {
        let bucket = plain.max.zip(plain.window).map(|(max, window)| Bucket { max, window });
        for (key, other) in [("window", "max"), ("max", "window")] {
            if let (Some(entry), None) = (tree.entry(key), tree.get(other)) {
                let message = format!("`{key}` needs `{other}`: together they say how often the trigger may fire");
                compiler.error(Code::MissingKey, &entry.key_span, message).help = Some(format!("add `{other}:`"));
            }
        }
        return (policy, bucket);
    }
    let needs: [(&str, &str, bool); 2] = [
        ("window", "`missed: last` or `missed: all`", missed == Missed::None),
        ("max", "`missed: all`", missed != Missed::All),
    ];
    // A word that is wrong has been told, and might be any of them.
    let known = tree.get("missed").is_none() || plain.missed.is_some();
    for (key, wanted, useless) in needs {
        let belongs =
            BELONGS.iter().any(|(name, kinds)| *name == key && kind.is_some_and(|kind| kinds.contains(&kind)));
        if let Some(entry) = tree.entry(key).filter(|_| useless && known && belongs) {
            let message = format!("`{key}` says nothing without {wanted}");
            compiler.warning(Code::UselessKey, &entry.key_span, message).help =
                Some(format!("add {wanted}, or take `{key}` away"));
        }
    }
    (policy, None)
}

fn calendar(compiler: &mut Compiler<'_>, text: Text<'_>) -> Option<Arc<Calendar>> {
    let (name, span) = text?;
    let Some(around) = compiler.world.around else { return Calendar::built_in(name).map(Arc::new) };
    let (found, faults) = around.calendar(name);
    compiler.diagnostics.extend(faults);
    match found {
        FoundCalendar::Found(calendar) => Some(calendar),
        FoundCalendar::Unchecked => None,
        FoundCalendar::Faulty => {
            compiler.error(Code::UnknownCalendar, span, format!("calendar `{name}` has faults of its own"));
            None
        }
        FoundCalendar::Unknown { near } => {
            let near = near.map(|near| format!("did you mean `{near}`?"));
            let help = near.unwrap_or_else(|| {
                "make `calendars/NAME.yaml` with `closed:` or `open:`, or use `weekdays` or `weekends`".to_owned()
            });
            compiler.error(Code::UnknownCalendar, span, format!("calendar `{name}` does not exist")).help = Some(help);
            None
        }
    }
}

fn inputs(compiler: &mut Compiler<'_>, tree: &Tree, kind: Option<&str>) -> TemplateTree {
    let nothing = || TemplateTree::Literal(Value::map(std::iter::empty::<(&str, Value)>()));
    let given = tree.entry("inputs");
    if given.is_some_and(|given| !Reader::mapping(compiler, &given.value)) {
        return nothing();
    }
    let entries = given.map(|given| given.value.entries()).unwrap_or_default();
    let compiled = given.map_or_else(nothing, |given| compiler.tree(&given.value, &Place::event()));
    if !compiler.inputs_known {
        return compiled;
    }
    let declared = compiler.inputs.clone();
    let known = || declared.iter().map(|input| &*input.name);
    for entry in entries {
        let Some(input) = declared.iter().find(|input| input.name == entry.key) else {
            compiler.unknown(Code::UnknownInput, &entry.key_span, "input {} does not exist", &entry.key, known());
            continue;
        };
        if let Some(problem) = literal_problem(input, &entry.value) {
            let message = format!("input `{}`: {problem}", entry.key);
            compiler.error(Code::WrongType, &first_line(&entry.value.span), message);
        }
    }
    // A person who starts it is asked for the rest.
    let missing = |name: &str| kind.is_some_and(|kind| kind != "manual") && !entries.iter().any(|it| &*it.key == name);
    for input in declared.iter().filter(|input| input.required && missing(&input.name)) {
        let span = given.map_or_else(|| first_line(&tree.span), |given| given.key_span.clone());
        let message = format!("the pipeline needs the input `{}`, and the trigger does not give it", input.name);
        compiler.error(Code::MissingKey, &span, message).help =
            Some(format!("add `inputs: {{ {}: … }}`, or give the input a `default`", input.name));
    }
    compiled
}

/// Warns of a trigger that is never due.
fn silent(compiler: &mut Compiler<'_>, tree: &Tree, trigger: &Trigger) {
    let TriggerKind::Time(when) = &trigger.kind else { return };
    let Some(value) = tree.get(when.name()) else { return };
    let never = match when {
        When::Cron(pattern) if !pattern.fires() => Some("its days do not exist"),
        // A list of sessions ends some day, and that is no fault; one that has no day of the pattern is.
        _ => trigger.calendar.as_ref().and_then(|_| {
            let schedule = trigger.schedule("")?;
            schedule.next_after(Timestamp(0)).is_none().then_some("its calendar closes all days of it")
        }),
    };
    if let Some(why) = never {
        compiler.warning(Code::NeverFires, &value.span, format!("`{when}` never fires: {why}"));
    }
}
