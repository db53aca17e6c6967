//! Prompts: template files that a step names, with what they include.
//!
//! Their text belongs to the version of a pipeline, so a run keeps the prompt that it began with. Paths are literal: that
//! of a step is relative to the pipeline's file, that of an `include` to the prompt's own.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use super::compile::Compiler;
use super::expressions::Place;
use super::files::Files;
use crate::diag::Code;
use crate::diag::Position;
use crate::diag::Span;
use crate::diag::did_you_mean;
use crate::template::Prompt;
use crate::template::SyntaxError;
use crate::template::Template;
use crate::yaml::Tree;

/// How many files a prompt may have.
const MAX_FILES: usize = 64;
/// The longest file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// A file of a prompt.
#[derive(Clone, Debug)]
pub(super) struct PromptFile {
    /// Its path as the user would write it.
    pub(super) shown: Arc<str>,
    pub(super) text: Arc<str>,
}

/// Compiles the prompt that a key of `with:` names.
/// `front` are the settings that it may have as front matter.
pub(super) fn compile(compiler: &mut Compiler<'_>, tree: &Tree, place: &Place<'_>, front: &[&str]) -> Option<Template> {
    let path = tree.as_text()?;
    let (folder, main) = path.rsplit_once('/').map_or(("", path), |(folder, name)| (folder, name));
    let within = |name: &str| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
    let mut files: BTreeMap<String, PromptFile> = BTreeMap::new();
    let mut open = vec![main.to_owned()];
    while let Some(name) = open.pop() {
        if files.contains_key(&name) || files.len() > MAX_FILES {
            continue;
        }
        match (compiler.world.prompt)(&within(&name)) {
            Ok(file) => {
                open.extend(Prompt::includes(&file.text));
                files.insert(name, file);
            }
            Err(message) if name == main => {
                let near = message.split_once("; did you mean");
                let (message, help) = near.map_or((message.as_str(), None), |(message, near)| (message, Some(near)));
                compiler.error(Code::UnknownPrompt, &tree.span, message).help =
                    help.map(|near| format!("did you mean{near}"));
                return None;
            }
            // Told by `Prompt::parse`, where it is included.
            Err(_) => {}
        }
    }
    if files.len() > MAX_FILES {
        let message = format!("the prompt includes more than {MAX_FILES} files");
        compiler.error(Code::TooLarge, &tree.span, message);
        return None;
    }
    let sources = files.iter().map(|(name, file)| (name.clone(), file.text.to_string())).collect();
    let parsed =
        if front.is_empty() { Prompt::parse(main, &sources) } else { Prompt::parse_with_front(main, &sources) };
    match parsed {
        Ok(prompt) => {
            front_matter(compiler, &prompt, files.get(main), front);
            for (name, reference) in prompt.references() {
                if let Some(file) = files.get(name) {
                    compiler.reference(reference, &span(file, &reference.range), place);
                }
            }
            // What an included file reads may be bound where it is included: only the prompt itself is certain.
            if let Some(file) = files.get(main) {
                compiler.infer_prompt(&file.text, place, |range| span(file, &range));
            }
            for name in prompt.files() {
                if let Some(file) = files.get(name) {
                    compiler.prompts.insert(within(name), file.text.clone());
                }
            }
            Some(prompt.into())
        }
        Err((name, error)) => {
            fault(compiler, files.get(&name), tree, &error);
            None
        }
    }
}

fn fault(compiler: &mut Compiler<'_>, file: Option<&PromptFile>, tree: &Tree, error: &SyntaxError) {
    let place = file.map_or_else(|| tree.span.clone(), |file| span(file, &error.range));
    let (message, help) = match error.message.split_once("; did you mean") {
        Some((message, near)) => (message, Some(format!("did you mean{near}"))),
        None => (error.message.as_str(), None),
    };
    let code = match message {
        message if message.starts_with("there is no file") => Code::UnknownPrompt,
        message if message.starts_with("there is no") => Code::UnknownFilter,
        _ => Code::TemplateSyntax,
    };
    compiler.error(code, &place, message).help = help;
}

/// Says so where a prompt's front matter sets what there is not.
fn front_matter(compiler: &mut Compiler<'_>, prompt: &Prompt, file: Option<&PromptFile>, known: &[&str]) {
    let (Some(settings), Some(file)) = (prompt.front().as_map(), file) else { return };
    for key in settings.keys().filter(|key| !known.contains(&&***key)) {
        let start = file.text.find(&format!("\n{key}:")).map_or(0, |start| start + 1);
        let place = span(file, &(start..start + key.len()));
        compiler.unknown(Code::UnknownKey, &place, "a prompt has no setting {}", key, known.iter().copied());
    }
}

/// Returns the place of some bytes of a file.
fn span(file: &PromptFile, range: &Range<usize>) -> Span {
    let position = |offset: usize| {
        let before = file.text.split_at(file.text.floor_char_boundary(offset)).0;
        let line = before.rsplit_once('\n').map_or(before, |(_, line)| line);
        let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        let lines = before.bytes().filter(|byte| *byte == b'\n').count();
        Position { line: count(lines + 1), column: count(line.chars().count() + 1), offset: before.len() }
    };
    Span { file: file.shown.clone(), start: position(range.start), end: position(range.end.max(range.start)) }
}

/// Reads a file of a prompt from the project.
///
/// # Errors
/// There is none, it lies outside the project, or it is no text.
pub(super) fn read(files: &Files, root: &Path, folder: &Path, name: &str) -> Result<(PathBuf, String), String> {
    let path = folder.join(name);
    let there = match files {
        Files::Disk => path.exists(),
        Files::Kept(_) => files.is_file(&path),
    };
    if !there {
        let near = path.parent().and_then(|folder| near(files, folder, name)).unwrap_or_default();
        return Err(format!("there is no file `{name}`{near}"));
    }
    // A pipeline may itself lie elsewhere, when it is run by its path.
    if !files.is_within(&path, root) && !files.is_within(&path, folder) {
        return Err(format!("`{name}` lies outside the project"));
    }
    let too_long = || format!("`{name}` is longer than a megabyte");
    if let Files::Disk = files {
        let length = path.metadata().map_err(|error| format!("`{name}` cannot be read: {error}"))?.len();
        if length > MAX_BYTES {
            return Err(too_long());
        }
    }
    let bytes = match files.read(&path) {
        Some(Ok(bytes)) if bytes.len() as u64 > MAX_BYTES => return Err(too_long()),
        Some(Ok(bytes)) => bytes,
        Some(Err(why)) => return Err(format!("`{name}` cannot be read: {why}")),
        None => return Err(format!("there is no file `{name}`")),
    };
    let text = std::str::from_utf8(&bytes).map_err(|_| format!("`{name}` is not UTF-8 text"))?.to_owned();
    Ok((path, text))
}

/// Says which file of the folder has a name like it.
fn near(files: &Files, folder: &Path, name: &str) -> Option<String> {
    let (parent, file) = name.rsplit_once('/').map_or((None, name), |(parent, file)| (Some(parent), file));
    let names = files.names(folder);
    let found = did_you_mean(file, names.iter().map(String::as_str))?;
    let found = parent.map_or_else(|| found.to_owned(), |parent| format!("{parent}/{found}"));
    Some(format!("; did you mean `{found}`?"))
}
