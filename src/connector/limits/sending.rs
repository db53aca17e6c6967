//! One request, as the limits see it: which of them hold for it, and by what names they are kept.

use super::keeper::Amount;
use super::spec::Budget;
use super::spec::SharedBy;
use crate::connector::call::Means;
use crate::connector::judge::Verdict;
use crate::connector::manifest::Operation;
use crate::connector::runtime::Link;
use crate::model::Timestamp;
use crate::store::Store;
use crate::template::Scope;

/// One request, as the limits see it.
#[derive(Clone, Copy, Debug)]
pub struct Sending<'a> {
    pub means: &'a Means<'a>,
    pub url: &'a str,
    /// Where limits outlive the process.
    pub store: Option<&'a Store>,
    /// What a manifest says of it; nothing where none declares it, as with `http.request`.
    pub declared: Option<Declared<'a>>,
}

/// What a manifest says of a request.
#[derive(Clone, Copy, Debug)]
pub struct Declared<'a> {
    pub link: &'a Link,
    pub operation: &'a Operation,
    /// What an operation that uses this one costs besides.
    pub also: &'a [Amount],
    pub scope: &'a Scope,
}

impl<'a> Declared<'a> {
    /// Returns the request as the limits see it.
    #[must_use]
    pub fn sending(self, means: &'a Means<'a>, url: &'a str) -> Sending<'a> {
        let store = self.link.custody.as_ref().map(|custody| &custody.store);
        Sending { means, url, store, declared: Some(self) }
    }

    pub(super) fn budget(&self, name: &str) -> Option<&'a Budget> {
        self.link.manifest.limits.budgets.iter().find(|budget| *budget.name == *name)
    }

    pub(super) fn key(&self, budget: &Budget, host: &str) -> String {
        let connection = self.link.connection();
        match budget.shared_by {
            SharedBy::Account => format!("a:{}:{}", connection.name, budget.name),
            SharedBy::Host => format!("h:{host}:{}", budget.name),
            SharedBy::App => {
                let given = ["client_id", "consumer_key", "api_key", "token"].into_iter();
                let client = given.filter_map(|key| connection.auth.get(key).filter(|it| !it.is_null())).next();
                let client = client.map(|it| fingerprint(&it.revealed().to_text())).unwrap_or_default();
                format!("p:{}:{client}:{}", connection.connector, budget.name)
            }
        }
    }
}

impl Sending<'_> {
    pub(super) fn now(&self) -> Timestamp {
        self.means.system.clock.now()
    }

    /// Names what holds for it beside budgets: the gauges, and how messages call them.
    pub(super) fn gauges(&self, host: &str) -> Vec<(String, String)> {
        let mut names = vec![(format!("h:{host}"), format!("host `{host}`"))];
        match &self.declared {
            Some(Declared { link, operation, .. }) => {
                let connection = &link.connection().name;
                names.push((format!("c:{connection}"), format!("connection `{connection}`")));
                let limit = format!("the limit of `{}`", link.name_of(operation));
                names.push((format!("o:{connection}:{}", operation.name), limit));
            }
            // Of those who ask here nothing is known that would tell them apart.
            None => names.push((format!("r:{host}"), format!("`http.request` to `{host}`"))),
        }
        names
    }

    /// Names what a refusal for too many requests pauses.
    pub(super) fn refused(&self, verdict: &Verdict<'_>, host: &str) -> String {
        let Some(declared) = &self.declared else { return format!("r:{host}") };
        let budget = verdict.rule.and_then(|rule| rule.budget.as_deref());
        match (budget, budget.and_then(|name| declared.budget(name))) {
            (Some("host"), _) => format!("h:{host}"),
            (_, Some(budget)) => declared.key(budget, host),
            (_, None) => format!("c:{}", declared.link.connection().name),
        }
    }
}

/// Names a client without telling who it is.
fn fingerprint(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    base64::Engine::encode(
        &base64::engine::general_purpose::URL_SAFE_NO_PAD,
        digest.as_ref().get(..9).unwrap_or_default(),
    )
}
