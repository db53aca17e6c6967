//! Where secrets come from.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use super::Mask;
use crate::model::Value;
use crate::store::Error;
use crate::store::Store;
use crate::template::Lookup;
use crate::template::StepView;

/// One place of secrets; the project file states their order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// Environment variables.
    Environment,
    /// Lines of `NAME=value`; a file that does not exist holds none.
    EnvFile(PathBuf),
    /// A folder with a file for each secret, as orchestrators mount it.
    Directory(PathBuf),
    /// The store's own table, sealed.
    Store,
    /// None of the real ones: each secret is a text that says its name, for the sandbox.
    Sandbox,
    /// These, by name.
    Given(BTreeMap<String, String>),
}

/// Finds secrets by name. The first source that has the name wins. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Secrets {
    sources: Arc<Vec<Loaded>>,
    mask: Mask,
}

/// Why there is no such secret. Holds no part of a secret.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SecretError {
    #[error("there is no secret `{name}` in {places}")]
    Missing { name: String, places: String },
    #[error("cannot read the secret `{name}` from {place}: {reason}")]
    Unreadable { name: String, place: String, reason: String },
    #[error("cannot read secrets from `{path}`: {reason}")]
    File { path: PathBuf, reason: String },
    #[error("cannot read secrets from the store")]
    Store(#[source] Error),
}

/// A source with what has been read of it.
enum Loaded {
    Environment,
    EnvFile(PathBuf, HashMap<String, String>),
    Directory(PathBuf),
    Store(Store, HashMap<String, String>),
    Sandbox,
    Given(BTreeMap<String, String>),
}

impl Secrets {
    /// Reads env files and the store's table once; single variables and files are read when they are asked for.
    pub async fn load(sources: &[Source], store: Option<&Store>) -> Result<Self, SecretError> {
        let mut loaded = Vec::with_capacity(sources.len());
        for source in sources {
            match (source, store) {
                (Source::Environment, _) => loaded.push(Loaded::Environment),
                (Source::EnvFile(path), _) => loaded.push(Loaded::EnvFile(path.clone(), read_env_file(path)?)),
                (Source::Directory(path), _) => loaded.push(Loaded::Directory(path.clone())),
                (Source::Store, Some(store)) => {
                    let sealed = store.sealed_secrets().await.map_err(SecretError::Store)?;
                    loaded.push(Loaded::Store(store.clone(), sealed.into_iter().collect()));
                }
                (Source::Store, None) => {}
                (Source::Sandbox, _) => loaded.push(Loaded::Sandbox),
                (Source::Given(secrets), _) => loaded.push(Loaded::Given(secrets.clone())),
            }
        }
        Ok(Self { sources: Arc::new(loaded), mask: Mask::default() })
    }

    /// Returns the secret as a `Value::Secret`; the mask knows it from now on.
    pub fn get(&self, name: &str) -> Result<Value, SecretError> {
        for source in self.sources.iter() {
            if let Some(secret) = source.get(name)? {
                self.mask.learn(&secret);
                return Ok(Value::from(secret).tainted());
            }
        }
        let places: Vec<String> = self.sources.iter().map(Loaded::place).collect();
        let places = if places.is_empty() { "any source: none is set up".to_owned() } else { places.join(", ") };
        Err(SecretError::Missing { name: name.to_owned(), places })
    }

    /// Tells whether there is such a secret; for `validate`.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.sources.iter().any(|source| match source {
            Loaded::Store(_, sealed) => sealed.contains_key(name),
            source => matches!(source.get(name), Ok(Some(_))),
        })
    }

    /// Returns the mask that knows every secret that `get` has given.
    #[must_use]
    pub fn mask(&self) -> &Mask {
        &self.mask
    }
}

impl Lookup for Secrets {
    fn step(&self, _: &str) -> Option<StepView> {
        None
    }

    fn secret(&self, name: &str) -> Result<Value, String> {
        self.get(name).map_err(|error| error.to_string())
    }
}

impl Loaded {
    #[expect(clippy::disallowed_methods, reason = "secrets read the environment")]
    fn get(&self, name: &str) -> Result<Option<String>, SecretError> {
        let unreadable =
            |reason: String| SecretError::Unreadable { name: name.to_owned(), place: self.place(), reason };
        match self {
            Self::Environment => match std::env::var(name) {
                Ok(secret) => Ok(Some(secret)),
                Err(std::env::VarError::NotPresent) => Ok(None),
                Err(std::env::VarError::NotUnicode(_)) => Err(unreadable("it is not UTF-8".to_owned())),
            },
            Self::EnvFile(_, secrets) => Ok(secrets.get(name).cloned()),
            Self::Directory(folder) => {
                // The name becomes a path: it must not lead out of the folder.
                if name.starts_with('.') || name.contains(['/', '\\', '\0']) {
                    return Ok(None);
                }
                match fs::read_to_string(folder.join(name)) {
                    Ok(secret) => Ok(Some(without_last_line_end(&secret).to_owned())),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                    Err(error) => Err(unreadable(error.to_string())),
                }
            }
            Self::Store(store, sealed) => match sealed.get(name) {
                Some(sealed) => store.unseal(sealed).map(Some).map_err(|error| unreadable(error.to_string())),
                None => Ok(None),
            },
            Self::Sandbox => Ok(Some(format!("sandbox-{name}"))),
            Self::Given(secrets) => Ok(secrets.get(name).cloned()),
        }
    }

    fn place(&self) -> String {
        match self {
            Self::Environment => "the environment".to_owned(),
            Self::EnvFile(path, _) | Self::Directory(path) => format!("`{}`", path.display()),
            Self::Store(..) => "the store".to_owned(),
            Self::Sandbox => "the sandbox".to_owned(),
            Self::Given(_) => "what is given".to_owned(),
        }
    }
}

/// Shows where secrets are, not which.
impl std::fmt::Debug for Loaded {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.place())
    }
}

fn without_last_line_end(text: &str) -> &str {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.strip_suffix('\r').unwrap_or(text)
}

fn read_env_file(path: &Path) -> Result<HashMap<String, String>, SecretError> {
    let failed = |reason: String| SecretError::File { path: path.to_owned(), reason };
    let text = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(HashMap::new()),
        text => text.map_err(|error| failed(error.to_string()))?,
    };
    parse_env(&text).map_err(|line| failed(format!("line {line} is not `NAME=value`")))
}

/// Reads `NAME=value` lines: `#` begins a comment line, `export` may stand before, quotes may stand around the value;
/// in double quotes `\n`, `\"` and `\\` mean what they do in a shell script. The error is the number of the line.
fn parse_env(text: &str) -> Result<HashMap<String, String>, usize> {
    let mut secrets = HashMap::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or(index + 1)?;
        let (name, value) = (name.trim(), value.trim());
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        if !is_name {
            return Err(index + 1);
        }
        secrets.insert(name.to_owned(), unquoted(value).ok_or(index + 1)?);
    }
    Ok(secrets)
}

fn unquoted(value: &str) -> Option<String> {
    if let Some(rest) = value.strip_prefix('\'') {
        return rest.strip_suffix('\'').map(str::to_owned);
    }
    let Some(rest) = value.strip_prefix('"') else { return Some(value.to_owned()) };
    let rest = rest.strip_suffix('"')?;
    let mut open = String::with_capacity(rest.len());
    let mut characters = rest.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next()? {
                'n' => open.push('\n'),
                't' => open.push('\t'),
                other => open.push(other),
            },
            '"' => return None,
            other => open.push(other),
        }
    }
    Some(open)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::MasterKey;
    use crate::store::OpenOptions;
    use crate::store::Sealer;

    #[test]
    fn an_env_file_is_read_as_a_shell_would() {
        let text =
            "# a comment\n\nexport A=1\nB = two words \nC='it''s # not a comment'\nD=\"x\\n\\\"y\\\"\"\nE=\nF=a=b\n";
        let secrets = parse_env(text).unwrap();
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "it''s # not a comment"),
            ("D", "x\n\"y\""),
            ("E", ""),
            ("F", "a=b"),
        ];
        for (name, value) in expected {
            assert_eq!(secrets.get(name).map(String::as_str), Some(value), "{name}");
        }
    }

    #[test]
    fn a_broken_line_is_named_and_not_shown() {
        for (text, line) in [("A=1\nsecret", 2), ("=x", 1), ("A B=x", 1), ("A='x", 1), ("A=\"x", 1), ("A=\"x\"y\"", 1)]
        {
            assert_eq!(parse_env(text), Err(line), "{text}");
        }
    }

    #[tokio::test]
    async fn the_first_source_that_has_the_name_wins() {
        let folder = tempfile::tempdir().unwrap();
        let (file, mounted) = (folder.path().join(".env"), folder.path().join("mounted"));
        fs::write(&file, "ONE=from the file\n").unwrap();
        fs::create_dir(&mounted).unwrap();
        fs::write(mounted.join("ONE"), "from the folder\n").unwrap();
        fs::write(mounted.join("TWO"), "two of the folder\n").unwrap();
        let key = MasterKey::from_base64("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=").unwrap();
        let sealed = key.seal("three of the store").unwrap();
        let options = OpenOptions { sealer: Some(Arc::new(key)), ..OpenOptions::default() };
        let store = Store::open("sqlite::memory:", options).await.unwrap();
        store.put_secret("THREE", &sealed).await.unwrap();
        store.put_secret("BROKEN", "nonsense").await.unwrap();
        let absent = Source::EnvFile(folder.path().join("absent"));
        let sources = [absent, Source::EnvFile(file), Source::Directory(mounted), Source::Store, Source::Environment];
        let secrets = Secrets::load(&sources, Some(&store)).await.unwrap();
        let got = |name: &str| secrets.get(name).map(|value| value.revealed());
        assert_eq!(got("ONE").unwrap(), Value::from("from the file"));
        assert_eq!(got("TWO").unwrap(), Value::from("two of the folder"));
        assert_eq!(got("THREE").unwrap(), Value::from("three of the store"));
        assert!(got("PATH").is_ok());
        assert!(secrets.get("ONE").unwrap().is_tainted());
        assert!(secrets.has("THREE") && !secrets.has("FOUR"));
        assert_eq!(secrets.mask().hide("say three of the store"), "say ***");
        assert!(matches!(got("BROKEN"), Err(SecretError::Unreadable { .. })));
        assert!(matches!(got("../.env"), Err(SecretError::Missing { .. })));
        assert!(matches!(got("FOUR"), Err(SecretError::Missing { .. })));
    }
}
