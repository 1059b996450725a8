//! One test's corner of the node: a namespace with an operator, models in a bucket, and a ModelDeployment `fraud`.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::{
    harness::{
        operator::Operator,
        rest::within,
        story::{Story, condition, deployment},
    },
    models::{BETTER, BROKEN, CREDENTIALS, GOOD, IMPORTER, Models, TAMPERED},
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
        let story = Story { cluster: &node.cluster, namespace: node.cluster.namespace(hint), operator: None };
        let mut corner = Self { node, story, models };
        corner.start_operator();
        corner.story.apply(&models.secret());
        corner
    }

    /// Starts the operator (again).
    pub fn start_operator(&mut self) {
        let cluster = self.story.cluster;
        let flags = ["--namespace", &self.story.namespace, "--leader-elect=false", "--fetch-image", FETCH_IMAGE];
        let operator = Operator::start(cluster, &cluster.kubeconfig(), &flags);
        operator.wait_ready(cluster);
        self.story.operator = Some(operator);
    }

    /// Has a ModelRegistry import what was trained, to be served by an image, and waits until it is there.
    pub fn import(&self, image: &str) {
        let account = format!("--serviceaccount={}:{IMPORTER}", self.story.namespace);
        self.story.kubectl(&["create", "serviceaccount", IMPORTER]);
        self.story.kubectl(&["create", "rolebinding", IMPORTER, "--clusterrole=rollmodel-importer", &account]);
        self.story.apply(&self.models.registry(image));
        for version in [GOOD, BETTER, TAMPERED, BROKEN] {
            self.appears(&format!("fraud-{version}"));
        }
        self.appears(&format!("trial-{}", self.models.logged));
    }

    /// Waits until a ModelVersion is there.
    pub fn appears(&self, name: &str) {
        let there = || self.story.find("mv", name).is_some();
        let registry = || self.story.find("mreg", "mlflow").unwrap_or_default()["status"].to_string();
        within(self.story.cluster.patience(), there, || format!("ModelVersion {name} does not appear: {}", registry()));
    }

    /// Applies ModelDeployment fraud.
    pub fn deploy(&self, spec: Value) {
        self.story.apply(&deployment("fraud", spec));
    }

    /// Where clients talk to it.
    pub fn address(&self) -> SocketAddr {
        let service = self.story.get("service", "fraud");
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("{}:{}", text(&service["spec"]["clusterIP"]), text(&service["spec"]["ports"][0]["port"])).parse().unwrap()
    }

    /// Why it is stalled.
    pub fn stalled(&self) -> String {
        condition(&self.story.mdep(), "Stalled")["message"].as_str().unwrap_or_default().to_owned()
    }
}

/// A ModelDeployment's spec: pods as the restricted Pod Security Standard wants them.
pub fn spec(version: &str, replicas: u32) -> Value {
    let resources = json!({"requests": {"cpu": "50m", "memory": "256Mi"}});
    let locked = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true});
    let container = json!({"name": "model", "resources": resources, "securityContext": locked,
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]});
    let user =
        json!({"runAsNonRoot": true, "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"}});
    let template = json!({"spec": {"automountServiceAccountToken": false, "securityContext": user, "containers": [container],
        "volumes": [{"name": "tmp", "emptyDir": {}}]}});
    json!({"model": "fraud", "version": version, "replicas": replicas, "delivery": {"credentialsSecret": {"name": CREDENTIALS}},
        "template": template, "progressDeadlineSeconds": 180})
}
