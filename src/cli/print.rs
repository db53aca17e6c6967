//! What people read: colors, tables, messages. The one place of the program that writes to stdout and stderr.

use std::io::IsTerminal;
use std::io::Write;
use std::sync::atomic::AtomicU8;
use std::sync::atomic::Ordering;

use crate::app::Fault;
use crate::diag;
use crate::model::Duration;
use crate::model::StepState;
use crate::model::Value;

static COLOR: AtomicU8 = AtomicU8::new(0);

/// Says whether to color always or never; neither means: on a terminal, unless NO_COLOR is set.
pub(super) fn set_color(always: bool, never: bool) {
    let quiet = crate::app::environment("NO_COLOR").is_some_and(|value| !value.is_empty());
    let wanted = match (always, never || quiet) {
        (true, _) => 1,
        (false, true) => 2,
        (false, false) => 0,
    };
    COLOR.store(wanted, Ordering::Relaxed);
}

fn wanted(terminal: bool) -> bool {
    match COLOR.load(Ordering::Relaxed) {
        1 => true,
        2 => false,
        _ => terminal,
    }
}

pub(super) fn color_out() -> bool {
    wanted(std::io::stdout().is_terminal())
}

pub(super) fn color_err() -> bool {
    wanted(std::io::stderr().is_terminal())
}

/// Writes a line of data.
pub(super) fn line(text: &str) {
    data(&format!("{text}\n"));
}

/// Writes text of data as it is. That nobody reads any more is no fault: a run goes on without its reader.
pub(super) fn data(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes a line of talk.
pub(super) fn talk(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

pub(super) fn error(text: &str) {
    talk(&format!("{}: {text}", paint("1;31", "error", color_err())));
}

pub(super) fn hint(text: &str) {
    talk(&format!("{}: {text}", paint("1;36", "hint", color_err())));
}

pub(super) fn paint(code: &str, text: &str, color: bool) -> String {
    if color { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

/// Asks whoever sits at the terminal; only `y` or `yes` is a yes.
pub(super) fn ask(question: &str) -> bool {
    let mut out = std::io::stderr().lock();
    let _ = write!(out, "{question} [y/N] ").and_then(|()| out.flush());
    let mut answer = String::new();
    let read = std::io::stdin().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

/// Tells why a command could not do its work.
pub(super) fn fault(fault: &Fault) {
    match fault {
        Fault::Usage(text) => error(text),
        Fault::Invalid { diagnostics, sources, files } => {
            let mut text = String::new();
            // Writing into a string does not fail.
            let _ = diag::render(diagnostics, sources, diag::Format::Text, color_err(), &mut text);
            talk(&text);
            if let Some(summary) = diag::summary(diagnostics, *files) {
                talk(&summary);
            }
        }
        Fault::Other(cause) => error(&clean(&format!("{cause:#}"))),
    }
}

/// Writes rows in columns as data.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) {
    data(&columns(head, rows, color_out(), width(std::io::stdout())));
}

/// Returns how wide the terminal is; nothing where there is none.
#[cfg(unix)]
pub(super) fn width(stream: impl std::os::fd::AsFd) -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(stream).ok()?;
    Some(usize::from(size.ws_col)).filter(|width| *width > 0)
}

/// Returns how wide the terminal is: not known here.
#[cfg(not(unix))]
pub(super) fn width<S>(_stream: S) -> Option<usize> {
    None
}

/// The widest that a cell is shown; what is longer is in `--json`.
const CELL: usize = 100;

/// The narrowest that the last column becomes in a small terminal.
const NARROW: usize = 20;

/// Returns rows in columns as wide as their widest cell; the last one is cut where it does not fit into `most` columns.
/// Cells of a column `state` are colored.
pub(super) fn columns(head: &[&str], rows: &[Vec<String>], color: bool, most: Option<usize>) -> String {
    let mut rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| clip(cell, CELL)).collect()).collect();
    let mut widths: Vec<usize> = head.iter().map(|cell| cell.chars().count()).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    if let (Some(most), Some((last, others))) = (most, widths.split_last_mut()) {
        let left = most.saturating_sub(others.iter().map(|width| width + 2).sum());
        *last = (*last).min(left.max(NARROW));
        for cell in rows.iter_mut().filter_map(|row| row.last_mut()) {
            *cell = clip(cell, *last);
        }
    }
    let mut text = String::new();
    let titles: Vec<_> = head.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
    text.push_str(&paint("1", titles.join("  ").trim_end(), color));
    text.push('\n');
    for row in &rows {
        let cells = row.iter().zip(&widths).zip(head).map(|((cell, width), head)| {
            let padded = format!("{cell:<width$}");
            match state_color(cell) {
                Some(code) if *head == "state" => paint(code, &padded, color),
                _ => padded,
            }
        });
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Cuts a text to its first line and to a width, and says so by `…`.
pub(super) fn clip(text: &str, width: usize) -> String {
    let first = clean(text.lines().next().unwrap_or_default());
    let whole = first.chars().count() <= width && text.lines().nth(1).is_none();
    if whole { first } else { first.chars().take(width.saturating_sub(1)).chain(['…']).collect() }
}

/// Takes away what a terminal would obey: texts of others may hold control characters.
pub(super) fn clean(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() && letter != '\n' { '\u{fffd}' } else { letter }).collect()
}

fn state_color(word: &str) -> Option<&'static str> {
    match word {
        "succeeded" | "confirmed" => Some("32"),
        "failed" | "in doubt" => Some("31"),
        "skipped" | "canceled" | "refused" | "dropped" => Some("33"),
        "running" | "waiting" | "queued" | "pending" | "open" => Some("36"),
        _ => None,
    }
}

/// Returns the word of a step's state for talk, as wide as `width`.
pub(super) fn state(state: StepState, width: usize) -> String {
    let word = state.name();
    paint(state_color(word).unwrap_or("0"), &format!("{word:<width$}"), color_err())
}

/// Returns a length of time as people like it: `12 ms`, `3.4 s`, `2m05s`.
pub(super) fn length(length: Duration) -> String {
    let micros = length.micros();
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{} ms", micros / 1_000),
        1_000_000..60_000_000 => format!("{}.{} s", micros / 1_000_000, micros / 100_000 % 10),
        60_000_000..3_600_000_000 => format!("{}m{:02}s", micros / 60_000_000, micros / 1_000_000 % 60),
        _ => format!("{}h{:02}m", micros / 3_600_000_000, micros / 60_000_000 % 60),
    }
}

/// Returns a value as indented JSON.
pub(super) fn pretty(value: &Value) -> String {
    fn write(value: &Value, depth: usize, out: &mut String) {
        let pad = |out: &mut String, depth: usize| {
            out.push('\n');
            out.push_str(&"  ".repeat(depth));
        };
        match value {
            Value::List(items) if items.iter().any(|item| item.as_map().is_some() || item.as_list().is_some()) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    pad(out, depth + 1);
                    write(item, depth + 1, out);
                }
                pad(out, depth);
                out.push(']');
            }
            Value::Map(map)
                if map.values().any(|item| item.as_map().is_some() || item.as_list().is_some()) || depth == 0 =>
            {
                out.push('{');
                for (index, (key, item)) in map.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    pad(out, depth + 1);
                    out.push_str(&Value::from(&**key).to_string());
                    out.push_str(": ");
                    write(item, depth + 1, out);
                }
                pad(out, depth);
                out.push('}');
            }
            other => out.push_str(&other.to_string()),
        }
    }
    let mut out = String::new();
    write(value, 0, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_they_must_be() {
        let rows = [vec!["a".to_owned(), "failed".to_owned()], vec!["longer".to_owned(), "x".to_owned()]];
        assert_eq!(columns(&["step", "state"], &rows, false, None), "step    state\na       failed\nlonger  x\n");
        let notes = [vec!["a".to_owned(), "0123456789".repeat(4)]];
        assert_eq!(columns(&["step", "note"], &notes, false, Some(30)), "step  note\na     01234567890123456789012…\n");
        let colored = columns(&["step", "state"], &rows, true, None);
        assert!(colored.contains("\u{1b}[31mfailed\u{1b}[0m"), "{colored}");
    }

    #[test]
    fn a_terminal_obeys_nothing_that_others_wrote() {
        assert_eq!(clean("a\u{1b}[2Jb\tc"), "a\u{fffd}[2Jb\u{fffd}c");
        assert_eq!(clip("one\ntwo", 10), "one…");
        assert_eq!(clip("0123456789", 5), "0123…");
    }

    #[test]
    fn lengths_read_well() {
        let cases =
            [(12, "12 µs"), (1_200, "1 ms"), (2_345_678, "2.3 s"), (125_000_000, "2m05s"), (7_385_000_000, "2h03m")];
        for (micros, text) in cases {
            assert_eq!(length(Duration::from_micros(micros)), text);
        }
    }
}
