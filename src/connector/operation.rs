//! An operation as a node: what a step `uses`.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value as Json;

use super::call::Asked;
use super::call::Means;
use super::call::Stop;
use super::call::call;
use super::call::output_of;
use super::inline;
use super::judge::Failure;
use super::manifest::Act;
use super::manifest::Ask;
use super::manifest::Manifest;
use super::manifest::Operation;
use super::manifest::Reconcile;
use super::predict;
use super::read;
use super::runtime::Link;
use super::runtime::Runtime;
use super::schema;
use crate::model::Effect;
use crate::model::Repeat;
use crate::model::Settlement;
use crate::model::Value;
use crate::node::Candidate;
use crate::node::Composite;
use crate::node::ExpressionKey;
use crate::node::Node;
use crate::node::NodeError;
use crate::node::Outcome;
use crate::node::Prediction;
use crate::node::Reconciled;
use crate::node::RowSink;
use crate::node::StepContext;
use crate::template::Scope;
use crate::template::TemplateTree;

/// The key of `with:` that names the connection.
pub(super) const CONNECTION: &str = "connection";

/// An operation of a manifest.
#[derive(Debug)]
pub(super) struct OperationNode {
    manifest: Arc<Manifest>,
    operation: Arc<Operation>,
    name: String,
    /// What it does to the world; a hidden one has its caller's.
    effect: Effect,
}

impl OperationNode {
    #[must_use]
    pub(super) fn new(manifest: Arc<Manifest>, operation: Arc<Operation>) -> Self {
        let name = format!("{}.{}", manifest.name, operation.name);
        let effect = operation.effect.unwrap_or(Effect::Read);
        // A read that costs money is asked once, and counts as spent after a crash.
        let paid = operation.cost.iter().any(|(budget, _)| manifest.limits.has_unit(budget));
        let effect = match operation.act {
            // Each of its steps has its own place in the ledger.
            Act::Steps { .. } => Effect::Read,
            _ if effect == Effect::Read && paid => Effect::PaidRead,
            _ => effect,
        };
        Self { manifest, operation, name, effect }
    }

    fn link(&self, input: &Value, ctx: &StepContext<'_>) -> Result<(Link, Value), NodeError> {
        let runtime = ctx.services.get::<Runtime>();
        let runtime = runtime.ok_or_else(|| NodeError::invalid("no connector can be reached here"))?;
        let mut input = input.as_map().cloned().unwrap_or_default();
        let connection = input.shift_remove(CONNECTION).unwrap_or_default();
        let name = match &connection {
            Value::Null => self.manifest.name.to_string(),
            named => named.revealed().to_text(),
        };
        let link = runtime.link(&self.manifest, &name).map_err(Failure::into_node_error)?;
        Ok((link, Value::from(input)))
    }

    async fn act(
        &self,
        link: &Link,
        means: &Means<'_>,
        input: &Value,
        into: Option<&dyn RowSink>,
    ) -> Result<Outcome, Stop> {
        let operation = &self.operation;
        if operation.batch.is_some() {
            return read::batched(link, means, operation, input).await.map(Outcome::Done);
        }
        if operation.items.is_some() {
            let rows = read::read(link, means, operation, input, into).await?;
            let output = Value::list(rows.rows.unwrap_or_default());
            return Ok(match rows.stream {
                Some(stream) => Outcome::Read { output, stream },
                None => Outcome::Done(output),
            });
        }
        let success = call(link, means, Asked::new(operation, input.clone())).await?;
        let written = output_of(operation, &success);
        let output = match written {
            Ok(output) => output,
            // The write has happened, whatever is wrong with what the manifest makes of its answer.
            Err(failure) if means.effect.is_some() => {
                return Err(Failure { happened: crate::model::Happened::Perhaps, ..failure }.into());
            }
            Err(failure) => return Err(failure.into()),
        };
        if success.duplicate && success.output.is_none() {
            return self.own_duplicate(link, means, input).await;
        }
        self.created(link, means, input, output)
    }

    /// Calls it as a step does, and, where the answer is lost, asks for it as the ledger does: for the contract suite.
    pub(super) async fn call_whole(&self, link: &Link, means: &Means<'_>, input: &Value) -> Result<Value, Stop> {
        let done = self.act(link, means, input, None).await;
        let outcome = match (done, &self.operation.reconcile) {
            (Err(Stop::Failed(failure)), Reconcile::Ask(ask))
                if failure.happened == crate::model::Happened::Perhaps =>
            {
                let found = self.candidates(link, means, ask, input).await?;
                return found.into_iter().next().map(|candidate| candidate.output).ok_or(Stop::Failed(failure));
            }
            (done, _) => done?,
        };
        Ok(match outcome {
            Outcome::Done(output) | Outcome::Created { output, .. } | Outcome::Read { output, .. } => output,
            _ => Value::Null,
        })
    }

    /// A second sending was refused without a word of which object is ours: that is asked for.
    async fn own_duplicate(&self, link: &Link, means: &Means<'_>, input: &Value) -> Result<Outcome, Stop> {
        let Reconcile::Ask(ask) = &self.operation.reconcile else {
            // The system refuses a second one, and an earlier sending of ours is in doubt: it was ours.
            return Ok(Outcome::Done(Value::Null));
        };
        let candidates = self.candidates(link, means, ask, input).await?;
        match candidates.into_iter().next() {
            Some(Candidate { remote_id, output }) => Ok(Outcome::Created { output, remote_id }),
            None => {
                let message = format!("`{}` was refused as a duplicate, and it is not ours", self.name);
                Err(Failure::new(super::manifest::OutcomeKind::Conflict, message).into())
            }
        }
    }

    /// A write that can be asked for later names what it made, so that it settles no other effect.
    fn created(&self, link: &Link, means: &Means<'_>, input: &Value, output: Value) -> Result<Outcome, Stop> {
        let asked_later = !matches!(self.operation.reconcile, Reconcile::None);
        let id = output.get("id").filter(|id| asked_later && !id.is_null()).map(|id| id.revealed().to_text());
        let Some(id) = id else { return Ok(Outcome::Done(output)) };
        let mut roots = link.settings();
        roots.push(("input", schema::completed(&self.operation.input, input.clone())));
        let remote_id = self.remote_id(link, &id, &link.scope(means, roots));
        // The write has happened; what it made is not known for sure then.
        let perhaps = |failure| Failure { happened: crate::model::Happened::Perhaps, ..failure };
        Ok(Outcome::Created { remote_id: remote_id.map_err(perhaps)?, output })
    }

    /// Names a remote object: an id says which one only within its connection, and perhaps its kind.
    fn remote_id(&self, link: &Link, id: &str, scope: &Scope) -> Result<String, Failure> {
        let kind = match &self.operation.reconcile {
            Reconcile::Ask(ask) => ask.kind.as_ref(),
            _ => None,
        };
        let kind = match kind {
            Some(kind) => super::render::value(kind, scope)?.revealed().to_text(),
            None => String::new(),
        };
        Ok([&*link.connection().name, &kind, id].join("/"))
    }

    async fn candidates(
        &self,
        link: &Link,
        means: &Means<'_>,
        ask: &Ask,
        input: &Value,
    ) -> Result<Vec<Candidate>, Stop> {
        let operation = link.manifest.operation(&ask.operation)?;
        let mut roots = link.settings();
        roots.push(("input", schema::completed(&self.operation.input, input.clone())));
        roots.push(("effect", super::call::effect_root(means)));
        if self.operation.reads_account {
            roots.push(("account", super::account::account(link, means).await?));
        }
        let scope = link.scope(means, roots);
        let with = super::render::written(&ask.with, &scope).map_err(Failure::from)?;
        let with = with.unwrap_or_else(|| Value::map::<&str>([]));
        // The question is a read of its own: it has no entry in the ledger.
        let asking = Means { effect: None, ..*means };
        let answer = match inline::output(link, &asking, operation, &with).await {
            Ok(answer) => answer,
            // What does not exist was not made.
            Err(Stop::Failed(failure)) if failure.outcome == super::manifest::OutcomeKind::NotFound => {
                return Ok(Vec::new());
            }
            Err(stop) => return Err(stop),
        };
        let single = std::slice::from_ref(&answer);
        let rows = match &answer {
            Value::List(rows) => rows.as_slice(),
            Value::Null => &[],
            _ => single,
        };
        let mut found = Vec::new();
        for row in rows {
            let mut scope = scope.clone();
            scope.locals.push(("item", row.clone()));
            if !ask.found.eval(&scope).map_err(Failure::from)?.is_truthy() {
                continue;
            }
            let output = super::render::output(&ask.output, &scope).map_err(Failure::from)?;
            let output = if output.is_null() { row.clone() } else { output };
            let id = output.get("id").or_else(|| row.get("id")).filter(|id| !id.is_null());
            let id = id.map_or_else(|| row.revealed().to_string(), |id| id.revealed().to_text());
            let remote_id = self.remote_id(link, &id, &scope).map_err(Stop::from)?;
            found.push(Candidate { remote_id, output });
        }
        Ok(found)
    }
}

fn stopped(stop: Stop) -> Result<Outcome, NodeError> {
    match stop {
        Stop::Failed(failure) => Err(failure.into_node_error()),
        Stop::Later { until, reason } => Ok(Outcome::Later { until, reason }),
    }
}

#[async_trait]
impl Node for OperationNode {
    fn name(&self) -> &str {
        &self.name
    }

    fn docs(&self) -> String {
        let text = self.operation.description.as_deref().or(self.operation.title.as_deref());
        text.map_or_else(|| format!("Calls `{}`.", self.name), str::to_owned)
    }

    fn example(&self) -> &str {
        ""
    }

    fn input_schema(&self) -> Json {
        let mut schema = schema::standard(&self.operation.input);
        let closed = schema.get("properties").is_some();
        if !schema.is_object() {
            schema = serde_json::json!({ "type": "object" });
        }
        if let Some(object) = schema.as_object_mut() {
            let properties = object.entry("properties").or_insert_with(|| Json::Object(serde_json::Map::new()));
            if let Some(properties) = properties.as_object_mut() {
                let text = "The connection of the project file; by default the only one of this connector.";
                properties.insert(CONNECTION.to_owned(), serde_json::json!({ "type": "string", "description": text }));
            }
            if closed {
                object.entry("additionalProperties").or_insert(Json::Bool(false));
            }
        }
        schema
    }

    fn output_schema(&self) -> Option<Json> {
        let mut returns = schema::standard(self.operation.returns.as_ref()?);
        if self.operation.sync.is_some()
            && let Some(properties) = returns.get_mut("properties").and_then(Json::as_object_mut)
        {
            properties.insert("@sync".to_owned(), serde_json::json!({ "type": "object" }));
        }
        schema::close(&mut returns);
        if self.operation.items.is_some() || self.operation.batch.is_some() {
            return Some(serde_json::json!({ "type": "array", "items": returns }));
        }
        Some(returns)
    }

    fn expressions(&self) -> &'static [ExpressionKey] {
        &[]
    }

    fn composite(&self) -> Option<Composite> {
        let Act::Steps { steps, output } = &self.operation.act else { return None };
        Some(Composite {
            file: self.manifest.file.clone(),
            source: self.manifest.source.clone(),
            connector: self.manifest.name.clone(),
            operation: self.operation.name.clone(),
            steps: steps.clone(),
            output: output.clone(),
            input: schema::standard(&self.operation.input),
            config: schema::standard(&self.manifest.config),
            tables: self.manifest.tables.clone(),
        })
    }

    fn connector(&self) -> Option<&str> {
        Some(&self.manifest.name)
    }

    fn needs_connection(&self) -> bool {
        let required = self.manifest.config.get("required").and_then(Json::as_array);
        !self.manifest.auth_keys.is_empty() || required.is_some_and(|required| !required.is_empty())
    }

    fn undo(&self) -> Option<(String, TemplateTree)> {
        let undo = self.operation.undo.as_ref()?;
        Some((format!("{}.{}", self.manifest.name, undo.operation), undo.with.clone()))
    }

    fn literals(&self) -> &'static [&'static str] {
        &[]
    }

    fn effect(&self, _with: &Value) -> Effect {
        self.effect
    }

    fn check(&self, with: &Value) -> Vec<(Option<String>, String)> {
        let mut map = with.as_map().cloned().unwrap_or_default();
        map.shift_remove(CONNECTION);
        // What depends on the connection is checked when it is known, and a null is what an expression will give.
        let nothing = super::render::scope(Vec::new(), crate::model::Timestamp(0));
        let schema = schema::computed(&self.operation.input, &nothing);
        let faults = schema::check(&schema, &Value::from(map), true);
        let key = |path: &str| {
            let inner = path.strip_prefix("input.")?;
            Some(inner.split(['.', '[']).next().unwrap_or(inner).to_owned())
        };
        faults
            .into_iter()
            .map(|fault| (key(&fault.path), format!("`{}` {}", fault.path.trim_start_matches("input."), fault.message)))
            .collect()
    }

    fn declared_input(&self, settings: &Value) -> Option<Json> {
        let config = schema::completed(&self.manifest.config, settings.clone());
        // A setting that an expression gives is null here, and so is what is computed of it.
        let given = settings.as_map().into_iter().flatten().filter(|(_, value)| value.is_null());
        let mut config = config.as_map().cloned().unwrap_or_default();
        for (key, _) in given {
            config.insert(key.clone(), Value::Null);
        }
        let roots = vec![("config", Value::from(config)), ("tables", self.manifest.tables.clone())];
        Some(super::call::declared_input(&self.operation, roots, crate::model::Timestamp(0)))
    }

    fn settlement(&self, input: &Value) -> Settlement {
        let timeout = self.operation.timeout.or(self.manifest.timeout).unwrap_or(super::call::TIMEOUT);
        // Each part is a request of its own, and they go one after the other.
        let timeout = timeout.times(read::parts(&self.manifest, &self.operation, input));
        let base = Settlement { repeat: self.operation.repeat, timeout, ..Settlement::default() };
        match &self.operation.reconcile {
            Reconcile::None => base,
            // Sending again is the question: the remote refuses a second.
            Reconcile::Resend => Settlement { repeat: Repeat::Always, ..base },
            Reconcile::Ask(ask) => Settlement { reconcile: true, settle: ask.after, ..base },
        }
    }

    fn changes(&self, _with: &Value) -> bool {
        self.operation.effect.is_some_and(Effect::is_write)
    }

    async fn run(&self, input: Value, ctx: &StepContext<'_>) -> Result<Outcome, NodeError> {
        let connection = input.get(CONNECTION).cloned().unwrap_or_default();
        let (link, input) = self.link(&input, ctx)?;
        let means = Means::of(ctx);
        if let Act::Steps { .. } = &self.operation.act {
            // Of what a plan does not know yet there is nothing to check.
            let input = match input.is_known() {
                true => super::call::checked_input(&link, &self.operation, input, &means),
                false => Ok(schema::completed(&self.operation.input, input)),
            };
            let input = input.map_err(Failure::into_node_error)?;
            let inputs = Value::map([
                ("input", input),
                ("config", link.connection().config.clone()),
                ("tables", self.manifest.tables.clone()),
                ("connection", connection),
            ]);
            return Ok(Outcome::Child { pipeline: self.name.clone(), inputs });
        }
        match self.act(&link, &means, &input, ctx.into).await {
            Ok(outcome) => Ok(outcome),
            Err(stop) => stopped(stop),
        }
    }

    async fn predict(&self, input: Value, ctx: &StepContext<'_>) -> Result<Prediction, NodeError> {
        let (link, input) = self.link(&input, ctx)?;
        let predicted = predict::predict(&link, &Means::of(ctx), &self.operation, input).await;
        predicted.map_err(|stop| match stop {
            Stop::Failed(failure) => failure.into_node_error(),
            Stop::Later { until, reason } => {
                let mut error = NodeError::message(crate::model::ErrorClass::Throttled, reason);
                error.retry_after = Some(until.since(ctx.system.clock.now()));
                error
            }
        })
    }

    async fn reconcile(&self, input: Value, ctx: &StepContext<'_>) -> Result<Reconciled, NodeError> {
        let Reconcile::Ask(ask) = &self.operation.reconcile else {
            return Err(NodeError::invalid(format!("`{}` cannot be asked for", self.name)));
        };
        let (link, input) = self.link(&input, ctx)?;
        let means = Means::of(ctx);
        match self.candidates(&link, &means, ask, &input).await {
            Ok(found) if found.is_empty() => Ok(Reconciled::NotFound),
            Ok(found) => Ok(Reconciled::Found(found)),
            Err(Stop::Failed(failure)) => Err(failure.into_node_error()),
            Err(Stop::Later { until, reason }) => {
                let mut error = NodeError::message(crate::model::ErrorClass::Throttled, reason);
                error.retry_after = Some(until.since(ctx.system.clock.now()));
                Err(error)
            }
        }
    }
}
