//! The network transport and `http.request`, against a server that counts what arrives.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration as StdDuration;

use pipewright::http::Fault;
use pipewright::http::FaultyTransport;
use pipewright::http::RecordedTransport;
use pipewright::http::Request;
use pipewright::http::ReqwestTransport;
use pipewright::http::Response;
use pipewright::http::Transport;
use pipewright::http::TransportError;
use pipewright::model::Duration;
use pipewright::model::ErrorClass;
use pipewright::model::Happened;
use pipewright::model::Repeat;
use pipewright::model::Value;
use pipewright::node::Outcome;
use pipewright::node::Reconciled;
use pipewright::nodes::registry;
use tokio::task::JoinSet;

use crate::support::bench::Bench;
use crate::support::server::Answer;
use crate::support::server::Reply;
use crate::support::server::Server;

fn short(method: &str, url: &str) -> Request {
    Request { timeout: Duration::from_millis(300), ..Request::new(method, url) }
}

#[tokio::test]
async fn what_fails_before_the_first_byte_is_known_not_to_have_been_sent() {
    let transport = ReqwestTransport::new();
    let closed = {
        let listener = std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        listener.local_addr().unwrap()
    };
    // It accepts connections and never says a word, so a TLS handshake never ends.
    let mute = std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let urls = [
        format!("http://{closed}/"),
        format!("https://{closed}/"),
        format!("https://{}/", mute.local_addr().unwrap()),
        "http://name.invalid/".to_owned(),
        "ftp://127.0.0.1/".to_owned(),
        "not a url".to_owned(),
    ];
    for url in urls {
        for method in ["POST", "DELETE"] {
            let request = Request { body: b"x".to_vec(), ..short(method, &url) };
            let error = transport.send(request).await.unwrap_err();
            assert!(error.nothing_was_sent(), "{method} {url}: {error:?}");
        }
    }
    for (name, value) in [("a b", "x"), ("a", "x\ny")] {
        let headers = vec![(name.to_owned(), value.to_owned())];
        let error = transport.send(Request { headers, ..short("POST", "http://127.0.0.1/") }).await.unwrap_err();
        assert!(error.nothing_was_sent() && !error.to_string().contains("x\ny"), "{error:?}");
    }
}

#[tokio::test]
async fn what_fails_after_sending_may_have_happened() {
    for (reply, timeout) in [(Reply::Drop, false), (Reply::Cut, false), (Reply::Silence, true)] {
        let server = Server::start(move |_| reply.clone());
        for body in [&b"x"[..], b""] {
            let request = Request { body: body.to_vec(), ..short("POST", &server.url) };
            let error = ReqwestTransport::new().send(request).await.unwrap_err();
            assert!(!error.nothing_was_sent(), "{error:?}");
            assert_eq!(matches!(error, TransportError::Timeout { .. }), timeout, "{error:?}");
        }
        assert_eq!(server.seen().len(), 2, "each request is sent once");
    }
}

#[tokio::test]
async fn a_connection_that_the_server_closed_in_between_is_not_used_for_a_lost_request() {
    let server = Server::start(|seen| if seen.path == "/drop" { Reply::Drop } else { Reply::json(200, "1") });
    let transport = ReqwestTransport::new();
    transport.send(short("GET", &server.url)).await.unwrap();
    let error = transport.send(short("POST", &format!("{}/drop", server.url))).await.unwrap_err();
    assert!(!error.nothing_was_sent());
    assert_eq!(transport.send(short("POST", &server.url)).await.unwrap().status, 200);
    assert_eq!(server.seen().len(), 3);
}

#[tokio::test]
async fn a_bomb_is_stopped_while_it_unpacks() {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let zeros = vec![b'0'; 1 << 20];
    for _ in 0..64 {
        packer.write_all(&zeros).unwrap();
    }
    let bomb = packer.finish().unwrap();
    let headers = vec![("Content-Encoding".to_owned(), "gzip".to_owned())];
    let answer = Answer { status: 200, headers, body: bomb };
    let server = Server::start(move |_| Reply::Answer(answer.clone()));
    let request = |max_body| Request { max_body, ..Request::new("GET", &server.url) };
    let transport = ReqwestTransport::new();
    let error = transport.send(request(1 << 20)).await.unwrap_err();
    assert!(matches!(error, TransportError::TooLarge { limit: 1_048_576, .. }), "{error:?}");
    assert_eq!(transport.send(request(64 << 20)).await.unwrap().body.len(), 64 << 20);
}

#[tokio::test]
async fn redirects_are_followed_where_asked_and_never_to_another_origin() {
    let other = Server::start(|_| Reply::json(200, "\"stolen\""));
    let away = other.url.clone();
    let server = Server::start(move |seen| match seen.path.as_str() {
        "/a" => Reply::json(302, "").with_header("Location", "/b"),
        "/b" => Reply::json(307, "").with_header("Location", "/c"),
        "/away" => Reply::json(302, "").with_header("Location", &away),
        _ => Reply::json(200, "1"),
    });
    let cases = [
        ("GET", "/a", 0, 302),
        ("GET", "/a", 1, 307),
        ("GET", "/a", 2, 200),
        ("GET", "/away", 5, 302),
        ("POST", "/a", 5, 302),
    ];
    for (method, path, redirects, expected) in cases {
        let request = Request { redirects, ..short(method, &format!("{}{path}", server.url)) };
        let status = ReqwestTransport::new().send(request).await.unwrap().status;
        assert_eq!(status, expected, "{method} {path} {redirects}");
    }
    assert!(other.seen().is_empty());
}

#[tokio::test]
async fn many_calls_go_side_by_side() {
    let answer = Answer { status: 200, ..Answer::default() };
    let server = Server::start(move |_| Reply::Late(StdDuration::from_millis(50), answer.clone()));
    let transport = ReqwestTransport::new();
    let mut calls = JoinSet::new();
    for _ in 0..200 {
        let (transport, request) = (transport.clone(), Request::new("GET", &server.url));
        calls.spawn(async move { transport.send(request).await.unwrap().status });
    }
    let statuses = calls.join_all().await;
    assert!(statuses.len() == 200 && statuses.iter().all(|status| *status == 200));
}

#[tokio::test]
async fn faults_strike_the_calls_that_they_are_given_for() {
    let answer = Response { status: 200, headers: Vec::new(), body: Vec::new() };
    let recorded = RecordedTransport::new(std::iter::repeat_n(answer, 9));
    let faults = [
        (1, Fault::NotSent),
        (2, Fault::Cut),
        (3, Fault::TimeoutAfterSending),
        (4, Fault::Status(429)),
        (5, Fault::StatusAfterSending(500)),
    ];
    let transport = FaultyTransport::new(Arc::new(recorded.clone()), faults);
    let mut seen = Vec::new();
    for _ in 0..6 {
        seen.push(match transport.send(Request::new("POST", "http://x/")).await {
            Ok(answer) => answer.status.to_string(),
            Err(error) => error.nothing_was_sent().to_string(),
        });
    }
    assert_eq!(seen, ["true", "false", "false", "429", "500", "200"]);
    assert_eq!((transport.calls(), recorded.requests().len()), (6, 4));
}

#[tokio::test]
async fn a_request_goes_out_as_it_is_written() {
    let server = Server::start(|_| Reply::json(200, r#"{"id":12345678901234567890.123456789}"#));
    let bench = Bench::new();
    let with = format!(
        "method: post
url: {}/orders?a=1
query: {{ q: \"x y&z\", none: null, n: 1.10 }}
headers: {{ Authorization: \"Bearer {{{{ secrets.KEY }}}}\" }}
json: {{ price: 1.10, key: \"{{{{ secrets.KEY }}}}\", total: \"{{{{ '1.50 USD' | money }}}}\" }}
repeat: 24h",
        server.url
    );
    let output = bench.run("http.request", &with).await;
    let Ok(Outcome::Done(output)) = output else { panic!("{output:?}") };
    assert_eq!(output.get("body").unwrap().to_string(), r#"{"id":12345678901234567890.123456789}"#);
    let seen = server.seen();
    assert_eq!(seen[0].method, "POST");
    assert_eq!(seen[0].path, "/orders?a=1&q=x+y%26z&n=1.10");
    assert_eq!(seen[0].body, r#"{"price":1.10,"key":"secret-KEY","total":"1.50 USD"}"#);
    assert_eq!(seen[0].header("authorization"), Some("Bearer secret-KEY"));
    assert_eq!(seen[0].header("content-type"), Some("application/json"));
    assert_eq!(seen[0].header("idempotency-key"), Some("order-7"));

    bench.show("http.request", &format!("method: POST\nurl: {}\nform: {{ a: \"b c\" }}", server.url)).await;
    let seen = server.seen();
    assert_eq!((seen[1].body.as_str(), seen[1].header("idempotency-key")), ("a=b+c", None));
}

#[tokio::test]
async fn errors_say_their_class_and_whether_it_happened() {
    let server = Server::start(|seen| match seen.path.split('?').next().unwrap().trim_start_matches('/') {
        "429" => Reply::json(429, "").with_header("Retry-After", "7"),
        "drop" => Reply::Drop,
        status => Reply::json(status.parse().unwrap(), r#"{"error": "no  such"}"#),
    });
    let bench = Bench::new();
    let cases = [
        ("POST", "429", ErrorClass::Throttled, Happened::No),
        ("POST", "422", ErrorClass::Invalid, Happened::No),
        ("POST", "503", ErrorClass::Unavailable, Happened::Perhaps),
        ("POST", "drop", ErrorClass::Unavailable, Happened::Perhaps),
        ("GET", "503", ErrorClass::Unavailable, Happened::No),
        ("GET", "drop", ErrorClass::Unavailable, Happened::No),
    ];
    for (method, path, class, happened) in cases {
        let with = format!("method: {method}\nurl: {}/{path}", server.url);
        let error = bench.run("http.request", &with).await.unwrap_err();
        assert_eq!((error.class, error.happened), (class, happened), "{method} {path}");
        assert_eq!(error.retry_after, (path == "429").then(|| Duration::from_secs(7)));
    }
    let shown = bench.show("http.request", &format!("url: {}/404?token=hunter2", server.url)).await;
    let host = server.url.strip_prefix("http://").unwrap();
    assert_eq!(shown, format!("invalid: GET {host} answered 404: {{\"error\": \"no such\"}}"));
    let expected = bench.show("http.request", &format!("url: {}/404\nexpect: [404]", server.url)).await;
    assert!(expected.starts_with(r#"{"status":404"#), "{expected}");
}

#[test]
fn a_request_says_how_its_doubt_is_settled() {
    let settlement = |with: &str| {
        let (tree, _) = pipewright::yaml::parse(&"with.yaml".into(), with);
        registry().get("http.request").unwrap().settlement(&tree.unwrap().to_value())
    };
    assert_eq!(settlement("{ url: x, method: POST }").repeat, Repeat::Never);
    assert_eq!(settlement("{ url: x, method: PUT }").repeat, Repeat::Always);
    assert_eq!(settlement("{ url: x, method: DELETE, repeat: never }").repeat, Repeat::Never);
    let within = settlement("{ url: x, method: POST, repeat: 24h, timeout: 5s }");
    assert_eq!((within.repeat, within.timeout), (Repeat::Within(Duration::from_secs(86_400)), Duration::from_secs(5)));
    let asks = settlement("{ url: x, method: POST, reconcile: { url: y, found: z, settle: 9s } }");
    assert_eq!((asks.reconcile, asks.settle), (true, Duration::from_secs(9)));
}

#[tokio::test]
async fn reconcile_finds_what_the_write_made() {
    let server = Server::start(|seen| match seen.path.as_str() {
        "/orders" if seen.method == "POST" => Reply::json(201, r#"{"id":5,"reference":"order-7"}"#),
        "/orders?reference=order-7" => Reply::json(
            200,
            r#"{"orders":[{"id":4,"reference":"order-1"},{"id":5,"reference":"order-7"},{"id":6,"reference":"order-7"}]}"#,
        ),
        "/none" => Reply::json(200, "[]"),
        "/gone" => Reply::json(404, ""),
        _ => Reply::json(503, ""),
    });
    let bench = Bench::new();
    let with = |url: &str| {
        format!(
            "method: POST
url: {}/orders
json: {{ reference: order-7 }}
reconcile:
  url: {}{url}
  items: \"{{{{ body.orders if body is mapping else body }}}}\"
  found: \"{{{{ item.reference == effect.key and item.reference == input.body.reference }}}}\"
  output: \"{{{{ {{ 'body': item }} }}}}\"
",
            server.url, server.url
        )
    };
    let asked = with("/orders?reference={{ effect.key }}");
    match bench.run("http.request", &asked).await {
        Ok(Outcome::Created { remote_id, .. }) => assert_eq!(remote_id, "5"),
        other => panic!("{other:?}"),
    }
    match bench.reconcile("http.request", &asked).await {
        Ok(Reconciled::Found(candidates)) => {
            let ids: Vec<_> = candidates.iter().map(|candidate| candidate.remote_id.as_str()).collect();
            assert_eq!(ids, ["5", "6"]);
            assert_eq!(candidates[0].output.get("body").and_then(|body| body.get("id")), Some(&Value::from(5)));
        }
        other => panic!("{other:?}"),
    }
    for url in ["/none", "/gone"] {
        assert!(matches!(bench.reconcile("http.request", &with(url)).await, Ok(Reconciled::NotFound)), "{url}");
    }
    let error = bench.reconcile("http.request", &with("/broken")).await.unwrap_err();
    assert_eq!(error.class, ErrorClass::Unavailable, "no answer is no proof");
}

/// Serves TLS with a certificate that nobody vouches for; returns the port, and what came through it.
fn unknown_server() -> (u16, std::thread::JoinHandle<Vec<u8>>) {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::PrivateKeyDer;
    use rustls::pki_types::pem::PemObject;
    use std::io::Read;
    let certificate = CertificateDer::from_pem_file("tests/keys/localhost-cert.pem").unwrap();
    let key = PrivateKeyDer::from_pem_file("tests/keys/localhost-key.pem").unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap());
    let listener = std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut connection = rustls::ServerConnection::new(config).unwrap();
        let mut read = vec![0; 1_024];
        let came = rustls::Stream::new(&mut connection, &mut stream).read(&mut read).unwrap_or(0);
        read.truncate(came);
        read
    });
    (port, serving)
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_is_told_nothing() {
    for host in ["localhost", "127.0.0.1"] {
        let (port, serving) = unknown_server();
        let headers = vec![("authorization".to_owned(), "Bearer s3cret".to_owned())];
        let url = format!("https://{host}:{port}/");
        let request = Request { body: b"x".to_vec(), headers, ..Request::new("POST", &url) };
        let error = ReqwestTransport::new().send(request).await.unwrap_err();
        assert!(error.nothing_was_sent() && error.to_string().contains("certificate"), "{error}");
        assert_eq!(serving.join().unwrap(), b"", "{host}");
    }
}
