//! From what was fetched to what becomes visible, where that is what archives and layers hold.

use std::{
    fs::{self, File},
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use super::{
    error::{Error, Reason},
    place::Staging,
    source::Place,
    transfer::Fetched,
    unpack::{Format, Keep, Layers, Limits, unpack_file},
};

/// How many times its size an archive may become, beside [`SLACK`]: models compress little, bombs a
/// thousandfold.
const RATIO: u64 = 100;
/// How large even a tiny archive may become, in bytes.
const SLACK: u64 = 64 * 1024 * 1024;
/// Unpacks what was fetched, the one file where that is asked for or the layers of an OCI artifact;
/// where to.
///
/// # Errors
/// When an archive is none, could do harm, or becomes larger than it may.
pub fn unpack(
    staging: &Staging,
    seen: &[Fetched],
    whole: bool,
    most: Option<u64>,
) -> Result<PathBuf, Error> {
    let into = staging.another("unpacked")?;
    let packed: u64 = seen.iter().map(|f| f.size).sum();
    let limits = Limits::bytes(
        most.unwrap_or(u64::MAX).min(packed.saturating_mul(RATIO).saturating_add(SLACK)),
    );
    let mut progress = |_| ControlFlow::Continue(());
    match seen {
        [only] if whole && matches!(only.place, Place::File(_)) => {
            let file = open(only)?;
            let format = Format::of(&file)?;
            unpack_file(&file, format, &into, limits, &mut progress)?;
        }
        _ if whole => {
            return Err(Error::new(
                Reason::InvalidRequest,
                "There is no single file to unpack: leave artifact.unpack out.",
            ));
        }
        _ => {
            let mut layers = Layers::new(&into, limits, &mut progress);
            for layer in seen {
                if let Place::Archive { below } = &layer.place {
                    layers.add(open(layer)?, &below.clone().map_or(Keep::All, Keep::Below))?;
                }
            }
            if files_beside(seen, &into)? + layers.unpacked().files == 0 {
                return Err(Error::new(
                    Reason::NotFound,
                    "There is no file in it: an image has to keep its model below /models.",
                ));
            }
        }
    }
    Ok(into)
}

fn open(fetched: &Fetched) -> Result<File, Error> {
    let path = fetched.file.as_deref().unwrap_or(Path::new(""));
    File::open(path).map_err(|e| Error::io("open what was fetched", &e))
}

/// Puts files that came as they are beside those that were unpacked; how many there are.
fn files_beside(seen: &[Fetched], into: &Path) -> Result<u64, Error> {
    let failed = |e: &std::io::Error| Error::io("put a file beside unpacked ones", e);
    let mut count = 0;
    for fetched in seen {
        let (Place::File(path), Some(file)) = (&fetched.place, &fetched.file) else { continue };
        let place = into.join(path.as_path());
        if place.exists() {
            return Err(Error::new(
                Reason::UnsafeArchive,
                format!("{path} is there twice: leave one of the two out."),
            ));
        }
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent).map_err(|e| failed(&e))?;
        }
        fs::rename(file, place).map_err(|e| failed(&e))?;
        count += 1;
    }
    Ok(count)
}
