//! Any text as an expression: compiled and evaluated, no panic, places that lie in the text.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use pipewright::model::StepState;
use pipewright::model::Timestamp;
use pipewright::model::Value;
use pipewright::model::parse_json;
use pipewright::template::Lookup;
use pipewright::template::Scope;
use pipewright::template::StepView;
use pipewright::template::Template;

#[derive(Debug)]
struct World;

impl Lookup for World {
    fn step(&self, id: &str) -> Option<StepView> {
        let output = parse_json(r#"{"text":"hi","price":19.99,"list":[1,2.5,"x",null,{"a":true}]}"#).ok()?;
        (id == "a").then_some(StepView { output, state: StepState::Succeeded, error: None })
    }

    fn secret(&self, name: &str) -> Result<Value, String> {
        if name == "KEY" { Ok(Value::from("hunter2hunter2").tainted()) } else { Err(format!("no secret `{name}`")) }
    }
}

fuzz_target!(|source: &str| {
    let template = match Template::parse(source) {
        Ok(template) => template,
        Err(error) => {
            assert!(error.range.start <= error.range.end && error.range.end <= source.len(), "{error:?}");
            return;
        }
    };
    for reference in template.references() {
        assert!(source.get(reference.range.clone()).is_some(), "{reference:?}");
    }
    let scope = Scope {
        lookup: Arc::new(World),
        globals: Arc::new(vec![("inputs".into(), Value::map([("text", Value::from("abc")), ("count", Value::Int(3))]))]),
        locals: vec![("item", Value::Int(7)), ("index", Value::Int(0))],
        now: Timestamp(0),
    };
    match template.eval(&scope) {
        // The fuzzer finds the word by itself, and an error may quote the source.
        _ if source.contains("hunt") => {}
        Err(error) => assert!(!error.message.contains("hunter2hunter2"), "a secret in an error: {error:?}"),
        // What is shown of a secret is `***`; names in secret JSON are no secret.
        Ok(value) if !source.contains("from_json") => {
            assert!(!value.to_string().contains("hunter2hunter2"), "a secret in clear: {value}");
        }
        Ok(_) => {}
    }
});
