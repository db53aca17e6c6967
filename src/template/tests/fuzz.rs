//! Templates made by chance: any text gives a value or an error, soon and within the stack.

use std::sync::mpsc;
use std::time::Duration;

use super::eval;
use crate::template::Sort;
use crate::template::catalog;

/// How long a template may take in a test build on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Runs on a thread with the stack of a worker; the last template is named when it hangs.
fn each(count: usize, seed: u64, make: impl Fn(&mut fastrand::Rng) -> String + Send + 'static) {
    let (send, receive) = mpsc::channel();
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    let thread = thread.spawn(move || {
        let mut random = fastrand::Rng::with_seed(seed);
        for _ in 0..count {
            let source = make(&mut random);
            send.send(source.clone()).unwrap();
            eval(&source);
        }
    });
    let mut last = String::new();
    loop {
        match receive.recv_timeout(LIMIT) {
            Ok(source) => last = source,
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("not done in {LIMIT:?}: {last:?}"),
        }
    }
    thread.unwrap().join().unwrap_or_else(|_| panic!("it panicked: {last:?}"));
}

#[test]
fn any_text_gives_a_value_or_an_error() {
    let pieces = [
        "{{",
        "}}",
        "{%",
        "%}",
        " a ",
        "item",
        "|",
        "(",
        ")",
        "[",
        "]",
        "'",
        "\"",
        "1.5",
        "if",
        "for x in",
        "endfor",
        ".",
        "-",
        "é",
        "\n",
        "~",
        "{#",
        "#}",
        "is",
        "not",
        "*",
        "**",
        "\\",
        "{",
        "}",
        "set",
        "=",
        "include",
        "elif",
        "else",
        "endif",
        "raw",
        "endraw",
        ":",
        ",",
        "secrets.KEY",
        "<",
        "default",
        "0x",
        "1e400",
    ];
    each(20_000, 7, move |random| (0..random.usize(1..14)).map(|_| pieces[random.usize(..pieces.len())]).collect());
}

#[test]
fn any_expression_gives_a_value_or_an_error() {
    each(6_000, 11, |random| {
        if random.bool() {
            format!("{{{{ {} }}}}", expression(random, 4))
        } else {
            format!("a{{{{ {} }}}}b{{{{ {} }}}}", expression(random, 3), expression(random, 2))
        }
    });
}

#[test]
fn any_statements_give_a_text_or_an_error() {
    each(2_000, 13, |random| statements(random, 3));
}

#[test]
fn a_damaged_template_gives_a_value_or_an_error() {
    let mut corpus: Vec<String> = catalog().iter().map(|entry| format!("{{{{ {} }}}}", entry.example.0)).collect();
    corpus.push("{% if item > 5 %}big{% elif item %}{{ item }}{% else %}small{% endif %}\n".to_owned());
    corpus.push("{% for x in inputs.list if x %}{{ loop.index }}: {{ x | round(2) }}{% endfor %}".to_owned());
    corpus
        .push("{# note #}{% raw %}{{ x }}{% endraw %}{% set a, b = [1, 'c\\'' ] %}{{ {'a': a}['a'] < b }}".to_owned());
    each(10_000, 17, move |random| {
        let mut bytes = corpus[random.usize(..corpus.len())].clone().into_bytes();
        for _ in 0..random.usize(1..4) {
            let at = random.usize(..bytes.len());
            match random.u8(..4) {
                0 => bytes[at] = random.u8(b' '..b'~'),
                1 => bytes.insert(at, b"{}%#'\"\\()[]|.,:-~*0"[random.usize(..19)]),
                2 if bytes.len() > 1 => drop(bytes.remove(at)),
                _ => {
                    let other = corpus[random.usize(..corpus.len())].as_bytes();
                    let cut = random.usize(..other.len());
                    bytes.truncate(at);
                    bytes.extend_from_slice(&other[cut..]);
                    if bytes.is_empty() {
                        bytes.push(b'{');
                    }
                }
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    });
}

fn pick<'p>(random: &mut fastrand::Rng, choices: &[&'p str]) -> &'p str {
    choices[random.usize(..choices.len())]
}

fn atom(random: &mut fastrand::Rng) -> String {
    pick(
        random,
        &[
            "1",
            "0",
            "-3",
            "2.50",
            "1e3",
            "'a'",
            "'12.50 USD'",
            "''",
            "true",
            "none",
            "item",
            "inputs.n",
            "inputs.list",
            "inputs.usd",
            "inputs.no",
            "inputs.gone",
            "steps.draft.output",
            "steps.draft.output.text",
            "secrets.KEY",
            "secrets.PIN",
            "secrets.LIST",
            "[]",
            "{}",
            "range(5)",
            "x",
            "now()",
            "170141183460469231731687303715884105728",
            "9223372036854775807",
            "'-9223372036854775808'",
            "1e28",
            "'9999-12-31T23:59:59Z'",
            "'1000000h'",
            "'1e400'",
            "(0 | from_epoch)",
            "duration('90s')",
            "79228162514264337593543950335.0",
            "'79228162514264337593543950335 USD'",
            "'Europe/Berlin'",
            "'%Y %255d'",
            "'amount'",
            "'upper'",
            "'gt'",
        ],
    )
    .to_owned()
}

fn expression(random: &mut fastrand::Rng, depth: usize) -> String {
    if depth == 0 {
        return atom(random);
    }
    let mut inner = || expression(random, depth - 1);
    let (a, b, c) = (inner(), inner(), inner());
    match random.u8(..14) {
        0 => atom(random),
        1..=3 => {
            let operator = pick(
                random,
                &["+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", ">=", "in", "not in", "and", "or"],
            );
            format!("({a} {operator} {b})")
        }
        4 => format!("[{a}, {b}, {c}]"),
        5 => format!("{{'a': {a}, {b}: {c}}}"),
        6 => format!("({a} if {b} else {c})"),
        7 => format!("({a} < {b} <= {c})"),
        8 => format!("({a})[{b}]"),
        9 => format!("({a})[{b}:{c}]"),
        10 => format!("-({a})"),
        11 => {
            let tests: Vec<_> = catalog().iter().filter(|entry| entry.sort == Sort::Test).collect();
            let test = tests[random.usize(..tests.len())].name;
            if random.bool() { format!("(({a}) is {test})") } else { format!("(({a}) is {test}({b}))") }
        }
        _ => {
            let filters: Vec<_> = catalog().iter().filter(|entry| entry.sort == Sort::Filter).collect();
            let filter = filters[random.usize(..filters.len())].name;
            match random.u8(..5) {
                0 => format!("({a} | {filter}({b}))"),
                1 => format!("({a} | {filter}({b}, {c}))"),
                2 => format!("([{a}, {b}] | map('{filter}'))"),
                _ => format!("({a} | {filter})"),
            }
        }
    }
}

fn statements(random: &mut fastrand::Rng, depth: usize) -> String {
    let mut text = String::new();
    for _ in 0..random.usize(1..4) {
        let value = expression(random, 2);
        let body = if depth == 0 { "t".to_owned() } else { statements(random, depth - 1) };
        text.push_str(&match random.u8(..6) {
            0 => format!("{{% if {value} %}}{body}{{% elif {value} %}}e{{% else %}}{body}{{% endif %}}"),
            1 => format!("{{% for x in {value} %}}{body}{{{{ loop.index }}}}{{% else %}}n{{% endfor %}}"),
            2 => format!("{{% set x = {value} %}}{body}"),
            3 => format!("{{% set x = [x, x] %}}{body}"),
            4 => format!("raw {{ {{# note #}} {body}"),
            _ => format!("{{{{ {value} }}}}"),
        });
    }
    text
}
