//! The OpenAPI document in `docs/` is the one the daemon serves, and holds together.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

#[test]
fn the_document_in_docs_is_the_one_that_is_served() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
    let served = doorbelld::api::document().unwrap() + "\n";
    if std::env::var_os("DOORBELL_WRITE_DOCS").is_some() {
        std::fs::write(&path, &served).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == served,
        "docs/openapi.json is stale; write it with: DOORBELL_WRITE_DOCS=1 cargo test -p doorbelld --test openapi"
    );
}

#[test]
fn every_operation_has_a_name_of_its_own_and_says_what_a_success_looks_like() {
    let document: Value = serde_json::from_str(&doorbelld::api::document().unwrap()).unwrap();
    let mut names = BTreeSet::new();
    for (path, operations) in document.pointer("/paths").and_then(Value::as_object).unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let name = operation.pointer("/operationId").and_then(Value::as_str).unwrap();
            assert!(names.insert(name.to_owned()), "{method} {path}: the name {name} is taken");
            let responses = operation.pointer("/responses").and_then(Value::as_object).unwrap();
            assert!(responses.keys().any(|status| status.starts_with('2')), "{method} {path} never succeeds");
        }
    }
    assert!(names.len() >= 18, "operations are missing: {names:?}");
}
