//! Tokens: had, kept, renewed once, never spent twice. The provider here counts and revokes like a strict one; another
//! one, which this project did not write, is asked in `foreign.rs`.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use pipewright::connector::auth::custody;
use pipewright::connector::auth::custody::Custody;
use pipewright::connector::auth::custody::Wish;
use pipewright::connector::auth::login;
use pipewright::connector::auth::standing;
use pipewright::connector::call::Asked;
use pipewright::connector::call::Stop;
use pipewright::connector::call::call;
use pipewright::connector::connection::Connection;
use pipewright::connector::library;
use pipewright::connector::library::Loaded;
use pipewright::connector::manifest::Manifest;
use pipewright::connector::runtime::Connections;
use pipewright::connector::runtime::Link;
use pipewright::connector::runtime::Runtime;
use pipewright::connector::sign::jwt;
use pipewright::http::Request;
use pipewright::http::ReqwestTransport;
use pipewright::http::Response;
use pipewright::http::Transport;
use pipewright::http::TransportError;
use pipewright::model::Duration;
use pipewright::model::Timestamp;
use pipewright::model::Value;
use pipewright::model::parse_json;
use pipewright::secrets::MasterKey;
use pipewright::store::OpenOptions;
use pipewright::store::Store;
use pipewright::store::TokenState;
use pipewright::system::SimClock;
use pipewright::system::System;
use tokio_util::sync::CancellationToken;

use crate::support::server::Reply;
use crate::support::server::Seen;
use crate::support::server::Server;
use crate::support::shell::Shell;

const ACME: &str = r#"connector: acme
base_url: { api: "{{ config.base_url }}" }
auth:
  oauth2:
    flow: [authorization_code, client_credentials, jwt_bearer, device]
    authorize_url: "{{ base_url.api }}/authorize"
    token_url: "{{ base_url.api }}/token"
    device_url: "{{ base_url.api }}/device"
    revoke: "{{ base_url.api }}/revoke"
    client_auth: "{{ auth.how | default('basic') }}"
    scopes: [read, write]
    jwt: { alg: [ES256, PS256], kid: key-1, ttl: 3m, claims: { sub: "{{ auth.username }}", aud: "{{ base_url.api }}/token", scope: read } }
    token: { instance_url: "{{ body.instance_url }}" }
account: { operation: me, id: "{{ output.id }}" }
operations:
  me: { effect: read, request: { get: /me }, output: { id: "{{ body.id }}" } }
  make: { effect: create, reconcile: none, request: { post: /things, json: { a: 1 } }, output: "{{ body }}" }
"#;

/// What the provider knows.
#[derive(Debug, Default)]
struct Provider(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// How many tokens it has given.
    given: u32,
    /// Refresh tokens that were spent.
    spent: BTreeSet<String>,
    /// How often a spent one came again.
    reused: u32,
    /// Gives no new refresh token.
    keeps: bool,
    /// Answers of the token endpoint before it works.
    next: Vec<Reply>,
    verifier: Option<String>,
    expires_in: Option<&'static str>,
    user: Option<&'static str>,
    extra: String,
}

impl Provider {
    fn start() -> (Arc<Self>, Server) {
        let provider = Arc::new(Self::default());
        let serving = provider.clone();
        (provider, Server::start(move |seen| serving.answer(seen)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn answer(&self, seen: &Seen) -> Reply {
        let mut state = self.lock();
        let path = seen.path.split('?').next().unwrap();
        let form = form(&seen.body);
        let get = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        match path {
            "/me" | "/things" => {
                let expected = format!("Bearer A{}", state.given);
                // What the project file gives has expired long ago.
                if state.given > 0 && seen.header("authorization") == Some(&expected) {
                    return Reply::json(200, &format!(r#"{{"id":"{}"}}"#, state.user.unwrap_or("anna")));
                }
                Reply::json(401, r#"{"error":"invalid_token"}"#)
            }
            "/device" => Reply::json(
                200,
                r#"{"device_code":"D","user_code":"WDJB-MJHT","verification_uri":"https://x.example/d","expires_in":600,"interval":5}"#,
            ),
            "/revoke" => Reply::json(200, "{}"),
            "/token" => {
                if !state.next.is_empty() {
                    return state.next.remove(0);
                }
                match get("grant_type").as_deref() {
                    Some("refresh_token") => {
                        let token = get("refresh_token").unwrap();
                        if !state.keeps && !state.spent.insert(token) {
                            state.reused += 1;
                            return Reply::json(400, r#"{"error":"invalid_grant","error_description":"it was spent"}"#);
                        }
                    }
                    Some("authorization_code") => {
                        let verifier = get("code_verifier").unwrap_or_default();
                        let digest = ring::digest::digest(&ring::digest::SHA256, verifier.as_bytes());
                        let challenge = URL_SAFE_NO_PAD.encode(digest);
                        if get("code").as_deref() != Some("C") || Some(challenge) != state.verifier {
                            return Reply::json(400, r#"{"error":"invalid_grant"}"#);
                        }
                    }
                    _ => {}
                }
                state.given += 1;
                let given = state.given;
                let refresh = if state.keeps { String::new() } else { format!(r#","refresh_token":"R{given}""#) };
                let expires = state.expires_in.unwrap_or("3600");
                let extra = &state.extra;
                Reply::json(
                    200,
                    &format!(
                        r#"{{"access_token":"A{given}","token_type":"bearer","expires_in":{expires}{refresh}{extra}}}"#
                    ),
                )
            }
            _ => Reply::json(404, "{}"),
        }
    }
}

fn form(text: &str) -> Vec<(String, String)> {
    pipewright::connector::body::form::parse(text).unwrap_or_default()
}

fn asked(server: &Server, path: &str) -> usize {
    server.seen().iter().filter(|seen| seen.path == path).count()
}

#[derive(Debug)]
struct To {
    url: String,
    auth: Value,
}

impl Connections for To {
    fn get(&self, name: &str, manifest: &Manifest) -> Result<Connection, String> {
        let settings = Value::map([("base_url", Value::from(self.url.as_str()))]);
        Connection::make(name, manifest, settings, &self.auth, true)
    }
}

/// A process with a store: its memory goes with it.
struct Process {
    custody: Custody,
    link: Link,
}

fn manifest(text: &str) -> Arc<Manifest> {
    match library::read(&"acme.yaml".into(), &text.into()) {
        Loaded::Manifest(manifest) => manifest,
        other => panic!("{other:?}"),
    }
}

fn auth(json: &str) -> Value {
    parse_json(json).unwrap()
}

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const GIVEN: &str = r#"{"client_id":"me","client_secret":"s:e/c","access_token":"A0","refresh_token":"R0"}"#;

impl Process {
    async fn start(folder: &Path, server: &Server, auth: &Value, system: System) -> Self {
        Self::with(folder, server, auth, system, Arc::new(ReqwestTransport::new()), ACME).await
    }

    async fn with(
        folder: &Path,
        server: &Server,
        auth: &Value,
        system: System,
        http: Arc<dyn Transport>,
        text: &str,
    ) -> Self {
        let url = format!("sqlite://{}", folder.join("state.db").display());
        let key = MasterKey::from_base64(KEY).unwrap();
        let options = OpenOptions { sealer: Some(Arc::new(key)), ..OpenOptions::default() };
        let store = Store::open(&url, options).await.unwrap();
        let custody = Custody { store, http, system };
        let runtime = Runtime::new(Arc::new(To { url: server.url.clone(), auth: auth.clone() }));
        let link = runtime.with_custody(custody.clone()).link(&manifest(text), "acme").unwrap();
        Self { custody, link }
    }

    async fn me(&self) -> Result<(), String> {
        let canceled = CancellationToken::new();
        let operation = self.link.manifest.operation("me").unwrap();
        let asked = Asked::new(operation, Value::map::<&str>([]));
        match call(&self.link, &self.custody.means(&canceled), asked).await {
            Ok(_) => Ok(()),
            Err(Stop::Failed(failure)) => Err(failure.message),
            Err(Stop::Later { reason, .. }) => Err(reason),
        }
    }

    async fn renew(&self, wish: Wish) -> Result<(), String> {
        let canceled = CancellationToken::new();
        let oauth2 = self.link.oauth2().unwrap();
        match custody::token(&self.link, &self.custody.means(&canceled), oauth2, wish).await {
            Ok(_) => Ok(()),
            Err(Stop::Failed(failure)) => Err(failure.message),
            Err(Stop::Later { reason, .. }) => Err(reason),
        }
    }

    async fn state(&self) -> TokenState {
        self.custody.store.token("acme").await.unwrap().unwrap().state
    }
}

fn sim() -> (System, SimClock) {
    System::simulated(Timestamp(1_790_000_000_000_000), 7)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn sixteen_tasks_that_are_refused_together_refresh_once() {
    let folder = tempfile::tempdir().unwrap();
    let (provider, server) = Provider::start();
    let process = Arc::new(Process::start(folder.path(), &server, &auth(GIVEN), System::real()).await);
    let tasks: Vec<_> = (0..16)
        .map(|_| {
            let process = process.clone();
            tokio::spawn(async move { process.me().await })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!((asked(&server, "/token"), provider.lock().reused), (1, 0));
}

#[test]
fn four_processes_that_are_refused_together_refresh_once() {
    let (provider, server) = Provider::start();
    let shell = Shell::project();
    shell.file("connectors/acme.yaml", ACME);
    let auth = "{ client_id: me, client_secret: s3cret, access_token: A0, refresh_token: R0 }";
    let connection = format!(
        "connections:\n  acme: {{ connector: acme, base_url: \"{}\", private: true, auth: {auth} }}\n",
        server.url
    );
    shell.file("pipewright.yaml", &connection);
    shell.file("pipelines/me.yaml", "steps: { a: { uses: acme.me } }\noutputs: { id: \"{{ steps.a.output.id }}\" }\n");
    let children: Vec<_> = (0..4)
        .map(|_| {
            let mut command = shell.command(&["run", "pipelines/me.yaml"]);
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
            command.spawn().unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    assert_eq!((asked(&server, "/token"), provider.lock().reused), (1, 0));
    // Neither the store nor what was recorded shows a token.
    let wire = shell.run(&["runs", "show", &shell.last(), "--wire"]);
    assert!(wire.out.contains("/me") && !wire.out.contains("A1"), "{}", wire.out);
    let stored = std::fs::read(shell.path().join(".pipewright/state.db")).unwrap();
    let stored = String::from_utf8_lossy(&stored);
    assert!(!stored.contains("\"R1\"") && !stored.contains("\"A1\""));
}

/// Stops for good at a point of a token request: what a killed process looks like from outside.
#[derive(Debug)]
struct Killed {
    inner: ReqwestTransport,
    after_answer: bool,
}

#[async_trait]
impl Transport for Killed {
    async fn send(&self, request: Request) -> Result<Response, TransportError> {
        if request.url.ends_with("/token") {
            if self.after_answer {
                let _ = self.inner.send(request).await;
            }
            return std::future::pending().await;
        }
        self.inner.send(request).await
    }
}

/// Runs a process until it stands still in a token request, and ends it there.
fn killed(folder: &Path, server: &Server, system: &System, after_answer: bool) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let http = Arc::new(Killed { inner: ReqwestTransport::new(), after_answer });
        let process = Process::with(folder, server, &auth(GIVEN), system.clone(), http, ACME).await;
        let seen = if after_answer { asked(server, "/token") } else { 0 };
        let store = process.custody.store.clone();
        let renewing = tokio::spawn(async move { process.renew(Wish { force: true, ..Wish::default() }).await });
        loop {
            let marked = store.token("acme").await.unwrap().is_some_and(|row| row.state == TokenState::Spending);
            if marked && (!after_answer || asked(server, "/token") > seen) {
                break;
            }
            assert!(!renewing.is_finished());
            tokio::task::yield_now().await;
        }
    });
    runtime.shutdown_timeout(std::time::Duration::from_millis(50));
}

#[test]
fn a_process_killed_in_a_refresh_leaves_a_state_that_is_explained_and_nothing_is_spent_twice() {
    for after_answer in [false, true] {
        let folder = tempfile::tempdir().unwrap();
        let (provider, server) = Provider::start();
        let (system, clock) = sim();
        killed(folder.path(), &server, &system, after_answer);
        let sent = asked(&server, "/token");
        // Whoever comes next waits for the right to lapse, and then does not send it again.
        clock.advance(Duration::from_secs(31));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let process = Process::start(folder.path(), &server, &auth(GIVEN), system.clone()).await;
            let error = process.me().await.unwrap_err();
            assert!(error.contains("It may be spent") && error.contains("auth login acme"), "{error}");
            assert_eq!((asked(&server, "/token"), process.state().await), (sent, TokenState::Spending));
            let report = standing::report(&process.link, system.clock.now()).await.unwrap();
            assert_eq!(report.standing, standing::Standing::Spending);
            // A person may try once more, and knows what that may do.
            let again = process.renew(Wish { force: true, again: true, ..Wish::default() }).await;
            match after_answer {
                false => assert_eq!(again, Ok(())),
                true => assert!(again.unwrap_err().contains("invalid_grant")),
            }
        });
        assert_eq!(provider.lock().reused, u32::from(after_answer));
    }
}

/// Kills the program itself (SIGKILL) a moment after a request has arrived, and lets another one go on. Returns where
/// the tokens stood.
fn kill_after(path: &'static str, delay: std::time::Duration, answered: bool) -> TokenState {
    let (provider, _) = Provider::start();
    let serving = provider.clone();
    let (arrived, arrival) = std::sync::mpsc::channel();
    let hold = std::sync::atomic::AtomicBool::new(!answered);
    let server = Server::start(move |seen| {
        let reply = serving.answer(seen);
        if seen.path == path {
            let _ = arrived.send(());
            if hold.swap(false, std::sync::atomic::Ordering::Relaxed) {
                return Reply::Silence;
            }
        }
        reply
    });
    let shell = Shell::project();
    shell.file("connectors/acme.yaml", ACME);
    let auth_of = "{ client_id: me, client_secret: s3cret, access_token: A0, refresh_token: R0 }";
    let connection = format!(
        "connections: {{ acme: {{ connector: acme, base_url: \"{}\", private: true, auth: {auth_of} }} }}\n",
        server.url
    );
    shell.file("pipewright.yaml", &connection).file("pipelines/me.yaml", "steps: { a: { uses: acme.me } }\n");
    let mut command = shell.command(&["run", "pipelines/me.yaml"]);
    command.env("PIPEWRIGHT_MASTER_KEY", KEY).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    arrival.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
    std::thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
    let sent = asked(&server, "/token");

    // The right of the one who is gone has lapsed.
    let (system, _) = System::simulated(System::real().clock.now().plus(Duration::from_secs(31)), 7);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let folder = shell.path().join(".pipewright");
        let process = Process::start(&folder, &server, &auth(GIVEN), system).await;
        let state = process.custody.store.token("acme").await.unwrap().map_or(TokenState::Kept, |row| row.state);
        let ended = process.me().await;
        match state {
            TokenState::Kept => assert_eq!(ended, Ok(()), "{path} {delay:?}"),
            _ => {
                let error = ended.unwrap_err();
                assert!(error.contains("It may be spent") && error.contains("auth login acme"), "{error}");
                assert_eq!(asked(&server, "/token"), sent, "{path} {delay:?}");
            }
        }
        assert_eq!(provider.lock().reused, 0, "{path} {delay:?}");
        state
    })
}

#[test]
fn a_program_that_is_killed_at_any_moment_of_a_refresh_never_spends_a_token_twice() {
    let millis = |tenths: u64| std::time::Duration::from_micros(tenths * 100);
    assert_eq!(kill_after("/token", millis(0), false), TokenState::Spending);
    for tenths in [0, 1, 2, 4, 7, 11, 16, 25, 40, 70] {
        kill_after("/me", millis(tenths), true);
        kill_after("/token", millis(tenths), true);
    }
    assert_eq!(kill_after("/token", millis(10_000), true), TokenState::Kept);
}

#[tokio::test]
async fn a_right_to_renew_whose_owner_is_gone_lapses() {
    let folder = tempfile::tempdir().unwrap();
    let (_, server) = Provider::start();
    let (system, clock) = sim();
    let process = Process::start(folder.path(), &server, &auth(GIVEN), system.clone()).await;
    let now = system.clock.now();
    let until = now.plus(Duration::from_secs(30));
    // It was taken, and the process died before anything was sent.
    assert!(process.custody.store.claim_token("acme", "gone", now, until).await.unwrap().is_some());
    let moving = tokio::spawn(async move {
        loop {
            clock.advance(Duration::from_millis(100));
            tokio::task::yield_now().await;
        }
    });
    process.me().await.unwrap();
    moving.abort();
    assert!(system.clock.now() >= until);
    assert_eq!(asked(&server, "/token"), 1);
}

#[tokio::test]
async fn a_rotated_token_is_found_by_the_next_process() {
    let folder = tempfile::tempdir().unwrap();
    let (provider, server) = Provider::start();
    let (system, clock) = sim();
    // A number as text, as some providers give it.
    provider.lock().expires_in = Some("\"3600\"");
    for round in 1..=3 {
        let process = Process::start(folder.path(), &server, &auth(GIVEN), system.clone()).await;
        process.me().await.unwrap();
        process.me().await.unwrap();
        assert_eq!((asked(&server, "/token"), provider.lock().reused), (round, 0));
        // A minute before it expires it is renewed without a refusal.
        clock.advance(Duration::from_secs(3_541));
        process.custody.store.close().await.unwrap();
    }
    let refused = server.seen().iter().filter(|seen| seen.header("authorization") == Some("Bearer A0")).count();
    assert_eq!(refused, 1);
    let spent: Vec<_> = provider.lock().spent.iter().cloned().collect();
    assert_eq!(spent, ["R0", "R1", "R2"]);
}

#[tokio::test]
async fn what_the_provider_says_decides_what_becomes_of_a_token() {
    let refusal = |status, body: &str| Reply::json(status, body);
    let cases = [
        // Nothing was spent: the next try may succeed.
        (refusal(503, "{}"), "503", TokenState::Kept, true),
        (refusal(429, r#"{"error":"slow"}"#), "429", TokenState::Kept, true),
        (refusal(400, r#"{"error":"temporarily_unavailable"}"#), "temporarily", TokenState::Kept, true),
        (refusal(401, r#"{"error":"invalid_client"}"#), "refuses the client", TokenState::Kept, true),
        // The grant is gone.
        (refusal(400, r#"{"error":"invalid_grant"}"#), "auth login acme", TokenState::Broken, false),
        // Nobody knows.
        (Reply::Drop, "It may be spent", TokenState::Spending, false),
        (refusal(502, "<html>"), "It may be spent", TokenState::Spending, false),
        (refusal(200, r#"{"token_type":"bearer"}"#), "It may be spent", TokenState::Spending, false),
    ];
    for (reply, expected, state, goes_on) in cases {
        let folder = tempfile::tempdir().unwrap();
        let (provider, server) = Provider::start();
        provider.lock().next.push(reply);
        let process = Process::start(folder.path(), &server, &auth(GIVEN), System::real()).await;
        let error = process.me().await.unwrap_err();
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(!error.contains("R0") && !error.contains("s:e/c"), "{error}");
        assert_eq!(process.state().await, state, "{expected}");
        let sent = asked(&server, "/token");
        assert_eq!(process.me().await.is_ok(), goes_on, "{expected}");
        assert_eq!(asked(&server, "/token"), if goes_on { sent + 1 } else { sent }, "{expected}");
    }
}

#[tokio::test]
async fn a_token_that_is_still_good_serves_while_it_cannot_be_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let (provider, server) = Provider::start();
    let (system, clock) = sim();
    let process = Process::start(folder.path(), &server, &auth(GIVEN), system).await;
    process.me().await.unwrap();
    clock.advance(Duration::from_secs(3_550));
    provider.lock().next.push(Reply::json(503, "{}"));
    process.me().await.unwrap();
    process.me().await.unwrap();
    // It was tried once, and rests before the next try.
    assert_eq!(asked(&server, "/token"), 2);
}

#[tokio::test]
async fn a_refresh_token_that_does_not_rotate_may_be_sent_again() {
    let folder = tempfile::tempdir().unwrap();
    let (provider, server) = Provider::start();
    provider.lock().keeps = true;
    let process = Process::start(folder.path(), &server, &auth(GIVEN), System::real()).await;
    process.me().await.unwrap();
    provider.lock().next.push(Reply::Drop);
    process.renew(Wish { force: true, ..Wish::default() }).await.unwrap_err();
    process.renew(Wish { force: true, ..Wish::default() }).await.unwrap();
}

#[tokio::test]
async fn flows_without_a_person_show_who_they_are() {
    let key = std::fs::read_to_string("tests/keys/ec256.pem").unwrap();
    let public = std::fs::read_to_string("tests/keys/ec256-public.pem").unwrap();
    let given = |flow: &str, how: &str| {
        Value::map([
            ("flow", Value::from(flow)),
            ("how", Value::from(how)),
            ("client_id", Value::from("me")),
            ("client_secret", Value::from("s:e/c")),
            ("username", Value::from("bot@acme.example")),
            ("private_key", Value::from(key.as_str())),
        ])
    };
    for (flow, how) in [
        ("client_credentials", "basic"),
        ("client_credentials", "basic_raw"),
        ("client_credentials", "post"),
        ("client_credentials", "none"),
        ("client_credentials", "private_key_jwt"),
        ("jwt_bearer", "none"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (_, server) = Provider::start();
        let process = Process::start(folder.path(), &server, &given(flow, how), System::real()).await;
        process.me().await.unwrap();
        process.me().await.unwrap();
        let seen = server.seen().into_iter().find(|seen| seen.path == "/token").unwrap();
        let form = form(&seen.body);
        let get = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        assert_eq!(asked(&server, "/token"), 1);
        let settings = jwt::Settings { alg: "ES256", kid: Some("key-1"), key: &public };
        match how {
            // id and secret are percent-encoded first (RFC 6749, 2.3.1).
            "basic" => assert_eq!(seen.header("authorization"), Some("Basic bWU6cyUzQWUlMkZj")),
            "basic_raw" => assert_eq!(seen.header("authorization"), Some("Basic bWU6czplL2M=")),
            "post" => assert_eq!((get("client_id"), get("client_secret")), (Some("me"), Some("s:e/c"))),
            "private_key_jwt" => {
                let claims = jwt::verify(get("client_assertion").unwrap(), &settings).unwrap();
                assert_eq!(claims.get("iss").unwrap().to_text(), "me");
                assert_eq!(claims.get("aud").unwrap().to_text(), format!("{}/token", server.url));
                assert!(claims.get("jti").is_some());
            }
            _ => assert_eq!(get("client_id"), Some("me")),
        }
        if flow == "jwt_bearer" {
            let claims = jwt::verify(get("assertion").unwrap(), &settings).unwrap();
            assert_eq!(claims.get("sub").unwrap().to_text(), "bot@acme.example");
        } else {
            assert_eq!(get("scope"), Some("read write"));
        }
    }
}

#[tokio::test]
async fn a_url_of_a_tokens_answer_must_be_ours() {
    let folder = tempfile::tempdir().unwrap();
    let (provider, server) = Provider::start();
    provider.lock().extra = r#","instance_url":"https://evil.example""#.to_owned();
    let process = Process::start(folder.path(), &server, &auth(GIVEN), System::real()).await;
    let error = process.me().await.unwrap_err();
    assert!(error.contains("names `evil.example`"), "{error}");
}

/// What a browser sends back after a person has agreed.
fn agreed(provider: &Provider, url: &str) -> (String, String) {
    let query = form(url.split_once('?').unwrap().1);
    let get = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()).unwrap();
    assert_eq!((get("scope"), get("code_challenge_method")), ("read write".to_owned(), "S256".to_owned()));
    provider.lock().verifier = Some(get("code_challenge"));
    (get("redirect_uri"), format!("code=C&state={}", get("state")))
}

const CLIENT: &str = r#"{"client_id":"me","client_secret":"s3cret"}"#;

#[tokio::test]
async fn another_user_does_not_take_a_connection_over() {
    let folder = tempfile::tempdir().unwrap();
    let (provider, server) = Provider::start();
    let process = Process::start(folder.path(), &server, &auth(CLIENT), System::real()).await;
    let oauth2 = process.link.oauth2().unwrap();
    let log_in = async || {
        let begun = login::begin(&process.link, &process.custody, oauth2, "http://127.0.0.1:1/callback").unwrap();
        let (_, query) = agreed(&provider, &begun.url);
        login::finish(&process.link, &process.custody, oauth2, &begun, &query).await
    };
    let error = process.me().await.unwrap_err();
    assert!(error.contains("auth login acme"), "{error}");
    assert_eq!(log_in().await.unwrap().account.as_deref(), Some("anna"));
    process.me().await.unwrap();
    provider.lock().user = Some("bert");
    let Err(Stop::Failed(failure)) = log_in().await else { panic!("bert took it over") };
    assert!(failure.message.contains("belongs to the account `anna`, and `bert`"), "{}", failure.message);
    assert_eq!(login::logout(&process.link, &process.custody, oauth2).await.unwrap(), (true, None));
    assert_eq!(asked(&server, "/revoke"), 2);
    assert_eq!(log_in().await.unwrap().account.as_deref(), Some("bert"));
}

#[tokio::test]
async fn a_device_is_polled_at_the_pace_that_the_provider_wants() {
    let folder = tempfile::tempdir().unwrap();
    let (provider, server) = Provider::start();
    let (system, clock) = sim();
    let given = auth(r#"{"client_id":"me","flow":"device","how":"none"}"#);
    let process = Process::start(folder.path(), &server, &given, system.clone()).await;
    let oauth2 = process.link.oauth2().unwrap();
    provider.lock().next =
        vec![Reply::json(400, r#"{"error":"authorization_pending"}"#), Reply::json(400, r#"{"error":"slow_down"}"#)];
    let device = login::begin_device(&process.link, &process.custody, oauth2).await.unwrap();
    assert_eq!(device.user_code, "WDJB-MJHT");
    let began = system.clock.now();
    let moving = tokio::spawn(async move {
        loop {
            clock.advance(Duration::from_millis(100));
            tokio::task::yield_now().await;
        }
    });
    login::finish_device(&process.link, &process.custody, oauth2, &device).await.unwrap();
    moving.abort();
    // 5 + 5 + 10 seconds.
    assert!(system.clock.now().since(began) >= Duration::from_secs(20));
    assert_eq!(asked(&server, "/token"), 3);
    process.me().await.unwrap();
}

const CHAIN: &str = r#"connector: acme
base_url: { api: "{{ config.base_url }}", token: "{{ config.base_url }}/v1" }
auth:
  oauth2:
    flow: authorization_code
    authorize_url: "{{ base_url.api }}/authorize"
    scopes: [basic, publish]
    scope_separator: ","
    pkce: false
    send: { query: { access_token: "{{ auth.access_token }}" } }
    exchange:
      - { request: { post: /short, form: { code: "{{ auth.code | replace('#_', '') }}", redirect_uri: "{{ auth.redirect_uri }}" } }, token: { access_token: "{{ body.data[0].access_token }}", user_id: "{{ body.data[0].user_id }}" } }
      - { base: token, request: { get: /long, query: { access_token: "{{ auth.access_token }}" } } }
    refresh: { base: token, request: { get: /again, query: { access_token: "{{ auth.access_token }}" } }, due: 50d, not_before: 24h }
operations:
  me: { effect: read, request: { get: "/{{ auth.user_id }}" }, output: "{{ body }}" }
"#;

#[tokio::test]
async fn a_vendor_off_the_rfc_is_a_chain_of_requests_and_a_calendar() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|seen| match seen.path.as_str() {
        "/short" => Reply::json(200, r#"{"data":[{"access_token":"short","user_id":"u9"}]}"#),
        "/v1/long?access_token=short" => Reply::json(200, r#"{"access_token":"long","expires_in":5184000}"#),
        "/v1/again?access_token=long" => Reply::json(200, r#"{"access_token":"longer","expires_in":5184000}"#),
        "/u9?access_token=long" | "/u9?access_token=longer" => Reply::json(200, "{}"),
        _ => Reply::json(401, "{}"),
    });
    let (system, clock) = sim();
    let http = Arc::new(ReqwestTransport::new());
    let process = Process::with(folder.path(), &server, &auth(CLIENT), system, http, CHAIN).await;
    let oauth2 = process.link.oauth2().unwrap();
    let begun = login::begin(&process.link, &process.custody, oauth2, "https://acme.example/back").unwrap();
    assert!(begun.url.contains("scope=basic%2Cpublish") && !begun.url.contains("code_challenge"), "{}", begun.url);
    let returned = format!("https://acme.example/back?code=C%23_&state={}#_", begun.state);
    login::finish(&process.link, &process.custody, oauth2, &begun, &returned).await.unwrap();
    process.me().await.unwrap();
    clock.advance(Duration::from_secs(49 * 86_400));
    process.me().await.unwrap();
    assert_eq!(asked(&server, "/v1/again?access_token=long"), 0);
    clock.advance(Duration::from_secs(2 * 86_400));
    process.me().await.unwrap();
    process.me().await.unwrap();
    assert_eq!(asked(&server, "/v1/again?access_token=long"), 1);
    assert_eq!(server.seen()[0].body, "code=C&redirect_uri=https%3A%2F%2Facme.example%2Fback");
}

#[test]
fn a_person_logs_in_looks_and_logs_out_on_the_command_line() {
    use std::io::BufRead;
    let (provider, server) = Provider::start();
    let shell = Shell::project();
    shell.file("connectors/acme.yaml", ACME);
    shell.file(
        "pipewright.yaml",
        &format!(
            "connections:\n  acme: {{ connector: acme, base_url: \"{}\", private: true, auth: {{ client_id: me, client_secret: s3cret }} }}\n",
            server.url
        ),
    );
    let before = shell.run(&["auth", "doctor"]);
    assert_eq!(
        (before.code, before.out.as_str()),
        (3, "✗ acme: nobody has logged in yet: `pipewright auth login acme`\n")
    );
    let mut command = shell.command(&["auth", "login", "acme", "--no-browser"]);
    let mut child = command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut url = String::new();
    std::io::BufReader::new(child.stdout.take().unwrap()).read_line(&mut url).unwrap();
    let (redirect, query) = agreed(&provider, url.trim());
    let get = |url: String| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(ReqwestTransport::new().send(Request::new("GET", &url))).unwrap()
    };
    // An answer to another question is turned away, and the right one still counts.
    assert_eq!(get(format!("{redirect}?code=C&state=other")).status, 400);
    let page = get(format!("{redirect}?{query}"));
    assert_eq!(page.status, 200);
    assert!(String::from_utf8(page.body).unwrap().contains("close this window"));
    let output = child.wait_with_output().unwrap();
    let talk = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && talk.contains("acme: logged in as anna; the token lasts 59 min"), "{talk}");
    let status = shell.run(&["auth", "status"]);
    assert!(status.out.contains("anna") && status.out.contains("good"), "{}", status.out);
    let doctor = shell.run(&["auth", "doctor"]);
    assert_eq!(doctor.code, 0, "{}", doctor.out);
    assert!(doctor.out.contains("✓ acme: good, the token lasts 59 min, we are anna"), "{}", doctor.out);
    assert_eq!(shell.run(&["auth", "refresh", "acme"]).code, 0);
    assert_eq!(shell.run(&["auth", "logout", "acme"]).err, "acme: logged out\n");
    assert_eq!(shell.run(&["auth", "doctor"]).code, 3);
    assert_eq!(shell.run(&["auth", "login", "nobody"]).code, 2);
}
