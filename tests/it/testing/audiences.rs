//! The whole loop over months of virtual time: the shipped pipelines, a model that learns, and audiences whose taste the
//! stand-in knows. `--no-capture` prints the figures that docs/content.md tells.

#![expect(clippy::print_stdout, reason = "the figures are what it is for")]

use pipewright::model::Value;
use pipewright::testing::run;
use pipewright::testing::run::Verdict;
use pipewright::testing::snapshot::Mode;

use super::Bench;
use super::Tested;

const AUDIENCE: &str = include_str!("audiences/audience.yaml");
const AUTHOR: &str = include_str!("audiences/author.yaml");

/// The shipped pipelines as they are, with what they include.
const SHIPPED: [(&str, &str); 6] = [
    ("pipelines/content.yaml", include_str!("../../../pipelines/content.yaml")),
    ("pipelines/metrics.yaml", include_str!("../../../pipelines/metrics.yaml")),
    ("pipelines/reflection.yaml", include_str!("../../../pipelines/reflection.yaml")),
    ("pipelines/prompts/post.md.j2", include_str!("../../../pipelines/prompts/post.md.j2")),
    ("pipelines/prompts/voice.md.j2", include_str!("../../../pipelines/prompts/voice.md.j2")),
    ("pipelines/prompts/banned.txt", include_str!("../../../pipelines/prompts/banned.txt")),
];

/// A day: what is there is measured, learned from, and then a post written, which waits for its hour. The daemon would measure
/// and reflect every hour; between two posts that finds nothing new.
const DAY: &str = r#"name: day
steps:
  measure: { uses: pipeline.run, with: { pipeline: metrics } }
  reflect: { needs: [measure], uses: pipeline.run, with: { pipeline: reflection } }
  write: { needs: [reflect], uses: pipeline.run, with: { pipeline: content, inputs: { platforms: [x], schedule: true } } }
outputs: { learned: "{{ steps.reflect.output }}" }
"#;

/// Runs of a week keep the journals short.
const WEEK: &str = r#"name: week
inputs: { from: { type: datetime } }
steps:
  days:
    for_each: "{{ range(7) | list }}"
    max_parallel: 1
    at: "{{ inputs.from + duration('1d') * item }}"
    uses: pipeline.run
    with: { pipeline: day }
outputs: { days: "{{ steps.days.output | map(attribute='learned') | list }}" }
"#;

const MONTHS: &str = r#"name: x
inputs: { weeks: { type: integer } }
steps:
  weeks:
    for_each: "{{ range(inputs.weeks) | list }}"
    max_parallel: 1
    uses: pipeline.run
    with: { pipeline: week, inputs: { from: "{{ '2026-02-02T04:00:00Z' | datetime + duration('7d') * item }}" } }
  posts: { needs: [weeks], uses: posts.list, with: { limit: 10000 } }
  lessons: { needs: [weeks], uses: context.lessons, with: { limit: 200, least: 0 } }
  held: { needs: [weeks], uses: context.lessons, with: { limit: 200, least: 0, explore: 1 } }
outputs:
  held: "{{ steps.held.output | drop('lessons') }}"
  posts: "{{ steps.posts.output.posts }}"
  weeks: "{{ steps.weeks.output | map(attribute='days') | list }}"
  lessons: "{{ steps.lessons.output.lessons }}"
"#;

/// What an audience likes; nothing where it has no taste.
#[derive(Clone, Copy)]
struct Taste {
    hour: i32,
    format: &'static str,
    style: &'static str,
}

struct Audience {
    name: &'static str,
    weeks: usize,
    seeds: usize,
    taste: Option<Taste>,
    /// From which day it likes something else.
    turns: Option<(usize, Taste)>,
}

const EVENING: Taste = Taste { hour: 18, format: "question", style: "numbers" };
const MORNING: Taste = Taste { hour: 9, format: "story", style: "opinion" };

const AUDIENCES: [Audience; 4] = [
    Audience { name: "evening", weeks: 9, seeds: 3, taste: Some(EVENING), turns: None },
    Audience { name: "morning", weeks: 9, seeds: 3, taste: Some(MORNING), turns: None },
    Audience { name: "turning", weeks: 11, seeds: 2, taste: Some(EVENING), turns: Some((42, MORNING)) },
    Audience { name: "indifferent", weeks: 9, seeds: 3, taste: None, turns: None },
];

const HOURS: std::ops::Range<i32> = 6..22;
const FORMATS: [&str; 3] = ["statement", "question", "story"];
const STYLES: [&str; 3] = ["numbers", "example", "opinion"];

/// A post as it was published.
#[derive(Clone, Copy)]
struct Posted<'p> {
    day: usize,
    hour: i32,
    format: &'p str,
    style: &'p str,
    likes: f64,
}

/// What came of one audience and seed.
#[derive(Debug, Default)]
struct Figures {
    posts: usize,
    likes: f64,
    /// The share of the last thirty posts within an hour of the best one, in the best format, and in the best style.
    hour: f64,
    format: f64,
    style: f64,
    /// The share of what could have been had that was not, over all and in the last thirty days; of a choice by chance; of
    /// the first format and any style at noon.
    regret: f64,
    late: f64,
    chance: f64,
    fixed: f64,
    accepted: usize,
    refused: usize,
    retired: usize,
    /// What the lessons at the end say is better, with their weights.
    lessons: Vec<(String, f64)>,
    /// How long after its turn the lessons name the new style alone.
    found: Option<usize>,
}

impl Audience {
    fn taste(&self, day: usize) -> Option<Taste> {
        self.turns.filter(|(from, _)| day >= *from).map(|(_, taste)| taste).or(self.taste)
    }

    /// What a post deserves, as the stand-in has it, without its luck.
    fn deserves(&self, day: usize, hour: i32, format: &str, style: &str) -> f64 {
        let Some(taste) = self.taste(day) else { return 40.0 };
        let near = match (hour - taste.hour).abs() {
            0 => 2.0,
            1 => 1.7,
            2 => 1.3,
            _ => 1.0,
        };
        let format = if format == taste.format { 1.4 } else { 1.0 };
        let style = if style == taste.style { 1.8 } else { 1.0 };
        40.0 * near * format * style
    }

    fn best(&self, day: usize) -> f64 {
        self.taste(day).map_or(40.0, |taste| self.deserves(day, taste.hour, taste.format, taste.style))
    }

    /// The mean over hours, formats and styles.
    fn mean(&self, day: usize, hours: impl Iterator<Item = i32> + Clone, formats: &[&str]) -> f64 {
        let all = hours.flat_map(|hour| {
            let of = move |format| STYLES.map(|style| self.deserves(day, hour, format, style));
            formats.iter().flat_map(move |format| of(format))
        });
        let all: Vec<f64> = all.collect();
        all.iter().sum::<f64>() / all.len() as f64
    }

    /// Its connection, and from when it likes what.
    fn settings(&self, chance: usize) -> String {
        let words = |taste: Taste| format!("hour: {}, format: {}, style: {}", taste.hour, taste.format, taste.style);
        let taste = self.taste.map(words).unwrap_or_default();
        let turns = self.turns.map(|(from, taste)| {
            let at = "2026-02-02T00:00:00Z".parse::<pipewright::model::Timestamp>().unwrap();
            let at = at.plus(pipewright::model::Duration::from_secs(86_400 * from as u64));
            format!("at: \"{at}\", {}", words(taste))
        });
        format!("{{ chance: {chance}, taste: {{ {taste} }}, turns: {{ {} }} }}", turns.unwrap_or_default())
    }

    fn figures(&self, outputs: &Value) -> Figures {
        let posts = posts(outputs);
        let mut figures = Figures { posts: posts.len(), ..Figures::default() };
        let days = self.weeks * 7;
        let (mut last, mut late) = (0.0, [0.0; 2]);
        let (mut regret, mut best, mut chance, mut fixed) = (0.0, 0.0, 0.0, 0.0);
        for post in &posts {
            let most = self.best(post.day);
            let missed = most - self.deserves(post.day, post.hour, post.format, post.style);
            figures.likes += post.likes;
            best += most;
            regret += missed;
            chance += most - self.mean(post.day, HOURS, &FORMATS);
            fixed += most - self.mean(post.day, 12..13, &FORMATS[..1]);
            if post.day + 30 < days {
                continue;
            }
            last += 1.0;
            late = [late[0] + missed, late[1] + most];
            if let Some(taste) = self.taste(post.day) {
                figures.hour += f64::from((post.hour - taste.hour).abs() <= 1);
                figures.format += f64::from(post.format == taste.format);
                figures.style += f64::from(post.style == taste.style);
            }
        }
        for share in [&mut figures.hour, &mut figures.format, &mut figures.style] {
            *share /= last;
        }
        (figures.regret, figures.chance, figures.fixed) = (regret / best, chance / best, fixed / best);
        figures.late = late[0] / late[1];
        self.learned(outputs, &mut figures);
        figures
    }

    fn learned(&self, outputs: &Value, figures: &mut Figures) {
        let mut active: Vec<(String, String)> = Vec::new();
        let weeks = outputs.get("weeks").and_then(Value::as_list).unwrap();
        for (day, learned) in weeks.iter().flat_map(|week| week.as_list().unwrap()).enumerate() {
            let rows = |key: &str| learned.get(key).and_then(Value::as_list).unwrap().to_vec();
            figures.accepted += rows("accepted").len();
            figures.refused += rows("refused").len();
            figures.retired += rows("retired").len();
            active.extend(rows("accepted").iter().map(|lesson| (text(lesson, "id"), text(lesson, "feature"))));
            active.retain(|(id, _)| !rows("retired").iter().any(|gone| text(gone, "id") == *id));
            let Some((from, taste)) = self.turns.filter(|(from, _)| day >= *from) else { continue };
            let mut styles = active.iter().filter_map(|(_, feature)| feature.strip_prefix("style="));
            let is_found = styles.clone().count() > 0 && styles.all(|style| style == taste.style);
            figures.found = if is_found { figures.found.or(Some(day - from)) } else { None };
        }
        let lessons = outputs.get("lessons").and_then(Value::as_list).unwrap();
        // All of them are held back where that is asked for.
        let held = outputs.get("held").unwrap();
        assert_eq!([text(held, "held"), text(held, "count")], [lessons.len().to_string(), "0".to_owned()]);
        figures.lessons =
            lessons.iter().map(|lesson| (text(lesson, "feature"), text(lesson, "weight").parse().unwrap())).collect();
    }
}

impl Figures {
    fn styles(&self) -> Vec<&str> {
        self.lessons.iter().filter_map(|(feature, _)| feature.strip_prefix("style=")).collect()
    }
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).map(Value::to_text).unwrap_or_default()
}

/// Reads the posts, the oldest first.
fn posts(outputs: &Value) -> Vec<Posted<'_>> {
    let zone = jiff::tz::TimeZone::get("Europe/Berlin").unwrap();
    let start = "2026-02-02T00:00:00Z".parse::<jiff::Timestamp>().unwrap();
    let read = |post| {
        let of = |value: &'_ Value, key: &str| value.get(key).cloned().unwrap_or_default();
        let at = text(post, "published_at").parse::<jiff::Timestamp>().ok()?;
        let labels = post.get("labels")?;
        Some(Posted {
            day: usize::try_from((at.as_second() - start.as_second()) / 86_400).unwrap(),
            hour: at.to_zoned_datetime(zone.clone()).hour().into(),
            format: labels.get("format")?.as_str()?,
            style: labels.get("style")?.as_str()?,
            likes: of(&of(post, "metrics"), "likes").to_text().parse().unwrap_or(0.0),
        })
    };
    outputs.get("posts").and_then(Value::as_list).unwrap().iter().rev().filter_map(read).collect()
}

/// Plays all audiences, each with some seeds.
fn played(audiences: &[Audience]) -> Vec<Vec<Figures>> {
    let bench = Bench::new();
    bench.file("pipewright.yaml", "connections: { x: { connector: audience }, writer: { connector: author } }\n");
    bench.file("connectors/audience.yaml", AUDIENCE).file("connectors/author.yaml", AUTHOR);
    bench.file("pipelines/day.yaml", DAY).file("pipelines/week.yaml", WEEK).file("pipelines/x.yaml", MONTHS);
    for (name, text) in SHIPPED {
        bench.file(name, text);
    }
    let mut cases = "tests:\n".to_owned();
    for audience in audiences {
        for seed in 1..=audience.seeds {
            cases.push_str(&format!(
                "  - name: {} {seed}\n    given: {{ clock: 2026-02-02T00:00:00Z, limit: 400d, seed: {seed}, inputs: {{ \
                 weeks: {} }}, connections: {{ x: {} }} }}\n    then: {{ state: succeeded }}\n",
                audience.name,
                audience.weeks,
                audience.settings(seed)
            ));
        }
    }
    bench.file("pipelines/x.test.yaml", &cases);
    let (stage, prepared) = bench.prepare(&["pipelines/x.test.yaml"]).unwrap();
    // One at a time: a case may take the machine no longer than a minute, and these are long.
    let verdicts = run::run(&stage, &prepared.jobs, 1, Mode::Strict).unwrap();
    Tested { verdicts: verdicts.clone(), sources: prepared.sources, stage }.is_kept();
    let mut verdicts = verdicts.into_iter();
    let of = |audience: &Audience| {
        let figures = |verdict: Verdict| audience.figures(&verdict.played.outputs());
        let found: Vec<Figures> = verdicts.by_ref().take(audience.seeds).map(figures).collect();
        for (seed, figures) in found.iter().enumerate() {
            println!("{}", told(audience.name, seed + 1, figures));
        }
        found
    };
    audiences.iter().map(of).collect()
}

fn told(name: &str, seed: usize, figures: &Figures) -> String {
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let Figures { posts, likes, accepted, refused, retired, found, lessons, .. } = figures;
    let [hour, format, style] = [figures.hour, figures.format, figures.style].map(percent);
    let [regret, late, chance, fixed] = [figures.regret, figures.late, figures.chance, figures.fixed].map(percent);
    format!(
        "{name} {seed}: {posts} posts, {likes} likes; last 30 days: hour {hour}, format {format}, style {style}; regret \
         {regret} (last 30 days {late}), by chance {chance}, at noon {fixed}; lessons: {accepted} accepted, {refused} \
         refused, {retired} retired, found again after {found:?} days; {lessons:?}"
    )
}

fn mean(figures: &[Figures], of: impl Fn(&Figures) -> f64) -> f64 {
    figures.iter().map(of).sum::<f64>() / figures.len() as f64
}

#[test]
fn an_audience_with_a_taste_is_found_by_its_hour_its_format_and_its_style() {
    for (audience, figures) in AUDIENCES.iter().zip(played(&AUDIENCES[..2])) {
        let (name, taste) = (audience.name, audience.taste.unwrap());
        let [regret, late] = [mean(&figures, |one| one.regret), mean(&figures, |one| one.late)];
        assert!(regret < 0.8 * mean(&figures, |one| one.chance), "{name}: {regret}");
        assert!(regret < 0.8 * mean(&figures, |one| one.fixed), "{name}: {regret}");
        assert!(late < regret, "{name}: {late} {regret}");
        // Chance gives a fifth, a third and a third.
        let found = [mean(&figures, |one| one.hour), mean(&figures, |one| one.format), mean(&figures, |one| one.style)];
        assert!(found[0] > 0.3 && found[1] > 0.45 && found[2] > 0.6, "{name}: {found:?}");
        let styles: Vec<&str> = figures.iter().flat_map(Figures::styles).collect();
        assert!(styles.len() >= 2 && styles.iter().all(|style| *style == taste.style), "{name}: {styles:?}");
        assert!(figures.iter().all(|one| one.refused > 0), "{name}: what is made up is refused");
    }
}

#[test]
fn lessons_of_an_audience_whose_taste_turns_are_retired_and_the_loop_stays_ahead_of_chance() {
    let figures = played(&AUDIENCES[2..3]).remove(0);
    assert!(figures.iter().any(|one| one.retired > 0), "{figures:?}");
    for one in &figures {
        assert!(one.regret < one.chance && one.regret < one.fixed, "{one:?}");
    }
}

#[test]
fn an_audience_without_a_taste_teaches_nothing_that_stays() {
    let figures = played(&AUDIENCES[3..]).remove(0);
    for one in &figures {
        // Chance may teach something now and then; nothing that comes later confirms it.
        assert!(one.lessons.iter().all(|(_, weight)| *weight <= 0.5) && one.accepted <= 3, "{one:?}");
    }
}

#[test]
fn a_share_of_lessons_that_is_none_is_told_before_a_run() {
    let bench = Bench::new();
    bench.file("pipelines/x.yaml", "name: x\nsteps: { a: { uses: context.lessons, with: { explore: 1.5 } } }\n");
    bench.file("pipelines/x.test.yaml", "tests: [ { name: a, then: {} } ]\n");
    let told = bench.prepare(&["pipelines"]).map(|_| ()).unwrap_err();
    assert!(told.contains("1.5 is no share from 0 to 1"), "{told}");
}
