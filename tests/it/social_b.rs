//! Publishing to pages of Facebook and to Instagram, rehearsed against their stand-ins on virtual time: whatever is lost
//! on the way, there is one post. And a client that this project did not write takes the stand-ins for the real thing.

use std::collections::BTreeSet;
use std::sync::Arc;

use pipewright::connector::auth::custody::Custody;
use pipewright::connector::auth::login;
use pipewright::connector::auth::standing;
use pipewright::connector::library::Library;
use pipewright::connector::library::Loaded;
use pipewright::connector::runtime::Link;
use pipewright::connector::runtime::Runtime;
use pipewright::engine::Engine;
use pipewright::engine::ExecuteOptions;
use pipewright::engine::Execution;
use pipewright::engine::NoSecrets;
use pipewright::engine::Parts;
use pipewright::engine::Probe;
use pipewright::http::Transport;
use pipewright::model::Duration;
use pipewright::model::RunId;
use pipewright::model::RunState;
use pipewright::model::Timestamp;
use pipewright::model::Value;
use pipewright::model::parse_json;
use pipewright::node::Access;
use pipewright::node::Registry;
use pipewright::node::Services;
use pipewright::pipeline::Catalog;
use pipewright::pipeline::Pipeline;
use pipewright::sandbox::cast::SandboxConnections;
use pipewright::sandbox::exchange::Received;
use pipewright::sandbox::fault::Faults;
use pipewright::sandbox::transport::Here;
use pipewright::sandbox::world::Fate;
use pipewright::sandbox::world::Plans;
use pipewright::sandbox::world::Seat;
use pipewright::sandbox::world::Wanted;
use pipewright::sandbox::world::World;
use pipewright::secrets::MasterKey;
use pipewright::store::OpenOptions;
use pipewright::store::Store;
use pipewright::system::Random;
use pipewright::system::System;
use pipewright::system::VirtualClock;

/// 2026-11-28T10:00:00Z.
const START: Timestamp = Timestamp(1_795_860_000_000_000);
/// How far the clock of a rehearsal goes.
const LIMIT: Duration = Duration::from_secs(4 * 86_400);
/// How long the machine may take for one, whatever its virtual time.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
/// More than two of the chunks that the stand-in of Facebook asks for.
const CLIP: usize = 600_000;
/// So large that it is read while it is sent.
const LARGE: usize = 1_500_000;

/// A post of some kind.
struct Case {
    connector: &'static str,
    /// What the connection says beside `auth`.
    settings: &'static str,
    /// The input of `publish`; `inputs.clip` and `inputs.photo` are files.
    with: &'static str,
    /// How many comments belong to it.
    comments: usize,
}

const FACEBOOK: &[(&str, Case)] = &[
    (
        "text",
        Case {
            connector: "facebook",
            settings: "{}",
            with: r#"text: "Two\r\nlines ", link: "https://example.com/r/24""#,
            comments: 0,
        },
    ),
    (
        "photo",
        Case {
            connector: "facebook",
            settings: "{}",
            with: r#"text: "The chart", media: [ { file: "{{ inputs.photo }}", alt: A chart } ], thread: [one, two]"#,
            comments: 2,
        },
    ),
    (
        "photos",
        Case {
            connector: "facebook",
            settings: "{}",
            with: r#"media: [ { file: "{{ inputs.photo }}" }, { url: "https://cdn.example.com/2.jpg" }, { url: "https://cdn.example.com/3.jpg" } ]"#,
            comments: 0,
        },
    ),
    (
        "video",
        Case {
            connector: "facebook",
            settings: "{}",
            with: r#"text: How, title: Demo, media: [ { file: "{{ inputs.clip }}" } ]"#,
            comments: 0,
        },
    ),
    (
        "reel",
        Case {
            connector: "facebook",
            settings: "{}",
            with: r#"text: Look, reel: true, media: [ { file: "{{ inputs.clip }}" } ], thread: [one]"#,
            comments: 1,
        },
    ),
    (
        "reel of a URL",
        Case {
            connector: "facebook",
            settings: "{}",
            with: r#"reel: true, media: [ { url: "https://cdn.example.com/v.mp4" } ]"#,
            comments: 0,
        },
    ),
    (
        "photos later",
        Case {
            connector: "facebook",
            settings: "{}",
            with: r#"text: Later, media: [ { url: "https://cdn.example.com/2.jpg" } ], schedule_at: "{{ now() + duration('20d') }}""#,
            comments: 0,
        },
    ),
    (
        "reel later",
        Case {
            connector: "facebook",
            settings: "{}",
            with: r#"text: Later, reel: true, media: [ { file: "{{ inputs.clip }}" } ], schedule_at: "{{ now() + duration('20d') }}""#,
            comments: 0,
        },
    ),
];

const INSTAGRAM: &[(&str, Case)] = &[
    (
        "picture",
        Case {
            connector: "instagram",
            settings: "{}",
            with: r#"text: "Two\r\nlines ", media: [ { url: "https://cdn.example.com/a.jpg", alt: Chart } ], thread: [one]"#,
            comments: 1,
        },
    ),
    (
        "reel without a caption",
        Case {
            connector: "instagram",
            settings: "{}",
            with: r#"media: [ { url: "https://cdn.example.com/v.mp4" } ]"#,
            comments: 0,
        },
    ),
    (
        "carousel",
        Case {
            connector: "instagram",
            settings: "{}",
            with: r#"text: Three, media: [ { url: "https://cdn.example.com/1.jpg" }, { url: "https://cdn.example.com/2.mp4" }, { url: "https://cdn.example.com/3.jpg" } ]"#,
            comments: 0,
        },
    ),
    (
        "file",
        Case {
            connector: "instagram",
            settings: "{login: facebook}",
            with: r#"text: Look, media: [ { file: "{{ inputs.clip }}" } ]"#,
            comments: 0,
        },
    ),
];

/// A project in a folder of its own, whose stand-ins are planned once.
struct Project {
    folder: tempfile::TempDir,
    library: Arc<Library>,
    plans: Arc<Plans>,
}

/// One sandbox with an engine.
struct Stage {
    world: Arc<World>,
    system: System,
    store: Store,
    runtime: Arc<Runtime>,
    engine: Engine,
}

fn settings(text: &str) -> Value {
    let json = text.replace("login: facebook", r#""login":"facebook""#);
    parse_json(&json).unwrap()
}

impl Project {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let library = Arc::new(Library::open(folder.path()));
        Self { plans: Arc::new(Plans::new(library.clone())), library, folder }
    }

    fn pipeline(&self, steps: &str) -> Arc<Pipeline> {
        let path = self.folder.path().join("pipelines/test.yaml");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let inputs = "inputs: { clip: { type: blob }, photo: { type: blob } }";
        std::fs::write(path, format!("{inputs}\n{steps}")).unwrap();
        let nodes = pipewright::nodes::registry().iter().cloned().collect::<Vec<_>>();
        let registry = Registry::new(nodes).with_operations(self.library.clone());
        let loaded = Catalog::open(self.folder.path(), registry).load("test").unwrap();
        loaded.pipeline.unwrap_or_else(|| panic!("{:#?}", loaded.diagnostics))
    }

    fn publishing(&self, case: &Case) -> Arc<Pipeline> {
        let (connector, with) = (case.connector, case.with);
        self.pipeline(&format!(
            r#"steps:
  post: {{ uses: {connector}.publish, with: {{ connection: own, {with} }} }}
outputs: {{ id: "{{{{ steps.post.output.id }}}}", url: "{{{{ steps.post.output.url }}}}", ids: "{{{{ steps.post.output.ids }}}}" }}
"#
        ))
    }

    async fn stage(&self, clock: &VirtualClock, case: &Case, faults: &[String]) -> Stage {
        let system = System { clock: Arc::new(clock.clone()), random: Random::seeded(7) };
        let key = MasterKey::from_base64("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=").unwrap();
        let options = OpenOptions { sealer: Some(Arc::new(key)), ..OpenOptions::default() };
        let store = Store::open("sqlite::memory:", options).await.unwrap();
        let wanted = Wanted {
            connection: "own".into(),
            connector: case.connector.into(),
            settings: settings(case.settings),
            kind: None,
            flow: None,
        };
        let faults = Faults::new(faults.iter().map(|text| text.parse().unwrap()));
        let world = Arc::new(World::of(self.plans.clone(), vec![wanted], system.clone(), faults, 1));
        let http: Arc<dyn Transport> = Arc::new(Here(world.clone()));
        let custody = Custody { store: store.clone(), http: http.clone(), system: system.clone() };
        let runtime = Runtime::new(Arc::new(SandboxConnections(world.clone()))).with_custody(custody);
        let runtime = Arc::new(runtime);
        let root = self.folder.path().to_owned();
        let engine = Engine::new(Parts {
            system: system.clone(),
            store: store.clone(),
            http,
            access: Access { root, files_outside: false, shell: false, databases: Vec::new(), rehearsal: true },
            secrets: Arc::new(NoSecrets),
            owner: "test".to_owned(),
            owner_is_gone: |_| true,
            send_window: Duration::from_secs(10),
            services: Services::default().with(runtime.clone()),
            probe: Probe::default(),
            tape: Default::default(),
        });
        Stage { world, system, store, runtime, engine }
    }

    fn link(&self, stage: &Stage, connector: &str) -> Link {
        let Loaded::Manifest(manifest) = self.library.get(connector) else { panic!("{connector}") };
        stage.runtime.link(&manifest, "own").unwrap()
    }
}

/// Runs work on virtual time, no longer than the machine may take.
fn in_no_time<T>(work: impl AsyncFnOnce(&VirtualClock) -> T) -> T {
    let clock = VirtualClock::new(START, START.plus(LIMIT.times(100)));
    clock.run(async { tokio::time::timeout(PATIENCE, work(&clock)).await.unwrap() }).unwrap()
}

impl Stage {
    fn seat(&self, case: &Case) -> Arc<Seat> {
        self.world.seat(case.connector).unwrap()
    }

    async fn start(&self, pipeline: &Arc<Pipeline>) -> RunId {
        self.start_with(pipeline, CLIP).await
    }

    /// Starts a run with a clip of a size.
    async fn start_with(&self, pipeline: &Arc<Pipeline>, size: usize) -> RunId {
        let clip: Vec<u8> = (0..size).map(|at| b"abcdefghijk"[at % 11]).collect();
        let clip = self.store.put_blob(clip, Some("video/mp4"), Some("v.mp4")).await.unwrap();
        let photo = self.store.put_blob(b"pixels".to_vec(), Some("image/png"), Some("a.png")).await.unwrap();
        let inputs = [("clip", Value::Blob(Arc::new(clip))), ("photo", Value::Blob(Arc::new(photo)))];
        self.engine.start(pipeline, Value::map(inputs)).await.unwrap()
    }

    /// Executes a run as far as it goes, or tries again what failed in it.
    async fn execute(&self, run: RunId, pipeline: &Arc<Pipeline>, again: bool) -> Execution {
        let options = || ExecuteOptions { foreground: true, ..ExecuteOptions::default() };
        let mut ended = match again {
            false => self.engine.execute(run, pipeline.clone(), options()).await.unwrap(),
            true => self.engine.retry(run, pipeline.clone(), None, options()).await.unwrap(),
        };
        while let Execution::Waiting { until: Some(until), .. } = ended {
            self.system.clock.sleep_until(until).await;
            ended = self.engine.execute(run, pipeline.clone(), options()).await.unwrap();
        }
        ended
    }

    async fn play(&self, pipeline: &Arc<Pipeline>) -> Execution {
        let run = self.start(pipeline).await;
        self.execute(run, pipeline, false).await
    }
}

fn rows(seat: &Seat, collection: &str) -> Vec<Value> {
    seat.state().get(collection).and_then(Value::as_list).unwrap_or_default().to_vec()
}

fn text(row: &Value, key: &str) -> String {
    row.get(key).map(Value::to_text).unwrap_or_default()
}

/// The collection of posts of a stand-in, and how many it has from the start.
fn posts_of(connector: &str) -> (&'static str, usize) {
    if connector == "facebook" { ("posts", 3) } else { ("media", 2) }
}

/// Sees that there is one new post, that it is the one that came out, and that it has its comments once.
#[track_caller]
fn one_post(what: &str, case: &Case, seat: &Seat, ended: &Execution) {
    let told = || {
        let seen = seat
            .received()
            .iter()
            .map(|seen| format!("{:?} {} {} {:?}\n", seen.at, seen.method, seen.path, seen.status))
            .collect::<String>();
        format!("{what}: {ended:?}\n{seen}")
    };
    let Execution::Finished { state: RunState::Succeeded, outputs, .. } = ended else { panic!("{}", told()) };
    let (collection, seeded) = posts_of(case.connector);
    let posts = rows(seat, collection);
    assert_eq!(posts.len(), seeded + 1, "{}", told());
    assert_eq!(text(outputs, "id"), text(&posts[seeded], "id"), "{}", told());
    let comments: Vec<String> = rows(seat, "comments").iter().map(|row| text(row, "id")).collect();
    assert_eq!(comments.len(), case.comments, "{}", told());
    let ids: Vec<String> = outputs.get("ids").unwrap().as_list().unwrap().iter().map(Value::to_text).collect();
    assert_eq!(ids[1..], comments, "{}", told());
    if case.with.contains("photos") {
        assert_eq!(posts[seeded].get("photos").and_then(Value::as_list).unwrap_or_default().len(), 3, "{}", told());
    }
}

/// Publishes calmly, and then as often as it has requests, one of which goes wrong each time.
fn at_every_request(cases: &[&(&str, Case)], faults: &[&str]) -> usize {
    let project = Project::new();
    let mut struck = 0;
    for (name, case) in cases {
        let pipeline = project.publishing(case);
        let calm = in_no_time(async |clock| {
            let stage = project.stage(clock, case, &[]).await;
            let ended = stage.play(&pipeline).await;
            one_post(name, case, &stage.seat(case), &ended);
            stage.seat(case).received().len()
        });
        assert!(calm > 1, "{name}: {calm}");
        for fault in faults {
            for number in 1..=calm {
                let what = format!("{name}: {fault} at request {number} of {calm}");
                in_no_time(async |clock| {
                    let stage = project.stage(clock, case, &[format!("{fault}=#{number}")]).await;
                    let ended = stage.play(&pipeline).await;
                    one_post(&what, case, &stage.seat(case), &ended);
                    assert_eq!(stage.world.struck()[0].1, 1, "{what}: the fault did not come");
                });
                struck += 1;
            }
        }
    }
    struck
}

/// Before and after the request has arrived: the client cannot tell one from the other.
const LOST: &[&str] = &["drop-after-send", "drop-before-send"];

#[test]
fn an_answer_that_is_lost_at_any_request_leaves_one_post_of_text_or_photos_on_facebook() {
    let cases: Vec<_> = FACEBOOK.iter().filter(|(name, _)| !is_moving(name)).collect();
    assert!(at_every_request(&cases, LOST) >= 30);
}

#[test]
fn an_answer_that_is_lost_at_any_request_leaves_one_video_or_reel_on_facebook() {
    let cases: Vec<_> = FACEBOOK.iter().filter(|(name, _)| is_moving(name)).collect();
    assert!(at_every_request(&cases, LOST) > 50);
}

#[test]
fn an_answer_that_is_lost_at_any_request_leaves_one_post_on_instagram() {
    assert!(at_every_request(&INSTAGRAM.iter().collect::<Vec<_>>(), LOST) > 50);
}

#[test]
fn a_server_that_breaks_down_at_any_request_leaves_one_post() {
    let cases: Vec<_> =
        FACEBOOK.iter().chain(INSTAGRAM).filter(|(name, _)| ["text", "picture"].contains(name)).collect();
    assert!(at_every_request(&cases, &["503"]) > 8);
}

fn is_moving(name: &str) -> bool {
    name.starts_with("video") || name.starts_with("reel")
}

#[test]
fn a_file_that_is_read_while_it_is_sent_arrives_whole() {
    let project = Project::new();
    for (name, case) in FACEBOOK.iter().chain(INSTAGRAM).filter(|(name, _)| ["reel", "file"].contains(name)) {
        let pipeline = project.publishing(case);
        in_no_time(async |clock| {
            let stage = project.stage(clock, case, &[]).await;
            let run = stage.start_with(&pipeline, LARGE).await;
            let ended = stage.execute(run, &pipeline, false).await;
            one_post(name, case, &stage.seat(case), &ended);
            let collection = if case.connector == "facebook" { "videos" } else { "containers" };
            let uploaded = rows(&stage.seat(case), collection);
            assert_eq!(text(&uploaded[0], "got"), LARGE.to_string(), "{name}");
        });
    }
}

/// Agrees in the place of a person, and returns where the browser ends.
fn agreed(seat: &Seat, world: &World, url: &str) -> String {
    let (_, target) = url.split_once("://").unwrap();
    let target = format!("/{}", target.split_once('/').unwrap().1);
    let (Fate::Answered(reply), _) = world.exchange(seat, &Received::new("GET", &target)) else { panic!("{url}") };
    reply.header("location").unwrap_or_else(|| panic!("{url}: {reply:?}")).to_owned()
}

async fn log_in(project: &Project, stage: &Stage, connector: &str) -> login::Login {
    let link = project.link(stage, connector);
    let custody = stage.runtime.custody().unwrap();
    let oauth2 = link.oauth2().unwrap();
    let begun = login::begin(&link, custody, oauth2, "https://acme.example/back").unwrap();
    let back = agreed(&stage.world.seat(connector).unwrap(), &stage.world, &begun.url);
    login::finish(&link, custody, oauth2, &begun, &back).await.unwrap()
}

#[test]
fn a_token_that_expires_at_any_request_leaves_one_post_when_somebody_has_logged_in_again() {
    let project = Project::new();
    let chosen = ["photo", "photos", "video", "reel", "picture", "carousel", "file"];
    let cases = FACEBOOK.iter().chain(INSTAGRAM).filter(|(name, _)| chosen.contains(name));
    for (name, case) in cases {
        let pipeline = project.publishing(case);
        let calm = in_no_time(async |clock| {
            let stage = project.stage(clock, case, &[]).await;
            stage.play(&pipeline).await;
            stage.seat(case).received().len()
        });
        for number in 1..=calm {
            let what = format!("{name}: a token that expires at request {number} of {calm}");
            in_no_time(async |clock| {
                let stage = project.stage(clock, case, &[format!("expired=#{number}")]).await;
                let run = stage.start(&pipeline).await;
                let ended = stage.execute(run, &pipeline, false).await;
                let ended = match &ended {
                    // What only tells the post's address does not fail it.
                    Execution::Finished { state: RunState::Succeeded, .. } if case.connector == "instagram" => ended,
                    Execution::Finished { state: RunState::Failed, error: Some(error), .. } => {
                        assert_eq!(error.class.name(), "auth", "{what}: {error:?}");
                        log_in(&project, &stage, case.connector).await;
                        stage.execute(run, &pipeline, true).await
                    }
                    other => panic!("{what}: {other:?}"),
                };
                one_post(&what, case, &stage.seat(case), &ended);
            });
        }
    }
}

#[test]
fn a_login_on_facebook_ends_with_the_token_of_the_page_and_the_date_of_the_next() {
    let project = Project::new();
    let case = &FACEBOOK[0].1;
    in_no_time(async |clock| {
        let stage = project.stage(clock, case, &[]).await;
        let done = log_in(&project, &stage, "facebook").await;
        assert_eq!((done.account.as_deref(), done.renewable, done.warning), (Some("104200000000001"), false, None));
        // As long as the person's data may be accessed.
        assert_eq!(done.expires_at.unwrap().since(START).micros() / 86_400_000_000, 90);
        let paths: Vec<String> = stage.seat(case).received().iter().map(|seen| seen.path.clone()).collect();
        let asked = [
            "/v26.0/dialog/oauth",
            "/v26.0/oauth/access_token",
            "/v26.0/oauth/access_token",
            "/v26.0/me/accounts",
            "/v26.0/debug_token",
            "/v26.0/me",
        ];
        assert_eq!(paths, asked);
        let link = project.link(&stage, "facebook");
        let standing = async |day: u64| {
            let now = START.plus(Duration::from_secs(day * 86_400));
            standing::report(&link, now).await.unwrap().standing.word()
        };
        assert_eq!([standing(1).await, standing(84).await, standing(91).await], ["good", "ending", "expired"]);
    });
}

#[test]
fn a_login_on_instagram_renews_itself_by_age_and_one_with_facebook_does_not() {
    let project = Project::new();
    for (case, renewable) in [(&INSTAGRAM[0].1, true), (&INSTAGRAM[3].1, false)] {
        in_no_time(async |clock| {
            let stage = project.stage(clock, case, &[]).await;
            let done = log_in(&project, &stage, "instagram").await;
            assert_eq!(
                (done.account.as_deref(), done.renewable),
                (Some("17841400000000001"), renewable),
                "{:?}",
                done.warning
            );
            assert_eq!(done.expires_at.unwrap().since(START).micros() / 86_400_000_000, 60);
            let link = project.link(&stage, "instagram");
            let ending = standing::report(&link, START.plus(Duration::from_secs(55 * 86_400))).await.unwrap();
            assert_eq!(ending.standing.word(), if renewable { "good" } else { "ending" });
            stage.system.clock.sleep_until(START.plus(Duration::from_secs(51 * 86_400))).await;
            let read = project.pipeline("steps: { a: { uses: instagram.profile, with: { connection: own } } }\noutputs: { name: \"{{ steps.a.output.username }}\" }\n");
            let ended = stage.play(&read).await;
            assert!(matches!(ended, Execution::Finished { state: RunState::Succeeded, .. }), "{ended:?}");
            let seen = stage.seat(case).received();
            let renewed = seen.iter().filter(|seen| seen.path == "/refresh_access_token").count();
            assert_eq!(renewed, usize::from(renewable));
        });
    }
}

#[test]
fn usage_that_the_answers_tell_holds_requests_back_before_they_are_refused() {
    let project = Project::new();
    let case = &FACEBOOK[0].1;
    let pipeline = project.pipeline(
        r#"steps:
  ask: { for_each: "{{ range(900) | list }}", max_parallel: 1, uses: facebook.comments, with: { connection: own, post: "104200000000001_881", }, retry: { attempts: 3 } }
outputs: { asked: "{{ steps.ask.output | length }}" }
"#,
    );
    in_no_time(async |clock| {
        let stage = project.stage(clock, case, &[]).await;
        let ended = stage.play(&pipeline).await;
        let Execution::Finished { state: RunState::Succeeded, outputs, .. } = &ended else { panic!("{ended:?}") };
        assert_eq!(text(outputs, "asked"), "900");
        let seen = stage.seat(case).received();
        assert_eq!(seen.iter().filter(|seen| seen.status == Some(403)).count(), 0);
        // 600 an hour: the rest came when the next hour had begun.
        assert!(seen.last().unwrap().at.since(START) >= Duration::from_secs(3_600), "{:?}", seen.last());
    });
}

#[test]
fn the_day_of_instagram_is_over_when_it_says_so_and_goes_on_when_it_may() {
    let project = Project::new();
    let case = Case { connector: "instagram", settings: r#"{"posts_per_day":100}"#, with: "", comments: 0 };
    let pipeline = project.pipeline(
        r#"steps:
  post: { for_each: [a, b, c], max_parallel: 1, uses: instagram.publish, with: { connection: own, text: "{{ item }}", media: [ { url: "https://cdn.example.com/a.jpg" } ] }, retry: { attempts: 10 } }
outputs: { ids: "{{ steps.post.output | map(attribute='id') | list | unique | list | length }}" }
"#,
    );
    in_no_time(async |clock| {
        let stage = project.stage(clock, &case, &[]).await;
        let seat = stage.seat(&case);
        // 49 of 50, of which some are a day old in two hours.
        let old = |number: u64| {
            let at = Value::Time(Timestamp(START.micros() - 22 * 3_600_000_000 - i64::try_from(number).unwrap()));
            let row = [
                ("id", Value::from(format!("c{number}"))),
                ("account", Value::from("17841400000000001")),
                ("published", Value::from(1_u64)),
            ];
            Value::map(row.into_iter().chain(["created_at", "ready_at", "published_at"].map(|key| (key, at.clone()))))
        };
        seat.load("containers", &(0..49).map(old).collect::<Vec<_>>()).unwrap();
        let ended = stage.play(&pipeline).await;
        let Execution::Finished { state: RunState::Succeeded, outputs, .. } = &ended else { panic!("{ended:?}") };
        assert_eq!(text(outputs, "ids"), "3");
        let made: Vec<String> = rows(&seat, "media").iter().skip(2).map(|row| text(row, "caption")).collect();
        assert_eq!(made.iter().collect::<BTreeSet<_>>().len(), 3, "{made:?}");
        let refused = seat
            .received()
            .iter()
            .filter(|seen| seen.path.ends_with("/media_publish") && seen.status != Some(200))
            .count();
        assert_eq!(refused, 0);
        let took = stage.system.clock.now().since(START);
        assert!(took >= Duration::from_secs(7_200) && took < Duration::from_secs(5 * 3_600), "{took:?}");
    });
}

#[test]
fn posts_are_listed_and_measured_and_what_is_not_told_is_null() {
    let project = Project::new();
    for (connector, id, settings, post) in [
        ("facebook", "104200000000001_881", "{}", "text: New"),
        (
            "instagram",
            "17920000000000008",
            "{login: facebook}",
            r#"media: [ { url: "https://cdn.example.com/a.jpg" } ]"#,
        ),
    ] {
        let case = Case { connector, settings, with: "", comments: 0 };
        let pipeline = project.pipeline(&format!(
            r#"steps:
  old: {{ uses: {connector}.metrics, with: {{ connection: own, id: "{id}" }} }}
  make: {{ uses: {connector}.publish, with: {{ connection: own, {post} }} }}
  new: {{ uses: {connector}.metrics, with: {{ connection: own, id: "{{{{ steps.make.output.id }}}}" }} }}
  list: {{ needs: [make], uses: {connector}.posts, with: {{ connection: own, since: "2026-11-05T00:00:00Z" }} }}
  gone: {{ needs: [list, new], uses: {connector}.delete, with: {{ connection: own, id: "{{{{ steps.make.output.id }}}}" }} }}
  again: {{ needs: [gone], uses: {connector}.delete, with: {{ connection: own, id: "{{{{ steps.make.output.id }}}}" }} }}
  rest: {{ needs: [again], uses: {connector}.posts, with: {{ connection: own }} }}
outputs: {{ old: "{{{{ steps.old.output }}}}", new: "{{{{ steps.new.output }}}}", listed: "{{{{ steps.list.output | map(attribute='text') | list }}}}", rest: "{{{{ steps.rest.output | length }}}}", deleted: "{{{{ steps.again.output.deleted }}}}" }}
"#
        ));
        in_no_time(async |clock| {
            let stage = project.stage(clock, &case, &[]).await;
            let ended = stage.play(&pipeline).await;
            let Execution::Finished { state: RunState::Succeeded, outputs, .. } = &ended else { panic!("{ended:?}") };
            let shown = outputs.to_string();
            let expected = match connector {
                "facebook" => {
                    r#"{"old":{"impressions":2410,"reach":1904,"likes":61,"comments":7,"shares":4,"clicks":88,"saves":null,"video_views":null},"new":{"impressions":null,"reach":null,"likes":0,"comments":0,"shares":0,"clicks":null,"saves":null,"video_views":null},"listed":["New","Friday notes.","How we test crashes."],"rest":3,"deleted":true}"#
                }
                _ => {
                    r#"{"old":{"impressions":15040,"reach":9120,"likes":240,"comments":11,"shares":31,"clicks":null,"saves":52,"video_views":15040},"new":{"impressions":null,"reach":null,"likes":0,"comments":0,"shares":null,"clicks":null,"saves":null,"video_views":null},"listed":[null,"How it works"],"rest":2,"deleted":true}"#
                }
            };
            assert_eq!(shown, expected);
        });
    }
}
