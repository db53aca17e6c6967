//! The built-in nodes from outside: every example runs, and each does what its page says.

use std::collections::BTreeSet;

use pipewright::model::Effect;
use pipewright::model::Happened;
use pipewright::model::Value;
use pipewright::model::WriteKind;
use pipewright::node::Outcome;
use pipewright::nodes::registry;
use pipewright::system::System;

use crate::support::bench::Bench;
use crate::support::server::Reply;
use crate::support::server::Server;

#[tokio::test]
async fn every_example_runs() {
    let server = Server::start(|_| Reply::json(201, r#"{"id":7}"#));
    let bench = Bench::new().with_posts();
    // What calls connectors by itself is answered by stand-ins.
    let sandbox = Bench::new().with_sandbox();
    bench.put("data/orders.json", "[1.10]");
    for node in registry().iter() {
        let example = node.example().replace("http://localhost:8080", &server.url);
        let calls = !node.calls(&Value::map::<&str>([])).is_empty() && node.name() != "content.adapt";
        let result = if calls { &sandbox } else { &bench }.run(node.name(), &example).await;
        let what = node.name();
        match result {
            Ok(Outcome::Done(_) | Outcome::Created { .. }) => {}
            Ok(Outcome::Wait { .. }) => assert_eq!(what, "time.wait"),
            Ok(Outcome::Ask { .. }) => assert_eq!(what, "approval.request"),
            Ok(Outcome::Child { pipeline, .. }) => {
                let social = ["social.publish", "social.delete", "social.metrics"];
                assert!(pipeline == "invoice" || social.contains(&&*pipeline), "{pipeline}");
            }
            Ok(Outcome::Read { .. } | Outcome::Later { .. }) => panic!("`{what}` reads no system"),
            Err(error) => panic!("the example of `{what}` fails: {}", error.text()),
        }
    }
    assert_eq!(server.seen().len(), 1);
}

#[test]
fn every_node_is_documented_and_checks_its_own_example() {
    for node in registry().iter() {
        let name = node.name();
        assert!(node.docs().lines().next().is_some_and(|line| line.ends_with('.')), "`{name}` has no first sentence");
        let (tree, _) = pipewright::yaml::parse(&"example.yaml".into(), node.example());
        let with = tree.unwrap().to_value();
        assert!(node.check(&with).is_empty(), "{name}: {:?}", node.check(&with));
        let schema = node.input_schema();
        let properties = schema["properties"].as_object().unwrap();
        for (key, property) in properties {
            let described = property.get("description").is_some() || property.to_string().contains("$ref");
            assert!(described, "`{key}` of `{name}` has no description");
        }
        for key in with.as_map().unwrap().keys() {
            assert!(properties.contains_key(&**key), "`{key}` of `{name}` is not in its schema");
        }
        for key in node.expressions().iter().map(|key| key.key).chain(node.literals().iter().copied()) {
            let root = key.split('.').next().unwrap();
            assert!(properties.contains_key(root), "`{key}` of `{name}` is not in its schema");
        }
    }
}

#[test]
fn every_file_of_a_node_is_in_the_list() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/nodes");
    // What the nodes share; everything else is a node.
    let shared = [
        "mod",
        "asking",
        "expressions",
        "files",
        "generations",
        "http_answer",
        "keys",
        "moments",
        "posts",
        "scratch",
        "social",
        "sql",
    ];
    let files: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| !shared.contains(&name.as_str()))
        .collect();
    let listed: BTreeSet<String> = registry().names().map(|name| name.replace('.', "_")).collect();
    assert_eq!(files, listed);
}

#[test]
fn a_literal_config_decides_the_effect() {
    let cases = [
        ("http.request", "url: x", Effect::Read),
        ("http.request", "method: head", Effect::Read),
        ("http.request", "method: POST", Effect::Write(WriteKind::Create)),
        ("http.request", "method: PUT", Effect::Write(WriteKind::Upsert)),
        ("http.request", "method: PATCH", Effect::Write(WriteKind::Update)),
        ("http.request", "method: delete", Effect::Write(WriteKind::Delete)),
        ("http.request", "{ method: POST, effect: read }", Effect::Read),
        ("http.request", "{ method: POST, effect: spend }", Effect::Write(WriteKind::Spend)),
        ("http.request", "{ method: null }", Effect::Write(WriteKind::Create)),
        ("csv.read", "text: a", Effect::Pure),
        ("csv.read", "file: null", Effect::Read),
        ("csv.write", "rows: []", Effect::Pure),
        ("csv.write", "file: null", Effect::Write(WriteKind::Upsert)),
        ("shell.run", "program: x", Effect::Write(WriteKind::Create)),
        ("shell.run", "effect: read", Effect::Read),
        ("sql.query", "sql: x", Effect::Read),
        ("sql.execute", "sql: x", Effect::Write(WriteKind::Update)),
        ("sql.execute", "effect: delete", Effect::Write(WriteKind::Delete)),
        ("file.write", "path: x", Effect::Write(WriteKind::Upsert)),
        ("data.map", "items: []", Effect::Pure),
    ];
    let registry = registry();
    for (name, with, expected) in cases {
        let (tree, _) = pipewright::yaml::parse(&"with.yaml".into(), with);
        assert_eq!(registry.get(name).unwrap().effect(&tree.unwrap().to_value()), expected, "{name} {with}");
    }
}

#[tokio::test]
async fn lists_are_worked_on_exactly() {
    let bench = Bench::new();
    let cases = [
        ("data.map", "items: [0.1, 0.2]\nto: \"{{ item + index }}\"", "[0.1,1.2]"),
        ("data.map", "items: [a]\nto: \"{{ item }}-{{ index }}\"", r#"["a-0"]"#),
        ("data.map", "items: [1, a]\nto: \"{{ item + 1 }}\"", "invalid: `to` of row 1: cannot add string and integer"),
        ("data.filter", "items: [1, 2, 3]\nwhere: \"{{ item != 2 }}\"", "[1,3]"),
        ("data.sort", "items: [3, 1.5, 2]\nby: \"{{ item }}\"", "[1.5,2,3]"),
        ("data.sort", "items: [3, 1.5, 2]\nby: \"{{ item }}\"\ndescending: true", "[3,2,1.5]"),
        ("data.sort", "items: [1, x]\nby: \"{{ item }}\"", "invalid: `by`: cannot compare integer and string"),
        (
            "data.group",
            "items: [{ k: 1, v: a }, { k: 2, v: b }, { k: 1.0, v: c }]\nby: \"{{ item.k }}\"",
            r#"[{"key":1,"items":[{"k":1,"v":"a"},{"k":1.0,"v":"c"}]},{"key":2,"items":[{"k":2,"v":"b"}]}]"#,
        ),
        ("data.reduce", "items: [0.1, 0.2]\ninitial: 0\nto: \"{{ acc + item }}\"", "0.3"),
        ("data.reduce", "items: []\ninitial: x\nto: \"{{ acc }}\"", "\"x\""),
        ("json.parse", "text: '{\"id\": 9007199254740993}'", r#"{"id":9007199254740993}"#),
        ("assert.that", "that: \"{{ 1 == 1.00 }}\"", "true"),
        ("assert.that", "that: \"{{ [] }}\"\nmessage: nothing came", "rejected: nothing came"),
        ("template.render", "text: \"{{ vars.n }}\"\nvars: { n: 1.10 }", r#"{"text":"1.10"}"#),
    ];
    for (node, with, expected) in cases {
        assert_eq!(bench.show(node, with).await, expected, "{node} {with}");
    }
}

#[tokio::test]
async fn joins_keep_what_they_are_told_to() {
    let bench = Bench::new();
    let lists = "left: [{ id: 1, a: x }, { id: 2, a: y }]\nright: [{ id: 1.0, b: p }, { id: 3, b: q }, { id: 1, b: r }]
left_key: \"{{ item.id }}\"\nright_key: \"{{ item.id }}\"\n";
    let both = r#"{"id":1,"a":"x","b":"p"},{"id":1,"a":"x","b":"r"}"#;
    let (left, right) = (r#"{"id":2,"a":"y"}"#, r#"{"id":3,"b":"q"}"#);
    let cases = [
        ("", format!("[{both}]")),
        ("keep: left", format!("[{both},{left}]")),
        ("keep: right", format!("[{both},{right}]")),
        ("keep: both", format!("[{both},{left},{right}]")),
        ("to: \"{{ left.a ~ right.b }}\"", r#"["xp","xr"]"#.to_owned()),
        ("max_rows: 1", "exhausted: the join has more than 1 rows (`max_rows`)".to_owned()),
    ];
    for (more, expected) in cases {
        assert_eq!(bench.show("data.join", &format!("{lists}{more}")).await, expected, "{more}");
    }
}

#[tokio::test]
async fn files_are_written_whole_and_stay_in_the_project() {
    let bench = Bench::new();
    bench.put("there.txt", "old");
    let written = bench.show("file.write", "path: there.txt\ncontent: new").await;
    assert_eq!(written, r#"{"path":"there.txt","size":3}"#);
    assert_eq!(bench.get("there.txt"), "new");
    bench.show("file.write", "path: a/b/c.json\ncontent: { id: 1.10 }").await;
    assert_eq!(bench.get("a/b/c.json"), r#"{"id":1.10}"#);
    let names: Vec<_> = std::fs::read_dir(bench.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 2, "nothing else is left: {names:?}");

    let read = bench.show("file.read", "path: a/b/c.json\nas: json").await;
    assert_eq!(read, r#"{"path":"a/b/c.json","size":11,"content":{"id":1.10}}"#);
    let read = bench.show("file.read", "path: there.txt\nas: base64").await;
    assert_eq!(read, r#"{"path":"there.txt","size":3,"content":"bmV3"}"#);
    let refused = bench.show("file.write", "path: ../x\ncontent: y").await;
    assert!(refused.starts_with("rejected: `../x` lies outside the project"), "{refused}");
    let refused = bench.show("file.read", "path: there.txt\nmax_bytes: 2").await;
    assert_eq!(refused, "exhausted: `there.txt` is larger than 2 bytes (`max_bytes`)");
    let missing = bench.show("file.read", "path: nowhere").await;
    assert!(missing.starts_with("invalid: cannot open `nowhere`"), "{missing}");

    assert_eq!(bench.show("file.delete", "path: there.txt").await, r#"{"path":"there.txt","existed":true}"#);
    assert_eq!(bench.show("file.delete", "path: there.txt").await, r#"{"path":"there.txt","existed":false}"#);
}

#[tokio::test]
async fn tables_go_out_and_come_back_unchanged() {
    let bench = Bench::new();
    let rows = r#"[{"id":9007199254740993,"price":1.10,"name":"a, \"b\"\nc"},{"id":1,"price":null,"name":"x"}]"#;
    bench.show("csv.write", &format!("file: t.csv\nrows: {rows}")).await;
    let table = bench.show("csv.read", "file: t.csv").await;
    assert_eq!(table, format!(r#"{{"columns":["id","price","name"],"rows":{rows}}}"#));
}

#[tokio::test]
async fn secrets_do_not_show() {
    let bench = Bench::new();
    assert_eq!(bench.show("log.write", "message: [\"{{ secrets.KEY }}\", 1]").await, r#""[\"***\",1]""#);
    assert_eq!(bench.logged(), [r#"Info: ["***",1]"#]);
    let text =
        bench.show("template.render", "text: \"key={{ vars.key }}\"\nvars: { key: \"{{ secrets.KEY }}\" }").await;
    assert_eq!(text, r#"{"text":"***"}"#);
    let parsed = bench.show("json.parse", "text: \"{{ '[1, \\\"' ~ secrets.KEY ~ '\\\"]' }}\"").await;
    assert_eq!(parsed, r#"["***","***"]"#);
    let table = bench.show("csv.write", "rows: [{ key: \"{{ secrets.KEY }}\" }]").await;
    assert_eq!(table, r#"{"rows":1,"file":null,"text":"***"}"#);
}

#[tokio::test]
async fn the_url_of_a_connection_may_hold_secrets() {
    let mut bench = Bench::new();
    bench.access.databases.push(("shop".to_owned(), "sqlite://{{ secrets.NAME }}.db".to_owned()));
    bench.access.databases.push(("wrong".to_owned(), "sqlite://{{ inputs.rows }}.db".to_owned()));
    let made = bench.show("sql.execute", "database: shop\nsql: CREATE TABLE t (id INTEGER)").await;
    assert_eq!(made, r#"{"count":0}"#);
    assert!(bench.root().join("secret-NAME.db").is_file());
    let wrong = bench.show("sql.query", "database: wrong\nsql: SELECT 1").await;
    assert!(wrong.starts_with("invalid: the connection's `url`: "), "{wrong}");
}

#[tokio::test]
async fn a_wait_is_a_moment_and_not_a_sleep() {
    let (system, _) = System::simulated("2026-01-31T09:00:00Z".parse().unwrap(), 1);
    let mut bench = Bench::new();
    bench.system = system;
    let until = |outcome| match outcome {
        Ok(Outcome::Wait { until, then, .. }) => {
            assert_eq!(then.get("until"), Some(&Value::Time(until)));
            until.to_string()
        }
        other => format!("{other:?}"),
    };
    assert_eq!(until(bench.run("time.wait", "for: 1h30m").await), "2026-01-31T10:30:00Z");
    assert_eq!(until(bench.run("time.wait", "until: 2026-02-01T00:00:00Z").await), "2026-02-01T00:00:00Z");
    assert_eq!(until(bench.run("time.wait", "until: \"{{ now() + duration('1m') }}\"").await), "2026-01-31T09:01:00Z");
    let past = bench.show("time.wait", "until: 2025-01-01T00:00:00Z").await;
    assert_eq!(past, r#"{"until":"2025-01-01T00:00:00Z"}"#);
    assert_eq!(bench.show("time.wait", "until: soon").await.split(':').next(), Some("invalid"));
    assert_eq!(bench.show("time.wait", "{}").await, "invalid: give one of `for` and `until`");
}

#[tokio::test]
async fn sql_binds_its_parameters() {
    let bench = Bench::new();
    let on = |rest: &str| format!("database: sqlite://shop.db\n{rest}");
    let made = bench.show("sql.execute", &on("sql: CREATE TABLE t (id INTEGER PRIMARY KEY, name TEXT)")).await;
    assert_eq!(made, r#"{"count":0}"#);
    let evil = "sql: \"INSERT INTO t SELECT value ->> 'id', value ->> 'name' FROM json_each($1)\"
params: [[{ id: 9007199254740993, name: \"'); DROP TABLE t; --\" }, { id: 2, name: b }]]";
    assert_eq!(bench.show("sql.execute", &on(evil)).await, r#"{"count":2}"#);
    let rows = bench.show("sql.query", &on("sql: SELECT id, name FROM t WHERE id > $1\nparams: [2]")).await;
    assert_eq!(rows, r#"{"rows":[{"id":9007199254740993,"name":"'); DROP TABLE t; --"}],"count":1}"#);
    let many = bench.show("sql.query", &on("sql: SELECT id FROM t\nmax_rows: 1")).await;
    assert!(many.starts_with("exhausted: "), "{many}");
    let wrong = bench.show("sql.query", &on("sql: SELECT nothing FROM t")).await;
    assert!(wrong.starts_with("invalid: "), "{wrong}");
    let outside = bench.show("sql.query", "database: sqlite://../shop.db\nsql: SELECT 1").await;
    assert!(outside.starts_with("rejected: "), "{outside}");
    let unknown = bench.show("sql.query", "database: postgres://u:hunter2@db/x\nsql: SELECT 1").await;
    assert!(unknown.starts_with("invalid: `database` is neither") && !unknown.contains("hunter2"), "{unknown}");
}

#[cfg(unix)]
#[tokio::test]
async fn programs_get_their_arguments_as_they_are_and_nothing_else() {
    let bench = Bench::new();
    let echo = bench.show("shell.run", "program: echo\nargs: [\"$HOME; ls\", 1.10]").await;
    assert_eq!(echo, r#"{"code":0,"stdout":"$HOME; ls 1.10\n","stderr":""}"#);
    let env = bench.show("shell.run", "program: env\nenv: { A: b }").await;
    assert_eq!(env, r#"{"code":0,"stdout":"A=b\n","stderr":""}"#);
    assert_eq!(bench.show("shell.run", "program: cat\nstdin: hi").await, r#"{"code":0,"stdout":"hi","stderr":""}"#);
    let failing = "program: sh\nargs: [-c, \"echo why >&2; exit 3\"]";
    assert_eq!(bench.show("shell.run", failing).await, "invalid: `sh` ended with code 3: why");
    assert_eq!(bench.run("shell.run", failing).await.unwrap_err().happened, Happened::Perhaps);
    let read = bench.run("shell.run", &format!("{failing}\neffect: read")).await.unwrap_err();
    assert_eq!(read.happened, Happened::No);
    let loud = bench.show("shell.run", "program: yes\nmax_output: 1000").await;
    assert_eq!(loud, "exhausted: `yes` wrote more than 1000 bytes to standard output (`max_output`)");
    let none = bench.run("shell.run", "program: no-such-program").await.unwrap_err();
    assert_eq!(none.happened, Happened::No);
    let outside = bench.show("shell.run", "program: ls\ncwd: ..").await;
    assert!(outside.starts_with("rejected: "), "{outside}");
    let mut off = bench;
    off.access.shell = false;
    assert!(off.show("shell.run", "program: ls").await.starts_with("rejected: `shell.run` is off"));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_program_is_killed_with_all_that_it_started() {
    let bench = Bench::new();
    let with = "program: sh\nargs: [-c, \"sleep 600 & echo $! > pid; wait\"]\ntimeout: 300ms";
    let error = bench.run("shell.run", with).await.unwrap_err();
    assert_eq!((error.class.name(), error.happened), ("timeout", Happened::Perhaps));
    let status = format!("/proc/{}/status", bench.get("pid").trim());
    // The kernel may need a moment; a zombie is dead, only nobody has asked for it yet.
    let alive = || std::fs::read_to_string(&status).is_ok_and(|status| !status.contains("State:\tZ"));
    let mut looks = 0;
    while alive() && looks < 1_000_000 {
        std::thread::yield_now();
        looks += 1;
    }
    assert!(!alive(), "the grandchild is left");
}

#[tokio::test]
async fn a_canceled_program_is_killed() {
    let bench = Bench::new();
    bench.canceled.cancel();
    assert_eq!(bench.show("shell.run", "program: sleep\nargs: [600]").await, "canceled: canceled");
}

#[tokio::test]
async fn a_dataset_is_read_in_batches_wherever_a_list_may_stand() {
    let bench = Bench::new();
    let rows = "\"{{ inputs.rows }}\"";
    let total = (0..2_500).sum::<u64>().to_string();
    let sum = bench.show("data.reduce", &format!("items: {rows}\ninitial: 0\nto: \"{{{{ acc + item.n }}}}\"")).await;
    assert_eq!(sum, total);
    let last = "where: \"{{ index == 2499 and item.n == 2499 }}\"";
    assert_eq!(bench.show("data.filter", &format!("items: {rows}\n{last}")).await, r#"[{"n":2499}]"#);
    let mapped = bench.run("data.map", &format!("items: {rows}\nto: \"{{{{ item.n - index }}}}\"")).await;
    let Ok(Outcome::Done(Value::List(mapped))) = mapped else { panic!("{mapped:?}") };
    assert_eq!(mapped.len(), 2_500);
    assert!(mapped.iter().all(|value| *value == Value::from(0)));
    let sorted = format!("items: {rows}\nby: \"{{{{ item.n }}}}\"\ndescending: true");
    assert!(bench.show("data.sort", &sorted).await.starts_with(r#"[{"n":2499},{"n":2498}"#));
    let grouped = bench.show("data.group", &format!("items: {rows}\nby: \"{{{{ item.n > 2498 }}}}\"")).await;
    assert!(grouped.ends_with(r#"{"key":true,"items":[{"n":2499}]}]"#), "{grouped}");
    let joined = "left_key: \"{{ item.n }}\"\nright_key: \"{{ item.n }}\"\nto: \"{{ left.n * right.x }}\"";
    let joined = format!("left: {rows}\nright: [{{ n: 2400, x: 2 }}]\n{joined}");
    assert_eq!(bench.show("data.join", &joined).await, "[4800]");
    let table = bench.show("csv.write", &format!("rows: {rows}\nfile: all.csv")).await;
    assert_eq!(table, r#"{"rows":2500,"file":"all.csv","text":null}"#);
    assert!(bench.get("all.csv").ends_with("\n2498\n2499\n"));
    let on = |rest: &str| format!("database: sqlite://n.db\n{rest}");
    bench.show("sql.execute", &on("sql: CREATE TABLE n (n INTEGER PRIMARY KEY, double INTEGER)")).await;
    let insert = "sql: INSERT INTO n VALUES ($1, $2)\nrow: \"{{ [item.n, item.n * 2] }}\"";
    let insert = on(&format!("{insert}\nrows: {rows}"));
    assert_eq!(bench.show("sql.execute", &insert).await, r#"{"count":2500}"#);
    let sums = bench.show("sql.query", &on("sql: SELECT SUM(double) AS sum FROM n")).await;
    assert_eq!(sums, format!(r#"{{"rows":[{{"sum":{}}}],"count":1}}"#, 2 * (0..2_500).sum::<u64>()));
    // The same rows again are refused, and none of them is left behind.
    assert!(bench.show("sql.execute", &insert).await.starts_with("conflict: row 0: "));
}

#[tokio::test]
async fn rows_are_a_list_or_a_dataset_and_nothing_else() {
    let bench = Bench::new();
    let wrong = bench.show("data.map", "items: \"{{ 'x' ~ 'y' }}\"\nto: \"{{ item }}\"").await;
    assert_eq!(wrong, "invalid: the input of `data.map`: `items`: expected a list or a dataset, found string");
    let params = "database: sqlite://n.db\nsql: SELECT 1\nrows: [1]\nrow: \"{{ item }}\"";
    let wrong = bench.show("sql.execute", params).await;
    assert_eq!(wrong, "invalid: `row` of row 0: expected a list of parameters");
}

#[tokio::test]
async fn rows_are_quoted_in_csv_where_they_must_be() {
    let bench = Bench::new();
    let cases = [
        (r#"{"rows":[{"a":1.10,"b":"x,\"y\""},{"a":null}]}"#, "a,b\n1.10,\"x,\"\"y\"\"\"\n,\n"),
        (r#"{"rows":[{"a":[1]}],"header":false}"#, "[1]\n"),
        (r#"{"rows":[],"columns":["a"]}"#, "a\n"),
    ];
    for (with, expected) in cases {
        let written = bench.run("csv.write", with).await;
        let Ok(Outcome::Done(written)) = written else { panic!("{written:?}") };
        assert_eq!(written.get("text"), Some(&Value::from(expected)), "{with}");
    }
    let wrong = bench.show("csv.write", "rows: [5]").await;
    assert_eq!(wrong, "invalid: row 0 is not an object but integer");
}
