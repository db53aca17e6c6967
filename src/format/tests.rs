use super::*;

fn formatted(text: &str, kind: Kind) -> String {
    match format(&"t.yaml".into(), text, kind) {
        Ok(text) => text,
        Err(fault) => panic!("{fault:?}\n{text}"),
    }
}

fn check(before: &str, after: &str) {
    assert_eq!(formatted(before, Kind::Pipeline), after, "\n{before}");
    assert_eq!(formatted(after, Kind::Pipeline), after, "not stable");
}

#[test]
fn keys_stand_in_their_order_and_comments_go_with_them() {
    check(
        "# yaml-language-server: $schema=x\n# About the file.\n\n# the steps\nsteps:\n  one:\n    with: {a: 1}   # given\n    # what it does\n    uses: log.write\nname: x\n",
        "# yaml-language-server: $schema=x\n# About the file.\n\nname: x\n# the steps\nsteps:\n  one:\n    # what it does\n    uses: log.write\n    with: {a: 1}   # given\n",
    );
}

#[test]
fn the_order_of_what_an_author_names_is_the_authors() {
    let text = "inputs:\n  z: { type: string }\n  a: { default: 1, type: integer }\nsteps:\n  z:\n    uses: log.write\n    with:\n      message: x\n      level: warn\n  a:\n    uses: log.write\n";
    check(text, text);
}

#[test]
fn levels_are_two_deep_and_lists_deeper_than_their_key() {
    check(
        "steps:\n    one:\n        uses: a\n        needs:\n        - x\n        # last\n        - y\n    # behind one\n\n\n    two:\n     uses:   b\n",
        "steps:\n  one:\n    needs:\n      - x\n      # last\n      - y\n    uses: a\n  # behind one\n\n  two:\n    uses: b\n",
    );
}

#[test]
fn comments_at_the_end_of_a_block_stay_in_it() {
    check(
        "steps:\n  a:\n    uses: x\n    # of a\n  # of steps\n# of outputs\noutputs: {}\n# the end\n",
        "steps:\n  a:\n    uses: x\n    # of a\n  # of steps\n# of outputs\noutputs: {}\n# the end\n",
    );
    check("labels:\n   # none yet\nsteps: {}\n", "labels:\n  # none yet\nsteps: {}\n");
}

#[test]
fn block_texts_keep_every_letter() {
    check(
        "description: |\n      first\n        deeper\n\n      last\n\n\nsteps:\n   a:\n      with:\n         text: >-   # folded\n            a\n            b\n         keep: |+\n            x\n\n\n         own: |3-\n              y\n            z\n      uses: x\n",
        "description: |\n  first\n    deeper\n\n  last\n\nsteps:\n  a:\n    uses: x\n    with:\n      text: >-   # folded\n        a\n        b\n      keep: |+\n        x\n\n\n      own: |2-\n          y\n        z\n",
    );
}

#[test]
fn flow_collections_stay_as_they_are_broken() {
    check(
        "labels: {a: 1,\n      b: [ 1,\n  2, 'it''s # no comment' ],  # yes\n\n\n   c: \"x\n     y\"\n        }\n",
        "labels: {a: 1,\n  b: [ 1,\n    2, 'it''s # no comment' ],  # yes\n\n  c: \"x\n  y\"\n}\n",
    );
}

#[test]
fn what_is_aligned_stays_so() {
    check(
        "inputs:\n    a:   { type: string }\n    abc: { type: string }\n    d:    { type: string }\n",
        "inputs:\n  a:   { type: string }\n  abc: { type: string }\n  d: { type: string }\n",
    );
}

#[test]
fn anchors_lines_and_marks_stay() {
    check(
        "%YAML 1.2\n# top\n---\nsteps: &all\n  b: &b\n    uses: x\n  a: *b\nlabels:\n  - - 1\n    - 2\n  -   c: 1\n      d: 2\n  - # beside\n    e: 1\n  -\n...\n# after\n",
        "%YAML 1.2\n# top\n---\nsteps: &all\n  b: &b\n    uses: x\n  a: *b\nlabels:\n  - - 1\n    - 2\n  - c: 1\n    d: 2\n  - # beside\n    e: 1\n  -\n...\n# after\n",
    );
    assert_eq!(
        formatted("\u{feff}name:  ü\r\nsteps:\r\n   a:   {}\r\n", Kind::Pipeline),
        "\u{feff}name: ü\r\nsteps:\r\n  a: {}\r\n"
    );
}

#[test]
fn long_texts_stay_below_their_key() {
    let long = "x".repeat(115);
    let text = format!("description:\n  {long}\nsteps: {{}}\n");
    check(&text, &text);
    check(
        "description:\n    short\nname: plain text\n      of two lines\n",
        "name: plain text\n  of two lines\ndescription: short\n",
    );
}

#[test]
fn what_cannot_be_formatted_is_told_with_its_place() {
    let told = |text: &str| match format(&"t.yaml".into(), text, Kind::Pipeline) {
        Err(Fault::Invalid(diagnostics)) => {
            let first = diagnostics.first().unwrap();
            format!("{}:{} {}", first.span.start.line, first.span.start.column, first.message)
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(told("name: a\n? b\n: c\n"), "2:1 a key with `?`, or of several lines, cannot be formatted");
    assert_eq!(told("a: 1\n---\nb: 2\n"), "2:1 a second document begins here; a file holds one");
    assert_eq!(told("a: [\n"), "1:4 unclosed bracket '['");
    assert_eq!(told("a: 1\na: 2\n"), "2:1 key `a` is given twice");
    assert_eq!(told(""), "1:1 the file is empty");
}

/// Returns all YAML of the repository.
fn corpus() -> Vec<(std::path::PathBuf, String)> {
    let mut files = Vec::new();
    let mut folders: Vec<_> = ["pipelines", "examples", "connectors", "tests"]
        .iter()
        .map(|it| Path::new(env!("CARGO_MANIFEST_DIR")).join(it))
        .collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "yaml" || it == "yml")
                && let Ok(text) = std::fs::read_to_string(&path)
            {
                files.push((path, text));
            }
        }
    }
    files.sort();
    assert!(files.len() > 100, "the corpus was not found");
    files
}

/// Compares without the formatter's own measure: values as JSON, where the order of keys is none.
fn value(text: &str) -> Option<serde_json::Value> {
    let (tree, diagnostics) = yaml::parse(&"t.yaml".into(), text);
    let tree = tree.filter(|_| diagnostics.is_empty())?;
    serde_json::from_str(&tree.to_value().to_string()).ok()
}

/// Formats twice, and holds what comes out against the text; tells whether there was anything to format.
fn holds(text: &str, kind: Kind) -> bool {
    let Some(before) = value(text) else { return false };
    let once = match format(&"t.yaml".into(), text, kind) {
        Ok(once) => once,
        Err(Fault::Invalid(_)) => return false,
        Err(Fault::Changed(what)) => panic!("{what}\n{text}"),
    };
    assert_eq!(value(&once), Some(before), "another meaning\n{text}\n-----\n{once}");
    assert_eq!(text.matches('#').count(), once.matches('#').count(), "a comment is lost\n{text}\n-----\n{once}");
    for line in text.lines().filter_map(|line| line.trim().strip_prefix("#")) {
        assert!(once.contains(line), "the comment `{line}` is lost\n{text}\n-----\n{once}");
    }
    let twice = formatted(&once, kind);
    assert_eq!(once, twice, "not stable\n{text}");
    true
}

#[test]
fn no_file_of_the_repository_changes_its_meaning() {
    let formatted = corpus().iter().filter(|(path, text)| holds(text, Kind::of(path, text))).count();
    assert!(formatted > 100, "only {formatted} files could be formatted");
}

#[test]
fn no_edit_makes_it_change_a_meaning_or_lose_a_comment() {
    let corpus = corpus();
    let rounds =
        std::env::vars().find(|(name, _)| name == "FORMAT_ROUNDS").map_or(600, |(_, text)| text.parse().unwrap());
    let mut random = fastrand::Rng::with_seed(7);
    let mut formatted = 0;
    for _ in 0..rounds {
        let (path, text) = random.choice(&corpus).unwrap();
        // Long files take long and say little more.
        let lines: Vec<String> = text.lines().take(120).map(str::to_owned).collect();
        let mut lines = lines;
        for _ in 0..random.usize(1..6) {
            let edited = edit(lines.clone(), &mut random);
            if value(&edited.join("\n")).is_some() {
                lines = edited;
            }
        }
        let ending = *random.choice(&["\n", "", "\n\n", "\r\n"]).unwrap();
        let text = lines.join(if ending == "\r\n" { ending } else { "\n" }) + ending;
        formatted += usize::from(holds(&text, Kind::of(path, &text)));
    }
    assert!(formatted * 2 > rounds, "only {formatted} of {rounds} texts could be formatted");
}

fn edit(mut lines: Vec<String>, random: &mut fastrand::Rng) -> Vec<String> {
    if lines.is_empty() {
        return lines;
    }
    let at = random.usize(0..lines.len());
    let number = random.u16(..);
    match random.u8(0..9) {
        // Another depth of all levels.
        0 => {
            let factor = random.usize(1..4);
            for line in &mut lines {
                let depth = line.len() - line.trim_start_matches(' ').len();
                *line =
                    format!("{:width$}{}", "", line.trim_start_matches(' '), width = depth * factor / 2 + depth % 2);
            }
        }
        1 => lines.insert(at, format!("{:width$}# c{number}", "", width = random.usize(0..9))),
        2 => lines[at].push_str(&format!("{:width$}# c{number}", "", width = random.usize(1..4))),
        3 => lines.insert(at, " ".repeat(random.usize(0..5))),
        4 => drop(lines.remove(at)),
        // Breaks a flow collection.
        5 => {
            let places: Vec<usize> =
                lines[at].match_indices([',', '{', '[', '}', ']']).map(|(place, _)| place).collect();
            if let Some(place) = random.choice(&places) {
                let rest = lines[at].split_off(place + usize::from(random.bool()));
                lines.insert(at + 1, format!("{:width$}{rest}", "", width = random.usize(0..12)));
            }
        }
        // Moves a block of the first level.
        6 => {
            let starts: Vec<usize> =
                (0..lines.len()).filter(|it| lines[*it].starts_with(|first: char| first.is_alphabetic())).collect();
            if let [.., last] = starts.as_slice()
                && let Some(to) = random.choice(&starts)
            {
                let block = lines.split_off(*last);
                let to = (*to).min(lines.len());
                lines.splice(to..to, block);
            }
        }
        // Moves a line among its neighbors.
        7 if at > 0 => lines.swap(at - 1, at),
        // Anchors, tags, and what is quoted.
        _ => {
            let line = lines[at].clone();
            if let Some((key, rest)) = line.split_once(": ") {
                let with =
                    *random.choice(&["&a ", "!!str ", "|\n  ", "\n    ", "'x ' #", "# beside\n      ", "\n"]).unwrap();
                let text = format!("{key}: {with}{rest}");
                lines.splice(at..=at, text.split('\n').map(str::to_owned));
            }
        }
    }
    lines
}
