//! Domains: conditions in prefix notation, `['|', [a, '=', 1], [b, '>', 2]]`.

use std::cmp::Ordering;
use std::sync::Arc;

use super::fault::Fault;
use super::rows::View;
use super::schema::Field;
use super::schema::Kind;
use super::schema::Model;
use super::schema::Schema;
use super::values;
use crate::model::Value;
use crate::model::compare;
use crate::model::parse_number;

/// How deep domains stand in domains.
const MAX_DEPTH: usize = 16;
/// How many signs may stand one upon the other.
const MAX_SIGNS: usize = 500;

/// A condition over the rows of a model; its fields are known to be there.
#[derive(Clone, Debug)]
pub(super) enum Domain {
    Constant(bool),
    All(Vec<Domain>),
    Either(Vec<Domain>),
    Not(Box<Domain>),
    Leaf(Leaf),
}

/// One condition. An operator that says `not` is its opposite, negated.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    path: Vec<Arc<str>>,
    operator: Operator,
    negated: bool,
    value: Value,
    /// The condition of `any`.
    below: Option<Box<Domain>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    /// Equal, or nothing is asked for.
    EqualOrUnset,
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
    In,
    /// A part, with `%` and `_`; whether case counts, and whether the pattern is the whole.
    Like {
        case: bool,
        whole: bool,
    },
    ChildOf,
    ParentOf,
    Any,
}

impl Operator {
    /// Reads an operator: what it is, and whether it is negated.
    fn read(text: &str) -> Option<(Self, bool)> {
        let like = |case, whole| Self::Like { case, whole };
        Some(match text {
            "=" | "==" => (Self::Equal, false),
            "!=" | "<>" => (Self::Equal, true),
            "=?" => (Self::EqualOrUnset, false),
            "<" => (Self::Less, false),
            "<=" => (Self::LessOrEqual, false),
            ">" => (Self::More, false),
            ">=" => (Self::MoreOrEqual, false),
            "in" => (Self::In, false),
            "not in" => (Self::In, true),
            "like" => (like(true, false), false),
            "not like" => (like(true, false), true),
            "ilike" => (like(false, false), false),
            "not ilike" => (like(false, false), true),
            "=like" => (like(true, true), false),
            "not =like" => (like(true, true), true),
            "=ilike" => (like(false, true), false),
            "not =ilike" => (like(false, true), true),
            "child_of" => (Self::ChildOf, false),
            "parent_of" => (Self::ParentOf, false),
            "any" => (Self::Any, false),
            "not any" => (Self::Any, true),
            _ => return None,
        })
    }
}

impl Domain {
    /// Reads a domain; nothing and false find everything.
    pub(super) fn read(value: &Value, schema: &Schema, model: &Model) -> Result<Self, Fault> {
        Self::nested(value, schema, model, 0)
    }

    fn nested(value: &Value, schema: &Schema, model: &Model, depth: usize) -> Result<Self, Fault> {
        if depth >= MAX_DEPTH {
            return Err(Fault::too_deep());
        }
        let items = match value {
            Value::Null | Value::Bool(false) => return Ok(Self::Constant(true)),
            Value::List(items) => items,
            other => return Err(Fault::value(format!("Domain() invalid item in domain: {other}"))),
        };
        // From the end: each sign takes what stands on the stack. Beside a term, how deep it is.
        let mut stack: Vec<(Self, usize)> = Vec::new();
        for item in items.iter().rev() {
            let malformed = || Fault::value(format!("Domain {value} is malformed"));
            let (term, depth) = match item.as_str() {
                Some(sign @ ("&" | "|")) => {
                    let (left, right) = (stack.pop().ok_or_else(malformed)?, stack.pop().ok_or_else(malformed)?);
                    let (parts, depth) = (vec![left.0, right.0], left.1.max(right.1) + 1);
                    (if sign == "&" { Self::All(parts) } else { Self::Either(parts) }, depth)
                }
                Some("!") => {
                    let (term, depth) = stack.pop().ok_or_else(malformed)?;
                    (Self::Not(Box::new(term)), depth + 1)
                }
                Some(_) => return Err(malformed()),
                None => (Self::term(item, schema, model, depth)?, 0),
            };
            if depth > MAX_SIGNS {
                return Err(Fault::too_deep());
            }
            stack.push((term, depth));
        }
        Ok(Self::All(stack.into_iter().rev().map(|(term, _)| term).collect()))
    }

    fn term(item: &Value, schema: &Schema, model: &Model, depth: usize) -> Result<Self, Fault> {
        let wrong = || Fault::value(format!("Domain() invalid item in domain: {item}"));
        let Some([left, operator, value]) = item.as_list() else { return Err(wrong()) };
        let operator = operator.as_str().ok_or_else(wrong)?.to_lowercase();
        if let (Value::Int(left), "=" | "!=") = (left, operator.as_str()) {
            let equal = value == &Value::Int(*left);
            return Ok(Self::Constant(equal == (operator == "=")));
        }
        let name = left.as_str().ok_or_else(wrong)?;
        let (operator, negated) =
            Operator::read(&operator).ok_or_else(|| Fault::value(format!("Invalid operator in condition {item}")))?;
        let path: Vec<Arc<str>> = name.split('.').map(Arc::from).collect();
        let mut owner = Some(model);
        let mut last = None;
        for part in &path {
            let known = owner.and_then(|owner| owner.field(part)).filter(|field| !field.hidden);
            let field = known.ok_or_else(|| {
                let owner = owner.map_or(&*model.name, |owner| &*owner.name);
                Fault::value(format!("Invalid field {owner}.{part} in condition {item}"))
            })?;
            owner = field.relation.as_deref().and_then(|name| schema.model(name));
            last = Some(field);
        }
        let below = match (operator, owner) {
            (Operator::Any, Some(target)) => Some(Box::new(Self::nested(value, schema, target, depth + 1)?)),
            (Operator::Any | Operator::ChildOf | Operator::ParentOf, None)
                if last.is_some_and(|field| &*field.name != "id") =>
            {
                return Err(Fault::value(format!("Invalid operator in condition {item}")));
            }
            _ => None,
        };
        Ok(Self::Leaf(Leaf { path, operator, negated, value: value.clone(), below }))
    }

    /// Tells whether a field is asked for by its own name.
    pub(super) fn names(&self, name: &str) -> bool {
        match self {
            Self::Constant(_) => false,
            Self::All(parts) | Self::Either(parts) => parts.iter().any(|part| part.names(name)),
            Self::Not(part) => part.names(name),
            Self::Leaf(leaf) => leaf.path.len() == 1 && leaf.path.first().is_some_and(|first| &**first == name),
        }
    }

    /// Tells whether a row is found.
    pub(super) fn holds(&self, view: &View<'_>, model: &Model, id: i64) -> bool {
        match self {
            Self::Constant(value) => *value,
            Self::All(parts) => parts.iter().all(|part| part.holds(view, model, id)),
            Self::Either(parts) => parts.iter().any(|part| part.holds(view, model, id)),
            Self::Not(part) => !part.holds(view, model, id),
            Self::Leaf(leaf) => leaf.holds_along(view, model, id, &leaf.path),
        }
    }
}

impl Leaf {
    fn holds_along(&self, view: &View<'_>, model: &Model, id: i64, path: &[Arc<str>]) -> bool {
        let Some((first, rest)) = path.split_first() else { return false };
        let Some(field) = model.field(first) else { return false };
        let target = field.relation.as_deref().and_then(|name| view.schema.model(name));
        let value = view.value(model, id, field);
        if !rest.is_empty() {
            let Some(target) = target else { return false };
            return values::ids_of(&value).into_iter().any(|id| self.holds_along(view, target, id, rest));
        }
        let found = match target {
            Some(target) => self.holds_rows(view, target, &values::ids_of(&value)),
            // A tree of rows is asked of their own id.
            None if matches!(self.operator, Operator::ChildOf | Operator::ParentOf) => {
                self.holds_rows(view, model, &[id])
            }
            None => self.holds_value(field, &value),
        };
        found != self.negated
    }

    /// Decides over the rows that a field points to; what is asked for may be ids or names.
    fn holds_rows(&self, view: &View<'_>, target: &Model, ids: &[i64]) -> bool {
        let equals = |wanted: &Value| match wanted {
            Value::Null | Value::Bool(false) => ids.is_empty(),
            Value::Bool(true) => !ids.is_empty(),
            Value::String(name) => ids.iter().any(|id| view.name(target, *id) == **name),
            other => values::id_of(other).is_some_and(|id| ids.contains(&id)),
        };
        match (self.operator, &self.value) {
            (Operator::EqualOrUnset, value) if !value.is_truthy() => true,
            (Operator::Equal | Operator::EqualOrUnset | Operator::In, Value::List(wanted)) => {
                // An empty list asks for rows that point nowhere, where it is compared and not searched.
                wanted.iter().any(equals) || (wanted.is_empty() && self.operator == Operator::Equal && ids.is_empty())
            }
            (Operator::Equal | Operator::EqualOrUnset | Operator::In, wanted) => equals(wanted),
            (Operator::Like { case, whole }, wanted) => {
                let pattern = pattern(wanted, whole);
                ids.iter().any(|id| like(&view.name(target, *id), &pattern, case))
            }
            (Operator::ChildOf, wanted) => {
                let roots = self.named_rows(view, target, wanted);
                ids.iter().any(|id| line_of(view, target, *id).iter().any(|id| roots.contains(id)))
            }
            (Operator::ParentOf, wanted) => {
                let leaves = self.named_rows(view, target, wanted);
                leaves.iter().any(|leaf| line_of(view, target, *leaf).iter().any(|id| ids.contains(id)))
            }
            (Operator::Any, _) => {
                let below = self.below.as_deref();
                below.is_some_and(|below| ids.iter().any(|id| below.holds(view, target, *id)))
            }
            (operator, wanted) => ids.iter().any(|id| ordered(operator, compare(&Value::from(*id), wanted).ok())),
        }
    }

    fn named_rows(&self, view: &View<'_>, target: &Model, wanted: &Value) -> Vec<i64> {
        match wanted {
            Value::String(name) => view
                .ids(&target.name)
                .into_iter()
                .filter(|id| like(&view.name(target, *id), &format!("%{name}%"), false))
                .collect(),
            other => values::ids_of(other),
        }
    }

    fn holds_value(&self, field: &Field, value: &Value) -> bool {
        match self.operator {
            Operator::EqualOrUnset if !self.value.is_truthy() => true,
            Operator::Equal | Operator::EqualOrUnset | Operator::In => match &self.value {
                Value::List(wanted) => wanted.iter().any(|wanted| equal(field, value, wanted)),
                wanted => equal(field, value, wanted),
            },
            Operator::Like { case, whole } => {
                let pattern = pattern(&self.value, whole);
                // Everything holds nothing, even what is empty.
                pattern == "%%" || (!value.is_null() && like(&value.to_text(), &pattern, case))
            }
            operator => {
                let value = values::filled(field, value.clone());
                let wanted = wanted(field, operator, &self.value);
                !value.is_null() && ordered(operator, compare(&value, &wanted).ok())
            }
        }
    }
}

/// Returns a row and all above it.
fn line_of(view: &View<'_>, model: &Model, id: i64) -> Vec<i64> {
    let mut line = vec![id];
    let Some(parent) = model.field(&model.parent) else { return line };
    while let Some(above) = line.last().and_then(|id| values::id_of(&view.value(model, *id, parent))) {
        if line.contains(&above) {
            break;
        }
        line.push(above);
    }
    line
}

fn equal(field: &Field, value: &Value, asked: &Value) -> bool {
    let empty = matches!(asked, Value::Null | Value::Bool(false)) || asked.as_str().is_some_and(str::is_empty);
    if field.kind == Kind::Boolean {
        return value.is_truthy() == asked.is_truthy();
    }
    if empty && !field.kind.is_number() {
        return value.is_null();
    }
    let value = values::filled(field, value.clone());
    let asked = wanted(field, Operator::Equal, asked);
    value == asked || compare(&value, &asked).is_ok_and(Ordering::is_eq)
}

/// Brings what is asked for into the kind of the field.
fn wanted(field: &Field, operator: Operator, asked: &Value) -> Value {
    match (field.kind, asked) {
        (kind, Value::Null | Value::Bool(false)) if kind.is_number() => Value::Int(0),
        (kind, Value::String(text)) if kind.is_number() => parse_number(text.trim()).unwrap_or_else(|| asked.clone()),
        (Kind::Text | Kind::Selection, Value::Int(_) | Value::Decimal(_)) => Value::from(asked.to_text()),
        // A day stands for its beginning, or its end where that is what is meant.
        (Kind::DateTime, Value::String(text)) if text.len() == 10 => {
            let end = matches!(operator, Operator::More | Operator::LessOrEqual);
            Value::from(format!("{text} {}", if end { "23:59:59" } else { "00:00:00" }))
        }
        (Kind::Date, Value::String(text)) => Value::from(text.get(..10).unwrap_or(text)),
        _ => asked.clone(),
    }
}

fn ordered(operator: Operator, found: Option<Ordering>) -> bool {
    found.is_some_and(|found| match operator {
        Operator::Less => found.is_lt(),
        Operator::LessOrEqual => found.is_le(),
        Operator::More => found.is_gt(),
        Operator::MoreOrEqual => found.is_ge(),
        _ => false,
    })
}

fn pattern(asked: &Value, whole: bool) -> String {
    let text = if matches!(asked, Value::Bool(false)) { String::new() } else { asked.to_text() };
    if whole { text } else { format!("%{text}%") }
}

/// Matches as SQL does: `%` is any text, `_` any letter, `\` takes the meaning off.
fn like(text: &str, pattern: &str, case: bool) -> bool {
    let fold = |text: &str| if case { text.to_owned() } else { text.to_lowercase() };
    let text: Vec<char> = fold(text).chars().collect();
    let pattern: Vec<char> = fold(pattern).chars().collect();
    let (mut at, mut from) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while at < text.len() {
        let sign = pattern.get(from).copied();
        let escaped = if sign == Some('\\') { pattern.get(from + 1).copied() } else { None };
        match (sign, escaped) {
            (Some('%'), _) => {
                star = Some((from + 1, at));
                from += 1;
            }
            (Some(_), Some(letter)) if text.get(at) == Some(&letter) => {
                at += 1;
                from += 2;
            }
            (Some(letter), None) if letter == '_' || text.get(at) == Some(&letter) => {
                at += 1;
                from += 1;
            }
            _ => match star {
                Some((behind, begun)) => {
                    star = Some((behind, begun + 1));
                    at = begun + 1;
                    from = behind;
                }
                None => return false,
            },
        }
    }
    pattern.get(from..).is_some_and(|rest| rest.iter().all(|letter| *letter == '%'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_those_of_sql() {
        let cases = [
            ("Azure Interior", "%inter%", false, true),
            ("Azure Interior", "%inter%", true, false),
            ("Azure Interior", "Azure%", true, true),
            ("Azure Interior", "A_ure Interior", true, true),
            ("Azure", "%z%r%", true, true),
            ("100%", "100\\%", true, true),
            ("1000", "100\\%", true, false),
            ("", "%%", true, true),
            ("a", "", true, false),
            ("Ärger", "ä%", false, true),
        ];
        for (text, pattern, case, expected) in cases {
            assert_eq!(like(text, pattern, case), expected, "{text} {pattern}");
        }
    }
}
