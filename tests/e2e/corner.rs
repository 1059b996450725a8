//! One test's corner of the node: a namespace with an operator, models in a bucket, and a
//! ModelDeployment `fraud`.

use std::{net::SocketAddr, thread};

use serde_json::{Value, json};

use crate::{
    harness::{
        operator::Operator,
        rest::{Rest, within},
        story::{Story, condition, deployment},
    },
    models::{BETTER, BROKEN, CREDENTIALS, GOOD, IMPORTER, Models, TAMPERED, TREES},
    node::{FETCH_IMAGE, Node},
};

/// One test's corner of the node.
pub struct Corner {
    /// The node, and the control plane.
    pub node: &'static Node,
    /// The namespace and its operator.
    pub story: Story,
    /// What was trained.
    pub models: &'static Models,
}

impl Corner {
    /// A namespace with an operator that watches it, and the Secret of the bucket.
    pub fn begin(hint: &str) -> Self {
        let (node, models) = Models::shared();
        let story = Story {
            cluster: &node.cluster,
            namespace: node.cluster.namespace(hint),
            operator: None,
        };
        let mut corner = Self { node, story, models };
        corner.start_operator();
        corner.story.apply(&models.secret());
        corner
    }

    /// Starts the operator (again).
    pub fn start_operator(&mut self) {
        let cluster = self.story.cluster;
        let flags = [
            "--namespace",
            &self.story.namespace,
            "--leader-elect=false",
            "--fetch-image",
            FETCH_IMAGE,
        ];
        let operator = Operator::start(cluster, &cluster.kubeconfig(), &flags);
        operator.wait_ready(cluster);
        self.story.operator = Some(operator);
    }

    /// Has a ModelRegistry import what was trained, to be served by an image, and waits until it is
    /// there.
    pub fn import(&self, image: &str) {
        let account = format!("--serviceaccount={}:{IMPORTER}", self.story.namespace);
        self.story.kubectl(&["create", "serviceaccount", IMPORTER]);
        self.story.kubectl(&[
            "create",
            "rolebinding",
            IMPORTER,
            "--clusterrole=rollmodel-importer",
            &account,
        ]);
        self.story.apply(&self.models.registry(image));
        let mut wanted: Vec<String> =
            [GOOD, BETTER, TAMPERED, BROKEN].map(|version| format!("fraud-{version}")).into();
        wanted.extend([TREES.to_owned(), format!("trial-{}", self.models.logged)]);
        self.appear(&wanted);
    }

    /// Waits until a ModelVersion is there.
    pub fn appears(&self, name: &str) {
        self.appear(&[name.to_owned()]);
    }

    fn appear(&self, names: &[String]) {
        let rest = Rest::new(self.story.cluster, &self.story.namespace);
        let registry =
            || self.story.find("mreg", "mlflow").unwrap_or_default()["status"].to_string();
        for name in names {
            let there = || rest.get(&format!("modelversions/{name}")).is_some();
            within(self.story.cluster.patience(), there, || {
                format!("ModelVersion {name} does not appear: {}", registry())
            });
        }
    }

    /// Applies ModelDeployment fraud.
    pub fn deploy(&self, spec: Value) {
        self.story.apply(&deployment("fraud", spec));
    }

    /// Where clients talk to it.
    pub fn address(&self) -> SocketAddr {
        let service = self.story.get("service", "fraud");
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!(
            "{}:{}",
            text(&service["spec"]["clusterIP"]),
            text(&service["spec"]["ports"][0]["port"])
        )
        .parse()
        .unwrap()
    }

    /// Why it is stalled.
    pub fn stalled(&self) -> String {
        condition(&self.story.mdep(), "Stalled")["message"].as_str().unwrap_or_default().to_owned()
    }
}

impl Drop for Corner {
    /// What a failure was about; and nothing runs on that would be in the way of the next test.
    fn drop(&mut self) {
        let kubectl = |args: &[&str]| {
            let out =
                self.story.cluster.try_kubectl(&[&["-n", &self.story.namespace], args].concat());
            String::from_utf8_lossy(&[out.stdout, out.stderr].concat()).into_owned()
        };
        if !thread::panicking() {
            kubectl(&["delete", "mdep,mreg", "--all", "--wait=false"]);
            return;
        }
        for args in
            [&["get", "mdep,mv,mro,pods"][..], &["get", "events", "--sort-by=.lastTimestamp"]]
        {
            eprintln!("--- kubectl {}\n{}", args.join(" "), kubectl(args));
        }
        for label in ["rollmodel.dev/model-deployment", "rollmodel.dev/registry"] {
            eprintln!(
                "--- logs of pods with {label}\n{}",
                kubectl(&["logs", "-l", label, "--all-containers", "--prefix", "--tail=12"])
            );
        }
        eprintln!("--- mlflow server\n{}{}", self.models.log_end(), self.node.log_ends());
    }
}

/// A ModelDeployment's spec: pods as the restricted Pod Security Standard wants them.
pub fn spec(version: &str, replicas: u32) -> Value {
    let resources = json!({"requests": {"cpu": "50m", "memory": "256Mi"}});
    let locked = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true});
    let container = json!({"name": "model", "resources": resources, "securityContext": locked,
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]});
    let user = json!({"runAsNonRoot": true, "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"}});
    let template = json!({"spec": {"automountServiceAccountToken": false, "securityContext": user, "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}]}});
    // Loading takes most of a rollout's time: new pods do it side by side.
    let strategy = json!({"rollingUpdate": {"maxSurge": "100%", "maxUnavailable": 0}});
    json!({"model": "fraud", "version": version, "replicas": replicas, "delivery": {"credentialsSecret": {"name": CREDENTIALS}},
        "template": template, "progressDeadlineSeconds": 180, "strategy": strategy})
}
