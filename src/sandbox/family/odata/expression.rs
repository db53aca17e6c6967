//! Checked expressions, evaluated on rows.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::model::Map;
use crate::model::Value;
use crate::model::add;
use crate::model::compare;
use crate::model::divide;
use crate::model::multiply;
use crate::model::remainder;
use crate::model::subtract;

/// A checked expression.
#[derive(Clone, Debug)]
pub(super) enum Expression {
    Constant(Value),
    Column(Arc<str>),
    Not(Box<Expression>),
    Binary(Operator, Box<Expression>, Box<Expression>),
    Call(Function, Vec<Expression>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Or,
    And,
    Equal,
    Unequal,
    Greater,
    GreaterEqual,
    Less,
    LessEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Function {
    /// The text, then what it may contain.
    Contains,
    StartsWith,
    EndsWith,
    Length,
    IndexOf,
    Substring,
    Lower,
    Upper,
    Trim,
    Concat,
    Year,
    Month,
    Day,
}

/// Returns the order of two rows.
pub(super) fn ordering(keys: &[(Expression, bool)], left: &Map, right: &Map) -> Ordering {
    for (key, descending) in keys {
        let order = rank(&key.value(left), &key.value(right));
        if order != Ordering::Equal {
            return if *descending { order.reverse() } else { order };
        }
    }
    Ordering::Equal
}

/// Compares for an order: nothing comes first.
fn rank(left: &Value, right: &Value) -> Ordering {
    match (left.is_null(), right.is_null()) {
        (false, false) => compare(left, right).unwrap_or(Ordering::Equal),
        (left, right) => right.cmp(&left),
    }
}

impl Expression {
    /// Tells whether a row fulfils the condition.
    pub(super) fn holds(&self, row: &Map) -> bool {
        self.value(row).as_bool() == Some(true)
    }

    fn value(&self, row: &Map) -> Value {
        match self {
            Self::Constant(value) => value.clone(),
            Self::Column(name) => row.get(name).cloned().unwrap_or_default(),
            Self::Not(inner) => Value::from(!inner.holds(row)),
            Self::Binary(Operator::Or, left, right) => Value::from(left.holds(row) || right.holds(row)),
            Self::Binary(Operator::And, left, right) => Value::from(left.holds(row) && right.holds(row)),
            Self::Binary(operator, left, right) => operator.apply(&left.value(row), &right.value(row)),
            Self::Call(function, arguments) => {
                let values: Vec<_> = arguments.iter().map(|argument| argument.value(row)).collect();
                function.apply(&values).unwrap_or_default()
            }
        }
    }
}

impl Operator {
    fn apply(self, left: &Value, right: &Value) -> Value {
        let calculated = match self {
            Self::Add => add(left, right),
            Self::Subtract => subtract(left, right),
            Self::Multiply => multiply(left, right),
            Self::Divide => divide(left, right),
            Self::Modulo => remainder(left, right),
            Self::Equal => return Value::from(left == right),
            Self::Unequal => return Value::from(left != right),
            // With nothing no order holds.
            _ if left.is_null() || right.is_null() => return Value::from(false),
            _ => {
                let order = compare(left, right).ok();
                return Value::from(order.is_some_and(|order| match self {
                    Self::Greater => order.is_gt(),
                    Self::GreaterEqual => order.is_ge(),
                    Self::Less => order.is_lt(),
                    _ => order.is_le(),
                }));
            }
        };
        calculated.unwrap_or_default()
    }
}

impl Function {
    fn apply(self, arguments: &[Value]) -> Option<Value> {
        let text = |at: usize| arguments.get(at).and_then(Value::as_str);
        let number = |at: usize| match arguments.get(at) {
            Some(Value::Int(number)) => usize::try_from(*number).ok(),
            _ => None,
        };
        let part = |format: &str| match arguments.first() {
            Some(Value::Time(time)) => time.to_jiff().strftime(format).to_string().parse::<i32>().ok().map(Value::from),
            _ => None,
        };
        let length = |text: &str| Value::Int(i128::try_from(text.chars().count()).unwrap_or(i128::MAX));
        Some(match self {
            Self::Contains => Value::from(text(0)?.contains(text(1)?)),
            Self::StartsWith => Value::from(text(0)?.starts_with(text(1)?)),
            Self::EndsWith => Value::from(text(0)?.ends_with(text(1)?)),
            Self::Length => length(text(0)?),
            Self::IndexOf => match text(0)?.split_once(text(1)?) {
                Some((before, _)) => length(before),
                None => Value::from(-1),
            },
            Self::Substring => {
                let letters = text(0)?.chars().skip(number(1)?);
                Value::from(letters.take(number(2).unwrap_or(usize::MAX)).collect::<String>())
            }
            Self::Lower => Value::from(text(0)?.to_lowercase()),
            Self::Upper => Value::from(text(0)?.to_uppercase()),
            Self::Trim => Value::from(text(0)?.trim()),
            Self::Concat => Value::from(format!("{}{}", text(0)?, text(1)?)),
            Self::Year => part("%Y")?,
            Self::Month => part("%m")?,
            Self::Day => part("%d")?,
        })
    }
}
