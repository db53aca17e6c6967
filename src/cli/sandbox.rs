//! `pipewright sandbox`, and how a rehearsal is asked for.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use clap::Args;
use clap_complete::engine::ArgValueCandidates;

use super::Exit;
use super::Global;
use super::complete;
use super::interrupts::Interrupts;
use super::print;
use super::validate::settings;
use crate::app;
use crate::app::Rehearsal;
use crate::http::Request;
use crate::http::ReqwestTransport;
use crate::http::Transport;
use crate::model::Duration;
use crate::model::Value;
use crate::sandbox::fault::Fault;
use crate::sandbox::server;
use crate::sandbox::server::Failed;
use crate::sandbox::server::Served;
use crate::sandbox::world::NoStand;
use crate::sandbox::world::World;

/// Where a sandbox that is served says so, below the project's folder.
const SERVED: &str = ".pipewright/sandbox.json";

/// Serves stand-ins of outside systems on loopback until it is stopped; what they hold is gone then.
#[derive(Debug, Args)]
pub(super) struct Sandbox {
    /// Stand-ins: connectors, or connections of the project; by default all.
    #[arg(add = ArgValueCandidates::new(complete::connectors))]
    names: Vec<String>,
    /// The port at which the sandbox tells of itself; the stand-ins take the ones that follow. 0 takes what is free.
    #[arg(long, default_value_t = 4100)]
    port: u16,
    #[command(flatten)]
    troubles: Troubles,
    /// Show the sandbox that this project serves: addresses, and what each stand-in holds and has received.
    #[arg(long)]
    list: bool,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

/// What a person needs to be let in by a stand-in, the likeliest first.
const SHOWN: &[&str] = &["access_token", "user", "login", "password", "api_key", "token"];

/// What goes wrong in a sandbox.
#[derive(Debug, Args)]
pub(super) struct Troubles {
    /// Something that goes wrong, e.g. `429=0.2`, `drop-after-send=#2`, `x.create_post:503`, `expire-tokens=30s`; may be
    /// repeated.
    #[arg(long = "fault", value_name = "FAULT")]
    faults: Vec<Fault>,
    /// Makes chance in the sandbox repeat itself.
    #[arg(long, value_name = "NUMBER")]
    seed: Option<u64>,
}

impl Troubles {
    /// Returns the rehearsal that a command is to be, if it is to be one.
    pub(super) fn rehearsal(&self, global: &Global) -> Result<Option<Rehearsal>, app::Fault> {
        let asked = !self.faults.is_empty() || self.seed.is_some();
        match global.rehearsal() {
            None if asked => Err(app::Fault::Usage("`--fault` and `--seed` go with `--sandbox`".to_owned())),
            Some(Rehearsal { url: Some(_), .. }) if asked => {
                let help = "give `--fault` and `--seed` to `pipewright sandbox`, which has the stand-ins";
                Err(app::Fault::Usage(help.to_owned()))
            }
            found => Ok(found.map(|found| self.laid_over(found))),
        }
    }

    fn laid_over(&self, rehearsal: Rehearsal) -> Rehearsal {
        Rehearsal { faults: self.faults.clone(), seed: self.seed, ..rehearsal }
    }
}

impl Sandbox {
    pub(super) async fn execute(self, global: &Global) -> Result<Exit, app::Fault> {
        let (root, project) = settings(global)?;
        if self.list {
            return self.show(&root).await;
        }
        let rehearsal = self.troubles.laid_over(Rehearsal::default());
        let world = Arc::new(app::sandbox(&root, &project, &rehearsal).await?);
        let mut names = world.names();
        for name in &self.names {
            if !names.iter().any(|own| **own == **name) {
                let near = crate::diag::did_you_mean(name, names.iter().map(|own| &**own));
                let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
                return Err(app::Fault::Usage(format!("there is no connector or connection `{name}`{near}")));
            }
        }
        names.retain(|name| self.names.is_empty() || self.names.iter().any(|wanted| **wanted == **name));
        let served = server::serve(world.clone(), &names, self.port).await.map_err(failed)?;
        let file = root.join(SERVED);
        let url = format!("http://{}", served.control);
        let told = Value::map([("url", Value::from(url.as_str())), ("process", Value::Int(std::process::id().into()))]);
        std::fs::create_dir_all(root.join(".pipewright"))?;
        std::fs::write(&file, told.to_string())?;
        let mut interrupts = Interrupts::listen()?;
        self.announce(&world, &served, &url);
        interrupts.next().await;
        let _ = std::fs::remove_file(&file);
        tell(&world);
        Ok(Exit::Well)
    }

    fn announce(&self, world: &World, served: &Served, url: &str) {
        let stands = served.stands.iter().filter_map(|(name, address)| Some((world.seat(name).ok()?, address)));
        if self.json {
            let stands = stands.map(|(seat, address)| server::described(&seat, Some(*address)));
            let told = Value::map([("url", Value::from(url)), ("stands", Value::list(stands.collect()))]);
            print::line(&told.to_string());
            return;
        }
        let rows: Vec<_> = stands
            .map(|(seat, address)| {
                let credentials = seat.credentials();
                let shown = SHOWN.iter().filter_map(|key| Some(format!("{key}={}", credentials.get(*key)?.to_text())));
                let base = format!("http://{address}{}", seat.base_path());
                vec![seat.name.to_string(), base, shown.take(2).collect::<Vec<_>>().join(" ")]
            })
            .collect();
        print::table(&["stand-in", "base URL", "credentials"], &rows);
        print::talk(&format!("serving at {url}; GET {url}/_sandbox/NAME/received shows what was received"));
        print::hint(&format!("`pipewright run NAME --sandbox={url}` rehearses against it; Ctrl-C ends it"));
    }

    /// Shows the sandbox that another process serves for this project.
    async fn show(&self, root: &Path) -> Result<Exit, app::Fault> {
        let none = || {
            let help = "`pipewright sandbox` serves one";
            app::Fault::Usage(format!("no sandbox is served for this project; {help}"))
        };
        let text = std::fs::read_to_string(root.join(SERVED)).map_err(|_| none())?;
        let told = crate::model::parse_json(&text).map_err(|_| none())?;
        let url = told.get("url").map(Value::to_text).ok_or_else(none)?;
        let request = Request { timeout: Duration::from_secs(5), ..Request::new("GET", &format!("{url}/_sandbox/")) };
        // One that was killed has left its file behind.
        let response = ReqwestTransport::new().send(request).await.map_err(|_| none())?;
        let body = crate::model::parse_json(&String::from_utf8_lossy(&response.body)).unwrap_or_default();
        if self.json {
            print::line(&body.to_string());
            return Ok(Exit::Well);
        }
        let text = |stand: &Value, key: &str| stand.get(key).map(Value::to_text).unwrap_or_default();
        let rows: Vec<_> = body
            .get("stands")
            .and_then(Value::as_list)
            .unwrap_or_default()
            .iter()
            .map(|stand| {
                let rows = stand.get("rows").and_then(Value::as_map);
                let held = rows.into_iter().flatten().map(|(name, count)| format!("{name} {count}"));
                let base = format!("{}{}", text(stand, "url"), text(stand, "base_path"));
                vec![text(stand, "name"), base, text(stand, "received"), held.collect::<Vec<_>>().join(", ")]
            })
            .collect();
        print::table(&["stand-in", "base URL", "received", "holds"], &rows);
        Ok(Exit::Well)
    }
}

fn failed(failed: Failed) -> app::Fault {
    match failed {
        Failed::Stand(NoStand::Unknown(reason)) => app::Fault::Usage(reason),
        Failed::Stand(NoStand::Faulty { diagnostics, sources }) => {
            app::Fault::Invalid { diagnostics, sources, files: 1 }
        }
        Failed::Port(port, error) => app::Fault::Usage(format!(
            "cannot listen at port {port}: {error}; `--port` names another, `--port 0` a free one"
        )),
    }
}

/// Says what the stand-ins have received.
pub(super) fn tell(world: &World) {
    for (name, seen) in world.asked() {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for one in &seen {
            let operation =
                one.operation.as_deref().map_or_else(|| format!("{} {}", one.method, one.path), str::to_owned);
            *counts.entry(operation).or_default() += 1;
        }
        let counts = counts.into_iter().map(|(name, count)| format!("{name} {count}"));
        let asked = if seen.len() == 1 { "request" } else { "requests" };
        print::talk(&format!("sandbox: {name} {} {asked}: {}", seen.len(), counts.collect::<Vec<_>>().join(", ")));
    }
}
