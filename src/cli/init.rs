//! `pipewright init`.

use std::path::Path;
use std::path::PathBuf;

use clap::Args;

use super::Exit;
use super::print;
use crate::app::Fault;
use crate::app::MASTER_KEY;
use crate::secrets::create_master_key_file;

/// Makes a project that runs at once; files that are there stay as they are.
#[derive(Debug, Args)]
pub(super) struct Init {
    /// The folder; by default the current one.
    #[arg(default_value = ".")]
    folder: PathBuf,
}

const PROJECT: &str = r"# The project: where runs are kept, what is connected, what is allowed. All keys are optional.
store: sqlite://.pipewright/state.db
";

const HELLO: &str = r#"# The first pipeline. Run it:   pipewright run hello -i name=Ada
name: hello
description: Greets somebody and counts the letters of the name.

inputs:
  name: { type: string, default: World }

steps:
  letters:
    uses: data.map
    with:
      items: "{{ inputs.name | list }}"
      to: "{{ item | upper }}"

  greeting:                     # depends on `letters` because it refers to it
    uses: template.render
    with:
      text: "Hello {{ inputs.name }}, your name has {{ steps.letters.output | length }} letters."

outputs:
  greeting: "{{ steps.greeting.output.text }}"
  spelled: "{{ steps.letters.output | join(' ') }}"
"#;

impl Init {
    pub(super) fn execute(self) -> Result<Exit, Fault> {
        let folder = &self.folder;
        std::fs::create_dir_all(folder.join("pipelines"))?;
        put(&folder.join("pipewright.yaml"), PROJECT)?;
        put(&folder.join("pipelines/hello.yaml"), HELLO)?;
        ignore_state(&folder.join(".gitignore"))?;
        let key = folder.join(MASTER_KEY);
        if !key.exists() {
            std::fs::create_dir_all(folder.join(".pipewright"))?;
            create_master_key_file(&key)?;
            print::talk(&format!("made {} (keep a copy: without it stored secrets cannot be read)", shown(&key)));
        }
        let place = if folder == Path::new(".") { String::new() } else { format!("cd {} && ", folder.display()) };
        print::talk(&format!("\nnow: {place}pipewright run hello -i name=Ada"));
        Ok(Exit::Well)
    }
}

fn put(path: &Path, text: &str) -> Result<(), Fault> {
    if path.exists() {
        print::talk(&format!("{} is there already", shown(path)));
        return Ok(());
    }
    std::fs::write(path, text)?;
    print::talk(&format!("made {}", shown(path)));
    Ok(())
}

/// Keeps the master key and the database out of version control.
fn ignore_state(path: &Path) -> Result<(), Fault> {
    let present = std::fs::read_to_string(path).unwrap_or_default();
    if present.lines().any(|line| matches!(line.trim().trim_matches('/'), ".pipewright")) {
        return Ok(());
    }
    if !path.exists() {
        return put(path, ".pipewright/\n");
    }
    let break_before = if present.is_empty() || present.ends_with('\n') { "" } else { "\n" };
    std::fs::write(path, format!("{present}{break_before}.pipewright/\n"))?;
    print::talk(&format!("added .pipewright/ to {}", shown(path)));
    Ok(())
}

/// Returns a path as the user would write it.
fn shown(path: &Path) -> String {
    path.strip_prefix(".").unwrap_or(path).display().to_string()
}
