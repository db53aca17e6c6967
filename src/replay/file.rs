//! The file of a cassette: one JSON object a line, in the stored form of values.
//!
//! The first line tells of the run and holds the hash of the others, so that a file that was cut or edited is noticed. A
//! line that is longer than `LONGEST` lies in a file of its own, named by its hash, in the folder `NAME.files` beside.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::Path;
use std::path::PathBuf;

use super::cassette::Cassette;
use super::cassette::Head;
use super::cassette::KeptCall;
use super::cassette::KeptRun;
use super::cassette::KeptSaid;
use crate::engine::hash;
use crate::model::Duration;
use crate::model::ErrorClass;
use crate::model::Happened;
use crate::model::RunEvent;
use crate::model::RunId;
use crate::model::RunState;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::model::Value;
use crate::model::VersionId;
use crate::model::from_stored;
use crate::model::parse_json;
use crate::model::to_stored;

/// The format that is written, and the newest that is read.
const FORMAT: i128 = 1;
/// The longest line that stands in the file itself, in bytes.
const LONGEST: usize = 256 * 1024;

/// Why a file is not a cassette that can be played.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("cannot read `{path}`")]
    Open { path: PathBuf, source: std::io::Error },
    #[error("`{path}` is not a cassette: its first line does not say so; `pipewright run NAME --record` makes one")]
    Foreign { path: PathBuf },
    #[error("`{path}` is a cassette of format {format}, which a newer Pipewright has written; this one reads {FORMAT}")]
    Newer { path: PathBuf, format: String },
    #[error("`{path}` is damaged: what follows its first line was changed or cut since it was recorded")]
    Changed { path: PathBuf },
    #[error("`{path}`, line {line}: {reason}")]
    Damaged { path: PathBuf, line: usize, reason: String },
}

/// Writes a cassette; a file that is there is replaced.
///
/// # Errors
/// The file system's.
pub fn write(cassette: &Cassette, path: &Path) -> std::io::Result<()> {
    let mut lines = vec![Value::map([("definition", parse_json(&cassette.definition).unwrap_or_default())])];
    lines.extend(cassette.runs.iter().map(|run| Value::map([("run", run_value(run))])));
    lines.extend(
        cassette
            .events
            .iter()
            .map(|(run, event)| Value::map([("of", Value::from(run.to_string())), ("event", event.to_value())])),
    );
    lines.extend(cassette.calls.iter().map(|call| Value::map([("call", call_value(call))])));
    let mut rows: Vec<_> = cassette.rows.iter().collect();
    rows.sort_by_key(|(id, _)| *id);
    lines
        .extend(rows.into_iter().map(|(id, rows)| {
            Value::map([("rows", Value::list(rows.clone())), ("dataset", Value::from(id.as_str()))])
        }));
    if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder)?;
    }
    let mut body = String::new();
    for line in &lines {
        let text = stored(line);
        if text.len() <= LONGEST {
            body.push_str(&text);
        } else {
            let name = format!("{}.json", hash(&text));
            let folder = beside(path);
            std::fs::create_dir_all(&folder)?;
            std::fs::write(folder.join(&name), &text)?;
            body.push_str(&stored(&Value::map([("in", Value::from(name))])));
        }
        body.push('\n');
    }
    let head = stored(&head_value(&cassette.head, &hash(&body)));
    std::fs::write(path, format!("{head}\n{body}"))
}

/// Reads a cassette.
///
/// # Errors
/// What is wrong with the file.
pub fn read(path: &Path) -> Result<Cassette, ReadError> {
    let own = || path.to_owned();
    let text = match std::fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| ReadError::Foreign { path: own() })?,
        Err(source) => return Err(ReadError::Open { path: own(), source }),
    };
    let (first, body) = text.split_once('\n').unwrap_or((&text, ""));
    let foreign = || ReadError::Foreign { path: own() };
    let first = unstored(first).map_err(|_| foreign())?;
    match first.get("cassette") {
        Some(Value::Int(format)) if *format == FORMAT => {}
        Some(format) => return Err(ReadError::Newer { path: own(), format: format.to_string() }),
        None => return Err(foreign()),
    }
    if first.get("hash").and_then(Value::as_str) != Some(hash(body).as_str()) {
        return Err(ReadError::Changed { path: own() });
    }
    let damaged = |line: usize, reason: String| ReadError::Damaged { path: own(), line, reason };
    let head = read_head(&first).map_err(|reason| damaged(1, reason))?;
    let mut cassette = Cassette {
        head,
        definition: "".into(),
        runs: Vec::new(),
        events: Vec::new(),
        calls: Vec::new(),
        rows: HashMap::new(),
    };
    for (number, line) in (2..).zip(body.lines()) {
        let value = whole(path, line).and_then(|value| take(&mut cassette, &value));
        value.map_err(|reason| damaged(number, reason))?;
    }
    if cassette.runs.is_empty() || cassette.definition.is_empty() {
        return Err(damaged(2, "the run or its definition is missing".to_owned()));
    }
    Ok(cassette)
}

/// Reads a line, from its own file where it lies in one.
fn whole(path: &Path, line: &str) -> Result<Value, String> {
    let value = unstored(line)?;
    let Some(name) = value.get("in").and_then(Value::as_str) else { return Ok(value) };
    // The name comes from a file of others.
    if !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'.') {
        return Err(format!("`{name}` is no file of a cassette"));
    }
    let beside = beside(path).join(name);
    let text =
        std::fs::read_to_string(&beside).map_err(|error| format!("cannot read `{}`: {error}", beside.display()))?;
    if format!("{}.json", hash(&text)) != *name {
        return Err(format!("`{}` was changed since it was recorded", beside.display()));
    }
    unstored(&text)
}

fn take(cassette: &mut Cassette, value: &Value) -> Result<(), String> {
    if let Some(definition) = value.get("definition") {
        cassette.definition = definition.to_string().into();
    } else if let Some(run) = value.get("run") {
        cassette.runs.push(read_run(run)?);
    } else if let Some(event) = value.get("event") {
        cassette.events.push((id(value, "of")?, RunEvent::from_value(event)?));
    } else if let Some(call) = value.get("call") {
        cassette.calls.push(read_call(call)?);
    } else if let Some(rows) = value.get("rows").and_then(Value::as_list) {
        cassette.rows.insert(text(value, "dataset")?, rows.to_vec());
    } else {
        return Err("nothing that a cassette holds".to_owned());
    }
    Ok(())
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!("{name}.files"))
}

fn stored(value: &Value) -> String {
    let mut out = String::new();
    // A secret is but a name here.
    let sealed: Result<(), Infallible> = to_stored(value, &mut out, &mut |open| Ok(open.to_owned()));
    match sealed {
        Ok(()) => out,
        Err(never) => match never {},
    }
}

fn unstored(text: &str) -> Result<Value, String> {
    from_stored(text, &|sealed| Ok(sealed.to_owned()))
}

fn head_value(head: &Head, hash: &str) -> Value {
    Value::map([
        ("cassette", Value::Int(FORMAT)),
        ("hash", Value::from(hash)),
        ("run", Value::from(head.run.to_string())),
        ("pipeline", Value::from(&*head.pipeline)),
        ("version", Value::from(&*head.version.0)),
        ("program", Value::from(head.program.as_str())),
        ("recorded", Value::Bool(head.recorded)),
        ("rehearsal", Value::Bool(head.rehearsal)),
        ("seed", Value::Int(head.seed.into())),
        ("created", Value::Time(head.created)),
        ("ended", head.ended.map_or(Value::Null, Value::Time)),
        ("state", Value::from(head.state.name())),
    ])
}

fn read_head(value: &Value) -> Result<Head, String> {
    let flag = |key: &str| value.get(key).and_then(Value::as_bool).unwrap_or(false);
    let state = text(value, "state")?;
    Ok(Head {
        run: id(value, "run")?,
        pipeline: text(value, "pipeline")?.into(),
        version: VersionId(text(value, "version")?.into()),
        program: text(value, "program")?,
        recorded: flag("recorded"),
        rehearsal: flag("rehearsal"),
        seed: number(value, "seed")?,
        created: time(value, "created")?,
        ended: time(value, "ended").ok(),
        state: RunState::by_name(&state).ok_or_else(|| format!("unknown state `{state}`"))?,
    })
}

fn run_value(run: &KeptRun) -> Value {
    Value::map([
        ("id", Value::from(run.id.to_string())),
        ("prefix", Value::from(run.prefix.as_str())),
        ("pipeline", Value::from(&*run.pipeline)),
        ("inputs", run.inputs.clone()),
        ("slot", run.slot.as_deref().map_or(Value::Null, Value::from)),
    ])
}

fn read_run(value: &Value) -> Result<KeptRun, String> {
    Ok(KeptRun {
        id: id(value, "id")?,
        prefix: text(value, "prefix")?,
        pipeline: text(value, "pipeline")?.into(),
        inputs: value.get("inputs").cloned().unwrap_or_default(),
        slot: text(value, "slot").ok(),
    })
}

fn call_value(call: &KeptCall) -> Value {
    let mut entries = vec![
        ("of", Value::from(call.run.to_string())),
        ("path", Value::from(call.path.to_string())),
        ("attempt", Value::Int(call.attempt.into())),
        ("question", Value::Bool(call.question)),
        ("node", Value::from(&*call.node)),
        ("writes", Value::Bool(call.writes)),
        ("began", Value::Time(call.began)),
        ("took", Value::Duration(call.took)),
    ];
    entries.extend(call.input.clone().map(|input| ("input", input)));
    entries.push(("said", said_value(&call.said)));
    if !call.wire.is_empty() {
        entries.push(("wire", Value::list(call.wire.clone())));
    }
    Value::map(entries)
}

fn read_call(value: &Value) -> Result<KeptCall, String> {
    let flag = |key: &str| value.get(key).and_then(Value::as_bool).unwrap_or(false);
    let path: StepPath = text(value, "path")?.parse()?;
    Ok(KeptCall {
        run: id(value, "of")?,
        path,
        attempt: number(value, "attempt")?,
        question: flag("question"),
        node: text(value, "node")?.into(),
        writes: flag("writes"),
        input: value.get("input").cloned(),
        began: time(value, "began")?,
        took: length(value, "took").unwrap_or(Duration::ZERO),
        said: read_said(value.get("said").ok_or("a call says nothing")?)?,
        wire: value.get("wire").and_then(Value::as_list).unwrap_or_default().to_vec(),
    })
}

fn said_value(said: &KeptSaid) -> Value {
    match said {
        KeptSaid::Done { output } => Value::map([("output", output.clone())]),
        KeptSaid::Created { output, remote_id } => {
            Value::map([("output", output.clone()), ("remote_id", Value::from(remote_id.as_str()))])
        }
        KeptSaid::Later { until, reason } => {
            Value::map([("later", Value::Time(*until)), ("reason", Value::from(reason.as_str()))])
        }
        KeptSaid::Steps { inputs } => Value::map([("steps", inputs.clone())]),
        KeptSaid::Failed { class, message, happened, retry_after, attempts } => Value::map([
            ("error", Value::from(class.name())),
            ("message", Value::from(message.as_str())),
            ("perhaps", Value::Bool(*happened == Happened::Perhaps)),
            ("retry_after", retry_after.map_or(Value::Null, Value::Duration)),
            ("attempts", attempts.map_or(Value::Null, |attempts| Value::Int(attempts.into()))),
        ]),
        KeptSaid::Found { candidates } => {
            let candidates = candidates
                .iter()
                .map(|(id, output)| Value::map([("remote_id", Value::from(id.as_str())), ("output", output.clone())]));
            Value::map([("found", Value::list(candidates.collect()))])
        }
        KeptSaid::NotFound => Value::map([("found", Value::Null)]),
        KeptSaid::Itself => Value::map([("itself", Value::Bool(true))]),
        KeptSaid::Nothing => Value::map([("nothing", Value::Bool(true))]),
    }
}

fn read_said(value: &Value) -> Result<KeptSaid, String> {
    if let Some(output) = value.get("output").cloned() {
        return Ok(match text(value, "remote_id") {
            Ok(remote_id) => KeptSaid::Created { output, remote_id },
            Err(_) => KeptSaid::Done { output },
        });
    }
    if let Some(inputs) = value.get("steps").cloned() {
        return Ok(KeptSaid::Steps { inputs });
    }
    if let Ok(word) = text(value, "error") {
        let class = ErrorClass::ALL.into_iter().find(|class| class.name() == word);
        return Ok(KeptSaid::Failed {
            class: class.ok_or_else(|| format!("unknown class `{word}`"))?,
            message: text(value, "message")?,
            happened: match value.get("perhaps").and_then(Value::as_bool) {
                Some(true) => Happened::Perhaps,
                _ => Happened::No,
            },
            retry_after: length(value, "retry_after").ok(),
            attempts: number(value, "attempts").ok(),
        });
    }
    if let Ok(until) = time(value, "later") {
        return Ok(KeptSaid::Later { until, reason: text(value, "reason")? });
    }
    match value.get("found") {
        Some(Value::List(found)) => {
            let candidates = found.iter().map(|candidate| {
                Ok((text(candidate, "remote_id")?, candidate.get("output").cloned().unwrap_or_default()))
            });
            Ok(KeptSaid::Found { candidates: candidates.collect::<Result<_, String>>()? })
        }
        Some(_) => Ok(KeptSaid::NotFound),
        None if value.get("itself").is_some() => Ok(KeptSaid::Itself),
        None if value.get("nothing").is_some() => Ok(KeptSaid::Nothing),
        None => Err("a call says what this program does not know".to_owned()),
    }
}

fn text(value: &Value, key: &str) -> Result<String, String> {
    value.get(key).and_then(Value::as_str).map(str::to_owned).ok_or_else(|| format!("`{key}` is missing"))
}

fn id(value: &Value, key: &str) -> Result<RunId, String> {
    text(value, key)?.parse()
}

fn number<N: TryFrom<i128>>(value: &Value, key: &str) -> Result<N, String> {
    match value.get(key) {
        Some(Value::Int(number)) => N::try_from(*number).map_err(|_| format!("`{key}` is out of bounds")),
        _ => Err(format!("`{key}` is no whole number")),
    }
}

fn time(value: &Value, key: &str) -> Result<Timestamp, String> {
    match value.get(key) {
        Some(Value::Time(time)) => Ok(*time),
        _ => Err(format!("`{key}` is no moment")),
    }
}

fn length(value: &Value, key: &str) -> Result<Duration, String> {
    match value.get(key) {
        Some(Value::Duration(length)) => Ok(*length),
        _ => Err(format!("`{key}` is no duration")),
    }
}
