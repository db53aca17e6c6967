//! `shell.run`: runs a program of this machine.

use std::process::ExitStatus;
use std::process::Stdio;

use async_trait::async_trait;
use indexmap::IndexMap;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::process::Child;
use tokio::process::Command;

use super::files::locate;
use crate::model::Duration;
use crate::model::Effect;
use crate::model::ErrorClass;
use crate::model::Settlement;
use crate::model::Value;
use crate::model::WriteKind;
use crate::node::NodeError;
use crate::node::NodeType;
use crate::node::Outcome;
use crate::node::StepContext;

/// Runs a program; off unless the project file says `allow: { shell: true }`.
///
/// There is no shell in between: the arguments are a list and reach the program as they are, so nothing in them can be
/// read as a command. The program starts with no environment but `env`, in a folder of the project, and has no input
/// unless `stdin` is given. It is killed, with all that it started, when its time is up or the step is canceled.
///
/// It counts as a write that creates something, because nobody can know what it does; `effect: read` says that it only
/// looks.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ShellRun {
    /// The program: a path, or a name that is looked for in the `PATH` of `env`, else in the system's usual places.
    program: String,
    /// Its arguments.
    #[serde(default)]
    args: Vec<Value>,
    /// Its environment, whole.
    #[serde(default)]
    env: IndexMap<String, Value>,
    /// The folder in which it runs, within the project.
    #[serde(default = "here")]
    cwd: String,
    /// What it reads from its standard input.
    #[serde(default)]
    stdin: Option<String>,
    /// The exit codes that mean success.
    #[serde(default = "zero")]
    expect: Vec<i32>,
    /// `read` where the program changes nothing, else `create`; literal.
    #[serde(default)]
    #[expect(dead_code, reason = "is read from the literal `with:`")]
    effect: Looks,
    /// How long it may take.
    #[serde(default = "one_minute")]
    timeout: Duration,
    /// How much it may write to standard output and to standard error, in bytes each; more is an error.
    #[serde(default = "one_mebibyte")]
    max_output: u64,
}

/// Whether a program changes anything.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Looks {
    #[default]
    Create,
    Read,
}

/// What a program left.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "describes the output")]
pub(super) struct Finished {
    /// The exit code.
    code: i32,
    stdout: String,
    stderr: String,
}

fn here() -> String {
    ".".to_owned()
}

fn zero() -> Vec<i32> {
    vec![0]
}

fn one_minute() -> Duration {
    Duration::from_secs(60)
}

fn one_mebibyte() -> u64 {
    1024 * 1024
}

#[async_trait]
impl NodeType for ShellRun {
    const NAME: &'static str = "shell.run";
    const EXAMPLE: &'static str = "program: echo\nargs: [\"$HOME is not expanded\"]\neffect: read\n";
    const LITERALS: &'static [&'static str] = &["effect"];
    type Output = Finished;

    fn effect(with: &Value) -> Effect {
        match with.get("effect").and_then(Value::as_str) {
            Some("read") => Effect::Read,
            _ => Effect::Write(WriteKind::Create),
        }
    }

    fn settlement(&self) -> Settlement {
        Settlement { timeout: self.timeout, ..Settlement::default() }
    }

    async fn run(self, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let mut child = self.start(ctx)?;
        let group = Group::of(&child);
        let due = ctx.system.clock.now().plus(self.timeout);
        let due = ctx.deadline.map_or(due, |deadline| deadline.min(due));
        let ended = tokio::select! {
            ended = self.talk(&mut child) => ended,
            () = ctx.system.clock.sleep_until(due) => {
                Err(NodeError::message(ErrorClass::Timeout, format!("`{}` was killed: its time was up", self.program)))
            }
            () = ctx.canceled.cancelled() => Err(NodeError::message(ErrorClass::Canceled, "canceled")),
        };
        // Also after a good end: what the program left running in the background must not outlive the step.
        drop(group);
        let ended = ended.and_then(|ended| self.output(&ended));
        ended.map(Outcome::Done).map_err(|error| if ctx.declared.is_write() { error.perhaps() } else { error })
    }
}

/// The end of a program.
struct Ended {
    status: ExitStatus,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl ShellRun {
    /// Starts the program. What fails here has changed nothing.
    fn start(&self, ctx: &StepContext<'_>) -> Result<Child, NodeError> {
        if ctx.access.rehearsal {
            let message = "`shell.run` does not run in the sandbox: a program could reach the real world";
            return Err(NodeError::message(ErrorClass::Rejected, message));
        }
        if !ctx.access.shell {
            let message = "`shell.run` is off: the project file can allow it by `allow: { shell: true }`";
            return Err(NodeError::message(ErrorClass::Rejected, message));
        }
        let cwd = if self.cwd == "." { ctx.access.root.clone() } else { locate(ctx.access, &self.cwd)? };
        let mut command = Command::new(&self.program);
        command
            .args(self.args.iter().map(Value::to_text))
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value.to_text())))
            .current_dir(cwd)
            .stdin(if self.stdin.is_some() { Stdio::piped() } else { Stdio::null() })
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        #[cfg(unix)]
        command.process_group(0);
        command
            .spawn()
            .map_err(|error| NodeError::new(ErrorClass::Invalid, error).at(format!("cannot start `{}`", self.program)))
    }

    /// Feeds the program, listens to it, and waits for its end; all at once, or a full pipe would stop it.
    async fn talk(&self, child: &mut Child) -> Result<Ended, NodeError> {
        let stdin = child.stdin.take();
        let text = self.stdin.as_deref().unwrap_or_default().as_bytes();
        let feed = async {
            if let Some(mut stdin) = stdin {
                // A program need not read all of its input.
                let _ = stdin.write_all(text).await;
            }
            Ok::<(), NodeError>(())
        };
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let listen = self.listen(stdout, "standard output");
        let listen_too = self.listen(stderr, "standard error");
        let ((), stdout, stderr) = tokio::try_join!(feed, listen, listen_too)?;
        let status = child.wait().await.map_err(|error| NodeError::new(ErrorClass::Unavailable, error))?;
        Ok(Ended { status, stdout, stderr })
    }

    async fn listen(&self, pipe: Option<impl AsyncRead + Unpin>, name: &str) -> Result<Vec<u8>, NodeError> {
        let mut bytes = Vec::new();
        let Some(pipe) = pipe else { return Ok(bytes) };
        let read = pipe.take(self.max_output.saturating_add(1)).read_to_end(&mut bytes).await;
        read.map_err(|error| NodeError::new(ErrorClass::Unavailable, error))?;
        if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > self.max_output {
            let limit = self.max_output;
            let message = format!("`{}` wrote more than {limit} bytes to {name} (`max_output`)", self.program);
            return Err(NodeError::message(ErrorClass::Exhausted, message));
        }
        Ok(bytes)
    }

    fn output(&self, ended: &Ended) -> Result<Value, NodeError> {
        let stderr = String::from_utf8_lossy(&ended.stderr).into_owned();
        let Some(code) = ended.status.code() else {
            return Err(NodeError::message(ErrorClass::Unavailable, format!("`{}`: {}", self.program, ended.status)));
        };
        if !self.expect.contains(&code) {
            let last = stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
            let last: String = last.chars().take(200).collect();
            let said = if last.is_empty() { String::new() } else { format!(": {last}") };
            return Err(NodeError::invalid(format!("`{}` ended with code {code}{said}", self.program)));
        }
        let stdout = String::from_utf8_lossy(&ended.stdout).into_owned();
        Ok(Value::map([("code", Value::from(code)), ("stdout", stdout.into()), ("stderr", stderr.into())]))
    }
}

/// The program and all that it started; killed when this is dropped, which a canceled step does.
struct Group {
    #[cfg(unix)]
    id: Option<rustix::process::Pid>,
}

impl Group {
    #[cfg(unix)]
    fn of(child: &Child) -> Self {
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
        Self { id }
    }

    #[cfg(not(unix))]
    fn of(_child: &Child) -> Self {
        Self {}
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        #[cfg(unix)]
        if let Some(id) = self.id {
            // Usually there is nobody left, and then this fails.
            let _ = rustix::process::kill_process_group(id, rustix::process::Signal::KILL);
        }
    }
}
