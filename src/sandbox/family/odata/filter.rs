//! `$filter` and `$orderby`: read against the properties of a set, evaluated on rows.

use std::cmp::Ordering;
use std::iter::Peekable;
use std::sync::Arc;
use std::vec::IntoIter;

use super::edm::Kind;
use super::edm::Version;
use super::token;
use super::token::Literal;
use super::token::Token;
use crate::model::Map;
use crate::model::Value;
use crate::model::add;
use crate::model::compare;
use crate::model::divide;
use crate::model::multiply;
use crate::model::remainder;
use crate::model::subtract;

/// How deep expressions may stand in each other, and how long they may be.
const DEPTH: usize = 60;
const LENGTH: usize = 4000;

/// Finds the column of a property and its type.
pub(super) type Finder<'f> = &'f dyn Fn(&str) -> Option<(Arc<str>, Kind)>;

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

/// What an expression gives: only equals are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Null,
    Text,
    Boolean,
    Number,
    Guid,
    Date,
    Offset,
    Time,
}

/// The binary operators from the weakest on.
const LEVELS: &[&[(&str, Operator)]] = &[
    &[("or", Operator::Or)],
    &[("and", Operator::And)],
    &[("eq", Operator::Equal), ("ne", Operator::Unequal)],
    &[("gt", Operator::Greater), ("ge", Operator::GreaterEqual), ("lt", Operator::Less), ("le", Operator::LessEqual)],
    &[("add", Operator::Add), ("sub", Operator::Subtract)],
    &[("mul", Operator::Multiply), ("div", Operator::Divide), ("mod", Operator::Modulo)],
];

/// Reads a condition.
pub(super) fn condition(text: &str, version: Version, find: Finder<'_>) -> Result<Expression, String> {
    let (expression, class) = whole(text, version, find)?;
    match class {
        Class::Boolean => Ok(expression),
        _ => Err("the filter is no condition".to_owned()),
    }
}

/// Reads an order: expressions, and whether each descends.
pub(super) fn order(text: &str, version: Version, find: Finder<'_>) -> Result<Vec<(Expression, bool)>, String> {
    let mut keys = Vec::new();
    for part in parts(text, ',') {
        let part = part.trim();
        let (key, descending) = match part.rsplit_once(char::is_whitespace) {
            Some((key, "asc")) => (key, false),
            Some((key, "desc")) => (key, true),
            _ => (part, false),
        };
        keys.push((whole(key, version, find)?.0, descending));
    }
    Ok(keys)
}

/// Splits at a mark that stands neither in parentheses nor in quotes.
pub(super) fn parts(text: &str, mark: char) -> Vec<&str> {
    let (mut found, mut start, mut depth, mut quoted) = (Vec::new(), 0, 0_i32, false);
    for (at, letter) in text.char_indices() {
        match letter {
            '\'' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => depth -= 1,
            _ if letter == mark && depth == 0 && !quoted => {
                found.push(text.get(start..at).unwrap_or_default());
                start = at + letter.len_utf8();
            }
            _ => {}
        }
    }
    found.push(text.get(start..).unwrap_or_default());
    found
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

fn whole(text: &str, version: Version, find: Finder<'_>) -> Result<(Expression, Class), String> {
    let tokens = token::split(text, version)?;
    if tokens.len() > LENGTH {
        return Err("the expression is too long".to_owned());
    }
    let mut parser = Parser { tokens: tokens.into_iter().peekable(), version, find, depth: 0 };
    let read = parser.level(0)?;
    match parser.tokens.next() {
        None => Ok(read),
        Some(token) => Err(format!("{} is not expected", shown(&token))),
    }
}

fn shown(token: &Token) -> String {
    match token {
        Token::Open => "`(`".to_owned(),
        Token::Close => "`)`".to_owned(),
        Token::Comma => "`,`".to_owned(),
        Token::Equals => "`=`".to_owned(),
        Token::Word(word) => format!("`{word}`"),
        Token::Literal(_) => "a literal".to_owned(),
    }
}

struct Parser<'f> {
    tokens: Peekable<IntoIter<Token>>,
    version: Version,
    find: Finder<'f>,
    depth: usize,
}

impl Parser<'_> {
    fn level(&mut self, level: usize) -> Result<(Expression, Class), String> {
        let Some(operators) = LEVELS.get(level) else { return self.unary() };
        let mut left = self.level(level + 1)?;
        loop {
            let word = match self.tokens.peek() {
                Some(Token::Word(word)) => word.clone(),
                _ => return Ok(left),
            };
            // `in` binds as the comparisons do.
            if word == "in" && self.version == Version::V4 && level == 2 {
                self.tokens.next();
                left = self.one_of(&left)?;
                continue;
            }
            let Some((_, operator)) = operators.iter().find(|(name, _)| *name == word) else { return Ok(left) };
            self.tokens.next();
            let right = self.level(level + 1)?;
            left = joined(*operator, left, right)?;
        }
    }

    fn one_of(&mut self, left: &(Expression, Class)) -> Result<(Expression, Class), String> {
        let mut all = (Expression::Constant(Value::from(false)), Class::Boolean);
        for item in self.arguments()? {
            all = joined(Operator::Or, all, joined(Operator::Equal, left.clone(), item)?)?;
        }
        Ok(all)
    }

    fn unary(&mut self) -> Result<(Expression, Class), String> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err("the expression is too deep".to_owned());
        }
        let read = match self.tokens.next() {
            Some(Token::Open) => {
                let inner = self.level(0)?;
                self.close()?;
                inner
            }
            Some(Token::Literal(literal)) => constant(literal),
            Some(Token::Word(word)) if word == "not" => {
                let (inner, class) = self.unary()?;
                if class != Class::Boolean {
                    return Err("`not` stands before no condition".to_owned());
                }
                (Expression::Not(Box::new(inner)), Class::Boolean)
            }
            Some(Token::Word(word)) if self.tokens.peek() == Some(&Token::Open) => self.call(&word)?,
            Some(Token::Word(word)) => {
                let (column, kind) = (self.find)(&word).ok_or_else(|| format!("property `{word}` is not found"))?;
                (Expression::Column(column), class_of(kind))
            }
            Some(token) => return Err(format!("{} is not expected", shown(&token))),
            None => return Err("the expression ends too early".to_owned()),
        };
        self.depth -= 1;
        Ok(read)
    }

    fn close(&mut self) -> Result<(), String> {
        match self.tokens.next() {
            Some(Token::Close) => Ok(()),
            _ => Err("a parenthesis is not closed".to_owned()),
        }
    }

    /// Reads `(a, b)`.
    fn arguments(&mut self) -> Result<Vec<(Expression, Class)>, String> {
        if self.tokens.next() != Some(Token::Open) {
            return Err("a list in parentheses is expected".to_owned());
        }
        let mut found = vec![self.level(0)?];
        while self.tokens.peek() == Some(&Token::Comma) {
            self.tokens.next();
            found.push(self.level(0)?);
        }
        self.close()?;
        Ok(found)
    }

    fn call(&mut self, name: &str) -> Result<(Expression, Class), String> {
        use Class::Boolean;
        use Class::Number;
        use Class::Text;
        let mut arguments = self.arguments()?;
        let classes: Vec<_> = arguments.iter().map(|(_, class)| *class).collect();
        let (function, class) = match (name, self.version, classes.as_slice()) {
            ("substringof", Version::V2, [Text, Text]) => {
                // What is looked for comes first.
                arguments.reverse();
                (Function::Contains, Boolean)
            }
            ("contains", Version::V4, [Text, Text]) => (Function::Contains, Boolean),
            ("startswith", _, [Text, Text]) => (Function::StartsWith, Boolean),
            ("endswith", _, [Text, Text]) => (Function::EndsWith, Boolean),
            ("length", _, [Text]) => (Function::Length, Number),
            ("indexof", _, [Text, Text]) => (Function::IndexOf, Number),
            ("substring", _, [Text, Number] | [Text, Number, Number]) => (Function::Substring, Text),
            ("tolower", _, [Text]) => (Function::Lower, Text),
            ("toupper", _, [Text]) => (Function::Upper, Text),
            ("trim", _, [Text]) => (Function::Trim, Text),
            ("concat", _, [Text, Text]) => (Function::Concat, Text),
            ("year", _, [Class::Date | Class::Offset]) => (Function::Year, Number),
            ("month", _, [Class::Date | Class::Offset]) => (Function::Month, Number),
            ("day", _, [Class::Date | Class::Offset]) => (Function::Day, Number),
            _ => return Err(format!("function `{name}` is not known, or not with these arguments")),
        };
        Ok((Expression::Call(function, arguments.into_iter().map(|(it, _)| it).collect()), class))
    }
}

fn class_of(kind: Kind) -> Class {
    match kind {
        Kind::Text { .. } => Class::Text,
        Kind::Boolean => Class::Boolean,
        Kind::Int { .. } | Kind::Decimal { .. } => Class::Number,
        Kind::Guid => Class::Guid,
        Kind::Date | Kind::DateTime => Class::Date,
        Kind::DateTimeOffset => Class::Offset,
        Kind::Time => Class::Time,
    }
}

fn constant(literal: Literal) -> (Expression, Class) {
    let (value, class) = match literal {
        Literal::Null => (Value::Null, Class::Null),
        Literal::Boolean(value) => (Value::from(value), Class::Boolean),
        Literal::Text(text) => (Value::from(text), Class::Text),
        Literal::Number(number) => (number, Class::Number),
        Literal::Guid(text) => (Value::from(text), Class::Guid),
        Literal::Date(time) | Literal::DateTime(time) => (Value::Time(time), Class::Date),
        Literal::Offset(time) => (Value::Time(time), Class::Offset),
        Literal::Time(time) => (Value::Duration(time), Class::Time),
    };
    (Expression::Constant(value), class)
}

fn joined(
    operator: Operator,
    (left, one): (Expression, Class),
    (right, other): (Expression, Class),
) -> Result<(Expression, Class), String> {
    let class = match operator {
        Operator::Or | Operator::And if (one, other) == (Class::Boolean, Class::Boolean) => Class::Boolean,
        Operator::Add | Operator::Subtract | Operator::Multiply | Operator::Divide | Operator::Modulo
            if (one, other) == (Class::Number, Class::Number) =>
        {
            Class::Number
        }
        Operator::Equal
        | Operator::Unequal
        | Operator::Greater
        | Operator::GreaterEqual
        | Operator::Less
        | Operator::LessEqual
            if one == other || one == Class::Null || other == Class::Null =>
        {
            Class::Boolean
        }
        _ => return Err("the types of an operator's two sides do not fit".to_owned()),
    };
    Ok((Expression::Binary(operator, Box::new(left), Box::new(right)), class))
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
