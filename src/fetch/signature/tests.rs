//! Signatures made by `model_signing` itself (`tests/fixtures/signature/make.sh`), and others made
//! here to be refused.

use std::{fs, path::Path};

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{KeyPair, SigningKey};
use serde_json::{Value, json};

use super::*;
use crate::fetch::digest::root;

mod accepted;
mod altered;
mod certificates;
mod files;
mod refused;

const ARTIFACT: &str = "s3://models/tiny";

fn fixture(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/signature").join(name))
        .unwrap()
}

fn text(name: &str) -> String {
    String::from_utf8(fixture(name)).unwrap()
}

fn parsed(bundle: &[u8]) -> Value {
    serde_json::from_slice(bundle).unwrap()
}

/// The statement in a bundle.
fn statement_in(bundle: &[u8]) -> Value {
    serde_json::from_slice(
        &STANDARD.decode(parsed(bundle)["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap(),
    )
    .unwrap()
}

fn path(name: &str) -> RelativePath {
    RelativePath::parse(name).unwrap()
}

fn sha256(bytes: &[u8]) -> Digest {
    Digest::of(bytes)
}

/// The files of the fixtures' model, hashed.
fn model() -> Files {
    fn walk(directory: &Path, prefix: &str, files: &mut Files) {
        for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
            let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
            match entry.file_type().unwrap().is_dir() {
                true => walk(&entry.path(), &format!("{name}/"), files),
                false => drop(files.insert(path(&name), sha256(&fs::read(entry.path()).unwrap()))),
            }
        }
    }
    let mut files = Files::new();
    walk(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/signature/model"),
        "",
        &mut files,
    );
    assert!(files.len() > 4);
    files
}

fn keys(pems: &[&str]) -> Trust {
    Trust::parse(pems, &[]).unwrap()
}

fn certificates(pems: &[&str]) -> Trust {
    Trust::parse(&[], pems).unwrap()
}

/// Whether the model's own files are accepted.
fn checked(bundle: &[u8], trust: &Trust) -> Result<Signed, Why> {
    verify(bundle, trust, &model(), None, ARTIFACT).map_err(|e| e.why)
}

/// A statement about files, as `model_signing` makes it.
fn statement(files: &Files) -> Value {
    let resource = |(path, digest): (&RelativePath, &Digest)| json!({"name": path.as_str(), "algorithm": "sha256", "digest": digest.hex()});
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "model", "digest": {"sha256": root(files).hex()}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {
            "serialization": {"method": "files", "hash_type": "sha256", "allow_symlinks": false, "ignore_paths": [".git", "model.sig"]},
            "resources": files.iter().map(resource).collect::<Vec<_>>(),
        },
    })
}

/// A bundle around any payload, signed by `key`.
fn bundle_of(payload: &[u8], key: &KeyPair, material: &Value) -> Vec<u8> {
    let kind = "application/vnd.in-toto+json";
    let message = [format!("DSSEv1 28 {kind} {} ", payload.len()).as_bytes(), payload].concat();
    json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": material,
        "dsseEnvelope": {
            "payload": STANDARD.encode(payload),
            "payloadType": kind,
            "signatures": [{"sig": STANDARD.encode(key.sign(&message).unwrap()), "keyid": ""}],
        },
    })
    .to_string()
    .into_bytes()
}

/// What comes of a statement that a trusted key signed.
fn said(statement: &Value) -> Result<Signed, Why> {
    let key = KeyPair::generate().unwrap();
    let bundle =
        bundle_of(statement.to_string().as_bytes(), &key, &json!({"publicKey": {"hint": ""}}));
    checked(&bundle, &keys(&[&key.public_key_pem()]))
}

/// A bundle in which the value at a JSON pointer is another.
fn with(bundle: &[u8], pointer: &str, value: Value) -> Vec<u8> {
    let mut bundle = parsed(bundle);
    *bundle.pointer_mut(pointer).unwrap() = value;
    bundle.to_string().into_bytes()
}

/// A bundle whose payload is changed as text.
fn with_payload(bundle: &[u8], from: &str, to: &str) -> Vec<u8> {
    let payload = String::from_utf8(
        STANDARD.decode(parsed(bundle)["dsseEnvelope"]["payload"].as_str().unwrap()).unwrap(),
    )
    .unwrap();
    assert!(payload.contains(from));
    with(bundle, "/dsseEnvelope/payload", json!(STANDARD.encode(payload.replacen(from, to, 1))))
}
