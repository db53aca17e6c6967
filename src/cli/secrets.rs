//! `pipewright secrets`.

use std::io::IsTerminal;
use std::io::Read;

use clap::Subcommand;

use super::Exit;
use super::Global;
use super::print;
use super::validate::open_project;
use crate::app;
use crate::app::App;
use crate::app::Fault;
use crate::store::Sealer;

/// The longest secret that is read, in bytes: a private key with its chain of certificates is far shorter.
const LONGEST: u64 = 64 * 1024;

/// What can be done with the secrets in the store.
#[derive(Debug, Subcommand)]
pub(super) enum Secrets {
    /// List the names of the secrets in the store.
    List,
    /// Keep a secret in the store, sealed; it is read from stdin, so that no history keeps it.
    Set {
        /// The name under which expressions read it: `secrets.NAME`.
        name: String,
    },
    /// Take a secret out of the store.
    Delete {
        /// The secret's name.
        name: String,
    },
}

impl Secrets {
    pub(super) async fn execute(self, global: &Global) -> Result<Exit, Fault> {
        let app = open_project(global).await?;
        let store = &app.engine.parts().store;
        match self {
            Self::List => {
                let names = store.secret_names().await?;
                if names.is_empty() {
                    print::talk("the store holds no secrets");
                }
                for name in names {
                    print::line(&name);
                }
            }
            Self::Set { name } => set(&app, &name).await?,
            Self::Delete { name } => {
                if !store.delete_secret(&name).await? {
                    return Err(Fault::Usage(format!("the store holds no secret `{name}`")));
                }
                print::talk(&format!("deleted {name}"));
            }
        }
        Ok(Exit::Well)
    }
}

async fn set(app: &App, name: &str) -> Result<(), Fault> {
    let is_name = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
    if !is_name {
        return Err(Fault::Usage(format!("`{name}` cannot name a secret: use letters, digits and `_`")));
    }
    let Some(key) = app::master_key(&app.root)? else {
        return Err(Fault::Usage("there is no master key to seal it with: `pipewright init` makes one".to_owned()));
    };
    let secret = read_secret(name)?;
    app.engine.parts().store.put_secret(name, &key.seal(&secret)?).await?;
    print::talk(&format!("sealed {name}"));
    Ok(())
}

fn read_secret(name: &str) -> Result<String, Fault> {
    let input = std::io::stdin();
    if input.is_terminal() {
        print::talk(&format!("type or paste {name}, then Ctrl-D on a line of its own"));
    }
    let mut bytes = Vec::new();
    input.lock().take(LONGEST + 1).read_to_end(&mut bytes)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > LONGEST {
        return Err(Fault::Usage(format!("a secret has at most {LONGEST} bytes")));
    }
    let text = String::from_utf8(bytes).map_err(|_| Fault::Usage("a secret is UTF-8 text".to_owned()))?;
    // What `echo` and a terminal put at the end is not part of it.
    let text = text.strip_suffix('\n').map_or(text.as_str(), |text| text.strip_suffix('\r').unwrap_or(text));
    if text.is_empty() {
        return Err(Fault::Usage("nothing was read: give the secret on stdin".to_owned()));
    }
    Ok(text.to_owned())
}
