//! How large and how deep a template's source may be, counted before any parser recurses into it.

use minijinja::machinery::Token;
use minijinja::machinery::tokenize;

use super::MAX_SOURCE;
use super::SyntaxError;
use super::environment::syntax;
use super::rewrite::range;
use super::rewrite::within;

/// How deep brackets may stand in one another.
const MAX_BRACKETS: usize = 64;
/// How many words and signs may stand between two pairs of braces.
const MAX_TOKENS: usize = 1_000;
/// How many operations one expression may nest: each is a level of recursion for whoever walks the tree.
const MAX_OPERATIONS: usize = 100;
/// How many blocks may stand in one another; an `elif` is one in the `if` before it.
const MAX_BLOCKS: usize = 64;

/// Refuses what would take the parser long or deep. The text is read with the parser's own lexer, so that both see the
/// same quotes, comments and raw blocks.
pub(super) fn check(source: &str) -> Result<(), SyntaxError> {
    if source.len() > MAX_SOURCE {
        return Err(SyntaxError { message: format!("a template of more than {MAX_SOURCE} bytes"), range: 0..0 });
    }
    let mut scan = Scan::default();
    for token in tokenize(source, false, syntax()) {
        let (token, span) = token.map_err(|error| super::compile::syntax(source, &error))?;
        scan.token(&token).map_err(|message| SyntaxError { message, range: within(source, range(span)) })?;
    }
    Ok(())
}

#[derive(Default)]
struct Scan {
    /// The expressions around the token, outermost first; empty outside of braces.
    open: Vec<Nest>,
    tokens: usize,
    /// Levels of each open block: one, and one for each `elif`.
    blocks: Vec<usize>,
    /// Whether the next word says which statement this is.
    at_keyword: bool,
    /// Whether the statement is a `set` that has no `=` yet: then it opens a block.
    in_set: bool,
}

/// How deep the tree of one expression is, as far as it is read.
#[derive(Default)]
struct Nest {
    /// Operations between operands: each holds what stands before it.
    chain: usize,
    /// The deepest operand that is complete.
    deepest: usize,
    /// What hangs behind the operand under way: members, subscripts, calls, filters.
    hung: usize,
    /// The deepest bracket in the operand under way.
    inside: usize,
    /// The deepest of the expressions before the last comma.
    before: usize,
}

impl Nest {
    fn depth(&self) -> usize {
        self.chain + self.deepest.max(self.hung + self.inside)
    }

    fn operation(&mut self) {
        self.deepest = self.deepest.max(self.hung + self.inside);
        (self.hung, self.inside) = (0, 0);
        self.chain += 1;
    }

    fn next(&mut self) {
        *self = Self { before: self.before.max(self.depth()), ..Self::default() };
    }
}

impl Scan {
    fn token(&mut self, token: &Token<'_>) -> Result<(), String> {
        if std::mem::take(&mut self.at_keyword)
            && let Token::Ident(word) = token
        {
            self.keyword(word)?;
        }
        match token {
            Token::TemplateData(_) => return Ok(()),
            Token::VariableStart | Token::BlockStart => {
                (self.open, self.tokens) = (vec![Nest::default()], 0);
                self.at_keyword = matches!(token, Token::BlockStart);
                return Ok(());
            }
            Token::VariableEnd | Token::BlockEnd => {
                self.open.clear();
                self.in_set = false;
                return Ok(());
            }
            Token::Assign if self.open.len() == 1 && std::mem::take(&mut self.in_set) => {
                self.blocks.pop();
            }
            _ => {}
        }
        self.tokens += 1;
        if self.tokens > MAX_TOKENS {
            return Err(format!("an expression of more than {MAX_TOKENS} words and signs"));
        }
        self.nest(token)
    }

    fn nest(&mut self, token: &Token<'_>) -> Result<(), String> {
        let Some(nest) = self.open.last_mut() else { return Ok(()) };
        match token {
            Token::BracketOpen | Token::ParenOpen | Token::BraceOpen => {
                nest.hung += 1;
                if self.open.len() > MAX_BRACKETS {
                    return Err(format!("brackets nested deeper than {MAX_BRACKETS}"));
                }
                self.open.push(Nest::default());
            }
            Token::BracketClose | Token::ParenClose | Token::BraceClose => {
                let closed = nest.before.max(nest.depth());
                if self.open.len() > 1 {
                    self.open.pop();
                }
                if let Some(around) = self.open.last_mut() {
                    around.inside = around.inside.max(closed);
                }
            }
            Token::Comma | Token::Colon | Token::Assign => nest.next(),
            Token::Dot | Token::Pipe | Token::Ident("is") => nest.hung += 1,
            Token::Ident("and" | "or" | "not" | "if" | "else" | "in") => nest.operation(),
            Token::Plus | Token::Minus | Token::Mul | Token::Div | Token::FloorDiv | Token::Mod | Token::Pow => {
                nest.operation();
            }
            Token::Tilde | Token::Eq | Token::Ne | Token::Gt | Token::Gte | Token::Lt | Token::Lte => nest.operation(),
            _ => {}
        }
        let deepest = self.open.last().map_or(0, Nest::depth);
        if deepest > MAX_OPERATIONS {
            return Err(format!("an expression of more than {MAX_OPERATIONS} operations in one another; split it up"));
        }
        Ok(())
    }

    /// Counts the blocks that are open.
    fn keyword(&mut self, word: &str) -> Result<(), String> {
        match word {
            "for" | "if" | "with" | "autoescape" | "filter" | "block" | "macro" | "call" => self.blocks.push(1),
            "set" => {
                self.blocks.push(1);
                self.in_set = true;
            }
            "elif" => {
                if let Some(levels) = self.blocks.last_mut() {
                    *levels += 1;
                }
            }
            word if word.starts_with("end") => {
                self.blocks.pop();
            }
            _ => {}
        }
        if self.blocks.iter().sum::<usize>() > MAX_BLOCKS {
            return Err(format!("more than {MAX_BLOCKS} blocks and `elif` branches in one another"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_message(source: &str, expected: &str) {
        let result = check(source).map_err(|error| error.message);
        let shown = result.as_ref().map_or_else(|message| message.as_str(), |()| "ok");
        assert!(shown.starts_with(expected), "{source:.80}: {shown}, expected {expected}");
    }

    #[test]
    fn depth_is_counted_as_the_lexer_reads() {
        let chain = "+1".repeat(200);
        let deep = "an expression of more than 100 operations";
        check_message(&format!("{{{{ '\\\\' ~ 1{chain} }}}}"), deep);
        check_message(&format!("{{# {{{{ ' #}}{{{{ 1{chain} }}}}"), deep);
        check_message(&format!("{{{{ \"a\\\"b\" ~ 1{chain} }}}}"), deep);
        check_message(&format!("{{{{ x{} }}}}", ".y".repeat(200)), deep);
        check_message(&format!("{{{{ x{} }}}}", "[0]".repeat(200)), deep);
        check_message(&format!("{{{{ {}x }}}}", "not ".repeat(200)), deep);
        check_message(&format!("{{{{ {}x }}}}", "-".repeat(200)), deep);
        check_message(&format!("{{{{ {}x }}}}", "- ".repeat(200)), deep);
        check_message(&format!("{{{{ x{} }}}}", "|f".repeat(200)), deep);
        check_message(&format!("{{{{ x{} }}}}", " if x else x".repeat(200)), deep);
        check_message(&format!("{{{{ {}x }}}}", "1+(1+".repeat(60)), "ok");
        check_message(&format!("{{{{ {}x{} }}}}", "1+(1+".repeat(60), ")".repeat(60)), deep);
        check_message(&format!("{{{{ {}1{} }}}}", "(".repeat(100), ")".repeat(100)), "brackets nested deeper");
        check_message(&format!("{{% raw %}}{{{{ 1{chain} }}}}{{% endraw %}}"), "ok");
        check_message(&format!("{{# {{{{ 1{chain} }}}} #}}"), "ok");
        check_message(&format!("{{{{ [{}] }}}}", "a.b + 1, ".repeat(150)), "ok");
        check_message(&format!("{{{{ {} }}}}", ["a.b.c|d"; 90].join(" ~ ")), "ok");
        check_message(&format!("{{{{ [{}] }}}}", "1, ".repeat(1_000)), "an expression of more than 1000 words");
        check_message("{{ 'open", "unexpected end");
    }

    #[test]
    fn blocks_are_counted() {
        let deep = "more than 64 blocks";
        check_message(&format!("{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(60_000)), deep);
        check_message(&"{% set a=[a] %}".repeat(60_000), "ok");
        check_message(&"{% set a %}".repeat(60_000), deep);
        check_message(&"{% for a in b %}".repeat(60_000), deep);
        check_message(&"{% if a %}{% elif b %}{% endif %}".repeat(20_000), "ok");
        check_message(&"{% for a in b %}{% set c=1 %}{% endfor %}".repeat(20_000), "ok");
    }
}
