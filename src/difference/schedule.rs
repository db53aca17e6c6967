//! When two versions fire.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::finding::Area;
use super::finding::Findings;
use super::finding::Weight;
use super::words::and;
use super::words::written;
use crate::model::Duration;
use crate::model::Timestamp;
use crate::pipeline::Pipeline;
use crate::pipeline::Trigger;
use crate::pipeline::TriggerKind;
use crate::schedule::Missed;
use crate::schedule::Policy;

/// How far it is looked ahead.
const AHEAD: Duration = Duration::from_secs(7 * 86_400);
/// How many firings of a trigger are compared.
const MOST: usize = 2_000;
/// How many firings are named.
const NAMED: usize = 3;

pub(super) fn compare(old: &Pipeline, new: &Pipeline, now: Timestamp, findings: &mut Findings) {
    for trigger in &old.triggers {
        let Some(other) = new.triggers.iter().find(|other| other.id == trigger.id) else {
            findings.add(Weight::Effect, Area::Schedule, format!("{} starts no runs any more", named(trigger)));
            continue;
        };
        same(trigger, other, findings);
    }
    for trigger in new.triggers.iter().filter(|trigger| !old.triggers.iter().any(|other| other.id == trigger.id)) {
        let open = matches!(&trigger.kind, TriggerKind::Webhook(webhook) if webhook.secrets.is_empty());
        let (weight, unsigned) =
            if open { (Weight::Risk, ", and anybody who knows its path may") } else { (Weight::Effect, "") };
        findings.add(weight, Area::Schedule, format!("{} starts runs now{unsigned}", named(trigger)));
    }
    firings(old, new, now, findings);
}

/// Compares what two triggers say that wait for the same.
fn same(old: &Trigger, new: &Trigger, findings: &mut Findings) {
    let name = named(new);
    let mut tell = |text: String| findings.add(Weight::Effect, Area::Schedule, format!("{name} {text}"));
    match (old.enabled, new.enabled) {
        (true, false) => tell("is switched off".to_owned()),
        (false, true) => tell("is switched on".to_owned()),
        _ => {}
    }
    if old.missed != new.missed {
        tell(format!("makes up for missed firings otherwise: {} → {}", missed(&old.missed), missed(&new.missed)));
    }
    if old.jitter != new.jitter {
        tell(format!("is put off by up to {} instead of {}", new.jitter, old.jitter));
    }
    if old.bucket != new.bucket {
        tell("may fire at another rate".to_owned());
    }
    if written(&old.inputs) != written(&new.inputs) {
        tell("gives its runs other inputs".to_owned());
    }
    if let (TriggerKind::Webhook(old), TriggerKind::Webhook(new)) = (&old.kind, &new.kind)
        && !old.secrets.is_empty()
        && new.secrets.is_empty()
    {
        findings.add(Weight::Risk, Area::Schedule, format!("{name} does not ask for a signature any more"));
    }
}

fn missed(policy: &Policy) -> String {
    let word = match policy.missed {
        Missed::None => "none",
        Missed::Last => "the last one",
        Missed::All => return format!("all, {} at most{}", policy.max, within(policy.window)),
    };
    format!("{word}{}", within(policy.window))
}

fn within(window: Option<Duration>) -> String {
    window.map_or_else(String::new, |window| format!(" of the last {window}"))
}

/// Compares the firings of the coming days.
fn firings(old: &Pipeline, new: &Pipeline, now: Timestamp, findings: &mut Findings) {
    let (before, after) = (ahead(old, now), ahead(new, now));
    let gone = before.iter().filter(|(moment, _)| !after.contains_key(*moment)).map(|(_, shown)| shown);
    let come = after.iter().filter(|(moment, _)| !before.contains_key(*moment)).map(|(_, shown)| shown);
    for (shown, verb) in [(gone.collect::<Vec<_>>(), "vanish"), (come.collect(), "appear")] {
        if shown.is_empty() {
            continue;
        }
        let first: Vec<String> = shown.iter().take(NAMED).map(|shown| (*shown).clone()).collect();
        let more = shown.len() - first.len();
        let first = if more > 0 { format!("{} and {more} more", first.join(", ")) } else { and(&first) };
        let verb = if shown.len() == 1 { format!("{verb}s") } else { verb.to_owned() };
        findings.add(Weight::Effect, Area::Schedule, format!("of the firings of the next 7 days {first} {verb}"));
    }
}

fn ahead(pipeline: &Pipeline, now: Timestamp) -> BTreeMap<Timestamp, String> {
    let mut all = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for trigger in pipeline.triggers.iter().filter(|trigger| trigger.enabled && seen.insert(trigger.id.clone())) {
        let Some(schedule) = trigger.schedule(&pipeline.name) else { continue };
        for slot in schedule.slots_between(now, now.plus(AHEAD)).take(MOST) {
            all.insert(slot.logical, slot.local.to_string());
        }
    }
    all
}

/// Names a trigger by what it waits for.
fn named(trigger: &Trigger) -> String {
    match &trigger.kind {
        TriggerKind::Time(when) => format!("the trigger `{}: {when}`", when.name()),
        TriggerKind::Webhook(webhook) => format!("the webhook `{}`", webhook.path),
        TriggerKind::Files(files) => format!("the trigger on files `{}`", files.pattern),
        TriggerKind::After(after) => format!("the end of `{}`", after.pipeline),
        TriggerKind::Manual => "the trigger `manual`".to_owned(),
    }
}
