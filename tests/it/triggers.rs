//! Triggers that do not go by time, with the daemon as a process: signed requests, files and ends of runs across kills.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use pipewright::model::Value;
use pipewright::model::parse_json;

use crate::daemon::Daemon;
use crate::daemon::settle;
use crate::support::clients;
use crate::support::shell::Shell;

/// Lists the runs of a pipeline, the oldest first.
fn runs(shell: &Shell, pipeline: &str) -> Vec<Value> {
    let listed = shell.run(&["runs", "list", "--limit", "1000", "--json"]).out;
    let runs = listed.lines().map(|line| parse_json(line).unwrap());
    let mut runs: Vec<_> = runs.filter(|run| run.get("pipeline").unwrap().to_text() == pipeline).collect();
    runs.reverse();
    runs
}

/// Waits until a pipeline has so many runs, and all runs have ended; half a minute at most.
fn until(shell: &Shell, pipeline: &str, count: usize) -> Vec<Value> {
    for _ in 0..300 {
        if runs(shell, pipeline).len() >= count {
            settle(shell);
            let found = runs(shell, pipeline);
            assert_eq!(found.len(), count);
            return found;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("{pipeline} has {} runs, not {count}\n{}", runs(shell, pipeline).len(), shell.run(&["status"]).out);
}

fn hook(path: &str, webhook: &str, inputs: &str) -> String {
    format!(
        "triggers: [ {{ webhook: {{ path: {path}, {webhook} }}, inputs: {{ what: \"{inputs}\" }} }} ]\ninputs: {{ what: {{ type: string }} }}\nsteps: {{ a: {{ uses: log.write, with: {{ message: \"{{{{ inputs.what }}}}\" }} }} }}\noutputs: {{ what: \"{{{{ inputs.what }}}}\" }}\n"
    )
}

#[test]
fn requests_that_others_sign_start_runs() {
    let shell = Shell::project();
    let secrets = "GITHUB=github-secret\nSTRIPE=whsec_stripe\nSTRIPE_OLD=whsec_stripe_old\nSLACK=slack-secret\nMETA=meta-secret\nMETA_TOKEN=meta-token\nSHOP=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n";
    shell.file(".env", secrets).file("pipewright.yaml", "secrets: [{ env_file: .env }]\n");
    for (name, webhook, inputs) in [
        (
            "github",
            r#"preset: github, secret: "{{ secrets.GITHUB }}""#,
            "{{ event.headers['x-github-event'] }} {{ event.body.number }} {{ event.body.title }}",
        ),
        (
            "stripe",
            r#"preset: stripe, secret: ["{{ secrets.STRIPE }}", "{{ secrets.STRIPE_OLD }}"]"#,
            "{{ event.body.type }}",
        ),
        (
            "slack",
            r#"preset: slack, secret: "{{ secrets.SLACK }}""#,
            "{{ event.body.command | default('') }}{{ event.body.event.type | default('') }}",
        ),
        (
            "meta",
            r#"preset: meta, secret: "{{ secrets.META }}", verify_token: "{{ secrets.META_TOKEN }}""#,
            "{{ event.body.object }}",
        ),
    ] {
        shell.file(&format!("pipelines/{name}.yaml"), &hook(name, webhook, inputs));
    }
    shell.file(
        "pipelines/shop.yaml",
        "triggers: [ { webhook: { path: shop/orders, secret: \"{{ secrets.SHOP }}\" } } ]\ninputs: { topic: { type: string }, count: { type: integer } }\nsteps: { a: { uses: log.write, with: { message: hi } } }\noutputs: { what: \"{{ inputs.topic }} {{ inputs.count }}\" }\n",
    );
    let daemon = Daemon::start(&shell);
    let client = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/webhook_client.py");
    let url = format!("http://{}", daemon.address);
    let output = Command::new(clients::installed("bin/python")).arg(client).arg(url).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8(output.stdout).unwrap();
    let answers: BTreeMap<&str, (&str, &str)> = told
        .lines()
        .map(|line| {
            let mut words = line.splitn(3, ' ');
            (words.next().unwrap(), (words.next().unwrap(), words.next().unwrap_or_default()))
        })
        .collect();
    for (name, status) in [
        ("github", "202"),
        ("github-again", "200"),
        ("github-forged", "401"),
        ("github-unsigned", "401"),
        ("github-ping", "200"),
        ("stripe", "202"),
        ("stripe-again", "200"),
        ("stripe-old-secret", "200"),
        ("stripe-stale", "401"),
        ("slack-challenge", "200"),
        ("slack", "202"),
        ("slack-again", "200"),
        ("slack-command", "202"),
        ("meta-verify", "200"),
        ("meta-verify-wrong", "401"),
        ("meta", "202"),
        ("meta-again", "200"),
        ("standard", "202"),
        ("standard-again", "200"),
        ("standard-unfit", "422"),
        ("standard-large", "413"),
        ("nowhere", "404"),
        ("get", "405"),
    ] {
        assert_eq!(answers.get(name).map(|(status, _)| *status), Some(status), "{name}\n{told}");
    }
    assert_eq!(answers["meta-verify"].1, "1158201444");
    assert_eq!(answers["slack-challenge"].1, "3eZbrw1aBm2rZgRNFdxV2595E9CY3gmdALWMmHkvFXO7tYXAYM8P");
    let run = |name: &str| parse_json(answers[name].1).unwrap().get("run").unwrap().to_text();
    for (first, again) in [
        ("github", "github-again"),
        ("stripe", "stripe-old-secret"),
        ("slack", "slack-again"),
        ("standard", "standard-again"),
    ] {
        assert_eq!(run(first), run(again));
    }
    for (pipeline, expected) in [
        ("github", vec!["pull_request 7 Grüße"]),
        ("stripe", vec!["charge.succeeded"]),
        ("slack", vec!["message", "/deploy"]),
        ("meta", vec!["page"]),
        ("shop", vec!["news 3"]),
    ] {
        let found = until(&shell, pipeline, expected.len());
        let outputs: Vec<_> = found
            .iter()
            .map(|run| {
                let shown = shell.run(&["runs", "show", &run.get("run").unwrap().to_text()]).out;
                expected.iter().find(|what| shown.contains(**what)).unwrap_or_else(|| panic!("{shown}"))
            })
            .collect();
        assert_eq!(outputs.len(), expected.len(), "{pipeline}");
    }
    let metrics = daemon.get("/metrics");
    assert!(metrics.contains(r#"pipewright_triggers_total{kind="webhook",outcome="fired"} 6"#), "{metrics}");
    assert!(metrics.contains(r#"pipewright_triggers_total{kind="webhook",outcome="unsigned"} 4"#), "{metrics}");
    let listed = shell.run(&["schedules", "list"]);
    assert!(
        listed.out.contains("webhook: POST /hooks/shop/orders") && listed.out.contains("at a request"),
        "{}",
        listed.shown()
    );
    let doctor = shell.run(&["schedules", "doctor"]);
    assert!(doctor.code == 0 && doctor.out.matches("last fired").count() == 5, "{}", doctor.shown());
    assert_eq!(shell.run(&["schedules", "disable", "shop"]).code, 0);
    assert_eq!(daemon.end(), 0);
    let doctor = shell.run(&["schedules", "doctor"]);
    assert!(doctor.code == 1 && doctor.out.contains("no daemon works on this project"), "{}", doctor.shown());
    assert!(doctor.out.contains("✓ shop: webhook-") && doctor.out.contains("switches it on"), "{}", doctor.shown());
}

const INBOX: &str = r#"triggers: [ { files: "inbox/*.txt", settle: 100ms, inputs: { path: "{{ event.path }}" } } ]
inputs: { path: { type: string } }
steps:
  read: { uses: file.read, with: { path: "{{ inputs.path }}" } }
  kept: { uses: file.write, with: { path: "out/{{ inputs.path }}", content: "{{ steps.read.output.content }}" } }
"#;

#[test]
fn files_that_come_while_the_daemon_is_killed_again_and_again_fire_once_each() {
    let shell = Shell::project();
    shell.file("pipelines/inbox.yaml", INBOX).file("inbox/before.txt", "before");
    let daemon = Daemon::start(&shell);
    for _ in 0..100 {
        if shell.run(&["schedules", "doctor"]).out.contains("waits for files: inbox/*.txt") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    daemon.kill();
    let mut written = BTreeSet::new();
    for round in 0..6_u64 {
        // Some come while it is down, some while it works.
        for number in 0..5 {
            shell.file(&format!("inbox/{round}-{number}.txt"), &format!("{round} {number}"));
            written.insert(format!("{round}-{number}.txt"));
        }
        let daemon = Daemon::start(&shell);
        shell.file(&format!("inbox/{round}-x.txt"), &format!("{round} x"));
        written.insert(format!("{round}-x.txt"));
        std::thread::sleep(std::time::Duration::from_millis(50 + round * 83));
        daemon.kill();
    }
    let daemon = Daemon::start(&shell);
    let found = until(&shell, "inbox", written.len());
    assert!(found.iter().all(|run| run.get("state").unwrap().to_text() == "succeeded"));
    for name in &written {
        let kept = std::fs::read_to_string(shell.path().join("out/inbox").join(name)).unwrap();
        assert_eq!(kept, std::fs::read_to_string(shell.path().join("inbox").join(name)).unwrap());
    }
    assert!(!shell.path().join("out/inbox/before.txt").exists());
    assert_eq!(daemon.end(), 0);
}

const NEXT: &str = r#"triggers: [ { after: { pipeline: first, on: both }, inputs: { of: "{{ event.run }}", state: "{{ event.state }}" } } ]
inputs: { of: { type: string }, state: { type: string } }
steps: { kept: { uses: file.write, with: { path: "out/{{ inputs.of }}.txt", content: "{{ inputs.state }}" } } }
"#;

#[test]
fn ends_of_runs_are_followed_once_each_across_kills_and_in_whichever_process_they_end() {
    let shell = Shell::project();
    shell.file(
        "pipelines/first.yaml",
        "inputs: { ok: { type: boolean } }\nsteps: { a: { uses: assert.that, with: { that: \"{{ inputs.ok }}\" } } }\n",
    );
    shell.file("pipelines/next.yaml", NEXT);
    assert_eq!(shell.run(&["run", "first", "-q", "-i", "ok=true"]).code, 0);
    let daemon = Daemon::start(&shell);
    for _ in 0..100 {
        if shell.run(&["schedules", "doctor"]).out.contains("waits for after: first both") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let before = runs(&shell, "first").len();
    // One that a command runs to its end is followed at once.
    assert_eq!(shell.run(&["run", "first", "-q", "-i", "ok=true"]).code, 0);
    until(&shell, "next", 1);
    let mut daemon = Some(daemon);
    for round in 0..5_u64 {
        daemon.take().unwrap().kill();
        let ok = if round % 2 == 0 { "ok=false" } else { "ok=true" };
        shell.run(&["run", "first", "-q", "-i", ok]);
        daemon = Some(Daemon::start(&shell));
        shell.run(&["run", "first", "-q", "-i", "ok=true"]);
        std::thread::sleep(std::time::Duration::from_millis(20 + round * 31));
    }
    let found = until(&shell, "next", 11);
    assert!(found.iter().all(|run| run.get("state").unwrap().to_text() == "succeeded"));
    let ended = runs(&shell, "first");
    assert_eq!(ended.len(), before + 11);
    for run in ended.iter().skip(before) {
        let path = format!("out/{}.txt", run.get("run").unwrap().to_text());
        let state = std::fs::read_to_string(shell.path().join(&path)).unwrap_or_else(|_| panic!("{path}"));
        assert_eq!(state, run.get("state").unwrap().to_text());
    }
    // One that was killed while it wrote may have left its half behind, under another name.
    let names = std::fs::read_dir(shell.path().join("out")).unwrap().map(|entry| entry.unwrap().file_name());
    let whole =
        names.filter(|name| name.to_string_lossy().ends_with(".txt") && !name.to_string_lossy().starts_with('.'));
    assert_eq!(whole.count(), 11, "what ended before is not followed");
    assert_eq!(daemon.unwrap().end(), 0);
}

#[test]
fn a_run_by_hand_is_given_what_its_trigger_says() {
    let shell = Shell::project();
    shell.file(
        "pipelines/hand.yaml",
        "triggers: [ { manual: true, inputs: { name: \"by {{ event.kind }}\", count: 3 } } ]\ninputs: { name: { type: string }, count: { type: integer }, more: { type: string, default: m } }\nsteps: { a: { uses: log.write, with: { message: hi } } }\noutputs: { all: \"{{ inputs.name }} {{ inputs.count }} {{ inputs.more }}\" }\n",
    );
    let run = |arguments: &[&str]| shell.run(&[&["run", "hand", "-q"], arguments].concat());
    assert!(run(&[]).out.contains("by manual 3 m"), "{}", run(&[]).shown());
    assert!(run(&["-i", "name=me", "-i", "more=x"]).out.contains("me 3 x"));
    shell.file("given.yaml", "count: 9\n");
    assert!(run(&["--input-file", "given.yaml"]).out.contains("by manual 9 m"));
    let wrong = run(&["-i", "count=many"]);
    assert!(wrong.code == 2 && wrong.err.contains("expected a number"), "{}", wrong.shown());
}

#[test]
fn a_circle_and_a_path_that_is_taken_never_become_active() {
    let shell = Shell::project();
    shell.file(
        "pipelines/a.yaml",
        "triggers: [ { after: b } ]\nsteps: { x: { uses: log.write, with: { message: hi } } }\n",
    );
    shell.file(
        "pipelines/b.yaml",
        "triggers: [ { after: a } ]\nsteps: { x: { uses: log.write, with: { message: hi } } }\n",
    );
    let checked = shell.run(&["validate"]);
    assert!(checked.code == 2 && checked.out.contains("`a` after `b` after `a`"), "{}", checked.shown());
    let daemon = Daemon::start(&shell);
    assert_eq!(shell.run(&["run", "a", "-q"]).code, 0, "by hand it runs");
    std::thread::sleep(std::time::Duration::from_millis(1_500));
    assert_eq!(runs(&shell, "b").len(), 0, "nothing follows");
    assert_eq!(daemon.end(), 0);
}
