//! Posts and the platforms that take them: whatever `publish` declares is what an adapted post keeps to.

mod broken;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::LazyLock;

use pipewright::connector::library;
use pipewright::connector::library::Library;
use pipewright::connector::library::Loaded;
use pipewright::connector::manifest::Manifest;
use pipewright::connector::schema;
use pipewright::content::Adapted;
use pipewright::content::Medium;
use pipewright::content::Post;
use pipewright::content::Threads;
use pipewright::content::Wishes;
use pipewright::model::Blob;
use pipewright::model::Timestamp;
use pipewright::model::Value;
use pipewright::nodes::posts::Platform;
use proptest::prelude::*;

use crate::support::shell::Shell;

const NOW: Timestamp = Timestamp(1_795_000_000_000_000);

/// The manifests that take posts: those of the tests, and those of the binary.
fn manifests() -> Vec<Arc<Manifest>> {
    let mut found = Vec::new();
    let mut files: Vec<_> =
        fs::read_dir("tests/manifests/social").unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    for path in files {
        match library::read(&path.display().to_string().into(), &fs::read_to_string(&path).unwrap().into()) {
            Loaded::Manifest(manifest) => found.push(manifest),
            other => panic!("{}: {other:?}", path.display()),
        }
    }
    assert_eq!(found.len(), 4);
    let own = Library::default();
    for (name, _) in library::BUILT_IN {
        if let Loaded::Manifest(manifest) = own.get(name)
            && manifest.operations.contains_key("publish")
        {
            found.push(manifest);
        }
    }
    found
}

fn platforms() -> &'static [Platform] {
    static PLATFORMS: LazyLock<Vec<Platform>> = LazyLock::new(|| {
        let of = |manifest: &Arc<Manifest>| {
            let config = schema::completed(&manifest.config, Value::Null);
            Platform::of(&manifest.name, manifest, config, NOW).unwrap()
        };
        manifests().iter().map(of).collect()
    });
    &PLATFORMS
}

fn platform(name: &str) -> &'static Platform {
    platforms().iter().find(|platform| platform.name == name).unwrap()
}

fn post(text: &str) -> Post {
    Post { text: text.to_owned(), ..Post::default() }
}

fn file(name: &str, kind: &str, size: u64) -> Value {
    let (address, file_name) = (format!("sha256:{}", "0".repeat(64)), Some(name.to_owned()));
    Value::Blob(Arc::new(Blob { address, size, offset: None, media_type: Some(kind.to_owned()), file_name }))
}

fn told(adapted: &Adapted) -> String {
    let notes = adapted.notes.iter().map(|note| format!("{}: {}", note.at, note.message));
    let faults = adapted.faults.iter().map(|fault| format!("{}! {}", fault.at, fault.message));
    notes.chain(faults).collect::<Vec<_>>().join("\n")
}

fn bare(texts: impl IntoIterator<Item = String>) -> String {
    texts.into_iter().flat_map(|text| text.chars().filter(|it| !it.is_whitespace()).collect::<Vec<_>>()).collect()
}

/// What people write, and what they should not.
fn texts() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        8 => "[a-zA-Zäéß]{1,12}[.,!?:;]?",
        1 => Just("https://example.com/a/path-that-is-long?with=a&query=1".to_owned()),
        1 => Just("example.com".to_owned()),
        1 => "#[a-z]{1,9}",
        1 => "@[a-z]{1,9}",
        1 => "\\$[A-Z]{1,5}",
        1 => Just("👩‍👩‍👧‍👦🇩🇪👍🏽".to_owned()),
        1 => "[日本語テスト。、한국]{1,40}",
        1 => Just("x".repeat(300)),
        1 => "\\PC{0,9}",
    ];
    let between = prop_oneof![6 => Just(" "), 1 => Just("\n"), 1 => Just("\n\n"), 1 => Just(""), 1 => Just(". ")];
    prop::collection::vec((word, between), 0..120)
        .prop_map(|parts| parts.into_iter().map(|(word, between)| format!("{word}{between}")).collect())
}

fn posts() -> impl Strategy<Value = Post> {
    let short = || prop_oneof![3 => Just(String::new()), 1 => "\\PC{0,140}"];
    let medium = prop_oneof![
        Just(Medium { file: file("a.png", "image/png", 1_000), alt: "A chart".to_owned(), ..Medium::default() }),
        Just(Medium { url: "https://cdn.example.com/a.jpg".to_owned(), ..Medium::default() }),
        Just(Medium { file: file("a.mp4", "video/mp4", 600_000_000), ..Medium::default() }),
        Just(Medium { file: file("a.gif", "image/gif", 9), alt: "x".repeat(2_000), ..Medium::default() }),
    ];
    let link = prop_oneof![2 => Just(String::new()), 1 => Just("https://example.com/r/24".to_owned())];
    let lists = (
        prop::collection::vec(texts(), 0..3),
        prop::collection::vec("\\PC{0,30}", 0..9),
        prop::collection::vec(medium, 0..6),
    );
    (texts(), short(), short(), link, lists).prop_map(|(text, title, description, link, (thread, tags, media))| {
        let given = Post { text, title, description, link, thread, tags, media, ..Post::default() };
        // As it is read: without space at the ends.
        Post::read(&given.to_value()).unwrap()
    })
}

fn wishes() -> impl Strategy<Value = Wishes> {
    let threads = prop_oneof![Just(Threads::Auto), Just(Threads::Numbered), Just(Threads::Never)];
    let names = BTreeMap::from([("a".to_owned(), Some("@acme".to_owned())), ("b".to_owned(), None)]);
    (threads, any::<bool>(), any::<bool>()).prop_map(move |(threads, shorten, named)| {
        let mentions = if named { names.clone() } else { BTreeMap::new() };
        Wishes { threads, shorten, mentions }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_adapted_is_taken_and_stays_as_it_is(post in posts(), wishes in wishes()) {
        for platform in platforms() {
            let once = platform.adapt(post.clone(), &wishes, NOW);
            prop_assert_eq!(&platform.adapt(post.clone(), &wishes, NOW), &once, "{} is not the same twice", platform.name);
            if !once.faults.is_empty() {
                continue;
            }
            let input = schema::completed(&platform.declared, once.post.to_value());
            prop_assert_eq!(schema::check(&platform.declared, &input, false), vec![], "{}", platform.name);
            let again = platform.adapt(once.post.clone(), &wishes, NOW);
            prop_assert_eq!(&again.post, &once.post, "{}:\n{}\n{}", platform.name, told(&once), told(&again));
            prop_assert!(again.faults.is_empty(), "{}: {}", platform.name, told(&again));
        }
    }

    #[test]
    fn a_thread_says_every_word_of_its_text(text in texts()) {
        // Marks that are held to a number are no words.
        let text = text.replace(['#', '@', '$', '＃', '＠', '\u{feff}', '\u{fffe}', '\u{ffff}'], "");
        let micro = platform("micro");
        let adapted = micro.adapt(Post::read(&post(&text).to_value()).unwrap(), &Wishes::default(), NOW);
        if text.trim().is_empty() {
            return Ok(());
        }
        let is_long = adapted.faults.iter().all(|fault| fault.message.contains("further parts"));
        prop_assert!(is_long, "{}", told(&adapted));
        let mut parts: Vec<String> = [adapted.post.text].into_iter().chain(adapted.post.thread).collect();
        // Parts that would be the same are numbered.
        let total = parts.len();
        if total > 1 && parts.iter().zip(1..).all(|(part, number)| part.ends_with(&format!(" {number}/{total}"))) {
            for (part, number) in parts.iter_mut().zip(1..) {
                *part = part.trim_end_matches(&format!("{number}/{total}")).to_owned();
            }
        }
        prop_assert_eq!(bare(parts), bare([text]));
    }
}

#[test]
fn most_posts_can_be_adapted() {
    // Without this the properties above could hold of nothing.
    let text = "Imports are twice as fast, and a crash in the middle of one loses nothing any more. ".repeat(9);
    let full = Post {
        title: "Release 2.4".to_owned(),
        link: "https://example.com/r/24".to_owned(),
        tags: vec!["data".to_owned(), "data science".to_owned(), "42".to_owned()],
        media: vec![Medium {
            url: "https://cdn.example.com/v.mp4".to_owned(),
            file: file("v.mp4", "video/mp4", 5),
            alt: "A tour".to_owned(),
            ..Medium::default()
        }],
        ..post(text.trim())
    };
    let wishes = Wishes { threads: Threads::Numbered, ..Wishes::default() };
    let mut shown = String::new();
    for name in ["micro", "network", "photos", "video"] {
        let adapted = platform(name).adapt(full.clone(), &wishes, NOW);
        shown.push_str(&format!("{name}\n{}\n{}\n\n", told(&adapted), adapted.post.to_value()));
    }
    insta::assert_snapshot!("posts_adapted", shown);
}

#[test]
fn what_is_in_the_way_is_told_with_a_way_out() {
    let mut shown = String::new();
    let long = "No words end here ".repeat(200);
    let picture = |name: &str, kind: &str| Medium { file: file(name, kind, 6_000_000), ..Medium::default() };
    let cases = [
        ("network", post(&long)),
        ("network", Post { media: vec![picture("a.png", "image/png")], ..post("A picture") }),
        ("network", post("a.com b.com c.com d.com e.com f.com")),
        ("photos", post("Words alone")),
        ("photos", Post { media: vec![picture("a.png", "image/png")], ..post("x") }),
        ("micro", Post { media: vec![picture("a.png", "image/png"), picture("b.gif", "image/gif")], ..post("x") }),
        ("micro", post("")),
        ("video", post("Is 1 < 2? Surely.")),
        ("video", Post { title: "t".repeat(120), ..Post::default() }),
    ];
    for (name, post) in cases {
        let adapted = platform(name).adapt(post, &Wishes::default(), NOW);
        assert!(!adapted.faults.is_empty(), "{name}: {}", told(&adapted));
        for fault in &adapted.faults {
            let mend = fault.mend.as_deref().unwrap_or("-");
            shown.push_str(&format!("{name} `{}` {}\n    {mend}\n", fault.at, fault.message));
        }
    }
    insta::assert_snapshot!("posts_refused", shown);
}

#[test]
fn what_may_be_left_out_is_left_out_where_that_is_allowed() {
    let long = "A sentence of some length stands here. ".repeat(100);
    let picture = || Medium { file: file("a.png", "image/png", 5), alt: "A chart".to_owned(), ..Medium::default() };
    let video = Medium { file: file("v.mp4", "video/mp4", 5), ..Medium::default() };
    let full = Post {
        link: "https://example.com/r/24".to_owned(),
        media: vec![picture(), picture(), picture(), picture(), picture(), video],
        ..post(long.trim())
    };
    let wishes = Wishes { shorten: true, threads: Threads::Never, ..Wishes::default() };
    let micro = platform("micro").adapt(full, &wishes, NOW);
    assert!(micro.faults.is_empty(), "{}", told(&micro));
    assert!(micro.post.text.ends_with("stands here. …\n\nhttps://example.com/r/24"), "{}", micro.post.text);
    assert_eq!((micro.post.media.len(), micro.post.thread.len()), (4, 0));
}

const POST: &str = "---
link: https://example.com/r/24
tags: [data, \"data science\"]
media: [{ file: chart.png, alt: Bar chart of import times }]
---
# Release 2.4 is out

Imports are twice as fast, and a crash in the middle of one loses nothing any more: every batch is
written once, whatever happens. Thanks to @acme for the numbers!

What is new: a planner that shows each write before it happens, a sandbox that behaves like the real systems, and
tests on virtual time. All of it is described in the manual, with examples that run at once on your machine.
";

fn project() -> Shell {
    let shell = Shell::empty();
    for name in ["micro", "network", "photos"] {
        let text = fs::read_to_string(format!("tests/manifests/social/{name}.yaml")).unwrap();
        shell.file(&format!("connectors/{name}.yaml"), &text);
    }
    let connections = "short: { connector: micro }, long: { connector: micro, max_length: 4000 }, network: { connector: network }, photos: { connector: photos }";
    shell.file("pipewright.yaml", &format!("connections: {{ {connections} }}\n"));
    shell.file("post.md", POST).file("chart.png", "pixels").file("words.txt", "# never\nCRASH\n");
    shell.file("short.yaml", "text: Release 2.4 is out.\nlink: https://example.com/r/24\n");
    shell
}

#[test]
fn a_preview_shows_what_becomes_of_a_post() {
    let shell = project();
    let shown = |arguments: &[&str]| shell.run(&[&["preview"], arguments].concat()).shown();
    insta::assert_snapshot!("preview_all", shown(&["post.md"]));
    insta::assert_snapshot!("preview_numbered", shown(&["post.md", "--connection", "short", "--thread", "numbered"]));
    insta::assert_snapshot!("preview_fits", shown(&["short.yaml", "--connection", "short,network"]));
    insta::assert_snapshot!("preview_banned", shown(&["post.md", "--connection", "long", "--banned", "words.txt"]));
    insta::assert_snapshot!("preview_json", shown(&["short.yaml", "--connection", "long", "--json"]));
    insta::assert_snapshot!("preview_colors", shown(&["post.md", "--connection", "photos", "--color", "always"]));
}

#[test]
fn a_preview_of_what_is_no_post_says_why() {
    let shell = project();
    shell.file("wrong.yaml", "text: [a]\n").file("typo.yaml", "tekst: a\n").file("list.yaml", "- a\n");
    shell.file("lost.yaml", "text: a\nmedia: [nowhere.png]\n");
    let mut all = String::new();
    for arguments in [
        &["wrong.yaml"][..],
        &["typo.yaml"],
        &["list.yaml"],
        &["lost.yaml"],
        &["nothing.yaml"],
        &["short.yaml", "--connection", "shrot"],
    ] {
        all.push_str(&shell.run(&[&["preview"], arguments].concat()).shown());
    }
    insta::assert_snapshot!("preview_wrong", all);
}

#[test]
fn a_literal_post_is_checked_as_its_connection_counts() {
    let shell = project();
    let long = "words and more words ".repeat(16);
    let adapt = |connection: &str, post: &str| {
        let step = format!("uses: content.adapt, with: {{ connection: {connection}, thread: never, post: {post} }}");
        shell.file("pipelines/posts.yaml", &format!("steps: {{ adapt: {{ {step} }} }}\n"));
        shell.run(&["validate"])
    };
    let text = format!("{{ text: \"{long}\" }}");
    let refused = adapt("short", &text);
    assert!(
        refused.shown().contains("`text` has 335 weighted characters, at most 280 are allowed"),
        "{}",
        refused.shown()
    );
    // The other connection of the same connector may write more, and of what is computed nobody knows yet.
    assert_eq!(adapt("long", &text).code, 0);
    assert_eq!(adapt("short", "{ text: \"{{ run.id }}\", media: \"{{ [] }}\" }").code, 0);
    assert_eq!(adapt("photos", "{ text: a, media: \"{{ [] }}\" }").code, 0);
    assert!(adapt("photos", "{ text: a }").shown().contains("`media` is needed"));
}

/// Returns the blocks of YAML of the manual.
fn blocks() -> Vec<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/content.md");
    let text = std::fs::read_to_string(path).unwrap();
    let blocks = text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    blocks.collect()
}

#[test]
fn what_the_manual_says_word_by_word_posts_to_each_platform() {
    let shell = Shell::project();
    let blocks = blocks();
    let connections = blocks.iter().filter_map(|block| block.strip_prefix("connections:\n"));
    shell.file("pipewright.yaml", &format!("connections:\n{}", connections.collect::<String>()));
    shell.file("media/tour.mp4", "no film, but bytes");
    let steps = |with: &str| blocks.iter().find(|block| block.contains("steps:") && block.contains(with)).unwrap();
    let first = steps("connection: x,");
    shell.file("pipelines/x.yaml", first);
    for other in ["linkedin", "facebook"] {
        shell.file(
            &format!("pipelines/{other}.yaml"),
            &first.replace("connection: x,", &format!("connection: {other},")),
        );
    }
    for own in ["instagram", "youtube"] {
        shell.file(&format!("pipelines/{own}.yaml"), steps(&format!("connection: {own},")));
    }
    for platform in ["x", "linkedin", "facebook", "instagram", "youtube"] {
        let ended = shell.run(&["run", platform, "--sandbox"]);
        assert!(
            ended.code == 0 && ended.err.contains(&format!("sandbox: {platform} ")),
            "{platform}: {}",
            ended.shown()
        );
        let posts = shell.run(&["--sandbox", "posts", "list", "--all", "--connection", platform]);
        assert!(posts.out.contains("published"), "{}", posts.shown());
    }
}

#[test]
fn a_connection_that_is_not_there_is_told_once() {
    let shell = Shell::project();
    shell.file("pipelines/first.yaml", blocks().iter().find(|block| block.contains("connection: x,")).unwrap());
    let ended = shell.run(&["run", "first", "--sandbox"]);
    assert!(ended.code == 2 && ended.err.contains("1 error in 1 file"), "{}", ended.shown());
    assert!(ended.err.contains("pipelines/first.yaml:3:53: error[unknown-connection]"), "{}", ended.shown());
    // However its lines are broken, and for each step that names it.
    let step = "\n    uses: social.publish\n    with:\n      connection: y\n      post: { text: a }\n";
    shell.file("pipelines/first.yaml", &format!("steps:\n  a:{step}  b:{step}"));
    let ended = shell.run(&["run", "first", "--sandbox"]);
    assert!(ended.err.contains("2 errors in 1 file"), "{}", ended.shown());
}

#[test]
fn a_plan_of_the_loop_leaves_open_what_the_model_will_write() {
    let shell = Shell::empty();
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    shell.file("pipewright.yaml", &std::fs::read_to_string(root.join("pipewright.yaml")).unwrap());
    for name in ["content.yaml", "prompts/post.md.j2", "prompts/voice.md.j2", "prompts/banned.txt"] {
        let path = format!("pipelines/{name}");
        shell.file(&path, &std::fs::read_to_string(root.join(&path)).unwrap());
    }
    let plan = shell.run(&["plan", "content", "--sandbox"]);
    assert!(plan.code == 0 && !plan.out.contains("would fail"), "{}", plan.shown());
    assert!(plan.out.contains("? drafts[0]  ai.generate"), "{}", plan.out);
    assert!(plan.out.contains("x.create_post over x"), "{}", plan.out);
}
