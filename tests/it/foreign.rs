//! Against servers that this project did not write. `scripts/test` installs them and says where in `TEST_CLIENTS`.

use std::io::BufRead;
use std::io::BufReader;
use std::io::Lines;
use std::process::Child;
use std::process::ChildStdout;
use std::process::Command;
use std::process::Stdio;

use crate::support::clients::installed;
use crate::support::shell::Shell;

/// A server that runs as long as the test.
struct Foreign {
    child: Child,
    /// Held open: whoever writes to nobody is ended.
    _lines: Lines<BufReader<ChildStdout>>,
    url: String,
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts an SAP system that looks like one: tokens with cookies, versions, batches, V2 and V4.
fn sap() -> Foreign {
    // It takes no port 0; nobody else takes one that has just been free.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = Command::new(installed("bin/mock-sap"));
    command.args(["--port", &port.to_string(), "--auth", "anna:s3cret", "--require-if-match", "-q"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).env("PYTHONUNBUFFERED", "1").spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("listening"));
    Foreign { child, _lines: lines, url: format!("http://127.0.0.1:{port}") }
}

fn project(server: &Foreign, password: &str) -> Shell {
    let shell = Shell::project();
    let auth = format!("{{ user: anna, password: {password} }}");
    let sap = format!(
        "connections:\n  sap: {{ connector: sap, url: \"{}\", client: \"100\", private: true, auth: {auth} }}\n",
        server.url
    );
    shell.file("pipewright.yaml", &sap);
    shell
}

fn run(shell: &Shell, steps: &str) -> (i32, String, String) {
    shell.file("pipelines/test.yaml", steps);
    let ended = shell.run(&["run", "pipelines/test.yaml", "--json"]);
    (ended.code, ended.out, ended.err)
}

const ORDER: &str = "service: API_SALES_ORDER_SRV, set: A_SalesOrder";

#[test]
fn orders_are_read_made_changed_and_deleted_in_a_foreign_sap() {
    let server = sap();
    let shell = project(&server, "s3cret");
    let steps = format!(
        r#"steps:
  before: {{ uses: sap.count, with: {{ {ORDER} }} }}
  orders: {{ uses: sap.list, with: {{ {ORDER}, order: SalesOrder asc, types: {{ TotalNetAmount: decimal }} }} }}
  make: {{ uses: sap.create, needs: [before, orders], with: {{ {ORDER}, reference: PurchaseOrderByCustomer, fields: {{ SalesOrderType: OR, SoldToParty: "1000004", PurchaseOrderByCustomer: WEB-1 }} }} }}
  read: {{ uses: sap.get, with: {{ {ORDER}, id: "{{{{ steps.make.output.SalesOrder }}}}" }} }}
  change: {{ uses: sap.update, with: {{ {ORDER}, id: "{{{{ steps.make.output.SalesOrder }}}}", fields: {{ PurchaseOrderByCustomer: WEB-2 }}, version: "{{{{ steps.read.output['@etag'] }}}}" }} }}
  stale: {{ uses: sap.update, needs: [change], on_error: continue, with: {{ {ORDER}, id: "{{{{ steps.make.output.SalesOrder }}}}", fields: {{ PurchaseOrderByCustomer: WEB-3 }}, version: "W/\"old\"" }} }}
  again: {{ uses: sap.get, needs: [stale], with: {{ {ORDER}, id: "{{{{ steps.make.output.SalesOrder }}}}" }} }}
  batch:
    uses: sap.change_set
    needs: [again]
    with:
      service: API_SALES_ORDER_SRV
      changes:
        - {{ method: POST, url: A_SalesOrder, body: {{ SalesOrderType: OR, SoldToParty: "1000004", PurchaseOrderByCustomer: B-1 }} }}
        - {{ method: POST, url: A_SalesOrder, body: {{ SalesOrderType: OR, SoldToParty: "1000004", PurchaseOrderByCustomer: B-2 }} }}
  half:
    uses: sap.change_set
    needs: [batch]
    on_error: continue
    with:
      service: API_SALES_ORDER_SRV
      changes:
        - {{ method: POST, url: A_SalesOrder, body: {{ SalesOrderType: OR, SoldToParty: "1000004", PurchaseOrderByCustomer: B-3 }} }}
        - {{ method: POST, url: A_SalesOrder, body: {{ NoSuchField: 1 }} }}
  after: {{ uses: sap.count, needs: [half], with: {{ {ORDER} }} }}
  v4: {{ uses: sap.list_v4, with: {{ service: api_product/srvd_a2x/sap/api_product/0001, set: Product, order: Product }} }}
  meta: {{ uses: sap.metadata, with: {{ service: API_SALES_ORDER_SRV }} }}
outputs:
  read: "{{{{ steps.orders.output | length == steps.before.output.count }}}}"
  amount: "{{{{ steps.orders.output[0].TotalNetAmount + 0.001 - steps.orders.output[0].TotalNetAmount }}}}"
  changed: "{{{{ steps.again.output.PurchaseOrderByCustomer }}}}"
  stale: "{{{{ steps.stale.error.class }}}}"
  half: "{{{{ steps.half.error.class }}}}"
  batch: "{{{{ steps.batch.output.results | map(attribute='d.PurchaseOrderByCustomer') | list }}}}"
  more: "{{{{ steps.after.output.count - steps.before.output.count }}}}"
  v4: "{{{{ steps.v4.output | length > 0 }}}}"
  meta: "{{{{ 'A_SalesOrderType' in steps.meta.output | string }}}}"
"#
    );
    let (code, out, err) = run(&shell, &steps);
    assert_eq!(code, 0, "{out}\n{err}");
    // Of a set that fails nothing stays: one order and a set of two were made.
    let expected = r#""read":true,"amount":0.001,"changed":"WEB-2","stale":"conflict","half":"rejected","batch":["B-1","B-2"],"more":3,"v4":true,"meta":true"#;
    assert!(out.contains(expected), "{out}");
    // One token for all writes that needed one, fetched once.
    let wire = shell.run(&["runs", "show", &shell.last(), "--wire"]).out;
    assert_eq!(wire.matches("HEAD ").count(), 1, "{wire}");
    assert!(!wire.contains("s3cret"), "{wire}");
}

#[test]
fn a_wrong_password_is_said_once_and_not_tried_again() {
    let server = sap();
    let shell = project(&server, "wrong");
    let (code, out, err) = run(&shell, &format!("steps: {{ a: {{ uses: sap.count, with: {{ {ORDER} }} }} }}\n"));
    assert_ne!(code, 0, "{out}");
    let wire = shell.run(&["runs", "show", &shell.last(), "--wire"]).out;
    assert_eq!(wire.matches("401").count(), 1, "{wire}");
    assert!(err.contains("auth") && !err.contains("wrong"), "{err}");
}

/// Starts a strict OpenID provider: tokens last two seconds, a refresh token is good once.
fn oidc() -> Foreign {
    let mut command = Command::new("node");
    command.arg(installed("oidc.mjs")).arg("serve").stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("node is not installed");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let port = lines.next().unwrap().unwrap();
    Foreign { child, _lines: lines, url: format!("http://127.0.0.1:{port}") }
}

const PROVIDER: &str = r#"connector: prov
base_url: { api: "{{ config.base_url }}" }
auth:
  oauth2:
    flow: [authorization_code, client_credentials]
    authorize_url: "{{ base_url.api }}/auth"
    token_url: "{{ base_url.api }}/token"
    revoke: "{{ base_url.api }}/token/revocation"
    client_auth: basic
    scopes: "{{ ['openid', 'offline_access'] if auth.client_id == 'pipewright' else [] }}"
    authorize: { prompt: consent }
account: { operation: me, id: "{{ output.id }}" }
operations:
  me: { effect: read, request: { get: /api }, output: { id: "{{ body.id }}" } }
"#;

#[test]
fn a_login_at_a_foreign_provider_lasts_over_rotations_in_four_processes() {
    let server = oidc();
    let shell = Shell::project();
    shell.file("connectors/prov.yaml", PROVIDER);
    let connection = |name: &str, auth: &str| {
        format!("  {name}: {{ connector: prov, base_url: \"{}\", private: true, auth: {{ {auth} }} }}\n", server.url)
    };
    // Signs in a secret are written as the form wants them, before base64.
    let person = connection("prov", "client_id: pipewright, client_secret: \"s3cret/with:signs\"");
    let machine = connection("robot", "flow: client_credentials, client_id: machine, client_secret: s3cret");
    shell.file("pipewright.yaml", &format!("connections:\n{person}{machine}"));
    let pipeline = |name: &str| {
        format!(
            "steps: {{ a: {{ uses: prov.me, with: {{ connection: {name} }} }} }}\noutputs: {{ id: \"{{{{ steps.a.output.id }}}}\" }}\n"
        )
    };
    shell.file("pipelines/me.yaml", &pipeline("prov")).file("pipelines/robot.yaml", &pipeline("robot"));

    let mut login = shell.command(&["auth", "login", "prov", "--no-browser"]);
    let mut login = login.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut url = String::new();
    BufReader::new(login.stdout.take().unwrap()).read_line(&mut url).unwrap();
    let agreed = Command::new("node").arg(installed("oidc.mjs")).args(["agree", url.trim()]).output().unwrap();
    let agreed = String::from_utf8(agreed.stdout).unwrap();
    assert!(agreed.contains("close this window"), "{agreed}");
    let talk = String::from_utf8(login.wait_with_output().unwrap().stderr).unwrap();
    assert!(talk.contains("prov: logged in as anna"), "{talk}");

    // Each round begins with a token that has run out. A refresh token that came twice would revoke the whole grant.
    for round in 0..3 {
        std::thread::sleep(std::time::Duration::from_millis(2_100));
        let children: Vec<_> = (0..4)
            .map(|_| {
                let mut command = shell.command(&["run", "pipelines/me.yaml", "--json"]);
                command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
            })
            .collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            assert!(output.status.success() && out.contains(r#""id":"anna""#), "{round}: {out}\n{err}");
        }
    }
    let robot = shell.run(&["run", "pipelines/robot.yaml", "--json"]);
    assert!(robot.code == 0 && robot.out.contains(r#""id":"machine""#), "{}{}", robot.out, robot.err);

    assert_eq!(shell.run(&["auth", "logout", "prov"]).code, 0);
    let out = shell.run(&["run", "pipelines/me.yaml"]);
    assert!(out.code != 0 && out.err.contains("pipewright auth login prov"), "{}", out.err);
}

/// Starts a fake of many model providers.
fn aimock() -> Foreign {
    let mut command = Command::new("node");
    command.arg(installed("aimock.mjs")).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("node is not installed");
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let port = lines.next().unwrap().unwrap();
    Foreign { child, _lines: lines, url: format!("http://127.0.0.1:{port}") }
}

#[test]
fn a_foreign_fake_of_every_provider_is_understood() {
    let server = aimock();
    for (name, model, base, embedder) in [
        ("anthropic", "claude-haiku-5-5", "", None),
        ("cohere", "command-a-03-2025", "", Some("embed-v4.0")),
        ("local", "mistral-small", "/v1", Some("nomic-embed-text")),
        // Its embeddings are in a shape that Ollama has left.
        ("ollama", "llama3.2", "", None),
        ("openai", "gpt-6-luna", "/v1", Some("text-embedding-3-small")),
    ] {
        let shell = Shell::project();
        let connection =
            format!("connector: {name}, base_url: \"{}{base}\", private: true, auth: {{ api_key: k }}", server.url);
        shell.file("pipewright.yaml", &format!("connections: {{ {name}: {{ {connection} }} }}\n"));
        let tools = "tools: [ { name: get_quote, description: Last price, parameters: { type: object } } ]";
        let ask = |step: &str, after: &str, more: &str| {
            format!("  {step}: {{ uses: {name}.chat, needs: [{after}], with: {{ model: \"{model}\", {more} }} }}\n")
        };
        let said = |word: &str| format!("messages: [ {{ role: user, content: {word} }} ]");
        let fails = "on_error: continue, retry: { attempts: 1 }, with:";
        let back = "messages: [ { role: user, content: quote }, \"{{ steps.call.output.message }}\", { role: tool, tool_call_id: \"{{ steps.call.output.tool_calls[0].id }}\", content: \"101.25\" } ]";
        let mut steps = String::from("steps:\n");
        steps += &ask("hello", "", &said("hello"));
        steps += &ask("stream", "", &format!("stream: true, {}", said("hello")));
        steps += &ask("call", "", &format!("{tools}, {}", said("quote")));
        steps += &ask("again", "", &format!("stream: true, {tools}, {}", said("quote")));
        steps += &ask("done", "call", &format!("{tools}, {back}"));
        // Failures come last: after some of them a host is left alone.
        let before = "hello, stream, again, done";
        steps += &ask("burst", before, &format!("stream: true, {}", said("burst"))).replace("with:", fails);
        steps += &ask("trouble", before, &said("trouble")).replace("with:", fails);
        let length = match embedder {
            None => "true".to_owned(),
            Some(embedder) => {
                steps +=
                    &format!("  embed: {{ uses: {name}.embed, with: {{ model: \"{embedder}\", texts: [a, b] }} }}\n");
                steps = steps.replace("[hello, stream", "[embed, hello, stream");
                "steps.embed.output.vectors | length == 2 and steps.embed.output.vectors[0] | length > 100".to_owned()
            }
        };
        steps += &format!(
            "outputs:\n  all: \"{{{{ [steps.hello.output.text == steps.stream.output.text, steps.hello.output.text, steps.hello.output.stop, steps.call.output.tool_calls[0].arguments == steps.again.output.tool_calls[0].arguments, steps.again.output.tool_calls[0].arguments.symbol, steps.again.output.stop, steps.done.output.text, steps.burst.error.class, steps.trouble.error.class, {length}] }}}}\"\n  used: \"{{{{ steps.hello.output.usage.total }}}}\"\n"
        );
        let (code, out, err) = run(&shell, &steps);
        assert_eq!(code, 0, "{name}: {out}\n{err}\n{steps}");
        let expected = r#"[true,"Hi there, from a fake.","end",true,"ACME","tool_use","ACME is at 101.25.","unavailable","unavailable",true]"#;
        assert!(out.contains(expected), "{name}: {out}");
        // Ollama's counts are nought there, whatever the fake is told.
        let used = if name == "ollama" { r#""used":0"# } else { r#""used":16"# };
        assert!(out.contains(used), "{name}: {out}");
    }
}
