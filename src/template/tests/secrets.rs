//! A secret, and whatever was computed from one, comes out as a secret, and no message holds it.

use super::scope;
use crate::model::Value;
use crate::template::Sort;
use crate::template::Template;
use crate::template::catalog;

/// What the secrets of the test world hold, and texts that give them away.
const GIVEAWAYS: [&str; 6] = ["hunter2", "HUNTER2", "Hunter2", "4711", "aHVudGVyMg", "2retnuh"];

fn leaks(source: &str) -> Option<String> {
    let template = match Template::parse(source) {
        Ok(template) => template,
        Err(error) => return GIVEAWAYS.iter().any(|it| error.message.contains(it)).then_some(error.message),
    };
    // What is shown: the value with its secrets masked, or the message.
    let shown = match template.eval(&scope()) {
        Ok(value) => value.to_string(),
        Err(error) => error.message,
    };
    GIVEAWAYS.iter().any(|it| shown.contains(it)).then_some(shown)
}

fn subjects() -> Vec<String> {
    let mut subjects = Vec::new();
    for secret in ["secrets.KEY", "secrets.PIN", "secrets.LIST", "secrets.OBJECT"] {
        for shape in [
            "S",
            "[1, S]",
            "[S, 'x']",
            "[S, S]",
            "{'a': S}",
            "[{'a': S}, {'a': 1}]",
            "[{'a': S}, {'a': 'x'}]",
            "[[S]]",
            "(S ~ 'x')",
            "(S if true else 1)",
            "(none | default(S))",
            "(S | upper)",
        ] {
            subjects.push(shape.replace('S', secret));
        }
    }
    subjects
}

#[test]
fn no_filter_test_or_function_shows_a_secret() {
    let arguments = [
        "",
        "(1)",
        "('a')",
        "('x', 'y')",
        "(attribute='a')",
        "('upper')",
        "('int')",
        "('eq', 1)",
        "('a', 'gt', 1)",
        "(S)",
        "('x', S)",
        "(S, 'x')",
        "('eq', S)",
    ];
    let mut wrong = Vec::new();
    let mut check = |source: String| {
        if let Some(shown) = leaks(&source) {
            wrong.push(format!("{source}: {shown}"));
        }
    };
    for entry in catalog() {
        for subject in subjects() {
            for argument in arguments {
                let argument = argument.replace('S', &subject);
                let call = match entry.sort {
                    Sort::Filter => format!("{subject} | {}{argument}", entry.name),
                    Sort::Test => format!("{subject} is {}{argument}", entry.name),
                    Sort::Function if argument.is_empty() => format!("{}()", entry.name),
                    Sort::Function => format!("{}{argument}", entry.name),
                };
                check(format!("{{{{ {call} }}}}"));
            }
            if entry.sort == Sort::Filter {
                check(format!("{{{{ 'x-hunter-2' | {}({subject}) }}}}", entry.name));
                check(format!("{{% for x in {subject} | {} %}}{{{{ x }}}}{{% endfor %}}", entry.name));
                check(format!("{{{{ {{({subject} | {}): 1}} }}}}", entry.name));
                check(format!("{{{{ [{subject}] | map('{}') | join }}}}", entry.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{} leaks\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn no_operator_shows_a_secret() {
    let mut wrong = Vec::new();
    for subject in subjects() {
        for other in ["1", "'x'", "'hunter'", "[1]", "none", "{'a': 1}", "1.5", "(1 | float)", "inputs.usd", &subject] {
            for operator in [
                "+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", "<=", ">", ">=", "in", "not in", "and", "or",
            ] {
                for source in [
                    format!("{{{{ {subject} {operator} {other} }}}}"),
                    format!("{{{{ {other} {operator} {subject} }}}}"),
                    format!("{{{{ [{other} {operator} {subject}] | join }}}}"),
                    format!("{{% if true %}}{{{{ {subject} {operator} {other} }}}}{{% endif %}}"),
                    format!("{{{{ {{({subject} {operator} {other}): 1}} }}}}"),
                ] {
                    wrong.extend(leaks(&source).map(|shown| format!("{source}: {shown}")));
                }
            }
        }
        for source in [
            format!("{{{{ -{subject} }}}}"),
            format!("{{{{ {subject}[0] }}}}{{{{ {subject}[0:3] }}}}{{{{ {subject}['a'] }}}}"),
            format!("{{{{ [1, 2, 3][{subject}] }}}}"),
            format!("{{{{ [1, 2, 3][{subject}:] }}}}"),
            format!("{{{{ {{{subject}: 1}} }}}}"),
            format!("{{{{ {{'x' ~ {subject}: 1}} }}}}"),
            format!("{{{{ 1 < {subject} < 3 }}}}"),
            format!("{{{{ {subject}.hunter }}}}"),
            format!("{{{{ {subject}() }}}}"),
            format!("{{% for a, b in {subject} %}}{{{{ a }}}}{{% endfor %}}"),
            format!("{{% set a, b = {subject} %}}{{{{ a }}}}"),
            format!("{{{{ range(*{subject}) }}}}"),
            format!("{{{{ [1] | sort(**{subject}) }}}}"),
        ] {
            wrong.extend(leaks(&source).map(|shown| format!("{source}: {shown}")));
        }
    }
    assert!(wrong.is_empty(), "{} leaks\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn what_a_secret_decides_is_secret() {
    for source in [
        "{% if secrets.KEY %}yes{% endif %}",
        "{% if secrets.KEY == 'hunter2' %}yes{% else %}no{% endif %}",
        "{% if secrets.KEY is startingwith('h') %}yes{% endif %}",
        "{{ 'yes' if secrets.KEY else 'no' }}",
        "{{ not secrets.KEY }}",
        "{{ secrets.KEY and 'x' }}",
        "{{ secrets.KEY and true or false }}",
        "{{ secrets.KEY | length }}",
        "{{ secrets.KEY in ['a'] }}",
        "{{ 'a' in secrets.KEY }}",
        "{{ 4711 in [secrets.PIN] }}",
        "{{ secrets.PIN > 5 }}",
        "{{ [secrets.PIN, 5] | max == 5 }}",
        "{{ [secrets.PIN] | select('gt', 5) | length }}",
        "{{ range(secrets.PIN - 4709) | length }}",
    ] {
        let value = Template::parse(source).unwrap().eval(&scope());
        assert!(value.as_ref().is_ok_and(Value::is_tainted), "{source}: {value:?}");
    }
    for (source, expected) in [
        ("{{ secrets.KEY is defined }}", "true"),
        ("{{ {'a': secrets.KEY} | keys }}", "[\"a\"]"),
        ("{{ [secrets.KEY, 1] | last }}", "1"),
        ("{{ {'a': secrets.KEY, 'b': 2}.b }}", "2"),
    ] {
        let value = Template::parse(source).unwrap().eval(&scope()).unwrap();
        assert_eq!(format!("{value}{}", if value.is_tainted() { " secret" } else { "" }), expected, "{source}");
    }
}

#[test]
fn a_secret_is_no_name_of_a_member() {
    for source in
        ["{{ {secrets.KEY: 1} }}", "{{ {secrets.KEY ~ 'x': 1} }}", "{% if true %}{{ {secrets.PIN: 1} }}{% endif %}"]
    {
        let error = Template::parse(source).unwrap().eval(&scope()).unwrap_err();
        assert_eq!(error.message, "an expression over a secret has no value", "{source}");
    }
}
