//! `mlflow-artifacts+http(s)://`: what a real tracking server hands out.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, body::Bytes, extract::Request, response::Response};
use http::{StatusCode, header};
use serde_json::json;

use crate::{
    fetcher::{Fetcher, noise, tree},
    servers::{
        mlflow::{ADMIN, Logged, MLMODEL, Mlflow},
        proxy::Proxy,
        s3::S3,
        serve::{Serving, content, json as answer, status},
    },
};

const MIB: usize = 1024 * 1024;

/// A model of several files, one of them empty, one in a directory, one large.
fn logged(server: &Mlflow, weights: &[u8]) -> Logged {
    let run = server.begin_run("storage");
    let files: [(&str, &[u8]); 4] = [
        ("MLmodel", MLMODEL),
        ("data/deep/a b.txt", b"x"),
        ("data/empty", b""),
        ("weights.bin", weights),
    ];
    server.log_model("storage", &run, 0, &files, json!([]))
}

fn address(server: &Mlflow, port: u16, logged: &Logged) -> String {
    format!(
        "mlflow-artifacts+http://127.0.0.1:{port}/{}/models/{}/artifacts",
        server.experiment("storage"),
        logged.id
    )
}

fn want(weights: &[u8]) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let all: [(&str, &[u8]); 4] = [
        ("MLmodel", MLMODEL),
        ("data/deep/a b.txt", b"x"),
        ("data/empty", b""),
        ("weights.bin", weights),
    ];
    all.into_iter().map(|(name, bytes)| (name.into(), bytes.to_vec())).collect()
}

#[test]
fn a_directory_and_a_file_are_fetched_through_the_server_where_it_offers_no_links() {
    let (server, weights) = (Mlflow::shared(), noise(1, 2 * MIB));
    let logged = logged(server, &weights);
    let uri = address(server, server.port(), &logged);
    let fetcher = Fetcher::new();
    fetcher.fetch(&uri, &[]).verified();
    assert_eq!(tree(&fetcher.model()), want(&weights));
    let one = Fetcher::new();
    one.fetch(&format!("{uri}/data/deep/a%20b.txt"), &[]).verified();
    let ran = Fetcher::new().fetch(&format!("{uri}/nothing"), &[]);
    assert!(
        ran.failed("NotFound").contains("There is nothing at mlflow-artifacts+http://"),
        "an empty listing is no artifact: {ran:?}"
    );
    let ran = Fetcher::new().env([("ROLLMODEL_ALLOWED_HOSTS", "")]).fetch(&uri, &[]);
    assert!(ran.failed("Refused").contains("is this machine"), "{ran:?}");
}

#[test]
fn links_to_the_storage_are_followed_in_parts_and_without_credentials() {
    let s3 = S3::start();
    s3.make_bucket("models");
    let (server, weights) = (Mlflow::before(&s3, "s3://models/art"), noise(2, 9 * MIB));
    let logged = logged(&server, &weights);
    let proxy = Proxy::before(server.port());
    let uri = address(&server, proxy.port(), &logged);
    let fetcher = Fetcher::new();
    fetcher.fetch(&uri, &[]).verified();
    assert_eq!(tree(&fetcher.model()), want(&weights));
    assert!(
        proxy.sent() < MIB as u64,
        "the bytes came from S3: {} through the server",
        proxy.sent()
    );
    // What the destination rewrites to is the same artifact.
    let digest = Fetcher::new().run(&["digest", &uri]).stdout;
    let direct = Fetcher::new().env(S3::env()).env([("AWS_ENDPOINT_URL", s3.endpoint())]);
    let key =
        format!("s3://models/art/{}/models/{}/artifacts", server.experiment("storage"), logged.id);
    assert_eq!(direct.run(&["digest", &key]).stdout, digest);
}

#[test]
fn credentials_go_to_the_server_that_they_are_of_and_to_no_other() {
    let server = Mlflow::with_accounts();
    let logged = logged(&server, b"w");
    let uri = address(&server, server.port(), &logged);
    let account = [("MLFLOW_TRACKING_USERNAME", ADMIN.0), ("MLFLOW_TRACKING_PASSWORD", ADMIN.1)];
    let (url, other) = (server.url(), "http://mlflow.example.com:5000");
    let of = |url: &'static str| Fetcher::new().secret(account).env([("MLFLOW_TRACKING_URI", url)]);
    Fetcher::new()
        .secret(account)
        .env([("MLFLOW_TRACKING_URI", url.as_str())])
        .fetch(&uri, &[])
        .verified();
    for fetcher in [Fetcher::new().secret(account), of(other)] {
        let ran = fetcher.fetch(&uri, &[]);
        assert!(
            ran.troubled("Unauthorized").contains("give MLFLOW_TRACKING_URI of that server"),
            "{ran:?}"
        );
    }
    let wrong = Fetcher::new().env([
        ("MLFLOW_TRACKING_URI", url.as_str()),
        ("MLFLOW_TRACKING_USERNAME", "admin"),
        ("MLFLOW_TRACKING_PASSWORD", "hunter2"),
    ]);
    let ran = wrong.fetch(&uri, &[]);
    assert!(
        ran.troubled("Unauthorized").contains("the credentials given do not allow it")
            && !format!("{ran:?}").contains("hunter2")
    );
}

/// What a tracking server answers that keeps one file, and whose storage takes the nth link to it
/// so many times; and how many links it gave.
fn links(weights: Vec<u8>, times: fn(usize) -> usize) -> (Serving, Arc<AtomicUsize>) {
    let (given, used, weights) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new(Mutex::new(BTreeMap::new())),
        Bytes::from(weights),
    );
    let counted = given.clone();
    let serve = move |request: &Request| -> Response {
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        let host = request.headers()[header::HOST].to_str().unwrap();
        if path.starts_with("/storage/") {
            let link: usize =
                query.strip_prefix("X-Amz-Signature=hunter2-").unwrap().parse().unwrap();
            let mut used = used.lock().unwrap();
            let used: &mut usize = used.entry(link).or_default();
            *used += 1;
            return match *used <= times(link) {
                true => content(&weights, request.headers()),
                false => status(StatusCode::FORBIDDEN, "Request has expired"),
            };
        }
        if path.contains("/presigned/") {
            let link = given.fetch_add(1, Ordering::SeqCst) + 1;
            return answer(
                &json!({"url": format!("http://{host}/storage/weights.bin?X-Amz-Signature=hunter2-{link}")}),
            );
        }
        match query {
            "path=m" => answer(
                &json!({"files": [{"path": "weights.bin", "is_dir": false, "file_size": weights.len()}]}),
            ),
            _ => status(StatusCode::NOT_FOUND, "nothing"),
        }
    };
    (
        Serving::start(
            Router::new().fallback(move |request: Request| std::future::ready(serve(&request))),
        ),
        counted,
    )
}

#[test]
fn a_link_that_ends_while_a_fetch_goes_on_is_asked_for_again_and_told_to_nobody() {
    let weights = noise(3, 40 * MIB);
    let (server, given) = links(weights.clone(), |_| 4);
    let uri = format!("mlflow-artifacts+{}/m", server.url());
    let fetcher = Fetcher::new();
    let ran = fetcher.fetch(&uri, &[]);
    ran.verified();
    assert_eq!(tree(&fetcher.model()), [("weights.bin".into(), weights)]);
    assert!(given.load(Ordering::SeqCst) >= 3, "{given:?} links for ten parts and a first look");
    assert!(!format!("{ran:?}").contains("hunter2"), "{ran:?}");
    // Links that lead nowhere after the first look are told, and where they led to is not.
    let (server, _) = links(noise(4, 40 * MIB), |link| usize::from(link == 1));
    let ran = Fetcher::new().fetch(&format!("mlflow-artifacts+{}/m", server.url()), &[]);
    let told = ran.troubled("Unreachable");
    assert!(
        told.contains("gives links to m/weights.bin that its storage refuses")
            && !format!("{ran:?}").contains("hunter2"),
        "{ran:?}"
    );
}
