//! Any bytes to a tree: no panic, places that lie in the text, and a tree or a reason.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use pipewright::diag;
use pipewright::diag::Format;
use pipewright::diag::Sources;
use pipewright::yaml;

fuzz_target!(|bytes: &[u8]| {
    let file: Arc<str> = "fuzz.yaml".into();
    let (tree, diagnostics) = yaml::parse_bytes(&file, bytes);
    assert!(tree.is_some() || !diagnostics.is_empty(), "no tree, and no reason");
    if let Some(tree) = &tree {
        drop(tree.to_value());
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for diagnostic in &diagnostics {
        assert!(text.get(diagnostic.span.start.offset..diagnostic.span.end.offset).is_some(), "{diagnostic:?}");
    }
    let mut sources = Sources::default();
    sources.insert(file, text.into());
    for format in [Format::Text, Format::Json, Format::Sarif, Format::Github] {
        let mut out = String::new();
        let _ = diag::render(&diagnostics, &sources, format, true, &mut out);
    }
});
