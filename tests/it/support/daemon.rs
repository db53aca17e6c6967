//! A daemon as a process, and what it says.

use std::io::BufRead;
use std::io::BufReader;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;

use pipewright::model::parse_json;
use rustix::process::Pid;

use super::clients;
use super::shell::Shell;

/// A daemon that runs as long as the test.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) address: String,
    said: Arc<Mutex<Vec<String>>>,
}

impl Daemon {
    pub(crate) fn start(shell: &Shell) -> Self {
        Self::spawn(shell.command(&["daemon", "--listen", "127.0.0.1:0", "--drain-timeout", "5s"]))
    }

    /// Starts one in the sandbox.
    pub(crate) fn start_rehearsing(shell: &Shell) -> Self {
        Self::spawn(shell.command(&["--sandbox", "daemon", "--listen", "127.0.0.1:0", "--drain-timeout", "5s"]))
    }

    /// Starts one for which a file that may not grow is an error, and not its end.
    pub(crate) fn start_hardened(shell: &Shell) -> Self {
        let mut command = shell.command(&[]);
        let program = command.get_program().to_owned();
        let folder = shell.path().to_owned();
        command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$0\" daemon --listen 127.0.0.1:0 --drain-timeout 5s"]).arg(program);
        command.current_dir(folder).stdin(Stdio::null());
        Self::spawn(command)
    }

    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let address = loop {
            let line = lines.next().unwrap_or_else(|| panic!("the daemon ended: {:#?}", said.lock().unwrap())).unwrap();
            said.lock().unwrap().push(line.clone());
            if let Some(fields) = parse_json(&line).ok().and_then(|line| line.get("fields").cloned())
                && let Some(address) = fields.get("address")
            {
                break address.to_text();
            }
        };
        let kept = said.clone();
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                kept.lock().unwrap().push(line);
            }
        });
        Self { child, address, said }
    }

    pub(crate) fn get(&self, path: &str) -> String {
        clients::get(&format!("http://{}{path}", self.address))
    }

    /// Returns its log so far.
    pub(crate) fn said(&self) -> String {
        self.said.lock().unwrap().join("\n")
    }

    pub(crate) fn id(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap()
    }

    pub(crate) fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Kills it at once; returns its log.
    pub(crate) fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.said()
    }

    pub(crate) fn end(mut self) -> i32 {
        rustix::process::kill_process(self.id(), rustix::process::Signal::TERM).unwrap();
        self.child.wait().unwrap().code().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
