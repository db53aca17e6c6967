//! The language server: what the checker knows, while a file is being written.
//!
//! ```text
//! editor ──> wire ──> server ── edits ──> state (texts over the disk) ──> check (a thread; only what changed) ──> diagnostics
//!                        └── requests ──> view (place, tree, what is known of it) ──> complete, hover, names, …
//! ```
//!
//! Requests are answered by the loop itself, from the texts as they are and from what the last check found; so an answer
//! never waits for a check. A check begins when nothing is left to answer, and one a project is under way at most.

mod actions;
mod check;
mod complete;
mod context;
mod expression;
mod hover;
mod names;
mod outline;
mod position;
mod prose;
mod rename;
mod schema;
mod server;
mod state;
mod values;
mod view;
mod wire;

use std::io::BufRead;
use std::io::Write;

/// Serves an editor until it says `exit` or goes away; tells whether it took its leave in order. The process is one that
/// only checks from then on.
pub fn serve(input: impl BufRead + Send + 'static, output: impl Write + Send + 'static) -> bool {
    let (incoming, sender, writer) = wire::start(input, output);
    let orderly = server::run(&incoming, sender);
    // What is left to say is said: the writer ends when nobody can say more.
    let _ = writer.join();
    orderly
}
