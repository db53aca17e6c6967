//! What a run and its steps must hold before they go on: `concurrency`, locks, and room among the steps of the process.

use std::collections::HashSet;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;

use super::Engine;
use super::Error;
use super::Execution;
use super::NoSecrets;
use super::driver::Driver;
use super::driver::INBOX;
use super::finish::Done;
use super::finish::hash;
use super::lease::Heart;
use super::machine::UnitKey;
use crate::model::Effect;
use crate::model::ErrorClass;
use crate::model::RunId;
use crate::model::StepPath;
use crate::model::Value;
use crate::pipeline::Pipeline;
use crate::pipeline::WhenFull as Wanted;
use crate::store::Gate;
use crate::store::Request;
use crate::store::WhenFull;
use crate::store::describe;
use crate::template::EvalError;
use crate::template::Lookup;
use crate::template::Scope;
use crate::template::StepView;
use crate::template::Template;

/// What a step run holds while an attempt is under way.
#[derive(Debug, Default)]
pub(super) struct Permits {
    locks: Option<Vec<Arc<str>>>,
    /// A word about its locks came while it was still being asked whether it has them.
    told: bool,
    room: Option<OwnedSemaphorePermit>,
}

impl Engine {
    /// Returns what a run of these inputs must hold before it begins.
    pub(super) fn requests(&self, pipeline: &Pipeline, inputs: &Value) -> Result<Vec<Request>, Error> {
        let mut requests = Vec::new();
        let no_key = |key: &'static str| {
            let (pipeline, secrets) = (pipeline.name.clone(), self.0.secrets.clone());
            move |error: EvalError| Error::NoKey { pipeline, key, message: secrets.mask(error.message) }
        };
        let scope = || Scope {
            lookup: Arc::new(InputsOnly),
            globals: Arc::new(vec![("inputs".into(), inputs.clone())]),
            locals: Vec::new(),
            now: self.0.system.clock.now(),
        };
        if let Some(concurrency) = &pipeline.concurrency {
            let mut group = format!("run:{}", pipeline.name);
            if let Some(key) = &concurrency.key {
                let key = key.eval(&scope()).map_err(no_key("the `key` of `concurrency`"))?;
                group = format!("{group}:{}", shown(&key));
            }
            let when_full = match concurrency.when_full {
                Wanted::Queue => WhenFull::Queue,
                Wanted::Skip => WhenFull::Skip,
                Wanted::Replace => WhenFull::Replace,
            };
            requests.push(Request { scope: group.into(), most: concurrency.limit, when_full });
        }
        for lock in &pipeline.locks {
            let name = named(&lock.name, &scope()).map_err(no_key("the `name` of a lock"))?;
            if requests.iter().all(|request| request.scope != name) {
                requests.push(Request { scope: name, most: lock.limit, when_full: WhenFull::Queue });
            }
        }
        Ok(requests)
    }

    /// Lets in whoever waits for what these requests name.
    ///
    /// # Errors
    /// The store's.
    pub async fn admit(&self, requests: &[Request]) -> Result<(), Error> {
        if requests.is_empty() {
            return Ok(());
        }
        let scopes: Vec<_> = requests.iter().map(|request| request.scope.clone()).collect();
        if self.0.store.admit(Some(&scopes), self.0.system.clock.now()).await? {
            self.1.granted.notify_waiters();
        }
        Ok(())
    }

    /// Takes back what ended runs left behind, and lets in whoever waits, of all: for what a process left undone that died.
    ///
    /// # Errors
    /// The store's.
    pub async fn tidy_permits(&self) -> Result<(), Error> {
        let swept = self.0.store.sweep_permits().await?;
        if swept > 0 {
            tracing::warn!(swept, "permits of runs that have ended were taken back");
        }
        let now = self.0.system.clock.now();
        let broken = self.0.store.break_deadlock(now).await?;
        if self.0.store.admit(None, now).await? || broken {
            self.1.granted.notify_waiters();
        }
        Ok(())
    }

    /// Returns what a run holds, or the step run of it that has this path, and what those above it do: whoever is below them
    /// need not ask for it.
    pub(super) async fn held_above(&self, run: RunId, path: Option<&StepPath>) -> Result<HashSet<Arc<str>>, Error> {
        let store = &self.0.store;
        let mut held = HashSet::new();
        let mut next = Some((run, path.cloned().map(StepPath::whole)));
        while let Some((run, path)) = next {
            let permits = store.permits_of(run).await?.into_iter();
            let own = permits.filter(|permit| permit.path.is_none() || permit.path == path);
            held.extend(own.map(|permit| Arc::from(permit.scope)));
            next = store.run(run).await?.and_then(|run| run.parent).map(|(run, path)| (run, Some(path.whole())));
        }
        Ok(held)
    }
}

impl Driver {
    /// Has a run that begins again ask for what it gave back when it ended. One that has it, or waits for it, asks for
    /// nothing.
    pub(super) async fn ask_again(&mut self) -> Result<(), Error> {
        // A new one was made together with its requests, and one that is turned away has none.
        if self.gates.is_empty() || self.fence.0 == 1 || self.signaled {
            return Ok(());
        }
        // Ended it would lose what it gets.
        self.flush();
        self.journal.commit().await?;
        let above = match &self.parent {
            Some((parent, path)) => self.engine.held_above(*parent, Some(path)).await?,
            None => HashSet::new(),
        };
        let requests: Vec<_> = self.gates.iter().filter(|gate| !above.contains(&gate.scope)).cloned().collect();
        Ok(self.parts().store.request(self.run, self.fence, None, &requests).await?)
    }

    /// Waits for what the run must hold before its first step. Returns how it ends here where it does.
    pub(super) async fn wait_for_permits(&mut self, heart: &Heart) -> Result<Option<Execution>, Error> {
        if self.gates.is_empty() {
            return Ok(None);
        }
        let (engine, clock) = (self.engine.clone(), self.parts().system.clock.clone());
        let mut told = false;
        loop {
            let granted = engine.1.granted.notified();
            engine.admit(&self.gates).await?;
            let waiting = engine.0.store.requests_of(self.run).await?;
            let Some(first) = waiting.iter().find(|waiting| waiting.path.is_none()) else { return Ok(None) };
            let record = engine.0.store.run(self.run).await?.ok_or(Error::NoRun(self.run))?;
            let over = self.deadline.is_some_and(|deadline| deadline <= clock.now());
            // What is to end before it began need not wait for it.
            if record.signaled || over {
                self.signaled |= record.signaled;
                return Ok(None);
            }
            let reason = format!("waits for {}", describe(&first.scope));
            if !self.options.foreground && record.gate == Gate::Permits {
                return Ok(Some(Execution::Waiting { until: None, reason, in_doubt: false }));
            }
            if !std::mem::replace(&mut told, true) {
                tracing::info!(run = %self.run, reason, "a run does not begin yet");
            }
            let stop = self.options.stop.clone();
            tokio::select! {
                () = granted => {}
                () = clock.sleep_until(clock.now().plus(INBOX)) => {}
                () = heart.lost.cancelled() => return Err(Error::LeaseLost(self.run)),
                () = stop.cancelled() => return Ok(Some(Execution::Stopped)),
            }
        }
    }

    /// Takes over the permits of step runs that whoever had the run before has left, or that came while it slept.
    pub(super) async fn take_permits_over(&mut self) -> Result<(), Error> {
        if !self.pipeline.has_locks() {
            return Ok(());
        }
        let permits = self.parts().store.permits_of(self.run).await?;
        for permit in permits {
            let Some(path) = permit.path else { continue };
            match self.machine.key(&path).filter(|key| self.machine.is_open(*key)) {
                Some(key) => {
                    let held = self.permits.entry(key).or_default();
                    held.locks.get_or_insert_default().push(permit.scope.into());
                }
                None => self.parts().store.give_back(self.run, self.fence, &path).await?,
            }
        }
        // Those who slept for a lock look whether they have it: a signal that told them may have been taken before.
        for key in self.machine.without_time() {
            if !self.machine.definition(key).locks.is_empty() {
                self.machine.awaken(key);
            }
        }
        Ok(())
    }

    /// Tells whether a step run may begin an attempt; else it is asked for.
    pub(super) fn permitted(&mut self, key: UnitKey, scope: &Scope) -> Result<bool, EvalError> {
        let step = self.machine.definition(key);
        let undo = key.phase == crate::model::Phase::Undo;
        if !undo && !step.locks.is_empty() && self.permits.get(&key).is_none_or(|permits| permits.locks.is_none()) {
            let mut requests: Vec<Request> = Vec::new();
            for lock in &step.locks {
                let name = named(&lock.name, scope)?;
                if requests.iter().all(|request| request.scope != name) {
                    requests.push(Request { scope: name, most: lock.limit, when_full: WhenFull::Queue });
                }
            }
            self.ask_for_locks(key, requests);
            return Ok(false);
        }
        let Some(room) = self.engine.1.room.clone() else { return Ok(true) };
        // A child's steps have places of their own, and pure work needs none.
        let inside = step.child.is_some() || self.doing(key).effect() == Effect::Pure;
        if inside || self.permits.get(&key).is_some_and(|permits| permits.room.is_some()) {
            return Ok(true);
        }
        if let Ok(place) = room.clone().try_acquire_owned() {
            self.permits.entry(key).or_default().room = Some(place);
            return Ok(true);
        }
        self.jobs.spawn(async move {
            match room.acquire_owned().await {
                Ok(place) => (key, Done::Room(place)),
                // Nobody closes it.
                Err(_) => std::future::pending().await,
            }
        });
        Ok(false)
    }

    fn ask_for_locks(&mut self, key: UnitKey, mut requests: Vec<Request>) {
        self.flush();
        let (engine, journal) = (self.engine.clone(), self.journal.clone());
        let (run, fence, path) = (self.run, self.fence, self.machine.path(key).whole());
        self.jobs.spawn(async move {
            let held = async {
                // A lock is visible outside: what led to it comes first.
                journal.commit().await?;
                let above = engine.held_above(run, None).await?;
                requests.retain(|request| !above.contains(&request.scope));
                engine.0.store.request(run, fence, Some(&path), &requests).await?;
                engine.admit(&requests).await?;
                let waiting = engine.0.store.requests_of(run).await?;
                Ok(waiting.iter().all(|waiting| waiting.path.as_ref() != Some(&path)))
            };
            let held = held.await;
            (key, Done::Locks(held, requests.into_iter().map(|request| request.scope).collect()))
        });
    }

    pub(super) fn locked(&mut self, key: UnitKey, held: bool, scopes: Vec<Arc<str>>) {
        let names: Vec<_> = scopes.iter().map(|scope| describe(scope)).collect();
        let reason = format!("waits for {}", names.join(" and "));
        let permits = self.permits.entry(key).or_default();
        let told = std::mem::take(&mut permits.told);
        if held {
            permits.locks = Some(scopes);
        }
        if held || told {
            return self.go_on(key);
        }
        self.machine.sleep(key, None, &reason, None, self.now());
    }

    pub(super) fn has_room(&mut self, key: UnitKey, place: OwnedSemaphorePermit) {
        self.permits.entry(key).or_default().room = Some(place);
        self.go_on(key);
    }

    fn go_on(&mut self, key: UnitKey) {
        if self.is_cut_off(key) {
            return self.machine.abandon(key, self.now());
        }
        self.run(key);
    }

    /// A step run has got its locks.
    pub(super) fn has_locks(&mut self, path: &StepPath) {
        let Some(key) = self.machine.key(path) else { return };
        if self.machine.flies(key) {
            // It does not sleep yet, and is not to.
            self.permits.entry(key).or_default().told = true;
        } else {
            self.machine.awaken(key);
        }
    }

    /// A step run that sleeps for its locks fails with class `locked`: others wait for what its run holds.
    pub(super) fn give_way(&mut self, path: &StepPath, reason: String) {
        let Some(key) = self.machine.key(path) else { return };
        if self.machine.flies(key) {
            self.permits.entry(key).or_default().told = true;
        } else if self.machine.without_time().contains(&key) {
            let error = self.step_error(ErrorClass::Locked, reason);
            // Tried again it would wait again: what the others wait for is free only when the run ends.
            self.give_up(key, self.now(), error);
        }
    }

    /// Gives back what step runs hold of which no attempt is under way.
    pub(super) async fn give_back(&mut self) -> Result<(), Error> {
        if self.permits.is_empty() {
            return Ok(());
        }
        let idle: Vec<_> = self.permits.keys().copied().filter(|key| !self.machine.flies(*key)).collect();
        for key in idle {
            let Some(Permits { locks: Some(scopes), .. }) = self.permits.remove(&key) else { continue };
            if scopes.is_empty() {
                continue;
            }
            // Whoever takes the lock next sees what was done under it.
            self.flush();
            self.journal.commit().await?;
            let path = self.machine.path(key).whole();
            self.parts().store.give_back(self.run, self.fence, &path).await?;
            let requests = scopes.into_iter().map(|scope| Request { scope, most: 1, when_full: WhenFull::Queue });
            self.engine.admit(&requests.collect::<Vec<_>>()).await?;
        }
        Ok(())
    }
}

/// Returns the scope of a lock.
fn named(name: &Template, scope: &Scope) -> Result<Arc<str>, EvalError> {
    Ok(format!("lock:{}", shown(&name.eval(scope)?)).into())
}

/// Returns a key as it may lie in the store in clear: one that a secret decides only as its hash.
fn shown(key: &Value) -> String {
    match key {
        key if key.is_tainted() => hash(&key.revealed().to_string()),
        Value::String(text) => text.to_string(),
        key => key.to_string(),
    }
}

/// Before there is a run there are neither steps nor secrets.
#[derive(Debug)]
struct InputsOnly;

impl Lookup for InputsOnly {
    fn step(&self, _: &str) -> Option<StepView> {
        None
    }

    fn secret(&self, name: &str) -> Result<Value, String> {
        use super::SecretSource;
        NoSecrets.get(name)
    }
}
