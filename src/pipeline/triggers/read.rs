//! Reading one trigger, with a diagnostic for each key that is wrong.

use std::sync::Arc;

use jiff::tz::TimeZone;

use super::Trigger;
use super::TriggerKind;
use super::events;
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
use crate::schedule::Bucket;
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

const KINDS: [&str; 7] = ["cron", "every", "at", "webhook", "files", "after", "manual"];
const TIMES: &[&str] = &["cron", "every", "at"];
const EVENTS: &[&str] = &["webhook", "files", "after"];

/// The keys that some kinds do not know, with the kinds that do.
const BELONGS: [(&str, &[&str]); 10] = [
    ("timezone", TIMES),
    ("dst", &["cron"]),
    ("missed", TIMES),
    ("window", &["cron", "every", "at", "webhook", "files", "after"]),
    ("max", &["cron", "every", "webhook", "files", "after"]),
    ("jitter", TIMES),
    ("calendar", TIMES),
    ("bucket", TIMES),
    ("settle", &["files"]),
    ("existing", &["files"]),
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
    settle: Option<Duration>,
    existing: Option<bool>,
    enabled: Option<bool>,
}

pub(super) fn trigger(compiler: &mut Compiler<'_>, pipeline: &str, tree: &Tree) -> Option<Trigger> {
    let mut reader = Reader::new(compiler, tree, crate::format::TRIGGER)?;
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
        settle: reader.duration("settle"),
        existing: reader.flag("existing"),
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
    let bucket = bucket.or_else(|| own_bucket(compiler, tree));
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
    let members = tree.get("inputs").is_none();
    let webhook = tree.get("webhook").and_then(|tree| events::webhook(compiler, tree, members));
    let files = plain.files.and_then(|files| events::files(compiler, files, plain.settle, plain.existing));
    let after = tree.get("after").and_then(|tree| events::after(compiler, pipeline, tree));
    let manual = tree.get("manual").map(|tree| events::manual(compiler, tree));
    let when = cron.map(When::Cron).or(every.map(When::Every)).or(at.map(When::At));
    when.map(TriggerKind::Time)
        .or(webhook.map(TriggerKind::Webhook))
        .or(files.map(TriggerKind::Files))
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
        let bucket = plain.max.zip(plain.window).and_then(|(max, window)| {
            let span = &tree.get("window")?.span;
            bucket(compiler, span, max, window)
        });
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

/// Reads `bucket` of what goes by time: its `window` and `max` speak of missed slots.
fn own_bucket(compiler: &mut Compiler<'_>, tree: &Tree) -> Option<Bucket> {
    let tree = tree.get("bucket")?;
    let mut reader = Reader::new(compiler, tree, &["max", "window"])?;
    let given = reader.require("max") & reader.require("window");
    let (max, window) = (reader.number("max", 1, 1_000_000), reader.duration("window"));
    let span = &tree.get("window").filter(|_| given)?.span;
    bucket(compiler, span, max?, window?)
}

fn bucket(compiler: &mut Compiler<'_>, span: &Span, max: u32, window: Duration) -> Option<Bucket> {
    if window < SHORTEST {
        compiler.error(Code::BadDuration, span, format!("`window` is at least `{SHORTEST}`, found `{window}`"));
        return None;
    }
    Some(Bucket { max, window })
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
    // A person who starts it is asked for the rest; the body of a request may have it.
    let asked = kind == Some("manual") || (kind == Some("webhook") && given.is_none());
    let missing = |name: &str| kind.is_some() && !asked && !entries.iter().any(|it| &*it.key == name);
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
