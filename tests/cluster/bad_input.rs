//! Bad input on a real control plane: each gets a refused write, or a condition, with a sentence
//! that says what to change; and what serves stays as it is. (A template that the API server
//! refuses, and a quota that forbids the surge: see `going_back`.)

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{
    Cluster, audit,
    rest::{Rest, runtime},
    story::{Story, condition, deployment, observed, version_of},
};

/// Version 6 of fraud that serves, and what it is like.
struct Base {
    story: Story,
    before: Value,
}

impl Base {
    fn new(hint: &str) -> Self {
        let mut base = Self { story: Story::serving_six(hint), before: Value::Null };
        base.before = base.now();
        base
    }

    /// The Deployment, and what serves in it.
    fn now(&self) -> Value {
        let (child, mdep) = (self.story.get("deployment", "fraud"), self.story.mdep());
        json!({
            "uid": child["metadata"]["uid"], "generation": child["metadata"]["generation"], "template": child["spec"]["template"],
            "serving": [mdep["status"]["serving"]["version"], mdep["status"]["serving"]["rollout"]], "rollouts": self.story.list("mro"),
        })
    }

    fn nothing_is_lost(&self) {
        assert_eq!(self.now(), self.before);
    }

    /// Applies what has to be refused, with every one of these parts of the sentence.
    fn refused(&self, object: &Value, parts: &[&str]) {
        says(&self.story.apply_refused(object), parts);
    }

    /// Merges into a spec what has to be refused.
    fn patch_refused(&self, kind: &str, name: &str, spec: &Value, parts: &[&str]) {
        says(
            &self.story.kubectl_refused(&[
                "patch",
                kind,
                name,
                "--type=merge",
                "-p",
                &json!({"spec": spec}).to_string(),
            ]),
            parts,
        );
    }

    /// ModelDeployment fraud with this in its spec, two pods as before, and nothing else.
    fn wants(&self, mut spec: Value) {
        spec["model"] = json!("fraud");
        spec["replicas"] = json!(2);
        self.story.apply(&deployment("fraud", spec));
    }

    /// Waits until a ModelDeployment is not ready for that reason, and has that message; version 6
    /// of fraud continues to serve.
    fn told(&self, name: &str, state: &str, reason: &str, message: &str) {
        let serves = if name == "fraud" { " Version 6 continues to serve." } else { "" };
        let message = format!("{message}{serves}");
        let mut object = Value::Null;
        let mut told = || {
            object = self.story.get("mdep", name);
            observed(&object)
                && condition(&object, "Ready")["reason"] == reason
                && object["status"]["message"] == message
        };
        let began = std::time::Instant::now();
        while !told() {
            assert!(
                began.elapsed() < Duration::from_secs(30),
                "{name} says {}, not {reason}: {message}",
                object["status"]
            );
            std::thread::park_timeout(Duration::from_millis(60));
        }
        assert_eq!(object["status"]["state"], state);
        let wait = if state == "Invalid" { "Stalled" } else { "Reconciling" };
        for (kind, status) in [("Ready", "False"), (wait, "True")] {
            let found = condition(&object, kind);
            assert_eq!(
                (found["status"].as_str(), found["message"].as_str()),
                (Some(status), Some(message.as_str())),
                "{kind}"
            );
        }
    }

    /// Wants what cannot be carried out, and is told so; nothing else happens.
    fn invalid(&self, spec: Value, reason: &str, message: &str) {
        self.wants(spec);
        self.told("fraud", "Invalid", reason, message);
        self.nothing_is_lost();
    }

    /// Names again what serves: all is well, and nothing was done to it.
    fn mends(&self) {
        self.wants(json!({"version": "6"}));
        self.story.settles("Serving", "6");
        self.nothing_is_lost();
    }
}

fn says(sentence: &str, parts: &[&str]) {
    for part in parts {
        assert!(sentence.contains(part), "it does not say {part:?}:\n{sentence}");
    }
}

/// ModelVersion fraud-8 with this in its spec beside its image; null takes a field away.
fn eight(fields: Value) -> Value {
    let mut object = version_of("fraud", "8", json!({"image": "registry.example.com/fraud:8"}));
    let spec = object["spec"].as_object_mut().unwrap();
    spec.extend(fields.as_object().unwrap().clone());
    spec.retain(|_, value| !value.is_null());
    object
}

const VERSION: &str = "version may hold letters, digits, '.', '_' and '-' only, with a letter or a digit at both ends and around each dot";

#[test]
fn a_version_that_is_none_is_refused_with_what_to_change() {
    let base = Base::new("noversion");
    let mut misnamed = eight(json!({}));
    misnamed["metadata"]["name"] = json!("fraud-eight");
    base.refused(&misnamed, &["metadata.name must be <model>-<version> in lower case, with _ as -: the name is the identity"]);
    base.refused(&eight(json!({"version": null})), &["spec.version: Required value"]);
    base.refused(&eight(json!({"version": 8})), &["spec.version", "must be of type string"]);
    for version in ["8 1", "1..2", ".8", "8-", "8/1"] {
        base.refused(&eight(json!({"version": version})), &["spec.version", VERSION]);
    }
    let either = "name an image that serves the model, an artifact with the model in it, or both";
    base.refused(&eight(json!({"image": null})), &[either]);
    base.refused(&eight(json!({"imagee": "a:1"})), &["unknown field \"spec.imagee\""]);
    let digest = "digest must be sha256: and 64 hexadecimal digits in lower case";
    for wrong in
        [format!("sha256:{:0>63}", 1), format!("sha256:{:A>64}", 1), format!("sha512:{:0>64}", 1)]
    {
        base.refused(
            &eight(json!({"artifact": {"uri": "s3://m/8", "digest": wrong}})),
            &["spec.artifact.digest", digest],
        );
    }
    let long = json!({"artifact": {"uri": "s3://m/8", "digest": format!("sha256:{:0>65}", 1)}});
    base.refused(&eight(long), &["spec.artifact.digest: Too long: may not be more than 71"]);
    let lockfile =
        json!({"environment": {"lockfile": {"uri": "s3://m/lock", "digest": "sha256:12"}}});
    base.refused(&eight(lockfile), &["spec.environment.lockfile.digest", digest]);
    let image = "the digest of an image must be @sha256: and 64 hexadecimal digits in lower case (or @sha512: and 128), at the end";
    base.refused(&eight(json!({"image": "a@sha256:12"})), &["spec.image", image]);
    for address in ["s3://key:secret@models/8", "https://key:secret@models.example.com"] {
        let user = json!({"artifact": {"uri": address}});
        base.refused(
            &eight(user),
            &["uri must be scheme://path, without spaces and without credentials before the host"],
        );
    }
    assert_eq!(base.story.list("mv").len(), 2, "nothing was stored");
    base.nothing_is_lost();
}

#[test]
fn a_metric_that_is_no_number_is_refused_however_it_is_sent() {
    let base = Base::new("nan");
    let rest = Rest::new(base.story.cluster, &base.story.namespace);
    let cases = [
        (".nan", "unsupported value: NaN"),
        ("-.inf", "unsupported value: -Inf"),
        ("1e999", "spec.metrics[0].value"),
        ("\"NaN\"", "spec.metrics[0].value"),
        ("null", "spec.metrics[0].value"),
    ];
    for (value, sentence) in cases {
        let spec = format!(
            "{{model: fraud, version: \"8\", image: a, metrics: [{{name: auc, value: {value}}}]}}"
        );
        let yaml = format!(
            "apiVersion: rollmodel.dev/v1alpha1\nkind: ModelVersion\nmetadata: {{name: fraud-8}}\nspec: {spec}\n"
        );
        for how in [&["apply", "-f", "-"][..], &["apply", "--server-side", "-f", "-"]] {
            let out = base
                .story
                .cluster
                .try_kubectl_in(&[&["-n", &base.story.namespace], how].concat(), &yaml);
            assert!(!out.status.success(), "{value} was accepted by {how:?}");
            says(&String::from_utf8_lossy(&out.stderr), &[sentence]);
        }
        // A client that sends the YAML as it is.
        let request = http::Request::post(rest.path("modelversions"))
            .header("content-type", "application/yaml");
        let answer = runtime()
            .block_on(rest.client().request::<Value>(request.body(yaml.into_bytes()).unwrap()));
        says(&answer.unwrap_err().to_string(), &[sentence]);
    }
    assert!(base.story.find("mv", "fraud-8").is_none());
    base.nothing_is_lost();
}

#[test]
fn a_version_never_changes_but_for_what_can_change() {
    let base = Base::new("immutable");
    let digest = format!("sha256:{:0>64}", 1);
    let artifact = json!({"uri": "s3://models/fraud/8/", "digest": digest});
    base.story.apply(&eight(json!({"artifact": artifact, "parameters": {"C": "1.0"}, "metrics": [{"name": "auc", "value": 0.9}]})));
    let record =
        || base.story.get("mv", "fraud-8")["status"]["recordDigest"].as_str().map(str::to_owned);
    base.story.until_true("it has a digest", || record().is_some());
    let before = record();
    let cases = [
        ("model", json!({"model": "churn"})),
        ("version", json!({"version": "9"})),
        ("image", json!({"image": "registry.example.com/fraud:8.1"})),
        ("image", json!({"image": null})),
        ("artifact", json!({"artifact": {"digest": null}})),
        ("artifact", json!({"artifact": null})),
        ("parameters", json!({"parameters": {"solver": "lbfgs"}})),
        ("parameters", json!({"parameters": null})),
        ("metrics", json!({"metrics": [{"name": "auc", "value": 0.99}]})),
        ("framework", json!({"framework": {"name": "xgboost"}})),
        ("parents", json!({"parents": [{"model": "fraud", "version": "6"}]})),
        ("origin", json!({"origin": {"registry": "mlflow", "system": "mlflow"}})),
    ];
    for (field, spec) in cases {
        let sentence = format!(
            "spec.{field}: Forbidden: {field} is immutable: register a new version instead"
        );
        base.patch_refused("mv", "fraud-8", &spec, &[&sentence]);
    }
    base.patch_refused(
        "mv",
        "fraud-6",
        &json!({"image": "evil:6"}),
        &["image is immutable: register a new version instead"],
    );
    let spec = json!({"description": "Good", "lifecycle": {"state": "Deprecated"}, "evaluations": [{"name": "auc", "value": 0.8}]});
    let new = json!({"spec": spec});
    base.story.kubectl(&["patch", "mv", "fraud-8", "--type=merge", "-p", &new.to_string()]);
    base.story.until_true("the change is seen", || {
        condition(&base.story.get("mv", "fraud-8"), "Ready")["reason"] == "Deprecated"
    });
    assert_eq!(record(), before);
    base.nothing_is_lost();
}

#[test]
fn a_deployment_that_cannot_be_is_refused_with_what_to_change() {
    let base = Base::new("nodeployment");
    let named = |name: &str| deployment(name, json!({"model": "fraud", "version": "6"}));
    base.refused(
        &named(&"f".repeat(53)),
        &["metadata.name must be a DNS-1035 label", "of at most 52 characters"],
    );
    base.refused(&named("4raud"), &["metadata.name must be a DNS-1035 label (lower case, digits and '-', starting with a letter)"]);
    base.refused(&named("fraud-r1"), &["metadata.name must not end in -r<digits>: such names belong to the Deployments of rollouts"]);
    base.refused(
        &deployment("churn", json!({"model": "churn"})),
        &["spec.version: Required value"],
    );
    let rolling = |surge: Value, less: Value| json!({"strategy": {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": less}}});
    let both = "maxSurge and maxUnavailable must not both be 0 (maxUnavailable is 0 when absent): no pod could ever be replaced";
    let late = "progressDeadlineSeconds (600 when absent) must be more than minReadySeconds";
    let cases = [
        (json!({"version": null}), "spec.version: Required value"),
        (json!({"version": 7}), "must be of type string"),
        (json!({"version": "7 "}), VERSION),
        (json!({"version": "1..2"}), VERSION),
        (
            json!({"model": "churn"}),
            "model is immutable: make a ModelDeployment for the other model",
        ),
        (rolling(json!(0), json!(0)), both),
        (rolling(json!("0%"), json!("0%")), both),
        (rolling(json!(0), json!(null)), both),
        (
            rolling(json!(-1), json!(1)),
            "maxSurge is a number of 0 or more, or a percentage from 0% to 100%",
        ),
        (
            rolling(json!(1), json!("half")),
            "maxUnavailable is a number of 0 or more, or a percentage from 0% to 100%",
        ),
        (json!({"minReadySeconds": 60, "progressDeadlineSeconds": 30}), late),
        (json!({"minReadySeconds": 600}), late),
        (json!({"replicas": -1}), "spec.replicas in body should be greater than or equal to 0"),
        (json!({"template": "text"}), "spec.template in body must be of type object"),
        (json!({"protocol": "Soap"}), "supported values: \"OpenInferenceV2\", \"HTTP\", \"GRPC\""),
    ];
    for (spec, sentence) in cases {
        base.patch_refused("mdep", "fraud", &spec, &[sentence]);
    }
    let mut typo = base.story.mdep();
    typo["spec"]["replica"] = json!(3);
    base.refused(&typo, &["unknown field \"spec.replica\""]);
    assert_eq!(base.story.list("mdep").len(), 1, "nothing was stored");
    base.nothing_is_lost();
}

#[test]
fn a_model_or_version_that_is_not_there_is_waited_for_and_a_name_that_another_holds_is_told() {
    let base = Base::new("unknown");
    base.wants(json!({"version": "9"}));
    let then =
        "is not there yet: register it, or name another version. It is rolled out when it appears.";
    let absent = |name: &str, what: &str| format!("ModelVersion {name} ({what}) {then}");
    base.told("fraud", "Pending", "VersionNotFound", &absent("fraud-9", "version 9 of fraud"));
    base.nothing_is_lost();
    base.story.apply(&deployment("churn", json!({"model": "churn", "version": "1"})));
    base.told("churn", "Pending", "VersionNotFound", &absent("churn-1", "version 1 of churn"));
    // (fraud, 1-2) and (fraud-1, 2) share a name; so do 7A and 7a.
    let taken = |is: &str, not: &str| {
        format!("ModelVersion {is}, not {not}: give one of them another version string.")
    };
    base.story.version("1-2", "1-2");
    base.refused(
        &version_of("fraud-1", "2", json!({"image": "a:1"})),
        &["model is immutable", "version is immutable"],
    );
    base.story.apply(&deployment("other", json!({"model": "fraud-1", "version": "2"})));
    base.told(
        "other",
        "Invalid",
        "NameTaken",
        &taken("fraud-1-2 is version 1-2 of model fraud", "version 2 of fraud-1"),
    );
    base.story.version("8A", "8");
    base.invalid(
        json!({"version": "8a"}),
        "NameTaken",
        &taken("fraud-8a is version 8A of model fraud", "version 8a of fraud"),
    );
    assert!(["churn", "other"].iter().all(|name| base.story.find("deployment", name).is_none()));
    base.mends();
}

#[test]
fn a_spec_that_cannot_be_carried_out_is_invalid_with_a_sentence_and_what_serves_stays() {
    let base = Base::new("invalid");
    base.story.apply(&eight(json!({"image": null, "artifact": {"uri": "s3://models/fraud/8/"}})));
    let image = "Neither ModelVersion fraud-8 nor spec.template names an image: set image of the container model in spec.template, or register a version with an image.";
    base.invalid(json!({"version": "8", "delivery": {"mode": "InImage"}}), "NoImage", image);
    let spec = json!({"containers": [{"name": "model"}, {"name": "model"}]});
    let twice = "containers[1].name is model, which is another container's name too: give each container its own.";
    base.invalid(
        json!({"version": "7", "template": {"spec": spec}}),
        "InvalidTemplate",
        &format!("spec.template.spec.{twice}"),
    );
    let unit =
        "which is not a quantity: write a number with or without a suffix, such as 500m, 2 or 4Gi.";
    let unit = format!("resources.limits.memory is \"4GB\", {unit}");
    let unknown =
        "imagee is not a field of a Kubernetes 1.37 pod template: remove it or correct its name.";
    let port = "ports[0].containerPort is a string and has to be an integer, without quotes.";
    let cases = [
        (
            json!({"name": "model", "image": 5}),
            "image is a number and has to be a string: put it in quotes.",
        ),
        (json!({"name": "model", "ports": [{"containerPort": "80"}]}), port),
        (json!({"name": "model", "imagee": "a"}), unknown),
        (json!({"name": "model", "resources": {"limits": {"memory": "4GB"}}}), &unit),
    ];
    for (container, sentence) in cases {
        let spec = json!({"version": "6", "template": {"spec": {"containers": [container]}}});
        base.invalid(
            spec,
            "InvalidTemplate",
            &format!("spec.template.spec.containers[0].{sentence}"),
        );
    }
    // kubectl apply keeps a copy in an annotation, which has less room: it is sent without.
    let rest = Rest::new(base.story.cluster, &base.story.namespace);
    let large =
        json!({"spec": {"containers": [{"name": "model", "args": ["a".repeat(300 * 1024)]}]}});
    rest.merge("modeldeployments/fraud", &json!({"spec": {"template": large}}));
    let sentence = "spec.template has 301 KiB as JSON and may have 240: move what is large, such as data in env or args, into a ConfigMap.";
    base.told("fraud", "Invalid", "InvalidTemplate", sentence);
    base.nothing_is_lost();
    rest.merge("modeldeployments/fraud", &json!({"spec": {"template": null}}));
    base.mends();
}

#[test]
fn a_version_made_anew_with_other_content_is_a_conflict_and_what_serves_stays() {
    let base = Base::new("anew");
    let story = &base.story;
    let digest =
        || story.get("mv", "fraud-6")["status"]["recordDigest"].as_str().map(str::to_owned);
    story.until_true("it has a digest", || digest().is_some());
    let was = digest().unwrap();
    story.kubectl(&["delete", "mv", "fraud-6"]);
    story.version("6", "6-patched");
    story.until_true("the other record has a digest", || digest().is_some());
    let short = |digest: &str| format!("{}…", &digest[..19]);
    let (was, now) = (short(&was), short(&digest().unwrap()));
    story.until_true("it is a conflict", || {
        condition(&story.get("mv", "fraud-6"), "Ready")["reason"] == "Conflict"
    });
    let version = story.get("mv", "fraud-6");
    assert_eq!(
        (&condition(&version, "Ready")["status"], &condition(&version, "Stalled")["status"]),
        (&json!("False"), &json!("True"))
    );
    let what = format!("Version 6 of fraud was rolled out as {was}");
    let sentence =
        format!("{what}; this record is another ({now}): give it a new version, or delete it.");
    assert_eq!(version["status"]["message"], sentence);
    let then = "create it again as it was, or give the new record a new version.";
    let what = format!("Version 6 of fraud was rolled out with the record {was}");
    let sentence = format!("{what}, and ModelVersion fraud-6 has another one now ({now}): {then}");
    base.told("fraud", "Invalid", "VersionConflict", &sentence);
    base.nothing_is_lost();
    story.kubectl(&["delete", "mv", "fraud-6"]);
    story.version("6", "6");
    story.settles("Serving", "6");
    story.until_true("it is no conflict any more", || {
        condition(&story.get("mv", "fraud-6"), "Ready")["status"] == "True"
    });
    base.nothing_is_lost();
    // What no rollout was bound to may be made anew as one likes.
    story.kubectl(&["delete", "mv", "fraud-7"]);
    story.version("7", "7-patched");
    story.want("7");
    story.serves("7");
    assert!(story.image().ends_with(":7-patched"));
}

#[test]
fn a_request_that_makes_no_sense_is_refused_with_what_to_ask_instead() {
    let base = Base::new("norequest");
    let story = &base.story;
    let head = json!({"apiVersion": "rollmodel.dev/v1alpha1", "kind": "RolloutRequest", "metadata": {"name": "ask"}});
    let rreq = |mut spec: Value, deployment: &str| {
        spec["modelDeployment"] = json!(deployment);
        let mut object = head.clone();
        object["spec"] = spec;
        object
    };
    let verbs =
        "supported values: \"Undo\", \"Abort\", \"Retry\", \"Pause\", \"Resume\", \"Restart\"";
    let cases = [
        (json!({"verb": "Undo"}), "spec.ifDecision: Required value"),
        (json!({"verb": "Explode", "ifDecision": "1"}), verbs),
        (
            json!({"verb": "Pause", "ifDecision": "1", "toRollout": 1}),
            "toRollout goes with verb Undo only",
        ),
        (
            json!({"verb": "Undo", "ifDecision": "1", "rerender": true}),
            "rerender goes with verb Restart only",
        ),
    ];
    for (spec, sentence) in cases {
        base.refused(&rreq(spec, "fraud"), &[sentence]);
    }
    let answered = |name: &str| {
        story.until_true("it is answered", || {
            story.get("rreq", name)["status"].get("result").is_some()
        });
        story.get("rreq", name)["status"].clone()
    };
    let newest = |not: &str| {
        format!(
            "The newest decision is 1.0, and the request was made when it was {not}: look again, then ask with ifDecision: \"1.0\"."
        )
    };
    let cases = [
        (json!({"verb": "Restart", "ifDecision": "0"}), newest("0")),
        (json!({"verb": "Undo", "ifDecision": "7"}), newest("7")),
        (
            json!({"verb": "Undo", "ifDecision": "1", "toRollout": 9}),
            "There is no rollout 9 of this ModelDeployment: `kubectl get mro` lists them.".into(),
        ),
    ];
    for (spec, sentence) in cases {
        let status = answered(&story.request(spec));
        assert_eq!(
            (&status["result"], &status["message"], status.get("rollout")),
            (&json!("Refused"), &json!(sentence), None)
        );
    }
    story.apply(&rreq(json!({"verb": "Undo", "ifDecision": "1"}), "churn"));
    let status = answered("ask");
    let sentence = format!("There is no ModelDeployment churn in namespace {}", story.namespace);
    let sentence = format!("{sentence}: ask again with a name that `kubectl get mdep` lists.");
    assert_eq!((&status["result"], &status["message"]), (&json!("Refused"), &json!(sentence)));
    let edits = json!({"modelDeployment": "fraud", "verb": "Restart", "ifDecision": "2", "reason": "why not", "requestedBy": "bob"});
    for (field, value) in edits.as_object().unwrap() {
        let sentence = format!(
            "spec.{field}: Forbidden: {field} is immutable: make a new RolloutRequest instead"
        );
        base.patch_refused("rreq", "ask", &json!({field: value}), &[&sentence]);
    }
    base.nothing_is_lost();
}

#[test]
fn nobody_asks_in_someone_elses_name_where_the_shipped_policy_is_installed() {
    let base = Base::new("asif");
    let story = &base.story;
    story.with_shipped_policies();
    story.kubectl(&[
        "create",
        "rolebinding",
        "oncall",
        "--clusterrole=rollmodel-oncall",
        "--user=alice",
    ]);
    let ask = |by: Value, flags: &[&str]| {
        let mut object = json!({"apiVersion": "rollmodel.dev/v1alpha1", "kind": "RolloutRequest", "metadata": {"generateName": "fraud-"}});
        object["spec"] = json!({"modelDeployment": "fraud", "verb": "Restart", "ifDecision": "1", "requestedBy": by});
        let args = [&["-n", &story.namespace, "--as=alice", "create", "-f", "-"], flags].concat();
        let out = story.cluster.try_kubectl_in(&args, &object.to_string());
        String::from_utf8_lossy(&out.stderr).into_owned()
    };
    let sentence = "spec.requestedBy must name who makes the request: write requestedBy: alice";
    story.until_true("the policy is in force", || {
        ask(json!("bob"), &["--dry-run=server"]).contains(sentence)
    });
    for by in [json!("bob"), json!(null)] {
        says(&ask(by, &[]), &[sentence]);
    }
    assert!(story.list("rreq").is_empty());
    base.nothing_is_lost();
    assert_eq!(ask(json!("alice"), &[]), "");
    story.until_true("alice's own request is carried out", || story.newest() == 2);
    assert_eq!(story.record(2)["decidedBy"]["name"], "alice");
}

#[test]
fn a_record_is_never_rewritten_and_a_decision_never_removed() {
    let mut base = Base::new("records");
    assert_eq!(base.story.ask("Pause")["status"]["result"], "Done");
    assert_eq!(base.story.ask("Resume")["status"]["result"], "Done");
    let label = || {
        base.story.get("deployment", "fraud")["metadata"]["labels"]["rollmodel.dev/decision"]
            .clone()
    };
    base.story.until_true("both are carried out", || label() == "1.2");
    base.before = base.now();
    let decisions = base.story.record(1)["decisions"].clone();
    assert_eq!(decisions.as_array().unwrap().len(), 2);
    let mut rewritten = decisions.clone();
    rewritten[0]["decidedBy"]["name"] = json!("mallory");
    let immutable = |field: &str| {
        format!("spec.{field}: Forbidden: {field} is immutable: a record is never rewritten")
    };
    let once = |field: &str| {
        format!("spec.{field}: Forbidden: {field} is written once: a record is never rewritten")
    };
    let appended = "spec.decisions: Forbidden: decisions are appended, never removed".to_owned();
    let cases = [
        (json!({"version": "7"}), immutable("version")),
        (json!({"number": 2}), immutable("number")),
        (json!({"decidedBy": {"name": "mallory"}}), immutable("decidedBy")),
        (json!({"startTime": "2026-01-01T00:00:00Z"}), immutable("startTime")),
        (json!({"rejects": {"rollout": 1, "scope": "Version", "key": "x"}}), immutable("rejects")),
        (json!({"outcome": "Failed"}), once("outcome")),
        (json!({"outcome": null}), once("outcome")),
        (json!({"servedFrom": "2026-01-01T00:00:00Z"}), once("servedFrom")),
        (json!({"direction": "Back"}), immutable("direction")),
        (json!({"renderingDigest": "sha256:0"}), immutable("renderingDigest")),
        (json!({"observedImages": []}), once("observedImages")),
        (json!({"decisions": null}), appended.clone()),
        (json!({"decisions": []}), appended.clone()),
        (json!({"decisions": [decisions[1]]}), appended),
        (json!({"decisions": rewritten}), "a decision is never rewritten".to_owned()),
    ];
    for (spec, sentence) in cases {
        base.patch_refused("mro", "fraud-1", &spec, &[&sentence]);
    }
    base.nothing_is_lost();
}

#[test]
fn kubectl_explains_every_field() {
    let cluster = Cluster::shared();
    for part in [
        "mv.spec",
        "mv.status",
        "mdep.spec",
        "mdep.status",
        "mro.spec",
        "rreq.spec",
        "rreq.status",
        "mpol.spec",
    ] {
        // The API server makes its documentation of new kinds a moment after it serves them.
        cluster.until(&format!("{part} is explained"), || {
            cluster.try_kubectl(&["explain", part]).status.success()
        });
        let text = cluster.kubectl(&["explain", part]);
        assert!(!text.contains("<no description>"), "{text}");
    }
    let text = cluster.kubectl(&["explain", "mdep.spec.protocol"]);
    says(&text, &["ENUM:", "Protocol of the model server,", "when absent."]);
}

#[test]
fn in_a_namespace_that_is_being_deleted_nothing_is_tried_in_haste() {
    let base = Base::new("dying");
    let story = &base.story;
    // While a pod stays, nothing but pods is deleted.
    let pods = story.list("pod");
    let pod = pods[0]["metadata"]["name"].as_str().unwrap();
    let patch = |finalizers: Value| json!({"metadata": {"finalizers": finalizers}}).to_string();
    let finalizers =
        |list: Value| story.kubectl(&["patch", "pod", pod, "--type=merge", "-p", &patch(list)]);
    finalizers(json!(["test.rollmodel.dev/stays"]));
    story.cluster.kubectl(&["delete", "namespace", &story.namespace, "--wait=false"]);
    let phase = || {
        story.cluster.kubectl(&[
            "get",
            "namespace",
            &story.namespace,
            "-o",
            "jsonpath={.status.phase}",
            "--ignore-not-found",
        ])
    };
    story.until_true("it is being deleted", || phase() == "Terminating");
    let mark = audit::mark(story.cluster);
    // Neither the content of version 7 nor the Service can be created here any more.
    story.kubectl(&["delete", "service", "fraud"]);
    story.want("7");
    // No wait for something: a window, in which a hot retry would be counted.
    std::thread::sleep(Duration::from_secs(10));
    let counts = mark.count("rollmodel", Some(&story.namespace));
    assert!((1..=12).contains(&audit::total(&counts)), "{counts:?}");
    assert_eq!(story.get("deployment", "fraud")["spec"]["template"], base.before["template"]);
    finalizers(json!([]));
    story.until_true("it is gone", || phase().is_empty());
    let mark = audit::mark(story.cluster);
    // A window again, in which nothing may be asked for.
    std::thread::sleep(Duration::from_secs(3));
    let counts = mark.count("rollmodel", Some(&story.namespace));
    assert!(counts.is_empty(), "{counts:?}");
}
