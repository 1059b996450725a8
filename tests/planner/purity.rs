//! `src/plan` decides and does nothing else.

use std::{
    fs,
    path::{Path, PathBuf},
};

#[test]
fn the_planner_is_pure() {
    let forbidden = [
        "async",
        "await",
        "Client",
        "::now(",
        "SystemTime",
        "Instant",
        "rand",
        "std::env",
        "std::fs",
        "std::net",
        "tokio",
        "static mut",
        "Mutex",
        "crate::run",
    ];
    let mut read = 0;
    for path in files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/plan")) {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let found = forbidden.iter().find(|word| {
                words(code).any(|w| w == **word) || (word.contains(':') && code.contains(**word))
            });
            assert!(
                found.is_none(),
                "{}:{}: the planner must stay pure, and this line names {found:?}",
                path.display(),
                number + 1
            );
        }
        read += 1;
    }
    assert!(read >= 10, "src/plan was not read");
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
}
