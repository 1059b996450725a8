//! The mapping, on answers of a real server.

use serde_json::json;

use super::*;
use crate::import::{artifact::Small, mlflow::wire};

fn run() -> Run {
    serde_json::from_value(json!({
        "info": {"run_id": "8bfc", "experiment_id": "3", "user_id": "root", "status": "FINISHED", "start_time": 1_795_800_683_933_i64,
            "end_time": 1_795_800_691_340_i64, "lifecycle_stage": "active"},
        "data": {
            "params": [{"key": "C", "value": "1.0"}, {"key": "late", "value": "yes"}, {"key": "long", "value": "x".repeat(6000)}],
            "metrics": [{"key": "accuracy", "value": 0.97, "timestamp": 1, "step": 0}],
            "tags": [{"key": "mlflow.user", "value": "alice"}, {"key": "mlflow.source.name", "value": "train.py"},
                {"key": "mlflow.source.git.commit", "value": "4be1c9d"},
                {"key": "mlflow.source.git.repoURL", "value": "https://alice:hunter2@git.example.com/risk/fraud.git?token=x"},
                {"key": "rollmodel.dev/image", "value": "reg/train@sha256:aa"}],
        },
        "inputs": {"dataset_inputs": [
            {"tags": [{"key": "mlflow.data.context", "value": "train"}], "dataset": {"name": "tx", "digest": "8f9eb48c", "source": "{\"uri\": \"s3://data/tx\"}"}},
            {"tags": [{"key": "mlflow.data.context", "value": "eval"}], "dataset": {"name": "holdout", "digest": "aa", "source": "{\"url\": \"https://u:p@d.example.com/h.csv?sig=s\"}"}},
            {"tags": [], "dataset": {"name": "code", "digest": "", "source": "{\"tags\": {}}"}},
            {"tags": [{"key": "mlflow.data.context", "value": "train"}], "dataset": {"name": "tx", "digest": "8f9eb48c", "source": "{}"}},
        ]},
        "outputs": {"model_outputs": [{"model_id": "m-1", "step": 0}]},
    }))
    .unwrap()
}

fn logged() -> Logged {
    let answer = json!({"model": {"info": {"model_id": "m-1"}, "data": {"params": [{"key": "C", "value": "2.0"}, {"key": "own", "value": "1"}]}}});
    serde_json::from_value::<wire::LoggedAnswer>(answer).unwrap().model
}

fn artifact() -> Artifact {
    let file =
        |text: &str| Small { bytes: text.into(), digest: Digest::of(text.as_bytes()).to_string() };
    let small = [
        ("MLmodel", "flavors:\n  sklearn: {sklearn_version: 1.9.1}\n"),
        ("python_env.yaml", "python: 3.11.7\n"),
        ("requirements.txt", "scikit-learn==1.9.1\n"),
    ];
    let small = small.into_iter().map(|(name, text)| (name.to_owned(), file(text))).collect();
    Artifact { digest: format!("sha256:{}", "d".repeat(64)), size: 42, small }
}

fn described(run: Option<&Run>, logged: Option<&Logged>, artifact: &Artifact) -> Described {
    let origin = Origin {
        registry: "mlflow".into(),
        system: SYSTEM.into(),
        model: Some("Fraud".into()),
        version: Some("7".into()),
        id: None,
        time: None,
    };
    let pages = Url::parse("https://mlflow.example.com/team/").unwrap();
    describe(&Known {
        model: "fraud",
        version: "7",
        image: Some("reg/serve@sha256:bb"),
        origin: &origin,
        description: "",
        run,
        logged,
        uri: "s3://models/art/1/models/m-1/artifacts",
        artifact,
        pages: &pages,
        workspace: None,
    })
}

#[test]
fn what_reproducing_it_needs_is_in_the_record() {
    let spec = described(Some(&run()), Some(&logged()), &artifact()).spec;
    let value = serde_json::to_value(&spec).unwrap();
    assert_eq!(value["parameters"]["C"], "2.0", "the model's own win");
    assert_eq!(
        (&value["parameters"]["late"], &value["parameters"]["own"]),
        (&json!("yes"), &json!("1"))
    );
    assert!(
        spec.parameters["long"].starts_with("sha256:")
            && spec.parameters["long"].ends_with(" (6000 characters)")
    );
    assert_eq!(value["metrics"], json!([{"name": "accuracy", "value": 0.97}]));
    assert_eq!(
        value["datasets"],
        json!([{"name": "code"}, {"name": "holdout", "role": "evaluation", "uri": "https://d.example.com/h.csv", "digest": "mlflow:aa"},
            {"name": "tx", "role": "training", "uri": "s3://data/tx", "digest": "mlflow:8f9eb48c"}])
    );
    assert_eq!(value["framework"], json!({"name": "scikit-learn", "version": "1.9.1"}));
    assert_eq!(
        value["environment"],
        json!({"image": "reg/train@sha256:aa", "language": "python", "languageVersion": "3.11.7", "lockfile": {
            "uri": "s3://models/art/1/models/m-1/artifacts/requirements.txt", "digest": Digest::of(b"scikit-learn==1.9.1\n").to_string()}})
    );
    assert_eq!(
        value["code"],
        json!({"repository": "https://git.example.com/risk/fraud.git", "commit": "4be1c9d", "path": "train.py"})
    );
    assert_eq!(
        value["run"],
        json!({"system": "MLflow", "id": "8bfc", "url": "https://mlflow.example.com/team/#/experiments/3/runs/8bfc", "user": "alice",
            "startTime": "2026-11-27T17:31:23Z", "endTime": "2026-11-27T17:31:31Z"})
    );
    assert_eq!(value["artifact"]["format"], "mlflow");
    assert!(!value.to_string().contains("hunter2"));
}

#[test]
fn a_version_without_a_run_or_a_model_file_is_a_record_all_the_same() {
    let bare = Artifact { small: BTreeMap::new(), ..artifact() };
    let value = serde_json::to_value(described(None, None, &bare).spec).unwrap();
    let fields: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["artifact", "image", "model", "origin", "version"]);
}

#[test]
fn what_is_too_much_is_left_out_and_told() {
    let many = |n: usize| {
        (0..n).map(|i| json!({"key": format!("p{i:04}"), "value": "1"})).collect::<Vec<_>>()
    };
    let run: Run = serde_json::from_value(json!({"data": {"params": many(250)}})).unwrap();
    let described = described(Some(&run), None, &artifact());
    assert_eq!(
        (described.spec.parameters.len(), described.left_out),
        (200, vec!["50 parameters after the first 200".to_owned()])
    );
}

#[test]
fn a_logged_model_is_called_by_when_it_was_made() {
    let made = "2026-11-24T08:13:41.9Z".parse().unwrap();
    assert_eq!(
        time_version(made, "m-60a2ee64f0d14b4c9e1d0a0f3d2b1c5a"),
        "20261124-081341-60a2ee64"
    );
}
