//! Attacks that have to fail, and archives that have to unpack. Every try also looks at what was
//! written, and beside it.

use std::{
    collections::BTreeMap, fs, io::Write as _, ops::ControlFlow, os::unix::fs::PermissionsExt as _,
    path::PathBuf,
};

use super::*;

mod build;
mod fuzz;
mod good;
mod limits;
mod tars;
mod tools;
mod zips;

use build::{Tar, Zip, ZipEntry, gz, pax, zst};

const MANY: Limits = Limits::bytes(64 << 20);

/// A directory to unpack into, with something beside it that has to stay as it is.
struct Site {
    outside: tempfile::TempDir,
}

impl Site {
    fn new() -> Self {
        let outside = tempfile::tempdir().unwrap();
        fs::create_dir_all(outside.path().join("above/into")).unwrap();
        fs::write(outside.path().join("sentinel"), "as it was").unwrap();
        fs::write(outside.path().join("above/sentinel"), "as it was").unwrap();
        Self { outside }
    }

    fn target(&self) -> PathBuf {
        self.outside.path().join("above/into")
    }

    /// The files below, by name, after a look at everything that was written.
    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        for at in ["", "above"] {
            let directory = self.outside.path().join(at);
            let mut names: Vec<_> = fs::read_dir(&directory)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            assert_eq!(
                names,
                if at.is_empty() { ["above", "sentinel"] } else { ["into", "sentinel"] }
            );
            assert_eq!(fs::read(directory.join("sentinel")).unwrap(), b"as it was");
        }
        let mut files = BTreeMap::new();
        look(&self.target(), "", &mut files);
        files
    }
}

fn look(directory: &Path, name: &str, files: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{name}{}", path.file_name().unwrap().to_str().unwrap());
        let metadata = fs::symlink_metadata(&path).unwrap();
        assert!(metadata.is_dir() || metadata.is_file(), "{name} is neither file nor directory");
        assert_eq!(
            metadata.permissions().mode() & 0o7777,
            if metadata.is_dir() { 0o755 } else { 0o644 },
            "{name}"
        );
        if metadata.is_dir() {
            look(&path, &format!("{name}/"), files);
        } else {
            files.insert(name, fs::read(&path).unwrap());
        }
    }
}

/// What came of an archive.
struct Outcome {
    result: Result<Unpacked, Error>,
    files: BTreeMap<String, Vec<u8>>,
}

impl Outcome {
    /// The error's sentence, which is one line and of bounded length whatever the archive holds.
    fn refusal(&self) -> String {
        let error = self.result.as_ref().expect_err("it was unpacked");
        assert!(!error.is_trouble(), "{error}");
        let said = error.to_string();
        assert!(said.len() < 800 && !said.contains(char::is_control), "{said}");
        said
    }

    fn refused(&self, words: &str) {
        let said = self.refusal();
        assert!(said.contains(words), "{said}\nhas no `{words}`");
    }
}

fn on_disk(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    file
}

fn unpack(bytes: &[u8]) -> Outcome {
    unpack_within(bytes, MANY)
}

fn unpack_within(bytes: &[u8], limits: Limits) -> Outcome {
    let file = on_disk(bytes);
    let site = Site::new();
    let result = Format::of(&file)
        .and_then(|format| unpack_file(&file, format, &site.target(), limits, &mut go_on));
    Outcome { result, files: site.files() }
}

fn unpack_layers(layers: &[Vec<u8>], keep: &Keep) -> Outcome {
    let site = Site::new();
    let result = (|| {
        let mut go_on = go_on;
        let mut unpacked = Layers::new(&site.target(), MANY, &mut go_on);
        layers.iter().try_for_each(|layer| unpacked.add(&layer[..], keep))?;
        Ok(unpacked.unpacked())
    })();
    Outcome { result, files: site.files() }
}

fn go_on(_: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn below(directory: &str) -> Keep {
    Keep::Below(RelativePath::parse(directory).unwrap())
}

fn model() -> BTreeMap<String, Vec<u8>> {
    let weights: Vec<u8> =
        (0..300_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let files: [(&str, &[u8]); 5] = [
        ("config.json", b"{}"),
        ("empty", b""),
        ("1/model.onnx", &weights),
        ("1/deep/er/é ☃.txt", "ünï".as_bytes()),
        ("zeros", &[0; 1_000_000]),
    ];
    files.into_iter().map(|(name, contents)| (name.to_owned(), contents.to_vec())).collect()
}
