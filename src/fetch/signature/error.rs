//! Why a signature is refused, in sentences for people.

use std::fmt;

use super::{bundle, chain::ChainError, manifest};
use crate::fetch::name;

/// Longest text from outside in an error, in characters.
const SHOWN_MAX: usize = 160;

/// A refused signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("The signature of {artifact} is refused: {why}")]
pub struct Error {
    /// What it is the signature of, escaped.
    pub artifact: String,
    /// Why it is refused.
    pub why: Why,
}

/// Why a signature is refused. Texts within are escaped and bounded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// The bundle is larger than is read.
    #[error("it has {0} bytes, and {max} at most are read: sign fewer files, or pack small ones together.", max = bundle::BYTES_MAX)]
    TooLarge(usize),
    /// The bundle is not what it should be.
    #[error(
        "it is not a Sigstore bundle with one signed statement ({0}): sign again with model_signing."
    )]
    NotABundle(String),
    /// The bundle is of another version.
    #[error("it is a bundle of media type {0}, and only {known} is read: sign again with model_signing 1.0 or newer.", known = bundle::MEDIA_TYPE)]
    MediaType(String),
    /// Made with a short-lived certificate of Sigstore.
    #[error(
        "it is keyless, and keyless signatures are not verified yet: sign with a key or a certificate."
    )]
    Keyless,
    /// None or several signatures.
    #[error("it holds {0} signatures, and exactly one is read: sign again with model_signing.")]
    SignatureCount(usize),
    /// Something else than an in-toto statement is signed.
    #[error("it signs a payload of type {0}, and only {known} is read: sign again with model_signing.", known = bundle::PAYLOAD_TYPE)]
    PayloadType(String),
    /// Made with a key, and no key is trusted.
    #[error(
        "it is made with a key, and no key is trusted: add the signer's public key to the policy, or sign with a trusted certificate."
    )]
    NoKeyTrusted,
    /// Made with a certificate, and none is trusted.
    #[error(
        "it is made with a certificate, and no certificate is trusted: add the certificate of its authority to the policy, or sign with a trusted key."
    )]
    NoCertificateTrusted,
    /// Made with another key.
    #[error("none of the trusted keys made it{hint}: sign with a trusted key, or add the signer's public key to the policy.", hint = named(.0))]
    UntrustedKey(Option<String>),
    /// Claims a trusted signer, but is not over this payload.
    #[error(
        "it does not fit what it is said to sign by {0}: it was altered; get it anew from the signer, or sign again."
    )]
    Altered(String),
    /// The certificate is not trusted.
    #[error("{0}")]
    Chain(#[from] ChainError),
    /// The statement is not what it should be.
    #[error("what it signs is not a statement about a model ({0}): sign again with model_signing.")]
    NotAStatement(String),
    /// Made before model_signing 0.3.
    #[error(
        "it is in the format of model_signing before 0.3: sign again with model_signing 1.0 or newer."
    )]
    OldFormat,
    /// Another kind of statement.
    #[error("it signs a statement of type {0}, and only {known} is read: sign again with model_signing.", known = manifest::PREDICATE_TYPE)]
    PredicateType(String),
    /// Files are not hashed whole.
    #[error(
        "its files are hashed by method {0}, and only method files is verified: sign again with method files and sha256."
    )]
    Method(String),
    /// Files are hashed with another hash.
    #[error(
        "its files are hashed with {0}, and only sha256 is verified: sign again with method files and sha256."
    )]
    HashType(String),
    /// One file was signed, and there is a directory.
    #[error("it signs a single file, and the artifact is a directory: sign the directory.")]
    SingleFile,
    /// More files than are read.
    #[error("it lists {0} files, and {max} at most are read: sign fewer files, or pack small ones together.", max = manifest::FILES_MAX)]
    TooManyFiles(usize),
    /// A listed name is not plain.
    #[error("it lists a file whose name is not accepted. {0}")]
    Name(#[from] name::Error),
    /// A name is listed twice.
    #[error("it lists {0} twice: sign again with model_signing.")]
    Duplicate(String),
    /// A listed digest is not one.
    #[error("its digest of {0} is not a sha256 in lower-case hex: sign again with model_signing.")]
    Digest(String),
    /// The subject is not made of the files listed.
    #[error("its root digest is not the one of the files it lists: sign again with model_signing.")]
    Root,
    /// Files with other bytes.
    #[error(
        "{0} has other bytes than were signed: restore what was signed, or have the artifact signed again."
    )]
    Changed(Names),
    /// Files that are not there.
    #[error(
        "{0} was signed and is not there: restore what was signed, or have the artifact signed again."
    )]
    Missing(Names),
    /// Files that were not signed.
    #[error("{0} is there and was not signed: remove it, or have the artifact signed again.")]
    Added(Names),
    /// Files that were left out on purpose, and are there.
    #[error(
        "{0} is there and the signer chose to ignore it, so nobody vouches for it: remove it, or sign again without ignoring it."
    )]
    Ignored(Names),
}

/// Files by the name of the first and the number of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The first by name, escaped.
    pub first: String,
    /// How many more there are.
    pub more: usize,
}

impl Names {
    /// The names as one, if there is any.
    pub(super) fn of<T: fmt::Display>(mut names: impl Iterator<Item = T>) -> Option<Self> {
        let first = names.next()?.to_string();
        Some(Self { first, more: names.count() })
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.more {
            0 => write!(f, "file {}", self.first),
            more => write!(f, "file {} (and {more} more)", self.first),
        }
    }
}

fn named(hint: &Option<String>) -> String {
    hint.as_ref().map(|hint| format!(" (it names key sha256:{hint})")).unwrap_or_default()
}

/// A text from outside as it may stand in an error: escaped, and of bounded length.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == SHOWN_MAX {
            shown.push('…');
            break;
        }
        match c {
            '\'' | '"' => shown.push(c),
            _ => shown.extend(c.escape_debug()),
        }
    }
    shown
}
