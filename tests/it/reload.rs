//! Edited files become active: whole or not at all, however they were written.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use pipewright::daemon::reload::Generation;
use pipewright::daemon::reload::Ground;
use pipewright::daemon::reload::Outcome;
use pipewright::daemon::reload::Reloader;
use pipewright::daemon::reload::attempt;
use pipewright::pipeline::File;
use pipewright::pipeline::Snapshot;
use pipewright::system::System;
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::sync::watch;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

struct Project {
    folder: TempDir,
}

impl Project {
    fn new(files: &[(&str, &str)]) -> Self {
        let project = Self { folder: tempfile::tempdir().unwrap() };
        files.iter().for_each(|(path, text)| project.write(path, text));
        project
    }

    fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    async fn open(&self) -> Following {
        let ground = Ground { root: self.folder.path().to_owned(), can_seal: true };
        let (reloader, generations) = Reloader::open(ground, System::real()).await;
        Following { reloader, generations }
    }
}

struct Following {
    reloader: Reloader,
    generations: watch::Receiver<Arc<Generation>>,
}

impl Following {
    fn now(&self) -> Arc<Generation> {
        self.generations.borrow().clone()
    }

    /// Waits until the active generation is as it should be.
    async fn until(&mut self, holds: impl Fn(&Generation) -> bool) -> Arc<Generation> {
        let wait = self.generations.wait_for(|generation| holds(generation));
        tokio::time::timeout(PATIENCE, wait).await.expect("it did not come").unwrap().clone()
    }

    /// Waits until the pipeline gives this text.
    async fn until_says(&mut self, name: &str, text: &str) -> Arc<Generation> {
        self.until(|generation| says(generation, name, text)).await
    }
}

fn says(generation: &Generation, name: &str, text: &str) -> bool {
    generation.pipelines.get(name).is_some_and(|pipeline| pipeline.definition.contains(text))
}

fn names(generation: &Generation) -> Vec<&str> {
    generation.pipelines.keys().map(|name| &**name).collect()
}

/// Lists the pipelines whose version differs.
fn other<'g>(one: &Generation, two: &'g Generation) -> Vec<&'g str> {
    let version = |name: &Arc<str>| one.pipelines.get(name).map(|pipeline| &pipeline.version);
    let other = two.pipelines.iter().filter(|(name, pipeline)| version(name) != Some(&pipeline.version));
    other.map(|(name, _)| &**name).collect()
}

fn hello(text: &str) -> String {
    format!("steps:\n  say: {{ uses: template.render, with: {{ text: \"{text}\" }} }}\n")
}

fn prompted(file: &str) -> String {
    format!("steps:\n  say: {{ uses: template.render, with: {{ file: {file} }} }}\n")
}

const BROKEN: &str = "steps:\n  say: { uses: template.rendr, with: { text: x } }\n";

const SHOP: &str = "\
connector: shop
title: Shop
docs: https://example.com/docs
base_url: { api: https://shop.example.com }
auth: none
operations:
  me: { effect: read, request: { get: /me }, output: { id: \"{{ body.id }}\" } }
";

#[tokio::test]
async fn an_edit_becomes_active_and_all_else_stays_the_very_same() {
    let project = Project::new(&[("pipelines/a.yaml", &hello("one")), ("pipelines/b.yaml", &hello("two"))]);
    let mut following = project.open().await;
    let first = following.now();
    assert_eq!((first.number, names(&first)), (1, vec!["a", "b"]));
    project.write("pipelines/a.yaml", &hello("three"));
    let second = following.until_says("a", "three").await;
    assert_eq!((second.number, other(&first, &second)), (2, vec!["a"]));
    assert!(Arc::ptr_eq(&first.pipelines["b"], &second.pipelines["b"]));
    assert_ne!(first.hash, second.hash);
}

#[tokio::test]
async fn a_renamed_file_is_another_pipeline() {
    let project = Project::new(&[("pipelines/a.yaml", &hello("one"))]);
    let mut following = project.open().await;
    fs::rename(project.path("pipelines/a.yaml"), project.path("pipelines/b.yaml")).unwrap();
    following.until(|generation| names(generation) == ["b"]).await;
}

#[tokio::test]
async fn a_file_that_is_written_beside_and_renamed_is_active() {
    let project = Project::new(&[("pipelines/a.yaml", &hello("one"))]);
    let mut following = project.open().await;
    for text in ["two", "six", "ten"] {
        project.write("pipelines/.a.yaml.swp", &hello(text));
        fs::rename(project.path("pipelines/.a.yaml.swp"), project.path("pipelines/a.yaml")).unwrap();
        following.until_says("a", text).await;
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_link_that_is_swapped_is_active_and_so_is_what_it_leads_to() {
    use std::os::unix::fs::symlink;
    let project = Project::new(&[
        ("pipelines/own.yaml", &hello("own")),
        ("releases/1/a.yaml", &hello("one")),
        ("releases/2/a.yaml", &hello("two")),
    ]);
    symlink("../releases/1", project.path("pipelines/team")).unwrap();
    let mut following = project.open().await;
    assert!(says(&following.now(), "a", "one"));
    symlink("../releases/2", project.path("pipelines/swap")).unwrap();
    fs::rename(project.path("pipelines/swap"), project.path("pipelines/team")).unwrap();
    following.until_says("a", "two").await;
    project.write("releases/2/a.yaml", &hello("edited"));
    following.until_says("a", "edited").await;
    // So are volumes of secrets and settings laid out that a cluster mounts.
    project.write("pipelines/..data_1/b.yaml", &hello("first"));
    project.write("pipelines/..data_2/b.yaml", &hello("second"));
    symlink("..data_1", project.path("pipelines/..data")).unwrap();
    symlink("..data/b.yaml", project.path("pipelines/b.yaml")).unwrap();
    following.until_says("b", "first").await;
    symlink("..data_2", project.path("pipelines/..next")).unwrap();
    fs::rename(project.path("pipelines/..next"), project.path("pipelines/..data")).unwrap();
    following.until_says("b", "second").await;
}

#[tokio::test]
async fn a_file_that_is_still_being_written_is_waited_for_and_others_are_not() {
    let project = Project::new(&[("pipelines/a.yaml", &hello("one")), ("pipelines/b.yaml", &hello("one"))]);
    let mut following = project.open().await;
    let (stop, stopped) = mpsc::channel::<()>();
    let mut file = fs::File::create(project.path("pipelines/a.yaml")).unwrap();
    // At every moment of it the file is valid, and half of what it will be.
    file.write_all(hello("half").as_bytes()).unwrap();
    let writer = std::thread::spawn(move || {
        while stopped.recv_timeout(Duration::from_millis(1)) == Err(mpsc::RecvTimeoutError::Timeout) {
            file.write_all(b"#").unwrap();
        }
        file.write_all(b"\noutputs: { whole: \"{{ steps.say.output }}\" }\n").unwrap();
    });
    project.write("pipelines/b.yaml", &hello("two"));
    let between = following.until_says("b", "two").await;
    assert!(says(&between, "a", "one"), "half a file is active");
    drop(stop);
    writer.join().unwrap();
    let whole = following.until(|generation| !says(generation, "a", "one")).await;
    assert!(says(&whole, "a", "whole"), "half a file is active");
}

#[tokio::test]
async fn a_folder_may_go_and_come_back() {
    let project = Project::new(&[("pipelines/a.yaml", &hello("one")), ("pipelines/deep/b.yaml", &hello("one"))]);
    let mut following = project.open().await;
    for text in ["two", "six"] {
        fs::remove_dir_all(project.path("pipelines")).unwrap();
        following.until(|generation| generation.pipelines.is_empty()).await;
        project.write("pipelines/a.yaml", &hello(text));
        project.write("pipelines/deep/b.yaml", &hello(text));
        following.until(|generation| says(generation, "a", text) && says(generation, "b", text)).await;
        project.write("pipelines/deep/b.yaml", &hello("edited"));
        following.until_says("b", "edited").await;
    }
    fs::rename(project.path("pipelines"), project.path("aside")).unwrap();
    following.until(|generation| generation.pipelines.is_empty()).await;
    fs::rename(project.path("aside"), project.path("pipelines")).unwrap();
    following.until(|generation| names(generation) == ["a", "b"]).await;
}

#[tokio::test]
async fn an_invalid_edit_leaves_the_last_good_set_until_it_is_mended() {
    let project = Project::new(&[("pipelines/a.yaml", &hello("one")), ("pipelines/b.yaml", &hello("one"))]);
    let mut following = project.open().await;
    let good = following.now();
    project.write("pipelines/b.yaml", BROKEN);
    let refused = following.until(|generation| !generation.is_current()).await;
    assert_eq!((refused.number, refused.hash), (good.number, good.hash));
    assert!(Arc::ptr_eq(&refused.pipelines["b"], &good.pipelines["b"]));
    let told: Vec<&str> = refused.errors().map(|error| error.message.as_str()).collect();
    assert_eq!(told, ["node `template.rendr` does not exist"]);
    // Another edit, valid by itself, belongs to the same set.
    project.write("pipelines/a.yaml", &hello("two"));
    let still = following.until(|generation| generation.latest != refused.latest).await;
    assert_eq!((still.number, says(&still, "a", "two")), (good.number, false));
    project.write("pipelines/b.yaml", &hello("mended"));
    let mended = following.until(|generation| generation.is_current()).await;
    assert_eq!(mended.number, good.number + 1);
    assert!(says(&mended, "a", "two") && says(&mended, "b", "mended"));
    // What is undone makes no other generation.
    project.write("pipelines/b.yaml", BROKEN);
    following.until(|generation| !generation.is_current()).await;
    project.write("pipelines/b.yaml", &hello("mended"));
    let undone = following.until(|generation| generation.is_current()).await;
    assert_eq!((undone.number, undone.hash), (mended.number, mended.hash));
}

#[tokio::test]
async fn a_broken_file_at_the_start_does_not_stop_the_others() {
    let project = Project::new(&[("pipelines/a.yaml", &hello("one")), ("pipelines/b.yaml", BROKEN)]);
    let mut following = project.open().await;
    let first = following.now();
    assert_eq!((names(&first), first.is_current()), (vec!["a"], false));
    project.write("pipelines/b.yaml", &hello("mended"));
    let mended = following.until(|generation| generation.is_current()).await;
    assert_eq!(names(&mended), ["a", "b"]);
}

#[tokio::test]
async fn an_edited_prompt_makes_new_versions_of_those_that_use_it_only() {
    let project = Project::new(&[
        ("pipelines/a.yaml", &prompted("prompts/a.j2")),
        ("pipelines/b.yaml", &prompted("../shared/b.j2")),
        ("pipelines/c.yaml", &hello("one")),
        ("pipelines/parent.yaml", "steps:\n  call: { uses: pipeline.run, with: { pipeline: a } }\n"),
        ("pipelines/prompts/a.j2", "A {% include 'part.j2' %}"),
        ("pipelines/prompts/part.j2", "part"),
        ("shared/b.j2", "B"),
    ]);
    let mut following = project.open().await;
    let first = following.now();
    assert!(first.is_current(), "{:?}", first.checked.diagnostics);
    project.write("pipelines/prompts/part.j2", "another part");
    let second = following.until(|generation| generation.hash != first.hash).await;
    assert_eq!(other(&first, &second), ["a", "parent"]);
    project.write("shared/b.j2", "another B");
    let third = following.until(|generation| generation.hash != second.hash).await;
    assert_eq!(other(&second, &third), ["b"]);
    // One that is missing is looked for.
    fs::remove_file(project.path("shared/b.j2")).unwrap();
    let without = following.until(|generation| !generation.is_current()).await;
    assert_eq!(without.number, third.number);
    project.write("shared/b.j2", "B again");
    following.until(|generation| generation.is_current() && says(generation, "b", "B again")).await;
    // So is its folder.
    fs::remove_dir_all(project.path("shared")).unwrap();
    following.until(|generation| !generation.is_current()).await;
    project.write("shared/b.j2", "B at last");
    following.until(|generation| generation.is_current() && says(generation, "b", "B at last")).await;
}

#[tokio::test]
async fn an_edited_manifest_makes_new_versions_of_those_that_use_it_only() {
    let project = Project::new(&[
        ("connectors/shop.yaml", SHOP),
        ("connectors/other.yaml", &SHOP.replace("shop", "other")),
        ("pipelines/a.yaml", "steps:\n  me: { uses: shop.me }\n"),
        ("pipelines/b.yaml", "steps:\n  me: { uses: other.me }\n"),
        ("pipelines/c.yaml", &hello("one")),
    ]);
    let mut following = project.open().await;
    let first = following.now();
    assert!(first.is_current(), "{:?}", first.checked.diagnostics);
    project.write("connectors/shop.yaml", &SHOP.replace("/me", "/v2/me"));
    let second = following.until(|generation| generation.hash != first.hash).await;
    assert_eq!(other(&first, &second), ["a"]);
    assert!(Arc::ptr_eq(&first.pipelines["b"], &second.pipelines["b"]));
    // An operation that is gone breaks who uses it, and so the whole set.
    project.write("connectors/shop.yaml", &SHOP.replace("  me:", "  you:"));
    let refused = following.until(|generation| !generation.is_current()).await;
    assert!(Arc::ptr_eq(&refused.pipelines["a"], &second.pipelines["a"]));
}

#[tokio::test]
async fn the_project_file_is_part_of_the_set_and_secrets_are_known_by_name_only() {
    let project = Project::new(&[
        ("pipewright.yaml", "secrets: [ { env_file: .env } ]\n"),
        (".env", "KEY=hunter2\n"),
        ("pipelines/a.yaml", &hello("{{ secrets.KEY }}")),
    ]);
    let mut following = project.open().await;
    let first = following.now();
    assert!(first.is_current(), "{:?}", first.checked.diagnostics);
    project.write(".env", "NAME=hunter2\n");
    let refused = following.until(|generation| !generation.is_current()).await;
    assert!(!format!("{refused:?}").contains("hunter2"));
    project.write("pipewright.yaml", "secrets: [env]\nallow: { shell: true }\n");
    let second = following.until(|generation| generation.is_current()).await;
    assert!(second.project.shell && !first.project.shell);
}

#[tokio::test]
async fn a_reload_can_be_asked_for() {
    let project = Project::new(&[("pipelines/a.yaml", &hello("one"))]);
    let ground = Ground { root: project.path("pipelines/.."), can_seal: true };
    let (reloader, generations) = Reloader::open(ground, System::real()).await;
    let following = Following { reloader, generations };
    for text in ["two", "six"] {
        project.write("pipelines/a.yaml", &hello(text));
        let generation = following.reloader.reload_now().await;
        assert!(says(&generation, "a", text));
    }
}

#[tokio::test]
async fn thousands_of_files_are_followed() {
    let project = Project::new(&[]);
    for number in 0..2_000 {
        project.write(&format!("pipelines/{}/p{number}.yaml", number % 40), &hello("one"));
    }
    let mut following = project.open().await;
    let first = following.now();
    assert_eq!(first.pipelines.len(), 2_000);
    project.write("pipelines/7/p7.yaml", &hello("two"));
    let second = following.until_says("p7", "two").await;
    assert_eq!(other(&first, &second), ["p7"]);
}

/// What becomes of a file in a storm of edits.
#[derive(Clone, Debug)]
enum Edit {
    Write(usize, u8),
    Break(usize),
    Remove(usize),
    Rename(usize, usize),
    ByRename(usize, u8),
    /// A parent and its child, which are valid only together.
    Pair(u8),
    RemoveFolder,
}

fn edit() -> impl Strategy<Value = Edit> {
    let file = || 0..4_usize;
    prop_oneof![
        6 => (file(), any::<u8>()).prop_map(|(file, text)| Edit::Write(file, text)),
        2 => file().prop_map(Edit::Break),
        2 => file().prop_map(Edit::Remove),
        2 => (file(), file()).prop_map(|(from, to)| Edit::Rename(from, to)),
        3 => (file(), any::<u8>()).prop_map(|(file, text)| Edit::ByRename(file, text)),
        4 => any::<u8>().prop_map(Edit::Pair),
        1 => Just(Edit::RemoveFolder),
    ]
}

fn place(file: usize) -> String {
    format!("pipelines/{}f{file}.yaml", ["", "deep/"][file % 2])
}

fn parent(input: u8) -> String {
    format!("steps:\n  call: {{ uses: pipeline.run, with: {{ pipeline: child, inputs: {{ v{input}: x }} }} }}\n")
}

fn child(input: u8) -> String {
    format!("inputs: {{ v{input}: {{ type: string }} }}\n{}", hello("child"))
}

impl Edit {
    fn apply(&self, project: &Project) {
        match *self {
            Self::Write(file, text) => project.write(&place(file), &hello(&text.to_string())),
            Self::Break(file) => project.write(&place(file), BROKEN),
            Self::Remove(file) => drop(fs::remove_file(project.path(&place(file)))),
            Self::Rename(from, to) => drop(fs::rename(project.path(&place(from)), project.path(&place(to)))),
            Self::ByRename(file, text) => {
                project.write("pipelines/deep/.tmp", &hello(&text.to_string()));
                fs::create_dir_all(project.path(&place(file)).parent().unwrap()).unwrap();
                fs::rename(project.path("pipelines/deep/.tmp"), project.path(&place(file))).unwrap();
            }
            Self::Pair(input) => {
                project.write("pipelines/parent.yaml", &parent(input));
                project.write("pipelines/child.yaml", &child(input));
            }
            Self::RemoveFolder => drop(fs::remove_dir_all(project.path("pipelines/deep"))),
        }
    }
}

/// Reads the project's pipelines as they are on the disk.
fn on_disk(root: &Path) -> Arc<Snapshot> {
    let mut snapshot = Snapshot::default();
    for folder in ["pipelines", "pipelines/deep"] {
        for entry in fs::read_dir(root.join(folder)).into_iter().flatten().flatten() {
            if entry.path().extension().is_some_and(|ending| ending == "yaml") {
                snapshot.insert(entry.path(), File::new(fs::read(entry.path()).unwrap()));
            }
        }
    }
    Arc::new(snapshot)
}

/// A parent in a generation calls the child that is in it.
fn is_consistent(generation: &Generation) -> bool {
    generation.pipelines.values().all(|pipeline| {
        let calls = pipeline.main.steps.iter().filter_map(|step| step.child.as_ref());
        calls.into_iter().all(|child| generation.pipelines[&child.name].version == child.version)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn a_storm_of_edits_ends_in_what_the_files_hold(edits in prop::collection::vec(edit(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let project = Project::new(&[("pipelines/parent.yaml", &parent(1)), ("pipelines/child.yaml", &child(1))]);
            let mut following = project.open().await;
            let mut generations = following.generations.clone();
            let (end, mut ended) = tokio::sync::oneshot::channel::<()>();
            let seen = tokio::spawn(async move {
                let mut seen = Vec::new();
                loop {
                    seen.push(generations.borrow_and_update().clone());
                    tokio::select! {
                        changed = generations.changed() => if changed.is_err() { break },
                        _ = &mut ended => break,
                    }
                }
                seen
            });
            for edit in &edits {
                edit.apply(&project);
            }
            // All that is broken is mended.
            (0..4).for_each(|file| project.write(&place(file), &hello("end")));
            Edit::Pair(200).apply(&project);
            let wanted = on_disk(project.folder.path()).hash(project.folder.path());
            let last = following.until(|generation| generation.hash == wanted && generation.is_current()).await;
            assert_eq!(names(&last), ["child", "f0", "f1", "f2", "f3", "parent"]);
            drop(end);
            for generation in seen.await.unwrap() {
                assert!(is_consistent(&generation));
                assert!(generation.is_current() || generation.hash != generation.latest);
            }
        });
    }

    #[test]
    fn what_is_known_from_before_changes_nothing(sets in prop::collection::vec(prop::collection::vec((0..6_usize, 0..6_u8), 0..8), 1..8)) {
        let ground = Ground { root: "/p".into(), can_seal: true };
        let mut active: Option<Generation> = None;
        for set in sets {
            let mut files = Snapshot::default();
            for (file, kind) in set {
                let text = match kind {
                    0 => BROKEN.to_owned(),
                    1 => prompted("x.j2"),
                    2 => format!("steps:\n  call: {{ uses: pipeline.run, with: {{ pipeline: f{} }} }}\n", (file + 1) % 6),
                    3 => format!("name: f{}\n{}", (file + 3) % 6, hello("named")),
                    kind => hello(&kind.to_string()),
                };
                files.insert(format!("/p/pipelines/f{file}.yaml").into(), File::new(text.into_bytes()));
                if kind == 5 {
                    files.insert("/p/pipelines/x.j2".into(), File::new(format!("prompt {file}").into_bytes()));
                }
            }
            let files = Arc::new(files);
            let (fresh, next) = (attempt(&ground, None, &files), attempt(&ground, active.as_ref(), &files));
            prop_assert_eq!(&fresh.generation.checked.diagnostics, &next.generation.checked.diagnostics);
            let versions = |generation: &Generation| -> BTreeSet<String> {
                generation.pipelines.values().map(|pipeline| pipeline.version.0.to_string()).collect()
            };
            match next.outcome {
                Outcome::Refused => {
                    prop_assert_eq!(fresh.outcome, Outcome::InPart);
                    prop_assert_eq!(next.generation.hash, active.as_ref().unwrap().hash);
                    prop_assert_eq!(versions(&next.generation), versions(active.as_ref().unwrap()));
                }
                _ => {
                    prop_assert_eq!(next.generation.hash, files.hash(&ground.root));
                    prop_assert_eq!(versions(&next.generation), versions(&fresh.generation));
                }
            }
            let again = attempt(&ground, Some(&next.generation), &files);
            prop_assert!(!next.generation.is_current() || again.compiled == 0, "{} were compiled again", again.compiled);
            active = Some(next.generation);
        }
    }
}
