//! Any text to a checked pipeline: no panic, and a pipeline or an error.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pipewright::diag::Severity;
use pipewright::node::Registry;
use pipewright::nodes::registry;
use pipewright::pipeline::compile_text;

static REGISTRY: LazyLock<Registry> = LazyLock::new(registry);

fuzz_target!(|text: &str| {
    let (pipeline, diagnostics) = compile_text("fuzz.yaml", text, &REGISTRY);
    let failed = diagnostics.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
    assert!(pipeline.is_some() != failed, "a pipeline with errors, or none without: {diagnostics:?}");
    for diagnostic in &diagnostics {
        assert!(text.get(diagnostic.span.start.offset..diagnostic.span.end.offset).is_some(), "{diagnostic:?}");
    }
});
