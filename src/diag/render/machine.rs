//! The forms for machines.

use std::fmt;

use serde_json::json;

use crate::diag::Diagnostic;
use crate::diag::Severity;
use crate::diag::Span;

fn place(span: &Span) -> serde_json::Value {
    json!({
        "file": &*span.file,
        "start": { "line": span.start.line, "column": span.start.column, "offset": span.start.offset },
        "end": { "line": span.end.line, "column": span.end.column, "offset": span.end.offset },
    })
}

/// Writes `{ "diagnostics": [...] }`.
pub(super) fn json(diagnostics: &[&Diagnostic], out: &mut dyn fmt::Write) -> fmt::Result {
    let list = diagnostics.iter().map(|diagnostic| {
        let notes =
            diagnostic.notes.iter().map(|(span, note)| json!({ "message": note, "span": span.as_ref().map(place) }));
        json!({
            "code": diagnostic.code.as_str(),
            "severity": diagnostic.severity.name(),
            "message": diagnostic.message,
            "span": place(&diagnostic.span),
            "notes": notes.collect::<Vec<_>>(),
            "help": diagnostic.help,
        })
    });
    let list: Vec<_> = list.collect();
    writeln!(out, "{:#}", json!({ "diagnostics": list }))
}

/// Writes SARIF 2.1.0: <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>.
pub(super) fn sarif(diagnostics: &[&Diagnostic], out: &mut dyn fmt::Write) -> fmt::Result {
    let mut codes: Vec<_> = diagnostics.iter().map(|diagnostic| diagnostic.code).collect();
    codes.sort_unstable();
    codes.dedup();
    let rules = codes.iter().map(|code| {
        let first = code.explanation().lines().next().unwrap_or_default();
        json!({ "id": code.as_str(), "shortDescription": { "text": first }, "fullDescription": { "text": code.explanation() } })
    });
    let results = diagnostics.iter().map(|diagnostic| {
        let message = match &diagnostic.help {
            Some(help) => format!("{}. Help: {help}", diagnostic.message),
            None => diagnostic.message.clone(),
        };
        json!({
            "ruleId": diagnostic.code.as_str(),
            "level": if diagnostic.severity == Severity::Error { "error" } else { "warning" },
            "message": { "text": message },
            "locations": [{ "physicalLocation": {
                "artifactLocation": { "uri": &*diagnostic.span.file },
                "region": {
                    "startLine": diagnostic.span.start.line,
                    "startColumn": diagnostic.span.start.column,
                    "endLine": diagnostic.span.end.line,
                    "endColumn": diagnostic.span.end.column,
                },
            } }],
        })
    });
    let log = json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "pipewright", "version": env!("CARGO_PKG_VERSION"), "rules": rules.collect::<Vec<_>>() } },
            "results": results.collect::<Vec<_>>(),
        }],
    });
    writeln!(out, "{log:#}")
}

/// Writes workflow commands, one a line; line ends and percent signs are escaped as GitHub asks.
pub(super) fn github(diagnostics: &[&Diagnostic], out: &mut dyn fmt::Write) -> fmt::Result {
    let escape = |text: &str| text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
    let property = |text: &str| escape(text).replace(':', "%3A").replace(',', "%2C");
    for diagnostic in diagnostics {
        let span = &diagnostic.span;
        let help = diagnostic.help.as_ref().map(|help| format!("\nhelp: {help}")).unwrap_or_default();
        writeln!(
            out,
            "::{} file={},line={},col={},endLine={},endColumn={},title={}::{}",
            diagnostic.severity.name(),
            property(&span.file),
            span.start.line,
            span.start.column,
            span.end.line,
            span.end.column,
            diagnostic.code.as_str(),
            escape(&format!("{}{help}", diagnostic.message)),
        )?;
    }
    Ok(())
}
