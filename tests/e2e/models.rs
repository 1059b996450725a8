//! Real models: trained by MLflow's own API, put into a real S3 server, and registered by the digest of what is there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::{
    harness::{root, story::version_of},
    node,
    servers::{
        Dir, run,
        s3::{KEY, REGION, S3, SECRET},
    },
};

/// The Secret by which pods read the bucket.
pub const CREDENTIALS: &str = "models-s3";
const BUCKET: &str = "models";

/// What was trained, and the bucket it is in.
pub struct Models {
    dir: Dir,
    s3: S3,
    /// What every prediction asks.
    pub question: Vec<Vec<f64>>,
    answers: Value,
}

impl Models {
    /// Trains them, and starts a bucket that is empty.
    pub fn train() -> Self {
        let dir = Dir::fresh("models");
        let python = node::tools("serving").join("bin/python");
        run(Command::new(python).arg(root().join("tests/e2e/training/train.py")).arg(dir.path()));
        let told: Value = serde_json::from_str(&fs::read_to_string(dir.join("answers.json")).unwrap()).unwrap();
        let s3 = S3::start_everywhere();
        s3.make_bucket(BUCKET);
        let question = serde_json::from_value(told["question"].clone()).unwrap();
        Self { dir, s3, question, answers: told["answers"].clone() }
    }

    /// What a model answers to the question by its own `predict`.
    pub fn answers(&self, model: &str) -> Vec<f64> {
        serde_json::from_value(self.answers[model].clone()).unwrap()
    }

    /// Puts a model into the bucket as that version, and gives its record, with the digest of its files on the disk.
    pub fn register(&self, model: &str, version: &str, image: &str) -> Value {
        let files = self.dir.join(model);
        for file in fs::read_dir(&files).unwrap().map(|e| e.unwrap().path()) {
            self.s3.put_file(BUCKET, &key(version, &file), &file);
        }
        let digest = run(Command::new(env!("CARGO_BIN_EXE_rollmodel-fetch")).arg("digest").arg(&files));
        let digest = String::from_utf8(digest).unwrap();
        let artifact = json!({"uri": format!("s3://{BUCKET}/fraud/{version}/"), "digest": digest.trim(), "format": "mlflow"});
        version_of("fraud", version, json!({"image": image, "artifact": artifact}))
    }

    /// Changes one byte of a version in the bucket, behind the server's back.
    pub fn tamper(&self, version: &str) {
        let file = self.bucket_file(version, "model.skops");
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, bytes).unwrap();
    }

    fn bucket_file(&self, version: &str, name: &str) -> PathBuf {
        self.s3.file(BUCKET, &format!("fraud/{version}/{name}"))
    }

    /// The Secret for pods that reach the bucket at that address.
    pub fn secret(&self, address: &str) -> Value {
        let endpoint = format!("http://{address}:{}", self.s3.port());
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": CREDENTIALS}, "stringData": {"AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_REGION": REGION, "AWS_ENDPOINT_URL": endpoint}})
    }
}

fn key(version: &str, file: &Path) -> String {
    format!("fraud/{version}/{}", file.file_name().unwrap().to_str().unwrap())
}
