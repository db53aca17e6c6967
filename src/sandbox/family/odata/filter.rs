//! `$filter` and `$orderby`: texts, read against the properties of a set.

use std::iter::Peekable;
use std::sync::Arc;
use std::vec::IntoIter;

use super::edm::Kind;
use super::edm::Version;
use super::expression::Expression;
use super::expression::Function;
use super::expression::Operator;
use super::token;
use super::token::Literal;
use super::token::Token;
use crate::model::Value;

/// How deep expressions may stand in each other, and how long they may be.
const DEPTH: usize = 60;
const LENGTH: usize = 4000;

/// Finds the column of a property and its type.
pub(super) type Finder<'f> = &'f dyn Fn(&str) -> Option<(Arc<str>, Kind)>;

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
