//! Completion with live names: pipelines, runs, effects, nodes and codes as they are now.

use std::future::Future;
use std::path::Path;
use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::CompleteEnv;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::Shells;

use crate::app;
use crate::diag::Code;
use crate::pipeline::Catalog;
use crate::store::ApprovalFilter;
use crate::store::EffectFilter;
use crate::store::LessonFilter;
use crate::store::PostFilter;
use crate::store::RunFilter;
use crate::store::Store;

/// The variable by which a shell asks for candidates.
const VARIABLE: &str = "COMPLETE";
/// How many runs and effects are offered.
const LATEST: u32 = 30;

/// Answers a shell that asks for candidates; then the program has nothing else to do.
pub(super) fn answer() -> bool {
    if app::environment(VARIABLE).is_none() {
        return false;
    }
    let here = std::env::current_dir().ok();
    let environment = CompleteEnv::with_factory(super::Arguments::command).var(VARIABLE);
    match environment.try_complete(std::env::args_os(), here.as_deref()) {
        Ok(answered) => answered,
        Err(error) => {
            // The shell shows nothing of it; there is nobody else to tell.
            let _ = error.print();
            true
        }
    }
}

/// Returns the script that makes a shell ask this program.
///
/// # Errors
/// The names of the shells that are known.
pub(super) fn script(shell: &str) -> Result<String, String> {
    let shells = Shells::builtins();
    let Some(shell) = shells.completer(shell) else {
        return Err(shells.names().collect::<Vec<_>>().join(", "));
    };
    let mut script = Vec::new();
    // Writing into memory does not fail.
    let _ = shell.write_registration(VARIABLE, "pipewright", "pipewright", "pipewright", &mut script);
    Ok(String::from_utf8_lossy(&script).into_owned())
}

pub(super) fn connectors() -> Vec<CompletionCandidate> {
    let names = crate::connector::library::Library::open(&root()).names();
    names.into_iter().map(|(name, _)| CompletionCandidate::new(name)).collect()
}

pub(super) fn connections() -> Vec<CompletionCandidate> {
    let project = Catalog::open(&root(), crate::nodes::registry()).project();
    let connections = project.map(|project| project.connections).unwrap_or_default();
    connections.into_iter().map(|it| CompletionCandidate::new(it.name).help(Some(it.connector.into()))).collect()
}

pub(super) fn pipelines() -> Vec<CompletionCandidate> {
    let catalog = Catalog::open(&root(), crate::nodes::registry());
    catalog.names().into_iter().map(CompletionCandidate::new).collect()
}

pub(super) fn nodes() -> Vec<CompletionCandidate> {
    let registry = crate::nodes::registry();
    let described = registry.iter().map(|node| {
        let first = node.docs().lines().next().unwrap_or_default().to_owned();
        CompletionCandidate::new(node.name()).help(Some(first.into()))
    });
    described.collect()
}

pub(super) fn codes() -> Vec<CompletionCandidate> {
    Code::ALL.iter().map(|code| CompletionCandidate::new(code.as_str())).collect()
}

pub(super) fn runs() -> Vec<CompletionCandidate> {
    let runs = from_store(|store| async move {
        store.runs(&RunFilter { limit: Some(LATEST), ..RunFilter::default() }).await.unwrap_or_default()
    });
    let described = runs.into_iter().enumerate().map(|(place, run)| {
        let help = format!("{} {}", run.pipeline, run.state.name());
        CompletionCandidate::new(run.id.to_string()).help(Some(help.into())).display_order(Some(place))
    });
    described.collect()
}

pub(super) fn effects() -> Vec<CompletionCandidate> {
    let effects = from_store(|store| async move {
        store.effects(&EffectFilter { limit: Some(LATEST), ..EffectFilter::default() }).await.unwrap_or_default()
    });
    let described = effects.into_iter().enumerate().map(|(place, effect)| {
        let help = format!("{} {}", effect.kind.name(), effect.state.name());
        CompletionCandidate::new(effect.id.to_string()).help(Some(help.into())).display_order(Some(place))
    });
    described.collect()
}

pub(super) fn approvals() -> Vec<CompletionCandidate> {
    let filter = ApprovalFilter { open: true, limit: Some(LATEST), ..ApprovalFilter::default() };
    let open = from_store(|store| async move { store.approvals(&filter).await.unwrap_or_default() });
    let described = open.into_iter().map(|approval| {
        let title = approval.ask.as_ref().and_then(|ask| ask.request.get("title")).map(ToString::to_string);
        CompletionCandidate::new(approval.id.to_string()).help(title.map(Into::into))
    });
    described.collect()
}

pub(super) fn posts() -> Vec<CompletionCandidate> {
    let filter = PostFilter { limit: Some(LATEST), ..PostFilter::default() };
    let posts = from_store(|store| async move { store.posts(&filter).await.unwrap_or_default() });
    let described = posts.into_iter().map(|post| {
        let help = format!("{} {}", post.connection, post.state.name());
        CompletionCandidate::new(post.id).help(Some(help.into()))
    });
    described.collect()
}

pub(super) fn lessons() -> Vec<CompletionCandidate> {
    let filter = LessonFilter { limit: Some(LATEST), ..LessonFilter::default() };
    let lessons = from_store(|store| async move { store.lessons(&filter).await.unwrap_or_default() });
    lessons.into_iter().map(|lesson| CompletionCandidate::new(lesson.id).help(Some(lesson.text.into()))).collect()
}

pub(super) fn people() -> Vec<CompletionCandidate> {
    let project = Catalog::open(&root(), crate::nodes::registry()).project();
    let people = project.map(|project| project.people).unwrap_or_default();
    people.into_iter().map(|it| CompletionCandidate::new(it.name).help(Some(it.roles.join(", ").into()))).collect()
}

/// Asks the project's store, if there is one; a shell that waits for candidates makes no database.
fn from_store<T: Default, F: Future<Output = T>>(ask: impl FnOnce(Store) -> F) -> T {
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return T::default();
    };
    runtime.block_on(async {
        match app::open_to_read(&root()).await {
            Some(store) => ask(store).await,
            None => T::default(),
        }
    })
}

/// Finds the project of the command line that is being completed.
fn root() -> PathBuf {
    let words: Vec<_> = std::env::args_os().collect();
    let named = words.windows(2).find(|pair| pair.first().is_some_and(|word| word == "--project"));
    let named = named.and_then(|pair| pair.last()).map(PathBuf::from);
    app::find_root(named.as_deref(), Path::new("."))
}
