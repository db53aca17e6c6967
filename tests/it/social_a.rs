//! Publishing to X and LinkedIn against their stand-ins, on virtual time: every request of a publish is lost, refused or
//! made with a spent token once, every process dies once at every step, and in the end there is one of each part.

use std::fmt::Write;

use crate::support::shell::Ended;
use crate::support::shell::Shell;

const CONNECTIONS: &str = r#"connections:
  x: { connector: x, auth: { client_id: "{{ secrets.X_ID }}" } }
  member: { connector: linkedin, auth: { client_id: "{{ secrets.L_ID }}", client_secret: "{{ secrets.L_SECRET }}" } }
  page: { connector: linkedin, author: "urn:li:organization:2414183", auth: { client_id: "{{ secrets.L_ID }}", client_secret: "{{ secrets.L_SECRET }}" } }
"#;

/// What can become of one request.
const TROUBLES: [&str; 6] =
    ["lost: after", "lost: before", "status: 503", "status: 429", "refuse: true", "token: expired"];

/// A project with files to publish, and a pipeline.
fn project(pipeline: &str) -> Shell {
    let shell = Shell::empty();
    shell.file("pipewright.yaml", CONNECTIONS).file("pipelines/publish.yaml", pipeline);
    shell.file("data/one.png", "pixels of one").file("data/two.png", "pixels of two").file("data/loop.gif", "frames");
    shell.file("data/paper.pdf", "%PDF-1.4").file("data/clip.mp4", &"0123456789".repeat(430_000));
    shell
}

fn play(shell: &Shell, cases: &str) -> Ended {
    shell
        .file("pipelines/publish.test.yaml", &format!("given: {{ clock: \"2026-11-27T09:00:00Z\" }}\ntests:\n{cases}"));
    shell.run(&["test", "pipelines/publish.test.yaml"])
}

fn plays(shell: &Shell, cases: &str) {
    let ended = play(shell, cases);
    let count = cases.matches("- name:").count();
    assert!(ended.code == 0 && ended.err.contains(&format!("{count} case")), "{}", ended.shown());
}

/// Writes a case for each request from one on and each trouble that it can have. One that cannot come about fails, since its
/// fault would never come.
fn each_request(stand: &str, first: usize, requests: usize, then: &str) -> String {
    let mut cases =
        format!("  - name: nothing goes wrong\n    then: {{ requests: {{ {stand}: {requests} }}, {then} }}\n");
    for call in first..=requests {
        for trouble in TROUBLES {
            let fault = format!("{{ on: {stand}, call: {call}, {trouble} }}");
            writeln!(cases, "  - name: \"request {call}, {trouble}\"\n    faults: [ {fault} ]\n    then: {{ {then} }}")
                .unwrap();
        }
    }
    cases
}

/// Writes a case for each moment at which a process can die.
fn each_death(steps: &[&str], then: &str) -> String {
    let mut cases = String::new();
    for step in steps {
        for moment in ["sending", "answered", "after"] {
            let fault = format!("{{ crash: {{ {moment}: {step} }} }}");
            writeln!(cases, "  - name: dies {moment} {step}\n    faults: [ {fault} ]\n    then: {{ {then} }}").unwrap();
        }
    }
    cases
}

#[test]
fn a_thread_with_a_picture_is_on_x_once_whatever_goes_wrong_on_the_way() {
    let shell = project(
        r#"steps:
  file: { uses: file.read, with: { path: data/one.png, as: blob } }
  publish:
    uses: x.publish
    with:
      connection: x
      text: "1/3 Fast & <good>: https://example.com/r"
      thread: ["2/3 What changed", "3/3 How to get it"]
      media: [ { file: "{{ steps.file.output.content }}", alt: A chart } ]
      made_with_ai: true
outputs: { ids: "{{ steps.publish.output.ids }}", id: "{{ steps.publish.output.id }}" }
"#,
    );
    let then = r#"sandbox: { x: { posts: { count: 6, unique: sent } } }, that: [ "{{ outputs.ids == sandbox.x.posts[3:] | map(attribute='id') | list and outputs.id == outputs.ids[0] }}", "{{ sandbox.x.posts[4].in_reply_to == outputs.ids[0] and sandbox.x.posts[5].in_reply_to == outputs.ids[1] }}", "{{ sandbox.x.posts[3].alt == ['A chart'] and sandbox.x.posts[4].media | default(none) is none and sandbox.x.posts[3:] | selectattr('made_with_ai') | list | length == 3 }}" ]"#;
    plays(
        &shell,
        &(each_request("x", 1, 7, then) + &each_death(&["start", "parts", "finish", "alt", "first", "thread"], then)),
    );
}

#[test]
fn a_video_and_a_loop_are_uploaded_to_x_in_parts_though_every_token_is_spent_on_the_way() {
    let shell = project(
        r#"inputs: { file: { type: string } }
steps:
  file: { uses: file.read, with: { path: "{{ inputs.file }}", as: blob } }
  publish: { uses: x.publish, with: { connection: x, text: Look, media: [ { file: "{{ steps.file.output.content }}", alt: A walk } ] } }
  numbers: { uses: x.metrics, delay: 6h, needs: [publish], with: { connection: x, id: "{{ steps.publish.output.id }}" } }
outputs: { numbers: "{{ steps.numbers.output }}" }
"#,
    );
    let mut cases = String::new();
    for (file, parts, key, views) in [("clip.mp4", 5, "7_", true), ("loop.gif", 1, "16_", false)] {
        let then = format!(
            r#"sandbox: {{ x: {{ posts: {{ count: 4 }} }} }}, that: [ "{{{{ sandbox.x.posts[3].media_keys[0] is startingwith('{key}') and sandbox.x.media | selectattr('done') | list | length == 1 }}}}", "{{{{ outputs.numbers.impressions > 100 and outputs.numbers.clicks > 0 and outputs.numbers.reach is none and outputs.numbers.video_views is {}none }}}}" ]"#,
            if views { "not " } else { "" }
        );
        // Start, parts, finish, two questions, the words, the post, the numbers.
        let requests = parts + 7;
        let given = format!("given: {{ inputs: {{ file: data/{file} }} }}");
        let mut case = |name: &str, faults: &str, more: &str| {
            writeln!(
                cases,
                "  - name: \"{file}: {name}\"\n    {given}\n    faults: [ {faults} ]\n    then: {{ {more}{then} }}"
            )
            .unwrap();
        };
        case(
            "nothing goes wrong",
            "",
            &format!("requests: {{ x: {requests}, x.media_append: {parts}, x.media_status: 2 }}, "),
        );
        case("tokens serve for a second", "{ on: x, tokens_serve: 1s }", "");
        for call in 1..=requests {
            case(&format!("token {call}"), &format!("{{ on: x, call: {call}, token: expired }}"), "");
            case(&format!("lost {call}"), &format!("{{ on: x, call: {call}, lost: after }}"), "");
        }
    }
    plays(&shell, &cases);
}

#[test]
fn a_page_has_two_pictures_and_their_comments_once_whatever_goes_wrong_on_the_way() {
    let shell = project(
        r#"steps:
  one: { uses: file.read, with: { path: data/one.png, as: blob } }
  two: { uses: file.read, with: { path: data/two.png, as: blob } }
  publish:
    uses: linkedin.publish
    with:
      connection: page
      text: "Release 2.4 (beta) & more: https://example.com/r #data"
      thread: ["What changed (a lot)", "How to get it"]
      media: [ { file: "{{ steps.one.output.content }}", alt: A chart }, { file: "{{ steps.two.output.content }}" } ]
outputs: { ids: "{{ steps.publish.output.ids }}", id: "{{ steps.publish.output.id }}" }
"#,
    );
    let then = r#"sandbox: { page: { posts: { count: 3 }, comments: { count: 2, unique: commentUrn } } }, that: [ "{{ outputs.ids == [sandbox.page.posts[2].id] | chain(sandbox.page.comments | map(attribute='commentUrn')) | list and outputs.id == outputs.ids[0] }}", "{{ sandbox.page.comments | map(attribute='message') | map(attribute='text') | list == ['What changed (a lot)', 'How to get it'] }}", "{{ sandbox.page.posts[2].content.multiImage.images | map(attribute='altText') | list == ['A chart', ''] and sandbox.page.posts[2].commentary is endingwith('#data') }}" ]"#;
    // A token, who we are, two uploads in six requests each, the post, two comments. A token that was asked for in vain is
    // for a person to fetch.
    plays(&shell, &(each_request("page", 2, 17, then) + &each_death(&["image", "put", "post", "thread"], then)));
}

#[test]
fn a_member_posts_once_and_a_comment_that_may_be_there_is_for_a_person_to_decide() {
    let shell = project(
        r#"steps:
  one: { uses: file.read, with: { path: data/one.png, as: blob } }
  publish: { uses: linkedin.publish, with: { connection: member, text: hello, thread: [one, two], media: [ { file: "{{ steps.one.output.content }}" } ] } }
outputs: { ids: "{{ steps.publish.output.ids | length }}" }
"#,
    );
    let then = "outputs: { ids: 3 }, sandbox: { linkedin: { posts: { count: 3 }, comments: { count: 2, unique: commentUrn } } }";
    let mut cases = format!("  - name: whole\n    then: {{ requests: {{ linkedin: 7 }}, {then} }}\n");
    // Who we are, where to put the picture, the picture, the post.
    for call in 2..=5 {
        for trouble in TROUBLES {
            let fault = format!("{{ on: linkedin, call: {call}, {trouble} }}");
            writeln!(cases, "  - name: \"request {call}, {trouble}\"\n    faults: [ {fault} ]\n    then: {{ {then} }}")
                .unwrap();
        }
    }
    // Members are shown no comments: of the first nobody knows, and the second is not sent before it.
    for (trouble, count) in [("after", 1), ("before", 0)] {
        writeln!(
            cases,
            "  - name: \"a comment is lost {trouble}\"\n    faults: [ {{ on: linkedin.comment, call: 1, lost: {trouble} }} ]\n    then: {{ state: waiting, effects: {{ in_doubt: 1 }}, sandbox: {{ linkedin: {{ posts: {{ count: 3 }}, comments: {{ count: {count} }} }} }} }}"
        )
        .unwrap();
    }
    plays(&shell, &cases);
}

#[test]
fn a_video_goes_to_linkedin_in_the_parts_that_it_asks_for() {
    let shell = project(
        r#"inputs: { on: { type: string } }
steps:
  file: { uses: file.read, with: { path: data/clip.mp4, as: blob } }
  publish: { uses: linkedin.publish, with: { connection: "{{ inputs.on }}", text: Watch, title: A tour, media: [ { file: "{{ steps.file.output.content }}", alt: A walk } ] } }
  numbers: { uses: linkedin.metrics, delay: 6h, needs: [publish], with: { connection: "{{ inputs.on }}", id: "{{ steps.publish.output.id }}" } }
  gone: { uses: linkedin.delete, needs: [numbers], with: { connection: "{{ inputs.on }}", id: "{{ steps.publish.output.id }}" } }
outputs: { id: "{{ steps.publish.output.id }}", numbers: "{{ steps.numbers.output }}" }
"#,
    );
    let mut cases = String::new();
    for (on, stand, numbers) in [("member", "linkedin", 7), ("page", "page", 1)] {
        let then = format!(
            r#"sandbox: {{ {stand}: {{ posts: {{ count: 2 }} }} }}, that: [ "{{{{ outputs.id is startingwith('urn:li:ugcPost:') and outputs.numbers.impressions > 100 and outputs.numbers.video_views is none }}}}", "{{{{ sandbox.{stand}.media | selectattr('finished') | list | length == 1 }}}}" ]"#
        );
        let given = format!("given: {{ inputs: {{ on: {on} }} }}");
        // A token, who we are, start, two parts, finish, four questions, the post, the numbers, the deletion.
        let requests = 12 + numbers;
        let mut case = |name: &str, faults: &str, more: &str| {
            writeln!(
                cases,
                "  - name: \"{on}: {name}\"\n    {given}\n    faults: [ {faults} ]\n    then: {{ {more}{then} }}"
            )
            .unwrap();
        };
        case("nothing goes wrong", "", &format!("requests: {{ {stand}: {requests}, {stand}.put_part: 2 }}, "));
        case("tokens serve for seconds", &format!("{{ on: {stand}, tokens_serve: 7s }}"), "");
        for call in 2..=requests {
            case(&format!("lost {call}"), &format!("{{ on: {stand}, call: {call}, lost: after }}"), "");
            case(&format!("busy {call}"), &format!("{{ on: {stand}, call: {call}, status: 503 }}"), "");
        }
    }
    plays(&shell, &cases);
}

#[test]
fn what_was_posted_before_is_not_taken_for_a_post_that_never_arrived() {
    let pipeline = |operation: &str, connection: &str| {
        format!(
            "steps:\n  one: {{ uses: {operation}, with: {{ connection: {connection}, text: hello }} }}\n  two: {{ uses: {operation}, needs: [one], with: {{ connection: {connection}, text: hello }} }}\n"
        )
    };
    // X is asked, and has another effect's post alone; the second sending is refused as its duplicate.
    let shell = project(&pipeline("x.create_post", "x"));
    let fault = "faults: [ { on: x.create_post, call: 2, lost: before } ]";
    plays(
        &shell,
        &format!(
            "  - name: x\n    {fault}\n    then: {{ error: {{ class: conflict }}, sandbox: {{ x: {{ posts: {{ count: 4 }} }} }} }}\n"
        ),
    );
    // LinkedIn names the other post as what is there: nothing says what became of ours.
    let shell = project(&pipeline("linkedin.create_post", "member"));
    let fault = "faults: [ { on: linkedin.create_post, call: 2, lost: before } ]";
    plays(
        &shell,
        &format!(
            "  - name: linkedin\n    {fault}\n    then: {{ state: waiting, steps: {{ one: succeeded }}, effects: {{ create: 1, in_doubt: 1 }}, sandbox: {{ linkedin: {{ posts: {{ count: 3 }} }} }} }}\n"
        ),
    );
}

#[test]
fn a_part_that_is_refused_ends_a_thread_and_what_was_posted_stays_known() {
    let shell = project(
        "steps:\n  publish: { uses: x.publish, with: { connection: x, text: one, thread: [two, Friday notes., three] } }\n",
    );
    // The stand-in has a post with these words from the start.
    plays(
        &shell,
        "  - name: refused\n    then: { error: { class: conflict, contains: duplicate }, sandbox: { x: { posts: { count: 5, none: { text: three } } } }, requests: { x.create_post: 3 } }\n",
    );
}

#[test]
fn a_file_is_known_by_its_name_and_one_that_is_no_picture_is_refused_before_anything_is_sent() {
    let shell = project(
        r#"inputs: { file: { type: string } }
steps:
  file: { uses: file.read, with: { path: "{{ inputs.file }}", as: blob } }
  publish: { uses: x.publish, with: { connection: x, media: [ { file: "{{ steps.file.output.content }}" } ] } }
outputs: { id: "{{ steps.publish.output.id }}" }
"#,
    );
    shell.file("data/photo.JPG", "pixels").file("data/notes", "words");
    plays(
        &shell,
        r#"  - name: a picture
    given: { inputs: { file: data/photo.JPG } }
    then: { sandbox: { x: { posts: { count: 4 }, media: [ { type: image/jpeg, size: 6 } ] } } }
  - name: a post without words whose answer is lost
    given: { inputs: { file: data/photo.JPG } }
    faults: [ { on: x.create_post, call: 1, lost: after } ]
    then: { that: [ "{{ outputs.id == sandbox.x.posts[3].id }}" ], sandbox: { x: { posts: { count: 4 } } } }
  - name: no picture
    given: { inputs: { file: data/notes } }
    then: { error: { class: invalid, contains: application/octet-stream }, requests: { x: 0 } }
"#,
    );
}

#[test]
fn a_run_that_fails_takes_back_every_part_on_the_connection_that_it_went_to() {
    let shell = project(
        r#"steps:
  thread: { uses: x.publish, with: { connection: x, text: one, thread: [two, three] }, undo: auto }
  page: { uses: linkedin.publish, needs: [thread], with: { connection: page, text: one, thread: [two] }, undo: auto }
  stop: { uses: assert.that, needs: [page], with: { that: "{{ 1 > 2 }}" } }
"#,
    );
    let then = "state: failed, steps: { thread: { undone: 1 }, page: { undone: 1 } }, sandbox: { x: { posts: { count: 3 } }, page: { posts: { count: 2 } } }";
    let mut cases =
        format!("  - name: whole\n    then: {{ requests: {{ x.delete_post: 3, page.delete_post: 1 }}, {then} }}\n");
    for fault in [
        "{ on: x.delete_post, call: 2, lost: after }",
        "{ on: x.delete_post, call: 1, status: 503 }",
        "{ on: page.delete_post, call: 1, lost: before }",
        "{ crash: { answered: parts } }",
    ] {
        writeln!(cases, "  - name: \"{fault}\"\n    faults: [ {fault} ]\n    then: {{ {then} }}").unwrap();
    }
    plays(&shell, &cases);
}
