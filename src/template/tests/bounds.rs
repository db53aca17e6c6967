//! Nothing runs for ever, grows without bound or overflows the stack.

use std::sync::mpsc;
use std::time::Duration;

use super::eval;
use super::scope;
use crate::template::Template;

/// How long one case may take in a test build on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Evaluates on a thread with the stack of a worker, and gives up when it hangs.
fn bounded(source: String) -> String {
    let (send, receive) = mpsc::channel();
    let shown: String = source.chars().take(80).collect();
    let thread = std::thread::Builder::new().stack_size(2 << 20);
    thread.spawn(move || send.send(eval(&source)).unwrap()).unwrap();
    receive.recv_timeout(LIMIT).unwrap_or_else(|error| panic!("{shown}: {error}"))
}

fn refuses(source: impl Into<String>) {
    let source = source.into();
    let result = bounded(source.clone());
    assert!(result.starts_with("error") || result.starts_with("syntax"), "{source:.80}: {result:.80}");
    assert!(result.len() < 2_000, "{source:.80}: a message of {} bytes", result.len());
}

#[test]
fn nothing_runs_for_ever_or_grows_without_bound() {
    for source in [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
        "{{ range(10 ** 12) }}",
        "{{ 'a' * 10 ** 12 }}",
        "{{ 'a' * 10 ** 30 }}",
        "{{ [1] * 10 ** 30 }}",
        "{{ ('a' * 1000000) | replace('a', 'bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb') }}",
        "{% for a in range(1000000) %}{{ 'a' * 100000 }}{% endfor %}",
        "{{ 2 ** 100000 }}",
        "{{ 10 ** 10000 }}",
        "{{ (['a' * 16000000] * 1000000) | join }}",
        "{{ (['a' * 16000000] * 1000000) | tojson }}",
        "{{ (['a' * 16000000] * 1000000) | unique }}",
        "{{ (['a' * 16000000] * 1000000) | sort }}",
        "{{ (['a' * 16000000] * 1000000) | sum }}",
        "{{ (['a' * 16000000] * 1000000) | map('upper') }}",
        "{{ (['a' * 16000000] * 1000000) | map('length') }}",
        "{{ (['a' * 16000000] * 1000000) | select('startingwith', 'b' * 15000000) }}",
        "{{ (['a' * 16000000] * 1000000) | string }}",
        "{{ ['a' * 16000000] * 1000000 }}",
        "{{ (['a' * 16000000] * 1000000) == (['a' * 16000000] * 1000000) }}",
        "{{ (['a' * 16000000] * 1000000) ~ '' }}",
        "x{{ ['a' * 16000000] * 1000000 }}",
        "{% if true %}{{ ['a' * 16000000] * 1000000 }}{% endif %}",
        "{{ range(1000000) | select('in', range(1000000)) }}",
        "{{ range(1000000) | map('in', range(1000000)) }}",
        "{% set a = range(900000) %}{% for x in a %}{{ 'y' in a }}{% endfor %}",
        "{% set a = 'a' * 16000000 %}{% for x in range(100000) %}{{ 'b' in a }}{% endfor %}",
        "{% set a = 'a' * 16000000 %}{% for x in range(100000) %}{{ a | upper | length }}{% endfor %}",
        "{% set a = 'a' * 16000000 %}{% for x in range(100000) %}{{ a[1:2] }}{% endfor %}",
        "{% set a = range(900000) %}{% for x in range(100000) %}{{ a | reverse | length }}{% endfor %}",
        "{% set a = range(900000) %}{% for x in range(100000) %}{{ (a | max) }}{% endfor %}",
        "{{ (['a'] * 1000000 | map('string')) | sum | int }}",
        "{{ (([['a']] * 1000000) * 1) | sum | sum | int }}",
        "{{ ([['a'] * 1000] * 1000) | sum | sum | int }}",
        "{{ ([['a'] * 1001] * 1000) | sum }}",
        "{% set a = 'a' * 16000000 %}{{ (a[1:] ~ 'b') in [a] * 1000000 }}",
        "{% set a = 'a' * 16000000 %}{% for x in range(100000) %}{{ a is containing('b') }}{% endfor %}",
        "{% set a = 'a' * 16000000 %}{% for x in range(100000) %}{{ a | length }}{% endfor %}",
        "{% set a = 'a' * 16000000 %}{% for x in range(100000) %}{{ a is eq('b') }}{% endfor %}",
        "{{ ('[' ~ '{},' * 5000000 ~ '1]') | from_json | length }}",
        "{{ ('a' * 16000000) | int }}",
        "{{ ('a' * 16000000) | datetime }}",
        "{{ now() | format_time('%255Y' * 3000000) }}",
        "{{ [1] | sort(**{'reverse': true}) }}",
        "{{ range(900000) | chain(range(900000)) }}",
        "{{ range(900000) | zip(range(900000)) }}",
        "{{ [1] | batch(10 ** 12, 0) }}",
        "{{ 'a' | indent(10 ** 9) }}",
        "{{ ('a,' * 8000000) | split(',') }}",
        "{{ ('a' * 16000000) | list }}",
        "{% set x = 'a' * 1000000 %}{% set x = x ~ x %}{% set x = x ~ x %}{% set x = x ~ x %}{% set x = x ~ x %}{% set x = x ~ x %}{{ x }}",
    ] {
        refuses(source);
    }
}

#[test]
fn shared_data_counts_every_time_that_it_is_walked() {
    let doubled = "{% set a = [1, 2] %}".to_owned() + &"{% set a = [a, a] %}".repeat(50);
    let other = "{% set b = [1, 2] %}".to_owned() + &"{% set b = [b, b] %}".repeat(50);
    for end in [
        "{{ a }}",
        "{{ a ~ 'x' }}",
        "{{ a == b }}",
        "{{ a in [b] }}",
        "{{ a < b }}",
        "{{ a | tojson }}",
        "{{ a | string }}",
        "{{ a | unique }}",
        "{{ a | sort }}",
        "{{ a | join }}",
        "{{ a | sum }}",
        "{{ {a: 1} }}",
        "{{ {'x': 1}[a] }}",
        "{{ a is eq(b) }}",
        "{{ a | map('string') }}",
        "{{ [a] | groupby('x') | join }}",
        "{{ a * secrets.PIN }}",
        "{{ a + secrets.KEY }}",
        "{{ secrets.KEY in a and a in {'x': 1} and a == 5 }}",
        "{{ 'x' | replace(a, 'y') }}",
        "{{ range(a) }}",
    ] {
        refuses(format!("{doubled}{other}{end}"));
    }
    let expression = (0..40).fold("[1, 2]".to_owned(), |inner, _| format!("({inner}) * 2"));
    refuses(format!("{{{{ {expression} }}}}"));
    let nested = (0..30).fold("[1, 2]".to_owned(), |inner, _| format!("[{inner}] * 4"));
    refuses(format!("{{{{ {nested} }}}}"));
}

#[test]
fn depth_is_bounded_in_source_and_in_values() {
    let many = "+1".repeat(5_000);
    let deep =
        |open: &str, close: &str, count: usize| format!("{{{{ {}1{} }}}}", open.repeat(count), close.repeat(count));
    refuses(format!("{{{{ 1{many} }}}}"));
    refuses(format!("{{{{ '\\\\' ~ 1{many} }}}}"));
    refuses(format!("{{# {{{{ ' #}}{{{{ 1{many} }}}}"));
    refuses(deep("(", ")", 5_000));
    refuses(deep("[", "]", 5_000));
    refuses(format!("{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(60_000)));
    refuses(format!("{{% set a=[] %}}{}{{{{ a }}}}", "{% set a=[a] %}".repeat(60_000)));
    refuses(format!("{{% set a={{}} %}}{}{{{{ a }}}}", "{% set a={'b': a} %}".repeat(60_000)));
    refuses(format!("{{% set a=[1] %}}{}{{{{ a }}}}", "{% set a=a|batch(1) %}".repeat(1_000)));
    refuses(format!("{{% set a=[1] %}}{}{{{{ a }}}}", "{% set a=a|map('list')|list|zip %}".repeat(1_000)));
    refuses(format!("{{% set a=[1] %}}{}{{{{ a }}}}", "{% set a=a|groupby('x') %}".repeat(1_000)));
    refuses("{% set a %}".repeat(60_000));
    refuses("{% if a %}".repeat(60_000));
    refuses("{% for a in b %}".repeat(60_000));
    // The deepest that passes, in every shape, has room on a worker's stack.
    for (open, close) in
        [("(1 + ", ")"), ("[", "]"), ("(not ", ")"), ("{'a': ", "}"), ("(1 if true else ", ")"), ("(true and ", ")")]
    {
        bounded(deep(open, close, 49));
        bounded(deep(open, close, 64));
    }
    let inner = deep("[", "]", 60);
    bounded(format!("{}{inner}{}", "{% if true %}".repeat(64), "{% endif %}".repeat(64)));
    bounded(format!("{}{inner}{}", "{% for x in [1] %}".repeat(64), "{% endfor %}".repeat(64)));
    bounded(format!("{{% if false %}}{}{inner}{{% endif %}}", "{% elif false %}".repeat(63)));
    let elifs = format!("{{% if false %}}{}{{% else %}}x{{% endif %}}", "{% elif false %}".repeat(63));
    assert_eq!(bounded(elifs), "\"x\"");
    assert_eq!(bounded(format!("{{{{ 1{} }}}}", "+1".repeat(99))), "100");
    assert_eq!(bounded(format!("{{{{ 'a'{} }}}}", " ~ 'a'".repeat(99))), format!("\"{}\"", "a".repeat(100)));
}

#[test]
fn many_statements_compile_in_linear_time() {
    let sets: String = (0..30_000).map(|number| format!("{{% set v{} = {number} %}}", number % 900)).collect();
    assert_eq!(bounded(format!("{sets}{{{{ v299 }}}}")), "\"29999\"");
    refuses((0..2_000).map(|number| format!("{{% set v{number} = {number} %}}")).collect::<String>());
    let proofs = format!("{{% if {} %}}", ["a.b is defined"; 90].join(" and ")).repeat(60);
    refuses(format!("{proofs}{}{}{{{{ 1 / 0 }}}}", "{{a}}".repeat(150_000), "{% endif %}".repeat(60)));
    refuses(format!("{{{{ x | {} }}}}", "f".repeat(500_000)));
    refuses(format!("{{{{ steps.draft.output.{} }}}}", "f".repeat(500_000)));
    let include = format!("{proofs}{}{}", "{% include 'a' %}".repeat(20_000), "{% endif %}".repeat(60));
    let files = [("main".to_owned(), include), ("a".to_owned(), String::new())];
    let error = crate::template::Prompt::parse("main", &files.into()).unwrap_err();
    assert_eq!(error.1.message, "more than 250 places where files are included");
    let chained = (0..40).fold("2".to_owned(), |inner, _| format!("1 < ({inner}) < 3"));
    // Doubled at every level, this would be a text of 2^40 comparisons.
    refuses(format!("{{{{ {chained} }}}}"));
    let template = Template::parse(&format!("{{{{ {} }}}}", "1 < ".repeat(90) + "2"));
    assert_eq!(template.unwrap().eval(&scope()).unwrap().to_string(), "false");
}
