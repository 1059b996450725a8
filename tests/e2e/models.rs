//! Real models: trained by scripts in Jobs that know nothing of Rollmodel, and logged to a real
//! tracking server, from which a ModelRegistry imports them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
    thread,
    time::Instant,
};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    harness::root,
    node::{self, MLSERVER, Node},
    servers::{proxy::Seen, run},
    tracking::{self, Tracking},
};

/// The Secret by which pods read the bucket.
pub const CREDENTIALS: &str = "models-s3";
/// The ServiceAccount that imports.
pub const IMPORTER: &str = "model-importer";
/// The first model, and one that is better.
pub const GOOD: &str = "1";
/// See [`GOOD`].
pub const BETTER: &str = "2";
/// The better one, trained once more: its bytes in the bucket are changed after it was registered.
pub const TAMPERED: &str = "3";
/// One that no server can load.
pub const BROKEN: &str = "4";
/// The better one of the next night, trained when [`Models::train_again`] is called.
pub const NIGHTLY: &str = "5";
/// What [`Models::answers`] knows the one version of model `flowers` by, which is of another
/// library.
pub const TREES: &str = "flowers-1";
/// What the registered model is called by those who train it.
const REGISTERED: &str = "Fraud Score";
/// What that of [`TREES`] is.
const FLOWERS: &str = "Flower Age";
/// The experiment of runs that register nothing.
const TRIAL: &str = "trial";
/// Where Jobs train.
const NAMESPACE: &str = "training";

/// What was trained, and what it answers.
pub struct Models {
    tracking: &'static Tracking,
    /// Where the files of each version are.
    uris: BTreeMap<String, String>,
    /// The version of `trial` that was logged and not registered.
    pub logged: String,
    /// What every prediction asks.
    pub question: Vec<Vec<f64>>,
    answers: BTreeMap<String, Vec<f64>>,
}

impl Models {
    /// Those of this test process, trained on its node.
    pub fn shared() -> (&'static Node, &'static Self) {
        static SHARED: OnceLock<Models> = OnceLock::new();
        let train = || {
            // Both take their time to start.
            let starting = thread::spawn(|| Tracking::shared(&node::address()));
            let node = Node::shared();
            Self::train(node, starting.join().unwrap())
        };
        let models = SHARED.get_or_init(train);
        (Node::shared(), models)
    }

    fn train(node: &Node, tracking: &'static Tracking) -> Self {
        node.cluster.kubectl(&["create", "namespace", NAMESPACE]);
        apply(node, &scripts());
        // In this order they get their numbers.
        apply(node, &job("fraud", &["good", "better", "better", "broken"], &tracking.url));
        apply(node, &job(TRIAL, &["logged"], &tracking.url));
        apply(node, &job("flowers", &["trees"], &tracking.url));
        trained(node);
        let mut uris = tracking.versions(REGISTERED);
        let logged = tracking.logged(TRIAL).pop().unwrap();
        let time = Timestamp::from_millisecond(logged.created)
            .unwrap()
            .strftime("%Y%m%d-%H%M%S")
            .to_string();
        let version = format!("{time}-{}", &logged.id["m-".len()..][..8]);
        let registered =
            |version: &str| (version.to_owned(), format!("models:/{REGISTERED}/{version}"));
        let trees = (TREES.to_owned(), format!("models:/{FLOWERS}/1"));
        let asked = [
            registered(GOOD),
            registered(BETTER),
            (version.clone(), format!("models:/{}", logged.id)),
            trees,
        ];
        uris.insert(version.clone(), logged.uri);
        let (question, answers) = ask(tracking, &asked);
        Self { tracking, uris, logged: version, question, answers }
    }

    /// Trains the better one as [`NIGHTLY`], and gives what it answers.
    pub fn train_again(&self, node: &Node) -> Vec<f64> {
        apply(node, &job("nightly", &["better"], &self.tracking.url));
        trained(node);
        let (_, mut answers) =
            ask(self.tracking, &[(NIGHTLY.to_owned(), format!("models:/{REGISTERED}/{NIGHTLY}"))]);
        answers.remove(NIGHTLY).unwrap()
    }

    /// What each version answers by its model's own `predict`.
    pub fn answers(&self, version: &str) -> &Vec<f64> {
        &self.answers[version]
    }

    /// All of those.
    pub fn all_answers(&self) -> &BTreeMap<String, Vec<f64>> {
        &self.answers
    }

    /// What imports them, served by an image.
    pub fn registry(&self, image: &str) -> Value {
        let fraud = json!({"name": "fraud", "registeredModel": REGISTERED, "image": image});
        let flowers = json!({"name": "flowers", "registeredModel": FLOWERS, "image": image});
        let trial = json!({"name": TRIAL, "loggedModels": {"experiment": TRIAL}, "image": image});
        let mlflow = json!({"url": self.tracking.url_of_importers(), "artifactsDestination": tracking::DESTINATION});
        json!({"apiVersion": "rollmodel.dev/v1alpha1", "kind": "ModelRegistry", "metadata": {"name": "mlflow"}, "spec": {"mlflow": mlflow,
            "serviceAccountName": IMPORTER, "intervalSeconds": 10, "models": [fraud, flowers, trial], "credentialsSecret": {"name": CREDENTIALS}}})
    }

    /// Changes one byte of a version's weights in the bucket, or changes it back.
    pub fn tamper(&self, version: &str) {
        let file = self.tracking.file(&self.uris[version], "model.skops");
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, bytes).unwrap();
    }

    /// Puts one more file to a version's.
    pub fn add(&self, version: &str, file: &Path) {
        self.tracking.put(&self.uris[version], file);
    }

    /// Takes it away again.
    pub fn remove(&self, version: &str, file: &Path) {
        fs::remove_file(self.file(version, file.file_name().unwrap().to_str().unwrap())).unwrap();
    }

    /// Where one of a version's files is on the disk, behind the bucket's back.
    pub fn file(&self, version: &str, name: &str) -> PathBuf {
        self.tracking.file(&self.uris[version], name)
    }

    /// A version's files, by name.
    pub fn files(&self, version: &str) -> Vec<(String, Vec<u8>)> {
        let files = fs::read_dir(self.file(version, "")).unwrap().map(|entry| entry.unwrap());
        let read = |entry: fs::DirEntry| {
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        };
        files.filter(|entry| entry.file_type().unwrap().is_file()).map(read).collect()
    }

    /// When it was registered, by the tracking server's clock, which is this machine's.
    pub fn registered(&self, version: &str) -> Instant {
        let ago = Timestamp::now().duration_since(self.tracking.registered(REGISTERED, version));
        Instant::now() - ago.unsigned_abs()
    }

    /// What pods asked the bucket for of a version's files.
    pub fn fetched(&self, version: &str) -> Vec<Seen> {
        self.tracking.fetched(&self.tracking.versions(REGISTERED)[version])
    }

    /// What importers asked the tracking server for of a version's files.
    pub fn imported(&self, version: &str) -> Vec<Seen> {
        self.tracking.imported(&self.tracking.versions(REGISTERED)[version])
    }

    /// The end of the tracking server's log.
    pub fn log_end(&self) -> String {
        self.tracking.log_end()
    }

    /// The Secret for pods that read the bucket.
    pub fn secret(&self) -> Value {
        let data: BTreeMap<_, _> = self.tracking.credentials().into_iter().collect();
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": CREDENTIALS}, "stringData": data})
    }
}

/// What models predict by themselves, as MLflow loads them from the tracking server, beside no
/// server of ours; and the question.
fn ask(
    tracking: &Tracking,
    models: &[(String, String)],
) -> (Vec<Vec<f64>>, BTreeMap<String, Vec<f64>>) {
    let mut python = Command::new(node::tools("serving").join("bin/python"));
    python
        .arg(root().join("tests/e2e/training/ask.py"))
        .args(models.iter().map(|(_, uri)| uri))
        .env("MLFLOW_TRACKING_URI", &tracking.url);
    let told: Value = serde_json::from_slice(&run(&mut python)).unwrap();
    let answer = |uri: &String| serde_json::from_value(told["answers"][uri].clone()).unwrap();
    let answers = models.iter().map(|(version, uri)| (version.clone(), answer(uri))).collect();
    (serde_json::from_value(told["question"].clone()).unwrap(), answers)
}

fn apply(node: &Node, object: &Value) {
    node.cluster.kubectl_in(&["-n", NAMESPACE, "apply", "-f", "-"], &object.to_string());
}

/// Waits until every Job is done.
fn trained(node: &Node) {
    let kubectl = |args: &[&str]| node.cluster.try_kubectl(&[&["-n", NAMESPACE], args].concat());
    let done = kubectl(&["wait", "--for=condition=Complete", "job", "--all", "--timeout=600s"]);
    let logs = || {
        String::from_utf8_lossy(&kubectl(&["logs", "-l", "app=train", "--all-containers"]).stdout)
            .into_owned()
    };
    assert!(done.status.success(), "the models were not trained:\n{}", logs());
}

/// The scripts, as Jobs mount them.
fn scripts() -> Value {
    let files = fs::read_dir(root().join("tests/e2e/training")).unwrap().map(|e| e.unwrap().path());
    let python = files.filter(|path| path.extension().is_some_and(|x| x == "py"));
    let data: BTreeMap<String, String> = python
        .map(|path| {
            (
                path.file_name().unwrap().to_str().unwrap().to_owned(),
                fs::read_to_string(&path).unwrap(),
            )
        })
        .collect();
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "scripts"}, "data": data})
}

/// A Job that runs scripts one after the other, and carries nothing but MLflow's own variables.
fn job(experiment: &str, scripts: &[&str], url: &str) -> Value {
    let env = json!([{"name": "MLFLOW_TRACKING_URI", "value": url}, {"name": "MLFLOW_EXPERIMENT_NAME", "value": experiment}]);
    let mounts =
        json!([{"name": "scripts", "mountPath": "/scripts"}, {"name": "tmp", "mountPath": "/tmp"}]);
    let container = |(index, script): (usize, &&str)| {
        json!({"name": format!("{script}-{index}"), "image": MLSERVER, "command": ["/usr/local/bin/python3", format!("/scripts/{script}.py")],
            "env": env, "volumeMounts": mounts})
    };
    let mut containers: Vec<Value> = scripts.iter().enumerate().map(container).collect();
    let last = containers.pop();
    let pod = json!({"restartPolicy": "Never", "automountServiceAccountToken": false, "initContainers": containers, "containers": [last],
        "volumes": [{"name": "scripts", "configMap": {"name": "scripts"}}, {"name": "tmp", "emptyDir": {}}]});
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": experiment},
        "spec": {"backoffLimit": 0, "template": {"metadata": {"labels": {"app": "train"}}, "spec": pod}}})
}
