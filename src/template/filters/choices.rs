//! Filters that go through a list with another filter or a test: `map`, `select` and their kin.

use minijinja::Environment;
use minijinja::Error;
use minijinja::State;
use minijinja::value::Rest;
use minijinja::value::ValueOrKwargs;

use super::super::budget;
use super::super::environment::is_lenient;
use super::super::operators::invalid;
use super::super::value::from_jinja;
use super::super::value::made;
use super::super::value::taken;
use super::super::value::to_jinja_made;
use super::super::value::touch;
use super::Sort;
use super::call::Arguments;
use super::call::defined;
use super::call::of_null;
use super::is_known;
use super::list;
use super::member;
use super::names;
use crate::diag::did_you_mean;
use crate::model::Value;

/// What minijinja writes for tests in `select('>', 1)`.
pub(super) const SYMBOLS: [&str; 10] =
    ["==", "!=", "<", "<=", ">", ">=", "equalto", "lessthan", "greaterthan", "truthy"];

pub(super) fn register(environment: &mut Environment<'static>) {
    environment.add_filter("map", map);
    for (name, wanted, by_member) in
        [("select", true, false), ("reject", false, false), ("selectattr", true, true), ("rejectattr", false, true)]
    {
        environment.add_filter(
            name,
            move |state: &mut State<'_, '_>,
                  input: minijinja::Value,
                  rest: Rest<ValueOrKwargs>|
                  -> Result<minijinja::Value, Error> {
                if is_lenient(state) && (input.is_undefined() || input.is_none()) {
                    return Ok(of_null(name));
                }
                defined(name, &input)?;
                let arguments = Arguments::of(rest)?;
                let done = choose(state, &input, &arguments, wanted, by_member);
                done.inspect_err(|_| conceal(&input))
            },
        );
    }
}

/// An error may quote an item; if one is secret, so is the message.
fn conceal(input: &minijinja::Value) {
    if from_jinja(input).is_ok_and(|input| budget::may_be_tainted(&input)) {
        touch();
    }
}

fn choose(
    state: &mut State<'_, '_>,
    input: &minijinja::Value,
    arguments: &Arguments,
    wanted: bool,
    by_member: bool,
) -> Result<minijinja::Value, Error> {
    let items = list(taken(input).map_err(invalid)?)?;
    let levels = made(input);
    let key = if by_member {
        Some(arguments.text(0, "")?.ok_or_else(|| invalid("name the member: `selectattr('key', …)`"))?)
    } else {
        None
    };
    let place = usize::from(by_member);
    let test = arguments.text(place, "")?.unwrap_or_else(|| "truthy".to_owned());
    if !is_known(Sort::Test, &test) && !SYMBOLS.contains(&test.as_str()) {
        return Err(unknown("test", &test, &names(Sort::Test)));
    }
    let mut call = vec![minijinja::Value::UNDEFINED];
    call.extend(arguments.behind(place + 1));
    let mut kept = Vec::new();
    for item in items.iter() {
        budget::spend(state, 1)?;
        let subject = key.as_ref().map_or_else(|| item.clone(), |key| member(item, key));
        if let Some(first) = call.first_mut() {
            *first = to_jinja_made(subject, levels.saturating_sub(1)).map_err(invalid)?;
        }
        if state.perform_test(&test, &call)? == wanted {
            kept.push(item.clone());
        }
    }
    let kept = Value::list(kept);
    budget::pay_for(state, &kept)?;
    to_jinja_made(kept, levels).map_err(invalid)
}

#[expect(clippy::needless_pass_by_value, reason = "the engine calls filters so")]
fn map(
    state: &mut State<'_, '_>,
    input: minijinja::Value,
    rest: Rest<ValueOrKwargs>,
) -> Result<minijinja::Value, Error> {
    if is_lenient(state) && (input.is_undefined() || input.is_none()) {
        return Ok(of_null("map"));
    }
    defined("map", &input)?;
    let arguments = Arguments::of(rest)?;
    mapped(state, &input, &arguments).inspect_err(|_| conceal(&input))
}

fn mapped(
    state: &mut State<'_, '_>,
    input: &minijinja::Value,
    arguments: &Arguments,
) -> Result<minijinja::Value, Error> {
    let items = list(taken(input).map_err(invalid)?)?;
    let levels = made(input);
    if arguments.len() == 0 && arguments.has_names() {
        let key = arguments.text(usize::MAX, "attribute")?;
        let key = key.ok_or_else(|| invalid("`map` takes `attribute='key'` or the name of a filter"))?;
        let otherwise = arguments.kept(usize::MAX, "default")?.unwrap_or_default();
        arguments.finish(0)?;
        budget::spend(state, items.len())?;
        let members = items.iter().map(|item| match member(item, &key) {
            Value::Null => otherwise.clone(),
            found => found,
        });
        let members = Value::list(members.collect());
        budget::pay_for(state, &members)?;
        return to_jinja_made(members, levels.max(1)).map_err(invalid);
    }
    let filter =
        arguments.text(0, "")?.ok_or_else(|| invalid("`map` takes `attribute='key'` or the name of a filter"))?;
    if !is_known(Sort::Filter, &filter) {
        return Err(unknown("filter", &filter, &names(Sort::Filter)));
    }
    let mut call = vec![minijinja::Value::UNDEFINED];
    call.extend(arguments.behind(1));
    let (mut given, mut deepest) = (Vec::new(), 0);
    for item in items.iter() {
        budget::spend(state, 1)?;
        if let Some(first) = call.first_mut() {
            *first = to_jinja_made(item.clone(), levels.saturating_sub(1)).map_err(invalid)?;
        }
        let result = state.apply_filter(&filter, &call)?;
        budget::read(state, result.as_str().map_or(0, |text| text.len() * 8))?;
        deepest = deepest.max(made(&result));
        given.push(from_jinja(&result).map_err(invalid)?);
    }
    let given = Value::list(given);
    budget::pay_for(state, &given)?;
    to_jinja_made(given, deepest + 1).map_err(invalid)
}

fn unknown(kind: &str, name: &str, known: &[&str]) -> Error {
    let near = did_you_mean(name, known.iter().copied());
    let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
    invalid(format!("there is no {kind} `{name}`{near}"))
}
