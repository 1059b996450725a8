//! Values that come back after they were reverted: a webhook sets them at once.

use serde_json::{Value, json};

use super::{MODEL_DEPLOYMENT, WANTED};
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
    world.settle().await;
    world.put(
        "rollmodel.dev/v1alpha1",
        "ModelVersion",
        "modelversions",
        "fraud-2",
        json!({"model": "fraud", "version": "2", "image": "models/fraud:2"}),
    );
    world.edit(WANTED, |o| o["spec"]["version"] = json!("2"));
    world.settle().await;
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
