//! Plans: what they say, that they change nothing, and that a run which is bound to one does nothing else.

use std::fmt::Write;
use std::sync::Arc;

use async_trait::async_trait;
use pipewright::connector::library::Library;
use pipewright::connector::library::Loaded;
use pipewright::engine::Engine;
use pipewright::engine::Execution;
use pipewright::engine::plan::Circumstances;
use pipewright::engine::plan::Plan;
use pipewright::engine::plan::PlanFile;
use pipewright::engine::plan::PlanOptions;
use pipewright::http::Request;
use pipewright::model::Effect;
use pipewright::model::ErrorClass;
use pipewright::model::RunEvent;
use pipewright::model::RunState;
use pipewright::model::Settlement;
use pipewright::model::Value;
use pipewright::node::ExpressionKey;
use pipewright::node::Node;
use pipewright::node::NodeError;
use pipewright::node::Outcome;
use pipewright::node::Reconciled;
use pipewright::node::StepContext;
use pipewright::node::StreamState;
use pipewright::pipeline::Pipeline;
use pipewright::sandbox::world::World as Sandbox;

use super::Stage;
use super::give;

fn empty() -> Value {
    Value::map::<&str>([])
}

async fn planned(engine: &Engine, pipeline: &Arc<Pipeline>) -> Plan {
    engine.plan(pipeline, empty(), PlanOptions::default()).await.unwrap()
}

fn file(plan: &Plan) -> PlanFile {
    PlanFile::new(plan, &Circumstances::default())
}

/// Says what a plan has, a line for each.
fn told(plan: &Plan) -> String {
    let mut lines = Vec::new();
    for effect in &plan.effects {
        let mut text = String::new();
        let each = if effect.each { "[]" } else { "" };
        let names = |names: &[Arc<str>]| names.join(",");
        let _ = writeln!(
            text,
            "{} {}{each} {} after=[{}] if=[{}]",
            effect.kind.name(),
            effect.place,
            effect.input,
            names(&effect.after),
            names(&effect.only_if)
        );
        lines.push(text);
    }
    lines.extend(plan.open.iter().map(|open| format!("? {} {}\n", open.place, open.reason)));
    lines.extend(plan.failure.iter().map(|(place, error)| format!("fails at {place}: {error}\n")));
    lines.sort();
    lines.concat()
}

fn stage() -> Stage {
    let settlement = Settlement::default();
    Stage::new().read("test.look", |_, input| give(input.get("value").cloned().unwrap_or_default())).write(
        "test.do",
        settlement,
        |_, input| give(input.clone()),
    )
}

/// Applies a plan as the command does; the differences where it no longer holds.
async fn apply(
    stage: &Stage,
    engine: &Engine,
    pipeline: &Arc<Pipeline>,
    file: &PlanFile,
) -> Result<super::Played, Vec<String>> {
    let plan = engine.plan(pipeline, empty(), file.options()).await.unwrap();
    let differences = file.differences(&PlanFile::new(&plan, &file.circumstances()));
    if !differences.is_empty() {
        return Err(differences);
    }
    let bond = engine.start_planned(None, pipeline, &plan, file.hash()).await.unwrap();
    let bond = bond.ok_or_else(|| vec!["applied before".to_owned()])?;
    Ok(stage.hasten_run(engine, plan.run, pipeline, Some(bond)).await)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_depends_on_a_planned_effect_is_unknown_and_what_does_not_is_known() {
    let stage = stage();
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(
        r#"steps:
  rows: { uses: test.look, with: { value: [1, 2, 3] } }
  first: { uses: test.do, with: { n: "{{ steps.rows.output | length }}", when: "{{ now() }}" } }
  again: { uses: test.look, needs: [first], with: { value: 7 } }
  text: { uses: template.render, with: { text: "made {{ steps.first.output.id }} of {{ steps.rows.output | length }}" } }
  second: { uses: test.do, with: { text: "{{ steps.text.output }}", known: "{{ steps.rows.output | first }}" } }
  some: { when: "{{ steps.first.output.n > 2 }}", uses: test.do, with: { a: 1 } }
  none: { when: "{{ steps.rows.output | length > 5 }}", uses: test.do, with: { a: 2 } }
  each: { for_each: "{{ steps.rows.output }}", uses: test.do, with: { item: "{{ item * 2 }}" } }
  many: { for_each: "{{ steps.again.output }}", uses: test.do, with: { item: "{{ item }}", fixed: x } }
outputs: { sum: "{{ steps.rows.output | sum }}", id: "{{ steps.second.output.id }}" }
"#,
    );
    let plan = planned(&engine, &pipeline).await;
    let text = told(&plan);
    assert_eq!(stage.world.seen.lock().unwrap().happened.len(), 0, "{text}");
    let now = stage.system.clock.now();
    assert_eq!(
        text,
        format!(
            r#"? again it looks after what is only planned
? text its input is not known yet
create each[0] {{"item":2}} after=[] if=[]
create each[1] {{"item":4}} after=[] if=[]
create each[2] {{"item":6}} after=[] if=[]
create first {{"n":3,"when":"{now}"}} after=[] if=[]
create many[] {{"item":"?","fixed":"x"}} after=[first] if=[]
create second {{"text":"?","known":1}} after=[first] if=[]
create some {{"a":1}} after=[first] if=[steps.first.output.n]
"#
        )
    );
    assert!(plan.outputs.get("sum") == Some(&Value::from(6)) && !plan.outputs.get("id").unwrap().is_known());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_begins_with_what_its_plan_found_out_and_does_what_it_says() {
    let stage = stage();
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(
        r#"steps:
  rows: { uses: test.look, with: { value: [1, 2, 3] } }
  sum: { uses: template.render, with: { text: "{{ steps.rows.output | sum }}" } }
  each: { for_each: "{{ steps.rows.output }}", uses: test.do, with: { item: "{{ item }}", at: "{{ now() }}", sum: "{{ steps.sum.output.text }}" } }
  none: { when: "{{ steps.rows.output | length > 5 }}", uses: test.do, with: { a: 2 } }
  again: { uses: test.look, needs: [each], with: { value: 7 } }
  last: { uses: test.do, with: { n: "{{ steps.again.output }}" } }
outputs: { n: "{{ steps.last.output.n }}" }
"#,
    );
    let plan = planned(&engine, &pipeline).await;
    let at = plan.at.to_string();
    let file = PlanFile::read(&file(&plan).to_text()).unwrap();
    stage.world.clock.advance(pipewright::model::Duration::from_secs(600));
    let looked = |stage: &Stage| {
        stage.world.seen.lock().unwrap().calls.iter().filter(|(_, call)| call.starts_with("test.look")).count()
    };
    assert_eq!(looked(&stage), 1);
    let played = apply(&stage, &engine, &pipeline, &file).await.unwrap();
    let Execution::Finished { state: RunState::Succeeded, .. } = &played.execution else { panic!("{}", played.told()) };
    assert_eq!(played.outputs(), r#"{"n":7}"#);
    // Once for the plan, once to compare, and then only what was unknown.
    assert_eq!(looked(&stage), 3);
    let made: Vec<_> = stage.world.seen.lock().unwrap().happened.iter().map(|(_, input)| input.to_string()).collect();
    let expected: Vec<_> = (1..=3).map(|n| format!(r#"{{"item":{n},"at":"{at}","sum":"6"}}"#)).collect();
    assert_eq!(made.len(), 4, "{made:?}");
    for expected in expected {
        assert!(made.contains(&expected), "{made:?} has not {expected}: what `now()` gave for the plan holds");
    }
    assert!(matches!(
        played.journal.iter().find(|event| event.path().is_some() || matches!(event, RunEvent::Planned { .. })),
        Some(RunEvent::Planned { .. })
    ));
    // A plan is applied once.
    assert_eq!(apply(&stage, &engine, &pipeline, &file).await.err().unwrap(), ["applied before"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_effect_that_is_not_in_the_plan_stops_the_run_before_it_leaves() {
    // What is read changes after the comparison, so that the run is about to do something else.
    let stage = Stage::new()
        .read("test.late", |count, _| {
            give(if count == 0 { Value::list(vec![1.into()]) } else { Value::list(vec![1.into(), 2.into()]) })
        })
        .write("test.do", Settlement::default(), |_, input| give(input.clone()));
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(
        r#"steps:
  first: { uses: test.do, with: { n: 1 } }
  late: { uses: test.late, needs: [first], with: {} }
  more: { uses: test.do, when: "{{ steps.late.output | length > 0 }}", with: { rows: "{{ steps.late.output }}", m: { a: 1 } } }
"#,
    );
    let mut plan = planned(&engine, &pipeline).await;
    // Somebody leaves the second effect out, and another part of it.
    let whole = plan.clone();
    plan.effects.retain(|effect| effect.place.path.step.as_ref() == "first");
    for (plan, expected) in [
        (plan, "the plan has no effect `test.do` of step `more`: nothing was sent"),
        (
            {
                let mut plan = whole;
                plan.run = stage.system.run_id();
                plan.effects[1].input = Value::map([("rows", plan.effects[1].input.get("rows").unwrap().clone())]);
                plan
            },
            "the effect `test.do` of step `more` is another than planned: `with.m` is not in the plan; nothing was sent",
        ),
    ] {
        let hash = file(&plan).hash().to_owned();
        let bond = engine.start_planned(None, &pipeline, &plan, &hash).await.unwrap();
        let played = stage.hasten_run(&engine, plan.run, &pipeline, bond).await;
        let Execution::Finished { state: RunState::Failed, error: Some(error), .. } = &played.execution else {
            panic!("{}", played.told())
        };
        assert_eq!(error.class, ErrorClass::Rejected);
        assert!(error.message.contains(expected), "{}", error.message);
    }
    let seen = stage.world.seen.lock().unwrap();
    assert!(seen.happened.iter().all(|(_, input)| input.get("n").is_some()), "{:?}", seen.happened);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_process_died_before_its_plan_was_written_does_nothing() {
    let stage = stage();
    let engine = stage.engine().await;
    let pipeline = stage.pipeline("steps:\n  a: { uses: test.do, with: { n: 1 } }\n");
    let plan = planned(&engine, &pipeline).await;
    let hash = file(&plan).hash().to_owned();
    engine.start_planned(None, &pipeline, &plan, &hash).await.unwrap().unwrap();
    // Another process goes on with it, and knows of no plan.
    let other = stage.engine().await;
    let played = stage.hasten_run(&other, plan.run, &pipeline, None).await;
    let Execution::Finished { state: RunState::Failed, error: Some(error), .. } = &played.execution else {
        panic!("{}", played.told())
    };
    assert!(error.message.contains("make a new plan"), "{}", error.message);
    assert!(stage.world.seen.lock().unwrap().happened.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_event_leaves_the_run_bound() {
    let pipeline_text = r#"steps:
  rows: { uses: test.look, with: { value: [1, 2] } }
  each: { for_each: "{{ steps.rows.output }}", max_parallel: 1, uses: test.do, with: { item: "{{ item }}" } }
  call: { uses: pipeline.run, needs: [each], with: { pipeline: child, inputs: { n: "{{ steps.rows.output | length }}" } } }
"#;
    let child = "inputs: { n: { type: integer } }\nsteps:\n  look: { uses: test.look, with: { value: \"{{ inputs.n }}\" } }\n  \
                 act: { uses: test.do, with: { m: \"{{ steps.look.output }}\" } }\noutputs: { m: \"{{ steps.act.output.m }}\" }\n";
    for stop in 1..14 {
        let stage = stage();
        stage.file("child", child);
        let engine = stage.engine().await;
        let pipeline = stage.pipeline(pipeline_text);
        let plan = planned(&engine, &pipeline).await;
        let bond = engine.start_planned(None, &pipeline, &plan, file(&plan).hash()).await.unwrap().unwrap();
        // The process ends once it has committed so many events; another one knows the plan from the journal alone.
        let (observer, mut events) = tokio::sync::mpsc::unbounded_channel();
        let options = pipewright::engine::ExecuteOptions {
            bond: Some(bond.clone()),
            observer: Some(observer),
            ..pipewright::engine::ExecuteOptions::default()
        };
        let executing = tokio::spawn({
            let (engine, pipeline) = (engine.clone(), pipeline.clone());
            async move { engine.execute(plan.run, pipeline, options).await }
        });
        let mut count = 0;
        while count < stop && events.recv().await.is_some() {
            count += 1;
        }
        executing.abort();
        let _ = executing.await;
        let known = engine.parts().store.journal(plan.run).await.unwrap();
        if known.iter().any(|event| matches!(event, RunEvent::Finished { .. })) {
            break;
        }
        let other = stage.engine().await;
        // What was about to be sent when the process died is in doubt; a person says that it did not happen.
        let pipeline =
            stage.pipeline(&pipeline_text.replace("test.do, with: { item", "test.do, in_doubt: resend, with: { item"));
        let _ = pipeline;
        let pipeline = stage.pipeline(pipeline_text);
        let played = stage.hasten_run(&other, plan.run, &pipeline, None).await;
        let bonds = played.journal.iter().filter(|event| matches!(event, RunEvent::Planned { .. })).count();
        assert_eq!(bonds, 1, "after {stop}: {}", played.told());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn guards_over_the_plan_stop_a_run_before_it_does_anything() {
    let stage = stage();
    let engine = stage.engine().await;
    let text = |guard: &str| {
        format!(
            "guards: {{ plan: [{{ that: \"{guard}\", message: at most two }}] }}\nsteps:\n  \
             rows: {{ uses: test.look, with: {{ value: [1, 2, 3] }} }}\n  \
             each: {{ for_each: \"{{{{ steps.rows.output }}}}\", uses: test.do, with: {{ n: \"{{{{ item }}}}\" }} }}\n  \
             more: {{ uses: test.do, with: {{ id: \"{{{{ steps.each.output | map(attribute='id') | list }}}}\" }} }}\n"
        )
    };
    for (guard, expected) in [
        ("{{ effects | length <= 2 }}", Some("guard over the plan does not hold: at most two")),
        ("{{ effects | selectattr('kind', 'eq', 'create') | list | length == 4 }}", None),
        ("{{ (effects | map(attribute='input.n') | list | first) in [1, none] }}", None),
        (
            "{{ (effects | last).input.id | length < 9 }}",
            Some("guard over the plan cannot be told before the run: it depends on"),
        ),
    ] {
        let before = stage.world.seen.lock().unwrap().happened.len();
        let pipeline = stage.pipeline(&text(guard));
        let run = engine.start(&pipeline, empty()).await.unwrap();
        let played = stage.hasten_run(&engine, run, &pipeline, None).await;
        let Execution::Finished { state, error, .. } = &played.execution else { panic!("{}", played.told()) };
        let done = stage.world.seen.lock().unwrap().happened.len() - before;
        match expected {
            Some(expected) => {
                let message = error.as_ref().unwrap().message.clone();
                assert!(message.contains(expected), "{message}");
                assert_eq!((*state, done), (RunState::Failed, 0), "{guard}");
            }
            None => assert_eq!((*state, done), (RunState::Succeeded, 4), "{guard}: {}", played.told()),
        }
    }
}

/// A node that says that it reads, and writes.
#[derive(Debug)]
struct Liar;

#[async_trait]
impl Node for Liar {
    fn name(&self) -> &str {
        "test.liar"
    }
    fn docs(&self) -> String {
        "Lies.".to_owned()
    }
    fn example(&self) -> &str {
        "{}"
    }
    fn input_schema(&self) -> serde_json::Value {
        serde_json::json!({ "type": "object" })
    }
    fn output_schema(&self) -> Option<serde_json::Value> {
        None
    }
    fn expressions(&self) -> &'static [ExpressionKey] {
        &[]
    }
    fn literals(&self) -> &'static [&'static str] {
        &[]
    }
    fn effect(&self, _: &Value) -> Effect {
        Effect::Read
    }
    fn check(&self, _: &Value) -> Vec<(Option<String>, String)> {
        Vec::new()
    }
    fn settlement(&self, _: &Value) -> Settlement {
        Settlement::default()
    }
    async fn run(&self, _: Value, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let mut request = Request::new("POST", "https://api.x.com/2/tweets");
        request.connection = Some("x".into());
        request.body = br#"{"text":"a lie"}"#.to_vec();
        let sent = ctx.http.send(request).await;
        let sent = sent.map_err(|error| NodeError::message(error.class(), error.to_string()))?;
        Ok(Outcome::Done(Value::from(sent.status)))
    }
    async fn reconcile(&self, _: Value, _: &StepContext<'_>) -> Result<Reconciled, NodeError> {
        Ok(Reconciled::NotFound)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_writes_though_it_says_that_it_reads_is_refused() {
    let (mut stage, sandbox) = Stage::new().sandboxed(&[], 1).await;
    stage.nodes.push(Arc::new(Liar));
    let engine = stage.engine().await;
    let pipeline = stage.pipeline("steps:\n  a: { uses: test.liar, with: {} }\n");
    let plan = planned(&engine, &pipeline).await;
    let (_, error) = plan.failure.unwrap();
    assert!(error.message.contains("a plan sends nothing that could change something"), "{}", error.message);
    assert_eq!(writes(&sandbox), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_file_that_was_changed_is_refused_and_holds_no_secret() {
    let stage = stage();
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(
        "inputs: { word: { type: secret }, n: { type: decimal, default: \"1.50\" } }\nsteps:\n  \
         a: { uses: test.do, with: { text: \"{{ inputs.word }}\", n: \"{{ inputs.n }}\" } }\n",
    );
    let inputs =
        pipewright::pipeline::check_values(&pipeline, Value::map([("word", Value::from("canary-4711"))])).unwrap();
    let plan = engine.plan(&pipeline, inputs, PlanOptions::default()).await.unwrap();
    let text = file(&plan).to_text();
    assert!(!text.contains("canary"), "{text}");
    let read = PlanFile::read(&text).unwrap();
    let (known, secrets) = read.inputs();
    assert_eq!(known.get("n").map(ToString::to_string), Some("1.50".to_owned()));
    assert_eq!(secrets, ["word".into()]);
    let changed = text.replace("1.50", "9.50");
    assert!(PlanFile::read(&changed).unwrap_err().to_string().contains("changed by hand"));
    for (text, expected) in
        [("[", "not a plan"), ("{}", "no `plan`"), ("{\"plan\": 7}", "form 7"), ("[1]", "expected an object")]
    {
        let error = PlanFile::read(text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// Lists the writes that stand-ins received, by operation and body.
fn writes(sandbox: &Sandbox) -> Vec<String> {
    let library = Library::open(std::path::Path::new("."));
    let mut found = Vec::new();
    for (name, seen) in sandbox.asked() {
        let seat = sandbox.seat(&name).unwrap();
        let Loaded::Manifest(manifest) = library.get(&seat.connector) else { panic!("{name}") };
        for seen in seen {
            let operation = seen.operation.as_deref().unwrap_or("?");
            let effect = manifest.operations.get(operation).and_then(|operation| operation.effect);
            // What Odoo is asked for stands in the path; the operation that asks has its caller's effect.
            let asks = ["/search_count", "/search_read"].iter().any(|end| seen.path.ends_with(end));
            if effect.is_none_or(Effect::is_write) && seen.method != "GET" && !asks {
                found.push(format!("{name}.{operation} {}", seen.body.to_text()));
            }
        }
    }
    found
}

/// Changes what `count` counts.
const ORDER: &str = "steps:\n  a: { uses: odoo.create, with: { connection: odoo, model: sale.order, key: client_order_ref, values: { client_order_ref: P-1, partner_id: 41 } } }\n";

/// Writes a pipeline of reads, computations and writes that depend on each other at random.
fn made(random: &mut fastrand::Rng) -> String {
    let count = "uses: odoo.count, with: { connection: odoo, model: sale.order, domain: [] }";
    let mut text = format!("steps:\n  count: {{ {count} }}\n");
    let mut known: Vec<String> = vec!["steps.count.output.count".to_owned()];
    let mut writers: Vec<String> = Vec::new();
    for number in 0..random.usize(3..9) {
        let id = format!("s{number}");
        let source = known[random.usize(..known.len())].clone();
        let needs = match writers.get(random.usize(..=writers.len())) {
            Some(writer) if random.bool() => format!("needs: [{writer}], "),
            _ => String::new(),
        };
        match random.u32(..6) {
            0 => {
                let _ = writeln!(
                    text,
                    "  {id}: {{ {needs}uses: template.render, with: {{ text: \"c{number} {{{{ {source} }}}}\" }} }}"
                );
                known.push(format!("steps.{id}.output.text"));
            }
            1 => {
                let _ = writeln!(
                    text,
                    "  {id}: {{ {needs}uses: x.list_posts, with: {{ connection: x, since: \"2023-01-01T00:00:00Z\" }} }}"
                );
                known.push(format!("steps.{id}.output | length"));
            }
            kind => {
                let when = match random.u32(..4) {
                    0 => format!("when: \"{{{{ ({source}) | string | length > {} }}}}\", ", random.u32(..4)),
                    _ => String::new(),
                };
                let (each, item) = match random.u32(..3) {
                    0 => (
                        format!("for_each: \"{{{{ range({}) | list }}}}\", max_parallel: 1, ", random.u32(..4)),
                        "{{ item }}",
                    ),
                    _ => (String::new(), ""),
                };
                let (uses, key) = if kind % 2 == 0 { ("x.create_post", "x") } else { ("discord.send", "discord") };
                let _ = writeln!(
                    text,
                    "  {id}: {{ {needs}{when}{each}uses: {uses}, retry: {{ attempts: 9, on: [throttled] }}, with: {{ connection: {key}, text: \"w{number} {item} {{{{ {source} }}}}\" }} }}"
                );
                writers.push(id.clone());
                if when.is_empty() && each.is_empty() {
                    known.push(format!("steps.{id}.output.id"));
                }
            }
        }
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_send_no_write_their_runs_send_what_they_say_and_a_changed_world_voids_them() {
    let (mut effects, mut unknown, mut voided) = (0, 0, 0);
    for seed in 0..40 {
        let mut random = fastrand::Rng::with_seed(seed);
        let (stage, sandbox) = Stage::new().sandboxed(&[], seed).await;
        let posts: Vec<_> = (0..random.usize(..4)).map(|n| format!("old {n}")).collect();
        let engine = stage.engine().await;
        if !posts.is_empty() {
            let text = format!(
                "steps:\n  before: {{ for_each: {posts:?}, max_parallel: 1, uses: x.create_post, with: {{ connection: x, text: \"{{{{ item }}}}\" }} }}\n"
            );
            let pipeline = stage.pipeline(&text);
            let run = engine.start(&pipeline, empty()).await.unwrap();
            stage.hasten_run(&engine, run, &pipeline, None).await;
        }
        for (name, _) in sandbox.asked() {
            sandbox.seat(&name).unwrap().forget();
        }
        let text = made(&mut random);
        let pipeline = stage.pipeline(&text);
        // Reads that cost money are made in every other plan.
        let spend = random.bool().then(|| 100.into());
        let plan = engine.plan(&pipeline, empty(), PlanOptions { spend, ..PlanOptions::default() }).await.unwrap();
        assert_eq!(plan.failure, None, "seed {seed}:\n{text}");
        assert_eq!(writes(&sandbox), Vec::<String>::new(), "seed {seed}:\n{text}");
        let file = PlanFile::read(&file(&plan).to_text()).unwrap();
        if random.bool() {
            // Somebody else takes an order meanwhile: what was read is no longer so.
            let other = stage.pipeline(ORDER);
            let run = engine.start(&other, empty()).await.unwrap();
            let ended = stage.hasten_run(&engine, run, &other, None).await;
            assert!(
                matches!(ended.execution, Execution::Finished { state: RunState::Succeeded, .. }),
                "{}",
                ended.told()
            );
            sandbox.seat("odoo").unwrap().forget();
            let pipeline = stage.pipeline(&text);
            let differences = apply(&stage, &engine, &pipeline, &file).await.err();
            let differences = differences.unwrap_or_else(|| panic!("seed {seed}: applied\n{text}"));
            assert!(differences.iter().any(|it| it.contains("reads has changed")), "seed {seed}: {differences:?}");
            assert_eq!(writes(&sandbox), Vec::<String>::new(), "seed {seed}:\n{text}");
            voided += 1;
            continue;
        }
        let played = apply(&stage, &engine, &pipeline, &file).await.unwrap_or_else(|it| panic!("seed {seed}: {it:?}"));
        let Execution::Finished { state: RunState::Succeeded, .. } = &played.execution else {
            panic!("seed {seed}:\n{text}\n{}", played.told())
        };
        let mut sent = writes(&sandbox);
        let (certain, others): (Vec<_>, Vec<_>) = plan.effects.iter().partition(|effect| effect.is_certain());
        for effect in certain.into_iter().chain(others) {
            let connection = effect.connection.as_deref().unwrap();
            let operation = effect.node.split('.').nth(1).unwrap();
            let planned = effect.input.get("text").unwrap();
            let name = format!("{connection}.{operation} ");
            // Of a text of which parts are unknown the beginning is known.
            let begin = planned.to_text().split('?').next().unwrap_or_default().to_owned();
            match sent.iter().position(|sent| sent.starts_with(&name) && sent.contains(&begin)) {
                Some(place) => drop(sent.remove(place)),
                None => assert!(!effect.is_certain(), "seed {seed}: {} was not sent: {sent:?}\n{text}", effect.place),
            }
            effects += 1;
            unknown += usize::from(!planned.is_known());
        }
        assert_eq!(sent, Vec::<String>::new(), "seed {seed}: sent and not planned\n{text}");
    }
    assert!(effects > 40 && unknown > 5 && voided > 8, "{effects} {unknown} {voided}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_shows_what_it_changes_and_a_row_that_changes_meanwhile_voids_the_plan() {
    let (stage, sandbox) = Stage::new().sandboxed(&[], 1).await;
    let engine = stage.engine().await;
    let write = |note: &str| {
        format!(
            "steps:\n  a: {{ uses: odoo.write, with: {{ connection: odoo, model: res.partner, ids: [41], values: {{ name: {note}, \
             city: Bremen }} }} }}\n"
        )
    };
    let pipeline = stage.pipeline(&write("New"));
    let plan = planned(&engine, &pipeline).await;
    assert_eq!(plan.failure, None);
    let [effect] = plan.effects.as_slice() else { panic!("{}", told(&plan)) };
    assert_eq!(effect.exists, Some(true));
    let changes: Vec<_> =
        effect.changes.iter().map(|change| (change.field.to_string(), change.new.to_text())).collect();
    assert_eq!(changes, [("name".to_owned(), "New".to_owned()), ("city".to_owned(), "Bremen".to_owned())]);
    assert!(effect.changes[0].old.as_str().is_some_and(|old| !old.is_empty() && old != "New"), "{:?}", effect.changes);
    assert_eq!(effect.output.to_string(), r#"{"ids":[41]}"#);
    let file = file(&plan);
    let other = stage.pipeline(&write("Meanwhile"));
    let run = engine.start(&other, empty()).await.unwrap();
    stage.hasten_run(&engine, run, &other, None).await;
    sandbox.seat("odoo").unwrap().forget();
    let pipeline = stage.pipeline(&write("New"));
    let differences = apply(&stage, &engine, &pipeline, &file).await.err().unwrap();
    assert!(differences.iter().any(|it| it == "what effect `a` would change has changed"), "{differences:?}");
    assert_eq!(writes(&sandbox), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_pipeline_would_do_if_it_fails_is_planned_by_itself() {
    let stage = stage();
    let engine = stage.engine().await;
    let text = "steps:\n  a: { uses: test.do, with: { n: 1 } }\non_failure:\n  \
                tell: { uses: test.do, with: { text: \"failed: {{ run.error.message }}\", to: ops } }\nfinally:\n  \
                last: { uses: test.do, with: { id: \"{{ steps.a.output.id }}\" } }\n";
    let pipeline = stage.pipeline(text);
    let plan = planned(&engine, &pipeline).await;
    assert_eq!(
        told(&plan),
        "create a {\"n\":1} after=[] if=[]\n\
         create finally/last {\"id\":\"?\"} after=[a] if=[]\n\
         create on_failure/tell {\"text\":\"failed: ?\",\"to\":\"ops\"} after=[] if=[a failure of the run]\n"
    );
    // Where it fails for certain, what is done then is known.
    let pipeline = stage.pipeline(
        &text.replace("steps:\n", "steps:\n  bad: { uses: assert.that, with: { that: false, message: no } }\n"),
    );
    let plan = planned(&engine, &pipeline).await;
    assert!(told(&plan).contains(r#"create on_failure/tell {"text":"failed: no","to":"ops"}"#), "{}", told(&plan));
    assert!(told(&plan).contains("fails at bad: rejected: no") || plan.failure.is_some(), "{}", told(&plan));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_guard_refused_a_retry_does_not_do_and_a_child_that_is_refused_has_no_effects() {
    let stage = stage();
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(
        "guards: { plan: [\"{{ effects | length < 1 }}\"] }\nsteps:\n  a: { uses: test.do, with: { n: 1 } }\n",
    );
    let run = engine.start(&pipeline, empty()).await.unwrap();
    let played = stage.hasten_run(&engine, run, &pipeline, None).await;
    assert!(matches!(played.execution, Execution::Finished { state: RunState::Failed, .. }), "{}", played.told());
    let again = stage.retry(&engine, run, &pipeline, None).await;
    assert!(matches!(again.execution, Execution::Finished { state: RunState::Failed, .. }), "{}", again.told());
    stage.file(
        "strict",
        "guards: { plan: [\"{{ effects | length < 1 }}\"] }\nsteps:\n  b: { uses: test.do, with: { n: 2 } }\n",
    );
    let pipeline = stage.pipeline(
        "steps:\n  call: { uses: pipeline.run, on_error: continue, with: { pipeline: strict } }\n  \
         c: { needs: [call], uses: test.do, with: { n: 3, state: \"{{ steps.call.state }}\" } }\n",
    );
    let plan = planned(&engine, &pipeline).await;
    assert_eq!(told(&plan), "create c {\"n\":3,\"state\":\"failed\"} after=[] if=[]\n");
    apply(&stage, &engine, &pipeline, &file(&plan)).await.unwrap();
    let seen = stage.world.seen.lock().unwrap().happened.clone();
    assert_eq!(seen.iter().map(|(_, input)| input.to_string()).collect::<Vec<_>>(), [r#"{"n":3,"state":"failed"}"#]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_known_of_a_step_is_not_decided_by_the_plan() {
    let stage = stage();
    let engine = stage.engine().await;
    stage.file(
        "child",
        "inputs: { ids: { type: array } }\nsteps:\n  each: { for_each: \"{{ inputs.ids }}\", uses: template.render, with: { text: \
         \"{{ item }}\" } }\noutputs: { texts: \"{{ steps.each.output | map(attribute='text') | list }}\" }\n",
    );
    let pipeline = stage.pipeline(
        r#"steps:
  pay: { uses: test.do, on_error: continue, with: { id: 7 } }
  tell: { needs: [pay], uses: test.do, with: { text: "{{ 'paid' if steps.pay.state == 'succeeded' else 'failed' }}" } }
  call: { uses: pipeline.run, with: { pipeline: child, inputs: { ids: ["{{ steps.tell.output.text }}", b] } } }
  one: { for_each: [1, 2], max_parallel: 1, uses: test.do, with: { item: "{{ item }}" } }
finally:
  report: { uses: test.do, with: { text: "the run {{ run.state }}" } }
outputs: { texts: "{{ steps.call.output.texts }}" }
"#,
    );
    let plan = planned(&engine, &pipeline).await;
    let text = told(&plan);
    for expected in [
        r#"create tell {"text":"?"} after=[pay]"#,
        r#"create finally/report {"text":"the run ?"}"#,
        r#"create one[1] {"item":2} after=[one[0]]"#,
    ] {
        assert!(text.contains(expected), "{text}");
    }
    let played = apply(&stage, &engine, &pipeline, &file(&plan)).await.unwrap();
    assert_eq!(played.outputs(), r#"{"texts":["paid","b"]}"#);
    let seen = stage.world.seen.lock().unwrap().happened.clone();
    assert!(seen.iter().any(|(_, input)| input.to_string() == r#"{"text":"the run succeeded"}"#), "{seen:?}");
    // What happens for each of an unknown number of items decides no guard.
    let pipeline = stage.pipeline(
        "guards: { plan: [\"{{ effects | length <= 50 }}\"] }\nsteps:\n  a: { uses: test.do, with: { ids: [1, 2] } }\n  \
         b: { for_each: \"{{ steps.a.output.ids }}\", uses: test.do, with: { n: \"{{ item }}\" } }\n",
    );
    let plan = planned(&engine, &pipeline).await;
    assert!(plan.guards[0].fault.as_ref().is_some_and(|fault| fault.contains("cannot be told")), "{:?}", plan.guards);
}

/// A read that goes on from where the last run came to.
#[derive(Debug)]
struct Stream;

#[async_trait]
impl Node for Stream {
    fn name(&self) -> &str {
        "test.stream"
    }
    fn docs(&self) -> String {
        "Reads on.".to_owned()
    }
    fn example(&self) -> &str {
        "{}"
    }
    fn input_schema(&self) -> serde_json::Value {
        serde_json::json!({ "type": "object" })
    }
    fn output_schema(&self) -> Option<serde_json::Value> {
        None
    }
    fn expressions(&self) -> &'static [ExpressionKey] {
        &[]
    }
    fn literals(&self) -> &'static [&'static str] {
        &[]
    }
    fn effect(&self, _: &Value) -> Effect {
        Effect::Read
    }
    fn check(&self, _: &Value) -> Vec<(Option<String>, String)> {
        Vec::new()
    }
    fn settlement(&self, _: &Value) -> Settlement {
        Settlement::default()
    }
    async fn run(&self, _: Value, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let key = "test".to_owned();
        let next = match ctx.keep.stream(&key).await? {
            Some(Value::Int(at)) => at + 1,
            _ => 1,
        };
        let stream = StreamState { key, state: Value::Int(next) };
        Ok(Outcome::Read { output: Value::Int(next), stream })
    }
    async fn reconcile(&self, _: Value, _: &StepContext<'_>) -> Result<Reconciled, NodeError> {
        Ok(Reconciled::NotFound)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_run_reads_on_where_the_one_before_it_came_to() {
    let mut stage = stage();
    stage.nodes.push(Arc::new(Stream));
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(
        "guards: { plan: [\"{{ effects | length == 1 }}\"] }\nsteps:\n  rows: { uses: test.stream, with: {} }\n  \
         a: { uses: test.do, with: { row: \"{{ steps.rows.output }}\" } }\n",
    );
    for _ in 0..2 {
        let run = engine.start(&pipeline, empty()).await.unwrap();
        let played = stage.hasten_run(&engine, run, &pipeline, None).await;
        assert!(
            matches!(played.execution, Execution::Finished { state: RunState::Succeeded, .. }),
            "{}",
            played.told()
        );
    }
    let seen = stage.world.seen.lock().unwrap().happened.clone();
    assert_eq!(seen.iter().map(|(_, input)| input.to_string()).collect::<Vec<_>>(), [r#"{"row":1}"#, r#"{"row":2}"#]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_called_has_the_id_in_its_plan_that_it_will_have() {
    let stage = stage();
    let engine = stage.engine().await;
    stage.file("child", "steps:\n  b: { uses: test.do, with: { of: \"{{ run.id }}\", by: \"{{ run.pipeline }}\" } }\n");
    let pipeline = stage.pipeline(
        "steps:\n  each: { for_each: [1, 2], uses: pipeline.run, with: { pipeline: child } }\n  \
         own: { uses: test.do, with: { of: \"{{ run.id }}\" } }\n",
    );
    let plan = planned(&engine, &pipeline).await;
    let mut expected: Vec<_> = plan.effects.iter().map(|effect| effect.input.to_string()).collect();
    let played = apply(&stage, &engine, &pipeline, &file(&plan)).await.unwrap();
    let mut own: Vec<_> = played
        .journal
        .iter()
        .filter_map(|event| match event {
            RunEvent::Child { run, .. } => Some(format!(r#"{{"of":"{run}","by":"child"}}"#)),
            _ => None,
        })
        .collect();
    own.push(format!(r#"{{"of":"{}"}}"#, played.run));
    own.sort();
    expected.sort();
    assert_eq!(expected, own);
    let mut sent: Vec<_> =
        stage.world.seen.lock().unwrap().happened.iter().map(|(_, input)| input.to_string()).collect();
    sent.sort();
    assert_eq!(sent, own);
}
