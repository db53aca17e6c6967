//! What expressions and prompts mean, as text.

mod bounds;
mod fuzz;
mod lenient;
mod secrets;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Lookup;
use super::Prompt;
use super::Scope;
use super::StepView;
use super::Template;
use crate::model::Map;
use crate::model::StepState;
use crate::model::Timestamp;
use crate::model::Value;

#[derive(Debug)]
struct World;

impl Lookup for World {
    fn step(&self, id: &str) -> Option<StepView> {
        let output = crate::model::parse_json(r#"{"text":"hi","price":19.99,"id":1234567890123456789}"#).unwrap();
        (id == "draft").then_some(StepView { output, state: StepState::Succeeded, error: None })
    }

    fn secret(&self, name: &str) -> Result<Value, String> {
        match name {
            "KEY" => Ok(Value::from("hunter2").tainted()),
            "PIN" => Ok(Value::from(4711).tainted()),
            "LIST" => Ok(Value::list(vec![Value::from("hunter2"), Value::from(4711)]).tainted()),
            "OBJECT" => Ok(Value::map([("a", Value::from("hunter2")), ("b", Value::from(4711))]).tainted()),
            _ => Err(format!("there is no secret `{name}`")),
        }
    }
}

fn scope() -> Scope {
    let inputs = crate::model::parse_json(r#"{"n":3,"list":[1,2.50],"big":12345678901234567890.123456789,"no":null}"#);
    let mut inputs: Map = inputs.unwrap().as_map().unwrap().clone();
    inputs.insert("usd".into(), Value::Money("10.00 USD".parse().unwrap()));
    inputs.insert("eur".into(), Value::Money("10.00 EUR".parse().unwrap()));
    let globals = Arc::new(vec![("inputs".into(), Value::from(inputs))]);
    Scope { lookup: Arc::new(World), globals, locals: vec![("item", Value::from(7))], now: Timestamp(0) }
}

fn eval(source: &str) -> String {
    match Template::parse(source) {
        Ok(template) if template.references().iter().any(|it| source.get(it.range.clone()).is_none()) => {
            panic!("{source:?}: a name outside of the text: {:?}", template.references())
        }
        Ok(template) => match template.eval(&scope()) {
            Ok(value) => format!("{value}{}", if value.is_tainted() { " secret" } else { "" }),
            Err(error) => format!("error: {}", error.message),
        },
        Err(error) if source.get(error.range.clone()).is_none() => {
            panic!("{source:?}: a fault outside of the text: {error:?}")
        }
        Err(error) => format!("syntax {:?}: {}", error.range, error.message),
    }
}

#[test]
fn one_expression_keeps_its_kind_and_text_is_text() {
    for (source, expected) in [
        ("plain", "\"plain\""),
        ("{{ item }}", "7"),
        ("{{ item * 2 }}", "14"),
        ("n={{ item }}", "\"n=7\""),
        ("{{ inputs.list }}", "[1,2.50]"),
        ("{{ steps.draft.output.text }}{{ item }}", "\"hi7\""),
        ("{{ steps.draft.state }}", "\"succeeded\""),
        ("{{ [item, inputs.n] }}", "[7,3]"),
        ("{{ {'a': item} }}", "{\"a\":7}"),
        ("{% if item > 5 %}big{% else %}small{% endif %}\n", "\"big\\n\""),
        ("{% for x in inputs.list %}{{ x }};{% endfor %}", "\"1;2.50;\""),
        ("{{ inputs.no }}", "null"),
        ("x{{ inputs.no }}", "\"x\""),
        ("{{ inputs.list[0] }}", "1"),
        ("{{ 'a' if item == 7 else 'b' }}", "\"a\""),
        ("{{ 1 < item <= 7 }}", "true"),
        ("{{ item not in [1, 2] }}", "true"),
    ] {
        assert_eq!(eval(source), expected, "{source}");
    }
}

#[test]
fn what_was_only_checked_gives_the_same() {
    let sources =
        ["{{ item * 2 }}", "n={{ item }}", "{{ inputs.no | default(1) }}", "{{ nothing.x }}", "{{ 'a' + 1 }}"];
    let kept = sources.map(eval);
    // Of the whole process: the other tests mean the same with it.
    super::only_check();
    assert_eq!(sources.map(eval), kept);
}

#[test]
fn numbers_are_exact() {
    for (source, expected) in [
        ("{{ 0.1 + 0.2 }}", "0.3"),
        ("{{ 0.1 + 0.2 == 0.3 }}", "true"),
        ("{{ steps.draft.output.price * 3 }}", "59.97"),
        ("{{ steps.draft.output.id + 1 }}", "1234567890123456790"),
        ("{{ inputs.big }}", "12345678901234567890.123456789"),
        ("{{ inputs.big + 0 }}", "12345678901234567890.123456789"),
        ("{{ inputs.usd * 1.5 }}", "\"15.000 USD\""),
        ("{{ inputs.usd + inputs.eur }}", "error: cannot add USD and EUR: two currencies"),
        (
            "{{ inputs.usd * (0.5 | float) }}",
            "error: a float does not mix with money: take `| float` away, or make both floats",
        ),
        ("{{ 7 // 2 }} {{ -7 % 3 }} {{ 2 ** 10 }}", "\"3 2 1024\""),
        ("{{ 1 / 0 }}", "error: division by zero"),
        ("{{ -inputs.n }}", "-3"),
    ] {
        assert_eq!(eval(source), expected, "{source}");
    }
}

#[test]
fn what_is_not_there_is_named() {
    for (source, expected) in [
        ("{{ nothing }}", "error: `nothing` is not known here"),
        ("{{ steps.draft.output.txt }}", "error: `steps.draft.output` has no `txt`; did you mean `text`?"),
        ("{{ steps.draft.output.txt ~ 'x' }}", "error: `steps.draft.output` has no `txt`; did you mean `text`?"),
        ("{{ steps.refelct.output }}", "error: there is no step `refelct`"),
        ("{{ secrets.NO }}", "error: there is no secret `NO`"),
        ("{{ steps.draft.output.txt | default('x') }}", "\"x\""),
        ("{{ item | roud }}", "syntax 10..14: there is no filter `roud`; did you mean `round`?"),
        (
            "{{ item is startingwit('a') }}",
            "syntax 11..27: there is no test `startingwit`; did you mean `startingwith`?",
        ),
        ("{{ rang(3) }}", "syntax 3..7: there is no function `rang`; did you mean `range`?"),
    ] {
        assert_eq!(eval(source), expected, "{source}");
    }
    assert!(eval("{{ item").starts_with("syntax"), "{}", eval("{{ item"));
}

#[test]
fn what_touches_a_secret_is_secret() {
    for source in [
        "{{ secrets.KEY }}",
        "k={{ secrets.KEY }}",
        "{{ secrets.KEY | upper }}",
        "{{ secrets.KEY | base64 }}",
        "{% if true %}{{ secrets.KEY }}{% endif %}",
    ] {
        assert!(eval(source).ends_with("\"***\" secret"), "{source}: {}", eval(source));
    }
    assert_eq!(eval("{{ [secrets.KEY, 1] }}"), "[\"***\",1] secret");
    assert_eq!(eval("{{ ['08', '-007', '000', '0', '00.9'] | map('int') | list }}"), "[8,-7,0,0,0]");
    assert_eq!(eval("{{ secrets.KEY | int }}"), "error: an expression over a secret has no value");
    assert_eq!(eval("{{ secrets.KEY + 1 }}"), "error: an expression over a secret has no value");
    assert_eq!(eval("{{ secrets.KEY == 'hunter2' }}"), "\"***\" secret");
    assert_eq!(
        Template::parse("k={{ secrets.KEY }}").unwrap().eval(&scope()).unwrap().revealed(),
        Value::from("k=hunter2")
    );
}

#[test]
fn references_are_the_names_that_are_read() {
    let template = Template::parse(
        "{{ steps.a.output['x'].y + inputs.n }}{% for s in steps.b.output %}{{ s.z }}{{ loop.index }}{% endfor %}",
    );
    let shown: Vec<_> = template.unwrap().references().iter().map(|it| it.path.join(".")).collect();
    assert_eq!(shown, ["steps.a.output.x.y", "inputs.n", "steps.b.output"]);
    let template = Template::parse("ab {{ steps.a.output }}").unwrap();
    assert_eq!(template.references()[0].range, 6..20);
}

#[test]
fn a_prompt_includes_other_files() {
    let files = BTreeMap::from([
        ("main.j2".to_owned(), "Hello {{ item }}{% include 'part.j2' %}".to_owned()),
        ("part.j2".to_owned(), ", {{ 0.1 + 0.2 }}!\n".to_owned()),
    ]);
    let prompt = Prompt::parse("main.j2", &files).unwrap();
    assert_eq!(prompt.render(&scope()).unwrap(), Value::from("Hello 7, 0.3!"));
}

#[test]
fn filters_take_arguments_by_name() {
    for (source, expected) in [
        ("{{ [1, 3, 2] | sort(reverse=true) }}", "[3,2,1]"),
        ("{{ 2.345 | round(places=2) }}", "2.34"),
        ("{{ 2.345 | round(2, mode='half_up') }}", "2.35"),
        ("{{ [{'x': 1}, {'x': 2}] | sum(attribute='x') }}", "3"),
        ("{{ [{'x': 1}] | sum('x', start=5) }}", "6"),
        ("{{ [1, 2] | join(between='-') }}", "\"1-2\""),
        ("{{ [{'x': 2}, {'x': 1}] | map(attribute='x') }}", "[2,1]"),
        ("{{ [{'x': 2}, {}] | map(attribute='x', default=0) }}", "[2,0]"),
        ("{{ ['b', 'a'] | map('upper') }}", "[\"B\",\"A\"]"),
        ("{{ [1.25, 2.35] | map('round', places=1) }}", "[1.2,2.4]"),
        ("{{ 'a b c' | split(most=1) }}", "[\"a\",\"b c\"]"),
        ("{{ [1] | sort(revers=true) }}", "error: unknown keyword argument 'revers'"),
        ("{{ [1] | sort(none, true, true) }}", "error: at most 2 arguments are taken"),
        ("{{ [1] | sort('x', attribute='x') }}", "error: `attribute` is given twice"),
        ("{{ ['a'] | map('uper') }}", "error: there is no filter `uper`; did you mean `upper`?"),
        ("{{ ['a'] | map('__get', 'x') }}", "error: there is no filter `__get`"),
        (
            "{{ ['a'] | select('startswith', 'a') }}",
            "error: there is no test `startswith`; did you mean `startingwith`?",
        ),
        ("{{ inputs.list.append(1) }}", "syntax 9..21: values have no methods; use a filter: `x | name(…)`"),
    ] {
        assert_eq!(eval(source), expected, "{source}");
    }
}

#[test]
fn a_text_with_statements_writes_values_as_the_language_does() {
    for (source, expected) in [
        ("{{ none }}|{{ true }}|{{ false }}", "\"|true|false\""),
        ("{% if true %}{{ none }}|{{ true }}|{{ false }}{% endif %}", "\"|true|false\""),
        ("{% if true %}{{ ['a', 1.50, none, true] }}{% endif %}", r#""[\"a\",1.50,null,true]""#),
        ("{% if true %}{{ {'a': 'b'} }}{{ ('c',) }}{% endif %}", r#""{\"a\":\"b\"}[\"c\"]""#),
        ("{% if true %}{{ inputs.list }}{{ inputs.usd }}{% endif %}", "\"[1,2.50]10.00 USD\""),
        ("{% for x in [none, true] %}{{ x ~ ';' }}{% endfor %}", "\";true;\""),
        ("{% if true %}a{{ {'b': 1} }}{% endif %}{", r#""a{\"b\":1}{""#),
        ("{% if true %}{{% endif %}", "syntax"),
    ] {
        let shown = eval(source);
        assert!(shown == expected || (expected == "syntax" && shown.starts_with(expected)), "{source}: {shown}");
    }
    let parts = "{{ item }},".repeat(600);
    assert_eq!(eval(&parts), format!("\"{}\"", "7,".repeat(600)));
    assert_eq!(eval("{% if true %}{{{ 'a': 1 }}}{% endif %}"), r#""{\"a\":1}""#);
    assert_eq!(eval("{{ '{' }}{% if true %}{ {{ item }}{% endif %}"), "\"{{ 7\"");
}

#[test]
fn null_and_what_is_not_there_have_a_default() {
    for (source, expected) in [
        ("{{ inputs.no | default('x') }}", "\"x\""),
        ("{{ inputs.no.deep.deeper | default('x') }}", "\"x\""),
        ("{{ steps.draft.output.a['b'].c | default('x') }}", "\"x\""),
        ("{{ steps.draft.output.a.b is defined }}", "false"),
        ("{{ steps.draft.output.text is defined }}", "true"),
        ("{{ 0 | default('x') }}", "0"),
        ("{{ 0 | default('x', true) }}", "\"x\""),
        ("{{ '' | default('x', also_false=true) }}", "\"x\""),
        ("{{ [steps.draft.output.a] }}", "error: `steps.draft.output` has no `a`"),
    ] {
        assert_eq!(eval(source), expected, "{source}");
    }
}

#[test]
fn chains_of_comparisons_evaluate_the_middle_once() {
    for (source, expected) in [
        ("{{ 1 < item < 9 }}", "true"),
        ("{{ 1 < item < 7 }}", "false"),
        ("{{ 1 < item + 1 <= 8 < 9 }}", "true"),
        ("{{ 1 < (2 < item < 9 | int) < 3 }}", "error: cannot compare integer and boolean"),
        ("{{ 9 < item < 1 / 0 }}", "false"),
        ("{{ 1 not in [2] == [2] }}", "true"),
        ("{% for x in [1, 5] %}{{ 0 < x * 1 < 3 }} {% endfor %}", "\"true false \""),
    ] {
        assert_eq!(eval(source), expected, "{source}");
    }
    let template = Template::parse("{{ 1 < inputs.n + item < 9 }}").unwrap();
    assert_eq!(template.references().len(), 2);
}

#[test]
fn loops_know_where_they_are() {
    for (source, expected) in [
        (
            "{% for x in [5, 6, 7] %}{{ loop.index }}{{ loop.cycle('a', 'b') }}{{ loop.last }} {% endfor %}",
            "\"1afalse 2bfalse 3atrue \"",
        ),
        ("{% for k in {'a': 1, 'b': 2} %}{{ k }}{{ loop.length }}{{ loop.first }} {% endfor %}", "\"a2true b2false \""),
        ("{% for k, v in {'a': 1} | items %}{{ k }}={{ v }}{% endfor %}", "\"a=1\""),
        ("{% for x in [] %}{{ x }}{% else %}none{% endfor %}", "\"none\""),
        ("{% for x in [1, none, 2] if x is not none %}{{ x }}{% if loop.last %}.{% endif %}{% endfor %}", "\"12.\""),
        (
            "{% for x in range(9) %}{% if x == 2 %}{% continue %}{% elif x > 3 %}{% break %}{% endif %}{{ x }}{% endfor %}",
            "\"013\"",
        ),
        ("{% for x in 5 %}{% endfor %}", "error: number is not iterable"),
        ("{{ loop.changed(1) }}", "syntax 3..15: values have no methods; use a filter: `x | name(…)`"),
    ] {
        assert_eq!(eval(source), expected, "{source}");
    }
    // Rewritten it nests deeper than it was written.
    let deep = format!("{{{{ {}1{} }}}}", "[not ".repeat(48), "]".repeat(48));
    assert_eq!(eval(&deep), "syntax 0..295: the expression nests too deep; split it up");
}

#[test]
fn parts_of_lists_and_texts_are_taken_as_in_python() {
    for (source, expected) in [
        ("{{ [1, 2, 3][1:] }}", "[2,3]"),
        ("{{ [1, 2, 3][:-1] }}", "[1,2]"),
        ("{{ [1, 2, 3][::-1] }}", "[3,2,1]"),
        ("{{ [1, 2, 3][-2:] }}", "[2,3]"),
        ("{{ 'hello'[1:4:2] }}", "\"el\""),
        ("{{ 'hello'[10:] }}", "\"\""),
        ("{{ [1, 2][::0] }}", "error: the step in `[…]` cannot be 0"),
        ("{{ 5[1:] }}", "error: only a list or a text has parts, integer has none"),
        ("{{ ('a' ~ 'b')[0] ~ (inputs.list | last) }}", "\"a2.50\""),
    ] {
        assert_eq!(eval(source), expected, "{source}");
    }
}

#[test]
fn a_reference_tells_whether_it_may_be_missing_here() {
    for (source, expected) in [
        ("{{ a.b }}", "a.b"),
        ("{{ a.b | default(c.d) }}", "a.b? c.d"),
        ("{{ a.b | d }}{{ a.b }}", "a.b? a.b"),
        ("{{ (a.b ~ 'x') | default('') }}", "a.b"),
        ("{{ a.b | upper | default('') }}", "a.b"),
        ("{{ a[c.d].b | default('') }}", "a? c.d"),
        ("{{ a.b is defined }}", "a.b?"),
        ("{{ a.b is none }}", "a.b?"),
        ("{{ a.b is string }}", "a.b"),
        ("{{ a.b.c if a.b is defined else a.b }}", "a.b.c? a.b? a.b"),
        ("{{ 1 if a.b is undefined else a.b }}", "a.b? a.b?"),
        ("{{ a.b is defined and a.b.c > 1 and a.x }}", "a.b? a.b.c? a.x"),
        ("{{ a.b is not defined or a.b.c }}", "a.b? a.b.c?"),
        ("{{ a.b is defined or a.b.c }}", "a.b? a.b.c"),
        ("{% if a.b is defined %}{{ a.b }}{{ a.c }}{% else %}{{ a.b }}{% endif %}{{ a.b }}", "a.b? a.b? a.c a.b a.b"),
        ("{% if a.b is none %}{% elif x %}{{ a.b }}{% else %}{{ a.b.c }}{% endif %}", "a.b? x a.b? a.b.c?"),
        ("{% if not (a.b is undefined or x) %}{{ a.b }}{% endif %}", "a.b? x a.b?"),
        ("{% if steps.s.state == 'succeeded' %}{{ steps.s.output.x }}{% endif %}", "steps.s.state steps.s.output.x?"),
        ("{% if steps.s.state == 'failed' %}{{ steps.s.output.x }}{% endif %}", "steps.s.state steps.s.output.x"),
        ("{% if a.b | default(false) %}{{ a.b }}{% endif %}", "a.b? a.b?"),
        ("{% if a.b | default(true) %}{{ a.b }}{% endif %}", "a.b? a.b"),
        ("{% if a.b %}{{ a.b.c }}{% endif %}", "a.b a.b.c?"),
        ("{% for x in y if a.b is defined %}{{ a.b }}{% else %}{{ a.b }}{% endfor %}", "y a.b? a.b? a.b"),
        ("{% for x in y %}{% set z = 1 %}{{ z }}{{ x.k }}{% endfor %}{{ z }}{{ x }}", "y z x"),
    ] {
        let template = Template::parse(source).unwrap_or_else(|error| panic!("{source}: {error}"));
        let shown = template
            .references()
            .iter()
            .map(|it| format!("{}{}", it.path.join("."), if it.optional { "?" } else { "" }));
        assert_eq!(shown.collect::<Vec<_>>().join(" "), expected, "{source}");
    }
}

fn prompt(files: &[(&str, &str)]) -> Result<Prompt, String> {
    let files: BTreeMap<String, String> =
        files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
    Prompt::parse("main", &files).map_err(|(name, error)| format!("{name} {:?}: {}", error.range, error.message))
}

#[test]
fn what_is_wrong_with_a_prompt_is_found_before_it_is_rendered() {
    let include = |name: &str| format!("{{% include '{name}' %}}");
    for (files, expected) in [
        (vec![("other", "")], "main 0..0: there is no file `main`"),
        (
            vec![("main", "x{% include 'parts' %}"), ("part", "")],
            "main 4..19: there is no file `parts`; did you mean `part`?",
        ),
        (vec![("main", "{% include 'main' %}")], "main 3..17: the file includes itself: `main` → `main`"),
        (
            vec![("main", "{% include 'a' %}"), ("a", "{% include 'b' %}"), ("b", "{% include 'a' %}")],
            "b 3..14: the file includes itself: `a` → `b` → `a`",
        ),
        (vec![("main", "{% include 'a' %}"), ("a", "{{ x | nope }}")], "a 7..11: there is no filter `nope`"),
        (
            vec![("main", "{% extends 'a' %}"), ("a", "")],
            "main 3..14: `extends` is not supported: a file cannot extend another; put the common part in with `include`",
        ),
        (vec![("main", "{% include item %}")], "main 3..15: includes with a computed name are not supported"),
    ] {
        assert_eq!(prompt(&files).map(|_| ()).unwrap_err(), expected);
    }
    let names: Vec<String> =
        (0..12).map(|level| if level == 0 { "main".to_owned() } else { format!("f{level}") }).collect();
    let texts: Vec<String> =
        (0..12).map(|level| if level < 11 { include(&format!("f{}", level + 1)) } else { String::new() }).collect();
    let files: Vec<(&str, &str)> = names.iter().map(String::as_str).zip(texts.iter().map(String::as_str)).collect();
    assert!(prompt(&files).unwrap_err().ends_with("files include one another more than 8 deep"));
    assert!(Template::parse("{% include 'a' %}").unwrap_err().message.starts_with("`include` works in prompt files"));
}

#[test]
fn a_prompt_lists_its_files_and_names() {
    let prompt = prompt(&[
        ("main", "{{ inputs.n }}{% include 'a' %}{% include 'a' %}{% include 'gone' ignore missing %}"),
        ("a", "{% include 'b' %}{{ item | default('') }}"),
        ("b", "{{ steps.draft.output.text }}"),
        ("unused", "{{ nope | nope }}"),
    ]);
    let prompt = prompt.unwrap();
    assert_eq!(prompt.files(), ["a", "b", "main"]);
    let names: Vec<_> = prompt.references().iter().map(|(file, it)| format!("{file}:{}", it.path.join("."))).collect();
    assert_eq!(names, ["main:inputs.n", "a:item", "b:steps.draft.output.text"]);
    assert_eq!(prompt.render(&scope()).unwrap(), Value::from("3hi7hi7"));
}

#[test]
fn an_included_file_knows_what_is_known_where_it_is_included() {
    let names = |files: &[(&str, &str)]| -> String {
        let prompt = prompt(files).unwrap();
        let shown = prompt
            .references()
            .iter()
            .map(|(file, it)| format!("{file}:{}{}", it.path.join("."), if it.optional { "?" } else { "" }));
        shown.collect::<Vec<_>>().join(" ")
    };
    let row = ("row", "{{ row.name }}{{ a.b.c }}{{ loop.index }}");
    let looped = "{% for row in rows %}{% if a.b is defined %}{% include 'row' %}{% endif %}{% endfor %}";
    assert_eq!(names(&[("main", looped), row]), "main:rows main:a.b? row:a.b.c?");
    let twice = "{% set row = {} %}{% if a.b.c %}{% include 'row' %}{% endif %}".to_owned() + looped;
    assert_eq!(names(&[("main", &twice), row]), "main:a.b.c main:rows main:a.b? row:a.b.c? row:loop.index");
    let bare = "{% include 'row' %}".to_owned() + looped;
    assert_eq!(names(&[("main", &bare), row]), "main:rows main:a.b? row:row.name row:a.b.c row:loop.index");
    let through =
        [("main", "{% for row in rows %}{% include 'mid' %}{% endfor %}"), ("mid", "{% include 'row' %}"), row];
    assert_eq!(names(&through), "main:rows row:a.b.c");
    // Deep blocks in files that include one another have room.
    let deep = format!("{}{{% include 'N' %}}{}", "{% for x in [1] %}".repeat(60), "{% endfor %}".repeat(60));
    let files: Vec<(String, String)> = (0..8)
        .map(|level| {
            let name = if level == 0 { "main".to_owned() } else { format!("f{level}") };
            (name, if level == 7 { "{{ item }}".to_owned() } else { deep.replace('N', &format!("f{}", level + 1)) })
        })
        .collect();
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
    assert_eq!(prompt(&files).unwrap().render(&scope()).unwrap(), Value::from("7"));
}

#[test]
fn an_error_in_an_included_file_names_it() {
    let failing = prompt(&[("main", "{% include 'a' %}"), ("a", "{{ steps.draft.output.txt }}")]).unwrap();
    let error = failing.render(&scope()).unwrap_err().message;
    assert_eq!(error, "`steps.draft.output` has no `txt`; did you mean `text`? in `a`");
    let failing = prompt(&[("main", "{% include 'a' %}"), ("a", "{{ 1 / 0 }}")]).unwrap();
    assert_eq!(failing.render(&scope()).unwrap_err().message, "division by zero in `a`");
}
