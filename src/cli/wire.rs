//! `pipewright runs show --wire`: what went over the wire.

use super::Exit;
use super::print;
use crate::app::App;
use crate::app::Fault;
use crate::model::parse_json;
use crate::node::WireRecord;
use crate::store::RunRecord;
use crate::store::WireLine;

/// Prints the exchanges of a run, by step and attempt.
pub(super) async fn show(app: &App, run: &RunRecord, json: bool) -> Result<Exit, Fault> {
    let lines = app.engine.parts().store.wire(run.id).await?;
    if json {
        for line in &lines {
            let record = serde_json::to_value(&line.record).unwrap_or_default();
            let value =
                serde_json::json!({ "step": line.path.to_string(), "attempt": line.attempt, "exchange": record });
            print::line(&value.to_string());
        }
        return Ok(Exit::Well);
    }
    if lines.is_empty() {
        print::talk("no requests were recorded; operations of connectors record theirs");
    }
    let color = print::color_out();
    for WireLine { path, attempt, record } in &lines {
        print::line(&print::paint("1", &format!("{path}  attempt {attempt}  {}", record.at), color));
        print::data(&exchange(record, color));
    }
    Ok(Exit::Well)
}

fn exchange(record: &WireRecord, color: bool) -> String {
    let mut text = format!("  > {} {}\n", record.method, record.url);
    block(&mut text, "  > ", &record.headers, &record.body);
    match &record.answer {
        Ok(answer) => {
            let shade = if answer.status < 400 { "32" } else { "31" };
            let status = print::paint(shade, &answer.status.to_string(), color);
            text.push_str(&format!("  < {status} in {}\n", print::length(record.took)));
            block(&mut text, "  < ", &answer.headers, &answer.body);
        }
        Err(reason) => {
            let reason = print::paint("31", reason, color);
            text.push_str(&format!("  < {reason} (after {})\n", print::length(record.took)));
        }
    }
    text.push('\n');
    text
}

fn block(text: &mut String, lead: &str, headers: &[(String, String)], body: &str) {
    for (name, value) in headers {
        text.push_str(&format!("{lead}{name}: {value}\n"));
    }
    if body.is_empty() {
        return;
    }
    text.push_str(&format!("{lead}\n"));
    // JSON is easier to read with its members on lines of their own.
    let pretty = parse_json(body).ok().and_then(|value| {
        let value: serde_json::Value = serde_json::from_str(&value.to_string()).ok()?;
        serde_json::to_string_pretty(&value).ok()
    });
    for line in pretty.as_deref().unwrap_or(body).lines() {
        text.push_str(&format!("{lead}{line}\n"));
    }
}
