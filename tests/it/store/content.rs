//! The memory of content: generations and their index, lessons, and the calendar of posts.

use std::sync::Arc;

use pipewright::memory;
use pipewright::memory::search::Query;
use pipewright::memory::search::search;
use pipewright::model::Ask;
use pipewright::model::AskId;
use pipewright::model::Blob;
use pipewright::model::Duration;
use pipewright::model::Lapse;
use pipewright::model::RunEvent;
use pipewright::model::RunId;
use pipewright::model::RunState;
use pipewright::model::Timestamp;
use pipewright::model::Value;
use pipewright::store::Direction;
use pipewright::store::Fate;
use pipewright::store::Fence;
use pipewright::store::GenerationFilter;
use pipewright::store::GenerationRecord;
use pipewright::store::Lapsed;
use pipewright::store::LessonChanges;
use pipewright::store::LessonFilter;
use pipewright::store::LessonRecord;
use pipewright::store::Measurement;
use pipewright::store::Metrics;
use pipewright::store::NewRun;
use pipewright::store::PostFilter;
use pipewright::store::PostRecord;
use pipewright::store::PostState;
use pipewright::store::Record;
use pipewright::store::Store;
use pipewright::store::generation_id;
use pipewright::store::post_id;
use rust_decimal::Decimal;

use super::Case;
use super::Ground;
use super::NOW;
use super::new_run;
use super::path;
use super::run_id;
use super::succeeded;

macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        pub(super) const CASES: &[(&str, Case)] = &[$((stringify!($name), |ground| Box::pin($name(ground)))),*];
    };
}

cases![
    a_generation_comes_back_as_it_was_kept_and_is_kept_once,
    generations_are_listed_by_topic_tags_kind_and_time,
    a_secret_among_the_inputs_of_a_prompt_is_sealed,
    what_is_searched_is_found_by_words_topic_and_vector,
    what_is_removed_is_found_no_more,
    files_that_posts_name_are_no_garbage,
    a_reflection_changes_all_or_nothing_and_once,
    lessons_are_retired_restored_and_removed,
    a_post_is_entered_once_and_keeps_the_time_that_people_gave_it,
    a_post_follows_its_run_and_what_people_change,
    a_change_counts_only_on_what_was_read,
    of_a_change_and_the_time_of_a_post_one_wins,
    a_post_that_was_changed_before_its_run_asked_ends_as_it_is,
    what_became_of_a_post_is_noted,
    measurements_are_kept_over_time_and_unknown_is_not_zero,
    posts_go_when_their_time_is_over_but_not_what_waits,
];

const DAY: Duration = Duration::from_secs(86_400);

fn days(number: u64) -> Timestamp {
    NOW.plus(DAY.times(number))
}

fn generation(number: u128, text: &str) -> GenerationRecord {
    let (run, path) = (run_id(number), path("write"));
    GenerationRecord {
        id: generation_id(run, &path, ""),
        at: days(u64::try_from(number).unwrap()),
        run,
        path,
        part: String::new(),
        pipeline: "content".into(),
        kind: "generate".to_owned(),
        topic: Some("tea".to_owned()),
        connection: Some("openai".to_owned()),
        model: Some("gpt".to_owned()),
        prompt: Some("post".to_owned()),
        prompt_version: Some("abc".to_owned()),
        inputs: Value::map([("topic", Value::from("tea"))]),
        output: text.to_owned(),
        value: Value::map([("text", Value::from(text))]),
        usage: Value::map([("output", Value::from(12))]),
        cost: Some(Decimal::new(123, 5)),
        unit: Some("USD".to_owned()),
        tags: vec!["green".to_owned(), "a \"quoted\" tag".to_owned()],
    }
}

async fn kept(store: &Store, record: &GenerationRecord) {
    memory::keep(store, record, None).await.unwrap();
}

async fn a_generation_comes_back_as_it_was_kept_and_is_kept_once(ground: Ground) {
    let store = ground.open().await;
    let record = generation(1, "Green tea is ready.");
    kept(&store, &record).await;
    assert_eq!(store.generations(&GenerationFilter::default()).await.unwrap(), std::slice::from_ref(&record));
    // The step is performed again after a crash: what it made last is what its run goes on with.
    let again = GenerationRecord { output: "Black coffee.".to_owned(), cost: None, unit: None, ..record.clone() };
    kept(&store, &again).await;
    assert_eq!(store.generations(&GenerationFilter::default()).await.unwrap(), [again]);
    assert_eq!(store.collection().await.unwrap().documents, 1);
    let found = |text: &str| Query { text: text.to_owned(), limit: 5, ..Query::default() };
    assert!(search(&store, &found("ready")).await.unwrap().is_empty());
    assert_eq!(search(&store, &found("coffee")).await.unwrap().len(), 1);
    // A long text becomes a file, and a strange one does no harm.
    let long = GenerationRecord { output: format!("oolong {}\0", "x ".repeat(60_000)), ..generation(2, "") };
    kept(&store, &long).await;
    let back = store.generations_by_id(std::slice::from_ref(&long.id)).await.unwrap().remove(0);
    assert_eq!(back.output.len(), long.output.len());
}

async fn generations_are_listed_by_topic_tags_kind_and_time(ground: Ground) {
    let store = ground.open().await;
    for number in 1..=6 {
        let topic = if number % 2 == 0 { "tea" } else { "coffee" };
        let tags = if number > 3 { vec!["late".to_owned()] } else { vec!["later".to_owned()] };
        let kind = if number == 6 { "note" } else { "generate" };
        let record = GenerationRecord {
            topic: Some(topic.to_owned()),
            tags,
            kind: kind.to_owned(),
            ..generation(number, "text")
        };
        kept(&store, &record).await;
    }
    let check = async |filter: GenerationFilter, expected: &[u128]| {
        let found = store.generations(&filter).await.unwrap();
        let found: Vec<RunId> = found.into_iter().map(|record| record.run).collect();
        let expected: Vec<RunId> = expected.iter().map(|number| run_id(*number)).collect();
        assert_eq!(found, expected, "{filter:?}");
        let mut ids = store.generation_ids(&filter).await.unwrap();
        ids.sort();
        let mut all: Vec<String> = expected.iter().map(|run| generation_id(*run, &path("write"), "")).collect();
        all.sort();
        assert!(filter.limit.is_some() || ids == all);
    };
    let filter = GenerationFilter::default;
    check(GenerationFilter { limit: Some(2), ..filter() }, &[6, 5]).await;
    check(GenerationFilter { topic: Some("tea".to_owned()), ..filter() }, &[6, 4, 2]).await;
    check(GenerationFilter { tags: vec!["late".to_owned()], ..filter() }, &[6, 5, 4]).await;
    check(GenerationFilter { kinds: vec!["note".to_owned()], ..filter() }, &[6]).await;
    check(GenerationFilter { since: Some(days(5)), ..filter() }, &[6, 5]).await;
    check(GenerationFilter { pipeline: Some("other".to_owned()), ..filter() }, &[]).await;
    let id = generation_id(run_id(3), &path("write"), "");
    check(GenerationFilter { id_prefix: Some(id.to_lowercase()), ..filter() }, &[3]).await;
    check(GenerationFilter { id_prefix: Some("%".to_owned()), limit: Some(1), ..filter() }, &[]).await;
}

async fn a_secret_among_the_inputs_of_a_prompt_is_sealed(ground: Ground) {
    let store = ground.open().await;
    let secret = Value::from("a-very-secret-word").tainted();
    let record = GenerationRecord { inputs: Value::map([("key", secret.clone())]), ..generation(1, "text") };
    kept(&store, &record).await;
    let back = store.generations(&GenerationFilter::default()).await.unwrap().remove(0);
    assert!(back.inputs.is_tainted());
    assert_eq!(back.inputs.get("key").unwrap().to_text(), "a-very-secret-word");
    if let Some(file) = ground.url.strip_prefix("sqlite://") {
        store.close().await.unwrap();
        let bytes = std::fs::read(file).unwrap();
        assert!(!bytes.windows(18).any(|window| window == b"a-very-secret-word"));
    }
}

async fn what_is_searched_is_found_by_words_topic_and_vector(ground: Ground) {
    let store = ground.open().await;
    let texts = [
        (1, "Green tea in the morning: a light sencha", [1.0, 0.0]),
        (2, "Coffee in the morning, and again coffee in the evening", [0.0, 1.0]),
        (3, "Nothing wakes you like matcha", [0.9, 0.1]),
        (4, "Crème brûlée goes with espresso", [0.1, 0.9]),
        (5, "抹茶ラテを飲みました", [0.8, 0.2]),
    ];
    for (number, text, vector) in texts {
        let topic = Some(if number == 4 { "dessert" } else { "drinks" }.to_owned());
        let record = GenerationRecord { topic, tags: Vec::new(), ..generation(number, text) };
        memory::keep(&store, &record, Some(("small".to_owned(), vector.to_vec()))).await.unwrap();
    }
    let find = async |query: Query| -> Vec<u128> {
        let found = search(&store, &Query { limit: 3, ..query }).await.unwrap();
        assert!(found.windows(2).all(|pair| pair[0].score >= pair[1].score));
        let number = |run: RunId| (1..=5).find(|number| run_id(*number) == run).unwrap();
        found.into_iter().map(|found| number(found.generation.run)).collect()
    };
    let text = |text: &str| Query { text: text.to_owned(), ..Query::default() };
    assert_eq!(find(text("sencha MORNING")).await, [1, 2], "the rare word first");
    assert_eq!(find(text("coffee morning")).await, [2, 1], "the word that is there more often first");
    assert_eq!(find(text("creme brulee")).await, [4]);
    assert_eq!(find(text("抹茶")).await, [5]);
    assert_eq!(find(text("dessert")).await, [4], "a topic is a word of the text");
    assert_eq!(find(text("")).await, [] as [u128; 0]);
    assert_eq!(find(text("nowhere")).await, [] as [u128; 0]);
    let drinks =
        GenerationFilter { topic: Some("drinks".to_owned()), since: Some(days(2)), ..GenerationFilter::default() };
    assert_eq!(find(Query { filter: drinks, ..text("morning espresso") }).await, [2]);
    // By meaning: no word of the query is there.
    let near = |model: &str| Some((model.to_owned(), vec![1.0, 0.0]));
    assert_eq!(find(Query { vector: near("small"), ..text("sencha") }).await, [1, 3, 5]);
    assert_eq!(find(Query { vector: near("other"), ..text("sencha") }).await, [1]);
}

async fn what_is_removed_is_found_no_more(ground: Ground) {
    let store = ground.open().await;
    for number in 1..=5 {
        let vector = Some(("small".to_owned(), vec![1.0]));
        memory::keep(&store, &generation(number, "green tea"), vector).await.unwrap();
    }
    assert_eq!(store.remove_generations(days(4), 2).await.unwrap(), 2, "a bounded number at a time");
    assert_eq!(store.remove_generations(days(4), 2).await.unwrap(), 1);
    assert_eq!(store.remove_generations(days(4), 2).await.unwrap(), 0);
    assert_eq!(store.collection().await.unwrap().documents, 2);
    assert_eq!(store.term_counts(&["tea".to_owned()]).await.unwrap(), [("tea".to_owned(), 2)]);
    assert_eq!(store.vectors("small", &[], 10).await.unwrap().len(), 2);
}

async fn files_that_posts_name_are_no_garbage(ground: Ground) {
    let store = ground.open().await;
    let blob = store.put_blob(b"a picture".to_vec(), Some("image/png"), None).await.unwrap();
    let media = Value::list(vec![Value::map([("file", Value::Blob(Arc::new(blob.clone())))])]);
    let post = PostRecord { post: Value::map([("media", media)]), ..post(1) };
    store.hold_post(&post).await.unwrap();
    let other = store.put_blob(b"nobody's".to_vec(), None, None).await.unwrap();
    for _ in 0..2 {
        // In a year every file is old.
        let later = Timestamp(jiff::Timestamp::now().as_microsecond()).plus(DAY.times(400));
        store.collect_garbage(later, DAY).await.unwrap();
        store.collect_garbage(later.plus(DAY.times(3)), DAY).await.unwrap();
    }
    assert_eq!(store.read_blob(&blob).await.unwrap(), b"a picture");
    let read = |blob: Blob| async { store.read_blob(&{ blob }).await };
    assert!(read(other).await.is_err(), "what nobody names is gone");
}

fn lesson(number: u128) -> LessonRecord {
    LessonRecord {
        id: RunId::new(1_700_000_000_000, 900 + number).to_string(),
        at: days(u64::try_from(number).unwrap()),
        text: "Ask questions.".to_owned(),
        labels: [("platform".to_owned(), "x".to_owned())].into(),
        feature: Some("style=question".to_owned()),
        direction: Some(Direction::Up),
        weight: Decimal::new(5, 1),
        evidence: vec!["P1".to_owned(), "P2".to_owned()],
        generation: None,
        confirmed_at: days(u64::try_from(number).unwrap()),
        retired: None,
    }
}

async fn active(store: &Store) -> Vec<LessonRecord> {
    store.lessons(&LessonFilter { active: true, ..LessonFilter::default() }).await.unwrap()
}

async fn a_reflection_changes_all_or_nothing_and_once(ground: Ground) {
    let store = ground.open().await;
    let plain = LessonRecord { feature: None, direction: None, labels: Default::default(), ..lesson(2) };
    let first =
        LessonChanges { origin: "r1".to_owned(), at: NOW, new: vec![lesson(1), plain.clone()], ..Default::default() };
    for _ in 0..2 {
        store.apply_lessons(&first).await.unwrap();
        assert_eq!(active(&store).await, [plain.clone(), lesson(1)]);
    }
    let evidence = vec!["P1".to_owned(), "P9".to_owned()];
    let second = LessonChanges {
        origin: "r2".to_owned(),
        at: days(9),
        new: vec![lesson(3)],
        confirmed: vec![(lesson(1).id, Decimal::new(675, 3), evidence.clone())],
        retired: vec![(plain.id.clone(), "the numbers say the contrary".to_owned())],
    };
    store.apply_lessons(&second).await.unwrap();
    // Performed again, with what its reflection would make of the new state.
    let again = LessonChanges {
        confirmed: vec![(lesson(1).id, Decimal::new(9, 1), Vec::new())],
        at: days(10),
        ..second.clone()
    };
    store.apply_lessons(&again).await.unwrap();
    let confirmed = LessonRecord { weight: Decimal::new(675, 3), evidence, confirmed_at: days(9), ..lesson(1) };
    assert_eq!(active(&store).await, [lesson(3), confirmed]);
    let all = store.lessons(&LessonFilter::default()).await.unwrap();
    assert_eq!(all[1].retired, Some((days(9), "the numbers say the contrary".to_owned())));
}

async fn lessons_are_retired_restored_and_removed(ground: Ground) {
    let store = ground.open().await;
    let changes = LessonChanges { new: vec![lesson(1), lesson(2)], ..LessonChanges::default() };
    store.apply_lessons(&changes).await.unwrap();
    assert!(store.retire_lesson(&lesson(1).id, days(3), "by `ada`").await.unwrap());
    assert!(!store.retire_lesson(&lesson(1).id, days(4), "by `bob`").await.unwrap());
    assert_eq!(active(&store).await, [lesson(2)]);
    assert!(store.restore_lesson(&lesson(1).id, days(5)).await.unwrap());
    assert!(!store.restore_lesson(&lesson(1).id, days(6)).await.unwrap());
    assert_eq!(active(&store).await[1], LessonRecord { confirmed_at: days(5), ..lesson(1) });
    let one = LessonFilter { id_prefix: Some(lesson(2).id), limit: Some(2), ..LessonFilter::default() };
    assert_eq!(store.lessons(&one).await.unwrap(), [lesson(2)]);
    assert_eq!(store.remove_lessons(days(3), 10).await.unwrap(), 1);
    assert_eq!(active(&store).await.len(), 1);
}

fn post(number: u128) -> PostRecord {
    let (run, path) = (run_id(number), path("hold"));
    PostRecord {
        id: post_id(run, &path),
        run,
        path,
        pipeline: "content".to_owned(),
        connection: "x".to_owned(),
        connector: None,
        post: Value::map([("text", Value::from("Tea is ready."))]),
        labels: [("format".to_owned(), "post".to_owned())].into(),
        generations: vec!["G1".to_owned()],
        state: PostState::Scheduled,
        made_at: NOW,
        due_at: days(2),
        published_at: None,
        remote_id: None,
        ids: Vec::new(),
        url: None,
        error: None,
        ask: None,
        revision: 1,
        run_state: None,
    }
}

async fn a_post_is_entered_once_and_keeps_the_time_that_people_gave_it(ground: Ground) {
    let store = ground.open().await;
    assert_eq!(post_id(run_id(1), &path("hold")), post_id(run_id(1), &path("hold#3")), "in every round the same");
    assert_eq!(store.hold_post(&post(1)).await.unwrap(), post(1));
    let seen = store.hold_post(&post(1)).await.unwrap();
    assert_eq!((seen.due_at, seen.state), (days(2), PostState::Scheduled));
    assert!(store.change_post(&seen, PostState::Scheduled, days(5), &Value::Null, NOW).await.unwrap());
    // The step is performed again, and wants what it wanted.
    assert_eq!(store.hold_post(&post(1)).await.unwrap().due_at, days(5));
    // Now it wants another time, and another text.
    let text = Value::map([("text", Value::from("Coffee is ready."))]);
    let other = PostRecord { due_at: days(7), post: text.clone(), ..post(1) };
    let held = store.hold_post(&other).await.unwrap();
    assert_eq!((held.due_at, held.post), (days(7), text));
    let seen = store.post(&post(1).id).await.unwrap().unwrap();
    assert!(store.change_post(&seen, PostState::Canceled, days(7), &Value::Null, NOW).await.unwrap());
    assert_eq!(store.hold_post(&post(1)).await.unwrap().state, PostState::Canceled, "no is no");
    assert_eq!(store.posts(&PostFilter::default()).await.unwrap().len(), 1);
}

fn asks(id: &str, number: u128, due: Timestamp) -> Ask {
    let answer = Value::map([("state", Value::from("due")), ("at", Value::Time(due))]);
    Ask {
        id: AskId(id.into()),
        kind: Ask::POST.into(),
        request: Value::map([("id", Value::from(post(number).id))]),
        reason: "waits".into(),
        lapse: Some(Lapse { at: due, answer: Ok(answer) }),
    }
}

fn asked(ask: &Ask) -> Record {
    Record::Event(RunEvent::Asked { path: path("hold"), attempt: 1, at: NOW, ask: Box::new(ask.clone()) })
}

const ASK_1: &str = "01HF7YAT00000000000000ASK1";

/// A run that sleeps over its post.
async fn sleeping(store: &Store, number: u128) -> (NewRun, Fence, Ask, PostRecord) {
    let run = new_run(run_id(number));
    store.create_run(&run).await.unwrap();
    let fence = store.claim(run.id, "worker-1").await.unwrap().unwrap();
    store.hold_post(&post(number)).await.unwrap();
    let ask = asks(&format!("01HF7YAT000000000000000{number:03}"), number, days(2));
    let writer = store.writer(run.id, fence, 1, []);
    writer.append([asked(&ask)]);
    writer.commit().await.unwrap();
    let row = store.post(&post(number).id).await.unwrap().unwrap();
    assert_eq!(row.ask.as_ref(), Some(&ask.id));
    (run, fence, ask, row)
}

async fn a_post_follows_its_run_and_what_people_change(ground: Ground) {
    let store = ground.open().await;
    let (run, fence, ask, row) = sleeping(&store, 1).await;
    assert_eq!(row.run_state, Some(RunState::Queued));
    let answer = Value::map([("state", Value::from("rescheduled"))]);
    assert!(store.change_post(&row, PostState::Scheduled, days(9), &answer, NOW).await.unwrap());
    let row = store.post(&row.id).await.unwrap().unwrap();
    assert_eq!((row.ask.as_ref(), row.due_at), (None, days(9)));
    let signals = store.inbox(run.id).await.unwrap();
    assert_eq!(signals.len(), 1);
    assert_eq!(Ask::read_answered(&signals[0].payload), Some((ask.id, Ok(answer))));
    // The run asks anew, and then its step ends.
    let again = asks(ASK_1, 1, days(9));
    let writer = store.writer(run.id, fence, 2, []);
    writer.append([asked(&again), succeeded("hold", Value::Null)]);
    writer.commit().await.unwrap();
    assert_eq!(store.post(&row.id).await.unwrap().unwrap().ask, None);
}

async fn a_change_counts_only_on_what_was_read(ground: Ground) {
    let store = ground.open().await;
    let (run, _, _, row) = sleeping(&store, 1).await;
    assert!(store.change_post(&row, PostState::Scheduled, days(9), &Value::Null, NOW).await.unwrap());
    assert!(!store.change_post(&row, PostState::Canceled, days(9), &Value::Null, NOW).await.unwrap());
    assert_eq!(store.inbox(run.id).await.unwrap().len(), 1, "who comes too late says nothing");
    let seen = store.post(&row.id).await.unwrap().unwrap();
    assert_eq!(seen.state, PostState::Scheduled);
    assert!(store.begin_post(&seen).await.unwrap());
    assert!(!store.begin_post(&seen).await.unwrap());
    let seen = store.post(&row.id).await.unwrap().unwrap();
    assert!(
        !store.change_post(&seen, PostState::Canceled, days(9), &Value::Null, NOW).await.unwrap(),
        "it is under way"
    );
}

async fn of_a_change_and_the_time_of_a_post_one_wins(ground: Ground) {
    let store = ground.open().await;
    for number in 1..=20 {
        let (run, fence, ask, row) = sleeping(&store, number).await;
        let answer = Value::map([("state", Value::from("canceled"))]);
        let (changed, lapsed) = tokio::join!(
            store.change_post(&row, PostState::Canceled, days(2), &answer, NOW),
            store.lapse(&ask, run.id, fence),
        );
        let (changed, lapsed) = (changed.unwrap(), lapsed.unwrap());
        assert_eq!(lapsed, if changed { Lapsed::Answered } else { Lapsed::Yes }, "{number}");
        assert_eq!(store.inbox(run.id).await.unwrap().len(), usize::from(changed));
        // Asked again, after a crash say, it is the same.
        assert_eq!(store.lapse(&ask, run.id, fence).await.unwrap(), lapsed);
        let state = store.post(&row.id).await.unwrap().unwrap().state;
        assert_eq!(state, if changed { PostState::Canceled } else { PostState::Publishing });
    }
    // A worker that lost the run ends nothing.
    let (run, fence, ask, row) = sleeping(&store, 21).await;
    assert_eq!(store.lapse(&ask, run.id, Fence(fence.0 - 1)).await.unwrap(), Lapsed::Answered);
    assert_eq!(store.post(&row.id).await.unwrap().unwrap().state, PostState::Scheduled);
    // A post that is no longer kept can be changed by nobody.
    let gone = asks("01HF7YAT00000000000000GONE", 99, days(2));
    assert_eq!(store.lapse(&gone, run.id, fence).await.unwrap(), Lapsed::Yes);
}

/// Somebody changes a post in the moment between the step's look at it and its question.
async fn a_post_that_was_changed_before_its_run_asked_ends_as_it_is(ground: Ground) {
    let store = ground.open().await;
    for (number, state, due, word) in
        [(1, PostState::Canceled, days(2), "canceled"), (2, PostState::Scheduled, days(9), "rescheduled")]
    {
        let run = new_run(run_id(number));
        store.create_run(&run).await.unwrap();
        let fence = store.claim(run.id, "worker-1").await.unwrap().unwrap();
        let row = store.hold_post(&post(number)).await.unwrap();
        assert!(store.change_post(&row, state, due, &Value::Null, NOW).await.unwrap());
        let ask = asks(&format!("01HF7YAT000000000000000{number:03}"), number, days(2));
        let writer = store.writer(run.id, fence, 1, []);
        writer.append([asked(&ask)]);
        writer.commit().await.unwrap();
        let Lapsed::Instead(Ok(output)) = store.lapse(&ask, run.id, fence).await.unwrap() else { panic!("{word}") };
        assert_eq!(output.get("state"), Some(&Value::from(word)));
        assert_eq!(output.get("at"), Some(&Value::Time(due)));
    }
}

async fn what_became_of_a_post_is_noted(ground: Ground) {
    let store = ground.open().await;
    let id = post(1).id;
    let fate =
        |id: &str| Fate::Published { at: days(2), remote_id: id.to_owned(), ids: vec![id.to_owned()], url: None };
    assert!(!store.mark_post(&id, &fate("r1")).await.unwrap(), "there is none");
    store.hold_post(&post(1)).await.unwrap();
    assert!(!store.mark_post(&id, &Fate::Deleted).await.unwrap(), "it is not there yet");
    let failed = Fate::Failed { error: "rejected: too long".to_owned() };
    assert!(store.mark_post(&id, &failed).await.unwrap());
    let row = store.post(&id).await.unwrap().unwrap();
    assert_eq!((row.state, row.error.as_deref()), (PostState::Failed, Some("rejected: too long")));
    assert!(store.mark_post(&id, &fate("r1")).await.unwrap());
    let later = Fate::Published {
        at: days(3),
        remote_id: "r1".to_owned(),
        ids: vec!["r1".to_owned()],
        url: Some("u".to_owned()),
    };
    assert!(store.mark_post(&id, &later).await.unwrap());
    let row = store.post(&id).await.unwrap().unwrap();
    assert_eq!(
        (row.state, row.error, row.published_at, row.url),
        (PostState::Published, None, Some(days(2)), Some("u".to_owned()))
    );
    assert!(!store.mark_post(&id, &failed).await.unwrap(), "what is there has not failed");
    let by_remote =
        PostFilter { connection: Some("x".to_owned()), remote_id: Some("r1".to_owned()), ..PostFilter::default() };
    assert_eq!(store.posts(&by_remote).await.unwrap().len(), 1);
    assert!(store.mark_post(&id, &Fate::Deleted).await.unwrap());
    assert!(!store.mark_post(&id, &fate("r2")).await.unwrap());
    assert_eq!(store.post(&id).await.unwrap().unwrap().state, PostState::Deleted);
}

async fn measurements_are_kept_over_time_and_unknown_is_not_zero(ground: Ground) {
    let store = ground.open().await;
    let measured = |post: &PostRecord, day: u64, likes: i64| Measurement {
        post: post.id.clone(),
        at: days(day),
        age: DAY.times(day),
        metrics: Metrics { likes: Some(likes), impressions: Some(0), ..Metrics::default() },
        raw: Value::map([("favorites", Value::from(likes))]),
    };
    for (number, day, likes) in [(1, 7, 9), (1, 1, 3), (2, 1, 5), (1, 1, 4)] {
        store.put_measurement(&measured(&post(number), day, likes)).await.unwrap();
    }
    let ids = [post(1).id, post(2).id, "unknown".to_owned()];
    let found = store.measurements(&ids).await.unwrap();
    let mut expected = vec![measured(&post(1), 1, 4), measured(&post(1), 7, 9), measured(&post(2), 1, 5)];
    expected.sort_by(|one, other| (&one.post, one.at).cmp(&(&other.post, other.at)));
    assert_eq!(found, expected);
    assert_eq!(found[0].metrics.reach, None);
    assert!(store.measurements(&[]).await.unwrap().is_empty());
}

async fn posts_go_when_their_time_is_over_but_not_what_waits(ground: Ground) {
    let store = ground.open().await;
    // 1 waits for its run, 2 for one that is not kept; 3 was published late, 4 long ago.
    sleeping(&store, 1).await;
    for number in 2..=4 {
        store.hold_post(&post(number)).await.unwrap();
    }
    for (number, day) in [(3, 20), (4, 2)] {
        let fate = Fate::Published { at: days(day), remote_id: number.to_string(), ids: Vec::new(), url: None };
        assert!(store.mark_post(&post(number).id, &fate).await.unwrap());
        let measurement = Measurement {
            post: post(number).id,
            at: days(day),
            age: DAY,
            metrics: Metrics::default(),
            raw: Value::Null,
        };
        store.put_measurement(&measurement).await.unwrap();
    }
    let states = vec![PostState::Published];
    let lately = PostFilter { states, published_since: Some(days(10)), ..PostFilter::default() };
    assert_eq!(store.posts(&lately).await.unwrap().len(), 1);
    assert_eq!(store.remove_posts(days(10), 10).await.unwrap(), 2);
    assert_eq!(store.remove_posts(days(10), 10).await.unwrap(), 0);
    let mut left: Vec<String> =
        store.posts(&PostFilter::default()).await.unwrap().into_iter().map(|post| post.id).collect();
    let mut expected = vec![post(1).id, post(3).id];
    left.sort();
    expected.sort();
    assert_eq!(left, expected);
    assert_eq!(store.measurements(&[post(3).id, post(4).id]).await.unwrap().len(), 1);
}
