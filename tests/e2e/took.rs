//! What takes how long on the road: a row each in target/bench/road.json, and in the table that
//! `make e2e` ends with. No test fails for a time.

#[allow(dead_code)] // runs, and bars
#[path = "../bench/figures.rs"]
mod figures;

use std::{
    fs,
    sync::{LazyLock, Mutex},
    time::Instant,
};

use figures::Figure;
use serde_json::{Map, Value, json};

use crate::harness::root;

/// What is measured. Of what has parts, each part is from the end of the one before.
const FIGURES: [Figure; 19] = [
    Figure::told("register_model_to_version", "s"),
    Figure::told("  until_the_importer_looks", "s"),
    Figure::told("  hashed_and_written", "s"),
    Figure::told("apply_to_first_prediction", "s"),
    Figure::told("  recorded", "s"),
    Figure::told("  scheduled", "s"),
    Figure::told("  fetched_and_verified", "s"),
    Figure::told("  server_started", "s"),
    Figure::told("  model_loaded", "s"),
    Figure::told("  first_answer", "s"),
    Figure::told("undo_to_last_bad_prediction", "s"),
    Figure::told("  request_answered", "s"),
    Figure::told("  first_pod_ready", "s"),
    Figure::told("  last_pod_ready", "s"),
    Figure::told("  last_bad_answer", "s"),
    Figure::told("first_apply_to_two_pods", "s"),
    Figure::told("new_version_to_first_answer", "s"),
    Figure::told("new_version_to_last_of_old", "s"),
    Figure::told("predictions_none_failed", "answers"),
];

/// Notes a figure, and writes all so far.
pub fn note(name: &'static str, value: f64) {
    static NOTED: LazyLock<Mutex<Map<String, Value>>> = LazyLock::new(Mutex::default);
    let mut noted = NOTED.lock().unwrap();
    noted.insert(name.to_owned(), json!(value));
    let rows = figures::rows(&FIGURES, std::slice::from_ref(&noted));
    assert_eq!(rows.len(), noted.len(), "{name} has no row");
    let out = root().join("target/bench");
    fs::create_dir_all(&out).unwrap();
    fs::write(
        out.join("road.json"),
        serde_json::to_vec_pretty(&json!({"figures": rows, "runs": [&*noted]})).unwrap(),
    )
    .unwrap();
    fs::write(out.join("road.txt"), figures::table(&rows)).unwrap();
}

/// Notes how long something took.
pub fn took(name: &'static str, from: Instant, to: Instant) {
    note(name, between(from, to));
}

/// Notes how long something took, and its parts, each by its end.
pub fn took_in_parts(name: &'static str, from: Instant, parts: &[(&'static str, Instant)]) {
    let mut before = from;
    for &(part, end) in parts {
        note(part, between(before, end));
        before = end;
    }
    took(name, from, before);
}

/// Seconds; below zero where what was to come after came before.
fn between(from: Instant, to: Instant) -> f64 {
    to.saturating_duration_since(from).as_secs_f64()
        - from.saturating_duration_since(to).as_secs_f64()
}
