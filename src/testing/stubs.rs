//! Steps that give what a case says instead of what their nodes do.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::OnceLock;
use std::sync::PoisonError;

use async_trait::async_trait;

use super::case::Case;
use super::faults::TroubleKind;
use super::given::Once;
use super::given::Stub;
use super::given::StubError;
use crate::engine::StandIn;
use crate::model::Phase;
use crate::model::RunId;
use crate::model::StepPath;
use crate::model::Value;
use crate::node::NodeError;
use crate::node::Outcome;
use crate::node::StepContext;

/// Stands in for the nodes of a case's run.
#[derive(Debug)]
pub(super) struct Stubs {
    case: Arc<Case>,
    /// The run whose steps are meant; child runs have others of the same names.
    pub(super) run: OnceLock<RunId>,
    calls: Mutex<Calls>,
}

#[derive(Debug, Default)]
struct Calls {
    /// By step, and by item where items are told apart.
    count: HashMap<String, usize>,
    /// How often each fault has come, in the order of the case.
    struck: Vec<u64>,
}

impl Stubs {
    pub(super) fn new(case: &Arc<Case>) -> Self {
        let calls = Calls { count: HashMap::new(), struck: vec![0; case.faults.len()] };
        Self { case: case.clone(), run: OnceLock::new(), calls: Mutex::new(calls) }
    }

    /// Tells whether anybody is stood in for.
    pub(super) fn is_needed(&self) -> bool {
        let of_step = |kind: &TroubleKind| matches!(kind, TroubleKind::Step { .. });
        !self.case.given.steps.is_empty() || self.case.faults.iter().any(|trouble| of_step(&trouble.kind))
    }

    /// Tells how often each fault has come, in the order of the case.
    pub(super) fn struck(&self) -> Vec<u64> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).struck.clone()
    }

    /// Finds what is given to this call instead; nothing where the node does it.
    fn next(&self, path: &StepPath) -> Option<Result<Once, StubError>> {
        let name = name_of(path);
        let mut calls = self.calls.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |calls: &mut Calls, key: String| {
            let count = calls.count.entry(key).or_default();
            *count += 1;
            *count - 1
        };
        let number = count(&mut calls, name.clone());
        for (index, trouble) in self.case.faults.iter().enumerate() {
            let TroubleKind::Step { step, calls: at, error } = &trouble.kind else { continue };
            let meant = at.is_empty() || at.contains(&u64::try_from(number + 1).unwrap_or(u64::MAX));
            if meant && (*step.0 == *name || *step.0 == *path.to_string()) {
                if let Some(struck) = calls.struck.get_mut(index) {
                    *struck += 1;
                }
                return Some(Err(error.clone()));
            }
        }
        let (.., stub) = self.case.given.steps.iter().find(|(own, ..)| **own == *name)?;
        let list = match stub {
            Stub::Calls(list) => return list.get(number).or(list.last()).cloned().map(Ok),
            Stub::Items(items) => items.get(usize::try_from(path.item?).unwrap_or(usize::MAX))?,
        };
        let number = count(&mut calls, format!("{name}[{}]", path.item.unwrap_or_default()));
        list.get(number).or(list.last()).cloned().map(Ok)
    }
}

/// Returns the name by which a case means a step run: `undo/` stands before that of a compensation.
fn name_of(path: &StepPath) -> String {
    if path.phase == Phase::Undo { format!("undo/{}", path.step) } else { path.step.to_string() }
}

#[async_trait]
impl StandIn for Stubs {
    async fn run(&self, _node: &str, input: &Value, ctx: &StepContext<'_>) -> Option<Result<Outcome, NodeError>> {
        if self.run.get() != Some(&ctx.run) {
            return None;
        }
        let once = match self.next(ctx.path)? {
            Ok(once) => once,
            Err(error) => return Some(Err(failed(&error))),
        };
        if let Some(length) = once.after {
            ctx.system.clock.sleep(length).await;
        }
        let tree = match &once.what {
            Ok(tree) => tree,
            Err(error) => return Some(Err(failed(error))),
        };
        let mut scope = ctx.scope.clone();
        scope.locals.push(("input", input.clone()));
        scope.locals.push(("attempt", Value::from(ctx.attempt)));
        let output = tree.eval(&scope);
        let output = output.map_err(|error| NodeError::invalid(format!("the output of the test: {}", error.message)));
        Some(output.map(Outcome::Done))
    }
}

fn failed(error: &StubError) -> NodeError {
    let failed = NodeError::message(error.class, error.message.clone());
    let failed = NodeError { retry_after: error.retry_after, ..failed };
    if error.lost { failed.perhaps() } else { failed }
}
