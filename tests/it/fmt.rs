//! `pipewright fmt` as a user runs it.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use crate::support::shell::Shell;

const UGLY: &str = "# on top\n\nsteps:\n    b:\n        with: { message: hi }   # said\n        uses: log.write\n    # last\nname: ugly\n";
const WELL: &str =
    "# on top\n\nname: ugly\nsteps:\n  b:\n    uses: log.write\n    with: { message: hi }   # said\n  # last\n";

#[test]
fn files_are_formatted_and_named_once() {
    let shell = Shell::project();
    shell.file("pipelines/ugly.yaml", UGLY);
    let checked = shell.run(&["fmt", "--check"]);
    assert_eq!((checked.code, checked.out.as_str()), (1, "pipelines/ugly.yaml\n"), "{}", checked.err);
    assert_eq!(fs::read_to_string(shell.path().join("pipelines/ugly.yaml")).unwrap(), UGLY);
    let formatted = shell.run(&["fmt"]);
    assert_eq!((formatted.code, formatted.out.as_str()), (0, "pipelines/ugly.yaml\n"), "{}", formatted.err);
    assert_eq!(fs::read_to_string(shell.path().join("pipelines/ugly.yaml")).unwrap(), WELL);
    let again = shell.run(&["fmt", "--check"]);
    assert_eq!((again.code, again.out.as_str()), (0, ""), "{}", again.err);
    // No part is left over.
    let left = fs::read_dir(shell.path().join("pipelines"))
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().ends_with(".part"));
    assert_eq!(left.count(), 0);
}

#[test]
fn a_difference_is_shown_and_nothing_written() {
    let shell = Shell::project();
    shell.file("pipelines/ugly.yaml", UGLY);
    let ended = shell.run(&["fmt", "--diff"]);
    insta::with_settings!({ prepend_module_to_snapshot => false }, { insta::assert_snapshot!("fmt_diff", ended.shown()) });
    assert_eq!(fs::read_to_string(shell.path().join("pipelines/ugly.yaml")).unwrap(), UGLY);
}

#[test]
fn a_file_with_faults_is_told_and_the_others_are_formatted() {
    let shell = Shell::project();
    shell.file("pipelines/ugly.yaml", UGLY).file("pipelines/broken.yaml", "steps: {\n").file("notes.yaml", "b:   1\n");
    let ended = shell.run(&["fmt"]);
    assert_eq!((ended.code, ended.out.as_str()), (2, "pipelines/ugly.yaml\n"));
    assert!(ended.err.contains("pipelines/broken.yaml:1:8: error[yaml-syntax]"), "{}", ended.err);
    assert_eq!(fs::read_to_string(shell.path().join("pipelines/broken.yaml")).unwrap(), "steps: {\n");
    assert_eq!(shell.run(&["fmt", "nowhere.yaml"]).code, 2);
    // Another's file is formatted where it is named, and else left alone.
    assert_eq!(shell.run(&["fmt", "."]).out, "");
    assert_eq!(shell.run(&["fmt", "notes.yaml"]).out, "notes.yaml\n");
}

#[test]
fn what_comes_by_stdin_goes_to_stdout() {
    let shell = Shell::empty();
    let piped = |arguments: &[&str], text: &str| {
        let mut command = shell.command(arguments);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(piped(&["fmt", "-"], UGLY), (0, WELL.to_owned()));
    assert_eq!(piped(&["fmt", "--stdin"], WELL), (0, WELL.to_owned()));
    assert_eq!(piped(&["fmt", "--stdin", "--check"], UGLY), (1, String::new()));
    let settings = "connections:\n  a: { connector: x }\nstore: sqlite://a.db\n";
    let (code, text) = piped(&["fmt", "--stdin-filename", "pipewright.yaml"], settings);
    assert_eq!((code, text.lines().next()), (0, Some("store: sqlite://a.db")));
    assert_eq!(piped(&["fmt", "-"], "a: [\n"), (2, String::new()));
}

#[cfg(unix)]
#[test]
fn links_and_permissions_stay() {
    use std::os::unix::fs::PermissionsExt;
    let shell = Shell::project();
    shell.file("elsewhere/real.yaml", UGLY);
    let (real, link) = (shell.path().join("elsewhere/real.yaml"), shell.path().join("pipelines/link.yaml"));
    std::os::unix::fs::symlink(&real, &link).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
    assert_eq!(shell.run(&["fmt"]).out, "pipelines/link.yaml\n");
    assert!(link.symlink_metadata().unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&real).unwrap(), WELL);
    assert_eq!(real.metadata().unwrap().permissions().mode() & 0o777, 0o640);
}

#[test]
fn what_we_ship_and_what_init_makes_is_formatted() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shell = Shell::project();
    assert_eq!(shell.run(&["fmt", "--check"]).out, "");
    let paths = ["pipelines", "examples", "connectors", "pipewright.yaml"].map(|name| source.join(name));
    let named: Vec<&str> = paths.iter().map(|path| path.to_str().unwrap()).collect();
    let ended = shell.run(&[&["fmt", "--check"], named.as_slice()].concat());
    assert_eq!((ended.code, ended.out.as_str()), (0, ""), "run `pipewright fmt` over them: {}", ended.err);
}
