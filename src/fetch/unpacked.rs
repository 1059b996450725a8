//! What becomes visible: files as they were fetched, or what archives and layers hold.

use std::{
    fs::{self, File},
    io::Read,
    ops::ControlFlow,
    path::{Path, PathBuf},
};

use sha2::{Digest as _, Sha256};

use super::{
    digest::{Digest, Files},
    error::{Error, Reason},
    job,
    name::{Names, RelativePath},
    place::Staging,
    source::Place,
    transfer::Fetched,
    unpack::{Format, Keep, Layers, Limits, unpack_file},
};

/// How many times its size an archive may become, beside [`SLACK`]: models compress little, bombs a thousandfold.
const RATIO: u64 = 100;
/// How large even a tiny archive may become, in bytes.
const SLACK: u64 = 64 * 1024 * 1024;
/// The most files and directories.
const ENTRIES: usize = 200_000;

/// A tree that is ready to be made visible.
#[derive(Debug)]
pub struct Made {
    /// Where it is.
    pub tree: PathBuf,
    /// Its files.
    pub files: Files,
    /// Their bytes.
    pub bytes: u64,
}

impl Made {
    /// Of files as they were fetched.
    #[must_use]
    pub fn of(staging: &Staging, seen: &[Fetched]) -> Self {
        Self { tree: staging.target().tree, files: job::files(seen), bytes: seen.iter().map(|f| f.size).sum() }
    }
}

/// Unpacks what was fetched: the one file where that is asked for, and layers of an OCI artifact.
///
/// # Errors
/// When an archive is none, could do harm, or becomes larger than it may.
pub fn unpack(staging: &Staging, seen: &[Fetched], whole: bool, most: Option<u64>) -> Result<Made, Error> {
    let into = staging.another("unpacked")?;
    let packed: u64 = seen.iter().map(|f| f.size).sum();
    let limits = Limits::bytes(most.unwrap_or(u64::MAX).min(packed.saturating_mul(RATIO).saturating_add(SLACK)));
    let mut progress = |_| ControlFlow::Continue(());
    match seen {
        [only] if whole && matches!(only.place, Place::File(_)) => {
            let file = open(only)?;
            let format = Format::of(&file)?;
            unpack_file(&file, format, &into, limits, &mut progress)?;
        }
        _ if whole => return Err(Error::new(Reason::InvalidRequest, "There is no single file to unpack: leave artifact.unpack out.")),
        _ => {
            let mut layers = Layers::new(&into, limits, &mut progress);
            for layer in seen {
                if let Place::Archive { below } = &layer.place {
                    layers.add(open(layer)?, &below.clone().map_or(Keep::All, Keep::Below))?;
                }
            }
            files_beside(seen, &into)?;
        }
    }
    let (mut files, mut bytes) = (Files::new(), 0);
    walk(&into, "", &mut files, &mut bytes)?;
    if files.is_empty() {
        return Err(Error::new(Reason::NotFound, "There is no file in it: an image has to keep its model below /models."));
    }
    let mut names = Names::new(ENTRIES);
    files.keys().try_for_each(|name| names.file(name).map(drop))?;
    Ok(Made { tree: into, files, bytes })
}

fn open(fetched: &Fetched) -> Result<File, Error> {
    let path = fetched.file.as_deref().unwrap_or(Path::new(""));
    File::open(path).map_err(|e| Error::io("open what was fetched", &e))
}

/// Puts files that came as they are beside those that were unpacked.
fn files_beside(seen: &[Fetched], into: &Path) -> Result<(), Error> {
    let failed = |e: &std::io::Error| Error::io("put a file beside unpacked ones", e);
    for fetched in seen {
        let (Place::File(path), Some(file)) = (&fetched.place, &fetched.file) else { continue };
        let place = into.join(path.as_path());
        if place.exists() {
            return Err(Error::new(Reason::UnsafeArchive, format!("{path} is there twice: leave one of the two out.")));
        }
        if let Some(parent) = place.parent() {
            fs::create_dir_all(parent).map_err(|e| failed(&e))?;
        }
        fs::rename(file, place).map_err(|e| failed(&e))?;
    }
    Ok(())
}

fn walk(root: &Path, below: &str, files: &mut Files, bytes: &mut u64) -> Result<(), Error> {
    let failed = |e: &std::io::Error| Error::io("read what was unpacked", e);
    for entry in fs::read_dir(root.join(below)).map_err(|e| failed(&e))? {
        let entry = entry.map_err(|e| failed(&e))?;
        let name = entry.file_name();
        let name = if below.is_empty() { name.to_string_lossy().into_owned() } else { format!("{below}/{}", name.to_string_lossy()) };
        if entry.file_type().map_err(|e| failed(&e))?.is_dir() {
            walk(root, &name, files, bytes)?;
        } else {
            let digest = hash(&entry.path(), bytes).map_err(|e| failed(&e))?;
            files.insert(RelativePath::parse(&name)?, digest);
        }
    }
    Ok(())
}

fn hash(path: &Path, bytes: &mut u64) -> std::io::Result<Digest> {
    let (mut file, mut hasher, mut block) = (File::open(path)?, Sha256::new(), vec![0; 1024 * 1024]);
    loop {
        let read = file.read(&mut block)?;
        if read == 0 {
            return Ok(Digest(hasher.finalize().into()));
        }
        hasher.update(&block[..read]);
        *bytes += read as u64;
    }
}
