//! A PostgreSQL server for the tests: the one of `TEST_POSTGRES_URL`, else one of their own.

use std::net::TcpListener;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;

use sqlx::AssertSqlSafe;
use sqlx::Connection;
use sqlx::Executor;
use sqlx::PgConnection;
use tempfile::TempDir;

pub(crate) struct Server {
    url: String,
    own: Option<Own>,
}

/// A server that ends with the test.
struct Own {
    programs: PathBuf,
    folder: TempDir,
    user: Option<String>,
}

const MISSING: &str = "these tests need PostgreSQL: set TEST_POSTGRES_URL to a server where schemas may be made, or \
                       install its server programs (`./scripts/test` does, or `apt-get install postgresql`)";

impl Server {
    #[expect(clippy::disallowed_methods, reason = "the test is told by the environment which server to use")]
    pub(crate) fn start() -> Self {
        match std::env::var("TEST_POSTGRES_URL") {
            Ok(url) => Self { url, own: None },
            Err(_) => Self::start_own(),
        }
    }

    /// Starts one of its own, which can be restarted.
    pub(crate) fn start_own() -> Self {
        let programs = programs().expect(MISSING);
        let folder = tempfile::Builder::new().prefix("pipewright-pg-").tempdir().unwrap();
        let own = Own { programs, folder, user: other_user() };
        if let Some(user) = &own.user {
            // PostgreSQL refuses to run as root.
            run(Command::new("chown").arg(user).arg(own.folder.path()));
        }
        let data = own.folder.path().join("data");
        run(own
            .command("initdb")
            .args(["-A", "trust", "-U", "pipewright", "-E", "UTF8", "--no-sync", "-D"])
            .arg(&data));
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let socket = own.folder.path().display();
        let options = format!("-c fsync=off -c max_connections=200 -h 127.0.0.1 -p {port} -k {socket}");
        run(own.command("pg_ctl").args(["start", "-w", "-o", &options, "-D"]).arg(&data).arg("-l").arg(own.log()));
        Self { url: format!("postgres://pipewright@127.0.0.1:{port}/postgres"), own: Some(own) }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Ends the server at once, as a crash does, and starts it again.
    pub(crate) fn restart(&self) {
        let own = self.own.as_ref().expect("a server of its own");
        let data = own.folder.path().join("data");
        run(own.command("pg_ctl").args(["restart", "-w", "-m", "immediate", "-D"]).arg(data).arg("-l").arg(own.log()));
    }

    /// Makes an empty schema and returns the URL whose connections live in it.
    pub(crate) fn schema(&self, index: usize) -> String {
        let name = format!("test_{}_{index}", std::process::id());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut connection = PgConnection::connect(&self.url).await.unwrap();
            let sql = format!("DROP SCHEMA IF EXISTS {name} CASCADE; CREATE SCHEMA {name}");
            connection.execute(AssertSqlSafe(sql)).await.unwrap();
            connection.close().await.unwrap();
        });
        let separator = if self.url.contains('?') { '&' } else { '?' };
        format!("{}{separator}options[search_path]={name}", self.url)
    }
}

impl Own {
    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = match &self.user {
            None => Command::new(program),
            Some(user) if exists("setpriv") => {
                let mut command = Command::new("setpriv");
                command.arg(format!("--reuid={user}")).arg("--clear-groups").arg("--regid=65534").arg(program);
                command
            }
            Some(user) => {
                let mut command = Command::new("runuser");
                command.args(["-u", user, "--"]).arg(program);
                command
            }
        };
        command.current_dir(self.folder.path());
        command
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let mut stop = self.command("pg_ctl");
        stop.args(["stop", "-w", "-m", "immediate", "-D"]).arg(self.folder.path().join("data"));
        // The folder goes away in any case; a server that is still there would end for want of it.
        let _ = stop.stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.own.take();
    }
}

/// Finds the folder of the server's programs.
fn programs() -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> = Vec::new();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        folders.extend(versions.flatten().map(|version| version.path().join("bin")));
    }
    folders.sort();
    folders.reverse();
    folders.extend(search_path());
    folders.into_iter().find(|folder| folder.join("initdb").exists() && folder.join("pg_ctl").exists())
}

#[expect(clippy::disallowed_methods, reason = "finds installed programs as a shell would")]
fn search_path() -> Vec<PathBuf> {
    std::env::var_os("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default()
}

fn exists(program: &str) -> bool {
    search_path().iter().any(|folder| folder.join(program).exists())
}

/// Returns the user to run the server as, when the tests run as root.
fn other_user() -> Option<String> {
    let id = Command::new("id").arg("-u").output().unwrap();
    if String::from_utf8_lossy(&id.stdout).trim() != "0" {
        return None;
    }
    let users = std::fs::read_to_string("/etc/passwd").unwrap();
    let known = |name: &&str| users.lines().any(|line| line.starts_with(&format!("{name}:")));
    let user = ["postgres", "nobody"].into_iter().find(known);
    Some(user.expect("a user other than root, `postgres` or `nobody`").to_owned())
}

fn run(command: &mut Command) {
    let log = command.get_current_dir().map(|folder: &Path| folder.join("log"));
    // To files or nowhere: the server would keep a pipe open.
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap();
    let log = log.and_then(|log| std::fs::read_to_string(log).ok()).unwrap_or_default();
    assert!(status.success(), "{command:?} failed: {status}\n{log}");
}
