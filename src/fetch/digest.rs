//! Digests of artifacts: sha256 of one file, and the OpenSSF model-signing root of a directory.

use std::{collections::BTreeMap, fmt, str::FromStr};

use sha2::{Digest as _, Sha256};

use super::name::RelativePath;

/// A sha256.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

/// A text that is not a digest.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
#[error("a digest is sha256: and 64 hexadecimal digits in lower case")]
pub struct NotADigest;

impl Digest {
    /// Of bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// The digits without `sha256:`.
    #[must_use]
    pub fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sha256:{}", self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = NotADigest;

    fn from_str(text: &str) -> Result<Self, NotADigest> {
        Self::from_hex(text.strip_prefix("sha256:").ok_or(NotADigest)?)
    }
}

impl Digest {
    /// From its digits alone.
    ///
    /// # Errors
    /// When they are not 64 hexadecimal digits in lower case.
    pub fn from_hex(hex: &str) -> Result<Self, NotADigest> {
        let hex = Some(hex.as_bytes()).filter(|hex| hex.len() == 64).ok_or(NotADigest)?;
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.chunks_exact(2)) {
            let digits = [nibble(pair[0])?, nibble(pair[1])?];
            *byte = digits[0] << 4 | digits[1];
        }
        Ok(Self(bytes))
    }
}

fn nibble(digit: u8) -> Result<u8, NotADigest> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        _ => Err(NotADigest),
    }
}

/// The files of an artifact, with their digests, in the order of their paths.
pub type Files = BTreeMap<RelativePath, Digest>;

/// The root of a directory as OpenSSF Model Signing v1.0 takes it (serialization method `files`,
/// sha256): the sha256 of the files' raw digests, one after the other, in the order of their paths.
#[must_use]
pub fn root(files: &Files) -> Digest {
    root_of(files.values())
}

/// The root over digests in the order given.
pub(super) fn root_of<'a>(digests: impl Iterator<Item = &'a Digest>) -> Digest {
    Digest(
        digests
            .fold(Sha256::new(), |hasher, digest| hasher.chain_update(digest.0))
            .finalize()
            .into(),
    )
}

/// Whether a path is no part of a directory's digest, and so is not delivered either: the bundle
/// that signs the directory, and what git keeps beside it. `model_signing` leaves the same out.
#[must_use]
pub fn ignored(path: &str) -> bool {
    let first = path.split('/').next().unwrap_or_default();
    path == SIGNATURE || matches!(first, ".git" | ".gitattributes" | ".github" | ".gitignore")
}

/// The name that `model_signing` gives a bundle beside the model.
pub const SIGNATURE: &str = "model.sig";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_written_in_one_way_only() {
        let text = format!("sha256:{}", "0f".repeat(32));
        assert_eq!(text.parse::<Digest>().unwrap().to_string(), text);
        for bad in [
            String::new(),
            "0f".repeat(32),
            format!("sha256:{}", "0F".repeat(32)),
            format!("sha512:{}", "0f".repeat(32)),
            text[..70].into(),
        ] {
            assert_eq!(bad.parse::<Digest>(), Err(NotADigest), "{bad}");
        }
    }

    #[test]
    fn git_and_the_signature_are_no_part_of_a_directory_and_their_namesakes_below_are() {
        for path in ["model.sig", ".git/config", ".gitattributes", ".github/x", ".gitignore"] {
            assert!(ignored(path), "{path}");
        }
        for path in ["a/model.sig", "model.sig.txt", "a/.git/config", ".gitmodules"] {
            assert!(!ignored(path), "{path}");
        }
    }
}
