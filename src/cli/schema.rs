//! `pipewright schema`.

use std::path::Path;

use clap::Args;

use super::Exit;
use super::Global;
use super::print;
use crate::app;
use crate::app::Fault;
use crate::pipeline::FileKind;
use crate::pipeline::schema;

/// Prints the JSON Schema of a kind of file, for editors.
#[derive(Debug, Args)]
pub(super) struct Schema {
    /// pipeline, project, connector or test.
    #[arg(value_parser = kind, required_unless_present = "write")]
    kind: Option<FileKind>,
    /// Write the schemas of all kinds into the project's folder `schemas`.
    #[arg(long, conflicts_with = "kind")]
    write: bool,
}

fn kind(text: &str) -> Result<FileKind, String> {
    FileKind::by_name(text).ok_or_else(|| "expected pipeline, project, connector or test".to_owned())
}

impl Schema {
    pub(super) fn execute(self, global: &Global) -> Result<Exit, Fault> {
        if let Some(kind) = self.kind {
            print::data(&text(kind));
            return Ok(Exit::Well);
        }
        let folder = app::find_root(global.project.as_deref(), Path::new(".")).join("schemas");
        std::fs::create_dir_all(&folder)?;
        for kind in FileKind::ALL {
            let path = folder.join(format!("{}.schema.json", kind.name()));
            std::fs::write(&path, text(kind))?;
            print::talk(&format!("wrote {}", path.display()));
        }
        Ok(Exit::Well)
    }
}

fn text(kind: FileKind) -> String {
    format!("{:#}\n", schema(kind, &crate::nodes::registry()))
}
