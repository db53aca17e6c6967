//! Input that means harm, or was damaged: a clear error each, in bounded time and memory, and never a panic.

use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use pipewright::diag;
use pipewright::diag::Diagnostic;
use pipewright::diag::Format;
use pipewright::diag::Sources;
use pipewright::model::Timestamp;
use pipewright::model::Value;
use pipewright::nodes::registry;
use pipewright::pipeline::compile_text;
use pipewright::template::Lookup;
use pipewright::template::Scope;
use pipewright::template::StepView;
use pipewright::template::Template;
use pipewright::yaml;

/// How long one case may take on a slow machine that builds something else meanwhile.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs a case on a thread with the stack of a worker, and gives up on it when it hangs.
fn bounded<T: Send + 'static>(name: &str, case: impl FnOnce() -> T + Send + 'static) -> T {
    let (send, receive) = mpsc::channel();
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    let thread = thread.spawn(move || drop(send.send(case()))).unwrap();
    match receive.recv_timeout(LIMIT) {
        Ok(result) => {
            thread.join().unwrap();
            result
        }
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{name}: not done in {LIMIT:?}"),
        Err(mpsc::RecvTimeoutError::Disconnected) => panic!("{name}: it panicked: {:?}", thread.join()),
    }
}

/// Reads, checks and shows a file as `validate` does.
fn validate(name: &str, bytes: Vec<u8>) -> Vec<Diagnostic> {
    bounded(name, move || {
        let file: Arc<str> = "hostile.yaml".into();
        let (tree, mut diagnostics) = yaml::parse_bytes(&file, &bytes);
        if let Some(tree) = &tree {
            drop(tree.to_value());
            drop(yaml::decode::<Shape>(tree));
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        diagnostics.extend(compile_text(&file, &text, &registry()).1);
        let mut sources = Sources::default();
        sources.insert(file, text.into());
        for format in [Format::Text, Format::Json, Format::Sarif, Format::Github] {
            let mut out = String::new();
            diag::render(&diagnostics, &sources, format, true, &mut out).unwrap();
        }
        diagnostics
    })
}

/// Something to decode into that recurses as far as the tree does.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "only the reading matters")]
struct Shape {
    a: Option<Box<Shape>>,
    b: Option<Vec<Shape>>,
}

fn check(name: &str, text: impl Into<Vec<u8>>, expected: &str) {
    let diagnostics = validate(name, text.into());
    let shown: Vec<_> = diagnostics.iter().map(|d| format!("{}: {}", d.code.as_str(), d.message)).collect();
    let found = shown.iter().any(|line| line.starts_with(expected));
    assert!(found, "{name}: expected `{expected}`, found {:?}", shown.iter().take(5).collect::<Vec<_>>());
}

#[test]
fn aliases_do_not_multiply_without_bound() {
    let mut bomb = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..30 {
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", vec![format!("*a{}", level - 1); 10].join(",")));
    }
    check("ten to the thirtieth", bomb, "too-large: the document grows too large here");
    // One text of a megabyte, named often: the bytes grow, not the nodes.
    let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 1_000].join(","));
    check("a long text often", text, "too-large: the document grows too large here");
    check("an alias of itself", "a: &a [*a]\n", "yaml-syntax");
    check("an alias of nothing", "a: *nothing\n", "yaml-syntax");
}

#[test]
fn anchors_in_one_another_do_not_keep_copies_without_bound() {
    let open: String = (0..60).map(|level| format!("&a{level} [")).collect();
    let text = format!("{open}{}x{}", "x,".repeat(400_000), "]".repeat(60));
    check("sixty anchors around many nodes", text, "too-large: the document grows too large here");
}

#[test]
fn deep_nesting_is_refused_however_it_is_written() {
    let closed = |open: &str, close: &str, depth: usize| format!("{}{}", open.repeat(depth), close.repeat(depth));
    check("lists, open", "[".repeat(10_000), "too-large: ");
    check("lists", closed("[", "]", 10_000), "too-large: ");
    check("mappings, open", "{a: ".repeat(10_000), "too-large: ");
    check("mappings", closed("{a: ", "}", 10_000), "too-large: ");
    check("dashes", "- ".repeat(10_000), "too-large: ");
    check("keys that are lists", closed("? [", "]", 10_000), "");
    let block: String = (0..2_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect();
    check("blocks", block, "too-large: ");
    let block: String = (0..2_000).map(|depth| format!("{}-\n", " ".repeat(depth))).collect();
    check("lists as blocks", block, "too-large: ");
    // Each line is shallow; together they are thousands deep.
    let mut chain = "a0: &a0 x\n".to_owned();
    for level in 1..120 {
        chain.push_str(&format!("a{level}: &a{level} {}*a{}{}\n", "[".repeat(60), level - 1, "]".repeat(60)));
    }
    check("aliases in one another", chain, "too-large: nested deeper than 64 levels");
}

#[test]
fn large_files_and_texts_are_refused() {
    check("a large file", vec![b'x'; 9 << 20], "too-large: the file has");
    check("a large text", format!("a: {}", "x".repeat(2 << 20)), "too-large: a text of");
    check("a large quoted text", format!("a: \"{}\"", "x".repeat(2 << 20)), "too-large: a text of");
    check("a large block", format!("a: |\n{}", "  xxxxxxxxxxxx\n".repeat(200_000)), "too-large: a text of");
    check("a large key", format!("{}: 1", "x".repeat(1 << 19)), "");
    let keys: String = (0..300_000).map(|number| format!("k{number}: 1\n")).collect();
    check("many keys", keys, "too-large: ");
    check("many items", format!("[{}]", "1,".repeat(1_000_000)), "too-large: ");
}

#[test]
fn many_faults_are_told_in_bounded_time() {
    check("one key, often", "a: 1\n".repeat(50_000), "duplicate-key: ");
    check("one key, often, in one line", format!("{{{}}}", "a: 1, ".repeat(100_000)), "duplicate-key: ");
    check("many tags", "- !x y\n".repeat(100_000), "yaml-tag: ");
    let keys: String = (0..40_000).map(|number| format!("k{number}: 1\n")).collect();
    check("many unknown keys", keys, "unknown-key: ");
    let keys: String = (0..20_000).map(|number| format!("k{number}: 1, ")).collect();
    check("many unknown keys in one line", format!("{{{keys}}}"), "unknown-key: ");
    let steps: String = (0..3_000)
        .map(|number| format!("  s{number}: {{ uses: log.write, needs: [t{number}], with: {{ message: x }} }}\n"))
        .collect();
    check("many faulty steps", format!("name: x\nsteps:\n{steps}"), "unknown-step: ");
    let needs = (0..20_000).map(|number| format!("x{number}")).collect::<Vec<_>>().join(", ");
    let text = format!("name: x\nsteps:\n  a: {{ uses: log.write, needs: [{needs}], with: {{ message: x }} }}\n");
    check("many unknown names", text, "unknown-step: ");
    let long = "x".repeat(500_000);
    let text = format!("name: x\nsteps:\n  a: {{ uses: {long}, needs: [{long}] }}\n");
    check("long unknown names", text, "unknown-node: ");
}

#[test]
fn a_large_good_file_is_read() {
    let steps: String = (0..2_000)
        .map(|number| {
            let before =
                if number == 0 { "start".to_owned() } else { format!("{{{{ steps.s{}.output }}}}", number - 1) };
            format!("  s{number}:\n    uses: template.render\n    with: {{ text: \"{before}\" }}\n")
        })
        .collect();
    let diagnostics = validate("two thousand steps in a chain", format!("name: x\nsteps:\n{steps}").into_bytes());
    let shown: Vec<_> = diagnostics.iter().map(|d| (d.code.as_str(), &d.message)).take(3).collect();
    assert!(shown.is_empty(), "{shown:?}");
}

#[test]
fn bytes_that_are_no_text_are_placed() {
    check("a lone byte", b"name: \xff\n".to_vec(), "not-utf8: ");
    check("a cut letter", b"name: \xe2\x82".to_vec(), "not-utf8: ");
    check("UTF-16", b"\xff\xfea\0:\0 \x001\0".to_vec(), "not-utf8: ");
    check("a NUL", b"name: a\0b\n".to_vec(), "yaml-syntax: ");
    check("NULs alone", vec![0; 1_000], "");
    check("control characters", b"name: \x01\x02\x1b[31m\n".to_vec(), "yaml-syntax: ");
    check("a tab", b"steps:\n\ta: 1\n".to_vec(), "yaml-syntax: ");
    for text in [
        "\u{feff}",
        "\u{feff}\n",
        " ",
        "---",
        "---\n...\n",
        "#",
        "%YAML 1.2",
        "%",
        "? ",
        ": ",
        "&",
        "*",
        "!",
        "|",
        ">",
        "@",
        "`",
    ] {
        check(text, text, "");
    }
    let (tree, diagnostics) = yaml::parse_bytes(&"bom.yaml".into(), b"\xef\xbb\xbfname: x\n");
    assert_eq!(diagnostics, []);
    assert_eq!(tree.unwrap().get("name").and_then(yaml::Tree::as_text), Some("x"));
}

/// The least of random sources: the same on every machine.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 16).unwrap() % end.max(1)
    }
}

/// Damages a file in one to four places.
fn damaged(text: &[u8], other: &[u8], chance: &mut Chance) -> Vec<u8> {
    const SIGNS: &[&[u8]] = &[
        b"{",
        b"}",
        b"[",
        b"]",
        b":",
        b": ",
        b"- ",
        b"\n",
        b"\t",
        b"\"",
        b"'",
        b"#",
        b"&a ",
        b"*a",
        b"!t ",
        b"|\n",
        b">\n",
        b"{{",
        b"}}",
        b"{%",
        b"%}",
        b"\0",
        b"\xff",
        b"\xe2\x82\xac",
        b"<<: ",
        b"? ",
        b"---\n",
        b",",
        b"99999999999999999999999999999999999999999",
        b"-1",
        b"null",
        b"steps.",
        b"item",
        b" | ",
        b"(",
        b")",
        b"~",
        b"..",
        b"\xcc\x81",
    ];
    let mut bytes = text.to_vec();
    for _ in 0..=chance.below(4) {
        let at = chance.below(bytes.len() + 1);
        let to = (at + chance.below(12)).min(bytes.len());
        match chance.below(5) {
            0 => drop(bytes.drain(at..to)),
            1 => drop(bytes.splice(at..at, SIGNS[chance.below(SIGNS.len())].iter().copied())),
            2 => drop(bytes.splice(at..to, SIGNS[chance.below(SIGNS.len())].iter().copied())),
            3 => {
                let from = chance.below(other.len());
                let end = (from + chance.below(60)).min(other.len());
                drop(bytes.splice(at..to, other[from..end].iter().copied()));
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = u8::try_from(chance.below(256)).unwrap();
                }
            }
        }
    }
    bytes
}

#[test]
fn damaged_files_are_told_and_never_panic() {
    let mut files = Vec::new();
    for folder in ["pipelines", "examples", "tests/ok", "tests/err"] {
        let Ok(entries) = std::fs::read_dir(folder) else { continue };
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
        paths.sort();
        files.extend(paths.iter().map(|path| std::fs::read(path).unwrap()));
    }
    assert!(files.len() >= 5, "no files to damage");
    let rounds = if std::env::vars().any(|(name, _)| name == "HOSTILE_ROUNDS") { 50_000 } else { 1_500 };
    let registry = registry();
    let (send, receive) = mpsc::channel::<Vec<u8>>();
    let worker = std::thread::Builder::new().stack_size(2 << 20).spawn(move || {
        let mut chance = Chance(0x5eed_0fda_7a11_ab1e);
        for _ in 0..rounds {
            let bytes = damaged(&files[chance.below(files.len())], &files[chance.below(files.len())], &mut chance);
            send.send(bytes.clone()).unwrap();
            let file: Arc<str> = "damaged.yaml".into();
            let (_, diagnostics) = yaml::parse_bytes(&file, &bytes);
            let Ok(text) = String::from_utf8(bytes) else {
                assert_eq!(diagnostics.first().map(|d| d.code.as_str()), Some("not-utf8"));
                continue;
            };
            let (pipeline, diagnostics) = compile_text(&file, &text, &registry);
            let error = diagnostics.iter().any(|d| d.severity == diag::Severity::Error);
            assert!(pipeline.is_some() || error, "no pipeline, and no reason");
            for diagnostic in &diagnostics {
                let (start, end) = (diagnostic.span.start, diagnostic.span.end);
                assert!(start.line >= 1 && start.column >= 1 && start.offset <= end.offset, "{diagnostic:?}");
                assert!(end.offset <= text.len() && text.is_char_boundary(start.offset), "{diagnostic:?}");
            }
            let mut sources = Sources::default();
            sources.insert(file, text.into());
            diag::render(&diagnostics, &sources, Format::Text, false, &mut String::new()).unwrap();
        }
    });
    // The last case that arrived is the one that panicked or hangs.
    let mut last = Vec::new();
    loop {
        match receive.recv_timeout(LIMIT) {
            Ok(bytes) => last = bytes,
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs on:\n{}", String::from_utf8_lossy(&last)),
        }
    }
    assert!(worker.unwrap().join().is_ok(), "it panicked on:\n{}", String::from_utf8_lossy(&last));
}

#[derive(Debug)]
struct Nothing;

impl Lookup for Nothing {
    fn step(&self, _: &str) -> Option<StepView> {
        None
    }

    fn secret(&self, name: &str) -> Result<Value, String> {
        Err(format!("there is no secret `{name}`"))
    }
}

/// Compiles and evaluates an expression; it must fail, with words.
fn refused(source: &str) {
    let name: String = source.chars().take(60).collect();
    let owned = source.to_owned();
    let error = bounded(&name, move || {
        let inputs = Value::map([("text", Value::from("x".repeat(1 << 16)))]);
        let scope = Scope {
            lookup: Arc::new(Nothing),
            globals: Arc::new(vec![("inputs".into(), inputs)]),
            locals: Vec::new(),
            now: Timestamp(0),
        };
        match Template::parse(&owned) {
            Err(error) => Err(error.message),
            Ok(template) => template.eval(&scope).map(|_| ()).map_err(|error| error.message),
        }
    });
    let error = error.expect_err(&name);
    assert!(!error.is_empty() && error.len() < 2_000, "{name}: {error}");
}

#[test]
fn expressions_that_never_end_are_stopped() {
    let ranges = "{% for a in range(100000) %}{% for b in range(100000) %}{% for c in range(100000) %}";
    let ends = "{% endfor %}".repeat(3);
    refused(&format!("{ranges}{ends}"));
    refused(&format!("{ranges}x{ends}"));
    refused("{{ range(10**12) | list }}");
    refused("{{ range(1000000000000) | sum }}");
    refused("{{ range(0, 10000000000, 1) | length }}");
    refused("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}");
    refused("{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}");
    refused("{% for a in [[1]] recursive %}{{ loop([a]) }}{% endfor %}");
    refused("{% include '<template>' %}");
    refused("{% extends '<template>' %}");
}

#[test]
fn expressions_that_grow_without_bound_are_stopped() {
    let doubled = "{% set ns = namespace(t=inputs.text) %}{% for i in range(60) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}{{ ns.t }}";
    refused(doubled);
    refused(
        "{% set ns = namespace(t=[1]) %}{% for i in range(60) %}{% set ns.t = ns.t + ns.t %}{% endfor %}{{ ns.t | length }}{{ 1/0 }}",
    );
    refused("{{ inputs.text * 1000000000 }}");
    refused("{{ 'x' * 100000000000 }}");
    refused("{{ [1] * 100000000000 }}");
    refused(&format!("{{{{ {} }}}}", vec!["inputs.text"; 400].join(" ~ ")));
    refused("{{ inputs.text | replace('x', inputs.text) }}");
    refused("{{ inputs.text | list | join(inputs.text) }}");
    refused("{{ 'x\\nx' | indent(100000000000) }}");
    refused("{{ '%1000000000s' | format('x') }}");
    refused("{{ 10 ** 10 ** 10 ** 10 }}");
    refused("{{ 9 ** 999999999 }}");
}

#[test]
fn expressions_that_are_deep_or_long_are_refused() {
    refused(&format!("{{{{ {}1{} }}}}", "(".repeat(10_000), ")".repeat(10_000)));
    refused(&format!("{{{{ {}1{} }}}}", "[".repeat(10_000), "]".repeat(10_000)));
    refused(&format!("{{{{ {} }}}}", "(".repeat(10_000)));
    refused(&format!("{{{{ {}1 }}}}", "not ".repeat(100_000)));
    refused(&format!("{{{{ {}1 }}}}", "-".repeat(100_000)));
    refused(&format!("{{{{ {}1 }}}}", "1 + ".repeat(100_000)));
    refused(&format!("{{{{ {}1 }}}}", "1 ** ".repeat(100_000)));
    refused(&format!("{{{{ x{} }}}}", ".a".repeat(100_000)));
    refused(&format!("{{{{ x{} }}}}", " | upper".repeat(100_000)));
    refused(&format!("{{{{ x{} }}}}", "[0]".repeat(100_000)));
    refused(&format!("{{{{ {}1{} }}}}", "1 if x else ".repeat(20_000), ""));
    refused(&format!("{}{}", "{% if true %}".repeat(20_000), "{% endif %}".repeat(20_000)));
    refused(&format!("{}{}", "{% for a in [1] %}".repeat(20_000), "{% endfor %}".repeat(20_000)));
    refused(&"{% if true %}".repeat(20_000));
    refused(&"{{".repeat(100_000));
    refused(&format!("{{{{ {} }}}}", "9".repeat(5_000_000)));
    // Quotes, comments and raw blocks do not hide what is deep.
    let chain = " + 1".repeat(20_000);
    refused(&format!("{{{{ '\\\\' ~ 1{chain} }}}}"));
    refused(&format!("{{# {{{{ ' #}}{{{{ 1{chain} }}}}"));
    refused(&format!("{{% raw %}}{{{{ ' {{% endraw %}}{{{{ 1{chain} }}}}"));
    refused(&format!("{{% if 1 %}}{}{{% endif %}}", "{% elif 1 %}".repeat(60_000)));
    refused(&format!("{{% set a = [] %}}{}{{{{ a }}}}", "{% set a = [a] %}".repeat(50_000)));
    refused(&format!("{{% set a = [1] %}}{}{{{{ a }}}}", "{% set a = [a, a] %}".repeat(60)));
    refused(&format!("{{{{ {}2{} }}}}", "1 < (".repeat(45), ") < 3".repeat(45)));
}

#[test]
fn deep_and_long_expressions_in_a_file_are_placed() {
    let step = |text: &str| {
        format!("name: x\nsteps:\n  a:\n    uses: template.render\n    with:\n      text: |\n        {text}\n")
    };
    let chain = " + 1".repeat(20_000);
    check(
        "a chain behind a quote",
        step(&format!("{{{{ '\\\\' ~ 1{chain} }}}}")),
        "template-syntax: an expression of more than",
    );
    check(
        "a chain behind a comment",
        step(&format!("{{# {{{{ ' #}}{{{{ 1{chain} }}}}")),
        "template-syntax: an expression of more than",
    );
    let branches = "{% elif 1 %}".repeat(60_000);
    check("elif", step(&format!("{{% if 1 %}}{branches}{{% endif %}}")), "template-syntax: more than 64 blocks");
}

#[test]
fn expressions_over_large_or_shared_data_are_stopped() {
    for filter in ["join", "tojson", "unique", "sort", "string", "map('upper') | list", "map('length') | list", "sum"] {
        refused(&format!("{{{{ (['a' * 16000000] * 1000000) | {filter} }}}}"));
    }
    refused("{{ range(1000000) | select('in', range(1000000)) | list }}");
    refused("{{ range(1000000) | list | chain(range(1000000)) | list }}");
    refused("{{ (['a' * 16000000] * 1000000) == (['a' * 16000000] * 1000000) }}");
    refused("{% if true %}{{ ['a' * 16000000] * 1000000 }}{% endif %}");
}
