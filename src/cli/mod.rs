//! The command line: one file for each command.
//!
//! stdout is data, stderr is talk. Exit codes: 0 well, 1 the run failed, 2 wrong usage or an invalid file, 3 something
//! is in doubt or waits for a person, 4 a plan no longer holds, 130 stopped by Ctrl-C.

mod approvals;
mod auth;
mod backfill;
mod complete;
mod connectors;
mod daemon;
mod diff;
mod effects;
mod eval;
mod explain;
mod fmt;
mod graph;
mod init;
mod interrupts;
mod lessons;
mod lsp;
mod nodes;
mod person;
mod plan;
mod posts;
mod preview;
mod print;
mod progress;
mod prune;
mod replay;
mod run;
mod runs;
mod sandbox;
mod schedules;
mod schema;
mod screen;
mod secrets;
mod status;
mod test;
mod usage;
mod validate;
mod watch;
mod why;
mod wire;
mod workers;

use clap::Parser;
use clap::Subcommand;

use crate::app::Fault;
use crate::app::Rehearsal;

/// Runs declarative pipelines: checked before they start, durable while they run, no effect done twice.
#[derive(Debug, Parser)]
#[command(name = "pipewright", version, arg_required_else_help = true, propagate_version = true)]
#[command(
    after_help = "Exit codes: 0 well, 1 the run failed, 2 wrong usage or an invalid file,\n            3 something is in doubt or waits for a person, 4 a plan no longer holds,\n            130 stopped by Ctrl-C"
)]
pub struct Arguments {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, clap::Args)]
pub struct Global {
    /// The project's folder; by default the nearest one above with a pipewright.yaml, else the current one.
    #[arg(long, global = true, value_name = "DIR")]
    project: Option<std::path::PathBuf>,
    /// How much is logged to stderr: error, warn, info, debug, trace [env: PIPEWRIGHT_LOG] [default: warn; of the daemon info]
    #[arg(long, global = true, value_name = "LEVEL")]
    log: Option<tracing::Level>,
    /// Whether to color what people read.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    color: Color,
    /// Rehearse: stand-ins answer for every system outside, and runs are kept apart from the real ones. With an address,
    /// those that `pipewright sandbox` serves there.
    #[arg(long, global = true, value_name = "URL", num_args = 0..=1, require_equals = true)]
    sandbox: Option<Option<String>>,
}

impl Global {
    /// Returns what stands in for the world outside, where that is asked for.
    fn rehearsal(&self) -> Option<Rehearsal> {
        self.sandbox.clone().map(|url| Rehearsal { url, ..Rehearsal::default() })
    }
}

/// When to color.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a project that runs at once.
    Init(init::Init),
    /// Run a pipeline, by file or by name.
    Run(run::Run),
    /// Show what a run would do to the world, before it does it.
    Plan(plan::Planning),
    /// Do exactly what a plan says, as long as it holds.
    Apply(plan::Apply),
    /// Execute what is queued or waits, until it is told to end.
    Daemon(daemon::Daemon),
    /// Check pipeline files, all faults of all files in one go.
    Validate(validate::Validate),
    /// Bring files into the one layout; comments stay, and what the files mean.
    Fmt(fmt::Fmt),
    /// Serve an editor: faults while you type, completion, definitions, renaming.
    Lsp(lsp::Lsp),
    /// Check files whenever they are saved, and run what was edited.
    Watch(watch::Watch),
    /// Run the tests of pipelines: against stand-ins, on virtual time.
    Test(test::Test),
    /// Show how a post would look on each platform, and what they refuse.
    Preview(preview::Preview),
    /// Draw the steps of a pipeline, colored by outcome where a run is named.
    Graph(graph::Graph),
    /// Run again, offline, what was recorded or what the store keeps, and show which effects differ.
    Replay(replay::Replay),
    /// Say in words what differs between two versions of a pipeline.
    Diff(diff::Diff),
    /// Evaluate an expression over a run that is stored, or over inputs alone.
    Eval(eval::Eval),
    /// Show what runs, waits, is late, or is in doubt.
    Status(status::Status),
    /// List the daemons that work on this project.
    Workers(workers::Workers),
    /// Say why a run, a step or a schedule is as it is.
    #[command(subcommand)]
    Why(why::Why),
    /// List runs, look into them, cancel, retry or resume them.
    #[command(subcommand)]
    Runs(runs::Runs),
    /// List what waits for people to decide, and decide it.
    #[command(subcommand)]
    Approvals(approvals::Approvals),
    /// List, show, cancel and reschedule posts of the publishing calendar.
    #[command(subcommand)]
    Posts(posts::Posts),
    /// List, show, retire and restore what posts have taught.
    #[command(subcommand)]
    Lessons(lessons::Lessons),
    /// List what is due when, and look ahead.
    #[command(subcommand)]
    Schedules(schedules::Schedules),
    /// Make up for slots of a schedule that have no run.
    Backfill(backfill::Arguments),
    /// List writes to the outside world, and settle those in doubt.
    #[command(subcommand)]
    Effects(effects::Effects),
    /// Show what requests to outside systems have cost, and what is left of budgets.
    Usage(usage::Usage),
    /// Keep secrets in the store, sealed.
    #[command(subcommand)]
    Secrets(secrets::Secrets),
    /// Log in to outside systems, see what expires when, renew, log out.
    #[command(subcommand)]
    Auth(auth::Auth),
    /// List connectors, show what they can do, make one, hold one against its examples.
    #[command(subcommand)]
    Connectors(connectors::Connectors),
    /// Serve stand-ins of outside systems on loopback, to rehearse against.
    Sandbox(sandbox::Sandbox),
    /// List what `uses` can name, or explain one node.
    Nodes(nodes::Nodes),
    /// Print a page of the documentation.
    Docs(explain::Docs),
    /// Explain the code of a diagnostic, e.g. `unknown-step`.
    Explain(explain::Explain),
    /// Print the JSON Schema of a kind of file, for editors.
    Schema(schema::Schema),
    /// Print the completion script of a shell.
    Completions(explain::Completions),
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Well,
    Failed,
    /// Wrong usage, or an invalid file.
    Wrong,
    /// Something is in doubt, or waits for a person.
    Waiting,
    /// A plan no longer holds.
    Stale,
    /// The user stopped it.
    Interrupted,
}

impl Exit {
    /// Returns the documented exit code.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Well => 0,
            Self::Failed => 1,
            Self::Wrong => 2,
            Self::Waiting => 3,
            Self::Stale => 4,
            Self::Interrupted => 130,
        }
    }
}

/// Executes the command line of this process.
#[must_use]
pub fn main() -> Exit {
    if complete::answer() {
        return Exit::Well;
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Help and version are answers, not faults; a closed pipe is nobody's.
            let _ = error.print();
            return if error.use_stderr() { Exit::Wrong } else { Exit::Well };
        }
    };
    // Whoever leaves a program running wants to read what it does.
    let usual =
        if matches!(arguments.command, Command::Daemon(_)) { tracing::Level::INFO } else { tracing::Level::WARN };
    match log_level(&arguments.global, usual) {
        Ok(level) => crate::telemetry::start(level),
        Err(text) => {
            print::error(&text);
            return Exit::Wrong;
        }
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(threads()).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            print::error(&format!("cannot start: {error}"));
            return Exit::Failed;
        }
    };
    let exit = runtime.block_on(dispatch(arguments));
    runtime.shutdown_timeout(std::time::Duration::from_millis(200));
    match exit {
        Ok(exit) => exit,
        Err(fault) => {
            print::fault(&fault);
            match fault {
                Fault::Usage(_) | Fault::Invalid { .. } => Exit::Wrong,
                Fault::Other(_) => Exit::Failed,
            }
        }
    }
}

fn log_level(global: &Global, usual: tracing::Level) -> Result<tracing::Level, String> {
    let stated = crate::app::environment("PIPEWRIGHT_LOG").filter(|text| !text.is_empty());
    match (global.log, stated) {
        (Some(level), _) => Ok(level),
        (None, Some(text)) => text
            .parse()
            .map_err(|_| format!("`PIPEWRIGHT_LOG={text}`: expected one of error, warn, info, debug, trace")),
        (None, None) => Ok(usual),
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 16)
}

async fn dispatch(arguments: Arguments) -> Result<Exit, Fault> {
    let global = arguments.global;
    print::set_color(global.color == Color::Always, global.color == Color::Never);
    match arguments.command {
        Command::Init(command) => command.execute(),
        Command::Run(command) => command.execute(&global).await,
        Command::Plan(command) => command.execute(&global).await,
        Command::Apply(command) => command.execute(&global).await,
        Command::Daemon(command) => command.execute(&global).await,
        Command::Validate(command) => command.execute(&global).await,
        Command::Fmt(command) => command.execute(&global),
        Command::Lsp(command) => command.execute().await,
        Command::Watch(command) => command.execute(&global).await,
        Command::Test(command) => command.execute(&global).await,
        Command::Preview(command) => command.execute(&global),
        Command::Graph(command) => command.execute(&global).await,
        Command::Replay(command) => command.execute(&global).await,
        Command::Diff(command) => command.execute(&global).await,
        Command::Eval(command) => command.execute(&global).await,
        Command::Status(command) => command.execute(&global).await,
        Command::Workers(command) => command.execute(&global).await,
        Command::Why(command) => command.execute(&global).await,
        Command::Runs(command) => command.execute(&global).await,
        Command::Approvals(command) => command.execute(&global).await,
        Command::Posts(command) => command.execute(&global).await,
        Command::Lessons(command) => command.execute(&global).await,
        Command::Schedules(command) => command.execute(&global).await,
        Command::Backfill(command) => command.execute(&global).await,
        Command::Effects(command) => command.execute(&global).await,
        Command::Usage(command) => command.execute(&global).await,
        Command::Secrets(command) => command.execute(&global).await,
        Command::Auth(command) => command.execute(&global).await,
        Command::Connectors(command) => command.execute(&global).await,
        Command::Sandbox(command) => command.execute(&global).await,
        Command::Nodes(command) => command.execute(),
        Command::Docs(command) => command.execute(),
        Command::Explain(command) => command.execute(),
        Command::Schema(command) => command.execute(&global),
        Command::Completions(command) => command.execute(),
    }
}
