//! A run while it happens: a line for each running step on a terminal, plain lines or JSON elsewhere.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;

use indicatif::MultiProgress;
use indicatif::ProgressBar;
use indicatif::ProgressStyle;
use tokio::sync::mpsc;

use super::print;
use super::progress::HEAD;
use super::progress::Key;
use super::progress::News;
use super::progress::Seen;
use super::run::View;
use crate::engine::SecretSource;
use crate::model::Ask;
use crate::model::RunEvent;
use crate::model::RunId;
use crate::model::RunState;
use crate::model::StepPath;
use crate::model::Value;

/// The most lines of running steps; a terminal is not taller.
const LINES: usize = 20;

/// Where a run is shown.
#[derive(Clone, Debug)]
pub(super) struct Screen {
    view: View,
    /// How the program is called to decide what this run asks.
    program: &'static str,
    /// The running steps, on a terminal.
    bars: Option<MultiProgress>,
}

impl Screen {
    pub(super) fn new(view: View, program: &'static str) -> Self {
        let live = std::io::stderr().is_terminal() && !view.json && !view.quiet;
        Self { view, program, bars: live.then(MultiProgress::new) }
    }

    /// Tells whether texts are shown while they are made.
    pub(super) fn is_live(&self) -> bool {
        self.bars.is_some()
    }

    /// Says something without disturbing the lines of running steps.
    pub(super) fn say(&self, text: &str) {
        match &self.bars {
            Some(bars) => bars.suspend(|| print::talk(text)),
            None => print::talk(text),
        }
    }

    /// Shows events until there are no more; gives what was seen.
    pub(super) async fn show(
        self,
        mut events: mpsc::UnboundedReceiver<(RunId, RunEvent)>,
        mut texts: mpsc::UnboundedReceiver<(RunId, StepPath, String)>,
        run: RunId,
        pipeline: Arc<str>,
        secrets: Arc<dyn SecretSource>,
    ) -> Seen {
        let mut seen = Seen::default();
        let mut lines = Lines { bars: self.bars.clone(), shown: BTreeMap::new() };
        let mut state = None;
        let mut begun = false;
        let talks = !self.view.json && !self.view.quiet;
        let mut spoken = Spoken { held: BTreeMap::new(), secrets };
        loop {
            let (of, event) = tokio::select! {
                // What a step has said was said before it ended.
                biased;
                Some((of, path, piece)) = texts.recv() => {
                    for line in spoken.take(of, &path, &piece) {
                        self.say(&line);
                    }
                    if of == run && let Some(rest) = spoken.rest(of, &path) {
                        lines.update((path.phase, path.step.clone()), rest);
                    }
                    continue;
                }
                event = events.recv() => match event {
                    Some(event) => event,
                    None => break,
                },
            };
            if self.view.json {
                print::line(&with_run(&event, of));
            }
            // Of child runs too: without it, nobody would know what is waited for.
            if let RunEvent::Asked { ask, .. } = &event
                && !self.view.json
            {
                let program = self.program;
                let how = match (&*ask.kind, ask.request.get("id").and_then(Value::as_str)) {
                    (Ask::POST, Some(post)) => format!("`{program} posts cancel {post}` or `reschedule` changes that"),
                    _ => format!("decide with `{program} approvals approve {}` or `reject`", ask.id),
                };
                self.say(&format!("{}; {how}", ask.reason));
            }
            // Each item, and each turn of a run below, ends what it has said by itself.
            if let (RunEvent::Succeeded { .. } | RunEvent::Failed { .. }, Some(path)) = (&event, event.path())
                && let Some(line) = spoken.end(of, path)
            {
                self.say(&line);
            }
            if of != run {
                continue;
            }
            if talks && !begun {
                begun = true;
                self.say(&format!("{}  run {run}", print::paint("1", &pipeline, print::color_err())));
            }
            if let RunEvent::Finished { state: ended, .. } = &event {
                state = Some(*ended);
            }
            let Some((key, news)) = seen.follow(&event) else { continue };
            if talks {
                self.tell(&seen, key, news, &mut lines);
            }
        }
        lines.clear();
        if let Some(state) = state.filter(|_| talks) {
            self.close(&seen, state);
        }
        seen
    }

    fn tell(&self, seen: &Seen, key: Key, news: News, lines: &mut Lines) {
        let Some(step) = seen.step(&key) else { return };
        match (&self.bars, news) {
            (None, News::GoesOn) => {}
            (None, News::Told | News::Ended) => print::talk(&step.text()),
            (Some(_), News::Ended) => lines.end(&key),
            (Some(_), News::Told | News::GoesOn) => lines.update(key, step.running()),
        }
    }

    fn close(&self, seen: &Seen, state: RunState) {
        if self.bars.is_some() {
            let width = print::width(std::io::stderr());
            print::talk(print::columns(&HEAD, &seen.rows(), print::color_err(), width).trim_end());
        }
        let code = if state == RunState::Succeeded { "1;32" } else { "1;31" };
        let state = print::paint(code, state.name(), print::color_err());
        print::talk(&format!("{state} in {}: {}", seen.took(), seen.counts()));
    }
}

/// What steps say while they make a text: whole lines are told, the last one is shown until it is whole.
#[derive(Debug)]
struct Spoken {
    /// By run and step what it has said of a line that is not whole.
    held: BTreeMap<(RunId, String), String>,
    secrets: Arc<dyn SecretSource>,
}

impl Spoken {
    /// Takes a piece, and gives the lines that it completes.
    fn take(&mut self, run: RunId, path: &StepPath, piece: &str) -> Vec<String> {
        let held = self.held.entry((run, path.to_string())).or_default();
        held.push_str(piece);
        let Some((whole, rest)) = held.rsplit_once('\n') else { return Vec::new() };
        let (whole, rest) = (whole.to_owned(), rest.to_owned());
        *held = rest;
        whole.split('\n').map(|line| self.line(path, line)).collect()
    }

    /// Returns the line that is not whole yet.
    fn rest(&self, run: RunId, path: &StepPath) -> Option<String> {
        self.held.get(&(run, path.to_string())).map(|held| self.line(path, held))
    }

    /// Gives the last line of a step that has ended.
    fn end(&mut self, run: RunId, path: &StepPath) -> Option<String> {
        let held = self.held.remove(&(run, path.to_string()))?;
        (!held.is_empty()).then(|| self.line(path, &held))
    }

    fn line(&self, path: &StepPath, text: &str) -> String {
        let name = print::paint("2", &format!("{path} \u{2502}"), print::color_err());
        format!("{name} {}", print::clean(&self.secrets.mask(text.to_owned())))
    }
}

/// The lines of running steps.
#[derive(Debug)]
struct Lines {
    bars: Option<MultiProgress>,
    shown: BTreeMap<Key, ProgressBar>,
}

impl Lines {
    fn update(&mut self, key: Key, text: String) {
        let Some(bars) = &self.bars else { return };
        if self.shown.len() >= LINES && !self.shown.contains_key(&key) {
            return;
        }
        let bar = self.shown.entry(key).or_insert_with(|| {
            let style = ProgressStyle::with_template("{spinner} {wide_msg} {elapsed:>6}");
            let bar = bars.add(ProgressBar::new_spinner());
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.enable_steady_tick(std::time::Duration::from_millis(120));
            bar
        });
        bar.set_message(text);
    }

    fn end(&mut self, key: &Key) {
        if let Some(bar) = self.shown.remove(key) {
            bar.finish_and_clear();
        }
    }

    fn clear(&mut self) {
        for bar in std::mem::take(&mut self.shown).into_values() {
            bar.finish_and_clear();
        }
    }
}

/// Returns an event as one line of JSON, with the run that it belongs to.
fn with_run(event: &RunEvent, run: RunId) -> String {
    let mut value = event.to_value().as_map().cloned().unwrap_or_default();
    value.insert("run".into(), Value::from(run.to_string()));
    Value::from(value).to_string()
}
