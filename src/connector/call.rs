//! One call of an operation: roots, session, limits, the exchange, what its answer means.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::answer;
use super::answer::Answered;
use super::judge;
use super::judge::Failure;
use super::judge::judge;
use super::limits;
use super::limits::Declared;
use super::manifest::Act;
use super::manifest::Manifest;
use super::manifest::Operation;
use super::manifest::OutcomeKind;
use super::manifest::RequestSpec;
use super::manifest::Rule;
use super::manifest::SessionUse;
use super::render;
use super::runtime::Link;
use super::schema;
use super::send;
use super::session;
use super::url;
use super::wire;
use super::wire::Exchange;
use crate::http::Transport;
use crate::http::TransportError;
use crate::model::Duration;
use crate::model::Effect;
use crate::model::Happened;
use crate::model::RunId;
use crate::model::StepPath;
use crate::model::Timestamp;
use crate::model::Value;
use crate::node::EffectContext;
use crate::node::Keep;
use crate::node::LogSink;
use crate::node::StepContext;
use crate::system::System;
use crate::template::Scope;

/// How long one request may take where nobody says.
pub const TIMEOUT: Duration = Duration::from_secs(30);
/// How deep operations may use one another.
const MAX_DEPTH: usize = 16;
/// The longest wait for a limit that is waited for in place; a longer one is handed back.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What a call works with, beside its connection.
#[derive(Clone, Copy, Debug)]
pub struct Means<'a> {
    pub system: &'a System,
    pub http: &'a dyn Transport,
    pub log: &'a dyn LogSink,
    pub keep: &'a dyn Keep,
    pub canceled: &'a CancellationToken,
    /// When the whole call must have ended.
    pub deadline: Option<Timestamp>,
    /// From 1.
    pub attempt: u32,
    /// For writes: the ledger's entry.
    pub effect: Option<&'a EffectContext>,
    /// The step run that it is for: what it costs is its, too. Nothing outside of runs.
    pub step: Option<(RunId, &'a StepPath)>,
    /// The number of the journal's event with which the step's attempt began.
    pub begun: Option<u64>,
}

/// Why a call did not come to an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Stop {
    Failed(Failure),
    /// Nothing was sent: a limit does not allow it before `until`.
    Later {
        until: Timestamp,
        reason: String,
    },
}

impl<'a> Means<'a> {
    /// Takes them from a step.
    #[must_use]
    pub fn of(ctx: &StepContext<'a>) -> Self {
        Self {
            system: ctx.system,
            http: ctx.http,
            log: ctx.log,
            keep: ctx.keep,
            canceled: ctx.canceled,
            deadline: ctx.deadline,
            attempt: ctx.attempt,
            effect: ctx.effect,
            step: Some((ctx.run, ctx.path)),
            begun: ctx.begun,
        }
    }
}

impl<T: Into<Failure>> From<T> for Stop {
    fn from(failure: T) -> Self {
        Self::Failed(failure.into())
    }
}

/// What was asked for: an operation, its input, and where it stands in a longer read.
#[derive(Clone, Debug)]
pub struct Asked<'m> {
    pub operation: &'m Arc<Operation>,
    pub input: Value,
    /// The roots of a read: `next`, `cursor`, `window`, `batch`.
    pub places: Vec<(&'static str, Value)>,
    /// The URL of the next page, followed verbatim.
    pub verbatim: Option<String>,
    /// Those that use this operation.
    pub callers: Callers<'m>,
    /// Nothing where the operation is asked from outside; what opens a session asks without one.
    pub session: Option<SessionUse>,
}

impl<'m> Asked<'m> {
    /// Asks an operation from outside, at the beginning of what it reads.
    #[must_use]
    pub fn new(operation: &'m Arc<Operation>, input: Value) -> Self {
        Self { operation, input, places: Vec::new(), verbatim: None, callers: Callers::default(), session: None }
    }
}

/// The operations that use the one that is asked: its request is theirs too.
#[derive(Clone, Debug, Default)]
pub struct Callers<'m> {
    /// What they cost besides, by budget.
    pub costs: Vec<limits::Amount>,
    /// Their error rules, the outermost first.
    pub errors: Vec<&'m [Rule]>,
}

/// An answer that is a success, with all that expressions may read of it.
#[derive(Debug)]
pub struct Success {
    pub scope: Scope,
    /// What a rule gives instead of the operation's output.
    pub output: Option<Value>,
    /// The URL that was asked.
    pub url: String,
    pub answered: Arc<Answered>,
    /// Whether a rule took it for the answer to an earlier sending of the same effect.
    pub duplicate: bool,
}

/// Calls an operation once: one request, or the operation that it uses.
///
/// # Errors
/// Why there is no success. Of a write it says whether anything can have happened.
pub async fn call(link: &Link, means: &Means<'_>, asked: Asked<'_>) -> Result<Success, Stop> {
    call_within(link, means, asked, 0).await
}

fn call_within<'a>(
    link: &'a Link,
    means: &'a Means<'a>,
    asked: Asked<'a>,
    depth: usize,
) -> std::pin::Pin<Box<dyn Future<Output = Result<Success, Stop>> + Send + 'a>> {
    Box::pin(async move {
        if depth > MAX_DEPTH {
            return Err(Failure::invalid("operations use one another too deep").into());
        }
        let operation = asked.operation;
        let input = checked_input(link, operation, asked.input.clone(), means)?;
        match &operation.act {
            Act::Request(spec) => exchange(link, means, &asked, input, spec).await,
            Act::Uses { operation: name, with } => {
                let scope = link.scope(means, before(link, means, &asked, input.clone()).await?);
                let name = name.eval(&scope)?.revealed().to_text();
                let used = link.manifest.operation(&name)?;
                let with = render::written(with, &scope)?.unwrap_or_else(|| Value::map::<&str>([]));
                let mut callers = asked.callers.clone();
                callers.costs.extend(limits::costs(&link.manifest.limits, operation, &scope)?);
                callers.errors.push(operation.errors.as_slice());
                let inner = Asked { operation: used, input: with, callers, ..asked.clone() };
                let mut success = call_within(link, means, inner, depth + 1).await?;
                // The caller's expressions read the output of what it used, and its own input.
                let output = output_of(used, &success)?;
                success.output = None;
                success.scope.locals.push(("output", output));
                success.scope.locals.push(("input", input));
                success.scope.locals.push(("operation", Value::from(&*operation.name)));
                Ok(success)
            }
            Act::Steps { .. } => Err(Failure::invalid(format!("`{}` is made of steps", operation.name)).into()),
        }
    })
}

/// Completes an input from its schema and checks it.
pub fn checked_input(link: &Link, operation: &Operation, input: Value, means: &Means<'_>) -> Result<Value, Failure> {
    let now = means.system.clock.now();
    let computed;
    let schema = if operation.computed_input {
        computed = declared_input(operation, link.settings(), now);
        &computed
    } else {
        &operation.input
    };
    let input = schema::completed(schema, input);
    let faults = schema::check(schema, &input, false);
    if !faults.is_empty() {
        let told: Vec<_> = faults.into_iter().map(|fault| format!("`{}` {}", fault.path, fault.message)).collect();
        return Err(Failure::invalid(format!("`{}`: {}", link.name_of(operation), told.join("; "))));
    }
    match failed_checks(operation, link.settings(), &input, now)?.first() {
        Some(message) => Err(Failure::invalid(format!("`{}`: {message}", link.name_of(operation)))),
        None => Ok(input),
    }
}

/// The roots that the settings of a connection give to expressions.
type Settings = Vec<(&'static str, Value)>;

/// Returns the input schema of an operation with the words computed that depend on the connection.
#[must_use]
pub fn declared_input(operation: &Operation, settings: Settings, now: Timestamp) -> serde_json::Value {
    if !operation.computed_input {
        return operation.input.clone();
    }
    schema::computed(&operation.input, &render::scope(settings, now))
}

/// Returns the messages of the operation's own checks that an input fails.
///
/// # Errors
/// A check that cannot be evaluated.
pub fn failed_checks<'o>(
    operation: &'o Operation,
    settings: Settings,
    input: &Value,
    now: Timestamp,
) -> Result<Vec<&'o str>, Failure> {
    if operation.checks.is_empty() {
        return Ok(Vec::new());
    }
    let mut roots = settings;
    roots.push(("input", input.clone()));
    let scope = render::scope(roots, now);
    let mut failed = Vec::new();
    for check in &operation.checks {
        if !check.that.eval(&scope)?.is_truthy() {
            failed.push(&*check.message);
        }
    }
    Ok(failed)
}

/// Returns the output of a success: a rule's, else the operation's, else the body.
pub fn output_of(operation: &Operation, success: &Success) -> Result<Value, Failure> {
    let output = match (&success.output, &operation.output) {
        (Some(output), _) => output.clone(),
        (None, Some(tree)) => render::output(tree, &success.scope)?,
        (None, None) => {
            let root = |name: &str| success.scope.locals.iter().rev().find(|(own, _)| *own == name);
            root("output").or_else(|| root("body")).map(|(_, value)| value.clone()).unwrap_or_default()
        }
    };
    Ok(match &operation.returns {
        Some(schema) if operation.secret_output => schema::with_secrets(schema, output),
        _ => output,
    })
}

/// Gathers the roots that are there before anything is sent.
async fn before(
    link: &Link,
    means: &Means<'_>,
    asked: &Asked<'_>,
    input: Value,
) -> Result<Vec<(&'static str, Value)>, Stop> {
    let mut roots = link.settings();
    roots.reserve(12);
    roots.extend([
        ("input", input),
        ("attempt", Value::Int(means.attempt.into())),
        ("operation", Value::from(&*asked.operation.name)),
        ("effect", effect_root(means)),
        ("next", Value::Null),
        ("cursor", Value::Null),
    ]);
    roots.extend(asked.places.iter().cloned());
    if asked.operation.reads_account && asked.session.is_none() {
        roots.push(("account", super::account::account(link, means).await?));
    }
    Ok(roots)
}

pub(super) fn effect_root(means: &Means<'_>) -> Value {
    let Some(effect) = means.effect else { return Value::Null };
    Value::map([("key", Value::from(&*effect.key)), ("started_at", Value::Time(effect.started_at))])
}

/// Makes the request, sends it, and finds out what the answer means. A refused token or session is renewed once.
async fn exchange(
    link: &Link,
    means: &Means<'_>,
    asked: &Asked<'_>,
    input: Value,
    spec: &RequestSpec,
) -> Result<Success, Stop> {
    let operation = asked.operation;
    let given = input.clone();
    let roots = before(link, means, asked, input).await?;
    let (mut refreshed, mut renewed) = (false, false);
    loop {
        let mut roots = roots.clone();
        let grant = if spec.bare { None } else { Some(link.grant(means).await?) };
        roots.push(("auth", grant.as_ref().map_or(Value::Null, |grant| grant.auth.clone())));
        let scope = link.scope(means, roots);
        let opened = session::ensure(link, means, asked, spec, &scope).await?;
        let mut scope = scope;
        if let Some(opened) = &opened {
            scope.locals.push(("session", opened.kept.clone()));
        }
        let base = url::base(&link.manifest, spec.base.as_deref(), &scope)?;
        let making = send::Making {
            name: &operation.name,
            below: [Some(&link.manifest.send), Some(&operation.send)],
            spec,
            session: opened
                .as_ref()
                .filter(|it| it.sends)
                .and_then(|_| link.manifest.session.as_ref())
                .map(|it| &it.send),
            auth: grant.as_ref().and_then(|grant| grant.patch(link)),
            verbatim: asked.verbatim.as_deref(),
            base: &base,
            keep: means.keep,
            boundary: means.system.random.bits(),
            may_stream: grant.as_ref().is_none_or(|grant| !grant.signs_body(link)),
        };
        let send::Made { mut request, file } = send::make(making, &scope).await?;
        request.timeout = timeout(link, operation, means);
        request.private = link.connection().private;
        request.reads = means.effect.is_none() && !operation.effect.is_some_and(Effect::is_write);
        request.connection = Some(link.connection().name.clone());
        if !link.is_ours(&request.url, &scope) {
            return Err(Failure::new(OutcomeKind::Rejected, egress(link, &request.url)).into());
        }
        if let Some(opened) = &opened {
            opened.add_cookies(&mut request);
        }
        if let Some(grant) = &grant {
            grant.apply(link, means, &mut request, &scope)?;
        }
        let also = &asked.callers.costs;
        let sending = Declared { link, operation, also, scope: &scope }.sending(means, &request.url);
        let permit = link.limits.reserve(&sending).await?;
        if means
            .effect
            .and_then(|effect| effect.send_within)
            .is_some_and(|within| means.system.clock.monotonic() > within)
        {
            link.limits.not_sent(&sending, permit).await;
            let reason = "the time for sending passed while a limit was waited for".to_owned();
            return Err(Stop::Later { until: means.system.clock.now(), reason });
        }
        let permit = link.limits.pay(&sending, permit).await?;
        let sent = request.clone();
        let began = means.system.clock.now();
        let result = send::send(means, request, file).await;
        let ended = means.system.clock.now();
        wire::record(
            link,
            means,
            &Exchange {
                request: &sent,
                result: &result,
                began,
                ended,
                grant: grant.as_ref(),
                session: opened.as_deref(),
                base: &base,
                input: &given,
                gives_secret: operation.secret_output,
            },
        );
        let response = match result {
            Ok(response) => response,
            Err(error) => {
                let sending = Declared { link, operation, also, scope: &scope }.sending(means, &sent.url);
                link.limits.no_answer(&sending, permit, &error).await;
                return Err(no_answer(link, operation, &error, means).into());
            }
        };
        if let Some(opened) = &opened {
            opened.learn_cookies(&response);
        }
        let answered = Arc::new(answer::read(operation, &given, response));
        scope.now = ended;
        scope.locals.extend(answered.roots());
        if let Some(bytes) = answered.bytes.clone().filter(|_| (200..300).contains(&answered.status)) {
            let kind = header(&answered, "content-type");
            let blob = means.keep.put_blob(bytes, kind.as_deref(), None).await;
            let blob = blob.map_err(|error| Failure::invalid(error.text()))?;
            scope.locals.push(("body", Value::Blob(Arc::new(blob))));
        }
        if operation.reads_items {
            let items = operation.items.as_ref().map_or(Ok(Value::Null), |items| items.eval(&scope));
            scope.locals.push(("items", items.unwrap_or_default()));
        }
        // Whoever uses an operation knows better what its answer means there.
        let callers = asked.callers.errors.iter().copied();
        let rules = callers.chain([operation.errors.as_slice(), link.manifest.errors.as_slice()]);
        let verdict = judge(rules, answered.status, &scope);
        super::contract::note(link.fired.as_ref(), verdict.rule);
        let until = may_come_again(&verdict, &answered, &scope);
        let sending = Declared { link, operation, also, scope: &scope }.sending(means, &sent.url);
        link.limits.answered(&sending, permit, answered.status, &verdict, until).await;
        let unreadable = answered.unreadable.as_ref().filter(|_| verdict.rule.is_none());
        match verdict.outcome {
            OutcomeKind::Done if unreadable.is_none() => {
                let output = verdict.rule.and_then(|rule| rule.output.as_ref());
                let output = output.map(|tree| render::output(tree, &scope)).transpose()?;
                return Ok(Success { scope, output, url: sent.url, answered, duplicate: false });
            }
            OutcomeKind::Duplicate if means.effect.is_some_and(|effect| effect.doubted) => {
                let output = verdict.rule.and_then(|rule| rule.output.as_ref());
                let output = output.map(|tree| render::output(tree, &scope)).transpose()?;
                return Ok(Success { scope, output, url: sent.url, answered, duplicate: true });
            }
            OutcomeKind::RefreshAuth if !refreshed && grant.as_ref().is_some_and(|grant| grant.can_renew()) => {
                refreshed = true;
                if let Some(grant) = &grant {
                    tracing::debug!(connection = &*link.connection().name, "a token was refused");
                    link.renew(means, grant).await?;
                }
            }
            OutcomeKind::RenewSession if !renewed && opened.is_some() => {
                renewed = true;
                if let Some(opened) = &opened {
                    session::forget(link, opened).await;
                }
            }
            outcome => {
                if let (OutcomeKind::RefreshAuth | OutcomeKind::AuthBroken, Some(grant)) = (outcome, &grant) {
                    link.state.token.forget(grant.version);
                }
                return Err(refused(link, means, operation, &verdict, &answered, &scope).into());
            }
        }
    }
}

fn header(answered: &Answered, name: &str) -> Option<String> {
    answered.headers.get(name).and_then(Value::as_str).map(str::to_owned)
}

fn timeout(link: &Link, operation: &Operation, means: &Means<'_>) -> Duration {
    let own = link.timeout(operation);
    let left = means.deadline.map(|deadline| deadline.since(means.system.clock.now()));
    left.map_or(own, |left| left.min(own))
}

pub(super) fn egress(link: &Link, url: &str) -> String {
    let host =
        crate::http::Origin::of(url).map_or_else(|| "this URL".to_owned(), |origin| format!("`{}`", origin.host));
    format!("connector `{}` does not reach {host}: neither `base_url` nor `hosts` names it", link.manifest.name)
}

/// Makes the failure of an exchange without an answer.
fn no_answer(link: &Link, operation: &Operation, error: &TransportError, means: &Means<'_>) -> Failure {
    let perhaps = means.effect.is_some() && !error.nothing_was_sent();
    Failure {
        class: error.class(),
        happened: if perhaps { Happened::Perhaps } else { Happened::No },
        ..Failure::new(OutcomeKind::Unavailable, format!("`{}`: {error}", link.name_of(operation)))
    }
}

/// Returns when the system lets us come again, as the rule or the answer says.
fn may_come_again(verdict: &judge::Verdict<'_>, answered: &Answered, scope: &Scope) -> Option<Timestamp> {
    if !matches!(verdict.outcome, OutcomeKind::Throttled | OutcomeKind::Unavailable | OutcomeKind::Locked) {
        return None;
    }
    let said = || header(answered, "retry-after").and_then(|text| judge::retry_after(&text, scope.now));
    judge::wait(verdict.rule, scope).or_else(said)
}

/// Makes the failure of an answer that is no success.
fn refused(
    link: &Link,
    means: &Means<'_>,
    operation: &Operation,
    verdict: &judge::Verdict<'_>,
    answered: &Answered,
    scope: &Scope,
) -> Failure {
    let what = link.name_of(operation);
    let body = answered.text.as_str().unwrap_or_default();
    let mut outcome = verdict.outcome;
    let explains = [&operation.explain, &link.manifest.explain];
    let hide = |text: &str| link.masked(text);
    let mut message = judge::message(&what, verdict, explains, answered.status, scope, body, &hide);
    match outcome {
        // A success that cannot be read is none.
        OutcomeKind::Done => {
            let reason = link.masked(answered.unreadable.as_deref().unwrap_or("it cannot be read"));
            message = format!("`{what}`: {} is not what it should be: {reason}", answered.status);
            outcome = OutcomeKind::Unavailable;
        }
        OutcomeKind::RefreshAuth | OutcomeKind::RenewSession => {
            message.push_str("; `pipewright auth status` shows the state of the connection");
            outcome = OutcomeKind::AuthBroken;
        }
        OutcomeKind::AuthBroken => message.push_str("; `pipewright auth doctor` says what to do"),
        _ => {}
    }
    let rule = verdict.rule;
    let until = may_come_again(verdict, answered, scope);
    let said = rule.and_then(|rule| rule.happened);
    let perhaps = means.effect.is_some()
        && match said {
            Some(happened) => happened,
            // A server that broke down on the way may have done its work all the same.
            None => outcome == OutcomeKind::Unavailable,
        };
    Failure {
        happened: if perhaps { Happened::Perhaps } else { Happened::No },
        retry_after: until.map(|until| until.since(scope.now)),
        attempts: rule.and_then(|rule| rule.attempts),
        ..Failure::new(outcome, message)
    }
}

/// Tells whether a wait is short enough to be waited for in place.
#[must_use]
pub fn is_patient(means: &Means<'_>, until: Timestamp) -> bool {
    let wait = until.since(means.system.clock.now());
    let within = means.effect.and_then(|effect| effect.send_within);
    let left = within
        .map(|within| Duration::from_micros(within.micros().saturating_sub(means.system.clock.monotonic().micros())));
    wait <= PATIENCE && left.is_none_or(|left| wait < left)
}

impl Manifest {
    /// Finds an operation by its name.
    pub fn operation(&self, name: &str) -> Result<&Arc<Operation>, Failure> {
        let missing = || Failure::invalid(format!("connector `{}` has no operation `{name}`", self.name));
        self.operations.get(name).ok_or_else(missing)
    }
}
