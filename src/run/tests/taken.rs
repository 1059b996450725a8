//! Names that are taken by what no cache shows: each is told with what to do, and tried again later.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    MODEL_DEPLOYMENT, REGISTRY, VERSION, WANTED, importing, job, roll_to_two, short, unverified,
    verify,
};
use crate::{
    api::names,
    run::{
        kinds::Key,
        memory::lock,
        reconcile::What,
        world::{World, key},
    },
};

/// Version 1 served, then version 2 does.
async fn serving_two() -> World {
    let world = World::new();
    world.settle().await;
    roll_to_two(&world).await;
    world
}

/// The stored revision of version 1.
fn find_first_revision(world: &World) -> String {
    let store = lock(&world.store);
    let is_first = |(path, object): &(&String, &Value)| {
        path.contains("/controllerrevisions/")
            && object["data"].to_string().contains("models/fraud:1")
    };
    store.objects.iter().find(is_first).unwrap().0.clone()
}

fn remove_label(world: &World, path: &str, label: &str) {
    world.edit(path, |o| drop(o["metadata"]["labels"].as_object_mut().unwrap().remove(label)));
}

fn read_message(world: &World) -> String {
    world.object(WANTED)["status"]["message"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_stored_revision_that_lost_a_label_is_told_tried_again_later_and_heals_with_the_label() {
    for label in [names::MANAGED_BY, names::MODEL_DEPLOYMENT] {
        let world = serving_two().await;
        let path = find_first_revision(&world);
        let (value, name) = (
            world.object(&path)["metadata"]["labels"][label].clone(),
            path.rsplit_once('/').unwrap().1,
        );
        remove_label(&world, &path, label);
        world.edit(WANTED, |o| o["spec"]["version"] = json!("1"));
        world.settle().await;
        let command = format!(
            "Cannot store content ml/{name}: the ControllerRevision of that name lacks a label by \
             which the operator finds it; run kubectl label controllerrevision {name} -n ml \
             {label}={} --overwrite. It is tried again.",
            value.as_str().unwrap()
        );
        assert_eq!(read_message(&world), command);
        assert!(world.pass().await.is_empty(), "nothing is retried hot");
        tokio::time::advance(Duration::from_secs(31)).await;
        assert_eq!(
            short(&world.pass().await),
            ["POST controllerrevisions", "GET controllerrevisions"]
        );
        assert!(world.pass().await.is_empty());
        world.edit(&path, |o| o["metadata"]["labels"][label] = value);
        world.settle().await;
        let status = world.object(WANTED)["status"].clone();
        assert_eq!((&status["state"], &status["rollout"]), (&json!("Serving"), &json!(3)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_of_another_name_that_has_the_next_number_is_told_and_not_asked_for_for_ever() {
    let world = serving_two().await;
    let mut taken =
        world.object("/apis/rollmodel.dev/v1alpha1/namespaces/ml/modelrollouts/fraud-1");
    let collection = "/apis/rollmodel.dev/v1alpha1/namespaces/ml/modelrollouts";
    taken["metadata"]["name"] = json!("fraud-3");
    taken["spec"]["modelDeploymentRef"]["name"] = json!("other");
    lock(&world.store).create(collection, taken);
    world.edit(WANTED, |o| o["spec"]["version"] = json!("1"));
    let (mut requests, began) = (0, tokio::time::Instant::now());
    while began.elapsed() < Duration::from_secs(600) {
        lock(&world.store).log.clear();
        let again = world.context.pass(What::Deployment, &key()).await.unwrap().unwrap();
        requests += lock(&world.store).log.len();
        world.feed();
        tokio::time::advance(again).await;
    }
    assert!(requests < 25, "{requests} in ten minutes");
    let message = read_message(&world);
    assert!(
        message.starts_with("Cannot record rollout ml/fraud-3: a ModelRollout of that name")
            && message.contains("kubectl get modelrollout fraud-3 -n ml"),
        "{message}"
    );
    lock(&world.store).objects.remove(&format!("{collection}/fraud-3"));
    world.feed();
    tokio::time::advance(Duration::from_secs(301)).await;
    world.settle().await;
    assert_eq!(world.object(WANTED)["status"]["state"], "Serving");
}

#[tokio::test(start_paused = true)]
async fn a_deployment_and_a_service_that_lost_our_label_get_it_again() {
    let service = "/api/v1/namespaces/ml/services/fraud";
    for path in [MODEL_DEPLOYMENT, service] {
        let world = serving_two().await;
        remove_label(&world, path, names::MANAGED_BY);
        world.settle().await;
        assert_eq!(world.object(path)["metadata"]["labels"][names::MANAGED_BY], names::MANAGER);
        assert_eq!(world.object(WANTED)["status"]["state"], "Serving");
    }
}

#[tokio::test(start_paused = true)]
async fn a_job_that_lost_our_label_is_told_with_the_command_that_adds_it() {
    let world = unverified();
    verify(&world).await;
    job(&world, json!({"active": 1, "ready": 1}));
    let path = lock(&world.store).objects.keys().find(|p| p.contains("/jobs/")).cloned().unwrap();
    remove_label(&world, &path, names::MANAGED_BY);
    assert_eq!(verify(&world).await, ["POST jobs"]);
    assert_eq!(verify(&world).await, ["PATCH modelversions"]);
    let conditions = world.object(VERSION)["status"]["conditions"].to_string();
    let name = path.rsplit_once('/').unwrap().1;
    let command = format!(
        "if ModelVersion fraud-2 owns it, run kubectl label job {name} -n ml \
         app.kubernetes.io/managed-by=rollmodel --overwrite"
    );
    assert!(conditions.contains(&command), "{conditions}");
    assert_eq!(verify(&world).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn an_importer_that_lost_our_label_and_one_of_someone_else_are_told_apart() {
    let world = importing();
    let importer = "/apis/apps/v1/namespaces/ml/deployments/mlflow-importer";
    let pass = async || {
        world.feed();
        lock(&world.store).log.clear();
        world.context.pass(What::Registry, &Key::new("ml", "mlflow")).await.unwrap();
        short(&std::mem::take(&mut lock(&world.store).log))
    };
    let says = || world.object(REGISTRY)["status"]["conditions"].to_string();
    pass().await;
    remove_label(&world, importer, names::MANAGED_BY);
    assert_eq!(pass().await, ["POST deployments", "GET deployments"]);
    assert_eq!(pass().await, ["PATCH modelregistries"]);
    let command = "run kubectl label deployment mlflow-importer -n ml app.kubernetes.io/managed-by=rollmodel --overwrite";
    assert!(says().contains(command), "{}", says());
    assert_eq!(pass().await, [""; 0], "nothing is retried hot");
    world.edit(importer, |o| o["metadata"]["ownerReferences"] = json!([]));
    tokio::time::advance(Duration::from_secs(31)).await;
    assert_eq!(pass().await, ["POST deployments", "GET deployments"]);
    assert_eq!(pass().await, ["PATCH modelregistries"]);
    assert!(says().contains("is not of this ModelRegistry"), "{}", says());
}
