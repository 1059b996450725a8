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
    for path in list_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/plan")) {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let found = forbidden.iter().find(|word| {
                split_words(code).any(|w| w == **word)
                    || (word.contains(':') && code.contains(**word))
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

fn list_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { list_files(&path) } else { vec![path] }).collect()
}

fn split_words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// The stages of the planner, each a folder; a stage uses those before it.
const STAGES: [&str; 6] = ["make", "facts", "decide", "strategy", "writes", "status"];

#[test]
fn a_stage_of_the_planner_uses_only_stages_before_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/plan");
    for (index, stage) in STAGES.iter().enumerate() {
        let paths = list_files(&root.join(stage));
        assert!(!paths.is_empty(), "src/plan/{stage} is gone");
        for path in paths {
            let text = fs::read_to_string(&path).unwrap();
            // Tests of a stage may look further.
            let code = text.split("#[cfg(test)]").next().unwrap_or_default();
            let lines = || code.lines().map(|l| l.split("//").next().unwrap_or_default().trim());
            for later in &STAGES[index + 1..] {
                let (path_of, item) = (format!("{later}::"), format!("{later},"));
                let uses = lines().any(|line| {
                    let names = split_words(line).any(|word| word == *later);
                    names && (line.contains(&path_of) || line == item)
                });
                assert!(!uses, "{} uses {later}, which is a later stage", path.display());
            }
        }
    }
}
