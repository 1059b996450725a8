//! `s3://`, on a real server that checks signatures; what every source has in common is shown here
//! too.

use std::{fs, process::Command};

use crate::{
    fetcher::{Fetcher, Ran, noise, sha256, tree},
    servers::{
        proxy::{Mood, Proxy},
        run,
        s3::{KEY, REGION, S3, SECRET},
    },
};

const MIB: usize = 1024 * 1024;

fn bucket() -> S3 {
    let s3 = S3::start();
    s3.make_bucket("models");
    s3
}

fn fetcher(endpoint: &str) -> Fetcher {
    Fetcher::new().env(S3::env()).env([("AWS_ENDPOINT_URL", endpoint)])
}

#[test]
fn a_file_is_fetched_in_parts_and_is_its_sha256() {
    let (s3, bytes) = (bucket(), noise(1, 11 * MIB + 7));
    s3.put("models", "fraud/model.bin", &bytes);
    let proxy = Proxy::before(s3.port());
    let fetcher = fetcher(&proxy.endpoint());
    let ran = fetcher.fetch(
        "s3://models/fraud/model.bin",
        &["--digest", &sha256(&bytes), "--size", &bytes.len().to_string()],
    );
    assert_eq!(
        ran.verified(),
        format!("Verified: digest={} size={} files=1", sha256(&bytes), bytes.len())
    );
    // What a log keeps of it: how much, how long, and the outcome.
    assert!(ran.stderr.starts_with("s3://models/fraud/model.bin  11.0 MiB in "), "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 2, "{}", ran.stderr);
    assert_eq!(tree(&fetcher.model()), [("model.bin".into(), bytes.clone())]);
    let gets = proxy.requests().iter().filter(|r| r.method == "GET" && r.range.is_some()).count();
    assert_eq!(gets, 3);
}

#[test]
fn a_directory_is_the_openssf_root_of_its_files_and_what_is_not_in_the_root_is_not_delivered() {
    let s3 = bucket();
    let files = [
        ("a-b.txt", "1"),
        ("a/b.txt", "2"),
        ("a.txt", "3"),
        ("weights/part-0", "4"),
        ("empty", ""),
    ];
    for (name, text) in files {
        s3.put("models", &format!("fraud/7/{name}"), text.as_bytes());
    }
    for name in ["model.sig", ".gitattributes"] {
        s3.put("models", &format!("fraud/7/{name}"), b"not signed");
    }
    s3.put("models", "fraud/70/other", b"of another version");
    let fetcher = fetcher(&s3.endpoint());
    for (uri, place) in [("s3://models/fraud/7/", "one"), ("s3://models/fraud/7", "two")] {
        let to = fetcher.path(place);
        let ran = fetcher.run(&["fetch", uri, "--to", to.to_str().unwrap()]);
        let mut want: Vec<_> =
            files.iter().map(|(name, text)| (name.into(), text.as_bytes().to_vec())).collect();
        want.sort();
        assert_eq!(tree(&to), want);
        let digest = fetcher.run(&["digest", to.to_str().unwrap()]).stdout;
        assert_eq!(ran.verified(), format!("Verified: digest={} size=4 files=5", digest.trim()));
    }
}

#[test]
fn more_objects_than_a_listing_holds_are_all_fetched() {
    let s3 = bucket();
    let directory = s3.file("models", "many");
    fs::create_dir_all(&directory).unwrap();
    for number in 0..2100 {
        fs::write(directory.join(format!("{number:04}")), format!("{number}")).unwrap();
    }
    let fetcher = fetcher(&s3.endpoint());
    assert!(fetcher.fetch("s3://models/many/", &[]).verified().ends_with("files=2100"));
    assert_eq!(fs::read_dir(fetcher.model()).unwrap().count(), 2100);
}

#[test]
fn other_bytes_than_were_registered_are_never_visible() {
    let s3 = bucket();
    s3.put("models", "fraud/model.bin", b"the real ones");
    let fetcher = fetcher(&s3.endpoint());
    let digest = sha256(b"the real ones");
    fs::write(s3.file("models", "fraud/model.bin"), b"not the same!").unwrap();
    let ran = fetcher.fetch("s3://models/fraud/model.bin", &["--digest", &digest]);
    let other = sha256(b"not the same!");
    assert_eq!(
        ran.failed("Mismatch"),
        format!(
            "s3://models/fraud/model.bin has digest {other}, and {digest} is what was registered: the bytes are others, and are not made visible."
        )
    );
    fetcher.assert_nothing();
    let ran = fetcher.fetch("s3://models/fraud/model.bin", &["--size", "12"]);
    assert_eq!(
        ran.failed("SizeMismatch"),
        "s3://models/fraud/model.bin has 13 bytes (13 B), and 12 (12 B) is what was registered."
    );
    fetcher.assert_nothing();
}

#[test]
fn what_is_not_there_or_not_allowed_is_told_with_what_to_do_and_without_secrets() {
    let s3 = bucket();
    s3.put("models", "a", b"a");
    let good = fetcher(&s3.endpoint());
    assert_eq!(
        good.fetch("s3://models/b", &[]).failed("NotFound"),
        "There is nothing at s3://models/b."
    );
    assert_eq!(
        good.fetch("s3://models/b/", &[]).failed("NotFound"),
        "There is nothing at s3://models/b/."
    );
    let wrong = fetcher(&s3.endpoint()).env([("AWS_SECRET_ACCESS_KEY", "hunter2")]);
    let ran = wrong.fetch("s3://models/a", &[]);
    assert!(
        ran.troubled("Unauthorized")
            .starts_with("s3://models/a is refused (403): the credentials given do not allow it."),
        "{ran:?}"
    );
    assert!(!format!("{ran:?}").contains("hunter2"));
    let none =
        Fetcher::new().env([("AWS_ENDPOINT_URL", s3.endpoint()), ("AWS_REGION", REGION.into())]);
    let ran = none.fetch("s3://models/a", &[]);
    assert!(
        ran.troubled("Unauthorized")
            .contains("no credentials were given: name them in delivery.credentialsSecret"),
        "{ran:?}"
    );
    let gone = fetcher("http://127.0.0.1:1");
    let ran = gone.fetch("s3://models/a", &[]);
    assert!(ran.troubled("Unreachable").contains("Connection refused"), "{ran:?}");
    for fetcher in [good, wrong, none, gone] {
        fetcher.assert_nothing();
    }
}

#[test]
fn credentials_are_found_in_every_shape_that_kserves_users_have() {
    let s3 = bucket();
    s3.put("models", "a", b"a");
    let endpoint = s3.endpoint();
    let host = endpoint.trim_start_matches("http://");
    let json = format!(
        r#"{{"type": "s3", "access_key_id": "{KEY}", "secret_access_key": "{SECRET}", "endpoint_url": "{endpoint}", "region": "{REGION}"}}"#
    );
    let plain = [
        ("AWS_ACCESS_KEY_ID", KEY),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
        ("AWS_DEFAULT_REGION", REGION),
    ];
    let shapes = [
        Fetcher::new().secret(plain).secret([("AWS_ENDPOINT_URL", endpoint.as_str())]),
        Fetcher::new().secret(plain).secret([("S3_ENDPOINT", host), ("S3_USE_HTTPS", "0")]),
        Fetcher::new().secret([("localMinIO", json.as_str())]),
        Fetcher::new().env(S3::env()).env([("S3_ENDPOINT", host), ("S3_USE_HTTPS", "0")]),
    ];
    for fetcher in shapes {
        fetcher.fetch("s3://models/a", &[]).verified();
    }
}

#[test]
fn a_connection_that_breaks_goes_on_where_it_broke() {
    let (s3, bytes) = (bucket(), noise(2, 9 * MIB));
    s3.put("models", "model.bin", &bytes);
    let proxy = Proxy::before(s3.port());
    proxy.set(Mood::Cut { after: MIB as u64, times: 4 });
    let fetcher = fetcher(&proxy.endpoint());
    fetcher.fetch("s3://models/model.bin", &["--digest", &sha256(&bytes)]).verified();
    let sent = proxy.sent_of("/models/model.bin");
    assert!(sent < bytes.len() as u64 + 4 * MIB as u64, "{sent} bytes were sent");
}

#[test]
fn an_object_that_changes_while_it_is_read_is_not_mixed() {
    let (s3, bytes) = (bucket(), noise(3, 40 * MIB));
    s3.put("models", "model.bin", &bytes);
    let proxy = Proxy::before(s3.port());
    proxy.set(Mood::Hold { after: 2 * MIB as u64 });
    let fetcher = fetcher(&proxy.endpoint());
    let mut child = fetcher.begin_at(&proxy.endpoint(), "s3://models/model.bin", &[]);
    proxy.until_sent(2 * MIB as u64);
    s3.put("models", "model.bin", &noise(4, 40 * MIB));
    proxy.set(Mood::Through);
    assert_eq!(child.wait().unwrap().code(), Some(1));
    let message = fs::read_to_string(fetcher.path("termination-log")).unwrap();
    assert_eq!(message, "Interrupted: s3://models/model.bin changed while it was read.");
    fetcher.assert_nothing();
}

/// A volume of one MiB, in a mount namespace of its own.
fn on_a_small_volume(fetcher: &Fetcher, args: &[&str]) -> Ran {
    let volume = fetcher.path("small");
    fs::create_dir_all(&volume).unwrap();
    let inner = fetcher.command(args);
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--", "sh", "-ec", "mount -t tmpfs -o size=1m tmpfs \"$0\"; exec \"$@\""])
        .arg(volume);
    command.arg(inner.get_program()).args(inner.get_args()).env_clear();
    command
        .envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .env("PATH", std::env::var_os("PATH").unwrap());
    let out = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let message = fs::read_to_string(fetcher.path("termination-log")).unwrap_or_default();
    Ran { code: out.status.code(), message, stdout: text(out.stdout), stderr: text(out.stderr) }
}

#[test]
fn a_volume_that_is_too_small_or_fills_up_is_told_as_that() {
    let s3 = bucket();
    s3.put("models", "large", &noise(5, 3 * MIB));
    let script = "import sys,tarfile,io\nt=tarfile.open(sys.argv[1],'w:gz')\ni=tarfile.TarInfo('a');i.size=4<<20\nt.addfile(i,io.BytesIO(bytes(4<<20)))\nt.close()";
    let fetcher = fetcher(&s3.endpoint());
    let archive = fetcher.path("archive.tgz");
    run(Command::new("python3").args(["-c", script]).arg(&archive));
    s3.put_file("models", "archive.tgz", &archive);
    let to = fetcher.path("small/model");
    let ran =
        on_a_small_volume(&fetcher, &["fetch", "s3://models/large", "--to", to.to_str().unwrap()]);
    let sentence = ran.troubled("NoSpace");
    assert!(
        sentence.ends_with("has 1.0 MiB free and the artifact needs 3.0 MiB: give it more room."),
        "{ran:?}"
    );
    // What an archive becomes shows only while it is unpacked.
    let ran = on_a_small_volume(
        &fetcher,
        &["fetch", "s3://models/archive.tgz", "--unpack", "--to", to.to_str().unwrap()],
    );
    assert!(ran.troubled("NoSpace").contains("give the volume more room"), "{ran:?}");
}
