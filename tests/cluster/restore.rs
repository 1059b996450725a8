//! After a disaster: objects restored from a backup, another build of the operator, an older
//! server, a control plane that dies midway.

use std::collections::BTreeMap;

use rollmodel::plan::facts::revision::compute_digest;
use serde_json::{Value, json};

use crate::harness::{
    Cluster, Options,
    operator::Operator,
    story::{Story, condition, observed},
};

/// The kinds that a backup of a namespace holds of ours.
const KINDS: [&str; 7] =
    ["mv", "mro", "rreq", "controllerrevisions", "mdep", "deployment", "service"];

/// An object as a backup brings it back: without status, owners, uid, and what else the server gave
/// it.
pub fn stripped(mut object: Value) -> Value {
    object.as_object_mut().unwrap().remove("status");
    let meta = object["metadata"].as_object_mut().unwrap();
    for field in [
        "uid",
        "resourceVersion",
        "ownerReferences",
        "managedFields",
        "creationTimestamp",
        "generation",
    ] {
        meta.remove(field);
    }
    if object["kind"] == "Service" {
        let spec = object["spec"].as_object_mut().unwrap();
        spec.remove("clusterIP");
        spec.remove("clusterIPs");
    }
    object
}

/// Takes a backup, deletes everything, and brings it back, with the operator down.
fn restore(story: &mut Story) {
    story.kill_operator();
    let backup: Vec<Value> = KINDS.iter().flat_map(|kind| story.list(kind)).map(stripped).collect();
    for kind in ["mdep", "mro", "rreq", "mv", "controllerrevisions"] {
        story.kubectl(&["delete", kind, "--all", "--wait=true"]);
    }
    story.until_true("all of it is gone", || {
        KINDS.iter().chain(&["pod", "replicaset"]).all(|kind| story.list(kind).is_empty())
    });
    for object in &backup {
        story
            .cluster
            .kubectl_in(&["-n", &story.namespace, "create", "-f", "-"], &object.to_string());
    }
}

fn pods(story: &Story) -> Vec<Value> {
    story.list("pod").iter().map(|pod| pod["metadata"]["uid"].clone()).collect()
}

#[test]
fn restored_without_status_owners_and_uids_nothing_rolls_and_all_is_remembered() {
    let mut story = Story::serving_seven("restore");
    story.ask("Undo");
    story.settles("Held", "6");
    let (records, uid) = (
        story.list("mro").into_iter().map(|r| r["spec"].clone()).collect::<Vec<_>>(),
        story.mdep()["metadata"]["uid"].clone(),
    );
    restore(&mut story);
    story.kubectl(&["rollout", "status", "deployment/fraud", "--timeout=60s"]);
    let (before, pods_before) = (story.get("deployment", "fraud"), pods(&story));
    assert_ne!(story.mdep()["metadata"]["uid"], uid);
    assert_eq!(story.mdep()["status"], json!({"observedGeneration": -1, "replicas": 0}));
    story.start_operator();
    let mdep = story.settles("Held", "6");
    story.until_true("its children are adopted", || {
        ["deployment", "service"].iter().all(|kind| {
            story.get(kind, "fraud")["metadata"]["ownerReferences"][0]["uid"]
                == story.mdep()["metadata"]["uid"]
        })
    });
    assert_eq!(mdep["status"]["hold"]["rejected"]["version"], "7");
    assert_eq!(mdep["status"]["hold"]["decidedBy"], "alice");
    assert_eq!(mdep["status"]["history"].as_array().unwrap().len(), 3);
    assert_eq!(condition(&mdep, "Ready")["status"], "True");
    // The request came back too, with a new uid, and asks in vain.
    story.until_true("the replayed request is answered", || {
        story.list("rreq")[0]["status"].get("result").is_some()
    });
    assert_eq!(story.list("rreq")[0]["status"]["result"], "Refused");
    let after = story.get("deployment", "fraud");
    assert_eq!(after["metadata"]["generation"], before["metadata"]["generation"]);
    assert_eq!(after["spec"], before["spec"]);
    assert_eq!(pods(&story), pods_before);
    assert_eq!(
        story.list("mro").into_iter().map(|r| r["spec"].clone()).collect::<Vec<_>>(),
        records
    );
    // And it goes on from there.
    story.version("8", "8");
    story.want("8");
    story.serves("8");
    assert_eq!(story.newest(), 4);
    story.ask("Undo");
    story.settles("Held", "6");
}

#[test]
fn restored_amid_a_pause_it_stays_paused_and_resumes() {
    let mut story = Story::serving_six("restpause");
    assert_eq!(story.ask("Pause")["status"]["result"], "Done");
    story.until("it is paused", |o| condition(o, "Paused")["status"] == "True");
    story.until_true("the Deployment is paused", || {
        story.get("deployment", "fraud")["spec"]["paused"] == true
    });
    restore(&mut story);
    // A Deployment restored paused gets no pods from Kubernetes: it has to run for a moment.
    assert_eq!(
        (story.get("deployment", "fraud")["spec"]["paused"].clone(), story.list("pod").len()),
        (json!(true), 0)
    );
    story.start_operator();
    story.until("it serves again, paused", |o| {
        observed(o)
            && o["status"]["state"] == "Serving"
            && condition(o, "Paused")["status"] == "True"
    });
    story.until_true("the Deployment is paused again", || {
        story.get("deployment", "fraud")["spec"]["paused"] == true
    });
    assert_eq!((story.list("pod").len(), story.newest()), (2, 1));
    story.want("7");
    story.settles("Paused", "6");
    let answer = story.ask("Resume");
    assert_eq!(answer["status"]["result"], "Done", "{answer}");
    story.serves("7");
}

#[test]
fn the_same_request_again_is_refused() {
    let story = Story::serving_seven("replay");
    let spec = json!({"verb": "Undo", "ifDecision": "2.0"});
    assert_eq!(story.ask_with(spec.clone())["status"]["result"], "Done");
    story.settles("Held", "6");
    let answer = story.ask_with(spec);
    assert_eq!(answer["status"]["result"], "Refused");
    assert!(
        answer["status"]["message"]
            .as_str()
            .unwrap()
            .contains("The newest decision is 3.0, and the request was made when it was 2.0"),
        "{answer}"
    );
    assert_eq!(story.newest(), 3);
}

#[test]
fn a_replayed_pause_is_refused_whatever_its_name_and_uid() {
    let story = Story::serving_six("replaypause");
    let spec = json!({"verb": "Pause", "ifDecision": story.decision()});
    for _ in 0..2 {
        let answer = story.ask_with(spec.clone());
        let expected = if story.record(1)["decisions"][0]["decidedBy"]["request"]["uid"]
            == answer["metadata"]["uid"]
        {
            "Done"
        } else {
            "Refused"
        };
        assert_eq!(answer["status"]["result"], expected, "{answer}");
    }
    assert_eq!(story.ask("Resume")["status"]["result"], "Done");
    assert_eq!(story.ask_with(spec)["status"]["result"], "Refused");
    assert_eq!(story.record(1)["decisions"].as_array().unwrap().len(), 2);
    story.until_true("it runs", || story.get("deployment", "fraud")["spec"]["paused"] != true);
}

/// Creates objects in that order.
fn create_all(story: &Story, objects: &[Value]) {
    for object in objects {
        story
            .cluster
            .kubectl_in(&["-n", &story.namespace, "create", "-f", "-"], &object.to_string());
    }
}

fn misses_records(object: &Value) -> bool {
    observed(object) && condition(object, "Ready")["reason"] == "RecordsMissing"
}

#[test]
fn restored_with_the_operator_running_and_records_last_decisions_wait_and_then_go_on() {
    let story = Story::serving_seven("live");
    story.ask("Undo");
    story.settles("Held", "6");
    let backup = |kind: &&str| story.list(kind).into_iter().map(stripped).collect::<Vec<_>>();
    let first = ["mv", "controllerrevisions", "deployment", "service", "mdep"];
    let (first, records): (Vec<Value>, Vec<Value>) =
        (first.iter().flat_map(backup).collect(), backup(&"mro"));
    for kind in ["mdep", "mro", "rreq", "mv", "controllerrevisions"] {
        story.kubectl(&["delete", kind, "--all", "--wait=true"]);
    }
    story.until_true("all of it is gone", || {
        KINDS.iter().chain(&["pod", "replicaset"]).all(|kind| story.list(kind).is_empty())
    });
    create_all(&story, &first);
    let mdep = story.until("records are missing", misses_records);
    assert_eq!(
        (mdep["status"]["state"].as_str(), mdep["status"]["decision"].as_str()),
        (Some("Waiting"), Some("3.0"))
    );
    let answer = story.ask_with(json!({"verb": "Undo", "ifDecision": "3.0"}));
    assert_eq!(answer["status"]["result"], "Refused", "{answer}");
    // All but the last record: the newest stands on them, and is not there.
    create_all(&story, &records[..records.len() - 1]);
    story.until("they are still missing", misses_records);
    assert!(story.image().ends_with(":6"));
    create_all(&story, &records[records.len() - 1..]);
    let mdep = story.settles("Held", "6");
    assert_eq!(mdep["status"]["hold"]["rejected"]["version"], "7");
    assert_eq!((story.newest(), story.list("controllerrevisions").len()), (3, 2));
    story.version("8", "8");
    story.want("8");
    story.serves("8");
    assert_eq!(story.newest(), 4);
}

#[test]
fn records_deleted_while_held_keep_what_serves_until_a_person_says_retry() {
    let story = Story::serving_seven("norecords");
    story.ask("Undo");
    story.settles("Held", "6");
    let pods = pods(&story);
    story.kubectl(&["delete", "mro", "--all", "--wait=true"]);
    let mdep = story.until("records are missing", misses_records);
    assert_eq!(condition(&mdep, "Ready")["status"], "True", "its pods are available");
    assert_eq!(mdep["status"]["decision"], "3.0");
    story.patch(&json!({"template": {"metadata": {"labels": {"commit": "abc"}}}}));
    story.until("records are missing", misses_records);
    assert_eq!((self::pods(&story), story.rollouts()), (pods, 0));
    assert!(story.image().ends_with(":6"));
    let answer = story.ask_with(json!({"verb": "Retry", "ifDecision": "3.0"}));
    assert_eq!(answer["status"]["result"], "Done", "{answer}");
    story.settles("Serving", "7");
    assert_eq!((story.rollouts(), story.newest()), (1, 4));
}

/// What an operator with another renderer would have stored, recorded and rolled out: the same
/// revisions, each with a grace period of its own.
fn render_otherwise(story: &Story) {
    let mut digests = BTreeMap::new();
    for mut stored in story.list("controllerrevisions") {
        let name = stored["metadata"]["name"].as_str().unwrap().to_owned();
        stored["data"]["rendering"]["spec"]["terminationGracePeriodSeconds"] = json!(77);
        digests.insert(name.clone(), compute_digest(&stored["data"]["rendering"]));
        story.kubectl(&["delete", "controllerrevision", &name]);
        story.cluster.kubectl_in(
            &["-n", &story.namespace, "create", "-f", "-"],
            &stripped(stored).to_string(),
        );
    }
    for mut record in story.list("mro") {
        story.kubectl(&["delete", "mro", record["metadata"]["name"].as_str().unwrap()]);
        record["spec"]["renderingDigest"] =
            json!(digests[record["spec"]["revisionName"].as_str().unwrap()]);
        story.cluster.kubectl_in(
            &["-n", &story.namespace, "create", "-f", "-"],
            &stripped(record).to_string(),
        );
    }
    let patch =
        json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 77}}}}).to_string();
    story.kubectl(&[
        "patch",
        "deployment",
        "fraud",
        "--type=merge",
        "--field-manager=rollmodel",
        "-p",
        &patch,
    ]);
    story.kubectl(&["rollout", "status", "deployment/fraud", "--timeout=60s"]);
}

#[test]
fn an_operator_whose_renderer_differs_takes_over_and_rolls_nothing() {
    let mut story = Story::serving_seven("renderer");
    story.ask("Undo");
    story.settles("Held", "6");
    story.kill_operator();
    render_otherwise(&story);
    let (before, pods_before, contents) =
        (story.get("deployment", "fraud"), pods(&story), story.list("controllerrevisions"));
    story.start_operator();
    // It has worked once it has corrected a label, which is all that it may write.
    story.kubectl(&["label", "deployment", "fraud", "rollmodel.dev/model-"]);
    story.until_true("the label is put back", || {
        story.get("deployment", "fraud")["metadata"]["labels"]["rollmodel.dev/model"] == "fraud"
    });
    story.settles("Held", "6");
    let after = story.get("deployment", "fraud");
    assert_eq!(
        (after["metadata"]["generation"].clone(), after["spec"].clone()),
        (before["metadata"]["generation"].clone(), before["spec"].clone())
    );
    assert_eq!(
        (pods(&story), story.list("controllerrevisions"), story.newest()),
        (pods_before, contents, 3)
    );
    // Scaling does not roll either; going back serves the rendering that was stored.
    story.patch(&json!({"replicas": 3}));
    story.until_true("it is scaled", || story.get("deployment", "fraud")["spec"]["replicas"] == 3);
    assert_eq!(story.ask("Retry")["status"]["result"], "Done");
    story.settles("Serving", "7");
    let grace = || {
        story.get("deployment", "fraud")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].clone()
    };
    assert_eq!(grace(), 77, "the stored rendering of version 7");
    // What is new is rendered by today's renderer; a request renders anew what is old.
    story.version("8", "8");
    story.want("8");
    story.serves("8");
    assert_eq!(grace(), 30);
    story.ask("Undo");
    story.settles("Held", "7");
    assert_eq!(grace(), 77);
}

#[test]
fn a_server_two_versions_older_is_served() {
    let own = Cluster::own(Options { emulated_version: Some("1.35".into()), ..Options::default() });
    own.cluster().apply_crds();
    let mut story = Story {
        cluster: own.cluster(),
        namespace: own.cluster().namespace("older"),
        operator: None,
    };
    story.start_operator();
    for version in ["6", "7"] {
        story.version(version, version);
    }
    story.deploy("6");
    story.serves("6");
    story.want("7");
    story.serves("7");
    story.ask("Undo");
    story.settles("Held", "6");
}

/// Begins to roll, ends a process of the control plane, and waits until all is as if it had not
/// been.
fn survives(story: &mut Story, process: &'static str, from: &str, to: &str) {
    let ended =
        |story: &mut Story| story.operator.as_mut().and_then(|o: &mut Operator| o.process.ended());
    let newest = story.newest();
    story.want(to);
    story.until("it is on its way", |o| o["status"]["candidate"]["version"] == to);
    story.cluster.kill(process);
    let unreachable = || {
        !story
            .cluster
            .try_kubectl(&["get", "mdep", "-n", &story.namespace, "--request-timeout=2s"])
            .status
            .success()
    };
    story.cluster.until("nothing answers", unreachable);
    story.cluster.run(process);
    story.cluster.wait_api();
    story.serves(to);
    assert_eq!(ended(story), None, "the operator goes on");
    assert_eq!(story.newest(), newest + 1);
    assert_eq!(story.get("mro", &format!("fraud-{}", newest + 1))["spec"]["outcome"], "Promoted");
    story.until_true("it is ready", || {
        story.operator.as_ref().is_some_and(|o| o.get("/readyz").0 == 200)
    });
    story.ask("Undo");
    story.settles("Held", from);
}

#[test]
fn an_api_server_and_an_etcd_that_die_midway_are_waited_for() {
    let own = Cluster::own(Options::default());
    own.cluster().apply_crds();
    let mut story = Story {
        cluster: own.cluster(),
        namespace: own.cluster().namespace("outage"),
        operator: None,
    };
    story.start_operator();
    story.version("6", "6");
    story.version("7", "behave-slow.7");
    story.version("8", "behave-slow.8");
    story.deploy("6");
    story.serves("6");
    survives(&mut story, "kube-apiserver", "6", "7");
    survives(&mut story, "etcd", "6", "8");
}

#[test]
fn a_stored_revision_that_was_replaced_under_its_name_is_taken_from_its_replica_set() {
    let story = Story::serving_seven("replaced");
    let name = story.record(1)["revisionName"].as_str().unwrap().to_owned();
    let mut stored = story.get("controllerrevision", &name);
    let image = stored["data"]["rendering"]["spec"]["containers"][0]["image"].take();
    stored["data"]["rendering"]["spec"]["containers"][0]["image"] = json!("evil:1");
    story.kubectl(&["delete", "controllerrevision", &name]);
    story.apply(&stripped(stored));
    story.ask("Undo");
    story.settles("Held", "6");
    assert_eq!(json!(story.image()), image);
    assert_eq!(story.record(3)["revisionName"], json!(format!("{name}-2")));
}
