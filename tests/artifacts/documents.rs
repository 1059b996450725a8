//! docs/artifacts.md: every command of `rollmodel-fetch` on the page is run, and says what stands
//! below it.

use std::{collections::BTreeMap, fs, process::Command};

use crate::{
    fetcher::Fetcher,
    servers::{mlflow::Mlflow, root, run, s3::S3, tools},
    signatures::write_key_pair,
};

const PAGE: &str = "docs/artifacts.md";
const FILES: [(&str, &str); 3] = [
    ("MLmodel", "flavors: {sklearn: {}}\n"),
    ("model.skops", "weights"),
    ("requirements.txt", "scikit-learn\n"),
];

/// The address on the page that stands for the one of a server here, whose port and ids are others
/// each time.
const LOGGED: &str = "mlflow.mlflow:5000/1/models/m-4f0c8e6d2b7a4c1e9d3f6a8b0c2e4d6f/artifacts";

/// What differs from run to run.
fn steady(line: &str) -> String {
    match line.split_once(" in ") {
        Some((before, after)) if after.contains("/s)") => format!("{before} in … s"),
        _ => line.to_owned(),
    }
}

/// The commands of a page with what stands below each, by the line of each command.
fn commands(page: &str) -> Vec<(usize, String, Vec<String>)> {
    let (mut found, mut inside) = (Vec::<(usize, String, Vec<String>)>::new(), false);
    for (number, line) in page.lines().enumerate() {
        match line.strip_prefix("$ rollmodel-fetch ") {
            Some(command) => {
                inside = true;
                found.push((number, command.to_owned(), Vec::new()));
            }
            None if line.starts_with("```") => inside = false,
            None if inside => found.last_mut().unwrap().2.push(line.to_owned()),
            None => {}
        }
    }
    found
}

/// What a command says, in the environment that the page gives it.
fn said(fetcher: &Fetcher, command: &str, trusted: &str, logged: &str) -> Vec<String> {
    let command = command.replace(LOGGED, logged);
    let args: Vec<&str> = command.split(' ').collect();
    let mut child = fetcher.command(&args);
    if command.contains("--signature") {
        child.env("ROLLMODEL_TRUSTED_KEYS", trusted);
    }
    if command.contains("/private/") {
        child.env_remove("AWS_ACCESS_KEY_ID");
    }
    let out = child.current_dir(fetcher.path("")).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let all = format!("{}{}", text(out.stdout), text(out.stderr));
    all.replace(logged, LOGGED).lines().map(steady).collect()
}

/// Logs the model in a tracking server; where it is there.
fn logged() -> String {
    let server = Mlflow::shared();
    let run = server.begin_run("documents");
    let files = FILES.map(|(name, text)| (name, text.as_bytes()));
    let model = server.log_model("documents", &run, 0, &files, serde_json::json!([]));
    format!(
        "127.0.0.1:{}/{}/models/{}/artifacts",
        server.port(),
        server.experiment("documents"),
        model.id
    )
}

/// `ACCEPT=1` writes what the commands say into the page.
#[test]
fn every_command_on_the_page_says_what_stands_below_it() {
    let s3 = S3::start();
    s3.make_bucket("models");
    let fetcher = Fetcher::new();
    let model = fetcher.path("model");
    fs::create_dir(&model).unwrap();
    for (name, text) in FILES {
        fs::write(model.join(name), text).unwrap();
        s3.put("models", &format!("fraud/7/{name}"), text.as_bytes());
        s3.put(
            "models",
            &format!("fraud/changed/{name}"),
            if name == "model.skops" { b"others" } else { text.as_bytes() },
        );
    }
    let (private, public) = (fetcher.path("signer.key"), fetcher.path("signer.pub"));
    let trusted = write_key_pair(&private, &public, "prime256v1");
    let sign =
        ["sign", "key", "model", "--private_key", "signer.key", "--signature", "model/model.sig"];
    run(Command::new(tools("signing").join("bin/model_signing"))
        .args(sign)
        .current_dir(fetcher.path("")));
    s3.put("models", "fraud/7/model.sig", &fs::read(model.join("model.sig")).unwrap());
    let logged = logged();
    let fetcher = fetcher.env(S3::env()).env([("AWS_ENDPOINT_URL", s3.endpoint())]);

    let page = fs::read_to_string(root().join(PAGE)).unwrap();
    let mut lines: Vec<String> = page.lines().map(str::to_owned).collect();
    let mut wrong = BTreeMap::new();
    // From the end, so that the numbers of lines before stay; and in order, for one command makes
    // what the next finds.
    let all: Vec<_> = commands(&page)
        .into_iter()
        .map(|(number, command, stands)| {
            (number, said(&fetcher, &command, &trusted, &logged), command, stands)
        })
        .collect();
    for (number, says, command, stands) in all.into_iter().rev() {
        let says: Vec<String> = says.iter().map(|line| without_key(line)).collect();
        if says != stands {
            lines.splice(number + 1..number + 1 + stands.len(), says.clone());
            wrong.insert(number + 1, (command, says, stands));
        }
    }
    if std::env::var_os("ACCEPT").is_some() {
        fs::write(root().join(PAGE), lines.join("\n") + "\n").unwrap();
    } else {
        assert!(
            wrong.is_empty(),
            "{PAGE} says otherwise (ACCEPT=1 cargo test --test artifacts documents writes it): {wrong:#?}"
        );
    }
}

/// The key is made anew each time.
fn without_key(line: &str) -> String {
    line.split(' ')
        .map(|word| if word.starts_with("signer=") { "signer=sha256:…" } else { word })
        .collect::<Vec<_>>()
        .join(" ")
}
