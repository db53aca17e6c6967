//! The fields that people fill in: typed and checked as the inputs of a pipeline are.

use crate::diag::did_you_mean;
use crate::model::Map;
use crate::model::Value;
use crate::pipeline;
use crate::pipeline::Given;
use crate::pipeline::Input;
use crate::store::Vote;

/// A field of a form.
pub type Field = Input;

/// Reads the declarations of a form.
///
/// # Errors
/// What is wrong with one of them: a default, say, that was computed and does not fit.
pub fn fields(form: &Value) -> Result<Vec<Field>, String> {
    match form {
        Value::Null => Ok(Vec::new()),
        Value::Map(form) => form.iter().map(|(name, declared)| pipeline::declared_input(name, declared)).collect(),
        other => Err(format!("`form` is a mapping of fields, found {}", other.kind().name())),
    }
}

/// Returns the form as it is when nobody fills it in; fields without a default are null.
#[must_use]
pub fn defaults(fields: &[Field]) -> Value {
    let entries = fields.iter().map(|field| (field.name.clone(), field.default.clone().unwrap_or_default()));
    Value::map(entries)
}

/// Checks what a person fills in.
pub(super) fn check(fields: &[Field], given: &[(String, Given)]) -> Result<Value, Vec<String>> {
    let mut problems = Vec::new();
    let mut filled = Map::new();
    for (name, given) in given {
        let Some(field) = fields.iter().find(|field| *field.name == **name) else {
            let names = fields.iter().map(|field| &*field.name);
            let help = match did_you_mean(name, names.clone()) {
                Some(near) => format!("; did you mean `{near}`?"),
                None if fields.is_empty() => "; nothing is to be filled in".to_owned(),
                None => format!("; there are {}", names.map(|it| format!("`{it}`")).collect::<Vec<_>>().join(", ")),
            };
            problems.push(format!("there is no field `{name}`{help}"));
            continue;
        };
        match pipeline::check_input(field, given) {
            Ok(value) => {
                filled.insert(field.name.clone(), value);
            }
            Err(problem) => problems.push(format!("field `{name}`: {problem}")),
        }
    }
    if problems.is_empty() { Ok(Value::from(filled)) } else { Err(problems) }
}

/// Puts together what those who approve filled in: of each field the latest value, else its default.
pub(super) fn merged(fields: &[Field], votes: &[Vote]) -> Result<Value, Vec<String>> {
    let mut approving: Vec<&Vote> = votes.iter().filter(|vote| vote.approves).collect();
    approving.sort_by_key(|vote| vote.at);
    let mut problems = Vec::new();
    let mut form = Map::new();
    for field in fields {
        let given = approving.iter().rev().find_map(|vote| vote.form.get(&field.name));
        match given.or(field.default.as_ref()) {
            Some(value) => {
                form.insert(field.name.clone(), value.clone());
            }
            None if field.required => {
                problems.push(format!("field `{0}` is missing; give it with `--form {0}=…`", field.name));
            }
            None => {
                form.insert(field.name.clone(), Value::Null);
            }
        }
    }
    if problems.is_empty() { Ok(Value::from(form)) } else { Err(problems) }
}
