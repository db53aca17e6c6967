//! `pipewright auth`.

use std::io::BufRead;
use std::io::IsTerminal;

use clap::Subcommand;
use clap_complete::engine::ArgValueCandidates;
use tokio_util::sync::CancellationToken;

use super::Exit;
use super::Global;
use super::complete;
use super::print;
use super::validate::open_project;
use crate::app::App;
use crate::app::Fault;
use crate::connector::account;
use crate::connector::auth::Flow;
use crate::connector::auth::Oauth2;
use crate::connector::auth::custody;
use crate::connector::auth::custody::Custody;
use crate::connector::auth::custody::Wish;
use crate::connector::auth::login;
use crate::connector::auth::login::Login;
use crate::connector::auth::login::Redirect;
use crate::connector::auth::loopback::Loopback;
use crate::connector::auth::standing;
use crate::connector::auth::standing::Report;
use crate::connector::call::Stop;
use crate::connector::runtime::Link;
use crate::model::Timestamp;

/// How long a person may take to agree.
const CONSENT: std::time::Duration = std::time::Duration::from_secs(300);

/// What can be done with the credentials of connections.
#[derive(Debug, Subcommand)]
pub(super) enum Auth {
    /// Log in: opens the provider's page, and keeps the tokens in the store, sealed.
    Login {
        /// A connection of the project file.
        #[arg(add = ArgValueCandidates::new(complete::connections))]
        connection: String,
        /// Read the address that the browser ends at, or the code, from stdin instead of waiting for the browser.
        #[arg(long)]
        paste: bool,
        /// Do not open a browser by itself.
        #[arg(long)]
        no_browser: bool,
    },
    /// Show where the credentials of connections stand.
    Status {
        /// Only this one.
        #[arg(add = ArgValueCandidates::new(complete::connections))]
        connection: Option<String>,
    },
    /// Renew a token now.
    Refresh {
        /// A connection of the project file.
        #[arg(add = ArgValueCandidates::new(complete::connections))]
        connection: String,
        /// Send a refresh token once more that may have been spent.
        #[arg(long)]
        again: bool,
    },
    /// Give tokens up: the provider is told, and the store forgets them.
    Logout {
        /// A connection of the project file.
        #[arg(add = ArgValueCandidates::new(complete::connections))]
        connection: String,
    },
    /// Say of every connection what expires when, who we are there, and what to do.
    Doctor {
        /// Ask nobody who we are.
        #[arg(long)]
        offline: bool,
    },
}

impl Auth {
    pub(super) async fn execute(self, global: &Global) -> Result<Exit, Fault> {
        let app = open_project(global).await?;
        match self {
            Self::Login { connection, paste, no_browser } => log_in(&app, &connection, paste, no_browser).await,
            Self::Status { connection } => status(&app, connection.as_deref()).await,
            Self::Refresh { connection, again } => refresh(&app, &connection, again).await,
            Self::Logout { connection } => log_out(&app, &connection).await,
            Self::Doctor { offline } => doctor(&app, offline).await,
        }
    }
}

fn fault(stop: Stop) -> Fault {
    Fault::Other(anyhow::anyhow!(match stop {
        Stop::Failed(failure) => failure.message,
        Stop::Later { reason, .. } => reason,
    }))
}

/// Returns what keeps tokens, and what the manifest says of them.
fn parts(link: &Link) -> Result<(&Custody, &Oauth2), Fault> {
    let connection = link.connection();
    let Some(oauth2) = link.oauth2() else {
        let message = format!(
            "connection `{}` uses `{}`: its secrets stand in the project file, and nobody logs in",
            connection.name, connection.kind
        );
        return Err(Fault::Usage(message));
    };
    let Some(custody) = link.custody() else {
        let message = "there is no master key to seal tokens with: `pipewright init` makes one";
        return Err(Fault::Usage(message.to_owned()));
    };
    Ok((custody, oauth2))
}

async fn log_in(app: &App, name: &str, paste: bool, no_browser: bool) -> Result<Exit, Fault> {
    let link = app.link(name)?;
    let (custody, oauth2) = parts(&link)?;
    let login = match custody::flow(&link, oauth2) {
        Flow::AuthorizationCode => by_browser(&link, custody, oauth2, paste, no_browser).await?,
        Flow::Device => by_device(&link, custody, oauth2).await?,
        // Nobody has to agree: a token shows that all is well.
        Flow::ClientCredentials | Flow::JwtBearer => return refresh(app, name, false).await,
    };
    let who = login.account.as_deref().map(|account| format!(" as {account}")).unwrap_or_default();
    print::talk(&format!("{name}: logged in{who}{}", until(&login, custody.system.clock.now())));
    if let Some(warning) = &login.warning {
        print::hint(&format!("it could not be asked who we are: {warning}"));
    }
    Ok(Exit::Well)
}

fn until(login: &Login, now: Timestamp) -> String {
    match (login.expires_at, login.renewable) {
        (Some(expires), true) => format!("; the token lasts {}, and renews itself", left(expires, now)),
        (Some(expires), false) => format!("; the token lasts {} and cannot renew itself", left(expires, now)),
        (None, _) => String::new(),
    }
}

async fn by_browser(
    link: &Link,
    custody: &Custody,
    oauth2: &Oauth2,
    paste: bool,
    no_browser: bool,
) -> Result<Login, Fault> {
    let redirect = login::redirect(link, custody, oauth2).map_err(fault)?;
    let (loopback, uri) = match redirect {
        Redirect::Elsewhere(uri) => (None, uri),
        Redirect::Loopback { host, port, path } => {
            // What is pasted needs no port, but the provider checks that the address is a registered one.
            let loopback = Loopback::bind(&host, port, &path).await.map_err(|error| {
                let port = port.map_or_else(|| "a port".to_owned(), |port| format!("port {port}"));
                Fault::Other(anyhow::Error::new(error).context(format!("listening on {port} of `{host}`")))
            })?;
            let uri = format!("http://{host}:{}{path}", loopback.port()?);
            (Some(loopback), uri)
        }
    };
    let begun = login::begin(link, custody, oauth2, &uri).map_err(fault)?;
    print::talk("Open this address and agree:");
    print::line(&begun.url);
    let loopback = loopback.filter(|_| !paste);
    if !no_browser && std::io::stderr().is_terminal() {
        open_browser(&begun.url);
    }
    let returned = match loopback {
        Some(loopback) => {
            print::talk(&format!("waiting for the browser to come back to {uri}"));
            let answer = tokio::time::timeout(CONSENT, loopback.answer(&begun.state)).await;
            answer.map_err(|_| Fault::Usage("nobody agreed within 5 minutes".to_owned()))??
        }
        None => {
            print::talk("then paste the address that the browser ends at, or the code that the page shows:");
            let mut line = String::new();
            tokio::task::spawn_blocking(move || {
                std::io::stdin().lock().read_line(&mut line)?;
                Ok::<_, std::io::Error>(line)
            })
            .await??
        }
    };
    login::finish(link, custody, oauth2, &begun, &returned).await.map_err(fault)
}

async fn by_device(link: &Link, custody: &Custody, oauth2: &Oauth2) -> Result<Login, Fault> {
    let device = login::begin_device(link, custody, oauth2).await.map_err(fault)?;
    print::talk(&format!("Open {} and type in this code:", device.verification_uri));
    print::line(&device.user_code);
    if let Some(complete) = &device.complete {
        print::talk(&format!("or open {complete}"));
    }
    login::finish_device(link, custody, oauth2, &device).await.map_err(fault)
}

/// Opens the page where a system can; it stands on the terminal anyway.
fn open_browser(url: &str) {
    let command = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let null = std::process::Stdio::null;
    let _ = std::process::Command::new(command).arg(url).stdin(null()).stdout(null()).stderr(null()).spawn();
}

async fn refresh(app: &App, name: &str, again: bool) -> Result<Exit, Fault> {
    let link = app.link(name)?;
    let (custody, oauth2) = parts(&link)?;
    let canceled = CancellationToken::new();
    let wish = Wish { force: true, again, ..Wish::default() };
    let held = custody::token(&link, &custody.means(&canceled), oauth2, wish).await.map_err(fault)?;
    let lasts = held.expires_at.map(|expires| format!(", lasts {}", left(expires, custody.system.clock.now())));
    print::talk(&format!("{name}: a new token{}", lasts.unwrap_or_default()));
    Ok(Exit::Well)
}

async fn log_out(app: &App, name: &str) -> Result<Exit, Fault> {
    let link = app.link(name)?;
    let (custody, oauth2) = parts(&link)?;
    let (there, untold) = login::logout(&link, custody, oauth2).await.map_err(fault)?;
    if let Some(reason) = untold {
        print::hint(&format!("the provider could not be told: {reason}"));
    }
    print::talk(&if there { format!("{name}: logged out") } else { format!("{name}: nobody was logged in") });
    Ok(Exit::Well)
}

async fn status(app: &App, only: Option<&str>) -> Result<Exit, Fault> {
    if let Some(name) = only {
        // Says so where there is no such connection.
        app.link(name)?;
    }
    let now = app.engine.parts().system.clock.now();
    let mut rows = Vec::new();
    for connection in app.project.connections.iter().filter(|it| only.is_none_or(|only| it.name == only)) {
        let cells = match app.link(&connection.name) {
            Ok(link) => match standing::report(&link, now).await {
                Ok(report) => cells(&link.connection().kind, &report, now),
                Err(stop) => vec![
                    link.connection().kind.to_string(),
                    String::new(),
                    String::new(),
                    format!("{:#}", anyhow_of(fault(stop))),
                ],
            },
            Err(fault) => vec![String::new(), String::new(), String::new(), format!("{:#}", anyhow_of(fault))],
        };
        let head = [connection.name.clone(), connection.connector.clone()];
        rows.push(head.into_iter().chain(cells).collect());
    }
    if rows.is_empty() {
        print::talk("the project file has no `connections`");
        return Ok(Exit::Well);
    }
    print::table(&["connection", "connector", "auth", "account", "expires", "credentials"], &rows);
    Ok(Exit::Well)
}

fn anyhow_of(fault: Fault) -> anyhow::Error {
    match fault {
        Fault::Other(error) => error,
        Fault::Usage(text) => anyhow::anyhow!(text),
        Fault::Invalid { diagnostics, .. } => anyhow::anyhow!("its connector has {} faults", diagnostics.len()),
    }
}

fn cells(kind: &str, report: &Report, now: Timestamp) -> Vec<String> {
    let expires = report.expires_at.map(|expires| left(expires, now)).unwrap_or_default();
    let account = report.account.clone().unwrap_or_default();
    vec![kind.to_owned(), account, expires, report.standing.word().to_owned()]
}

/// Returns how long it is until a moment, roughly.
fn left(moment: Timestamp, now: Timestamp) -> String {
    let seconds = moment.since(now).micros() / 1_000_000;
    match seconds {
        0 => "now".to_owned(),
        1..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

async fn doctor(app: &App, offline: bool) -> Result<Exit, Fault> {
    let system = &app.engine.parts().system;
    let now = system.clock.now();
    let mut waits = false;
    if app.project.connections.is_empty() {
        print::talk("the project file has no `connections`");
    }
    for connection in &app.project.connections {
        let name = &connection.name;
        let mut say = |good: bool, text: &str| {
            waits |= !good;
            let mark = if good {
                print::paint("32", "✓", print::color_out())
            } else {
                print::paint("31", "✗", print::color_out())
            };
            print::line(&format!("{mark} {name}: {text}"));
        };
        let link = match app.link(name) {
            Ok(link) => link,
            Err(fault) => {
                say(false, &format!("{:#}", anyhow_of(fault)));
                continue;
            }
        };
        let report = match standing::report(&link, now).await {
            Ok(report) => report,
            Err(stop) => {
                say(false, &format!("{:#}", anyhow_of(fault(stop))));
                continue;
            }
        };
        if let Some(advice) = standing::advice(name, &report) {
            let reason = report.reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
            say(false, &format!("{advice}{reason}"));
            continue;
        }
        let mut parts = vec![report.standing.word().to_owned()];
        parts.extend(report.expires_at.map(|expires| format!("the token lasts {}", left(expires, now))));
        parts.extend(report.refresh_expires_at.map(|expires| format!("renewable for {}", left(expires, now))));
        let asks = !offline && link.manifest.account.is_some();
        match (asks, app.runtime.custody()) {
            (true, Some(custody)) => {
                let canceled = CancellationToken::new();
                match account::id(&link, &custody.means(&canceled)).await {
                    Ok(id) => {
                        parts.extend(id.map(|id| format!("we are {id}")));
                        say(true, &parts.join(", "));
                    }
                    Err(stop) => say(false, &format!("{:#}", anyhow_of(fault(stop)))),
                }
            }
            _ => say(true, &parts.join(", ")),
        }
    }
    Ok(if waits { Exit::Waiting } else { Exit::Well })
}
