//! Runs a single node as the engine would: templates evaluated, expressions compiled, everything else from the test.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;

use pipewright::connector::connection::Connection;
use pipewright::connector::library::Library;
use pipewright::connector::manifest::Manifest;
use pipewright::connector::runtime::Connections;
use pipewright::connector::runtime::Runtime;
use pipewright::http::ReqwestTransport;
use pipewright::http::Transport;
use pipewright::memory::Memory;
use pipewright::model::Blob;
use pipewright::model::Dataset;
use pipewright::model::Effect;
use pipewright::model::EffectId;
use pipewright::model::RunId;
use pipewright::model::StepPath;
use pipewright::model::Timestamp;
use pipewright::model::Value;
use pipewright::node::Access;
use pipewright::node::Called;
use pipewright::node::EffectContext;
use pipewright::node::ExpressionKey;
use pipewright::node::Found;
use pipewright::node::Keep;
use pipewright::node::LogLevel;
use pipewright::node::LogSink;
use pipewright::node::Node;
use pipewright::node::NodeError;
use pipewright::node::Operations;
use pipewright::node::Outcome;
use pipewright::node::Reconciled;
use pipewright::node::RowSource;
use pipewright::node::Services;
use pipewright::node::StepContext;
use pipewright::nodes::registry;
use pipewright::sandbox::fault::Faults;
use pipewright::sandbox::transport::Here;
use pipewright::sandbox::world::World;
use pipewright::store::OpenOptions;
use pipewright::store::Store;
use pipewright::system::System;
use pipewright::template::Lookup;
use pipewright::template::Scope;
use pipewright::template::StepView;
use pipewright::template::Template;
use pipewright::template::TemplateTree;
use tokio_util::sync::CancellationToken;

/// A bench with a project folder of its own, which goes with it.
#[derive(Debug)]
pub(crate) struct Bench {
    folder: tempfile::TempDir,
    pub(crate) system: System,
    pub(crate) http: Arc<dyn Transport>,
    pub(crate) access: Access,
    pub(crate) canceled: CancellationToken,
    log: Log,
    rows: NumberedRows,
    memory: tokio::sync::OnceCell<Services>,
    services: Services,
    operations: Option<Arc<Library>>,
}

#[derive(Debug, Default)]
struct Log(Mutex<Vec<String>>);

impl LogSink for Log {
    fn log(&self, level: LogLevel, message: &str) {
        self.0.lock().unwrap().push(format!("{level:?}: {message}"));
    }
}

/// Every dataset holds `{ n: 0 }`, `{ n: 1 }` and so on.
#[derive(Debug)]
struct NumberedRows;

#[async_trait::async_trait]
impl RowSource for NumberedRows {
    async fn rows(&self, _: &str, from: u64, limit: u64) -> Result<Vec<Value>, NodeError> {
        Ok((from..from + limit).map(|number| Value::map([("n", Value::from(number))])).collect())
    }
}

/// Keeps nothing.
#[async_trait::async_trait]
impl Keep for NumberedRows {
    async fn read_blob(&self, blob: &Blob) -> Result<Vec<u8>, NodeError> {
        Err(NodeError::invalid(format!("there is no blob `{}`", blob.address)))
    }

    async fn put_blob(&self, _: Vec<u8>, _: Option<&str>, _: Option<&str>) -> Result<Blob, NodeError> {
        Err(NodeError::invalid("nothing is kept here"))
    }

    async fn stream(&self, _: &str) -> Result<Option<Value>, NodeError> {
        Ok(None)
    }
}

/// `inputs.rows`: more than a batch of them.
fn dataset() -> Value {
    Value::Dataset(Arc::new(Dataset { id: "run/rows".to_owned(), name: "rows".to_owned(), rows: 2_500 }))
}

#[derive(Debug)]
struct Secrets;

impl Lookup for Secrets {
    fn step(&self, _: &str) -> Option<StepView> {
        None
    }

    fn secret(&self, name: &str) -> Result<Value, String> {
        Ok(Value::from(format!("secret-{name}")).tainted())
    }
}

/// Systems that need neither settings nor credentials.
#[derive(Debug)]
struct Plain;

impl Connections for Plain {
    fn get(&self, name: &str, manifest: &Manifest) -> Result<Connection, String> {
        Connection::without_settings(name, manifest)
    }
}

/// Connections to stand-ins.
#[derive(Debug)]
struct OfSandbox(Arc<World>);

impl Connections for OfSandbox {
    fn get(&self, name: &str, manifest: &Manifest) -> Result<Connection, String> {
        self.0.connection(name, manifest)
    }
}

impl Bench {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let access = Access {
            root: folder.path().to_owned(),
            files_outside: false,
            shell: true,
            databases: Vec::new(),
            rehearsal: false,
        };
        Self {
            folder,
            system: System::real(),
            http: Arc::new(ReqwestTransport::new()),
            access,
            canceled: CancellationToken::new(),
            log: Log::default(),
            rows: NumberedRows,
            memory: tokio::sync::OnceCell::new(),
            services: Services::default(),
            operations: None,
        }
    }

    /// Has a connection `x` that takes posts.
    pub(crate) fn with_posts(mut self) -> Self {
        let text = std::fs::read_to_string("tests/manifests/social/micro.yaml").unwrap();
        let text = text.replace("connector: micro", "connector: x");
        let own = [("x".to_owned(), (Arc::from("x.yaml"), Arc::from(text)))].into_iter().collect();
        let runtime = Runtime::new(Arc::new(Plain)).with_library(Arc::new(Library::of_texts(own)));
        self.services = self.services.with(Arc::new(runtime));
        self
    }

    /// Has stand-ins answer for all connectors, by connections that are called as they are.
    pub(crate) fn with_sandbox(mut self) -> Self {
        let library = Arc::new(Library::open(self.root()));
        let faults = Faults::new(std::iter::empty());
        let world = Arc::new(World::new(Library::open(self.root()), Vec::new(), self.system.clone(), faults, 1));
        self.http = Arc::new(Here(world.clone()));
        let runtime = Runtime::new(Arc::new(OfSandbox(world))).with_library(library.clone());
        self.services = self.services.with(Arc::new(runtime));
        self.operations = Some(library);
        self
    }

    pub(crate) fn root(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn put(&self, path: &str, content: &str) {
        let path = self.root().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub(crate) fn get(&self, path: &str) -> String {
        std::fs::read_to_string(self.root().join(path)).unwrap()
    }

    pub(crate) fn logged(&self) -> Vec<String> {
        self.log.0.lock().unwrap().clone()
    }

    /// Runs the node `uses` with a `with:` in YAML.
    pub(crate) async fn run(&self, uses: &str, with: &str) -> Result<Outcome, NodeError> {
        let prepared = self.prepare(uses, with);
        let memory = self.memory.get_or_init(|| async {
            let store = Store::open("sqlite::memory:", OpenOptions::default()).await.unwrap();
            self.services.clone().with(Arc::new(Memory::of(store)))
        });
        memory.await;
        prepared.node.run(prepared.input.clone(), &prepared.context(self)).await
    }

    /// Asks the remote of the node `uses` whether it happened.
    pub(crate) async fn reconcile(&self, uses: &str, with: &str) -> Result<Reconciled, NodeError> {
        let prepared = self.prepare(uses, with);
        prepared.node.reconcile(prepared.input.clone(), &prepared.context(self)).await
    }

    /// Runs a node that ends at once, and returns its output as JSON or the error's class and text.
    pub(crate) async fn show(&self, uses: &str, with: &str) -> String {
        match self.run(uses, with).await {
            Ok(Outcome::Done(value) | Outcome::Created { output: value, .. }) => value.to_string(),
            Ok(other) => format!("{other:?}"),
            Err(error) => format!("{}: {}", error.class.name(), error.text()),
        }
    }

    fn prepare(&self, uses: &str, with: &str) -> Prepared {
        let node = registry().get(uses).unwrap().clone();
        let (tree, faults) = pipewright::yaml::parse(&"with.yaml".into(), with);
        assert!(faults.is_empty(), "{faults:?}");
        let with = tree.unwrap().to_value();
        let declared = node.effect(&with);
        let mut expressions = Vec::new();
        for ExpressionKey { key, .. } in node.expressions() {
            let found = key.split('.').try_fold(&with, |value, key| value.get(key));
            if let Some(text) = found.and_then(Value::as_str) {
                expressions.push((*key, Template::parse(text).unwrap()));
            }
        }
        let scope = Scope {
            lookup: Arc::new(Secrets),
            globals: Arc::new(vec![("inputs".into(), Value::map([("rows", dataset())]))]),
            locals: Vec::new(),
            now: self.system.clock.now(),
        };
        let calls = node.calls(&with).into_iter().filter_map(|wanted| {
            let connection = wanted.connection?;
            let found = self.operations.as_ref()?.find(&format!("{connection}.{}", wanted.operation));
            let Found::Node(node) = found else { return None };
            Some(Called { connection: connection.into(), operation: wanted.operation, node })
        });
        let calls = calls.collect();
        let keys: Vec<&str> = expressions.iter().map(|(key, _)| *key).collect();
        let input = templates(&with, "", &keys).eval(&scope).unwrap();
        let effect = EffectContext {
            id: EffectId("run/step".into()),
            key: "order-7".into(),
            started_at: Timestamp(0),
            send_within: None,
            doubted: false,
        };
        Prepared { node, input, declared, expressions, calls, scope, path: StepPath::step("step"), effect }
    }
}

/// Compiles the strings of a `with:`, but not the node's own expressions.
fn templates(with: &Value, path: &str, expressions: &[&str]) -> TemplateTree {
    match with {
        Value::String(text) if !expressions.contains(&path) => TemplateTree::Template(Template::parse(text).unwrap()),
        Value::List(items) => TemplateTree::List(items.iter().map(|item| templates(item, "*", expressions)).collect()),
        Value::Map(map) => {
            let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            let entries = map.iter().map(|(key, value)| (key.clone(), templates(value, &below(key), expressions)));
            TemplateTree::Map(entries.collect())
        }
        literal => TemplateTree::Literal(literal.clone()),
    }
}

struct Prepared {
    node: Arc<dyn Node>,
    input: Value,
    declared: Effect,
    expressions: Vec<(&'static str, Template)>,
    calls: Vec<Called>,
    scope: Scope,
    path: StepPath,
    effect: EffectContext,
}

impl Prepared {
    fn context<'a>(&'a self, bench: &'a Bench) -> StepContext<'a> {
        StepContext {
            run: RunId::new(1, 1),
            path: &self.path,
            attempt: 1,
            begun: None,
            declared: self.declared,
            system: &bench.system,
            http: &*bench.http,
            access: &bench.access,
            effect: self.declared.is_write().then_some(&self.effect),
            deadline: None,
            canceled: &bench.canceled,
            expressions: &self.expressions,
            scope: &self.scope,
            calls: &self.calls,
            log: &bench.log,
            rows: &bench.rows,
            into: None,
            keep: &bench.rows,
            services: bench.memory.get().unwrap_or(&bench.services),
        }
    }
}
