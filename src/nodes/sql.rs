//! Which database a step means, and what its errors mean.

use std::sync::Arc;

use super::files::locate;
use super::files::scratch;
use crate::model::ErrorClass;
use crate::model::Value;
use crate::node::NodeError;
use crate::node::StepContext;
use crate::store::external::SqlError;
use crate::system::outside;
use crate::template::Scope;
use crate::template::Template;

/// Finds the URL of a database: a connection's, or that of a file of the project.
pub(super) fn database_url(ctx: &StepContext<'_>, database: &str) -> Result<String, NodeError> {
    let known = ctx.access.databases.iter().find(|(name, _)| name == database);
    let url = match known {
        Some((_, url)) => filled(ctx, url)?,
        None if database.starts_with("sqlite:") => database.to_owned(),
        None => {
            // The text may be a URL with a password in it, so it is not repeated.
            let names: Vec<_> = ctx.access.databases.iter().map(|(name, _)| format!("`{name}`")).collect();
            let have =
                if names.is_empty() { "there are none".to_owned() } else { format!("there are {}", names.join(", ")) };
            let message = "`database` is neither a connection of the project file nor `sqlite://path`";
            return Err(NodeError::invalid(format!("{message}; {have}")));
        }
    };
    let Some(rest) = url.strip_prefix("sqlite:") else {
        if ctx.access.rehearsal {
            let message = format!("`{database}` is not reached in the sandbox: only files of SQLite are");
            return Err(NodeError::message(ErrorClass::Rejected, message));
        }
        return Ok(url);
    };
    let path = rest.strip_prefix("//").unwrap_or(rest);
    // Options could name other files or open the database in other ways; none are needed.
    let path = path.split('?').next().unwrap_or_default();
    let real = match known {
        Some(_) => ctx.access.root.join(path),
        None => locate(ctx.access, path)?,
    };
    let real = match scratch(ctx) {
        Some(scratch) => scratch.to_change(ctx.access, &real).map_err(|error| {
            NodeError::new(ErrorClass::Invalid, error).at("cannot copy the database that is only tried out")
        })?,
        None => real,
    };
    let Some(real) = real.to_str() else {
        return Err(NodeError::invalid("the path of the database is not UTF-8"));
    };
    Ok(format!("sqlite://{real}"))
}

/// Fills secrets into a connection's URL: `postgres://shop:{{ secrets.SHOP_PASSWORD | urlencode }}@db/shop`.
fn filled(ctx: &StepContext<'_>, url: &str) -> Result<String, NodeError> {
    if !url.contains("{{") {
        return Ok(url.to_owned());
    }
    let place = "the connection's `url`";
    let template = Template::parse(url).map_err(|error| NodeError::new(ErrorClass::Invalid, error).at(place))?;
    // Only secrets: a database does not depend on the step that uses it.
    let scope = Scope { globals: Arc::default(), locals: Vec::new(), ..ctx.scope.clone() };
    let value = template.eval(&scope).map_err(|error| NodeError::new(ErrorClass::Invalid, error).at(place))?;
    Ok(value.revealed().to_text())
}

/// Makes the folder of a database file that does not exist yet.
pub(super) async fn make_folder(url: &str) -> Result<(), NodeError> {
    let path = url.strip_prefix("sqlite://");
    let Some(folder) = path.and_then(|path| std::path::Path::new(path).parent()) else { return Ok(()) };
    outside(tokio::fs::create_dir_all(folder))
        .await
        .map_err(|error| NodeError::new(ErrorClass::Invalid, error).at("cannot make the database's folder"))
}

/// Lays secrets open: the parameters go out.
pub(super) fn opened(params: &[Value]) -> Vec<Value> {
    params.iter().map(Value::revealed).collect()
}

pub(super) fn failed(error: SqlError) -> NodeError {
    let (class, happened) = (error.class, error.happened);
    NodeError { happened, ..NodeError::new(class, error) }
}
