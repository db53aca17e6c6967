//! A request that no manifest declares, as `http.request` makes it: it keeps to the same limits, and is recorded alike.

use super::call::Means;
use super::call::Stop;
use super::judge::Verdict;
use super::judge::retry_after;
use super::limits::Sending;
use super::manifest::OutcomeKind;
use super::runtime::Runtime;
use super::wire;
use crate::http::Request;
use crate::http::Response;
use crate::http::TransportError;
use crate::secrets::Mask;

/// Sends a request when its host and what was told of it let it go. `is_success` knows which statuses are no refusals,
/// and `mask` what of it is secret.
///
/// # Errors
/// Nothing was sent: a pause is longer than it is waited for, or the host is left alone.
pub async fn exchange(
    runtime: Option<&Runtime>,
    means: &Means<'_>,
    request: Request,
    is_success: impl Fn(u16) -> bool + Send,
    mask: &Mask,
) -> Result<Result<Response, TransportError>, Stop> {
    let url = request.url.clone();
    let store = runtime.and_then(Runtime::custody).map(|custody| &custody.store);
    let sending = Sending { means, url: &url, store, declared: None };
    let permit = match runtime {
        Some(runtime) => Some((runtime.limits(), runtime.limits().reserve(&sending).await?)),
        None => None,
    };
    let within = means.effect.and_then(|effect| effect.send_within);
    if within.is_some_and(|within| means.system.clock.monotonic() > within) {
        if let Some((limits, permit)) = permit {
            limits.not_sent(&sending, permit).await;
        }
        let reason = "the time for sending passed while a limit was waited for".to_owned();
        return Err(Stop::Later { until: means.system.clock.now(), reason });
    }
    let sent = request.clone();
    let began = means.system.clock.now();
    let result = means.http.send(request).await;
    let ended = means.system.clock.now();
    means.log.wire(wire::masked(mask, means.log.most_body(), &sent, &result, (began, ended)));
    let Some((limits, permit)) = permit else { return Ok(result) };
    match &result {
        Err(error) => limits.no_answer(&sending, permit, error).await,
        Ok(answer) => {
            let outcome = match answer.status {
                status if is_success(status) => OutcomeKind::Done,
                429 => OutcomeKind::Throttled,
                500..=599 => OutcomeKind::Unavailable,
                _ => OutcomeKind::Rejected,
            };
            let until = answer.header("retry-after").and_then(|text| retry_after(text, ended));
            limits.answered(&sending, permit, answer.status, &Verdict { outcome, rule: None }, until).await;
        }
    }
    Ok(result)
}
