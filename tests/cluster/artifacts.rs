//! Artifacts on a real control plane: verified by Jobs, pinned, fetched by init containers, mounted
//! as images, and what a policy demands. (The fake nodes run nothing: what `rollmodel-fetch` would
//! say last is put into the pods' status.)

use serde_json::{Value, json};

use crate::harness::{
    Cluster, Options, levers,
    story::{Story, condition, deployment, version_of},
};

const GOOD: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const OTHER: &str = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn policy(spec: Value) -> Value {
    json!({"apiVersion": "rollmodel.dev/v1alpha1", "kind": "ModelPolicy", "metadata": {"name": "default"}, "spec": spec})
}

fn verified_by(account: &str) -> Value {
    policy(
        json!({"verification": {"serviceAccountName": account, "credentialsSecret": {"name": "models-s3"}}}),
    )
}

/// Version 8 of fraud with an artifact.
fn eight(artifact: Value) -> Value {
    version_of("fraud", "8", json!({"image": "registry.example.com/fraud:8", "artifact": artifact}))
}

fn good() -> String {
    format!("Verified: digest={GOOD} size=42 files=2")
}

/// A namespace where version 6 serves, and Jobs may run.
fn begin(hint: &str) -> Story {
    let story = Story::serving_six(hint);
    story.kubectl(&["create", "serviceaccount", "model-verifier"]);
    story
}

/// The Jobs there are, by name.
fn jobs(story: &Story) -> Vec<String> {
    let mut names: Vec<String> = story
        .list("jobs")
        .iter()
        .map(|j| j["metadata"]["name"].as_str().unwrap().to_owned())
        .collect();
    names.sort();
    names
}

/// Waits for a verification Job that is not among these, and ends it so.
fn verify(story: &Story, known: &[String], code: i32, message: &str) {
    let new = || jobs(story).into_iter().find(|name| !known.contains(name));
    story.until_true("a verification Job", || new().is_some());
    levers::ends(story.cluster, &story.namespace, &new().unwrap(), code, message);
}

/// Waits until the condition Verified of version 8 has that status and reason, and gives its
/// message.
fn verified(story: &Story, status: &str, reason: &str) -> String {
    let now = || condition(&story.get("mv", "fraud-8"), "Verified");
    story.until_true(&format!("Verified is {status} {reason}"), || {
        let condition = now();
        condition["status"] == status && condition["reason"] == reason
    });
    now()["message"].as_str().unwrap().to_owned()
}

fn pin(story: &Story) -> Value {
    story.get("mv", "fraud-8")["status"]["resolved"]["artifactDigest"].clone()
}

/// Has version 8 verified (again).
fn ask(story: &Story, value: &str) {
    story.kubectl(&[
        "annotate",
        "mv",
        "fraud-8",
        &format!("rollmodel.dev/verify={value}"),
        "--overwrite",
    ]);
}

/// Nothing of what was written was put back, by us or by the API server.
fn undisturbed(story: &Story) {
    assert!(story.list("events.events.k8s.io").iter().all(|e| e["reason"] != "DriftCorrected"));
    let log = story.operator.as_ref().unwrap().process.log();
    assert!(!log.contains("put_back"), "{log}");
}

#[test]
fn a_version_without_a_digest_is_verified_by_a_job_pinned_and_then_rolled_out() {
    let mut story = begin("pinned");
    story.apply(&eight(json!({"uri": "s3://models/fraud/8/", "size": 42})));
    story.want("8");
    let both = "ModelVersion fraud-8 names no digest of its artifact, and nobody verifies artifacts here: register it with artifact.digest (`rollmodel-fetch digest URI` prints it), or make ModelPolicy default with spec.verification.serviceAccountName. Version 6 continues to serve.";
    story.until("both ways out are told", |o| o["status"]["message"] == both);
    verified(&story, "False", "NoDigest");
    story.apply(&verified_by("model-verifier"));
    let mdep = story.settles("Pending", "6");
    assert_eq!(condition(&mdep, "Ready")["reason"], "NotVerified");
    verified(&story, "Unknown", "Verifying");
    let all = jobs(&story);
    let job = story.get("job", &all[0]);
    assert_eq!(job["metadata"]["ownerReferences"][0]["name"], "fraud-8");
    let pod = &job["spec"]["template"]["spec"];
    assert_eq!(
        (&pod["serviceAccountName"], &pod["volumes"][0]["secret"]["secretName"]),
        (&json!("model-verifier"), &json!("models-s3"))
    );
    assert_eq!(
        pod["containers"][0]["args"],
        json!(["verify", "s3://models/fraud/8/", "--size", "42"])
    );
    // Whoever takes over finds the Job, and makes no other.
    story.kill_operator();
    story.start_operator();
    verify(&story, &[], 0, &good());
    assert_eq!(
        verified(&story, "True", "Verified"),
        "The artifact is sha256:aaaaaaaaaaaa…, to which the version is pinned: 42 bytes."
    );
    assert_eq!((pin(&story), jobs(&story)), (json!(GOOD), all));
    story.serves("8");
    let template = story.get("deployment", "fraud")["spec"]["template"]["spec"].clone();
    let args = [
        "fetch",
        "s3://models/fraud/8/",
        "--to",
        "/mnt/rollmodel/model",
        "--digest",
        GOOD,
        "--size",
        "42",
    ];
    assert_eq!(template["initContainers"][0]["args"], json!(args));
    story.event("Verified");
    undisturbed(&story);
    let ran = || story.get("mv", "fraud-6")["status"]["resolved"]["imageDigest"].clone();
    story.until_true("the image that version 6 really ran", || {
        ran().as_str().is_some_and(|digest| digest.starts_with("sha256:"))
    });
    let printed = story.kubectl(&["get", "mv", "fraud-8"]);
    assert!(printed.contains("VERIFIED") && printed.contains("True"), "{printed}");
}

#[test]
fn bytes_that_change_upstream_drift_and_wrong_ones_are_a_mismatch_each_with_the_fetchers_words() {
    let story = begin("drift");
    story.apply(&verified_by("model-verifier"));
    story.apply(&eight(json!({"uri": "s3://models/fraud/8/"})));
    verify(&story, &[], 0, &good());
    verified(&story, "True", "Verified");
    let before = jobs(&story);
    ask(&story, "1");
    let line = format!("Mismatch: the digest is {OTHER}, and has to be {GOOD}.");
    verify(&story, &before, 3, &line);
    let says = verified(&story, "False", "Drifted");
    assert!(
        says.starts_with(
            "Upstream has other bytes than those that were verified (sha256:aaaaaaaaaaaa…):"
        ),
        "{says}"
    );
    assert_eq!((pin(&story), story.event("Drifted")), (json!(GOOD), says));
    let version = story.get("mv", "fraud-8");
    assert_eq!(version["status"]["verification"]["requested"], "1");
    // What never was right is told as such.
    story.kubectl(&["delete", "mv", "fraud-8"]);
    story.until_true("its Jobs are gone", || jobs(&story).is_empty());
    story.apply(&eight(json!({"uri": "s3://models/fraud/8/", "digest": GOOD})));
    verified(&story, "Unknown", "CheckedAtPodStart");
    ask(&story, "1");
    verify(&story, &[], 3, &line);
    let says = verified(&story, "False", "Mismatch");
    assert_eq!(says, format!("the digest is {OTHER}, and has to be {GOOD}."));
    assert_eq!(pin(&story), Value::Null);
}

#[test]
fn a_failed_verification_is_not_served_and_a_job_that_is_refused_is_told() {
    let story = begin("refused-job");
    story.kubectl(&["create", "quota", "nothing", "--hard=count/jobs.batch=0"]);
    story.until_true("the quota is counted", || {
        story.get("quota", "nothing")["status"].get("hard").is_some()
    });
    story.apply(&verified_by("model-verifier"));
    story.apply(&eight(json!({"uri": "s3://models/fraud/8/"})));
    let says = verified(&story, "Unknown", "VerificationTrouble");
    assert!(
        says.starts_with("Cannot create Job ") && says.contains("exceeded quota: nothing"),
        "{says}"
    );
    story.kubectl(&["delete", "quota", "nothing"]);
    story.want("8");
    verify(&story, &[], 3, "NotFound: there is no object at s3://models/fraud/8/.");
    verified(&story, "False", "NotFound");
    let mdep = story.settles("Invalid", "6");
    assert_eq!(condition(&mdep, "Ready")["reason"], "VerificationFailed");
    assert!(story.message().starts_with(
        "The artifact of version 8 was not accepted: there is no object at s3://models/fraud/8/."
    ));
}

#[test]
fn a_job_that_a_new_policy_makes_obsolete_is_replaced() {
    let story = begin("replaced");
    story.apply(&verified_by("nobody"));
    story.apply(&eight(json!({"uri": "s3://models/fraud/8/"})));
    story.until_true("a Job that gets no pod", || jobs(&story).len() == 1);
    let before = jobs(&story);
    story.apply(&verified_by("model-verifier"));
    verify(&story, &before, 0, &good());
    verified(&story, "True", "Verified");
    assert_eq!(jobs(&story).len(), 1);
}

#[test]
fn wrong_bytes_go_back_at_once_and_a_bucket_that_does_not_answer_holds() {
    let story = begin("fetch");
    story.apply(&eight(json!({"uri": "s3://models/behave-fetch-mismatch/8/", "digest": GOOD})));
    story.want("8");
    let pod = "version 8 cannot be fetched (container rollmodel-fetch of pod fraud-";
    let said = "exit code 3): Mismatch: the digest is sha256:bb, and has to be sha256:aa";
    let mdep = story.settles("RolledBack", "6");
    let message = condition(&mdep, "Stalled")["message"].as_str().unwrap().to_owned();
    assert!(message.contains(pod) && message.contains(said), "{message}");
    let reason = story.record(3)["decidedBy"]["reason"].as_str().unwrap().to_owned();
    assert!(reason.starts_with(pod) && reason.ends_with("exit code 3)"), "{reason}");
    assert!(!reason.contains("Mismatch"), "a record holds no words of a container: {reason}");
    let event = story.event("RolledBack");
    assert!(event.starts_with(&format!("Version 8 failed: {pod}")), "{event}");
    assert!(event.ends_with(&format!("{said}. Going back to version 6.")), "{event}");
    let artifact = json!({"uri": "s3://models/behave-fetch-unreachable/9/", "digest": GOOD});
    story.apply(&version_of(
        "fraud",
        "9",
        json!({"image": "registry.example.com/fraud:9", "artifact": artifact}),
    ));
    story.want("9");
    let waits = "Rolling out version 9 waits: version 9 cannot be fetched yet: Unreachable: s3.example.com does not answer.";
    story.until("it waits", |o| o["status"]["message"] == waits);
    assert_eq!(story.mdep()["status"]["serving"]["version"], "6");
    levers::heal(story.cluster, &story.namespace, "fraud");
    let is_ready = |pod: &&Value| {
        let mut conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        pod["metadata"]["labels"]["rollmodel.dev/version"] == "9"
            && conditions.any(|c| c["type"] == "Ready" && c["status"] == "True")
    };
    let ready = || story.list("pod").iter().filter(is_ready).count();
    story.until_true("the next pods wait as well", || ready() == 1);
    // kwok makes each next pod unreachable too, until it is healed.
    story.until_true("all are healed", || {
        levers::heal(story.cluster, &story.namespace, "fraud");
        story.mdep()["status"]["serving"]["version"] == "9"
    });
    assert!(story.record(4).get("rejects").is_none());
}

#[test]
fn a_cache_credentials_and_a_claim_are_taken_by_the_api_server_as_they_are_written() {
    let story = begin("cache");
    story.apply(&policy(json!({"delivery": {"allowedHosts": ["minio.storage:9000"], "credentialsSecret": {"name": "models-s3"}}})));
    story.apply(&eight(json!({"uri": "pvc://models/fraud/8.zip", "digest": GOOD, "unpack": true})));
    for claim in ["models", "model-cache"] {
        story.apply(&json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": claim},
            "spec": {"accessModes": ["ReadWriteMany"], "storageClassName": "", "volumeName": format!("{}-{claim}", story.namespace), "resources": {"requests": {"storage": "1Gi"}}}}));
        bind(&story, claim);
    }
    story.patch(&json!({"version": "8", "delivery": {"cache": {"claimName": "model-cache", "sizeLimit": "200Gi"}}}));
    story.serves("8");
    let spec = story.get("deployment", "fraud")["spec"]["template"]["spec"].clone();
    let mount = &spec["containers"][0]["volumeMounts"][0];
    assert_eq!(
        (&mount["subPath"], &mount["readOnly"]),
        (&json!(format!("models/{}-unpacked", GOOD.replace(':', "-"))), &json!(true))
    );
    assert_eq!(spec["volumes"].as_array().unwrap().len(), 3);
    undisturbed(&story);
}

/// Binds a claim to a volume of its own, as nobody provisions one here.
fn bind(story: &Story, claim: &str) {
    let name = format!("{}-{claim}", story.namespace);
    story.apply(
        &json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": {"capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteMany"], "hostPath": {"path": "/tmp"}, "claimRef": {"namespace": story.namespace, "name": claim}}}),
    );
    story.set_bound(&name, claim);
    let bound = json!({"metadata": {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}})
        .to_string();
    story.kubectl(&["patch", "pvc", claim, "--type=merge", "-p", &bound]);
}

#[test]
fn an_image_is_mounted_by_the_kubelet_where_the_server_is_new_enough() {
    let story = begin("mounted");
    story
        .apply(&eight(json!({"uri": "oci://registry.example.com/models/fraud:8", "digest": GOOD})));
    story.patch(&json!({"version": "8", "delivery": {"mode": "ImageVolume", "subPath": "models"}}));
    story.serves("8");
    let spec = story.get("deployment", "fraud")["spec"]["template"]["spec"].clone();
    let image = json!({"reference": format!("registry.example.com/models/fraud@{GOOD}"), "pullPolicy": "IfNotPresent"});
    assert_eq!(spec["volumes"][0]["image"], image);
    assert!(spec.get("initContainers").is_none());
    undisturbed(&story);
}

#[test]
fn a_server_that_is_too_old_to_mount_images_is_told_and_asked_for_nothing() {
    let own = Cluster::own(Options { emulated_version: Some("1.34".into()), ..Options::default() });
    let cluster = own.cluster();
    cluster.apply_crds();
    let mut story = Story { cluster, namespace: cluster.namespace("old"), operator: None };
    story.start_operator();
    story
        .apply(&eight(json!({"uri": "oci://registry.example.com/models/fraud:8", "digest": GOOD})));
    story.apply(&deployment(
        "fraud",
        json!({"model": "fraud", "version": "8", "delivery": {"mode": "ImageVolume"}}),
    ));
    let mdep = story.state("Invalid");
    assert_eq!(condition(&mdep, "Ready")["reason"], "ImageVolumeUnsupported");
    let sentence = "spec.delivery.mode ImageVolume needs Kubernetes 1.35, and this is 1.34: set spec.delivery.mode to Init.";
    assert_eq!(story.message(), sentence);
    assert!(story.find("deployment", "fraud").is_none());
    story.patch(&json!({"delivery": null}));
    story.serves("8");
}

#[test]
fn what_a_policy_demands_is_told_and_heals_when_the_policy_or_the_version_changes() {
    let story = begin("policy");
    story.apply(&policy(json!({"requireArtifactDigest": true, "requireImageDigest": true})));
    story.apply(&eight(json!({"uri": "s3://models/fraud/8/"})));
    story.want("8");
    let told = |reason: &str| {
        let mdep = story.until(reason, |o| condition(o, "Ready")["reason"] == reason);
        assert_eq!(
            (&mdep["status"]["state"], &mdep["status"]["serving"]["version"]),
            (&json!("Invalid"), &json!("6"))
        );
        mdep["status"]["message"].as_str().unwrap().to_owned()
    };
    assert!(
        told("ArtifactDigestRequired").contains("register the version again with artifact.digest")
    );
    story.kubectl(&["delete", "mv", "fraud-8"]);
    story.apply(&eight(json!({"uri": "s3://models/fraud/8/", "digest": GOOD})));
    assert!(told("ImageDigestRequired").contains("registry.example.com/fraud:8 is a tag"));
    let keys = ["-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n"];
    story.apply(&policy(
        json!({"requireImageDigest": false, "requireSignature": {"publicKeys": keys}}),
    ));
    assert!(
        told("SignatureRequired").contains("register the version again with artifact.signature")
    );
    story.apply(&policy(json!({})));
    story.serves("8");
}

#[test]
fn a_policy_or_a_delivery_that_is_none_is_refused_with_what_to_change() {
    let story = Story::begin("nopolicy");
    let mut named = policy(json!({}));
    named["metadata"]["name"] = json!("strict");
    let cases = [
        (named, "metadata.name must be default: a namespace has one ModelPolicy"),
        (
            policy(json!({"requireSignature": {}})),
            "name at least one of publicKeys and certificates",
        ),
        (
            policy(json!({"requireSignature": {"publicKeys": ["ssh-rsa AAAA"]}})),
            "each of publicKeys is PEM and starts with -----BEGIN PUBLIC KEY-----",
        ),
        (
            policy(json!({"requireSignature": {"certificates": ["x"]}})),
            "each of certificates is PEM",
        ),
        (
            policy(json!({"verification": {"serviceAccountName": "v", "intervalHours": 0}})),
            "spec.verification.intervalHours",
        ),
        (
            policy(json!({"verification": {}})),
            "spec.verification.serviceAccountName: Required value",
        ),
        (policy(json!({"delivery": {"allowedHosts": ["a,b"]}})), "spec.delivery.allowedHosts"),
    ];
    for (object, sentence) in cases {
        let said = story.apply_refused(&object);
        assert!(said.contains(sentence), "{said}");
    }
    let cases = [
        (
            json!({"mode": "ImageVolume", "cache": {"claimName": "a"}}),
            "cache goes with mode Init only",
        ),
        (
            json!({"mode": "InImage", "credentialsSecret": {"name": "a"}}),
            "credentialsSecret goes with mode Init only",
        ),
        (json!({"subPath": "models"}), "subPath goes with mode ImageVolume only"),
        (json!({"mode": "ImageVolume", "subPath": "a/../b"}), "subPath is a path inside the image"),
        (
            json!({"cache": {"claimName": "a", "sizeLimit": "lots"}}),
            "spec.delivery.cache.sizeLimit",
        ),
        (json!({"mode": "Teleport"}), "supported values: \"Init\", \"ImageVolume\", \"InImage\""),
    ];
    for (delivery, sentence) in cases {
        let said = story.apply_refused(&deployment(
            "fraud",
            json!({"model": "fraud", "version": "6", "delivery": delivery}),
        ));
        assert!(said.contains(sentence), "{said}");
    }
}
