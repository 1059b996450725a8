//! The signed statement: which files there are, and whether they are those that were fetched.

use std::collections::BTreeSet;

use serde::Deserialize;

use super::error::{Names, Why, shown};
use crate::fetch::{
    digest::{Digest, Files, root_of},
    name::RelativePath,
};

/// Most files that are read.
pub const FILES_MAX: usize = 65_536;
/// The kind of statement that `model_signing` makes since 1.0.
pub const PREDICATE_TYPE: &str = "https://model_signing/signature/v1.0";
/// What the reference calls the file of a model that is one.
const SINGLE: &str = ".";
const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE_OLD: &str = "https://model_signing/Digests/v0.1";

/// The files that were signed.
#[derive(Debug)]
pub struct Manifest {
    files: Files,
    /// What is signed as one file without a name, which is how the reference signs a model that is
    /// one file.
    single: Option<Digest>,
    /// The signed root digest.
    pub root: Digest,
    /// What the signer left out: `.git`, `.gitattributes`, `.github`, `.gitignore`, the signature,
    /// and whatever else it chose.
    ignored: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Header {
    #[serde(rename = "_type")]
    kind: String,
    predicate_type: String,
}

#[derive(Deserialize)]
struct Statement {
    subject: Vec<Subject>,
    predicate: Predicate,
}

#[derive(Deserialize)]
struct Subject {
    digest: SubjectDigest,
}

#[derive(Deserialize)]
struct SubjectDigest {
    sha256: String,
}

#[derive(Deserialize)]
struct Predicate {
    serialization: Serialization,
    resources: Vec<Resource>,
}

// `allow_symlinks` is not read: what is compared here are files with bytes of their own, however
// the signer came by them.
#[derive(Deserialize)]
struct Serialization {
    method: String,
    hash_type: String,
    #[serde(default)]
    ignore_paths: BTreeSet<String>,
}

#[derive(Deserialize)]
struct Resource {
    name: String,
    algorithm: String,
    digest: String,
}

/// Checks that a payload is a statement of the kind that is read.
pub fn known_format(payload: &[u8]) -> Result<(), Why> {
    let header: Header = parse(payload)?;
    match (header.kind.as_str(), header.predicate_type.as_str()) {
        (_, PREDICATE_TYPE_OLD) => Err(Why::OldFormat),
        (STATEMENT_TYPE, PREDICATE_TYPE) => Ok(()),
        (STATEMENT_TYPE, other) => Err(Why::PredicateType(shown(other))),
        (other, _) => Err(Why::NotAStatement(format!("its type is {}", shown(other)))),
    }
}

impl Manifest {
    /// Reads a payload that is signed and of the known format.
    pub fn parse(payload: &[u8]) -> Result<Self, Why> {
        let Statement { subject, predicate } = parse(payload)?;
        let [subject] = subject.as_slice() else {
            return Err(Why::NotAStatement(format!(
                "it has {} subjects instead of one",
                subject.len()
            )));
        };
        let Predicate { serialization, resources } = predicate;
        if serialization.method != "files" {
            return Err(Why::Method(shown(&serialization.method)));
        }
        if serialization.hash_type != "sha256" {
            return Err(Why::HashType(shown(&serialization.hash_type)));
        }
        let single = match resources.as_slice() {
            [only] if only.name == SINGLE && only.algorithm == "sha256" => Some(digest_of(only)?),
            _ => None,
        };
        let (files, root) = match single {
            Some(digest) => (Files::new(), root_of([digest].iter())),
            None => files_of(&resources)?,
        };
        // Like the reference, over the order of the list: other signers sort in another way.
        if subject.digest.sha256 != root.hex() {
            return Err(Why::Root);
        }
        Ok(Self { files, single, root, ignored: serialization.ignore_paths })
    }

    /// Checks that the files are exactly those that were signed.
    ///
    /// `model_signing` lets pass what the signer ignored, whatever it is by now. Here every file
    /// reaches the pod that serves, so all but the signature itself has to be signed; what was
    /// ignored only changes what the error says.
    pub fn compare(&self, files: &Files, signature_file: Option<&RelativePath>) -> Result<(), Why> {
        if let Some(signed) = self.single {
            // Its name is not signed: it is the artifact's address that says it.
            let mut delivered = files.iter().filter(|(path, _)| Some(*path) != signature_file);
            return match (delivered.next(), delivered.next()) {
                (Some((_, is)), None) if *is == signed => Ok(()),
                (Some((path, _)), None) => {
                    Names::of([path].into_iter()).map_or(Ok(()), |names| Err(Why::Changed(names)))
                }
                _ => Err(Why::SingleFile),
            };
        }
        let changed = self
            .files
            .iter()
            .filter(|(path, digest)| files.get(path).is_some_and(|is| is != *digest))
            .map(|(path, _)| path);
        if let Some(names) = Names::of(changed) {
            return Err(Why::Changed(names));
        }
        if let Some(names) = Names::of(self.files.keys().filter(|path| !files.contains_key(path))) {
            return Err(Why::Missing(names));
        }
        let unsigned = || {
            files
                .keys()
                .filter(|path| !self.files.contains_key(path) && Some(*path) != signature_file)
        };
        if let Some(names) = Names::of(unsigned().filter(|path| !self.ignores(path))) {
            return Err(Why::Added(names));
        }
        Names::of(unsigned()).map_or(Ok(()), |names| Err(Why::Ignored(names)))
    }

    /// Whether the signer left out the file, or a directory that it is in.
    fn ignores(&self, path: &RelativePath) -> bool {
        let path = path.as_str();
        let directories = path.match_indices('/').map(|(end, _)| &path[..end]);
        directories.chain([path]).any(|part| self.ignored.contains(part))
    }
}

/// The listed files, and their root digest in the order of the list.
fn files_of(resources: &[Resource]) -> Result<(Files, Digest), Why> {
    if resources.len() > FILES_MAX {
        return Err(Why::TooManyFiles(resources.len()));
    }
    let mut files = Files::new();
    let mut digests = Vec::with_capacity(resources.len());
    for resource in resources {
        if resource.algorithm != "sha256" {
            return Err(Why::HashType(shown(&resource.algorithm)));
        }
        if resource.name == SINGLE {
            return Err(Why::SingleFile);
        }
        let digest = digest_of(resource)?;
        if files.insert(RelativePath::parse(&resource.name)?, digest).is_some() {
            return Err(Why::Duplicate(shown(&resource.name)));
        }
        digests.push(digest);
    }
    Ok((files, root_of(digests.iter())))
}

fn digest_of(resource: &Resource) -> Result<Digest, Why> {
    Digest::from_hex(&resource.digest).map_err(|_| Why::Digest(shown(&resource.name)))
}

fn parse<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, Why> {
    serde_json::from_slice(payload).map_err(|e| Why::NotAStatement(shown(&e.to_string())))
}
