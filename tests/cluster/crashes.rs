//! The operator killed between every two writes of a story, before a write reaches the API server
//! and after it did: the decision is never turned round, and in the end everything is as if nothing
//! had happened.
//!
//! Each story runs once undisturbed, which tells its writes and its end, and then once for each
//! write and moment, in a namespace of its own.

mod corner;

use rollmodel::plan::facts::revision::compute_digest;
use serde_json::{Value, json};

use corner::{Corner, OTHERWISE, Tale, tell};

fn serving_six(corner: &Corner) {
    corner.version("6", "6");
    corner.version("7", "7");
    corner.version("8", "behave-image-pull");
    corner.version("9", "behave-crash-loop");
    corner.deploy("6");
    corner.serves("6");
}

fn serving_seven(corner: &Corner) {
    serving_six(corner);
    corner.want("7");
    corner.serves("7");
}

fn held_at_six(corner: &Corner) {
    serving_seven(corner);
    corner.ask("Undo", "2.0");
    corner.until("it is held", |o| o["status"]["state"] == "Held");
}

fn rolling_eight(corner: &Corner) {
    serving_six(corner);
    corner.want("8");
    // The pod that cannot pull its image is counted: nothing changes any more.
    let unready =
        |o: &Value| o["status"]["candidate"]["version"] == "8" && o["status"]["state"] == "Rolling";
    corner.until("version 8 is on its way", unready);
}

fn paused_eight(corner: &Corner) {
    rolling_eight(corner);
    corner.ask("Pause", "2.0");
    corner.until("it is paused", |o| o["status"]["state"] == "Paused");
}

#[test]
fn killed_at_any_write_of_a_first_rollout_it_is_made_once() {
    tell(&Tale {
        name: "first",
        before: |c| c.version("6", "6"),
        act: |c| c.deploy("6"),
        end: ("Serving", "6"),
        trail: &["6"],
    });
}

#[test]
fn killed_at_any_write_of_a_rollout_it_goes_on_forward() {
    tell(&Tale {
        name: "forward",
        before: serving_six,
        act: |c| c.want("7"),
        end: ("Serving", "7"),
        trail: &["6", "7"],
    });
}

#[test]
fn killed_at_any_write_of_an_undo_it_goes_on_back() {
    tell(&Tale {
        name: "undo",
        before: serving_seven,
        act: |c| c.ask("Undo", "2.0"),
        end: ("Held", "6"),
        trail: &["6", "7", "6"],
    });
}

#[test]
fn killed_at_any_write_of_a_pause_it_stays_paused() {
    tell(&Tale {
        name: "pause",
        before: rolling_eight,
        act: |c| c.ask("Pause", "2.0"),
        end: ("Paused", "6"),
        trail: &["6", "behave-image-pull", "behave-image-pull paused"],
    });
}

#[test]
fn killed_at_any_write_of_a_resume_it_stays_resumed() {
    tell(&Tale {
        name: "resume",
        before: paused_eight,
        act: |c| c.ask("Resume", "2.1"),
        end: ("Rolling", "6"),
        trail: &["6", "behave-image-pull", "behave-image-pull paused", "behave-image-pull"],
    });
}

#[test]
fn killed_at_any_write_while_a_failed_rollout_goes_back_it_goes_back_once() {
    tell(&Tale {
        name: "failing",
        before: serving_six,
        act: |c| c.want("9"),
        end: ("RolledBack", "6"),
        trail: &["6", "behave-crash-loop", "6"],
    });
}

#[test]
fn killed_at_any_write_of_an_undo_by_kubectl_it_is_that_undo() {
    tell(&Tale {
        name: "kubectl",
        before: serving_seven,
        act: |c| {
            c.cluster.kubectl(&["-n", &c.namespace, "rollout", "undo", "deployment/fraud"]);
        },
        end: ("Held", "6"),
        trail: &["6", "7", "6"],
    });
}

#[test]
fn killed_at_any_write_of_a_restart_by_request_the_pods_are_made_anew_once() {
    tell(&Tale {
        name: "restart",
        before: serving_six,
        act: |c| c.ask("Restart", "1.0"),
        end: ("Serving", "6"),
        trail: &["6", "6 restarted"],
    });
}

#[test]
fn killed_at_any_write_of_an_undo_while_paused_it_goes_back_and_is_paused_again() {
    tell(&Tale {
        name: "paused-undo",
        before: |c| {
            serving_seven(c);
            c.rest.merge("modeldeployments/fraud", &json!({"spec": {"paused": true}}));
            c.until("it is paused", |o| {
                o["status"]["conditions"].as_array().is_some_and(|all| {
                    all.iter().any(|c| c["type"] == "Paused" && c["status"] == "True")
                })
            });
        },
        act: |c| c.ask("Undo", "2.0"),
        end: ("Held", "6"),
        trail: &["6", "7", "7 paused", "6", "6 paused"],
    });
}

#[test]
fn killed_at_any_write_of_an_abort_it_goes_back_once() {
    tell(&Tale {
        name: "abort",
        before: rolling_eight,
        act: |c| c.ask("Abort", "2.0"),
        end: ("Held", "6"),
        trail: &["6", "behave-image-pull", "6"],
    });
}

#[test]
fn killed_at_any_write_of_a_retry_it_serves_what_was_rejected() {
    tell(&Tale {
        name: "retry",
        before: held_at_six,
        act: |c| c.ask("Retry", "3.0"),
        end: ("Serving", "7"),
        trail: &["6", "7", "6", "7"],
    });
}

#[test]
fn killed_at_any_write_of_a_spec_that_goes_back_it_is_one_more_rollout() {
    tell(&Tale {
        name: "by-spec",
        before: serving_seven,
        act: |c| c.want("6"),
        end: ("Serving", "6"),
        trail: &["6", "7", "6"],
    });
}

#[test]
fn killed_at_any_write_after_a_deletion_the_records_end_once_and_stay() {
    tell(&Tale {
        name: "deletion",
        before: serving_seven,
        act: |c| c.rest.delete("modeldeployments/fraud"),
        end: ("Deleted", ""),
        trail: &["6", "7", "gone"],
    });
}

#[test]
fn killed_at_any_write_after_it_was_deleted_and_made_anew_what_was_rejected_stays_rejected() {
    tell(&Tale {
        name: "anew",
        before: held_at_six,
        act: |c| {
            c.rest.delete("modeldeployments/fraud");
            c.deploy("7");
        },
        end: ("Held", "6"),
        trail: &["6", "7", "6", "gone", "6"],
    });
}

#[test]
fn killed_at_any_write_of_an_adoption_the_deployment_is_taken_over_as_it_is() {
    tell(&Tale {
        name: "adoption",
        before: |c| {
            serving_seven(c);
            c.cluster.kubectl(&["-n", &c.namespace, "delete", "mdep", "fraud", "--cascade=orphan"]);
            c.ends("Deleted", "");
        },
        act: |c| c.deploy("7"),
        end: ("Serving", "7"),
        trail: &["6", "7"],
    });
}

#[test]
fn killed_at_any_write_that_prunes_what_is_kept_is_kept() {
    tell(&Tale {
        name: "pruning",
        before: |c| {
            serving_seven(c);
            c.version("10", "10");
        },
        act: |c| {
            c.rest.merge(
                "modeldeployments/fraud",
                &json!({"spec": {"version": "10", "revisionHistoryLimit": 1}}),
            )
        },
        end: ("Serving", "10"),
        trail: &["6", "7", "10"],
    });
}

#[test]
fn killed_at_any_write_after_someone_deleted_the_deployment_it_is_made_again() {
    tell(&Tale {
        name: "lost",
        before: serving_seven,
        act: |c| c.rest.delete("deployments/fraud"),
        end: ("Serving", "7"),
        trail: &["6", "7", "gone", "7"],
    });
}

#[test]
fn killed_at_any_write_of_a_restart_that_renders_anew_it_is_rendered_anew_once() {
    tell(&Tale {
        name: "rerender",
        before: |c| {
            serving_six(c);
            c.stopped(|| rendered_otherwise(c));
            c.serves("6");
        },
        act: |c| c.ask_with("Restart", "1.0", json!({"rerender": true})),
        end: ("Serving", "6"),
        trail: &["6", "6 otherwise", "6 restarted"],
    });
}

/// Makes version 6 what another build would have stored and rolled out.
fn rendered_otherwise(corner: &Corner) {
    for mut stored in corner.rest.list("controllerrevisions") {
        let (name, labels) =
            (stored["metadata"]["name"].clone(), stored["metadata"]["labels"].clone());
        corner.rest.delete(&format!("controllerrevisions/{}", name.as_str().unwrap()));
        stored["data"]["rendering"]["spec"]["terminationGracePeriodSeconds"] = json!(OTHERWISE);
        let recorded = json!(compute_digest(&stored["data"]["rendering"]));
        stored["metadata"] = json!({"name": name, "labels": labels});
        corner.rest.create("controllerrevisions", &stored);
        for mut record in corner.rest.list("modelrollouts") {
            if record["spec"]["revisionName"] != stored["metadata"]["name"] {
                continue;
            }
            let (name, labels) =
                (record["metadata"]["name"].clone(), record["metadata"]["labels"].clone());
            corner.rest.delete(&format!("modelrollouts/{}", name.as_str().unwrap()));
            record["spec"]["renderingDigest"] = recorded.clone();
            record["metadata"] = json!({"name": name, "labels": labels});
            corner.rest.create("modelrollouts", &record);
        }
    }
    let patch =
        json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": OTHERWISE}}}})
            .to_string();
    let rollmodel =
        ["patch", "deployment", "fraud", "--type=merge", "--field-manager=rollmodel", "-p", &patch];
    corner.cluster.kubectl(&[&["-n", corner.namespace.as_str()][..], &rollmodel].concat());
    corner.cluster.kubectl(&[
        "-n",
        &corner.namespace,
        "rollout",
        "status",
        "deployment/fraud",
        "--timeout=60s",
    ]);
}
