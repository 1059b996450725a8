//! The cache: one volume, many pods.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    process::{Child, Command},
    time::{Duration, SystemTime},
};

use crate::{
    fetcher::{Fetcher, noise, sha256, tree},
    servers::{
        proxy::{Mood, Proxy},
        s3::S3,
    },
};

const MIB: usize = 1024 * 1024;

/// A server with bytes to fetch, and what counts what it gives.
struct Ground {
    s3: S3,
    proxy: Proxy,
    fetcher: Fetcher,
}

impl Ground {
    fn new() -> Self {
        let s3 = S3::start();
        s3.make_bucket("models");
        let proxy = Proxy::before(s3.port());
        let fetcher = Fetcher::new().env(S3::env()).env([("AWS_ENDPOINT_URL", proxy.endpoint())]);
        Self { s3, proxy, fetcher }
    }

    fn put(&self, key: &str, bytes: &[u8]) -> String {
        self.s3.put("models", key, bytes);
        sha256(bytes)
    }

    fn cache(&self) -> PathBuf {
        self.fetcher.path("cache")
    }

    fn args<'a>(&self, uri: &'a str, digest: &'a str, cache: &'a str) -> [&'a str; 6] {
        ["fetch", uri, "--digest", digest, "--cache", cache]
    }

    fn fetch(&self, uri: &str, digest: &str, more: &[&str]) -> crate::fetcher::Ran {
        let cache = self.cache();
        self.fetcher.run(&[&self.args(uri, digest, cache.to_str().unwrap())[..], more].concat())
    }

    fn begin(&self, uri: &str, digest: &str) -> Child {
        let cache = self.cache();
        let mut command: Command =
            self.fetcher.command(&self.args(uri, digest, cache.to_str().unwrap()));
        command.spawn().unwrap()
    }

    /// What a pod would see of an artifact.
    fn seen(&self, digest: &str) -> Vec<(PathBuf, Vec<u8>)> {
        tree(&self.cache().join("models").join(digest.replace(':', "-")))
    }
}

#[test]
fn the_second_pod_and_the_rollback_download_nothing() {
    let ground = Ground::new();
    let (one, two) = (noise(1, 5 * MIB), noise(2, 5 * MIB));
    let first = ground.put("fraud/model.bin", &one);
    ground.fetch("s3://models/fraud/model.bin", &first, &[]).verified();
    assert!(ground.proxy.sent_of("/models/fraud/model.bin") >= one.len() as u64);
    // Another version at the same address.
    let second = ground.put("fraud/model.bin", &two);
    ground.fetch("s3://models/fraud/model.bin", &second, &[]).verified();
    ground.proxy.reset();
    for (digest, bytes) in [(&first, &one), (&second, &two)] {
        let ran = ground.fetch("s3://models/fraud/model.bin", digest, &[]);
        assert_eq!(
            ran.verified(),
            format!("Verified: digest={digest} size={} files=1 cached=true", bytes.len())
        );
        assert_eq!(ground.seen(digest), [("model.bin".into(), bytes.clone())]);
    }
    assert_eq!((ground.proxy.requests().len(), ground.proxy.sent()), (0, 0));
}

#[test]
fn pods_that_start_at_once_download_it_once() {
    let ground = Ground::new();
    let bytes = noise(3, 9 * MIB);
    let digest = ground.put("model.bin", &bytes);
    let pods: Vec<Child> = (0..6).map(|_| ground.begin("s3://models/model.bin", &digest)).collect();
    for pod in pods {
        let out = pod.wait_with_output().unwrap();
        assert!(out.status.success(), "{out:?}");
    }
    let sent = ground.proxy.sent_of("/models/model.bin");
    assert!(sent < bytes.len() as u64 + MIB as u64, "{sent} bytes were sent");
    assert_eq!(ground.seen(&digest), [("model.bin".into(), bytes)]);
}

#[test]
fn a_pod_that_is_killed_holds_nobody_up() {
    let ground = Ground::new();
    let bytes = noise(4, 20 * MIB);
    let digest = ground.put("model.bin", &bytes);
    ground.proxy.set(Mood::Hold { after: MIB as u64 });
    let mut first = ground.begin("s3://models/model.bin", &digest);
    ground.proxy.until_sent(MIB as u64);
    let second = ground.begin("s3://models/model.bin", &digest);
    first.kill().unwrap();
    first.wait().unwrap();
    ground.proxy.set(Mood::Through);
    let out = second.wait_with_output().unwrap();
    assert!(out.status.success(), "{out:?}");
    assert_eq!(ground.seen(&digest), [("model.bin".into(), bytes)]);
    let left: Vec<_> = fs::read_dir(ground.cache().join(".rollmodel"))
        .unwrap()
        .flatten()
        .map(|e| e.file_name())
        .collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("fetch-")), "{left:?}");
}

#[test]
fn what_rotted_in_the_cache_is_fetched_anew() {
    let ground = Ground::new();
    let digest = ground.put("fraud/7/model.bin", b"the real ones");
    ground.put("fraud/7/config.json", b"{}");
    let directory =
        ground.fetcher.run(&["digest", "s3://models/fraud/7/"]).stdout.trim().to_owned();
    for (uri, digest) in
        [("s3://models/fraud/7/model.bin", &digest), ("s3://models/fraud/7/", &directory)]
    {
        ground.fetch(uri, digest, &[]).verified();
        let place = ground.cache().join("models").join(digest.replace(':', "-"));
        let before = ground.seen(digest);
        for rot in ["change", "remove", "add", "hide", "link"] {
            match rot {
                "change" => fs::write(place.join("model.bin"), b"not the same!").unwrap(),
                "remove" => fs::remove_file(place.join("model.bin")).unwrap(),
                "add" => fs::write(place.join("evil.py"), b"import os").unwrap(),
                "hide" => {
                    fs::write(place.join(".gitattributes"), b"what a digest leaves out").unwrap()
                }
                _ => std::os::unix::fs::symlink("/etc/passwd", place.join("link")).unwrap(),
            }
            let ran = ground.fetch(uri, digest, &[]);
            assert!(!ran.verified().contains("cached"), "{rot}: {ran:?}");
            assert!(ran.stderr.contains("it is fetched anew"), "{rot}: {ran:?}");
            assert_eq!(ground.seen(digest), before, "{rot}");
        }
    }
}

#[test]
fn what_was_used_longest_ago_goes_when_there_is_no_room() {
    let ground = Ground::new();
    let limit = (5 * MIB).to_string();
    let limited = ["--cache-size-limit", limit.as_str()];
    let digests: Vec<String> =
        (0..3).map(|n| ground.put(&format!("{n}"), &noise(10 + n, 2 * MIB))).collect();
    let fetch = |n: usize| {
        ground.fetch(&format!("s3://models/{n}"), &digests[n], &limited).verified().to_owned()
    };
    let kept = || (0..3).filter(|n| !ground.seen(&digests[*n]).is_empty()).collect::<Vec<_>>();
    fetch(0);
    fetch(1);
    // The first was used last, although it was fetched first.
    let lock = ground.cache().join(".rollmodel/locks").join(digests[1].replace(':', "-"));
    fs::File::open(lock)
        .unwrap()
        .set_modified(SystemTime::now() - Duration::from_secs(60))
        .unwrap();
    assert!(fetch(0).ends_with("cached=true"));
    fetch(2);
    assert_eq!(kept(), [0, 2]);
    // What serves stays, and who finds no room says so.
    let keep: Vec<String> = [0, 2].map(|n| format!("--cache-keep={}", digests[n])).into();
    let more: Vec<&str> = limited.iter().copied().chain(keep.iter().map(String::as_str)).collect();
    let ran = ground.fetch("s3://models/1", &digests[1], &more);
    let says = "The cache has no room for 2.0 MiB within its sizeLimit of 5.0 MiB, since what it holds is in use: raise the limit.";
    assert_eq!(ran.troubled("CacheBusy"), says);
    assert_eq!(kept(), [0, 2]);
    ground.fetch("s3://models/1", &digests[1], &more[..3]).verified();
    assert_eq!(kept(), [0, 1]);
    let large = ground.put("large", &noise(20, 6 * MIB));
    let ran = ground.fetch("s3://models/large", &large, &limited);
    assert_eq!(
        ran.failed("Refused"),
        "The artifact has 6.0 MiB and the cache's sizeLimit is 5.0 MiB: raise it."
    );
    assert_eq!(kept(), [0, 1]);
}

#[test]
fn what_is_visible_is_never_written_to_again() {
    let ground = Ground::new();
    let digest = ground.put("model.bin", b"bytes");
    ground.fetch("s3://models/model.bin", &digest, &[]).verified();
    let file = ground.cache().join("models").join(digest.replace(':', "-")).join("model.bin");
    let inode = fs::metadata(&file).unwrap().ino();
    ground.fetch("s3://models/model.bin", &digest, &[]).verified();
    assert_eq!(fs::metadata(&file).unwrap().ino(), inode);
}
