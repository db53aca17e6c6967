//! `pipewright lsp`.

use clap::Args;

use super::Exit;
use crate::app::Fault;
use crate::lsp;

/// Serves an editor over stdin and stdout, in the language server protocol; docs/editor.md says how to set editors up.
#[derive(Debug, Args)]
pub(super) struct Lsp {
    /// Use stdin and stdout, as is done anyway; some editors say so.
    #[arg(long)]
    stdio: bool,
}

impl Lsp {
    pub(super) async fn execute(self) -> Result<Exit, Fault> {
        let serve = || lsp::serve(std::io::BufReader::new(std::io::stdin()), std::io::stdout());
        let orderly = tokio::task::spawn_blocking(serve).await.map_err(anyhow::Error::from)?;
        Ok(if orderly { Exit::Well } else { Exit::Failed })
    }
}
