//! Runs the binary as a user does: what stands on stdout and stderr, and the exit code.

use std::fs;
use std::io::BufRead;
use std::io::BufReader;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::process::Stdio;

use crate::support::shell::Shell;

/// Compares with the snapshot of this name.
macro_rules! assert_shown {
    ($name:literal, $ended:expr) => {
        insta::with_settings!({ prepend_module_to_snapshot => false, filters => vec![
            (r"[0-9A-HJKMNP-TV-Z]{26}", "[RUN]"),
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[TIME]"),
            (r"\d+(\.\d+)? (µs|ms|s)\b", "[TOOK]"),
            (r#""(at|started)":\d+"#, "\"$1\":[MICROS]"),
            (r"version [0-9a-f]{12}", "version [HASH]"),
            // Columns are as wide as times happen to be.
            (r"(\S) {2,}", "$1  "),
        ] }, { insta::assert_snapshot!($name, $ended.shown()) });
    };
}

const FAILS: &str = "\
name: fails
steps:
  good: { uses: template.render, with: { text: fine } }
  bad:
    needs: [good]
    uses: assert.that
    with: { that: false, message: \"two and two are five\" }
  behind: { needs: [bad], uses: template.render, with: { text: never } }
";

#[test]
fn a_new_project_runs_at_once() {
    let shell = Shell::empty();
    assert_shown!("init", shell.run(&["init"]));
    assert_shown!("run_hello", shell.run(&["run", "hello", "-i", "name=Ada"]));
    assert_shown!("runs_list", shell.run(&["runs", "list"]));
    assert_shown!("runs_show", shell.run(&["runs", "show", "last"]));
    // A second time nothing is overwritten.
    shell.file("pipewright.yaml", "# mine\n");
    assert_eq!(shell.run(&["init"]).code, 0);
    assert_eq!(fs::read_to_string(shell.path().join("pipewright.yaml")).unwrap(), "# mine\n");
}

#[cfg(unix)]
#[test]
fn the_master_key_is_for_its_owner_only_and_stays_out_of_git() {
    use std::os::unix::fs::PermissionsExt;
    let shell = Shell::empty();
    shell.file(".gitignore", "node_modules");
    shell.run(&["init"]);
    let key = fs::metadata(shell.path().join(".pipewright/master.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(shell.path().join(".gitignore")).unwrap(), "node_modules\n.pipewright/\n");
}

#[test]
fn a_run_that_fails_says_what_where_and_how_to_go_on() {
    let shell = Shell::project();
    shell.file("pipelines/fails.yaml", FAILS);
    assert_shown!("run_fails", shell.run(&["run", "fails"]));
    let run = shell.last();
    shell.file("pipelines/fails.yaml", "steps: {}\n");
    // The run keeps the version that it began with.
    assert_shown!("runs_retry", shell.run(&["runs", "retry", &run]));
    assert_shown!("runs_retry_from_nowhere", shell.run(&["runs", "retry", &run, "--from", "nowhere"]));
    assert_shown!("runs_resume_failed", shell.run(&["runs", "resume", &run]));
}

#[test]
fn events_are_json_and_nothing_else_is_on_stdout() {
    let shell = Shell::project();
    let pipeline = "inputs: { id: { type: integer }, word: { type: secret } }\nsteps:\n  \
                    one: { uses: template.render, with: { text: \"{{ inputs.id }} {{ inputs.word }}\" } }\n\
                    outputs: { id: \"{{ inputs.id }}\", price: \"{{ '12345678901234567890.123456789' | decimal }}\" }\n";
    shell.file("pipelines/exact.yaml", pipeline);
    let ended = shell.run(&["run", "exact", "--json", "-i", "id=1234567890123456789", "-i", "word=hunter22"]);
    assert_shown!("run_json", ended);
    for line in ended.out.lines() {
        pipewright::model::parse_json(line).unwrap();
    }
    assert!(!ended.out.contains("hunter22"));
}

#[test]
fn invalid_files_are_told_whole_and_end_with_2() {
    let shell = Shell::project();
    shell.file("pipelines/wrong.yaml", "steps:\n  a: { uses: log.wriet, with: { message: hi } }\n  b: { needs: [c], uses: log.write, with: { message: hi } }\n");
    assert_shown!("validate_wrong", shell.run(&["validate"]));
    assert_eq!(shell.run(&["run", "wrong"]).code, 2);
    assert_eq!(shell.run(&["validate", "pipelines/hello.yaml"]).code, 0);
    for format in ["json", "sarif", "github"] {
        let ended = shell.run(&["validate", "--format", format]);
        assert_eq!((ended.code, ended.err.as_str()), (2, ""), "{format}");
        assert!(ended.out.contains("unknown-node") && ended.out.contains("unknown-step"), "{}", ended.out);
    }
}

#[test]
fn wrong_usage_ends_with_2_and_names_what_is_near() {
    let shell = Shell::project();
    for (arguments, expected) in [
        (&["run", "helo"][..], "did you mean `hello`?"),
        (&["run", "hello", "-i", "nmae=x"], "did you mean `name`?"),
        (&["run", "hello", "-i", "name"], "expected `key=value`"),
        (&["run", "nowhere/x.yaml"], "there is no file"),
        (&["runs", "show", "01ZZ"], "there is no run"),
        (&["runs", "cancel", ""], "the id is empty"),
        (&["approvals", "approve", " "], "the id is empty"),
        (&["runs", "list", "--state", "done"], "succeeded"),
        (&["effects", "show", "x"], "there is no effect"),
        (&["explain", "unknown-stp"], "did you mean `unknown-step`?"),
        (&["nodes", "http.reqest"], "did you mean `http.request`?"),
        (&["completions", "tcsh"], "bash"),
        (&["frobnicate"], "unrecognized subcommand"),
        (&["--log", "loud", "nodes"], "--log"),
        (&["validate", "nowhere.yaml"], "there is no `nowhere.yaml`"),
    ] {
        let ended = shell.run(arguments);
        assert_eq!(ended.code, 2, "{arguments:?}: {}", ended.err);
        assert!(ended.err.contains(expected) && ended.out.is_empty(), "{arguments:?}: {}", ended.err);
    }
}

#[test]
fn a_write_is_in_the_list_of_effects() {
    let shell = Shell::project();
    shell
        .file("pipelines/w.yaml", "steps:\n  write: { uses: file.write, with: { path: out/a.txt, content: hello } }\n");
    assert_eq!(shell.run(&["run", "pipelines/w.yaml"]).code, 0);
    assert_eq!(fs::read_to_string(shell.path().join("out/a.txt")).unwrap(), "hello");
    assert_shown!("effects_list", shell.run(&["effects", "list"]));
    let effect = format!("{}/write", shell.last());
    assert_shown!("effects_show", shell.run(&["effects", "show", &effect]));
    assert_shown!("effects_resolve_confirmed", shell.run(&["effects", "resolve", &effect, "--did-not-happen"]));
    assert_eq!(shell.run(&["effects", "resolve", &effect]).code, 2);
}

#[test]
fn graphs_show_what_waits_for_what_and_how_it_ended() {
    let shell = Shell::project();
    shell.file("pipelines/fails.yaml", FAILS);
    assert_shown!("graph_mermaid", shell.run(&["graph", "fails"]));
    assert_shown!("graph_dot", shell.run(&["graph", "pipelines/fails.yaml", "--format", "dot"]));
    shell.run(&["run", "fails"]);
    let drawn = shell.run(&["graph", "--run", "last", "--format", "svg"]);
    assert_eq!(drawn.code, 0);
    shell.file("pipelines/tidies.yaml", &format!("{}on_failure:\n  tell: {{ uses: log.write, with: {{ message: no }} }}\nfinally:\n  tidy: {{ uses: log.write, with: {{ message: done }} }}\n  after: {{ needs: [tidy], uses: log.write, with: {{ message: end }} }}\n", FAILS.replace("name: fails", "name: tidies")));
    assert_shown!("graph_phases_mermaid", shell.run(&["graph", "tidies"]));
    assert_shown!("graph_phases_dot", shell.run(&["graph", "tidies", "--format", "dot"]));
    shell.run(&["run", "tidies"]);
    let phases = shell.run(&["graph", "--run", "last", "--format", "svg"]).out;
    for part in [">on_failure</text>", ">finally</text>", "log.write · succeeded", "assert.that · failed"] {
        assert!(phases.contains(part), "{part}: {phases}");
    }
    for part in ["<svg ", "</svg>", "assert.that · failed", "template.render · succeeded", "template.render · canceled"]
    {
        assert!(drawn.out.contains(part), "{part}: {}", drawn.out);
    }
}

#[test]
fn codes_and_nodes_are_explained() {
    let shell = Shell::empty();
    assert_shown!("explain", shell.run(&["explain", "maybe-absent"]));
    assert_shown!("nodes_one", shell.run(&["nodes", "assert.that"]));
    assert!(shell.run(&["nodes"]).out.contains("portfolio.rebalance"));
}

#[test]
fn shells_complete_the_names_that_there_are() {
    let shell = Shell::project();
    shell.run(&["run", "hello"]);
    let complete = |words: &[&str]| {
        let mut command = shell.command(&["--"]);
        command.args(words).env("COMPLETE", "fish");
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    assert!(complete(&["pipewright", "run", "he"]).starts_with("hello"));
    assert!(complete(&["pipewright", "nodes", "assert"]).starts_with("assert.that\tFails the step"));
    assert!(complete(&["pipewright", "explain", "maybe"]).starts_with("maybe-absent"));
    assert!(complete(&["pipewright", "runs", "show", ""]).starts_with(&shell.last()));
    for name in ["bash", "elvish", "fish", "powershell", "zsh"] {
        assert!(shell.run(&["completions", name]).out.contains("COMPLETE"), "{name}");
    }
    // Completing makes no database.
    let empty = Shell::empty();
    empty.command(&["--", "pipewright", "runs", "show", ""]).env("COMPLETE", "fish").output().unwrap();
    assert_eq!(fs::read_dir(empty.path()).unwrap().count(), 0);
}

#[test]
fn a_reader_that_goes_away_is_no_fault() {
    let shell = Shell::project();
    let mut child = shell.command(&["run", "hello", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(shell.run(&["runs", "list"]).out.contains("succeeded"));
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_in_good_order_and_the_run_goes_on_later() {
    let shell = Shell::project();
    let wait = "steps:\n  first: { uses: template.render, with: { text: done } }\n  \
                wait: { needs: [first], uses: time.wait, with: { for: \"{{ inputs.long }}\" } }\n\
                inputs: { long: { type: string } }\noutputs: { first: \"{{ steps.first.output.text }}\" }\n";
    shell.file("pipelines/wait.yaml", wait);
    let mut child =
        shell.command(&["run", "wait", "-i", "long=10m"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(lines.by_ref().any(|line| line.starts_with("waiting") && line.contains("wait")));
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("pipewright runs resume")), "{rest:?}");
    let run = shell.last();
    let canceled = shell.run(&["runs", "cancel", &run]);
    assert_eq!(canceled.code, 0, "{}", canceled.err);
    assert!(shell.run(&["runs", "list"]).out.contains("canceled"));
}

#[cfg(unix)]
#[test]
fn a_second_ctrl_c_stops_at_once_and_the_write_is_in_doubt() {
    let shell = Shell::project();
    // A remote that takes the request and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let post = format!("steps:\n  post: {{ uses: http.request, with: {{ method: POST, url: \"{url}\" }} }}\n");
    shell.file("pipelines/post.yaml", &post);
    let mut child = shell.command(&["run", "post"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let (request, _) = silent.accept().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    let interrupt = || Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupt().success());
    assert!(lines.by_ref().any(|line| line.contains("press Ctrl-C again")));
    assert!(interrupt().success());
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    assert!(rest.iter().any(|line| line.contains("stopped at once")), "{rest:?}");
    drop(request);
    // What was sent is not forgotten: the effect waits for an answer or a person.
    let effects = shell.run(&["effects", "list"]).out;
    assert!(effects.contains("post") && effects.contains("open"), "{effects}");
}

#[test]
fn a_long_wait_is_left_waiting_where_asked_for() {
    let shell = Shell::project();
    shell.file("pipelines/wait.yaml", "steps:\n  wait: { uses: time.wait, with: { for: 2h } }\n");
    let ended = shell.run(&["run", "wait", "--detach"]);
    assert_eq!(ended.code, 3, "{}", ended.err);
    assert!(ended.err.contains("runs resume"), "{}", ended.err);
    assert!(shell.run(&["runs", "list", "--state", "waiting"]).out.contains("waits until"));
}

#[test]
fn a_secret_of_the_store_is_sealed_and_masked() {
    let shell = Shell::project();
    let pipeline = "steps:\n  use: { uses: template.render, with: { text: \"it is {{ secrets.TOKEN }}\" } }\n\
                    outputs: { text: \"{{ steps.use.output.text }}\" }\n";
    shell.file("pipelines/s.yaml", pipeline).file("secret.txt", "hunter22\n");
    let stdin = fs::File::open(shell.path().join("secret.txt")).unwrap();
    let set = shell.command(&["secrets", "set", "TOKEN"]).stdin(stdin).output().unwrap();
    assert_eq!(set.status.code(), Some(0), "{}", String::from_utf8_lossy(&set.stderr));
    assert_eq!(shell.run(&["secrets", "list"]).out, "TOKEN\n");
    let ended = shell.run(&["run", "s"]);
    assert_eq!((ended.code, ended.out.as_str()), (0, "{\n  \"text\": \"***\"\n}\n"), "{}", ended.err);
    for entry in fs::read_dir(shell.path().join(".pipewright")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let bytes = fs::read(&path).unwrap();
            let found = bytes.windows(8).any(|window| window == b"hunter22");
            assert!(!found, "{} holds the secret in clear", path.display());
        }
    }
    assert_eq!(shell.run(&["secrets", "delete", "TOKEN"]).code, 0);
    assert_eq!(shell.run(&["secrets", "delete", "TOKEN"]).code, 2);
    assert_eq!(shell.run(&["run", "s"]).code, 1);
}

#[test]
fn logs_are_shown_without_secrets() {
    let shell = Shell::project();
    let pipeline = "inputs: { word: { type: secret } }\nsteps:\n  \
                    note: { uses: log.write, with: { message: \"the word is {{ inputs.word }}\" } }\n";
    shell.file("pipelines/l.yaml", pipeline);
    let ended = shell.run(&["run", "l", "-i", "word=hunter22"]);
    let logs = shell.run(&["runs", "logs", "last"]);
    let shown = shell.run(&["runs", "show", "last"]);
    for text in [&ended.err, &ended.out, &logs.out, &shown.out] {
        assert!(!text.contains("hunter22"), "{text}");
    }
    assert!(ended.code != 0 || logs.out.contains("***"), "{}{}", ended.err, logs.out);
}

#[test]
fn the_generated_pages_are_current() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let shell = Shell::empty();
    for topic in ["expressions", "nodes", "diagnostics", "cli"] {
        let page = shell.run(&["docs", topic]).out;
        let path = docs.join(format!("{topic}.md"));
        if renewing() {
            fs::write(&path, &page).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == page,
            "docs/{topic}.md is stale: run `UPDATE=1 cargo test --test it generated` and look at the difference"
        );
    }
    for kind in ["pipeline", "project", "connector", "test"] {
        let schema = shell.run(&["schema", kind]).out;
        let path = docs.with_file_name("schemas").join(format!("{kind}.schema.json"));
        if renewing() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &schema).unwrap();
        }
        let found = fs::read_to_string(&path).unwrap_or_default();
        assert!(found == schema, "{} is stale: run `pipewright schema --write`", path.display());
    }
    for topic in ["language", "effects", "getting-started", "testing"] {
        assert!(shell.run(&["docs", topic]).out.starts_with("# "), "{topic}");
    }
}

#[expect(clippy::disallowed_methods, reason = "how a person asks the tests to renew what is generated")]
fn renewing() -> bool {
    std::env::var_os("UPDATE").is_some()
}

#[test]
fn the_pipelines_in_the_documents_are_valid() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = 0;
    for page in ["README.md", "docs/language.md"] {
        let text = fs::read_to_string(root.join(page)).unwrap();
        for block in text.split("```yaml\n").skip(1).filter_map(|rest| rest.split("```").next()) {
            if block.contains("\nsteps:\n") {
                let shell = Shell::project();
                shell.file("pipelines/shown.yaml", block);
                let ended = shell.run(&["validate", "pipelines/shown.yaml"]);
                assert_eq!((ended.code, ended.out.as_str()), (0, ""), "{page}: {}", ended.out);
                found += 1;
            }
        }
    }
    assert_eq!(found, 3);
}

#[test]
fn the_example_of_the_readme_says_hello() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let pipeline = readme.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let shell = Shell::project();
    shell.file("pipelines/hello.yaml", pipeline);
    let ended = shell.run(&["run", "hello", "-q", "-i", "name=Ada"]);
    assert_eq!(ended.out, "{\n  \"greeting\": \"Hello Ada, your name has 3 letters.\"\n}\n", "{}", ended.err);
}
