//! What can be said of an effect before it happens.

use std::sync::Arc;

use rust_decimal::Decimal;

use crate::model::Value;

/// What a plan may say of a node's work before it happens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prediction {
    /// The output; what is null in it is known only afterwards. Nothing where nothing of it is known.
    pub output: Option<Value>,
    /// The connection that it goes over.
    pub connection: Option<Arc<str>>,
    /// What is there now and will be changed, where it could be read: old and new values by field.
    pub changes: Vec<Change>,
    /// Whether there is something now; nothing where it is not known.
    pub exists: Option<bool>,
    /// What it costs, by budget.
    pub costs: Vec<Cost>,
}

impl Prediction {
    /// Adds what something costs to what is known of the same budget; unknown is not nothing.
    pub fn add(&mut self, cost: Cost) {
        match self.costs.iter_mut().find(|own| own.budget == cost.budget) {
            Some(own) => own.amount = own.amount.zip(cost.amount).map(|(left, right)| left.saturating_add(right)),
            None => self.costs.push(cost),
        }
    }
}

/// A field that an effect changes.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub field: Arc<str>,
    /// Null where there is none.
    pub old: Value,
    pub new: Value,
}

/// What something costs of one budget.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    pub budget: Arc<str>,
    /// Nothing where it depends on what is not known yet.
    pub amount: Option<Decimal>,
    /// What it is counted in, e.g. `USD`; nothing for requests.
    pub unit: Option<Arc<str>>,
    /// How much there is in all, where that is known.
    pub limit: Option<Decimal>,
}
