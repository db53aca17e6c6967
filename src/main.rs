//! The `pipewright` program: parses arguments, runs the command, turns the result into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(pipewright::cli::main().code())
}
