//! Verdicts as JUnit XML, which build servers read.

use std::fmt::Write;

use super::report;
use super::run::Verdict;

/// Returns all verdicts as a document.
#[must_use]
pub fn document(verdicts: &[Verdict]) -> String {
    let mut suites: Vec<(&str, Vec<&Verdict>)> = Vec::new();
    for verdict in verdicts {
        let file = &*verdict.job.suite.file;
        match suites.iter_mut().find(|(own, _)| *own == file) {
            Some((_, cases)) => cases.push(verdict),
            None => suites.push((file, vec![verdict])),
        }
    }
    let failed = |cases: &[&Verdict]| cases.iter().filter(|verdict| !verdict.findings.is_empty()).count();
    let all: Vec<&Verdict> = verdicts.iter().collect();
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    // Writing into a string does not fail.
    let _ = writeln!(
        out,
        "<testsuites name=\"pipewright\" tests=\"{}\" failures=\"{}\" errors=\"0\" time=\"{}\">",
        all.len(),
        failed(&all),
        seconds(&all)
    );
    for (file, cases) in &suites {
        let _ = writeln!(
            out,
            "  <testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"0\" time=\"{}\">",
            escaped(file),
            cases.len(),
            failed(cases),
            seconds(cases)
        );
        for verdict in cases {
            case(verdict, &mut out);
        }
        out.push_str("  </testsuite>\n");
    }
    out.push_str("</testsuites>\n");
    out
}

fn case(verdict: &Verdict, out: &mut String) {
    let job = &verdict.job;
    let _ = write!(
        out,
        "    <testcase name=\"{}\" classname=\"{}\" file=\"{}\" line=\"{}\" time=\"{:.3}\"",
        escaped(&job.case.name),
        escaped(&job.pipeline.name),
        escaped(&job.suite.file),
        job.case.span.start.line,
        verdict.played.took.as_secs_f64()
    );
    let Some(first) = verdict.findings.first() else {
        out.push_str("/>\n");
        return;
    };
    let place = |finding: &crate::diag::Diagnostic| {
        format!("{}:{}:{}: {}", finding.span.file, finding.span.start.line, finding.span.start.column, finding.message)
    };
    let mut text: Vec<String> = verdict.findings.iter().map(place).collect();
    text.push("journal:".to_owned());
    text.extend(report::journal(&verdict.played));
    let requests = report::requests(&verdict.played);
    if !requests.is_empty() {
        text.push("requests:".to_owned());
        text.extend(requests);
    }
    let _ = writeln!(
        out,
        ">\n      <failure type=\"expectation\" message=\"{}\">{}</failure>\n    </testcase>",
        escaped(&first.message),
        escaped(&text.join("\n"))
    );
}

fn seconds(cases: &[&Verdict]) -> String {
    let all: f64 = cases.iter().map(|verdict| verdict.played.took.as_secs_f64()).sum();
    format!("{all:.3}")
}

/// Writes a text so that it may stand in XML; what may not stand there at all is shown as unknown.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(letter),
            letter if letter.is_control() || matches!(letter, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            letter => out.push(letter),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_xml_does_not_allow_is_not_written() {
        assert_eq!(escaped("a < b & \"c\"\u{1}\n"), "a &lt; b &amp; &quot;c&quot;\u{fffd}\n");
    }
}
