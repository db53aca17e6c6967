//! `pipewright diff`.

use std::io::Read;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use clap::ValueHint;
use clap_complete::engine::ArgValueCandidates;

use super::Exit;
use super::Global;
use super::complete;
use super::print;
use super::validate::catalog;
use super::validate::load_to_read;
use super::validate::settings;
use crate::app;
use crate::app::Fault;
use crate::diag::Severity;
use crate::diag::Sources;
use crate::difference;
use crate::difference::Finding;
use crate::difference::Weight;
use crate::model::Timestamp;
use crate::model::Value;
use crate::node::Registry;
use crate::pipeline::Pipeline;
use crate::pipeline::compile_definition;
use crate::pipeline::compile_text;
use crate::store::RunFilter;
use crate::store::Store;
use crate::system::System;

/// Says in words what differs between two versions of a pipeline, what is risky first. Ends with code 1 where something
/// does.
#[derive(Debug, Args)]
pub(super) struct Diff {
    /// The old version: a file, the name of a pipeline, `NAME@VERSION` of the store (the beginning is enough), `NAME@live`
    /// for the one of its latest run, or `-` for stdin.
    #[arg(value_name = "A", value_hint = ValueHint::FilePath, add = ArgValueCandidates::new(complete::pipelines))]
    old: String,
    /// The new version, named likewise.
    #[arg(value_name = "B", value_hint = ValueHint::FilePath, add = ArgValueCandidates::new(complete::pipelines))]
    new: String,
    /// Look at firings from this moment on instead of now, e.g. `2026-03-28T12:00:00Z`.
    #[arg(long, value_name = "MOMENT")]
    from: Option<Timestamp>,
    /// Print one difference a line as JSON.
    #[arg(long)]
    json: bool,
}

impl Diff {
    pub(super) async fn execute(self, global: &Global) -> Result<Exit, Fault> {
        if self.old == "-" && self.new == "-" {
            return Err(Fault::Usage("only one of the two can come from stdin".to_owned()));
        }
        let old = version(global, &self.old).await?;
        let new = version(global, &self.new).await?;
        let now = self.from.unwrap_or_else(|| System::real().clock.now());
        let findings = difference::compare(&old, &new, now);
        if self.json {
            findings.iter().for_each(|finding| print::line(&as_value(finding).to_string()));
        } else {
            print::data(&shown(&findings, old.version == new.version, print::color_out()));
        }
        Ok(if findings.is_empty() { Exit::Well } else { Exit::Failed })
    }
}

async fn version(global: &Global, target: &str) -> Result<Arc<Pipeline>, Fault> {
    if target == "-" {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text)?;
        let (_, registry) = catalog(global, Path::new("."))?;
        let (pipeline, diagnostics) = compile_text("stdin", &text, &registry);
        let faulty = diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
        return pipeline.filter(|_| !faulty).ok_or_else(|| {
            let mut sources = Sources::default();
            sources.insert("stdin".into(), text.into());
            Fault::Invalid { diagnostics, sources, files: 1 }
        });
    }
    match target.rsplit_once('@') {
        Some((name, wanted)) if !PathBuf::from(target).is_file() => stored(global, name, wanted).await,
        _ => load_to_read(global, target),
    }
}

async fn stored(global: &Global, name: &str, wanted: &str) -> Result<Arc<Pipeline>, Fault> {
    let (root, _) = settings(global)?;
    let (_, registry) = catalog(global, Path::new("."))?;
    let store = match &global.sandbox {
        Some(_) => app::open_to_read_rehearsals(&root).await,
        None => app::open_to_read(&root).await,
    };
    let Some(store) = store else {
        return Err(Fault::Usage("there is no store yet: no version was ever run".to_owned()));
    };
    let id = if wanted == "live" {
        let filter = RunFilter { pipeline: Some(name.to_owned()), limit: Some(1), ..RunFilter::default() };
        let run = store.runs(&filter).await?.pop();
        run.ok_or_else(|| Fault::Usage(format!("`{name}` has never run")))?.version
    } else {
        let mut found = store.versions(name, &wanted.to_lowercase()).await?;
        match (found.pop(), found.pop()) {
            (Some(id), None) => id,
            (None, _) => return Err(Fault::Usage(no_version(&store, name, wanted).await?)),
            (Some(_), Some(_)) => {
                return Err(Fault::Usage(format!(
                    "several versions of `{name}` begin with `{wanted}`; give more of it"
                )));
            }
        }
    };
    compiled(&store, &id, &registry).await
}

async fn no_version(store: &Store, name: &str, wanted: &str) -> Result<String, Fault> {
    let known = store.versions(name, "").await?;
    if known.is_empty() {
        return Ok(format!("the store has no version of `{name}`"));
    }
    let known: Vec<_> = known.iter().take(8).map(|id| format!("{:.12}", id.to_string())).collect();
    Ok(format!("the store has no version `{wanted}` of `{name}`; there are {}", known.join(", ")))
}

async fn compiled(store: &Store, id: &crate::model::VersionId, registry: &Registry) -> Result<Arc<Pipeline>, Fault> {
    let record = store.version(id).await?;
    let record = record.ok_or_else(|| Fault::Usage(format!("the version `{id}` is not in the store")))?;
    let compiled = compile_definition(&record.definition, registry);
    compiled.map_err(|(diagnostics, sources)| Fault::Invalid { diagnostics, sources, files: 1 })
}

fn shown(findings: &[Finding], same: bool, color: bool) -> String {
    if findings.is_empty() {
        let text = if same { "the same version" } else { "nothing of meaning changed" };
        return format!("{text}\n");
    }
    let mut text = String::new();
    for (weight, title, sign, shade) in [
        (Weight::Risk, "look at first", "!", "31"),
        (Weight::Effect, "what it does", "~", "33"),
        (Weight::Other, "the rest", "·", "36"),
    ] {
        let own: Vec<_> = findings.iter().filter(|finding| finding.weight == weight).collect();
        if own.is_empty() {
            continue;
        }
        text.push_str(&format!("{}\n", print::paint("1", title, color)));
        for finding in own {
            let within = finding.step.as_deref().and_then(|step| step.rsplit_once(" > "));
            let within = within.map(|(within, _)| format!("in the child `{within}`: ")).unwrap_or_default();
            let sign = print::paint(shade, sign, color);
            text.push_str(&format!("  {sign} {within}{}\n", print::clean(&finding.text)));
            for line in &finding.details {
                let line = print::clean(line);
                let shade = match line.chars().next() {
                    Some('+') => "32",
                    Some('-') => "31",
                    _ => "0",
                };
                let line = if shade == "0" { line } else { print::paint(shade, &line, color) };
                text.push_str(&format!("      {line}\n"));
            }
        }
    }
    text
}

fn as_value(finding: &Finding) -> Value {
    Value::map([
        ("weight", Value::from(finding.weight.name())),
        ("area", finding.area.name().into()),
        ("step", finding.step.as_deref().map_or(Value::Null, Value::from)),
        ("text", finding.text.as_str().into()),
        ("details", Value::list(finding.details.iter().map(|line| Value::from(line.as_str())).collect())),
    ])
}
