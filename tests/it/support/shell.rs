//! Runs the binary in a project of its own.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use tempfile::TempDir;

/// A project of its own for each test.
pub(crate) struct Shell {
    pub(crate) folder: TempDir,
}

impl Shell {
    /// Makes an empty folder.
    pub(crate) fn empty() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// Makes a project as `init` does.
    pub(crate) fn project() -> Self {
        let shell = Self::empty();
        assert_eq!(shell.run(&["init"]).code, 0);
        shell
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn file(&self, path: &str, text: &str) -> &Self {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipewright"));
        command.args(arguments).current_dir(self.path()).stdin(Stdio::null());
        for name in ["PIPEWRIGHT_LOG", "PIPEWRIGHT_MASTER_KEY", "NO_COLOR", "COMPLETE", "COLUMNS"] {
            command.env_remove(name);
        }
        command.env("PIPEWRIGHT_AS", "ada");
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ended {
        let output = self.command(arguments).output().unwrap();
        Ended {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Returns the id of the newest run.
    pub(crate) fn last(&self) -> String {
        let listed = self.run(&["runs", "list", "--limit", "1", "--json"]).out;
        let (_, rest) = listed.split_once("\"run\":\"").unwrap();
        rest.split('"').next().unwrap().to_owned()
    }
}

/// What a command came to.
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ended {
    /// Shows all of it, without what differs from run to run.
    pub(crate) fn shown(&self) -> String {
        format!("exit {}\n--- stdout\n{}--- stderr\n{}", self.code, self.out, self.err)
    }
}
