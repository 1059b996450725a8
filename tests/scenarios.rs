//! Each file in `tests/scenarios/` is a case: a title, what was observed, and the plan that
//! follows. `rollmodel dump` writes such files from a live object; `rollmodel plan -f` prints the
//! plan of one.
//!
//! `ACCEPT=1 cargo test --test scenarios` writes today's plan into the files: read the diff before
//! committing it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::{fs, path::PathBuf};

use jiff::Timestamp;
use rollmodel::plan::{
    self, Observed,
    registry::{ObservedRegistry, plan_registry},
};
use serde::{Deserialize, Serialize};
use serde_yaml::Value;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// The rule that the case shows, in one sentence.
    title: String,
    now: Timestamp,
    /// Of a ModelDeployment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    observed: Option<Observed>,
    /// Or of a ModelRegistry.
    #[serde(rename = "observedRegistry", default, skip_serializing_if = "Option::is_none")]
    registry: Option<ObservedRegistry>,
    #[serde(default)]
    plan: Option<Value>,
}

fn files() -> Vec<PathBuf> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.extension().is_some_and(|x| x == "yaml"))
        .collect();
    files.sort();
    files
}

#[test]
fn every_scenario_is_planned_as_its_file_says() {
    let accept = std::env::var_os("ACCEPT").is_some();
    let files = files();
    assert!(files.len() >= 10, "the scenarios are gone");
    for path in files {
        let text = fs::read_to_string(&path).unwrap();
        let mut case: Case =
            serde_yaml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert!(
            case.title.ends_with('.') && case.title.len() > 20,
            "{}: the title is a sentence",
            path.display()
        );
        let plan = match (&case.observed, &case.registry) {
            (Some(observed), None) => serde_yaml::to_value(plan::plan(observed, case.now)).unwrap(),
            (None, Some(seen)) => serde_yaml::to_value(plan_registry(seen, case.now)).unwrap(),
            _ => panic!("{}: one of observed and observedRegistry", path.display()),
        };
        if case.plan.as_ref() == Some(&plan) {
            continue;
        }
        assert!(
            accept,
            "{}: {}\nplanned now:\n{}",
            path.display(),
            case.title,
            serde_yaml::to_string(&plan).unwrap()
        );
        case.plan = Some(plan);
        fs::write(&path, serde_yaml::to_string(&case).unwrap()).unwrap();
    }
}
