//! Two versions of a step.

use super::fields::changes;
use super::finding::Area;
use super::finding::Findings;
use super::finding::Weight;
use super::pipelines::locks;
use super::pipelines::text_of;
use super::words::bare;
use super::words::from_to;
use super::words::shown;
use super::words::source;
use super::words::written;
use crate::model::Duration;
use crate::model::Effect;
use crate::model::InDoubt;
use crate::model::Value;
use crate::pipeline::OnError;
use crate::pipeline::Retry;
use crate::pipeline::Step;
use crate::template::Template;

/// Tells all that differs of a step that both versions have.
pub(super) fn compare(old: &Step, new: &Step, name: &str, findings: &mut Findings) {
    let mut told = Told { name, writes: new.effect.is_write(), findings };
    told.operation(old, new);
    told.with(old, new);
    told.key(old, new);
    told.condition(old, new);
    told.undo(old, new);
    told.errors(old, new);
    told.doubt(old, new);
    told.retry("", &old.retry, &new.retry);
    told.pace(old, new);
}

/// Lists the fields of what a step is given.
pub(super) fn fields(with: &Value) -> Vec<String> {
    with.as_map().into_iter().flatten().map(|(key, value)| format!("{key}: {}", shown(value))).collect()
}

/// A step that is told of.
struct Told<'t> {
    name: &'t str,
    writes: bool,
    findings: &'t mut Findings,
}

impl Told<'_> {
    fn add(&mut self, weight: Weight, area: Area, text: String) {
        self.findings.add_with(weight, area, Some(self.name), text, Vec::new());
    }

    /// Adds what matters more where the step changes the world.
    fn tell(&mut self, area: Area, text: String) {
        self.add(if self.writes { Weight::Effect } else { Weight::Other }, area, text);
    }

    fn operation(&mut self, old: &Step, new: &Step) {
        let (name, before, now) = (self.name, old.node.name(), new.node.name());
        if before != now {
            let text = format!("step `{name}` uses `{now}` instead of `{before}`");
            let weight = if old.effect.is_write() || self.writes { Weight::Risk } else { Weight::Other };
            self.add(weight, Area::Effects, text);
        }
        if old.effect == new.effect {
            return;
        }
        let text = match (old.effect, new.effect) {
            (_, Effect::Write(kind)) if !old.effect.is_write() => {
                format!("step `{name}` changes the world now: {}", kind.name())
            }
            (Effect::Write(_), _) if !self.writes => format!("step `{name}` changes nothing outside any more"),
            (before, now) => format!("step `{name}` is of effect {} instead of {}", now.name(), before.name()),
        };
        let risky = self.writes || new.effect == Effect::PaidRead;
        self.add(if risky { Weight::Risk } else { Weight::Effect }, Area::Effects, text);
    }

    fn with(&mut self, old: &Step, new: &Step) {
        let changes = changes(&written(&old.with), &written(&new.with));
        if changes.is_empty() {
            return;
        }
        let area = if self.writes { Area::Effects } else { Area::Graph };
        for change in changes {
            let name = self.name;
            let field = if change.field.is_empty() { "`with`".to_owned() } else { format!("`{}`", change.field) };
            let text = match (&change.old, &change.new) {
                (Some(Value::String(old)), Some(Value::String(new))) => {
                    format!("step `{name}`, {field}: {}", from_to(bare(old), bare(new)))
                }
                (Some(old), Some(new)) => format!("step `{name}`, {field}: {}", from_to(&text_of(old), &text_of(new))),
                (None, Some(new)) => format!("step `{name}`, {field} is new: {}", shown(new)),
                (Some(old), None) => format!("step `{name}`, {field} is gone; it was {}", shown(old)),
                (None, None) => continue,
            };
            self.tell(area, text);
        }
    }

    fn key(&mut self, old: &Step, new: &Step) {
        let (before, now) = (source(old.key.as_ref()), source(new.key.as_ref()));
        if before == now {
            return;
        }
        let side = |key: Option<String>| key.unwrap_or_else(|| "run and step".to_owned());
        let text = format!(
            "step `{}`, key of the effect: {}; what was done under the old key is done again",
            self.name,
            from_to(&side(before), &side(now))
        );
        self.add(Weight::Risk, Area::Effects, text);
    }

    fn condition(&mut self, old: &Step, new: &Step) {
        let name = self.name;
        let (before, now) = (source(old.when.as_ref()), source(new.when.as_ref()));
        match (before, now) {
            (Some(before), None) => {
                let weight = if self.writes { Weight::Risk } else { Weight::Effect };
                let text = format!("step `{name}` always runs: its condition `{before}` is gone");
                self.add(weight, Area::Guards, text);
            }
            (None, Some(now)) => self.tell(Area::Guards, format!("step `{name}` runs only when `{now}`")),
            (Some(before), Some(now)) if before != now => {
                let weight = if self.writes { Weight::Risk } else { Weight::Effect };
                self.add(weight, Area::Guards, format!("step `{name}` runs when: {}", from_to(&before, &now)));
            }
            _ => {}
        }
        match (source(old.for_each.as_ref()), source(new.for_each.as_ref())) {
            (before, now) if before == now => {}
            (None, Some(now)) => self.tell(Area::Effects, format!("step `{name}` runs once for each of `{now}`")),
            (Some(before), None) => {
                self.tell(Area::Effects, format!("step `{name}` runs once, not for each of `{before}` any more"));
            }
            (before, now) => {
                let (before, now) = (before.unwrap_or_default(), now.unwrap_or_default());
                self.tell(Area::Effects, format!("step `{name}` runs for each of: {}", from_to(&before, &now)));
            }
        }
        for (key, before, now) in [("at", &old.at, &new.at), ("delay", &old.delay, &new.delay)] {
            self.expression(Area::Graph, key, before.as_ref(), now.as_ref());
        }
        for (key, before) in &old.expressions {
            let now = new.expressions.iter().find(|(other, _)| other == key).map(|(_, template)| template);
            // What `with` shows already is not told twice.
            if now.is_some_and(|now| now.source() != before.source()) && written(&old.with) == written(&new.with) {
                self.expression(Area::Graph, key, Some(before), now);
            }
        }
    }

    fn expression(&mut self, area: Area, key: &str, old: Option<&Template>, new: Option<&Template>) {
        let (before, now) = (source(old), source(new));
        let name = self.name;
        match (before, now) {
            (before, now) if before == now => {}
            (None, Some(now)) => self.tell(area, format!("step `{name}` has `{key}` now: `{now}`")),
            (Some(before), None) => {
                self.tell(area, format!("step `{name}` has no `{key}` any more; it was `{before}`"))
            }
            (before, now) => {
                let text = from_to(&before.unwrap_or_default(), &now.unwrap_or_default());
                self.tell(area, format!("step `{name}`, `{key}`: {text}"));
            }
        }
    }

    fn undo(&mut self, old: &Step, new: &Step) {
        let name = self.name;
        match (&old.undo, &new.undo) {
            (Some(before), None) => {
                let text = format!("step `{name}` is not undone any more: `undo` by `{}` is gone", before.node.name());
                self.add(Weight::Risk, Area::Guards, text);
            }
            (None, Some(now)) => {
                let text = format!("step `{name}` is undone by `{}` when a later step fails", now.node.name());
                self.add(Weight::Effect, Area::Guards, text);
            }
            (Some(before), Some(now)) => {
                if before.node.name() != now.node.name() {
                    let text =
                        format!("step `{name}` is undone by `{}` instead of `{}`", now.node.name(), before.node.name());
                    self.add(Weight::Risk, Area::Guards, text);
                }
                for change in changes(&written(&before.with), &written(&now.with)) {
                    let side = |value: &Option<Value>| value.as_ref().map_or_else(|| "nothing".to_owned(), text_of);
                    let text = from_to(bare(&side(&change.old)), bare(&side(&change.new)));
                    let text = format!("step `{name}`, `{}` of its `undo`: {text}", change.field);
                    self.add(Weight::Effect, Area::Effects, text);
                }
                self.retry(" of its `undo`", &before.retry, &now.retry);
            }
            (None, None) => {}
        }
        match (old.irreversible, new.irreversible) {
            (true, false) => {
                let text = format!("step `{name}` does not count as irreversible any more");
                self.add(Weight::Risk, Area::Guards, text);
            }
            (false, true) => {
                let text = format!("step `{name}` counts as irreversible: behind it nothing is undone");
                self.add(Weight::Effect, Area::Guards, text);
            }
            _ => {}
        }
    }

    fn errors(&mut self, old: &Step, new: &Step) {
        let name = self.name;
        let word = |rule: &OnError| match rule {
            OnError::Fail => "fail".to_owned(),
            OnError::Continue => "continue".to_owned(),
            OnError::Default(tree) => format!("default: {}", text_of(&written(tree))),
        };
        let (before, now) = (word(&old.on_error), word(&new.on_error));
        if before != now {
            let (weight, tail) = match (&old.on_error, &new.on_error) {
                (OnError::Fail, _) => (Weight::Risk, ": its failure does not fail the run any more"),
                (_, OnError::Fail) => (Weight::Effect, ": its failure fails the run"),
                _ => (Weight::Effect, ""),
            };
            self.add(weight, Area::Guards, format!("step `{name}`, `on_error`: {}{tail}", from_to(&before, &now)));
        }
    }

    fn doubt(&mut self, old: &Step, new: &Step) {
        if old.in_doubt == new.in_doubt || !(self.writes || new.pays()) {
            return;
        }
        let word = |policy: InDoubt| format!("{policy:?}").to_lowercase();
        let (weight, tail) = match (new.in_doubt, self.writes) {
            (InDoubt::Resend, true) => (Weight::Risk, ": what lost its answer may happen twice"),
            (InDoubt::Resend, false) => (Weight::Risk, ": what lost its answer in a crash may be paid for twice"),
            (InDoubt::Drop, _) => (Weight::Risk, ": what lost its answer may never have happened"),
            (InDoubt::Hold, true) => (Weight::Effect, ": a person decides when an answer is lost"),
            (InDoubt::Hold, false) => (Weight::Effect, ": it fails when an answer is lost in a crash"),
        };
        let (name, text) = (self.name, from_to(&word(old.in_doubt), &word(new.in_doubt)));
        self.add(weight, Area::Guards, format!("step `{name}`, `in_doubt`: {text}{tail}"));
    }

    fn retry(&mut self, of: &str, old: &Retry, new: &Retry) {
        if old == new {
            return;
        }
        let name = self.name;
        let mut parts = Vec::new();
        let fewer = new.attempts < old.attempts;
        if old.attempts != new.attempts {
            let once = if new.attempts == 1 { ", it is not retried any more" } else { "" };
            parts.push(format!("{} attempts instead of {}{once}", new.attempts, old.attempts));
        }
        let words = |retry: &Retry| {
            let mut words: Vec<_> = retry.on.iter().map(|class| class.name()).collect();
            words.sort_unstable();
            words
        };
        let (before, now) = (words(old), words(new));
        let less: Vec<_> = before.iter().filter(|class| !now.contains(class)).copied().collect();
        let more: Vec<_> = now.iter().filter(|class| !before.contains(class)).copied().collect();
        if !less.is_empty() {
            parts.push(format!("not on {} any more", less.join(", ")));
        }
        if !more.is_empty() {
            parts.push(format!("also on {}", more.join(", ")));
        }
        // A single attempt has no pauses.
        if new.attempts > 1 && old.attempts > 1 {
            let pause = |retry: &Retry| {
                let kind = if retry.exponential { "exponential" } else { "constant" };
                let jitter = if retry.jitter { "with jitter" } else { "without jitter" };
                format!("{kind} from {} to {} {jitter}", retry.delay, retry.max_delay)
            };
            if pause(old) != pause(new) {
                parts.push(format!("pauses {}", from_to(&pause(old), &pause(new))));
            }
        }
        if parts.is_empty() {
            return;
        }
        let weight = if fewer || !less.is_empty() { Weight::Risk } else { Weight::Other };
        self.add(weight, Area::Retries, format!("step `{name}`, retries{of}: {}", parts.join("; ")));
    }

    fn pace(&mut self, old: &Step, new: &Step) {
        let name = self.name;
        let length = |length: Option<Duration>| length.map_or_else(|| "none".to_owned(), |length| length.to_string());
        let cache = |step: &Step| {
            step.cache.as_ref().map_or_else(
                || "none".to_owned(),
                |cache| {
                    let key = source(cache.key.as_ref()).map(|key| format!(" by `{key}`")).unwrap_or_default();
                    format!("for {}{key}", cache.ttl)
                },
            )
        };
        let until = |step: &Step| {
            step.until.as_ref().map_or_else(
                || "none".to_owned(),
                |until| {
                    let every = source(until.every.as_ref()).map(|every| format!(" every {every}")).unwrap_or_default();
                    format!("{}{every}, {} rounds at most", source(Some(&until.holds)).unwrap_or_default(), until.limit)
                },
            )
        };
        let into = |step: &Step| step.into.as_deref().unwrap_or("none").to_owned();
        for (key, before, now) in [
            ("timeout", length(old.timeout), length(new.timeout)),
            ("until", until(old), until(new)),
            ("locks", locks(&old.locks), locks(&new.locks)),
            ("cache", cache(old), cache(new)),
            ("into", into(old), into(new)),
            ("max_parallel", old.max_parallel.to_string(), new.max_parallel.to_string()),
            ("priority", old.priority.to_string(), new.priority.to_string()),
            ("spread", old.spread.to_string(), new.spread.to_string()),
        ] {
            if before == now {
                continue;
            }
            // Without its lock a write can meet another one.
            let risky = self.writes && key == "locks" && now == "none";
            let weight = if risky { Weight::Risk } else { Weight::Other };
            self.add(weight, Area::Limits, format!("step `{name}`, `{key}`: {}", from_to(&before, &now)));
        }
    }
}
