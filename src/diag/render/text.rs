//! The form for people: place, sentence, the lines with carets, help.

use std::fmt;

use super::Sources;
use crate::diag::Diagnostic;
use crate::diag::Severity;
use crate::diag::Span;

/// How much of a long line is shown.
const WIDTH: usize = 110;

pub(super) fn render(
    diagnostics: &[&Diagnostic],
    sources: &Sources,
    color: bool,
    out: &mut dyn fmt::Write,
) -> fmt::Result {
    for (index, diagnostic) in diagnostics.iter().enumerate() {
        if index > 0 {
            writeln!(out)?;
        }
        one(diagnostic, sources, &Paint(color), out)?;
    }
    Ok(())
}

struct Paint(bool);

impl Paint {
    fn in_color(&self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    fn severity(&self, severity: Severity, text: &str) -> String {
        self.in_color(if severity == Severity::Error { "1;31" } else { "1;33" }, text)
    }

    fn dim(&self, text: &str) -> String {
        self.in_color("1;34", text)
    }

    fn bold(&self, text: &str) -> String {
        self.in_color("1", text)
    }
}

fn one(diagnostic: &Diagnostic, sources: &Sources, paint: &Paint, out: &mut dyn fmt::Write) -> fmt::Result {
    let span = &diagnostic.span;
    let place = format!("{}:{}:{}", span.file, span.start.line, span.start.column);
    let head = format!("{}[{}]", diagnostic.severity.name(), diagnostic.code.as_str());
    let head = paint.severity(diagnostic.severity, &head);
    writeln!(out, "{place}: {head}: {}", paint.bold(&diagnostic.message))?;
    let notes = diagnostic.notes.iter().filter_map(|(span, _)| span.as_ref());
    let widest = notes.chain([span]).map(|span| span.start.line).max().unwrap_or(1);
    let gutter = widest.to_string().len();
    snippet(span, sources, gutter, paint, diagnostic.severity, out)?;
    let bar = paint.dim("=");
    for (span, note) in &diagnostic.notes {
        match span {
            Some(span) => {
                let place = format!("{}:{}:{}", span.file, span.start.line, span.start.column);
                writeln!(out, "{:gutter$} {bar} note: {note} ({place})", "")?;
                snippet(span, sources, gutter, paint, diagnostic.severity, out)?;
            }
            None => writeln!(out, "{:gutter$} {bar} note: {note}", "")?,
        }
    }
    if let Some(help) = &diagnostic.help {
        writeln!(out, "{:gutter$} {bar} {}: {help}", "", paint.bold("help"))?;
    }
    Ok(())
}

fn snippet(
    span: &Span,
    sources: &Sources,
    gutter: usize,
    paint: &Paint,
    severity: Severity,
    out: &mut dyn fmt::Write,
) -> fmt::Result {
    let Some(line) = sources.line(&span.file, span.start.line) else { return Ok(()) };
    let from = usize::try_from(span.start.column).unwrap_or(1).saturating_sub(1);
    let letters = line.chars().count();
    let to = if span.end.line == span.start.line {
        usize::try_from(span.end.column).unwrap_or(1).saturating_sub(1)
    } else {
        letters
    };
    let to = to.max(from + 1);
    // A long line is cut around the fault.
    let cut = if letters > WIDTH { from.saturating_sub(WIDTH / 3) } else { 0 };
    let shown = line.chars().skip(cut).take(WIDTH);
    let (mut text, mut carets) = (String::new(), String::new());
    if cut > 0 {
        text.push('…');
        carets.push(' ');
    }
    for (place, letter) in shown.enumerate() {
        let place = place + cut;
        let (drawn, width) = match letter {
            '\t' => ("    ".to_owned(), 4),
            letter if letter.is_control() => ("\u{fffd}".to_owned(), 1),
            letter => (letter.to_string(), width_of(letter)),
        };
        text.push_str(&drawn);
        if place < from {
            carets.push_str(&" ".repeat(width));
        } else if place < to {
            carets.push_str(&"^".repeat(width));
        }
    }
    if letters > cut + WIDTH {
        text.push('…');
    }
    if from >= letters {
        carets.push_str(&" ".repeat(from.saturating_sub(letters)));
        carets.push('^');
    }
    let bar = paint.dim("|");
    let number = paint.dim(&format!("{:>gutter$}", span.start.line));
    writeln!(out, "{:gutter$} {bar}", "")?;
    writeln!(out, "{number} {bar} {}", text.trim_end())?;
    writeln!(out, "{:gutter$} {bar} {}", "", paint.severity(severity, &carets).trim_end())
}

/// Returns how many columns a terminal gives a letter: two for East Asian wide letters and most pictures.
fn width_of(letter: char) -> usize {
    let wide = matches!(u32::from(letter), 0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f | 0xff00..=0xff60 | 0xffe0..=0xffe6 | 0x1f300..=0x1faff | 0x20000..=0x3fffd);
    if wide { 2 } else { 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::Code;
    use crate::diag::Format;
    use crate::diag::Position;

    fn span(line: u32, from: u32, to: u32) -> Span {
        let at = |column| Position { line, column, offset: 0 };
        Span { file: "p.yaml".into(), start: at(from), end: at(to) }
    }

    fn shown(source: &str, diagnostic: Diagnostic, format: Format) -> String {
        let mut sources = Sources::default();
        sources.insert("p.yaml".into(), source.into());
        let mut out = String::new();
        super::super::render(&[diagnostic], &sources, format, false, &mut out).unwrap();
        out
    }

    #[test]
    fn a_fault_is_shown_with_its_line_and_the_mend() {
        let diagnostic = Diagnostic::error(Code::UnknownKey, span(2, 3, 8), "unknown key `methd`")
            .with_help("did you mean `method`?")
            .with_note(Some(span(1, 1, 3)), "in this step");
        insta::assert_snapshot!(shown("a: 1\n  methd: x\n", diagnostic, Format::Text), @r"
        p.yaml:2:3: error[unknown-key]: unknown key `methd`
          |
        2 |   methd: x
          |   ^^^^^
          = note: in this step (p.yaml:1:1)
          |
        1 | a: 1
          | ^^
          = help: did you mean `method`?
        ");
    }

    #[test]
    fn long_wide_and_tabbed_lines_align() {
        let line = format!("{}fault{}", "x".repeat(300), "y".repeat(300));
        let text = shown(&line, Diagnostic::error(Code::WrongType, span(1, 301, 306), "m"), Format::Text);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[2].split_once("fault").map(|(before, _)| before.chars().count()),
            Some(lines[3].find('^').unwrap())
        );
        let text = shown("\t漢 x", Diagnostic::error(Code::WrongType, span(1, 4, 5), "m"), Format::Text);
        assert!(text.contains("|     漢 x\n  |        ^"), "{text}");
    }

    #[test]
    fn machines_get_their_forms() {
        let diagnostic = || Diagnostic::warning(Code::UnknownKey, span(2, 3, 8), "100% `x`\nnext");
        insta::assert_snapshot!(shown("", diagnostic(), Format::Github), @"::warning file=p.yaml,line=2,col=3,endLine=2,endColumn=8,title=unknown-key::100%25 `x`%0Anext");
        for format in [Format::Json, Format::Sarif] {
            let text = shown("", diagnostic(), format);
            assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
            assert!(text.contains("unknown-key"), "{text}");
        }
    }
}
