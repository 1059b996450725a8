use std::{fs, process::Command};

use crate::{
    fetcher::noise,
    servers::{
        Dir, run,
        s3::{S3, SECRET},
        tools,
    },
};

/// As KServe's storage initializer calls it.
const DOWNLOAD: &str =
    "import sys; from kserve_storage import Storage; Storage.download(sys.argv[1], sys.argv[2])";

#[test]
fn kserves_storage_initializer_downloads_a_directory_from_s3() {
    let (s3, out, bytes) = (S3::start(), Dir::fresh("kserve"), noise(1, 2_000_000));
    s3.make_bucket("models");
    s3.put("models", "llm/model.safetensors", &bytes);
    s3.put("models", "llm/deep/config.json", b"{}");
    let download = |secret: &str| {
        let mut python = Command::new(tools("kserve").join("bin/python"));
        python.args(["-c", DOWNLOAD, "s3://models/llm"]).arg(out.path()).envs(S3::env());
        python
            .env("AWS_SECRET_ACCESS_KEY", secret)
            .env("AWS_ENDPOINT_URL", s3.endpoint())
            .env("S3_USE_HTTPS", "0");
        python
    };
    run(&mut download(SECRET));
    assert_eq!(fs::read(out.join("model.safetensors")).unwrap(), bytes);
    assert_eq!(fs::read(out.join("deep/config.json")).unwrap(), b"{}");
    assert!(!download("wrong").output().unwrap().status.success());
}

#[test]
fn a_model_signed_with_a_key_is_verified_until_a_file_changes() {
    let dir = Dir::fresh("signing");
    fs::create_dir(dir.join("model")).unwrap();
    fs::write(dir.join("model/a.bin"), b"a").unwrap();
    let signing = |args: &[&str]| {
        let mut command = Command::new(tools("signing").join("bin/model_signing"));
        command.current_dir(dir.path()).args(args);
        command
    };
    run(Command::new("openssl").current_dir(dir.path()).args([
        "ecparam",
        "-name",
        "prime256v1",
        "-genkey",
        "-noout",
        "-out",
        "key.pem",
    ]));
    run(Command::new("openssl")
        .current_dir(dir.path())
        .args(["ec", "-in", "key.pem", "-pubout", "-out", "key.pub"]));
    run(&mut signing(&[
        "sign",
        "key",
        "--private_key",
        "key.pem",
        "--signature",
        "model.sig",
        "model",
    ]));
    let mut verify =
        signing(&["verify", "key", "--public_key", "key.pub", "--signature", "model.sig", "model"]);
    run(&mut verify);
    fs::write(dir.join("model/a.bin"), b"b").unwrap();
    assert!(!verify.output().unwrap().status.success());
}
