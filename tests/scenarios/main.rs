//! Each file in `tests/scenarios/` is a rule: a title that says it, what was observed, and what
//! follows.
//!
//! | key | what it says |
//! |---|---|
//! | `title` | the rule, in a sentence |
//! | `rule` | the source file that holds the rule, which a failure names |
//! | `given` | a file of `bases/`: what was observed before the change |
//! | `change` | a merge patch (RFC 7386) on what was observed; items of lists by their names |
//! | `now` | the time, where it is not the time of the base |
//! | `actions` | what the plan does, a line each, in this order |
//! | `status` | what users read of it afterwards |
//!
//! What a file leaves out is filled in: of a record its direction (Forward), its admission (Newly)
//! and the digest of its stored template; of a pod its creation with the newest rollout of its
//! revision, and its ReplicaSet. In `memory.refused`, `write` is the beginning of the identity of a
//! write that would be planned if nothing were refused.
//!
//! `{{restart_limit}}` and its like (`NUMBERS` below) stand for numbers of the rules, so that a
//! changed number fails no scenario.
//!
//! `ACCEPT=1 cargo test --test scenarios` rewrites `actions` and `status`, and nothing else. It
//! refuses where a plan that acts became one that does nothing, or where another state follows,
//! because the title says otherwise.
//!
//! | to change | open |
//! |---|---|
//! | how a base and a change become what was observed | `observed.rs` |
//! | how a plan is told in lines | `describe.rs` |
//! | how a file is read, compared and rewritten | `scenario.rs` |
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod describe;
mod observed;
mod scenario;

use std::{
    fs,
    path::{Path, PathBuf},
};

use rollmodel::{
    api::{ModelDeploymentSpec, deployment::RESTART_LIMIT},
    plan::facts::delivery,
};

/// The scenarios, and the bases in a folder below.
pub fn folder() -> PathBuf {
    root().join("tests/scenarios")
}

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Numbers of the rules by the names that scenarios have for them.
pub fn numbers() -> Vec<(&'static str, String)> {
    let spec = r#"{"model": "fraud", "version": "6"}"#;
    let silent: ModelDeploymentSpec = serde_json::from_str(spec).unwrap();
    vec![
        ("restart_limit", RESTART_LIMIT.to_string()),
        ("progress_deadline", silent.progress_deadline_seconds().to_string()),
        ("image_volumes_from", delivery::IMAGE_VOLUMES_FROM.to_string()),
        ("image_volumes_not_in", (delivery::IMAGE_VOLUMES_FROM - 1).to_string()),
    ]
}

/// The YAML files of a folder, in order.
pub fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

#[test]
fn every_scenario_is_planned_as_its_file_says() {
    let accept = std::env::var_os("ACCEPT").is_some();
    let files = files(&folder());
    assert!(files.len() >= 34, "scenarios are missing: {} files", files.len());
    let failures: Vec<String> =
        files.iter().filter_map(|path| scenario::check(path, accept).err()).collect();
    assert!(failures.is_empty(), "\n\n{}", failures.join("\n\n"));
}

#[test]
fn every_scenario_fits_a_screen() {
    for path in files(&folder()) {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 40, "{}: {lines} lines, of 40 at most", path.display());
    }
    for path in files(&folder()).into_iter().chain(files(&folder().join("bases"))) {
        let text = fs::read_to_string(&path).unwrap();
        let wide = text.lines().position(|line| line.chars().count() > 100);
        assert_eq!(wide, None, "{}: a line of more than 100 columns", path.display());
    }
}

#[test]
fn every_base_is_used_and_says_what_it_is() {
    let texts: Vec<String> = files(&folder())
        .into_iter()
        .chain(files(&folder().join("bases")))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for path in files(&folder().join("bases")) {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        observed::base(&name).unwrap_or_else(|error| panic!("{error}"));
        let line = format!("given: {name}");
        assert!(texts.iter().any(|text| text.lines().any(|l| l == line)), "no file has `{line}`");
    }
}
