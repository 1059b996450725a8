//! Values that come back after they were reverted: a webhook sets them at once, a controller again
//! and again.

use std::time::Duration;

use serde_json::{Value, json};

use super::{MODEL_DEPLOYMENT, WANTED, roll_to_two, short};
use crate::run::{memory::lock, world::World};

/// A webhook that has every image pulled from a mirror.
fn use_mirror(object: &mut Value) {
    let containers = object.pointer_mut("/spec/template/spec/containers");
    for container in containers.and_then(Value::as_array_mut).into_iter().flatten() {
        let image = container["image"].as_str().unwrap().trim_start_matches("mirror/").to_owned();
        container["image"] = json!(format!("mirror/{image}"));
    }
}

/// The Events of a reason.
fn list_notes(world: &World, reason: &str) -> Vec<String> {
    let store = lock(&world.store);
    let events = store.objects.values().filter(|o| o["reason"] == reason);
    events.map(|o| o["note"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(start_paused = true)]
async fn what_a_webhook_sets_is_told_once_a_template_by_its_path_and_is_nobody_elses_change() {
    let world = World::new();
    lock(&world.store).admit = Some(use_mirror);
    world.pass().await;
    world.feed();
    // The caches do not show the newest status yet, which changes the resourceVersion alone.
    world.roll();
    assert_eq!(short(&world.pass().await), ["PATCH deployments"]);
    world.settle().await;
    roll_to_two(&world).await;
    let image = |world: &World| {
        let template = world.object(MODEL_DEPLOYMENT)["spec"]["template"].clone();
        template["spec"]["containers"][0]["image"].clone()
    };
    assert_eq!(image(&world), "mirror/models/fraud:2");
    assert_eq!(world.object(WANTED)["status"]["state"], "Serving");
    assert_eq!(list_notes(&world, "DriftCorrected"), [""; 0], "nobody wrote since we did");
    let notes = list_notes(&world, "RevertIneffective");
    let note = "Deployment fraud has another value of template.spec.containers[name=model].image \
                again after it was set back: an admission webhook, an autoscaler or another \
                controller sets it. It is left as it is for now: set the same value in \
                ModelDeployment fraud, or change the webhook or controller.";
    assert_eq!(notes, [note, note], "once for each template");
    assert!(world.pass().await.is_empty());

    world.edit(MODEL_DEPLOYMENT, |o| {
        o["spec"]["template"]["spec"]["containers"][0]["image"] = json!("evil:1");
    });
    world.settle().await;
    assert_eq!(image(&world), "mirror/models/fraud:2");
    assert_eq!(list_notes(&world, "DriftCorrected").len(), 1, "this was someone else");
}

#[tokio::test(start_paused = true)]
async fn replicas_that_a_controller_sets_every_fifteen_seconds_are_reverted_ever_less_often() {
    let world = World::new();
    world.settle().await;
    let replicas = || world.object(MODEL_DEPLOYMENT)["spec"]["replicas"].clone();
    let fight = async |count: u32| {
        let mut reverts = 0;
        for _ in 0..count {
            world.edit(MODEL_DEPLOYMENT, |o| o["spec"]["replicas"] = json!(3));
            for _ in 0..5 {
                let asked = short(&world.pass().await);
                reverts += asked.iter().filter(|line| *line == "PATCH deployments").count();
                world.roll();
                world.feed();
            }
            tokio::time::advance(Duration::from_secs(15)).await;
        }
        reverts
    };
    // At 0 s, and 30, 60, 120, 240 and 300 s later each.
    assert_eq!(fight(40).await, 5, "in ten minutes");
    assert_eq!(replicas(), 3);
    assert_eq!(list_notes(&world, "RevertIneffective").len(), 1);
    world.edit(WANTED, |o| o["spec"]["replicas"] = json!(4));
    world.settle().await;
    assert_eq!(replicas(), 4, "another number is set at once");
    tokio::time::advance(Duration::from_secs(900)).await;
    assert_eq!(fight(1).await, 1, "what was left alone for long is reverted at once");
}
