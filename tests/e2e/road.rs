//! The road: from a model that MLflow saved to predictions, and back, under load.

use std::{net::SocketAddr, thread};

use serde_json::{Value, json};

use crate::{
    harness::{
        operator::Operator,
        story::{Story, condition, deployment},
    },
    models::{CREDENTIALS, Models},
    node::{FETCH_IMAGE, MLSERVER, Node},
    stream::{Answers, Stream, predict},
};

/// One test's corner of the node.
struct Road {
    node: &'static Node,
    story: Story,
    models: Models,
}

impl Road {
    /// A namespace with an operator that watches it, and models in a bucket.
    fn begin(hint: &str) -> Self {
        let training = thread::spawn(Models::train);
        let node = Node::shared();
        let models = training.join().unwrap();
        let mut story = Story { cluster: &node.cluster, namespace: node.cluster.namespace(hint), operator: None };
        start_operator(&mut story);
        story.apply(&models.secret(&node.address));
        Self { node, story, models }
    }

    /// ModelDeployment fraud on that version: pods as the restricted Pod Security Standard wants them.
    fn deploy(&self, version: &str, replicas: u32) {
        let resources = json!({"requests": {"cpu": "50m", "memory": "256Mi"}});
        let locked = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": true});
        let container = json!({"name": "model", "resources": resources, "securityContext": locked,
            "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]});
        let user = json!({"runAsNonRoot": true, "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000, "seccompProfile": {"type": "RuntimeDefault"}});
        let template = json!({"spec": {"automountServiceAccountToken": false, "securityContext": user, "containers": [container],
            "volumes": [{"name": "tmp", "emptyDir": {}}]}});
        let delivery = json!({"credentialsSecret": {"name": CREDENTIALS}});
        self.story.apply(&deployment(
            "fraud",
            json!({"model": "fraud", "version": version, "replicas": replicas, "delivery": delivery, "template": template,
                "progressDeadlineSeconds": 180}),
        ));
    }

    /// Where clients talk to it.
    fn address(&self) -> SocketAddr {
        let service = self.story.get("service", "fraud");
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("{}:{}", text(&service["spec"]["clusterIP"]), text(&service["spec"]["ports"][0]["port"])).parse().unwrap()
    }

    /// What each version's model predicts.
    fn answers(&self, of: &[(&str, &str)]) -> Answers {
        of.iter().map(|(version, model)| ((*version).to_owned(), self.models.answers(model))).collect()
    }

    fn stalled(&self) -> String {
        condition(&self.story.mdep(), "Stalled")["message"].as_str().unwrap_or_default().to_owned()
    }
}

fn start_operator(story: &mut Story) {
    let flags = ["--namespace", &story.namespace, "--leader-elect=false", "--fetch-image", FETCH_IMAGE];
    let operator = Operator::start(story.cluster, &story.cluster.kubeconfig(), &flags);
    operator.wait_ready(story.cluster);
    story.operator = Some(operator);
}

#[test]
#[ignore = "needs root and a machine of its own: make e2e"]
fn a_model_is_served_rolled_forward_and_undone_and_no_prediction_fails() {
    let road = Road::begin("road");
    let Road { node, story, models } = &road;
    for (version, model) in [("1", "good"), ("2", "better"), ("3", "better"), ("4", "broken")] {
        story.apply(&models.register(model, version, MLSERVER));
    }
    models.tamper("3");
    road.deploy("1", 2);
    story.serves("1");
    let first = predict(road.address(), "fraud", &models.question).unwrap();
    assert_eq!((first.version.as_str(), first.values), ("1", models.answers("good")));

    let stream = Stream::begin(road.address(), "fraud", &models.question);
    story.want("2");
    story.serves("2");
    story.until_true("version 2 alone answers", || stream.settled_on("2"));

    // Other bytes than were registered.
    story.want("3");
    story.settles("RolledBack", "2");
    assert!(
        road.stalled().contains("version 3 cannot be fetched: Mismatch: s3://models/fraud/3/ has digest sha256:"),
        "{}",
        road.stalled()
    );

    // A file that cannot be loaded.
    story.want("4");
    story.settles("RolledBack", "2");
    assert!(road.stalled().contains("zipfile.BadZipFile: File is not a zip file"), "{}", road.stalled());

    // Back by request, forward again, and back as kubectl does it.
    story.want("2");
    story.serves("2");
    let answered = story.ask("Undo");
    assert_eq!(answered["status"]["result"], "Done", "{answered}");
    story.settles("Held", "1");
    story.until_true("version 1 alone answers", || stream.settled_on("1"));

    // The kubelet and the operator are killed; pods and predictions go on, and so does a rollout once they are back.
    node.kill_kubelet();
    node.run_kubelet();
    stream.end().assert_right(&road.answers(&[("1", "good"), ("2", "better")]));
}
