//! The figures of the language server: from a keystroke to its faults and to what can be written, and the memory of a large
//! workspace. `cargo bench --bench lsp` prints them.
//!
//! Nothing here passes or fails.

#![expect(clippy::print_stdout, reason = "the table is what this program is for")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the machine's clock")]
#![expect(clippy::unwrap_used, reason = "a benchmark that cannot go on has nothing to say")]

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use self::editor::Editor;

#[path = "../tests/it/support/editor.rs"]
#[expect(dead_code, reason = "it is the client of the tests, which do more")]
mod editor;

/// How often a key is pressed.
const KEYS: usize = 200;
const FILE: &str = "pipelines/large.yaml";

fn main() {
    println!("{:<60} {:>10} {:>10}   goal", "workload", "p50", "p99");
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("pipelines")).unwrap();
    fs::write(folder.path().join("pipewright.yaml"), "store: sqlite://x.db\n").unwrap();
    fs::write(folder.path().join(FILE), large()).unwrap();
    keystrokes(folder.path(), "1,000 lines");
    for number in 0..500 {
        fs::write(folder.path().join(format!("pipelines/p{number}.yaml")), small(number)).unwrap();
    }
    keystrokes(folder.path(), "1,000 lines beside 500 files");
}

fn keystrokes(root: &Path, name: &str) {
    let start = Instant::now();
    let mut editor = Editor::open(root);
    editor.show(FILE);
    let faults = editor.faults(FILE);
    assert!(faults.is_empty(), "{faults:?}");
    println!("{:<60} {:>10.1?}", format!("{name}: open, up to the first faults"), start.elapsed());
    let (mut faults, mut members, mut keys, mut nodes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut last = "x: 1".to_owned();
    for key in 0..KEYS {
        // A key within an expression in the middle of the file: every other one makes a fault.
        let typed = if key % 2 == 0 {
            format!("x: \"{{{{ steps.s1.output.text{} }}}}\"", key % 7)
        } else {
            format!("x: {key}")
        };
        let start = Instant::now();
        editor.edit(FILE, &last, &typed);
        editor.faults(FILE);
        faults.push(start.elapsed());
        last = typed;
    }
    let offers = [
        ("x: \"{{ steps.s1.output. }}\"", "steps.s1.output.", &mut members),
        ("x: 1 }, fi: { a: 1", "x: 1 }, fi", &mut keys),
        ("x: 1 }\n\n  unfinished:\n    uses: data.", "    uses: data.", &mut nodes),
    ];
    for (typed, behind, took) in offers {
        for _ in 0..KEYS / 4 {
            let start = Instant::now();
            editor.edit(FILE, &last, typed);
            let offered = editor.complete(FILE, behind);
            took.push(start.elapsed());
            assert!(!offered.is_empty(), "{typed}");
            editor.edit(FILE, typed, "x: 1");
            last = "x: 1".to_owned();
            editor.faults(FILE);
        }
    }
    row(&format!("{name}: faults after a key"), faults, "50 ms");
    row(&format!("{name}: members of an output, after a key"), members, "20 ms");
    row(&format!("{name}: keys of `with`, after a key"), keys, "20 ms");
    row(&format!("{name}: nodes, in a text that is broken"), nodes, "20 ms");
    let status = fs::read_to_string(format!("/proc/{}/status", editor.process())).unwrap_or_default();
    for (field, what) in [("VmRSS:", "memory"), ("VmHWM:", "memory at its most")] {
        if let Some(size) = status.lines().find_map(|line| line.strip_prefix(field)) {
            println!("{:<60} {:>10} {:>10}   80 MiB", format!("{name}: {what}"), size.trim(), "");
        }
    }
    editor.close();
}

fn row(name: &str, mut took: Vec<Duration>, goal: &str) {
    took.sort_unstable();
    let at = |part: usize| took[(took.len() * part / 100).min(took.len() - 1)];
    println!("{name:<60} {:>10.1?} {:>10.1?}   {goal}", at(50), at(99));
}

/// Writes a pipeline of a thousand lines.
fn large() -> String {
    let mut text = "name: large\ninputs:\n  topic: { type: string, default: news }\n\nsteps:\n  s0:\n    uses: template.render\n    with: { text: \"{{ inputs.topic }}\" }\n".to_owned();
    for step in 1..200 {
        let before = step - 1;
        let vars = if step == 100 { ", vars: { x: 1 }" } else { "" };
        let _ = write!(
            text,
            "\n  s{step}:\n    needs: [s{before}]\n    uses: template.render\n    with: {{ text: \"{step} {{{{ steps.s{before}.output.text | upper }}}} {{{{ inputs.topic | length + {step} }}}}\"{vars} }}\n"
        );
    }
    assert!(text.lines().count() >= 1_000, "{}", text.lines().count());
    text
}

/// Writes one of many pipelines.
fn small(number: usize) -> String {
    let mut text =
        format!("name: p{number}\ndescription: Pipeline {number}.\ninputs:\n  topic: {{ type: string }}\nsteps:\n");
    for step in 0..10 {
        let _ = write!(
            text,
            "  s{step}:\n    uses: template.render\n    with: {{ text: \"{{{{ inputs.topic | upper }}}} {number}\" }}\n"
        );
    }
    text
}
