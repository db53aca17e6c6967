//! How much a model may be asked in a while, told in every answer: requests and tokens, each a bucket that fills
//! steadily.

use indexmap::IndexMap;
use serde::Deserialize;

use super::refusal::Kind;
use super::refusal::Refusal;
use crate::model::Duration;
use crate::model::Timestamp;

/// What each model may be asked.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Quota {
    pub requests: u64,
    pub tokens: u64,
    #[serde(default = "minute")]
    pub per: Duration,
    /// How the names of the headers begin that tell of it.
    #[serde(default = "prefix")]
    pub prefix: String,
    #[serde(default)]
    pub told: Told,
}

/// How headers tell what is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Told {
    /// `…limit-requests`, and lengths of time until it is full again.
    #[default]
    Lengths,
    /// `…requests-limit`, and moments.
    Moments,
    Nothing,
}

fn minute() -> Duration {
    Duration::from_secs(60)
}

fn prefix() -> String {
    "x-ratelimit-".to_owned()
}

/// What is left of it, by model.
#[derive(Debug, Default)]
pub(super) struct Drawn {
    models: IndexMap<String, Buckets>,
}

/// When each bucket is full again: all that must be known of it.
#[derive(Clone, Copy, Debug, Default)]
struct Buckets {
    requests: Timestamp,
    tokens: Timestamp,
}

impl Drawn {
    /// Draws a request, also for one that is refused afterwards.
    pub(super) fn request(&mut self, quota: &Quota, model: &str, now: Timestamp) -> Result<(), Refusal> {
        let buckets = self.models.entry(model.to_owned()).or_default();
        draw(&mut buckets.requests, 1, quota.requests, quota.per, now)
            .map_err(|wait| refusal(Kind::Requests, quota, model, 1, wait))
    }

    /// Draws tokens: before the answer is known, so by what it may become.
    pub(super) fn tokens(&mut self, quota: &Quota, model: &str, amount: u64, now: Timestamp) -> Result<(), Refusal> {
        let buckets = self.models.entry(model.to_owned()).or_default();
        draw(&mut buckets.tokens, amount, quota.tokens, quota.per, now)
            .map_err(|wait| refusal(Kind::Tokens, quota, model, amount, wait))
    }

    /// Tells what is left.
    pub(super) fn headers(&self, quota: &Quota, model: &str, now: Timestamp) -> Vec<(String, String)> {
        let buckets = self.models.get(model).copied().unwrap_or_default();
        let mut headers = Vec::new();
        if quota.told == Told::Nothing {
            return headers;
        }
        for (name, limit, full) in
            [("requests", quota.requests, buckets.requests), ("tokens", quota.tokens, buckets.tokens)]
        {
            let mut header = |key: &str, value: String| {
                let name = if quota.told == Told::Moments { format!("{name}-{key}") } else { format!("{key}-{name}") };
                headers.push((format!("{}{name}", quota.prefix), value));
            };
            header("limit", limit.to_string());
            header("remaining", left(full, limit, quota.per, now).to_string());
            let reset = match quota.told {
                Told::Moments => now.plus(full.since(now)).to_string(),
                _ => written(full.since(now)),
            };
            header("reset", reset);
        }
        headers
    }
}

/// How long an amount takes to fill up again.
fn length(amount: u64, limit: u64, per: Duration) -> Duration {
    let micros = u128::from(amount) * u128::from(per.micros()) / u128::from(limit.max(1));
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

fn left(full: Timestamp, limit: u64, per: Duration, now: Timestamp) -> u64 {
    let missing = u128::from(full.since(now).micros()) * u128::from(limit);
    let missing = u64::try_from(missing.div_ceil(u128::from(per.micros().max(1)))).unwrap_or(u64::MAX);
    limit.saturating_sub(missing)
}

/// Draws an amount, or says how long until it is there; a whole bucket is not enough for nothing at all.
fn draw(full: &mut Timestamp, amount: u64, limit: u64, per: Duration, now: Timestamp) -> Result<(), Option<Duration>> {
    if amount > limit {
        return Err(None);
    }
    let after = now.plus(full.since(now)).plus(length(amount, limit, per));
    let over = after.since(now.plus(per));
    if over > Duration::ZERO {
        return Err(Some(over));
    }
    *full = after;
    Ok(())
}

fn refusal(kind: Kind, quota: &Quota, model: &str, amount: u64, wait: Option<Duration>) -> Refusal {
    let (name, limit) = match kind {
        Kind::Tokens => ("tokens", quota.tokens),
        _ => ("requests", quota.requests),
    };
    let Some(wait) = wait else {
        let message = format!("Request too large for {model} on {name} per min. Limit {limit}, Requested {amount}.");
        return Refusal::new(kind, message);
    };
    let mut refusal = Refusal::new(
        kind,
        format!(
            "Rate limit reached for {model} on {name} per min. Limit {limit}, Requested {amount}. Try again in {}.",
            written(wait)
        ),
    );
    refusal.headers = vec![
        ("retry-after".to_owned(), wait.micros().div_ceil(1_000_000).to_string()),
        ("retry-after-ms".to_owned(), wait.micros().div_ceil(1_000).to_string()),
    ];
    refusal
}

/// Writes a length of time as such headers do: `12ms`, `1.2s`, `6m0s`.
fn written(length: Duration) -> String {
    let millis = length.micros().div_ceil(1_000);
    if millis < 1_000 {
        return format!("{millis}ms");
    }
    let (minutes, rest) = (millis / 60_000, millis % 60_000);
    let seconds = match rest % 1_000 {
        0 => format!("{}s", rest / 1_000),
        part => format!("{}.{}s", rest / 1_000, format!("{part:03}").trim_end_matches('0')),
    };
    match (minutes / 60, minutes % 60) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_as_the_headers_do() {
        for (millis, expected) in
            [(0, "0ms"), (12, "12ms"), (1_000, "1s"), (1_200, "1.2s"), (360_000, "6m0s"), (3_661_050, "1h1m1.05s")]
        {
            assert_eq!(written(Duration::from_millis(millis)), expected);
        }
    }

    #[test]
    fn a_bucket_fills_steadily() {
        let quota = Quota { requests: 2, tokens: 600, per: minute(), prefix: prefix(), told: Told::default() };
        let mut drawn = Drawn::default();
        let at = |seconds: u64| Timestamp(1_000_000).plus(Duration::from_secs(seconds));
        let header = |drawn: &Drawn, key: &str, seconds: u64| {
            let headers = drawn.headers(&quota, "m", at(seconds));
            headers.into_iter().find(|(name, _)| name == key).unwrap().1
        };
        assert!(drawn.request(&quota, "m", at(0)).is_ok());
        assert!(drawn.request(&quota, "m", at(0)).is_ok());
        let refused = drawn.request(&quota, "m", at(0)).unwrap_err();
        assert_eq!(refused.headers[1], ("retry-after-ms".to_owned(), "30000".to_owned()));
        assert_eq!(header(&drawn, "x-ratelimit-reset-requests", 0), "1m0s");
        // Another model has its own, and half a minute brings one request back.
        assert!(drawn.request(&quota, "other", at(0)).is_ok());
        assert!(drawn.request(&quota, "m", at(30)).is_ok());
        assert!(drawn.tokens(&quota, "m", 250, at(0)).is_ok());
        assert_eq!(header(&drawn, "x-ratelimit-remaining-tokens", 0), "350");
        assert_eq!(header(&drawn, "x-ratelimit-remaining-tokens", 10), "450");
        assert!(drawn.tokens(&quota, "m", 351, at(0)).unwrap_err().message.contains("Try again in 100ms"));
        assert!(drawn.tokens(&quota, "m", 601, at(0)).unwrap_err().message.contains("too large"));
    }
}
