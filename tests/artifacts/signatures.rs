//! Signatures, both ways with the reference tool, and archives.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    fetcher::{Fetcher, sha256, tree},
    servers::{Dir, root, run, s3::S3, tools},
};

/// A key pair, made by OpenSSL.
fn key(dir: &Dir, name: &str, curve: &str) -> (PathBuf, String) {
    let (private, public) = (dir.join(&format!("{name}.key")), dir.join(&format!("{name}.pub")));
    let trusted = write_key_pair(&private, &public, curve);
    (private, trusted)
}

/// Writes a key pair, and gives the public key.
pub fn write_key_pair(private: &Path, public: &Path, curve: &str) -> String {
    run(Command::new("openssl")
        .args(["ecparam", "-name", curve, "-genkey", "-noout", "-out"])
        .arg(private));
    run(Command::new("openssl")
        .args(["ec", "-pubout", "-in"])
        .arg(private)
        .arg("-out")
        .arg(public));
    fs::read_to_string(public).unwrap()
}

fn model_signing(args: &[&str]) -> Command {
    let mut command = Command::new(tools("signing").join("bin/model_signing"));
    command.args(args);
    command
}

/// A signed model in a bucket.
struct Ground {
    dir: Dir,
    s3: S3,
    public: String,
    fetcher: Fetcher,
}

const FILES: [(&str, &str); 4] = [
    ("config.json", "{}"),
    ("tokenizer/vocab.txt", "a"),
    ("tokenizer.json", "b"),
    ("model-1.bin", "weights"),
];

impl Ground {
    fn new(curve: &str) -> Self {
        let (dir, s3) = (Dir::fresh("signed"), S3::start());
        s3.make_bucket("models");
        let (private, public) = key(&dir, "signer", curve);
        let model = dir.join("model");
        for (name, text) in FILES {
            fs::create_dir_all(model.join(name).parent().unwrap()).unwrap();
            fs::write(model.join(name), text).unwrap();
            s3.put("models", &format!("fraud/7/{name}"), text.as_bytes());
        }
        let signature = model.join("model.sig");
        run(model_signing(&["sign", "key", "--private_key"])
            .arg(private)
            .arg("--signature")
            .arg(&signature)
            .arg(&model));
        s3.put("models", "fraud/7/model.sig", &fs::read(signature).unwrap());
        let fetcher = Fetcher::new()
            .env(S3::env())
            .env([("AWS_ENDPOINT_URL", s3.endpoint()), ("ROLLMODEL_TRUSTED_KEYS", public.clone())]);
        Self { dir, s3, public, fetcher }
    }

    fn fetch(&self, more: &[&str]) -> crate::fetcher::Ran {
        self.fetcher.fetch(
            "s3://models/fraud/7/",
            &[&["--signature", "s3://models/fraud/7/model.sig"], more].concat(),
        )
    }
}

#[test]
fn what_the_reference_signed_is_accepted_and_what_was_fetched_verifies_with_the_reference() {
    for curve in ["prime256v1", "secp384r1", "secp521r1"] {
        let ground = Ground::new(curve);
        let ran = ground.fetch(&[]);
        let fingerprint = sha256(ground.public.as_bytes());
        assert!(ran.verified().ends_with(&format!("files=4 signer={fingerprint}")), "{ran:?}");
        assert!(!ground.fetcher.model().join("model.sig").exists());
        fs::write(ground.dir.join("fetched.pub"), &ground.public).unwrap();
        run(model_signing(&["verify", "key", "--public_key"])
            .arg(ground.dir.join("fetched.pub"))
            .arg("--signature")
            .arg(ground.dir.join("model/model.sig"))
            .arg(ground.fetcher.model()));
        // The subject of the signature, our digest and the reference's are one.
        let bundle: serde_json::Value =
            serde_json::from_slice(&fs::read(ground.dir.join("model/model.sig")).unwrap()).unwrap();
        let payload = base64::Engine::decode(
            &base64::prelude::BASE64_STANDARD,
            bundle["dsseEnvelope"]["payload"].as_str().unwrap(),
        )
        .unwrap();
        let statement: serde_json::Value = serde_json::from_slice(&payload).unwrap();
        let root = statement["subject"][0]["digest"]["sha256"].as_str().unwrap();
        assert!(ran.message.contains(&format!("digest=sha256:{root} ")), "{ran:?}");
    }
}

#[test]
fn a_file_that_was_changed_added_or_removed_after_signing_fails() {
    let ground = Ground::new("prime256v1");
    let file = |name: &str| ground.s3.file("models", &format!("fraud/7/{name}"));
    let fails = |says: &str| {
        let ran = ground.fetch(&[]);
        assert!(ran.failed("SignatureInvalid").contains(says), "{says}: {ran:?}");
        ground.fetcher.assert_nothing();
    };
    fs::write(file("config.json"), "{1}").unwrap();
    fails("config.json has other bytes than were signed");
    fs::write(file("config.json"), "{}").unwrap();
    fs::write(file("evil.py"), "import os").unwrap();
    fails("evil.py is there and was not signed");
    fs::remove_file(file("evil.py")).unwrap();
    fs::remove_file(file("model-1.bin")).unwrap();
    fails("model-1.bin was signed and is not there");
}

#[test]
fn a_signature_by_somebody_else_or_none_at_all_fails_where_one_is_demanded() {
    let ground = Ground::new("prime256v1");
    let (_, other) = key(&ground.dir, "other", "secp384r1");
    let stranger = Fetcher::new()
        .env(S3::env())
        .env([("AWS_ENDPOINT_URL", ground.s3.endpoint()), ("ROLLMODEL_TRUSTED_KEYS", other)]);
    let ran =
        stranger.fetch("s3://models/fraud/7/", &["--signature", "s3://models/fraud/7/model.sig"]);
    assert!(ran.failed("SignatureInvalid").contains("none of the trusted keys made it"), "{ran:?}");
    stranger.assert_nothing();
    let ran = ground.fetcher.fetch("s3://models/fraud/7/", &[]);
    assert!(
        ran.failed("SignatureMissing").contains("sign it, and register it with artifact.signature"),
        "{ran:?}"
    );
    let ran = ground
        .fetcher
        .fetch("s3://models/fraud/7/", &["--signature", "s3://models/fraud/7/none.sig"]);
    assert!(
        ran.failed("SignatureMissing")
            .starts_with("Cannot read the signature. There is nothing at"),
        "{ran:?}"
    );
    ground.fetcher.assert_nothing();
}

#[test]
fn what_is_in_a_cache_without_a_signature_does_not_count_as_signed() {
    let ground = Ground::new("prime256v1");
    let digest = ground
        .fetcher
        .run(&["digest", ground.dir.join("model").to_str().unwrap()])
        .stdout
        .trim()
        .to_owned();
    let cache = ground.fetcher.path("cache").to_str().unwrap().to_owned();
    let args = ["fetch", "s3://models/fraud/7/", "--digest", &digest, "--cache", &cache];
    let signed = [&args[..], &["--signature", "s3://models/fraud/7/model.sig"]].concat();
    let trusting_nobody =
        Fetcher::new().env(S3::env()).env([("AWS_ENDPOINT_URL", ground.s3.endpoint())]);
    trusting_nobody.run(&args).verified();
    ground.fetcher.run(&args).failed("SignatureMissing");
    assert!(ground.fetcher.run(&signed).verified().contains("signer="));
    // Nor does a signature that a kill left half written hold anybody up.
    let kept =
        Path::new(&cache).join(".rollmodel").join(format!("{}.sig", digest.replace(':', "-")));
    fs::write(kept, "{").unwrap();
    assert!(ground.fetcher.run(&signed).verified().ends_with("cached=true"));
    // The files of an unpacked archive are not what was signed: they count only if they were when
    // they came.
    ground.s3.put("models", "m.zip", &fs::read(zip(&ground.dir)).unwrap());
    let digest = sha256(&fs::read(zip(&ground.dir)).unwrap());
    let args = ["fetch", "s3://models/m.zip", "--unpack", "--digest", &digest, "--cache", &cache];
    trusting_nobody.run(&args).verified();
    ground.fetcher.run(&args).failed("SignatureMissing");
}

#[test]
fn an_archive_in_a_cache_that_was_signed_by_a_key_which_is_trusted_no_more_does_not_count_as_signed()
 {
    let ground = Ground::new("prime256v1");
    let (archive, bundle) = (zip(&ground.dir), ground.dir.join("zip.sig"));
    run(model_signing(&["sign", "key", "--private_key"])
        .arg(ground.dir.join("signer.key"))
        .arg("--signature")
        .arg(&bundle)
        .arg(&archive));
    ground.s3.put("models", "model.zip", &fs::read(&archive).unwrap());
    ground.s3.put("models", "zip.sig", &fs::read(&bundle).unwrap());
    let (digest, cache) = (
        sha256(&fs::read(&archive).unwrap()),
        ground.fetcher.path("cache").to_str().unwrap().to_owned(),
    );
    let args = [
        "fetch",
        "s3://models/model.zip",
        "--unpack",
        "--signature",
        "s3://models/zip.sig",
        "--digest",
        &digest,
        "--cache",
        &cache,
    ];
    for cached in [false, true] {
        let ran = ground.fetcher.run(&args);
        assert_eq!(
            (ran.verified().contains("signer="), ran.message.ends_with("cached=true")),
            (true, cached),
            "{ran:?}"
        );
    }
    let (_, other) = key(&ground.dir, "other", "prime256v1");
    let later = Fetcher::new()
        .env(S3::env())
        .env([("AWS_ENDPOINT_URL", ground.s3.endpoint()), ("ROLLMODEL_TRUSTED_KEYS", other)]);
    assert!(
        later.run(&args).failed("SignatureInvalid").contains("none of the trusted keys made it")
    );
}

fn zip(dir: &Dir) -> PathBuf {
    let (path, script) = (
        dir.join("model.zip"),
        "import sys,zipfile; z=zipfile.ZipFile(sys.argv[1],'w'); z.writestr('a/b.txt','hello'); z.writestr('c','x'*9)",
    );
    run(Command::new("python3").args(["-c", script]).arg(&path));
    path
}

#[test]
fn an_archive_is_unpacked_once_its_digest_is_checked_and_is_verified_when_it_is_there_already() {
    let ground = Ground::new("prime256v1");
    let fetcher = Fetcher::new().env(S3::env()).env([("AWS_ENDPOINT_URL", ground.s3.endpoint())]);
    let bytes = fs::read(zip(&ground.dir)).unwrap();
    ground.s3.put("models", "m.zip", &bytes);
    let digest = sha256(&bytes);
    let want =
        [(PathBuf::from("a/b.txt"), b"hello".to_vec()), (PathBuf::from("c"), b"x".repeat(9))];
    for cached in [false, true] {
        let ran = fetcher.fetch("s3://models/m.zip", &["--unpack", "--digest", &digest]);
        assert_eq!(ran.verified().ends_with("files=2 cached=true"), cached, "{ran:?}");
        assert_eq!(tree(&fetcher.model()), want);
    }
    fs::write(fetcher.model().join("c"), "rotten").unwrap();
    assert!(
        fetcher
            .fetch("s3://models/m.zip", &["--unpack", "--digest", &digest])
            .stderr
            .contains("it is fetched anew")
    );
    assert_eq!(tree(&fetcher.model()), want);
    let ran = fetcher.fetch("s3://models/fraud/7/config.json", &["--unpack"]);
    assert!(
        ran.failed("UnsafeArchive").contains("by its first bytes it is neither zip nor tar"),
        "{ran:?}"
    );
}

#[test]
fn an_archive_that_leads_out_is_refused_and_leaves_nothing() {
    let ground = Ground::new("prime256v1");
    let script = "import sys,tarfile,io\nt=tarfile.open(sys.argv[1],'w:gz')\ni=tarfile.TarInfo('../../evil');i.size=1\nt.addfile(i,io.BytesIO(b'x'))\nt.close()";
    let path = ground.dir.join("evil.tgz");
    run(Command::new("python3").args(["-c", script]).arg(&path));
    ground.s3.put("models", "evil.tgz", &fs::read(path).unwrap());
    let fetcher = Fetcher::new().env(S3::env()).env([("AWS_ENDPOINT_URL", ground.s3.endpoint())]);
    let ran = fetcher.fetch("s3://models/evil.tgz", &["--unpack"]);
    assert!(ran.failed("UnsafeArchive").contains("`../../evil`"), "{ran:?}");
    fetcher.assert_nothing();
    assert!(!fetcher.path("evil").exists());
}

#[test]
fn a_signature_by_a_certificate_counts_under_its_authority_and_under_no_other() {
    let fixtures = root().join("tests/fixtures/signature");
    let fixture = |name: &str| fixtures.join(name).to_str().unwrap().to_owned();
    let verify = |certificate: &str, signature: &str| {
        let trusted = fs::read_to_string(fixture(certificate)).unwrap();
        let fetcher = Fetcher::new().env([("ROLLMODEL_TRUSTED_CERTIFICATES", trusted)]);
        fetcher.run(&["verify", &fixture("model"), "--signature", &fixture(signature)])
    };
    for (certificate, signature) in [("root.pem", "certificate.sig"), ("rsa-root.pem", "rsa.sig")] {
        assert!(verify(certificate, signature).verified().contains("signer=sha256:"));
    }
    for (certificate, signature) in
        [("rsa-root.pem", "certificate.sig"), ("root.pem", "rsa.sig"), ("root.pem", "p256.sig")]
    {
        verify(certificate, signature).failed("SignatureInvalid");
    }
}
