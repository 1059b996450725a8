//! A story: one namespace, an operator of its own, and a ModelDeployment `fraud` in it.

use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Cluster, operator::Operator, rest::Rest, root};

/// Writes that an administrator's policy refuses.
pub struct Denied<'a> {
    /// The beginning of the policy's name.
    pub name: &'a str,
    /// `<group>/<resource>`.
    pub resource: &'a str,
    /// CREATE or UPDATE.
    pub operation: &'a str,
    /// A CEL expression that is true for what is not refused.
    pub allowed: &'a str,
    /// The sentence of the refusal.
    pub message: &'a str,
    /// Forbidden (403) or Invalid (422).
    pub reason: &'a str,
}

/// One test's corner of the shared cluster.
pub struct Story {
    /// The cluster.
    pub cluster: &'static Cluster,
    /// Its namespace.
    pub namespace: String,
    /// The operator, while it runs.
    pub operator: Option<Operator>,
}

impl Story {
    /// A namespace with an operator that watches it, and no object yet.
    pub fn begin(hint: &str) -> Self {
        let cluster = Cluster::shared();
        let namespace = cluster.namespace(hint);
        let mut story = Self { cluster, namespace, operator: None };
        story.start_operator();
        story
    }

    /// Versions 6 and 7 of fraud, and version 6 serving with two pods.
    pub fn serving_six(hint: &str) -> Self {
        Self::serving_six_of(hint, "6")
    }

    /// As [`Story::serving_six`], with another image tag for version 6; see the levers.
    fn serving_six_of(hint: &str, tag: &str) -> Self {
        let story = Self::begin(hint);
        story.version("6", tag);
        story.version("7", "7");
        story.deploy("6");
        story.serves("6");
        story
    }

    /// As [`Story::serving_six`], and then rolled to version 7.
    pub fn serving_seven(hint: &str) -> Self {
        let story = Self::serving_six(hint);
        story.want("7");
        story.serves("7");
        story
    }

    /// As [`Story::serving_seven`], where going back to version 6 takes three seconds.
    pub fn serving_seven_after_slow_six(hint: &str) -> Self {
        let story = Self::serving_six_of(hint, "behave-slow");
        story.want("7");
        story.serves("7");
        story
    }

    /// Starts the operator (again).
    pub fn start_operator(&mut self) {
        self.start_operator_with(&[]);
    }

    /// Starts the operator (again), with more flags.
    pub fn start_operator_with(&mut self, flags: &[&str]) {
        let own = ["--namespace", &self.namespace, "--leader-elect=false"];
        let flags = [&own[..], flags].concat();
        let operator = Operator::start(self.cluster, &self.cluster.kubeconfig(), &flags);
        operator.wait_ready(self.cluster);
        self.operator = Some(operator);
    }

    /// Ends the operator with SIGKILL.
    pub fn kill_operator(&mut self) {
        self.operator = None;
    }

    /// Runs kubectl in the namespace; it has to succeed.
    pub fn kubectl(&self, args: &[&str]) -> String {
        self.cluster.kubectl(&[&["-n", &self.namespace], args].concat())
    }

    /// Runs kubectl in the namespace; it has to fail, and gives what it said.
    pub fn kubectl_refused(&self, args: &[&str]) -> String {
        let out = self.cluster.try_kubectl(&[&["-n", &self.namespace], args].concat());
        assert!(!out.status.success(), "kubectl {} succeeded", args.join(" "));
        String::from_utf8_lossy(&out.stderr).into_owned()
    }

    /// Installs the shipped roles, and the shipped admission policies for this namespace only:
    /// others share the cluster, and ask as alice.
    pub fn with_shipped_policies(&self) {
        self.kubectl(&[
            "apply",
            "--server-side",
            "-f",
            &root().join("deploy/user-roles.yaml").display().to_string(),
        ]);
        let shipped = std::fs::read_to_string(root().join("deploy/admission.yaml")).unwrap();
        for document in serde_yaml::Deserializer::from_str(&shipped) {
            let mut object = Value::deserialize(document).unwrap();
            if object["kind"] == "ValidatingAdmissionPolicyBinding" {
                let here = json!({"kubernetes.io/metadata.name": self.namespace});
                object["spec"]["matchResources"] =
                    json!({"namespaceSelector": {"matchLabels": here}});
                object["metadata"]["name"] = json!(format!(
                    "{}-{}",
                    object["spec"]["policyName"].as_str().unwrap(),
                    self.namespace
                ));
            }
            self.apply(&object);
        }
    }

    /// Has the API server refuse writes of a kind in this namespace, as an administrator's policy
    /// does, and waits until it is in force: until `probe` is refused.
    pub fn deny(&self, rule: &Denied<'_>, probe: &[&str]) {
        let name = format!("{}-{}", rule.name, self.namespace);
        let (group, resource) = rule.resource.split_once('/').unwrap();
        let of_kind = json!({"apiGroups": [group], "apiVersions": ["*"], "resources": [resource], "operations": [rule.operation]});
        let validation =
            json!({"expression": rule.allowed, "message": rule.message, "reason": rule.reason});
        self.apply(&json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
            "spec": {"matchConstraints": {"resourceRules": [of_kind]}, "validations": [validation]}}));
        let here = json!({"matchLabels": {"kubernetes.io/metadata.name": self.namespace}});
        self.apply(&json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"], "matchResources": {"namespaceSelector": here}}}));
        let is_denied = || {
            let out = self.cluster.try_kubectl(&[&["-n", &self.namespace], probe].concat());
            String::from_utf8_lossy(&out.stderr).contains(rule.message)
        };
        self.until_true("the policy is in force", is_denied);
    }

    /// Takes such a policy away, and waits until `probe` is taken again.
    pub fn allow_again(&self, rule: &Denied<'_>, probe: &[&str]) {
        let name = format!("{}-{}", rule.name, self.namespace);
        self.kubectl(&[
            "delete",
            "validatingadmissionpolicybinding,validatingadmissionpolicy",
            &name,
        ]);
        let is_taken = || {
            self.cluster.try_kubectl(&[&["-n", &self.namespace], probe].concat()).status.success()
        };
        self.until_true("the policy is gone", is_taken);
    }

    /// The uids of its pods that are not being deleted and whose image has that tag, sorted.
    pub fn pods_of(&self, tag: &str) -> Vec<String> {
        let of_tag = |pod: &Value| {
            pod["metadata"].get("deletionTimestamp").is_none()
                && pod["spec"]["containers"][0]["image"]
                    .as_str()
                    .is_some_and(|i| i.ends_with(&format!(":{tag}")))
        };
        let pods = self.list("pod");
        let uid = |pod: &Value| pod["metadata"]["uid"].as_str().unwrap().to_owned();
        let mut uids: Vec<String> = pods.iter().filter(|p| of_tag(p)).map(uid).collect();
        uids.sort();
        uids
    }

    /// Applies objects given as one JSON value or a list of them.
    pub fn apply(&self, object: &Value) {
        self.cluster.kubectl_in(&["-n", &self.namespace, "apply", "-f", "-"], &object.to_string());
    }

    /// Applies an object that has to be refused, and gives the sentence.
    pub fn apply_refused(&self, object: &Value) -> String {
        let out = self
            .cluster
            .try_kubectl_in(&["-n", &self.namespace, "apply", "-f", "-"], &object.to_string());
        assert!(!out.status.success(), "it was accepted: {object}");
        String::from_utf8_lossy(&out.stderr).into_owned()
    }

    /// A ModelVersion of fraud whose image has that tag; see the levers.
    pub fn version(&self, version: &str, tag: &str) {
        self.apply(&version_of(
            "fraud",
            version,
            json!({"image": format!("registry.example.com/fraud:{tag}")}),
        ));
    }

    /// ModelDeployment fraud on that version, with two pods.
    pub fn deploy(&self, version: &str) {
        self.apply(&deployment(
            "fraud",
            json!({"model": "fraud", "version": version, "replicas": 2}),
        ));
    }

    /// Says that a volume and a claim are bound, as a provisioner would.
    pub fn set_bound(&self, volume: &str, claim: &str) {
        let status = json!({"status": {"phase": "Bound"}}).to_string();
        for (kind, object) in [("pv", volume), ("pvc", claim)] {
            let of_status = ["--subresource=status", "--type=merge", "-p", &status];
            self.kubectl(&[&["patch", kind, object][..], &of_status].concat());
        }
    }

    /// Merges into the spec of ModelDeployment fraud.
    pub fn patch(&self, spec: &Value) {
        self.kubectl(&[
            "patch",
            "mdep",
            "fraud",
            "--type=merge",
            "-p",
            &json!({"spec": spec}).to_string(),
        ]);
    }

    /// Names another version in the spec.
    pub fn want(&self, version: &str) {
        self.patch(&json!({"version": version}));
    }

    /// One object as JSON.
    pub fn get(&self, kind: &str, name: &str) -> Value {
        serde_json::from_str(&self.kubectl(&["get", kind, name, "-o", "json"])).unwrap()
    }

    /// One object as JSON, None where it is not there.
    pub fn find(&self, kind: &str, name: &str) -> Option<Value> {
        let out = self.kubectl(&["get", kind, name, "-o", "json", "--ignore-not-found"]);
        (!out.trim().is_empty()).then(|| serde_json::from_str(&out).unwrap())
    }

    /// Every object of a kind.
    pub fn list(&self, kind: &str) -> Vec<Value> {
        let list: Value =
            serde_json::from_str(&self.kubectl(&["get", kind, "-o", "json"])).unwrap();
        list["items"].as_array().unwrap().clone()
    }

    /// ModelDeployment fraud.
    pub fn mdep(&self) -> Value {
        self.get("mdep", "fraud")
    }

    /// The message in its status.
    pub fn message(&self) -> String {
        self.mdep()["status"]["message"].as_str().unwrap_or_default().to_owned()
    }

    /// The status of one of its conditions; empty where it has none.
    pub fn condition(&self, kind: &str) -> String {
        condition(&self.mdep(), kind)["status"].as_str().unwrap_or_default().to_owned()
    }

    /// The spec of its rollout's record.
    pub fn record(&self, number: u32) -> Value {
        self.get("mro", &format!("fraud-{number}"))["spec"].clone()
    }

    /// How many rollouts it had.
    pub fn rollouts(&self) -> usize {
        self.list("mro").len()
    }

    /// The number of its newest rollout.
    pub fn newest(&self) -> i64 {
        self.list("mro").iter().filter_map(|r| r["spec"]["number"].as_i64()).max().unwrap_or(0)
    }

    /// The newest decision, as `status.decision` says it once it tells of every record that is there
    /// now: what a person gives as ifDecision.
    pub fn decision(&self) -> String {
        let records = self.list("mro");
        let newest = records.iter().max_by_key(|r| r["spec"]["number"].as_i64());
        let recorded = newest.map_or("0".to_owned(), |r| {
            let decisions = r["spec"]["decisions"].as_array().map_or(0, Vec::len);
            format!("{}.{decisions}", r["spec"]["number"])
        });
        let told = |o: &Value| o["status"]["decision"].as_str().unwrap_or("0") == recorded;
        self.until(&format!("status.decision is {recorded}"), told);
        recorded
    }

    /// The image that the serving Deployment's template names.
    pub fn image(&self) -> String {
        self.get("deployment", "fraud")["spec"]["template"]["spec"]["containers"][0]["image"]
            .as_str()
            .unwrap()
            .to_owned()
    }

    /// Waits until something holds of ModelDeployment fraud, watching it, and gives it.
    pub fn until(&self, what: &str, is: impl Fn(&Value) -> bool) -> Value {
        let (began, patience) = (Instant::now(), self.cluster.patience());
        // Without kubectl, of which each start costs as much as what is waited for.
        let rest = Rest::new(self.cluster, &self.namespace);
        loop {
            let object = rest.get("modeldeployments/fraud").unwrap_or_default();
            if is(&object) {
                return object;
            }
            assert!(
                began.elapsed() < patience,
                "{what}: not within {patience:?}\n{}\n{}",
                serde_json::to_string_pretty(&object["status"]).unwrap(),
                self.log()
            );
            std::thread::park_timeout(Duration::from_millis(60));
        }
    }

    /// Waits until anything holds.
    pub fn until_true(&self, what: &str, is: impl Fn() -> bool) {
        let (began, patience) = (Instant::now(), self.cluster.patience());
        while !is() {
            assert!(began.elapsed() < patience, "{what}: not within {patience:?}\n{}", self.log());
            std::thread::park_timeout(Duration::from_millis(60));
        }
    }

    /// Waits until the operator answered the newest spec with that state word.
    pub fn state(&self, state: &str) -> Value {
        self.until(&format!("state {state}"), |o| observed(o) && o["status"]["state"] == state)
    }

    /// Waits until it serves that version, as its spec names or as it is held.
    pub fn serves(&self, version: &str) -> Value {
        self.until(&format!("serves {version}"), |o| {
            let status = &o["status"];
            observed(o)
                && status["serving"]["version"] == version
                && status.get("candidate").is_none()
                && status["state"] != "Rolling"
        })
    }

    /// Waits until it is held on (or rolled back to) that version.
    pub fn settles(&self, state: &str, serving: &str) -> Value {
        self.until(&format!("{state} on {serving}"), |o| {
            observed(o)
                && o["status"]["state"] == state
                && o["status"]["serving"]["version"] == serving
        })
    }

    /// Asks for a verb as alice, seeing the newest decision, and gives the answer.
    pub fn ask(&self, verb: &str) -> Value {
        self.ask_with(json!({"verb": verb, "ifDecision": self.decision()}))
    }

    /// Asks as the spec says, and gives the answered request.
    pub fn ask_with(&self, spec: Value) -> Value {
        let name = self.request(spec);
        self.until_true("the request is answered", || {
            self.get("rreq", &name)["status"].get("result").is_some()
        });
        self.get("rreq", &name)
    }

    /// Makes a request, and gives its name.
    pub fn request(&self, mut spec: Value) -> String {
        spec["modelDeployment"] = json!("fraud");
        spec["requestedBy"] = json!("alice");
        spec["reason"] = json!("latency");
        let object = json!({"apiVersion": "rollmodel.dev/v1alpha1", "kind": "RolloutRequest", "metadata": {"generateName": "fraud-"}, "spec": spec});
        let out = self.cluster.kubectl_in(
            &["-n", &self.namespace, "create", "-f", "-", "-o", "name"],
            &object.to_string(),
        );
        out.trim().rsplit('/').next().unwrap().to_owned()
    }

    /// Waits until an Event with that reason was told, and gives its note.
    pub fn event(&self, reason: &str) -> String {
        let find = || {
            self.list("events.events.k8s.io").into_iter().find(|e| {
                e["reason"] == reason
                    && e["reportingController"]
                        .as_str()
                        .is_some_and(|c| c.starts_with("rollmodel.dev"))
            })
        };
        self.until_true(&format!("an Event {reason}"), || find().is_some());
        find().unwrap()["note"].as_str().unwrap_or_default().to_owned()
    }

    /// The end of the operator's log.
    pub fn log(&self) -> String {
        let log = self.operator.as_ref().map(|o| o.process.log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(25).collect();
        lines.into_iter().rev().map(|l| format!("{l}\n")).collect()
    }
}

/// Whether the operator answered the newest spec.
pub fn observed(object: &Value) -> bool {
    object["metadata"]["generation"].is_i64()
        && object["metadata"]["generation"] == object["status"]["observedGeneration"]
}

/// One condition of an object; null where it has none.
pub fn condition(object: &Value, kind: &str) -> Value {
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|c| c["type"] == kind).unwrap_or_default()
}

/// A ModelVersion with more in its spec.
pub fn version_of(model: &str, version: &str, mut spec: Value) -> Value {
    spec["model"] = json!(model);
    spec["version"] = json!(version);
    let name = format!("{model}-{version}").to_lowercase().replace('_', "-");
    json!({"apiVersion": "rollmodel.dev/v1alpha1", "kind": "ModelVersion", "metadata": {"name": name}, "spec": spec})
}

/// A ModelDeployment.
pub fn deployment(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "rollmodel.dev/v1alpha1", "kind": "ModelDeployment", "metadata": {"name": name}, "spec": spec})
}
