//! `retry` of a step: how often, after what, and how long between.

use std::sync::Arc;

use super::Retry;
use super::compile::Compiler;
use super::read::Reader;
use crate::diag::Code;
use crate::model::Effect;
use crate::model::ErrorClass;
use crate::model::Value;
use crate::node::Node;
use crate::yaml::Tree;

/// How often an operation is tried where the step does not say.
const OPERATION_TRIES: u32 = 5;

/// Retries of a step that says nothing: an operation of a connector is tried again where that can help, any other node
/// once.
pub(super) fn by_itself(node: &Arc<dyn Node>) -> Retry {
    let nothing = Value::map::<&str>([]);
    // Nodes that are made of steps leave it to these.
    let asks = node.effect(&nothing) == Effect::PaidRead && !node.calls(&nothing).is_empty();
    let calls = node.connector().is_some() || asks;
    let attempts = if calls { OPERATION_TRIES } else { Retry::default().attempts };
    Retry { attempts, ..Retry::default() }
}

/// Retries that a step asks for without saying how many.
pub(super) fn three_tries() -> Retry {
    Retry { attempts: 3, ..Retry::default() }
}

pub(super) fn read(compiler: &mut Compiler<'_>, tree: &Tree, base: &Retry) -> Retry {
    let mut retry = if base.attempts > 1 { base.clone() } else { three_tries() };
    let keys = ["attempts", "on", "backoff", "delay", "max_delay", "jitter"];
    let Some(mut reader) = Reader::new(compiler, tree, &keys) else { return retry };
    retry.attempts = reader.number("attempts", 1, 1_000).unwrap_or(retry.attempts);
    retry.delay = reader.duration("delay").unwrap_or(retry.delay);
    retry.max_delay = reader.duration("max_delay").unwrap_or(retry.max_delay).max(retry.delay);
    retry.jitter = reader.flag("jitter").unwrap_or(retry.jitter);
    if let Some(backoff) = reader.word("backoff", &["exponential", "constant"]) {
        retry.exponential = backoff == "exponential";
    }
    if let Some(on) = tree.get("on") {
        let mut classes = Vec::new();
        for item in on.items() {
            let class = item.as_text().and_then(|text| ErrorClass::ALL.into_iter().find(|class| class.name() == text));
            match class {
                Some(class) => classes.push(class),
                None => {
                    let name = item.as_text().unwrap_or_default().to_owned();
                    let known = ErrorClass::ALL.map(ErrorClass::name);
                    compiler.unknown(
                        Code::UnknownErrorClass,
                        &item.span,
                        "error class {} does not exist",
                        &name,
                        known,
                    );
                }
            }
        }
        if !matches!(on.kind, crate::yaml::TreeKind::Sequence(_)) {
            compiler.error(
                Code::WrongType,
                &on.span,
                format!("expected a list of error classes, found {}", on.describe()),
            );
        }
        retry.on = classes;
    }
    retry
}
