//! Writes the CRDs of `src/api` into `crds/`; with `--check` it only says which differ, and fails.

use std::{fs, path::Path, process::ExitCode};

use rollmodel::api::schema;

fn main() -> ExitCode {
    let check = std::env::args().any(|a| a == "--check");
    match run(Path::new("crds"), check) {
        Ok(stale) if stale.is_empty() => ExitCode::SUCCESS,
        Ok(stale) => {
            eprintln!(
                "crds/ differs from src/api in {}: run `make generate` and commit the result",
                stale.join(", ")
            );
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("crdgen: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Writes (or only compares) each file; gives the names of those that differed and were not
/// written.
fn run(dir: &Path, check: bool) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let mut stale = Vec::new();
    for (file, crd) in schema::build_crds()? {
        let path = dir.join(file);
        let want = format!(
            "# Generated from src/api by `make generate`.\n{}",
            serde_yaml::to_string(&crd)?
        );
        if fs::read_to_string(&path).is_ok_and(|have| have == want) {
            continue;
        }
        if check {
            stale.push(file.to_owned());
        } else {
            fs::create_dir_all(dir)?;
            fs::write(&path, want)?;
            println!("wrote {}", path.display());
        }
    }
    Ok(stale)
}
