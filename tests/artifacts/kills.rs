//! kill -9 at any moment.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use crate::{
    fetcher::{Fetcher, noise, tree},
    servers::{
        proxy::{Mood, Proxy},
        s3::S3,
    },
};

/// How often a fetch is killed.
const KILLS: u64 = 200;

/// A kill may come anywhere: in the middle of the network, and, by a pause of random length behind
/// it, of the checks and the renames.
#[test]
fn a_fetch_that_is_killed_at_any_moment_never_shows_a_wrong_or_partial_directory_and_the_next_one_succeeds()
 {
    let s3 = S3::start();
    s3.make_bucket("models");
    let files: Vec<(PathBuf, Vec<u8>)> = (0..12)
        .map(|n| (PathBuf::from(format!("part-{n:02}")), noise(n, 200_000 + 1000 * n as usize)))
        .collect();
    for (name, bytes) in &files {
        s3.put("models", &format!("fraud/7/{}", name.display()), bytes);
    }
    let total: u64 = files.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    let fetcher = Fetcher::new().env(S3::env()).env([("AWS_ENDPOINT_URL", s3.endpoint())]);
    let digest = fetcher.run(&["digest", "s3://models/fraud/7/"]).stdout.trim().to_owned();
    let more = ["--digest", digest.as_str()];
    let began = Instant::now();
    fetcher.fetch("s3://models/fraud/7/", &more).verified();
    let whole = began.elapsed();
    let mut visible = 0;
    for kill in 0..KILLS {
        let _ = fs::remove_dir_all(fetcher.model());
        let random = u64::from_le_bytes(noise(1000 + kill, 8).try_into().unwrap());
        if kill % 2 == 0 {
            // Within the bytes.
            let after = random % total;
            // One of its own: what a killed process did not read counts, and would be missing from
            // what the next may have.
            let proxy = Proxy::before(s3.port());
            proxy.set(Mood::Hold { after });
            let mut child = fetcher.begin_at(&proxy.endpoint(), "s3://models/fraud/7/", &more);
            proxy.until_sent(after);
            child.kill().unwrap();
            child.wait().unwrap();
        } else {
            // At any time of a whole fetch, its end included.
            let mut child = fetcher.begin_at(&s3.endpoint(), "s3://models/fraud/7/", &more);
            let micros = u64::try_from(whole.as_micros()).unwrap();
            std::thread::park_timeout(Duration::from_micros(random % (micros + micros / 4)));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let seen = tree(&fetcher.model());
        assert!(
            seen.is_empty() && !fetcher.model().exists() || seen == files,
            "kill {kill}: {:?}",
            seen.iter().map(|(p, b)| (p, b.len())).collect::<Vec<_>>()
        );
        visible += u64::from(!seen.is_empty());
        if kill % 10 == 9 {
            fetcher.fetch("s3://models/fraud/7/", &more).verified();
            assert_eq!(tree(&fetcher.model()), files);
        }
    }
    fetcher.fetch("s3://models/fraud/7/", &more).verified();
    assert_eq!(tree(&fetcher.model()), files);
    // Nothing is left of any of them.
    let own = fetcher.model().parent().unwrap().join(".rollmodel");
    let left: Vec<_> = fs::read_dir(own)
        .unwrap()
        .flatten()
        .map(|e| e.file_name())
        .filter(|n| n.to_string_lossy().starts_with("fetch-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    println!("{visible} of {KILLS} kills came after the directory was visible");
}
