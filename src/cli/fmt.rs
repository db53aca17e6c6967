//! `pipewright fmt`.

use std::ffi::OsStr;
use std::io;
use std::io::Read;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use similar::TextDiff;

use super::Exit;
use super::Global;
use super::print;
use super::validate;
use crate::app;
use crate::app::Fault;
use crate::connector::library;
use crate::diag;
use crate::diag::Sources;
use crate::format;
use crate::format::Kind;
use crate::pipeline::MAX_FOLDERS;
use crate::system::System;

/// Brings files into the one layout: two spaces a level, keys in their order, one blank line at most. Comments stay, and
/// so does what the files mean; a file with faults is told and left as it is.
#[derive(Debug, Args)]
pub(super) struct Fmt {
    /// Files or folders, or `-` for what comes by stdin; by default the project's files.
    #[arg(value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Write nothing; list what would change, and exit with 1 where something would.
    #[arg(long)]
    check: bool,
    /// Write nothing; print what would change.
    #[arg(long)]
    diff: bool,
    /// Read from stdin and write to stdout, as `-` does.
    #[arg(long)]
    stdin: bool,
    /// Which file comes by stdin: its name tells how it is formatted.
    #[arg(long, value_name = "FILE")]
    stdin_filename: Option<PathBuf>,
}

/// What became of the files.
#[derive(Default)]
struct Tally {
    changed: usize,
    same: usize,
    diagnostics: Vec<diag::Diagnostic>,
    sources: Sources,
    faulty: usize,
    /// Files that could not be read or written, with why.
    failed: Vec<String>,
}

impl Fmt {
    pub(super) fn execute(self, global: &Global) -> Result<Exit, Fault> {
        let streamed = self.stdin || self.stdin_filename.is_some() || self.paths.iter().any(|path| is_stream(path));
        if streamed {
            if self.paths.iter().any(|path| !is_stream(path)) {
                return Err(Fault::Usage("what comes by stdin is formatted alone: name no other files".to_owned()));
            }
            return self.stream();
        }
        validate::they_exist(&self.paths)?;
        let root = app::find_root(global.project.as_deref(), &validate::folder_of(&self.paths));
        let mut tally = Tally::default();
        for path in self.files(&root) {
            self.one(&path, &mut tally);
        }
        self.told(tally)
    }

    fn files(&self, root: &Path) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let collect_from = |from: PathBuf, files: &mut Vec<PathBuf>| collect(&from, files, 0);
        for path in &self.paths {
            if path.is_dir() { collect_from(path.clone(), &mut files) } else { files.push(path.clone()) }
        }
        if self.paths.is_empty() {
            let root = if root == Path::new("") { Path::new(".") } else { root };
            let own = ["pipelines", "connectors"].map(|name| root.join(name));
            let project = root.join("pipewright.yaml");
            files.extend(project.is_file().then_some(project));
            if own.iter().any(|folder| folder.is_dir()) {
                own.into_iter().for_each(|folder| collect_from(folder, &mut files));
            } else {
                collect_from(root.to_owned(), &mut files);
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        files.retain(|path| seen.insert(path.canonicalize().unwrap_or_else(|_| path.clone())));
        files
    }

    fn one(&self, path: &Path, tally: &mut Tally) {
        let shown = shown(path);
        let bytes = match std::fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => return tally.failed.push(format!("cannot read {shown}: {error}")),
        };
        let text = String::from_utf8_lossy(&bytes);
        let kind = Kind::of(path, &text);
        if kind == Kind::Other && !self.paths.iter().any(|named| named == path) {
            return;
        }
        match formatted(&shown, &bytes, kind) {
            Ok(formatted) if formatted.as_bytes() == bytes => tally.same += 1,
            Ok(formatted) => {
                if self.diff {
                    print::data(&difference(&shown, &text, &formatted));
                } else if self.check {
                    print::line(&shown);
                } else if let Err(error) = replace(path, &bytes, formatted.as_bytes()) {
                    return tally.failed.push(format!("cannot write {shown}: {error}"));
                } else {
                    print::line(&shown);
                }
                tally.changed += 1;
            }
            Err(format::Fault::Invalid(diagnostics)) => {
                tally.faulty += 1;
                tally.sources.insert(shown.as_str().into(), text.into());
                tally.diagnostics.extend(diagnostics);
            }
            Err(format::Fault::Changed(what)) => tally.failed.push(ours(&shown, &what)),
        }
    }

    fn told(&self, tally: Tally) -> Result<Exit, Fault> {
        for failed in &tally.failed {
            print::error(failed);
        }
        let counted = |count: usize| if count == 1 { "1 file".to_owned() } else { format!("{count} files") };
        let done = if self.check || self.diff { "would be formatted" } else { "formatted" };
        if tally.changed + tally.same > 0 || tally.diagnostics.is_empty() && tally.failed.is_empty() {
            let as_is = format!("{} as {} should be", tally.same, if tally.same == 1 { "it" } else { "they" });
            print::talk(&format!("{} {done}, {as_is}", counted(tally.changed)));
        }
        if !tally.diagnostics.is_empty() {
            let (diagnostics, sources) = (tally.diagnostics, tally.sources);
            return Err(Fault::Invalid { diagnostics, sources, files: tally.faulty });
        }
        Ok(match () {
            () if !tally.failed.is_empty() => Exit::Wrong,
            () if self.check && tally.changed > 0 => Exit::Failed,
            () => Exit::Well,
        })
    }

    fn stream(&self) -> Result<Exit, Fault> {
        let mut bytes = Vec::new();
        io::stdin().lock().read_to_end(&mut bytes).context("reading stdin")?;
        let text = String::from_utf8_lossy(&bytes);
        let name = self.stdin_filename.clone().unwrap_or_else(|| PathBuf::from("stdin"));
        let shown = shown(&name);
        let formatted = match formatted(&shown, &bytes, Kind::of(&name, &text)) {
            Ok(formatted) => formatted,
            Err(format::Fault::Invalid(diagnostics)) => {
                let mut sources = Sources::default();
                sources.insert(shown.as_str().into(), text.into());
                return Err(Fault::Invalid { diagnostics, sources, files: 1 });
            }
            Err(format::Fault::Changed(what)) => return Err(Fault::Other(anyhow::anyhow!(ours(&shown, &what)))),
        };
        let changed = formatted.as_bytes() != bytes;
        match () {
            () if self.diff && changed => print::data(&difference(&shown, &text, &formatted)),
            () if self.diff || self.check => {}
            () => print::data(&formatted),
        }
        Ok(if self.check && changed { Exit::Failed } else { Exit::Well })
    }
}

fn is_stream(path: &Path) -> bool {
    path == Path::new("-")
}

fn shown(path: &Path) -> String {
    let text = library::shown(path);
    text.strip_prefix("./").unwrap_or(&text).to_owned()
}

fn formatted(shown: &str, bytes: &[u8], kind: Kind) -> Result<String, format::Fault> {
    let file = shown.into();
    match std::str::from_utf8(bytes) {
        Ok(text) => format::format(&file, text, kind),
        Err(_) => Err(format::Fault::Invalid(crate::yaml::parse_bytes(&file, bytes).1)),
    }
}

fn ours(shown: &str, what: &str) -> String {
    format!("{shown} is left as it is: formatted it would not mean the same ({what}); this is a fault of pipewright")
}

fn difference(shown: &str, before: &str, after: &str) -> String {
    let mut text = String::new();
    let diff = TextDiff::from_lines(before, after);
    let unified = diff.unified_diff().header(&format!("{shown} as it is"), &format!("{shown} formatted")).to_string();
    for line in unified.split_inclusive('\n') {
        let code = match line.as_bytes() {
            [b'+', b'+', ..] | [b'-', b'-', ..] => "1",
            [b'+', ..] => "32",
            [b'-', ..] => "31",
            [b'@', ..] => "36",
            _ => "",
        };
        let (bare, ending) = line.strip_suffix('\n').map_or((line, ""), |bare| (bare, "\n"));
        text.push_str(&print::paint(code, bare, !code.is_empty() && print::color_out()));
        text.push_str(ending);
    }
    text
}

/// Lists the YAML files below a folder in order of their paths.
fn collect(folder: &Path, files: &mut Vec<PathBuf>, depth: usize) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    let mut entries: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    entries.sort();
    for entry in entries {
        let hidden = entry.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if entry.is_dir() && !hidden && depth < MAX_FOLDERS {
            collect(&entry, files, depth + 1);
        } else if !hidden
            && entry.is_file()
            && [Some("yaml"), Some("yml")].contains(&entry.extension().and_then(OsStr::to_str))
        {
            files.push(entry);
        }
    }
}

/// Puts a file in the place of another, whole or not at all: whoever watches sees the one or the other. A link stays, and
/// so do the permissions of what it leads to.
fn replace(path: &Path, before: &[u8], bytes: &[u8]) -> io::Result<()> {
    let real = path.canonicalize()?;
    let (Some(folder), Some(name)) = (real.parent(), real.file_name()) else {
        return Err(io::Error::other("it is not the path of a file"));
    };
    let unique = System::real().random.bits();
    let beside = folder.join(format!(".{}.{unique:032x}.part", name.to_string_lossy()));
    let written = put(&beside, &real, before, bytes);
    if written.is_err() {
        // The first fault is what counts; a left-over part is only untidy.
        let _ = std::fs::remove_file(&beside);
    }
    written
}

fn put(beside: &Path, real: &Path, before: &[u8], bytes: &[u8]) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).open(beside)?;
    file.write_all(bytes)?;
    file.set_permissions(std::fs::metadata(real)?.permissions())?;
    file.sync_all()?;
    if std::fs::read(real)? != before {
        return Err(io::Error::other("it was edited meanwhile; format it again"));
    }
    std::fs::rename(beside, real)
}
