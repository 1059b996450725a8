//! Volumes and paths of this machine.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt, os::unix::fs::symlink, process::Command};

use crate::{
    fetcher::{Fetcher, noise, sha256, tree},
    servers::run,
};

/// A volume of a claim `models`, mounted where the program looks for it.
fn volume() -> Fetcher {
    let fetcher = Fetcher::new();
    fs::create_dir_all(fetcher.path("pvc/models/fraud/deep")).unwrap();
    let root = fetcher.path("pvc").display().to_string();
    fetcher.env([("ROLLMODEL_PVC_ROOT", root)])
}

#[test]
fn a_directory_of_a_volume_is_copied_and_later_writes_to_the_volume_do_not_show() {
    let fetcher = volume();
    let (weights, source) = (noise(1, 5_000_000), fetcher.path("pvc/models/fraud"));
    fs::write(source.join("model.bin"), &weights).unwrap();
    fs::write(source.join("deep/config.json"), "{}").unwrap();
    fetcher.fetch("pvc://models/fraud", &[]).verified();
    fs::write(source.join("deep/config.json"), "{1}").unwrap();
    assert_eq!(
        tree(&fetcher.model()),
        [("deep/config.json".into(), b"{}".to_vec()), ("model.bin".into(), weights.clone())]
    );
    fetcher.fetch("pvc://models/fraud/model.bin", &["--digest", &sha256(&weights)]).verified();
    assert_eq!(
        fetcher.fetch("pvc://models/none", &[]).failed("NotFound"),
        "There is no none in the volume of the claim."
    );
    fetcher.fetch("pvc://other/fraud", &[]).failed("NotFound");
}

#[test]
fn links_and_devices_of_a_volume_lead_nowhere() {
    let fetcher = volume();
    let source = fetcher.path("pvc/models/fraud");
    fs::write(fetcher.path("secret/token"), "hunter2").unwrap();
    fs::write(source.join("model.bin"), "weights").unwrap();
    symlink(fetcher.path("secret"), fetcher.path("pvc/models/out")).unwrap();
    let ran = fetcher.fetch("pvc://models/out/token", &[]);
    assert_eq!(ran.failed("UnsafeArchive"), "out/token is a link that leads out of its volume.");
    symlink(fetcher.path("secret/token"), source.join("link")).unwrap();
    let ran = fetcher.fetch("pvc://models/fraud", &[]);
    assert_eq!(ran.failed("Unsupported"), "link is a symbolic link: put a copy in its place.");
    fs::remove_file(source.join("link")).unwrap();
    run(Command::new("mkfifo").arg(source.join("pipe")));
    assert_eq!(
        fetcher.fetch("pvc://models/fraud", &[]).failed("Unsupported"),
        "pipe is neither a file nor a directory: put a copy in its place."
    );
    fs::remove_file(source.join("pipe")).unwrap();
    fs::write(source.join(OsStr::from_bytes(b"bad\xff")), "x").unwrap();
    assert_eq!(
        fetcher.fetch("pvc://models/fraud", &[]).failed("UnsafeArchive"),
        "The name bad\\xff is not UTF-8: rename it."
    );
    fetcher.assert_nothing();
}

#[test]
fn a_directory_without_a_file_is_nothing() {
    let fetcher = volume();
    assert_eq!(
        fetcher.fetch("pvc://models/fraud", &[]).failed("NotFound"),
        "The directory holds no file."
    );
}
