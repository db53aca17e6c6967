//! How a filter is called: its arguments, what it pays, and what becomes of secrets.

use std::cell::Cell;

use minijinja::Environment;
use minijinja::Error;
use minijinja::ErrorKind;
use minijinja::State;
use minijinja::value::Kwargs;
use minijinja::value::Rest;
use minijinja::value::ValueOrKwargs;

use super::super::budget;
use super::super::environment::is_lenient;
use super::super::operators::invalid;
use super::super::operators::ours;
use super::super::value::from_jinja;
use super::super::value::made;
use super::super::value::taken;
use super::super::value::to_jinja_made;
use super::super::value::touch;
use crate::model::Value;

/// The arguments of a filter in our values.
pub(super) struct Arguments {
    positional: Vec<minijinja::Value>,
    named: Option<Kwargs>,
    /// Whether a secret was laid open among them.
    opened: Cell<bool>,
    /// The fuel that is left for this call.
    left: Cell<u64>,
    /// Whether what is missing is null.
    lenient: bool,
}

impl Arguments {
    pub(super) fn of(rest: Rest<ValueOrKwargs>) -> Result<Self, Error> {
        let mut positional = rest.into_values();
        let named = positional.pop_if(|last| last.is_kwargs()).map(Kwargs::try_from).transpose()?;
        Ok(Self { positional, named, opened: Cell::new(false), left: Cell::new(0), lenient: false })
    }

    /// Returns an argument by place or name as minijinja holds it.
    pub(super) fn raw(&self, place: usize, name: &str) -> Result<Option<minijinja::Value>, Error> {
        let by_name = match &self.named {
            Some(named) if !name.is_empty() && named.has(name) => Some(named.get::<minijinja::Value>(name)?),
            _ => None,
        };
        match (self.positional.get(place), by_name) {
            (Some(_), Some(_)) => Err(invalid(format!("`{name}` is given twice"))),
            (Some(given), None) if given.is_undefined() && !self.lenient => undefined_argument(),
            (None, Some(given)) if given.is_undefined() && !self.lenient => undefined_argument(),
            (given, by_name) => Ok(given.cloned().or(by_name)),
        }
    }

    /// Returns an argument with its secrets as they are.
    pub(super) fn kept(&self, place: usize, name: &str) -> Result<Option<Value>, Error> {
        self.raw(place, name)?.map(|given| from_jinja(&given).map_err(invalid)).transpose()
    }

    /// Returns an argument, laid open.
    pub(super) fn get(&self, place: usize, name: &str) -> Result<Option<Value>, Error> {
        let Some(value) = self.kept(place, name)? else { return Ok(None) };
        if !budget::may_be_tainted(&value) {
            return Ok(Some(value));
        }
        touch();
        self.opened.set(true);
        budget::weigh_all(&value)?;
        Ok(Some(value.revealed()))
    }

    pub(super) fn text(&self, place: usize, name: &str) -> Result<Option<String>, Error> {
        let given = self.get(place, name)?.filter(|value| !value.is_null());
        given.map(|value| budget::plain_text(&value)).transpose()
    }

    /// Returns an argument that becomes a part of the names of members.
    ///
    /// # Errors
    /// A secret: names are shown and stored in clear.
    pub(super) fn name(&self, place: usize, name: &str) -> Result<Option<Value>, Error> {
        let given = self.kept(place, name)?;
        if given.as_ref().is_some_and(budget::may_be_tainted) {
            touch();
            return Err(invalid("a secret cannot be the name of a member: names are not masked"));
        }
        Ok(given)
    }

    pub(super) fn flag(&self, place: usize, name: &str) -> Result<bool, Error> {
        Ok(self.get(place, name)?.is_some_and(|value| value.is_truthy()))
    }

    pub(super) fn count(&self, place: usize, name: &str) -> Result<Option<usize>, Error> {
        match self.get(place, name)? {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Int(count)) => {
                usize::try_from(count).map(Some).map_err(|_| invalid("a count cannot be negative"))
            }
            Some(other) => Err(invalid(format!("expected a whole number, found {}", other.kind().name()))),
        }
    }

    /// How many arguments stand without a name.
    pub(super) fn len(&self) -> usize {
        self.positional.len()
    }

    /// Splits off what goes to the filter or test that is named first.
    pub(super) fn behind(&self, place: usize) -> Vec<minijinja::Value> {
        let mut rest: Vec<_> = self.positional.iter().skip(place).cloned().collect();
        rest.extend(self.named.clone().map(minijinja::Value::from));
        rest
    }

    pub(super) fn has_names(&self) -> bool {
        self.named.as_ref().is_some_and(|named| named.args().next().is_some())
    }

    pub(super) fn finish(&self, most: usize) -> Result<(), Error> {
        if self.positional.len() > most {
            return Err(invalid(format!("at most {most} arguments are taken")));
        }
        self.named.as_ref().map_or(Ok(()), Kwargs::assert_all_used)
    }

    /// Pays for what the filter is about to make, before it does.
    pub(super) fn afford(&self, fuel: usize) -> Result<(), Error> {
        let left = self.left.get().checked_sub(u64::try_from(fuel).unwrap_or(u64::MAX));
        self.left.set(left.ok_or_else(|| Error::from(ErrorKind::OutOfFuel))?);
        Ok(())
    }

    fn levels(&self) -> u16 {
        self.positional.iter().map(made).max().unwrap_or(0)
    }

    fn may_be_tainted(&self) -> bool {
        self.positional.iter().any(|given| from_jinja(given).is_ok_and(|given| budget::may_be_tainted(&given)))
    }
}

fn undefined_argument<T>() -> Result<T, Error> {
    Err(Error::new(ErrorKind::UndefinedError, "an argument is undefined"))
}

/// Registers a filter that looks all through its input. A secret in it is laid open, and the result is secret.
pub(super) fn filter(
    environment: &mut Environment<'_>,
    name: &'static str,
    most: usize,
    apply: impl Fn(Value, &Arguments) -> Result<Value, Error> + Send + Sync + 'static,
) {
    register(environment, name, most, Look { inside: true, levels: 0 }, apply);
}

/// Registers a filter that looks all through its input and makes lists that nest `levels` deeper.
pub(super) fn making(
    environment: &mut Environment<'_>,
    name: &'static str,
    most: usize,
    levels: u16,
    apply: impl Fn(Value, &Arguments) -> Result<Value, Error> + Send + Sync + 'static,
) {
    register(environment, name, most, Look { inside: true, levels }, apply);
}

/// Registers a filter that moves items and members about without looking at them: secrets among them stay what they
/// are. The result nests `levels` deeper than the input.
pub(super) fn moving(
    environment: &mut Environment<'_>,
    name: &'static str,
    most: usize,
    levels: u16,
    apply: impl Fn(Value, &Arguments) -> Result<Value, Error> + Send + Sync + 'static,
) {
    register(environment, name, most, Look { inside: false, levels }, apply);
}

#[derive(Clone, Copy)]
struct Look {
    inside: bool,
    levels: u16,
}

fn register(
    environment: &mut Environment<'_>,
    name: &'static str,
    most: usize,
    look: Look,
    apply: impl Fn(Value, &Arguments) -> Result<Value, Error> + Send + Sync + 'static,
) {
    environment.add_filter(
        name,
        move |state: &State<'_, '_>,
              input: minijinja::Value,
              rest: Rest<ValueOrKwargs>|
              -> Result<minijinja::Value, Error> {
            if is_lenient(state) && (input.is_undefined() || input.is_none()) && !takes_null(name) {
                return Ok(of_null(name));
            }
            if !is_lenient(state) {
                defined(name, &input)?;
            }
            let mut arguments = Arguments::of(rest)?;
            arguments.lenient = is_lenient(state);
            // These do not look into what they are given: what is unknown in it stays so.
            let value = match name {
                "list" | "length" | "count" => taken(&input),
                _ => from_jinja(&input),
            };
            let value = value.map_err(invalid)?;
            if matches!(value, Value::Unknown(_)) {
                // Whatever comes of it is unknown, too.
                return Ok(input);
            }
            let done = open(state, value.clone(), look.inside).and_then(|(opened, is_secret)| {
                let fuel = state.fuel_levels().map_or(u64::MAX, |(_, left)| left);
                arguments.left.set(fuel);
                let result = apply(opened, &arguments)?;
                state.consume_fuel(fuel - arguments.left.get())?;
                arguments.finish(most)?;
                budget::pay_for(state, &result)?;
                Ok(if is_secret || arguments.opened.get() { result.tainted() } else { result })
            });
            let result = match done {
                Ok(result) => result,
                Err(error) => {
                    // The message may quote what was looked at.
                    if budget::may_be_tainted(&value) || arguments.may_be_tainted() {
                        touch();
                    }
                    return Err(error);
                }
            };
            let levels = made(&input).max(arguments.levels()) + look.levels;
            let levels = if matches!(result, Value::List(_) | Value::Map(_)) { levels } else { 0 };
            to_jinja_made(result, levels).map_err(invalid)
        },
    );
}

/// Tells whether a filter has something to say of null.
fn takes_null(name: &str) -> bool {
    matches!(name, "bool" | "string" | "tojson" | "listed" | "default" | "d")
}

/// What a filter gives for null where expressions are lenient: null too, but a count is none.
pub(super) fn of_null(name: &str) -> minijinja::Value {
    match name {
        "length" | "count" | "sum" => minijinja::Value::from(0),
        _ => minijinja::Value::from(()),
    }
}

/// Refuses what is not there.
pub(super) fn defined(name: &str, input: &minijinja::Value) -> Result<(), Error> {
    if input.is_undefined() {
        return Err(Error::new(ErrorKind::UndefinedError, format!("`{name}` of something undefined")));
    }
    Ok(())
}

fn open(state: &State<'_, '_>, value: Value, inside: bool) -> Result<(Value, bool), Error> {
    if inside || matches!(value, Value::Secret(_) | Value::String(_)) {
        return budget::open(state, value);
    }
    Ok((value, false))
}

/// Registers the filters that give what they are given, or nothing: what is not there may be asked for too.
pub(super) fn register_pickers(environment: &mut Environment<'_>) {
    for name in ["default", "d"] {
        environment.add_filter(
            name,
            |state: &State<'_, '_>,
             input: minijinja::Value,
             rest: Rest<ValueOrKwargs>|
             -> Result<minijinja::Value, Error> {
                let mut arguments = Arguments::of(rest)?;
                arguments.lenient = is_lenient(state);
                let otherwise = arguments.raw(0, "value")?.unwrap_or_else(|| minijinja::Value::from(""));
                let also_false = arguments.flag(1, "also_false")?;
                arguments.finish(2)?;
                let is_absent = input.is_undefined() || input.is_none();
                Ok(if is_absent || (also_false && !input.is_true()) { otherwise } else { input })
            },
        );
    }
    environment.add_filter(
        "attr",
        |input: minijinja::Value, key: minijinja::Value| -> Result<minijinja::Value, Error> {
            defined("attr", &input)?;
            input.get_item(&minijinja::Value::from(ours(&key)?.to_text()))
        },
    );
    environment.add_filter("first", |state: &State<'_, '_>, input: minijinja::Value| end(state, &input, "first", 0));
    environment.add_filter("last", |state: &State<'_, '_>, input: minijinja::Value| end(state, &input, "last", -1));
}

/// Returns the item, or letter, at one end.
fn end(state: &State<'_, '_>, input: &minijinja::Value, name: &str, place: i64) -> Result<minijinja::Value, Error> {
    if is_lenient(state) && (input.is_undefined() || input.is_none()) {
        return Ok(of_null(name));
    }
    defined(name, input)?;
    match ours(input)? {
        Value::List(items) => {
            let item = if place == 0 { items.first() } else { items.last() };
            let Some(item) = item else { return Ok(minijinja::Value::UNDEFINED) };
            to_jinja_made(item.clone(), made(input).saturating_sub(1)).map_err(invalid)
        }
        Value::String(text) => Ok(letter(&text, place).map_or(minijinja::Value::UNDEFINED, minijinja::Value::from)),
        Value::Secret(inner) => {
            let letter = letter(&inner.to_text(), place).map(|letter| Value::from(letter).tainted());
            letter.map_or(Ok(minijinja::Value::UNDEFINED), |letter| to_jinja_made(letter, 0).map_err(invalid))
        }
        Value::Map(map) => {
            let key = if place == 0 { map.keys().next() } else { map.keys().next_back() };
            Ok(key.map_or(minijinja::Value::UNDEFINED, |key| minijinja::Value::from(key.clone())))
        }
        other => Err(invalid(format!("`{name}` takes a list, found {}", other.kind().name()))),
    }
}

fn letter(text: &str, place: i64) -> Option<String> {
    let letter = if place == 0 { text.chars().next() } else { text.chars().next_back() };
    letter.map(String::from)
}
