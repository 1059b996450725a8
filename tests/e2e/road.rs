//! The road: from a model that MLflow saved to predictions, and back, under load.

use std::time::Instant;

use serde_json::{Value, json};

use crate::{
    corner::{Corner, spec},
    models::{BETTER, BROKEN, GOOD, NIGHTLY, TAMPERED},
    node::MLSERVER,
    stream::{Stream, exchange, predict},
    took::{note, took, took_in_parts},
    watch::{Watch, holds},
};

#[test]
#[ignore = "needs root and a machine of its own: make e2e"]
fn a_model_is_served_rolled_forward_and_undone_and_no_prediction_fails() {
    let mut road = Corner::begin("road");
    road.import(MLSERVER);
    road.models.tamper(TAMPERED);
    let began = Instant::now();
    road.deploy(spec(GOOD, 2));
    road.story.serves(GOOD);
    let first = predict(road.address(), "fraud", &road.models.question).unwrap();
    assert_eq!((first.version.as_str(), &first.values), (GOOD, road.models.answers(GOOD)));
    took("first_apply_to_two_pods", began, first.at);

    let watch = Watch::begin(&road.story);
    let stream = Stream::begin(road.address(), "fraud", &road.models.question);
    forward(&road, &stream);
    what_fails_goes_back_by_itself(&road);
    undone_by_request(&road, &watch, &stream);
    let nightly = what_is_trained_tonight_appears(&road, &watch);
    forward_while_everything_is_restarted(&mut road);
    undone_by_kubectl(&road, &stream);

    let seen = stream.end();
    note("predictions_none_failed", seen.answers.len() as f64);
    let mut answers = road.models.all_answers().clone();
    answers.insert(NIGHTLY.into(), nightly);
    seen.assert_right(&answers);
    seen.assert_in_order(&told_by_the_records(&road));
    seen.assert_told_by(&road.story.list("mro"));
    the_record_says_how_it_was_made(&road);
}

fn forward(road: &Corner, stream: &Stream) {
    let began = Instant::now();
    road.story.want(BETTER);
    road.story.serves(BETTER);
    road.story.until_true("the better version alone answers", || stream.settled_on(BETTER));
    let (first, _) = stream.span(BETTER, began).unwrap();
    let (_, last) = stream.span(GOOD, began).unwrap();
    took("new_version_to_first_answer", began, first);
    took("new_version_to_last_of_old", began, last);
}

fn what_fails_goes_back_by_itself(road: &Corner) {
    // Other bytes than were registered.
    road.story.want(TAMPERED);
    road.story.settles("RolledBack", BETTER);
    let says = road.stalled();
    assert!(says.contains("Mismatch: s3://models/mlflow/1/models/m-"), "{says}");
    // MLflow gives nobody what the bucket's own checksum does not hold for: importers of other
    // tests want it too.
    road.models.tamper(TAMPERED);
    // A model with code that no server has.
    road.story.want(BROKEN);
    road.story.settles("RolledBack", BETTER);
    let says = road.stalled();
    assert!(says.contains("ModuleNotFoundError: No module named 'shapes'"), "{says}");
    road.story.want(BETTER);
    road.story.serves(BETTER);
}

fn undone_by_request(road: &Corner, watch: &Watch, stream: &Stream) {
    let began = Instant::now();
    let answered = road.story.ask("Undo");
    assert_eq!(answered["status"]["result"], "Done", "{answered}");
    road.story.settles("Held", GOOD);
    road.story.until_true("the first version alone answers", || stream.settled_on(GOOD));
    let ready = watch.pods(GOOD, 2, began, |o| holds(o, "Ready"));
    let (_, last) = stream.span(BETTER, began).unwrap();
    let parts = [
        (
            "  request_answered",
            watch.first("RolloutRequest", began, |o| o["status"].get("result").is_some()),
        ),
        ("  first_pod_ready", ready[0]),
        ("  last_pod_ready", ready[1]),
        ("  last_bad_answer", last),
    ];
    took_in_parts("undo_to_last_bad_prediction", began, &parts);
}

/// A Job trains and registers as every night; gives what its model answers.
fn what_is_trained_tonight_appears(road: &Corner, watch: &Watch) -> Vec<f64> {
    let (began, name) = (Instant::now(), format!("fraud-{NIGHTLY}"));
    let answers = road.models.train_again(road.node);
    road.appears(&name);
    let asked = road.models.imported(NIGHTLY);
    let parts = [
        ("  until_the_importer_looks", asked.first().unwrap().at),
        (
            "  hashed_and_written",
            watch.first("ModelVersion", began, |o| o["metadata"]["name"] == name),
        ),
    ];
    took_in_parts("register_model_to_version", road.models.registered(NIGHTLY), &parts);
    answers
}

/// The operator and the kubelet are killed while a version is rolled out; pods and predictions go
/// on.
fn forward_while_everything_is_restarted(road: &mut Corner) {
    road.story.want(NIGHTLY);
    road.story.until("the nightly version is being rolled out", |o| {
        o["status"]["candidate"]["version"] == NIGHTLY
    });
    road.story.kill_operator();
    road.node.kill_kubelet();
    road.node.run_kubelet();
    road.start_operator();
    road.story.serves(NIGHTLY);
}

fn undone_by_kubectl(road: &Corner, stream: &Stream) {
    road.story.until_true("the nightly version alone answers", || stream.settled_on(NIGHTLY));
    road.story.kubectl(&["rollout", "undo", "deployment/fraud"]);
    road.story.settles("Held", GOOD);
    road.story.until_true("the first version alone answers", || stream.settled_on(GOOD));
}

/// The versions that served one after the other, by the records, which are what they have to be.
fn told_by_the_records(road: &Corner) -> Vec<String> {
    let mut records: Vec<Value> =
        road.story.list("mro").into_iter().map(|r| r["spec"].clone()).collect();
    records.sort_by_key(|r| r["number"].as_i64());
    let text = |r: &Value, field: &str| r[field].as_str().unwrap_or_default().to_owned();
    let told: Vec<[String; 4]> = records
        .iter()
        .map(|r| {
            [
                text(r, "version"),
                text(r, "trigger"),
                text(r, "outcome"),
                r["decidedBy"]["name"].as_str().unwrap_or_default().into(),
            ]
        })
        .collect();
    let want = [
        ["1", "SpecChanged", "Promoted", "spec"],
        ["2", "SpecChanged", "Promoted", "spec"],
        ["3", "SpecChanged", "Failed", "spec"],
        ["2", "Failed", "Promoted", "operator"],
        ["4", "SpecChanged", "Failed", "spec"],
        ["2", "Failed", "Promoted", "operator"],
        ["1", "Undo", "Promoted", "alice"],
        ["5", "SpecChanged", "Promoted", "spec"],
        ["1", "Undo", "Promoted", "kubectl (unverified)"],
    ];
    assert_eq!(told, want);
    let mut served: Vec<String> =
        records.iter().filter(|r| r["outcome"] == "Promoted").map(|r| text(r, "version")).collect();
    served.dedup();
    served
}

/// What it was trained with, by whom, with which metrics.
fn the_record_says_how_it_was_made(road: &Corner) {
    let object = road.story.get("mv", &format!("fraud-{NIGHTLY}"));
    let spec = &object["spec"];
    assert_eq!(
        (&spec["origin"]["model"], &spec["origin"]["version"]),
        (&json!("Fraud Score"), &json!(NIGHTLY))
    );
    assert_eq!(
        (&spec["framework"]["name"], &spec["parameters"]["alpha"]),
        (&json!("scikit-learn"), &json!("0.1"))
    );
    assert_eq!(
        (&spec["metrics"][0]["name"], &spec["run"]["system"]),
        (&json!("r2"), &json!("MLflow"))
    );
    assert_eq!(spec["run"]["user"], "server", "who ran it in the pod: {spec:#}");
}

#[test]
#[ignore = "needs root and a machine of its own: make e2e"]
fn a_model_that_was_only_logged_is_served_by_mlflows_own_server() {
    let corner = Corner::begin("scoring");
    corner.import("localhost/mlflow:1");
    let logged = corner.models.logged.as_str();
    let mut spec = spec(logged, 1);
    spec["model"] = json!("trial");
    spec["protocol"] = json!("HTTP");
    corner.deploy(spec);
    corner.story.serves(logged);
    let asked = json!({"inputs": corner.models.question}).to_string();
    let answer: Value =
        serde_json::from_str(&exchange(corner.address(), "/invocations", &asked).unwrap()).unwrap();
    let values: Vec<f64> = serde_json::from_value(answer["predictions"].clone()).unwrap();
    assert_eq!(&values, corner.models.answers(logged));
}
