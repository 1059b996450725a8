//! Verifies OpenSSF Model Signing v1.0 signatures (`model.sig`) of files that were fetched and
//! hashed.
//!
//! Pure: no I/O and no clock; the files come as digests. A signature is a Sigstore bundle around a
//! DSSE envelope around an in-toto statement that lists every file. It is accepted when a trusted
//! key or certificate made it and the files are exactly those listed.
//!
//! Sources: the reference tool `model_signing` 1.1.1 (PyPI), DSSE v1, in-toto Statement v1,
//! Sigstore bundle v0.3, RFC 5280.

mod bundle;
mod certificate;
mod chain;
mod error;
mod key;
mod manifest;
mod trust;

#[cfg(test)]
mod tests;

pub use self::{
    chain::ChainError,
    error::{Error, Names, Why},
    trust::{Trust, TrustError},
};

use self::{bundle::Bundle, manifest::Manifest};
use super::{
    digest::{Digest, Files},
    name::RelativePath,
};

/// What an accepted signature says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Who made it.
    pub by: Signer,
    /// The signed root digest: [`super::digest::root`] of the files where the signer sorts as
    /// `model_signing` does.
    ///
    /// Signers that sort whole names as text (the Go tool, the draft of the specification) arrive
    /// at another root for some sets of files, so that a recorded digest is better compared with
    /// [`super::digest::root`].
    pub root: Digest,
}

/// Who made a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Signer {
    /// A trusted key.
    Key {
        /// `sha256:<hex>` of the public key as PEM, as `sha256sum key.pub` and the bundle's `hint`
        /// have it.
        fingerprint: String,
    },
    /// The holder of a certificate that is trusted, or was issued under a trusted one.
    Certificate {
        /// Its subject as in RFC 4514, escaped.
        subject: String,
        /// `sha256:<hex>` of the certificate as DER, as `openssl x509 -fingerprint -sha256` has it.
        fingerprint: String,
    },
}

/// Checks that someone trusted signed exactly these files.
///
/// `bundle` is the signature as fetched; `files` are all that will be delivered, and
/// `signature_file` is the signature's own path among them, if it is there; `artifact` names the
/// files in errors.
///
/// # Errors
/// When the signature cannot be read, is not from someone trusted, or lists other files; each says
/// what to do about it.
pub fn verify(
    bundle: &[u8],
    trust: &Trust,
    files: &Files,
    signature_file: Option<&RelativePath>,
    artifact: &str,
) -> Result<Signed, Error> {
    check(bundle, trust, files, signature_file)
        .map_err(|why| Error { artifact: error::shown(artifact), why })
}

fn check(
    bundle: &[u8],
    trust: &Trust,
    files: &Files,
    signature_file: Option<&RelativePath>,
) -> Result<Signed, Why> {
    let bundle = Bundle::parse(bundle)?;
    // Said before the signature is looked at, for older signatures are made over other bytes; it
    // can only refuse.
    manifest::known_format(&bundle.payload)?;
    let by = trust.signer_of(&bundle)?;
    let manifest = Manifest::parse(&bundle.payload)?;
    manifest.compare(files, signature_file)?;
    Ok(Signed { by, root: manifest.root })
}
