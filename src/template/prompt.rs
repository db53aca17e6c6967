//! Prompts: a file and those that it includes, with the same operators and filters as expressions.

use std::collections::BTreeMap;

use minijinja::Environment;
use minijinja::machinery;
use minijinja::machinery::ast::Stmt;

use super::EvalError;
use super::Reference;
use super::Scope;
use super::SyntaxError;
use super::compile::check_calls;
use super::compile::finish;
use super::compile::message_of;
use super::compile::render;
use super::compile::rewritten;
use super::compile::syntax;
use super::environment::Root;
use super::environment::shared;
use super::front;
use super::guards::Path;
use super::limits;
use super::rewrite::Around;
use super::rewrite::Include;
use super::rewrite::Rewriter;
use super::value::watch;
use crate::diag::did_you_mean;
use crate::model::Value;

/// How deep files may include one another.
const MAX_INCLUDES: usize = 8;

/// A compiled prompt.
#[derive(Debug)]
pub struct Prompt {
    environment: Environment<'static>,
    main: String,
    files: Vec<String>,
    references: Vec<(String, Reference)>,
    /// The settings before its text; null where they are not read.
    front: Value,
    /// How many lines they take.
    front_lines: usize,
    fingerprint: String,
}

impl Prompt {
    /// Compiles a file and its includes; `files` holds them, and others perhaps, by the names that `include` uses.
    ///
    /// # Errors
    /// The file and what is wrong in it; an include that is not among the files, or that leads back to its own file.
    pub fn parse(main: &str, files: &BTreeMap<String, String>) -> Result<Self, (String, SyntaxError)> {
        let Some(source) = files.get(main) else {
            let message = missing(main, files);
            return Err((main.to_owned(), SyntaxError { message, range: 0..0 }));
        };
        Self::parse_text(main, source, files)
    }

    /// Compiles a file whose settings stand before its text, as front matter.
    ///
    /// # Errors
    /// As `parse`, and a front matter that is none.
    pub fn parse_with_front(main: &str, files: &BTreeMap<String, String>) -> Result<Self, (String, SyntaxError)> {
        let source = files.get(main).map(String::as_str).unwrap_or_default();
        let (front, body, front_lines) = front::split(source).map_err(|error| (main.to_owned(), error))?;
        if front_lines == 0 {
            return Self::parse(main, files);
        }
        let mut below = files.clone();
        below.insert(main.to_owned(), body.clone().into_owned());
        let prompt = Self::parse_text(main, source, &below)?;
        Ok(Self { front, front_lines, ..prompt })
    }

    fn parse_text(main: &str, source: &str, files: &BTreeMap<String, String>) -> Result<Self, (String, SyntaxError)> {
        let mut loading = Loading {
            sources: files,
            environment: shared().clone(),
            open: Vec::new(),
            done: BTreeMap::new(),
            finished: Vec::new(),
            includes: Vec::new(),
            references: Vec::new(),
        };
        loading.file(main)?;
        let references = loading.references_from_outside();
        let (environment, done) = (loading.environment, loading.done);
        let files: Vec<String> = done.into_keys().collect();
        let included = files.iter().filter(|name| *name != main).filter_map(|name| loading.sources.get_key_value(name));
        let fingerprint = fingerprint(source, included);
        let (front, front_lines) = (Value::Null, 0);
        Ok(Self { environment, main: main.to_owned(), files, references, front, front_lines, fingerprint })
    }

    /// Returns the settings before its text; null where there are none, or they are not read.
    #[must_use]
    pub fn front(&self) -> &Value {
        &self.front
    }

    /// Returns a hash over the file and all that it includes: the version of the prompt.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Returns the name of the file itself.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.main
    }

    /// Lists the files that a text includes; none where it is no template, which `parse` tells.
    #[must_use]
    pub fn includes(source: &str) -> Vec<String> {
        let compiled = compile("", source).map(|(_, _, includes)| includes);
        compiled.unwrap_or_default().into_iter().map(|include| include.name).collect()
    }

    /// Returns the names of the file and of all that it includes, sorted: what a version of the prompt rests on.
    #[must_use]
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// Returns the names that the file and its includes read, each with the file in which it stands.
    #[must_use]
    pub fn references(&self) -> &[(String, Reference)] {
        &self.references
    }

    /// Renders it.
    ///
    /// # Errors
    /// Why there is no text, and in which file.
    pub fn render(&self, scope: &Scope) -> Result<Value, EvalError> {
        let root = minijinja::Value::from_object(Root(scope.clone()));
        let (result, touched) =
            watch(|| render(&self.environment, &self.main, root).map_err(|error| self.explain(&error, scope)));
        // The lines of the settings were kept for the places of faults only.
        let text = result.map(|text| match self.front_lines {
            0 => text,
            lines => text.get(lines..).unwrap_or_default().to_owned(),
        });
        finish(text.map(Value::from), touched)
    }

    /// Says why there is no text: of undefined names which one.
    fn explain(&self, error: &minijinja::Error, scope: &Scope) -> EvalError {
        // minijinja wraps what went wrong in an included file once a level.
        let mut innermost = error;
        while let Some(inner) = std::error::Error::source(innermost).and_then(|it| it.downcast_ref()) {
            innermost = inner;
        }
        let file = innermost.name().unwrap_or(&self.main);
        let mut message = message_of(innermost);
        if innermost.kind() == minijinja::ErrorKind::UndefinedError {
            let here = self.references.iter().filter(|(name, reference)| name == file && !reference.optional);
            let missing = here.filter_map(|(_, reference)| super::compile::follow(&reference.path, scope).err()).next();
            message = missing.map_or_else(|| "something is undefined".to_owned(), |missing| missing.message);
        }
        EvalError { message: format!("{message} in `{file}`") }
    }
}

/// The files as they are compiled, each once, from the main file on.
struct Loading<'f> {
    sources: &'f BTreeMap<String, String>,
    environment: Environment<'static>,
    /// The files that are being compiled, outermost first.
    open: Vec<String>,
    /// The files that are compiled, each with how many levels of includes are in it.
    done: BTreeMap<String, usize>,
    /// The same files, each behind those that it includes.
    finished: Vec<String>,
    /// Each include with the file in which it stands.
    includes: Vec<(String, Include)>,
    references: Vec<(String, Reference)>,
}

impl Loading<'_> {
    /// Compiles a file, and returns how deep its includes go.
    fn file(&mut self, name: &str) -> Result<usize, (String, SyntaxError)> {
        if let Some(levels) = self.done.get(name) {
            return Ok(*levels);
        }
        let Some(source) = self.sources.get(name) else { return Ok(0) };
        let (text, references, includes) = compile(name, source).map_err(|error| (name.to_owned(), error))?;
        self.references.extend(references.into_iter().map(|reference| (name.to_owned(), reference)));
        self.open.push(name.to_owned());
        let mut levels = 0;
        for include in includes {
            levels = levels.max(1 + self.include(name, &include)?);
            self.includes.push((name.to_owned(), include));
        }
        self.open.pop();
        let added = self.environment.add_template_owned(name.to_owned(), text);
        added.map_err(|error| (name.to_owned(), rewritten(source, &error)))?;
        self.done.insert(name.to_owned(), levels);
        self.finished.push(name.to_owned());
        Ok(levels)
    }

    fn include(&mut self, from: &str, include: &Include) -> Result<usize, (String, SyntaxError)> {
        let fault = |message: String| Err((from.to_owned(), SyntaxError { message, range: include.range.clone() }));
        if let Some(start) = self.open.iter().position(|open| *open == include.name) {
            let round: Vec<_> =
                self.open.iter().skip(start).chain([&include.name]).map(|it| format!("`{it}`")).collect();
            return fault(format!("the file includes itself: {}", round.join(" → ")));
        }
        if !self.sources.contains_key(&include.name) {
            return if include.ignore_missing { Ok(0) } else { fault(missing(&include.name, self.sources)) };
        }
        let levels = if self.open.len() > MAX_INCLUDES { MAX_INCLUDES } else { self.file(&include.name)? };
        if self.open.len() + levels > MAX_INCLUDES {
            return fault(format!("files include one another more than {MAX_INCLUDES} deep"));
        }
        Ok(levels)
    }
}

impl Loading<'_> {
    /// Takes out the references that a file gets from those that include it, and marks what is there wherever it is
    /// included.
    fn references_from_outside(&mut self) -> Vec<(String, Reference)> {
        let mut known: BTreeMap<&str, Around> = BTreeMap::new();
        for file in self.finished.iter().rev() {
            let around = known.get(file.as_str()).cloned().unwrap_or_default();
            for (_, include) in self.includes.iter().filter(|(from, _)| from == file) {
                let here = joined(&around, &include.around);
                let both = known.get(include.name.as_str()).map_or_else(|| here.clone(), |there| common(there, &here));
                known.insert(&include.name, both);
            }
        }
        let mut references = std::mem::take(&mut self.references);
        references.retain_mut(|(file, reference)| {
            let Some(around) = known.get(file.as_str()) else { return true };
            let path: Vec<String> = reference.path.iter().map(|key| key.to_string()).collect();
            reference.optional |= around.proven.iter().any(|proven| path.starts_with(proven));
            path.first().is_none_or(|root| !around.bound.contains(root))
        });
        references
    }
}

/// What is known in a file and at one place of it.
fn joined(file: &Around, place: &Around) -> Around {
    let bound = file.bound.union(&place.bound).cloned().collect();
    Around { bound, proven: [file.proven.as_slice(), &place.proven].concat() }
}

/// What is known at both of two places.
fn common(left: &Around, right: &Around) -> Around {
    let covered = |path: &Path, by: &Around| by.proven.iter().any(|proven| path.starts_with(proven));
    let mut proven: Vec<_> = left.proven.iter().filter(|path| covered(path, right)).cloned().collect();
    proven.extend(right.proven.iter().filter(|path| covered(path, left)).cloned());
    Around { bound: left.bound.intersection(&right.bound).cloned().collect(), proven }
}

fn compile(name: &str, source: &str) -> Result<(String, Vec<Reference>, Vec<Include>), SyntaxError> {
    // The end of the last line ends the file, not the text: an included file would break the line it stands in.
    let source = source.strip_suffix('\n').unwrap_or(source);
    limits::check(source)?;
    let tree = machinery::parse(source, name, super::environment::syntax()).map_err(|error| syntax(source, &error))?;
    let mut rewriter = Rewriter::new(source);
    let mut text = String::new();
    if let Stmt::Template(template) = &tree {
        rewriter.stmts(&template.children, &mut text)?;
    }
    check_calls(&rewriter)?;
    Ok((text, rewriter.references, rewriter.includes))
}

/// Returns a hash over texts, the file's own first.
fn fingerprint<'f>(source: &str, included: impl Iterator<Item = (&'f String, &'f String)>) -> String {
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    context.update(source.as_bytes());
    for (name, text) in included {
        for part in [name, text] {
            // A length before each, so that no two sets of files run together into one.
            context.update(&part.len().to_le_bytes());
            context.update(part.as_bytes());
        }
    }
    context.finish().as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn missing(name: &str, files: &BTreeMap<String, String>) -> String {
    let near = did_you_mean(name, files.keys().map(String::as_str));
    let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    format!("there is no file `{name}`{near}")
}
