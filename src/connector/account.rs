//! The account of a connection: who the system says we are.

use super::call::Asked;
use super::call::Means;
use super::call::Stop;
use super::call::call;
use super::call::output_of;
use super::judge::Failure;
use super::manifest::SessionUse;
use super::runtime::Link;
use crate::model::Value;

/// Returns root `account`, asked once in the life of a connection.
///
/// # Errors
/// Those of the operation that asks.
pub async fn account(link: &Link, means: &Means<'_>) -> Result<Value, Stop> {
    let Some(account) = &link.manifest.account else {
        return Err(Failure::invalid(format!("connector `{}` declares no `account`", link.manifest.name)).into());
    };
    let asked = link.state.account.get_or_try_init(|| async {
        let operation = link.manifest.operation(&account.operation)?;
        // Whoever asks who we are cannot need to know it.
        let session = operation.reads_account.then_some(SessionUse::Full);
        let asked = Asked { session, ..Asked::new(operation, Value::map::<&str>([])) };
        // The write that waits for it is another request.
        let means = Means { effect: None, ..*means };
        let success = call(link, &means, asked).await?;
        Ok::<_, Stop>(output_of(operation, &success)?)
    });
    asked.await.cloned()
}

/// Asks who we are and returns the account's id: the test of a connection, and the guard against another user.
///
/// # Errors
/// Those of the operation that asks.
pub async fn id(link: &Link, means: &Means<'_>) -> Result<Option<String>, Stop> {
    let Some(account) = &link.manifest.account else { return Ok(None) };
    let output = self::account(link, means).await?;
    let mut roots = link.settings();
    roots.push(("output", output));
    let id = account.id.eval(&link.scope(means, roots)).map_err(Failure::from)?;
    Ok(Some(id.revealed().to_text()).filter(|id| !id.is_empty()))
}
