//! Examples of an operation.

use super::Example;
use super::ExchangeSpec;
use crate::connector::notes::Notes;
use crate::connector::notes::first_line;
use crate::diag::Code;
use crate::model::Value;
use crate::yaml::Tree;

/// Reads an example, `{ title, config, auth, input, exchanges, output | error }`.
pub(super) fn read_example(tree: &Tree, notes: &mut Notes) -> Option<Example> {
    let keys = ["title", "config", "auth", "account", "session", "input", "state", "exchanges", "output", "error"];
    if !notes.keys(tree, &keys) {
        return None;
    }
    let value = |key: &str| tree.get(key).map(Tree::to_value);
    let mut exchanges = Vec::new();
    if let Some(list) = tree.get("exchanges").filter(|list| notes.sequence(list)) {
        for item in list.items() {
            if !notes.keys(item, &["expect", "reply"]) {
                continue;
            }
            let (Some(expect), Some(reply)) = (item.get("expect"), item.get("reply")) else {
                notes.error(Code::MissingKey, &first_line(&item.span), "an exchange needs `expect` and `reply`");
                continue;
            };
            let request = [
                "get",
                "head",
                "post",
                "put",
                "patch",
                "delete",
                "options",
                "query",
                "headers",
                "json",
                "form",
                "text",
                "xml",
                "csv",
                "body",
                "multipart",
                "bytes",
            ];
            notes.keys(expect, &request);
            notes.keys(reply, &["status", "headers", "json", "text", "xml", "csv", "bytes", "lost"]);
            exchanges.push(ExchangeSpec { expect: expect.to_value(), reply: reply.to_value() });
        }
    }
    let error = tree.get("error").and_then(|error| notes.text(error).map(Into::into));
    if tree.get("output").is_none() == error.is_none() {
        notes.error(Code::MissingKey, &first_line(&tree.span), "an example has one of `output` and `error`").help =
            Some("say what comes out of it".to_owned());
    }
    Some(Example {
        title: tree.get("title").and_then(|title| notes.text(title).map(Into::into)),
        config: value("config").unwrap_or_default(),
        auth: value("auth").unwrap_or_default(),
        state: value("state").unwrap_or_default(),
        account: value("account").unwrap_or_default(),
        session: value("session").unwrap_or_default(),
        input: value("input").unwrap_or_else(|| Value::map::<&str>([])),
        exchanges,
        output: value("output"),
        error,
        line: tree.span.start.line,
    })
}
