//! Conversations with a model that a failed request has interrupted: what was answered before it is paid for, and the next attempt
//! of the step goes on from there. They are known as long as the process lives.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::model::RunId;
use crate::model::StepPath;
use crate::model::Value;

/// From so many on, those that nobody came back for are forgotten.
const MANY: usize = 256;

/// A conversation as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Conversation {
    /// What it began with: an attempt that asks something else has another one.
    pub asked: Value,
    pub messages: Vec<Value>,
    pub usage: Value,
    pub cost: Value,
    /// How often the model was asked to mend its answer.
    pub repairs: u32,
}

/// The conversations of a process that are not at their end.
#[derive(Clone, Debug, Default)]
pub struct Unfinished(Arc<Mutex<HashMap<(RunId, StepPath), Conversation>>>);

impl Unfinished {
    /// Keeps a conversation for the next attempt of its step run.
    pub fn keep(&self, run: RunId, path: &StepPath, conversation: Conversation) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (run, path.clone());
        if all.len() >= MANY && !all.contains_key(&key) {
            all.clear();
        }
        all.insert(key, conversation);
    }

    /// Takes out the conversation of a step run that began with the same.
    #[must_use]
    pub fn take(&self, run: RunId, path: &StepPath, asked: &Value) -> Option<Conversation> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(&(run, path.clone())).filter(|conversation| conversation.asked == *asked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_for_the_step_run_that_asks_the_same_and_for_one_attempt() {
        let (unfinished, run) = (Unfinished::default(), RunId::new(1, 1));
        let path: StepPath = "draft".parse().unwrap();
        let kept = || Conversation {
            asked: "a".into(),
            messages: vec!["a".into(), "b".into()],
            usage: Value::Null,
            cost: Value::Null,
            repairs: 1,
        };
        unfinished.keep(run, &path, kept());
        assert_eq!(unfinished.take(run, &"other".parse().unwrap(), &"a".into()), None);
        assert_eq!(unfinished.take(run, &path, &"a".into()), Some(kept()));
        assert_eq!(unfinished.take(run, &path, &"a".into()), None);
        unfinished.keep(run, &path, kept());
        assert_eq!(unfinished.take(run, &path, &"b".into()), None);
        for number in 0..1_000 {
            unfinished.keep(RunId::new(2, number), &path, kept());
        }
        assert!(unfinished.0.lock().unwrap().len() <= MANY);
    }
}
