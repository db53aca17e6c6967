//! `pipewright watch`, as an author sees it.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Read;
use std::process::Child;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use crate::support::shell::Shell;

const PATIENCE: Duration = Duration::from_secs(60);

const GOOD: &str = "steps:\n  say: { uses: template.render, with: { text: TEXT } }\noutputs: { said: \"{{ steps.say.output.text }}\" }\n";
const BROKEN: &str = "steps:\n  say: { uses: template.rendr, with: { text: x } }\n";

/// A `watch` that goes on, and what it prints.
struct Watching {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Watching {
    fn start(shell: &Shell, arguments: &[&str]) -> Self {
        let mut child = shell.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = mpsc::channel();
        let out: Box<dyn Read + Send> = Box::new(child.stdout.take().unwrap());
        let err: Box<dyn Read + Send> = Box::new(child.stderr.take().unwrap());
        for pipe in [out, err] {
            let sender = sender.clone();
            std::thread::spawn(move || {
                BufReader::new(pipe).lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
            });
        }
        Self { child, lines }
    }

    /// Waits for lines in any order, as stdout and stderr are two; returns all there were.
    fn until(&self, wanted: &[&str]) -> Vec<String> {
        let (mut left, mut seen) = (wanted.to_vec(), Vec::new());
        while !left.is_empty() {
            let line = self.lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no {left:?} in {seen:#?}"));
            left.retain(|wanted| !line.contains(wanted));
            seen.push(line);
        }
        seen
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn only_what_changed_is_told() {
    let shell = Shell::empty();
    shell.file("pipelines/a.yaml", GOOD).file("pipelines/b.yaml", BROKEN);
    let watching = Watching::start(&shell, &["watch"]);
    watching.until(&[
        "pipelines/b.yaml:2:16: error[unknown-node]: node `template.rendr` does not exist",
        "1 error in 2 files",
    ]);
    // Lines above it make no other fault of it.
    shell.file("pipelines/b.yaml", &format!("description: b\n{BROKEN}"));
    shell.file("pipelines/a.yaml", &GOOD.replace("steps.say", "steps.sya"));
    let between = watching.until(&["pipelines/a.yaml:3:", "2 errors in 2 files"]);
    assert!(!between.iter().any(|line| line.contains("error[unknown-node]")), "{between:#?}");
    shell.file("pipelines/a.yaml", GOOD);
    watching.until(&["mended: pipelines/a.yaml: unknown-step", "1 error in 2 files"]);
    shell.file("pipelines/b.yaml", GOOD);
    watching
        .until(&["mended: pipelines/b.yaml: unknown-node: node `template.rendr` does not exist", "2 files are valid"]);
}

#[test]
fn the_edited_pipeline_is_run_when_it_is_valid() {
    let shell = Shell::empty();
    shell.file("pipewright.yaml", "").file("pipelines/a.yaml", GOOD).file("pipelines/b.yaml", GOOD);
    let watching = Watching::start(&shell, &["watch", "--run"]);
    watching.until(&["3 files are valid"]);
    shell.file("pipelines/b.yaml", BROKEN);
    watching.until(&["1 error in 3 files"]);
    shell.file("pipelines/b.yaml", &GOOD.replace("TEXT", "mended"));
    watching.until(&["3 files are valid", "succeeded in", "\"said\": \"mended\""]);
    shell.file("pipelines/a.yaml", &GOOD.replace("TEXT", "other"));
    watching.until(&["a  run", "\"said\": \"other\""]);
}

#[test]
fn a_named_pipeline_is_run_at_once_and_whenever_it_becomes_another() {
    let shell = Shell::empty();
    let parent = "steps:\n  call: { uses: pipeline.run, with: { pipeline: b } }\noutputs: { got: \"{{ steps.call.output.said }}\" }\n";
    shell.file("pipewright.yaml", "").file("pipelines/a.yaml", parent).file("pipelines/b.yaml", GOOD);
    let watching = Watching::start(&shell, &["--sandbox", "watch", "--run", "a"]);
    watching.until(&["\"got\": \"TEXT\""]);
    shell.file("pipelines/b.yaml", &GOOD.replace("TEXT", "edited"));
    watching.until(&["\"got\": \"edited\""]);
    assert!(!shell.path().join(".pipewright/state.db").exists(), "a rehearsal has a store of its own");
    let ended = shell.run(&["watch", "pipelines/none.yaml"]);
    assert_eq!((ended.code, ended.err.contains("there is no `pipelines/none.yaml`")), (2, true));
}
