//! What a plan may say of an operation before it happens: its output, what it costs, what it changes.

use std::sync::Arc;

use rust_decimal::Decimal;

use super::call;
use super::call::Means;
use super::call::Stop;
use super::inline;
use super::judge::Failure;
use super::manifest::Act;
use super::manifest::Operation;
use super::manifest::OutcomeKind;
use super::render;
use super::runtime::Link;
use super::schema;
use crate::model::Value;
use crate::node::Change;
use crate::node::Cost;
use crate::node::Prediction;
use crate::template::Lookup;
use crate::template::Scope;
use crate::template::StepView;

/// Operations that use one another are followed so deep.
const MAX_DEPTH: usize = 4;

/// Neither steps nor secrets, and values that are not known yet.
#[derive(Debug)]
struct Planning;

impl Lookup for Planning {
    fn step(&self, _: &str) -> Option<StepView> {
        None
    }

    fn secret(&self, name: &str) -> Result<Value, String> {
        Err(format!("there is no secret `{name}`"))
    }

    fn plans(&self) -> bool {
        true
    }
}

/// Predicts an operation with this input, of which parts may be unknown. Asks for what is there now, where the manifest
/// says how.
///
/// # Errors
/// An input that would be refused before anything is sent, and those of the question.
pub(super) async fn predict(
    link: &Link,
    means: &Means<'_>,
    operation: &Arc<Operation>,
    input: Value,
) -> Result<Prediction, Stop> {
    let known = input.is_known();
    let input = match known {
        true => call::checked_input(link, operation, input, means)?,
        false => schema::completed(&operation.input, input),
    };
    let scope = scope_of(link, means, operation, &input);
    let output = match &operation.predict {
        // What cannot be evaluated is not known; the run will say why.
        Some(tree) => render::output(tree, &scope).ok().map(|output| whole(output, operation)),
        None => None,
    };
    let mut prediction = Prediction {
        output,
        connection: Some(link.connection().name.clone()),
        costs: costs(link, means, operation, &scope, 0),
        ..Prediction::default()
    };
    if let Some(read_back) = operation.read_back.as_ref().filter(|_| known) {
        let asked = link.manifest.operation(&read_back.operation)?;
        let with = render::written(&read_back.with, &scope).map_err(Failure::from)?;
        let with = with.unwrap_or_else(|| Value::map::<&str>([]));
        let asking = Means { effect: None, ..*means };
        let there = match inline::output(link, &asking, asked, &with).await {
            Ok(Value::List(rows)) => rows.first().cloned().unwrap_or_default(),
            Ok(there) => there,
            Err(Stop::Failed(failure)) if failure.outcome == OutcomeKind::NotFound => Value::Null,
            Err(stop) => return Err(stop),
        };
        prediction.exists = Some(!there.is_null());
        let mut scope = scope.clone();
        scope.locals.push(("item", there.clone()));
        let changes = render::output(&read_back.changes, &scope).map_err(Failure::from)?;
        for (field, new) in changes.as_map().into_iter().flatten() {
            let old = there.get(field).cloned().unwrap_or_default();
            prediction.changes.push(Change { field: field.clone(), old, new: new.clone() });
        }
    }
    Ok(prediction)
}

/// Adds what an operation gives besides, by its schema: that is known only afterwards.
fn whole(output: Value, operation: &Operation) -> Value {
    let Some(map) = output.as_map() else { return output };
    let declared = operation.returns.as_ref().and_then(|returns| returns.get("properties")?.as_object());
    let mut map = map.clone();
    for name in declared.into_iter().flat_map(|properties| properties.keys()) {
        if !map.contains_key(name.as_str()) {
            map.insert(name.as_str().into(), Value::Null);
        }
    }
    Value::from(map)
}

fn scope_of(link: &Link, means: &Means<'_>, operation: &Operation, input: &Value) -> Scope {
    let mut roots = link.settings();
    roots.extend([
        ("input", input.clone()),
        ("attempt", Value::Int(1)),
        ("operation", Value::from(&*operation.name)),
        ("effect", call::effect_root(means)),
        ("account", link.state.account.get().cloned().unwrap_or_default()),
        ("next", Value::Null),
        ("cursor", Value::Null),
    ]);
    Scope { lookup: Arc::new(Planning), ..link.scope(means, roots) }
}

/// Returns what an operation costs, with those that it uses.
fn costs(link: &Link, means: &Means<'_>, operation: &Operation, scope: &Scope, depth: usize) -> Vec<Cost> {
    let mut costs = Vec::new();
    for (budget, tree) in &operation.cost {
        let amount = match render::value(tree, scope) {
            // Of money it says that nobody knows how much.
            Ok(value) if value.is_null() && !link.manifest.limits.has_unit(budget) => continue,
            Ok(value) if value.is_known() => decimal(&value),
            _ => None,
        };
        add(&mut costs, link.manifest.limits.cost(budget, amount, scope));
    }
    if let Act::Uses { operation: name, with } = &operation.act
        && depth < MAX_DEPTH
        && let Ok(name) = name.eval(scope)
        && let Ok(used) = link.manifest.operation(&name.revealed().to_text())
        && let Ok(with) = render::written(with, scope)
    {
        let input = schema::completed(&used.input, with.unwrap_or_else(|| Value::map::<&str>([])));
        let scope = scope_of(link, means, used, &input);
        for cost in self::costs(link, means, used, &scope, depth + 1) {
            add(&mut costs, cost);
        }
    }
    costs
}

fn add(costs: &mut Vec<Cost>, cost: Cost) {
    match costs.iter_mut().find(|own| own.budget == cost.budget) {
        Some(own) => own.amount = own.amount.zip(cost.amount).map(|(left, right)| left.saturating_add(right)),
        None => costs.push(cost),
    }
}

pub(super) fn decimal(value: &Value) -> Option<Decimal> {
    match value.revealed() {
        Value::Null => None,
        other => other.to_text().trim().parse().ok(),
    }
}
