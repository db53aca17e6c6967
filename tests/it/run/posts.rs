//! Posts through whole runs: what was adapted is what the stand-ins take.

use std::fs;

use pipewright::connector::library::BUILT_IN;
use pipewright::connector::library::Library;
use pipewright::connector::library::Loaded;
use pipewright::engine::Execution;
use pipewright::model::RunState;
use pipewright::model::Value;
use pipewright::model::parse_json;

use super::Stage;

/// The names of the manifests that take posts without media: those of the tests, which are put into the project, and
/// those of the binary.
fn takers(stage: &Stage) -> Vec<String> {
    let mut names = Vec::new();
    for entry in fs::read_dir("tests/manifests/social").unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let folder = stage.folder.path().join("connectors");
        fs::create_dir_all(&folder).unwrap();
        fs::copy(&path, folder.join(format!("{name}.yaml"))).unwrap();
        names.push(name);
    }
    let own = Library::default();
    for (name, _) in BUILT_IN {
        if let Loaded::Manifest(manifest) = own.get(name)
            && manifest.operations.contains_key("publish")
        {
            names.push((*name).to_owned());
        }
    }
    names.sort();
    names
}

/// Posts of many shapes; each says something else, as platforms refuse what they have seen.
fn posts() -> Vec<String> {
    let words = "Every batch is written once, whatever happens. ".repeat(40);
    let posts = [
        r#"{"text":"Release 2.4 is out.","title":"Release","link":"https://example.com/r/24","tags":["data","data science"]}"#.to_owned(),
        format!(r##"{{"text":"One. {words}","tags":["a","b","c","d","e","f"],"title":"{}"}}"##, "t".repeat(90)),
        format!(r#"{{"text":"{}","title":"Laughter"}}"#, "ha".repeat(900)),
        format!(r#"{{"text":"Two. {}","title":"Japanese"}}"#, "日本語のテスト。".repeat(60)),
        r##"{"text":"#a #b #c #d #e and $ACME and $OTHER and @a @b @c @d @e @f @g","title":"Marks"}"##.to_owned(),
        format!(r#"{{"text":"{}","title":"Families"}}"#, "👩‍👩‍👧‍👦 ".repeat(300)),
        r#"{"text":"A thread","thread":["of two","and three"],"title":"Parts"}"#.to_owned(),
        r#"{"text":"Pictures","title":"Pictures","media":[{"url":"https://cdn.example.com/a.jpg","alt":"A chart"}]}"#.to_owned(),
    ];
    posts.to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_adapted_is_what_the_stand_in_takes() {
    let stage = Stage::new();
    let names = takers(&stage);
    let (stage, _sandbox) = stage.sandboxed(&[], 1).await;
    let engine = stage.engine().await;
    let mut taken = std::collections::BTreeMap::new();
    for name in &names {
        let pipeline = stage.pipeline(&format!(
            "inputs: {{ post: {{ type: object }} }}
steps:
  adapt: {{ uses: content.adapt, with: {{ connection: {name}, post: \"{{{{ inputs.post }}}}\", shorten: true }} }}
  publish: {{ uses: {name}.publish, with: \"{{{{ steps.adapt.output.post }}}}\" }}
outputs: {{ notes: \"{{{{ steps.adapt.output.notes | length }}}}\" }}
"
        ));
        for post in posts() {
            let inputs = Value::map([("post", parse_json(&post).unwrap())]);
            let run = engine.start(&pipeline, inputs).await.unwrap();
            let played = stage.hasten_run(&engine, run, &pipeline, None).await;
            let told = played.told();
            match played.execution {
                Execution::Finished { state: RunState::Succeeded, .. } => *taken.entry(name.clone()).or_insert(0) += 1,
                // The one thing that may keep a post from being published is what the adaptation says of it.
                _ => assert!(told.contains("does not take the post"), "{name}: {post}\n{told}"),
            }
        }
    }
    let of = |name: &str| taken.get(name).copied().unwrap_or(0);
    assert_eq!((of("micro"), of("network"), of("photos"), of("video")), (7, 8, 1, 7), "{taken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_post_that_cannot_be_adapted_is_rejected_with_every_reason() {
    let stage = Stage::new();
    takers(&stage);
    fs::write(stage.folder.path().join("words.txt"), "# never\nfree money\n").unwrap();
    let (stage, _sandbox) = stage.sandboxed(&[], 1).await;
    let engine = stage.engine().await;
    let pipeline = stage.pipeline(
        "inputs: { connection: { type: string } }
steps:
  adapt:
    uses: content.adapt
    with:
      connection: \"{{ inputs.connection }}\"
      post: { text: \"Free  MONEY for everybody who reads this post of ours\", visibility: public }
      banned: words.txt
      near: 0.6
      earlier: [ { id: p1, text: \"free money for everybody who reads this post\", at: \"2026-11-01T09:00:00Z\" }, { id: p2, text: other } ]
",
    );
    let photos = "`photos` does not take the post: `media` is needed; give `media`; `text` has `free money`, which no \
                  post may have; say it otherwise; `text` says 75 % of what `p1` of 2026-11-01T09:00:00Z said, less \
                  than 60 % is allowed; say something new";
    let cases = [
        ("photos", photos),
        ("nobody", "there is no connection `nobody`"),
        ("discord", "connector `discord` of connection `discord` has no operation `publish`"),
    ];
    for (connection, expected) in cases {
        let inputs = Value::map([("connection", Value::from(connection))]);
        let run = engine.start(&pipeline, inputs).await.unwrap();
        let told = stage.hasten_run(&engine, run, &pipeline, None).await.told();
        assert!(told.contains(expected), "{connection}: {told}");
    }
}
