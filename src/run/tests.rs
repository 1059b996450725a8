//! Whole passes against the API server of the tests: what is asked of it, in which order, and what
//! its bad answers lead to.

mod came_back;
mod taken;

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    kinds::Key,
    lease::Leads,
    memory::lock,
    reconcile::What,
    world::{SILENCE, World, key},
};

const MODEL_DEPLOYMENT: &str = "/apis/apps/v1/namespaces/ml/deployments/fraud";
const REGISTRY: &str = "/apis/rollmodel.dev/v1alpha1/namespaces/ml/modelregistries/mlflow";
const WANTED: &str = "/apis/rollmodel.dev/v1alpha1/namespaces/ml/modeldeployments/fraud";

fn short(log: &[String]) -> Vec<String> {
    let word = |l: &String| {
        let (verb, path) = l.split_once(' ').unwrap();
        format!("{verb} {}", path.split("/ml/").last().unwrap().split('/').next().unwrap())
    };
    log.iter().map(word).collect()
}

#[tokio::test(start_paused = true)]
async fn a_first_rollout_stores_records_creates_and_says_so_and_then_a_settled_object_sends_nothing()
 {
    let world = World::new();
    let asked = world.pass().await;
    assert_eq!(
        short(&asked),
        [
            "POST controllerrevisions",
            "POST modelrollouts",
            "POST deployments",
            "POST services",
            "PATCH modeldeployments"
        ]
    );
    world.feed();
    let requests = world.settle().await;
    assert!(requests <= 4, "the record's end, the status at the end, an Event: {requests}");
    assert_eq!(world.object(WANTED)["status"]["state"], "Serving");
    for _ in 0..3 {
        assert_eq!(world.pass().await, Vec::<String>::new());
        tokio::time::advance(Duration::from_secs(900)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_planned_until_the_caches_show_what_was_written_or_five_seconds_passed() {
    let world = World::new();
    world.pass().await;
    let wait = world.context.pass(What::Deployment, &key()).await.unwrap().unwrap();
    assert!(wait <= Duration::from_secs(5));
    assert!(lock(&world.store).log.is_empty());
    tokio::time::advance(Duration::from_secs(5)).await;
    // The caches still show nothing: the content is there already, the record's number is taken,
    // and nothing is given twice.
    assert_eq!(
        short(&world.pass().await),
        ["POST controllerrevisions", "GET controllerrevisions", "POST modelrollouts"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_failed_precondition_is_read_again_and_planned_again() {
    let world = World::new();
    world.settle().await;
    world.edit(WANTED, |o| o["spec"]["replicas"] = json!(3));
    world.answer("PATCH /apis/apps/v1", 422, false);
    assert_eq!(short(&world.pass().await), ["PATCH deployments"]);
    let asked = world.pass().await;
    assert_eq!(short(&asked)[0], "PATCH deployments");
    assert_eq!(world.object(MODEL_DEPLOYMENT)["spec"]["replicas"], 3);
}

#[tokio::test(start_paused = true)]
async fn a_refused_template_is_planned_with_and_not_sent_again() {
    let world = World::new();
    world.answer("POST /apis/apps/v1/namespaces/ml/deployments", 422, true);
    let asked = short(&world.pass().await);
    assert_eq!(asked[2..], ["POST deployments", "POST services"], "it delays no Service");
    world.feed();
    let asked = short(&world.pass().await);
    assert!(!asked.contains(&"POST deployments".to_owned()), "{asked:?}");
    world.feed();
    let status = world.object(WANTED)["status"].clone();
    assert_eq!(status["state"], "Invalid");
    assert!(status["message"].as_str().unwrap().contains("answered 422"), "{status}");
    world.settle().await;
    assert!(world.pass().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_forbidden_is_tried_again_later_and_heals() {
    let world = World::new();
    world.answer("POST /apis/apps/v1/namespaces/ml/deployments", 403, false);
    world.pass().await;
    world.feed();
    assert!(!short(&world.pass().await).contains(&"POST deployments".to_owned()));
    world.feed();
    tokio::time::advance(Duration::from_secs(31)).await;
    assert!(short(&world.pass().await).contains(&"POST deployments".to_owned()));
    world.feed();
    world.settle().await;
    assert_eq!(world.object(WANTED)["status"]["state"], "Serving");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_is_forbidden_is_told_tried_again_later_and_heals() {
    let world = World::new();
    world.answer("POST /apis/rollmodel.dev/v1alpha1/namespaces/ml/modelrollouts", 403, false);
    assert_eq!(short(&world.pass().await), ["POST controllerrevisions", "POST modelrollouts"]);
    world.feed();
    assert_eq!(short(&world.pass().await), ["POST events", "PATCH modeldeployments"]);
    world.feed();
    let status = world.object(WANTED)["status"].clone();
    assert_eq!(
        status["message"],
        "Cannot record rollout ml/fraud-1: the API server answered 403: answered 403. It is tried again."
    );
    assert!(world.pass().await.is_empty(), "nothing is retried hot");
    tokio::time::advance(Duration::from_secs(31)).await;
    assert!(short(&world.pass().await).contains(&"POST modelrollouts".to_owned()));
    world.feed();
    world.settle().await;
    assert_eq!(world.object(WANTED)["status"]["state"], "Serving");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_refused_is_told_and_holds_no_rollout_up() {
    let world = World::new();
    world.answer("POST /api/v1/namespaces/ml/services", 422, true);
    let asked = short(&world.pass().await);
    assert_eq!(asked[2..], ["POST deployments", "POST services"], "{asked:?}");
    world.settle().await;
    let status = world.object(WANTED)["status"].clone();
    assert_eq!((&status["state"], &status["serving"]["version"]), (&json!("Waiting"), &json!("1")));
    assert!(world.pass().await.is_empty(), "nothing is retried hot");
    world.answer("POST /api/v1/namespaces/ml/services", 422, true);
    tokio::time::advance(Duration::from_secs(31)).await;
    assert_eq!(short(&world.pass().await), ["POST services"], "refused again: what is told stays");
    assert!(world.pass().await.is_empty());
    tokio::time::advance(Duration::from_secs(61)).await;
    world.settle().await;
    assert_eq!(world.object(WANTED)["status"]["state"], "Serving");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_taken_is_looked_up_and_left_alone() {
    let world = World::new();
    world.put(
        "apps/v1",
        "Deployment",
        "deployments",
        "fraud",
        json!({"replicas": 1, "selector": {"matchLabels": {"app": "x"}}, "template": {}}),
    );
    let asked = short(&world.pass().await);
    assert_eq!(asked.last().unwrap(), "POST deployments");
    world.feed();
    let asked = short(&world.pass().await);
    assert_eq!(asked[0], "GET deployments");
    assert!(!asked.contains(&"POST deployments".to_owned()), "{asked:?}");
    world.feed();
    assert_eq!(world.pass().await, Vec::<String>::new(), "it is not asked for at every pass");
    assert_eq!(world.object(MODEL_DEPLOYMENT)["spec"]["replicas"], 1);
}

#[tokio::test(start_paused = true)]
async fn another_content_of_the_same_name_is_told_and_nothing_is_decided() {
    let world = World::new();
    world.pass().await;
    let name = lock(&world.store)
        .objects
        .keys()
        .find(|k| k.contains("controllerrevisions"))
        .unwrap()
        .clone();
    let world = World::new();
    let collection = name.rsplit_once('/').unwrap();
    let object = json!({"apiVersion": "apps/v1", "kind": "ControllerRevision", "metadata": {"name": collection.1, "namespace": "ml"},
        "revision": 1, "data": {"revisionHash": "v1:sha256:other", "content": {}, "rendering": {}}});
    lock(&world.store).create(collection.0, object);
    world.settle().await;
    let status = world.object(WANTED)["status"].clone();
    assert_eq!((&status["state"], &status["observedGeneration"]), (&json!("Waiting"), &json!(1)));
    let message = status["message"].as_str().unwrap();
    assert!(
        message.starts_with("Cannot store content ml/fraud-")
            && message.contains("holds another content"),
        "{message}"
    );
    assert!(
        lock(&world.store).objects.keys().all(|k| !k.contains("modelrollouts")),
        "nothing is decided that cannot be stored"
    );
}

#[tokio::test(start_paused = true)]
async fn a_version_says_where_it_serves_and_then_nothing() {
    let world = World::new();
    world.settle().await;
    lock(&world.store).log.clear();
    let version = super::kinds::Key::new("ml", "fraud-1");
    world.context.pass(What::Version, &version).await.unwrap();
    assert_eq!(short(&lock(&world.store).log), ["PATCH modelversions"]);
    world.feed();
    lock(&world.store).log.clear();
    world.context.pass(What::Version, &version).await.unwrap();
    assert!(lock(&world.store).log.is_empty());
    let status =
        world.object("/apis/rollmodel.dev/v1alpha1/namespaces/ml/modelversions/fraud-1")["status"]
            .clone();
    assert_eq!(status["usedBy"][0]["modelDeployment"], "fraud");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_never_comes_ends_the_pass_in_thirty_seconds_and_the_next_one_goes_on() {
    let world = World::new();
    world.answer("POST /apis/apps/v1/namespaces/ml/deployments", SILENCE, false);
    let began = tokio::time::Instant::now();
    let error = world.context.pass(What::Deployment, &key()).await.unwrap_err();
    assert_eq!((error.label(), began.elapsed().as_secs()), ("timeout", 30));
    world.feed();
    world.settle().await;
    assert_eq!(world.object(WANTED)["status"]["state"], "Serving");
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_written_fails_nothing() {
    let world = World::new();
    world.answer("POST /apis/events.k8s.io", 500, false);
    world.settle().await;
    assert_eq!(world.object(WANTED)["status"]["state"], "Serving");
}

#[tokio::test(start_paused = true)]
async fn a_deployment_that_is_gone_ends_its_records_and_keeps_them() {
    let world = World::new();
    world.settle().await;
    lock(&world.store).objects.remove(WANTED);
    lock(&world.store).objects.remove(MODEL_DEPLOYMENT);
    world.feed();
    assert_eq!(short(&world.pass().await), ["PATCH modelrollouts"]);
    world.feed();
    assert!(world.pass().await.is_empty());
}

#[tokio::test(start_paused = true)]
async fn who_does_not_surely_lead_writes_nothing() {
    let world = World::led(Leads::Until(tokio::time::Instant::now() + Duration::from_secs(14)));
    tokio::time::advance(Duration::from_secs(15)).await;
    let error = world.context.pass(What::Deployment, &key()).await.unwrap_err();
    assert_eq!(error.label(), "not_leading");
    assert!(lock(&world.store).log.is_empty());
}

/// Registers version 2, names it, and lets the cluster settle.
async fn roll_to_two(world: &World) {
    let spec = json!({"model": "fraud", "version": "2", "image": "models/fraud:2"});
    world.put("rollmodel.dev/v1alpha1", "ModelVersion", "modelversions", "fraud-2", spec);
    world.edit(WANTED, |o| o["spec"]["version"] = json!("2"));
    world.settle().await;
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_carries_a_verb_out_is_followed_by_one_that_looks_what_is_due_now() {
    let world = World::new();
    world.settle().await;
    world.edit(MODEL_DEPLOYMENT, |o| o["spec"]["paused"] = json!(true));
    world.settle().await;
    roll_to_two(&world).await;
    assert_eq!(world.object(WANTED)["status"]["state"], "Paused");
    world.edit(MODEL_DEPLOYMENT, |o| o["spec"]["paused"] = json!(false));
    lock(&world.store).log.clear();
    let again = world.context.pass(What::Deployment, &key()).await.unwrap();
    assert!(again.is_some_and(|again| again < Duration::from_secs(1)), "{again:?}");
    assert_eq!(
        short(&lock(&world.store).log),
        ["PATCH modelrollouts", "PATCH deployments"],
        "its status is told when it is seen"
    );
    world.feed();
    assert!(
        short(&world.pass().await).contains(&"POST modelrollouts".to_owned()),
        "what waited is rolled out"
    );
}

const VERSION: &str = "/apis/rollmodel.dev/v1alpha1/namespaces/ml/modelversions/fraud-2";

/// One pass over version 2; what it asked of the server.
async fn verify(world: &World) -> Vec<String> {
    world.feed();
    lock(&world.store).log.clear();
    world.context.pass(What::Version, &Key::new("ml", "fraud-2")).await.unwrap();
    short(&std::mem::take(&mut lock(&world.store).log))
}

/// Version 2, which names no digest, and a policy that says who verifies it.
fn unverified() -> World {
    let mut world = World::new();
    world.context.settings.fetch_image = Some("registry.example.com/rollmodel:1".into());
    let (group, artifact) = ("rollmodel.dev/v1alpha1", json!({"uri": "s3://models/fraud/2/"}));
    world.put(
        group,
        "ModelVersion",
        "modelversions",
        "fraud-2",
        json!({"model": "fraud", "version": "2", "image": "models/fraud:2", "artifact": artifact}),
    );
    world.put(
        group,
        "ModelPolicy",
        "modelpolicies",
        "default",
        json!({"verification": {"serviceAccountName": "v"}}),
    );
    world
}

/// The Job has this status; gives its uid.
fn job(world: &World, status: Value) -> Value {
    let path =
        lock(&world.store).objects.keys().find(|path| path.contains("/jobs/")).cloned().unwrap();
    world.edit(&path, |job| job["status"] = status);
    world.object(&path)["metadata"]["uid"].clone()
}

/// The Job ends, and its pod left a word.
fn job_ends(world: &World, message: &str) {
    let uid = job(world, json!({"conditions": [{"type": "Complete", "status": "True"}]}));
    let owner = json!([{"apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": uid, "controller": true}]);
    let ended = json!({"terminated": {"exitCode": 0, "message": message}});
    let pod = json!({"metadata": {"name": "p", "ownerReferences": owner}, "status": {"containerStatuses": [{"name": "rollmodel-fetch", "state": ended}]}});
    let pods = json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": [pod]});
    lock(&world.store).objects.insert("/api/v1/namespaces/ml/pods".into(), pods);
}

#[tokio::test(start_paused = true)]
async fn a_version_without_a_digest_costs_a_job_a_look_at_its_pods_an_event_and_two_statuses() {
    let world = unverified();
    assert_eq!(verify(&world).await, ["POST jobs", "PATCH modelversions"]);
    job(&world, json!({"active": 1, "ready": 1}));
    assert_eq!(verify(&world).await, [""; 0]);
    job_ends(&world, &format!("Verified: digest=sha256:{} size=1 files=1", "a".repeat(64)));
    assert_eq!(verify(&world).await, ["GET pods", "POST events", "PATCH modelversions"]);
    assert_eq!(
        world.object(VERSION)["status"]["resolved"]["artifactDigest"],
        format!("sha256:{}", "a".repeat(64))
    );
    assert_eq!(verify(&world).await, [""; 0]);
    world.edit(WANTED, |o| o["spec"]["version"] = json!("2"));
    world.settle().await;
    assert_eq!(world.object(WANTED)["status"]["state"], "Serving");
}

#[tokio::test(start_paused = true)]
async fn a_job_that_is_forbidden_is_told_and_tried_again_later() {
    let world = unverified();
    world.answer("POST /apis/batch/v1/namespaces/ml/jobs", 403, false);
    assert_eq!(verify(&world).await, ["POST jobs"]);
    assert_eq!(verify(&world).await, ["PATCH modelversions"]);
    let conditions = world.object(VERSION)["status"]["conditions"].to_string();
    assert!(
        conditions.contains("answered 403") && conditions.contains("VerificationTrouble"),
        "{conditions}"
    );
    assert_eq!(verify(&world).await, [""; 0]);
    tokio::time::advance(Duration::from_secs(31)).await;
    assert_eq!(verify(&world).await, ["POST jobs"]);
    assert_eq!(verify(&world).await, ["PATCH modelversions"]);
}

/// A cluster with a ModelRegistry, whose importer is not there yet.
fn importing() -> World {
    let mut world = World::new();
    world.context.settings.fetch_image = Some("registry.example.com/rollmodel:1".into());
    let spec = json!({"mlflow": {"url": "http://mlflow:5000"}, "serviceAccountName": "i", "models": [{"name": "fraud", "registeredModel": "Fraud"}]});
    world.put("rollmodel.dev/v1alpha1", "ModelRegistry", "modelregistries", "mlflow", spec);
    world
}

#[tokio::test(start_paused = true)]
async fn what_an_importer_wrote_in_the_meantime_is_not_written_over() {
    let (world, path) = (importing(), REGISTRY);
    let pass = async || {
        lock(&world.store).log.clear();
        world.context.pass(What::Registry, &Key::new("ml", "mlflow")).await.unwrap();
        short(&std::mem::take(&mut lock(&world.store).log))
    };
    let reason = || world.object(path)["status"]["conditions"][0]["reason"].clone();
    assert_eq!(pass().await, ["POST deployments", "PATCH modelregistries"]);
    assert_eq!(reason(), "ImporterNotReady");
    world.edit("/apis/apps/v1/namespaces/ml/deployments/mlflow-importer", |o| {
        o["status"] = json!({"readyReplicas": 1, "availableReplicas": 1})
    });
    // It speaks, and the caches do not show it yet.
    world.feed();
    let polled = json!({"conditions": [{"type": "Ready", "status": "True", "reason": "Polled", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    world.edit_unseen(path, |o| o["status"] = polled);
    assert_eq!(pass().await, ["PATCH modelregistries"]);
    assert_eq!(reason(), "Polled");
    world.feed();
    assert_eq!(pass().await, [""; 0]);
}
