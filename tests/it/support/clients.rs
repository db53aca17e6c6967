//! Where the programs of others are, which `scripts/test` installs; and a client of the tests' own.

use std::path::PathBuf;

use pipewright::http::Request;
use pipewright::http::ReqwestTransport;
use pipewright::http::Transport;

/// Returns the path of a program or script that is installed for the tests.
#[expect(clippy::disallowed_methods, reason = "the test is told by the environment where its servers are")]
pub(crate) fn installed(name: &str) -> PathBuf {
    let given = std::env::var_os("TEST_CLIENTS").map(PathBuf::from);
    let kept = || PathBuf::from(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().join("test-clients");
    let path = given.unwrap_or_else(kept).join(name);
    assert!(path.exists(), "{} is not installed: run ./scripts/test", path.display());
    path
}

/// Asks for a page and returns its text.
pub(crate) fn get(url: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let answer = runtime.block_on(ReqwestTransport::new().send(Request::new("GET", url))).unwrap();
    assert_eq!(answer.status, 200, "{url}");
    String::from_utf8(answer.body).unwrap()
}
