//! Whether somebody trusted signed what was fetched: the bundle is brought like everything else,
//! and looked at by [`super::signature`].

use std::{fs, path::Path};

use futures::TryStreamExt;

use super::{
    digest::Files,
    error::{Error, Reason},
    job::{Fetch, Request},
    place::write_whole,
    signature::{self, Signer, Why},
    source::{self, Shape},
};

/// The largest bundle that is read, in bytes.
const BUNDLE_MAX: u64 = 32 * 1024 * 1024;

impl Fetch {
    /// Who signed the files, where signatures are demanded; None where they are not.
    ///
    /// # Errors
    /// When there is no signature, it cannot be fetched, or it does not hold.
    pub(super) async fn signed(
        &self,
        request: &Request,
        shape: Shape,
        files: &Files,
        bundle: Option<&[u8]>,
    ) -> Result<Option<String>, Error> {
        let Some(trust) = &self.trust else { return Ok(None) };
        if matches!(shape, Shape::Manifest(_)) {
            let sentence = format!(
                "A signature is demanded, and those of OCI artifacts are not verified yet: keep {} in a bucket instead.",
                request.address
            );
            return Err(Error::new(Reason::Unsupported, sentence));
        }
        let fetched;
        let bundle = match bundle {
            Some(bundle) => bundle,
            None => {
                fetched = self.bundle(request).await?;
                &fetched
            }
        };
        let signed = signature::verify(bundle, trust, files, None, &request.address.to_string())
            .map_err(|error| {
                let reason = if error.why == Why::Keyless {
                    Reason::Unsupported
                } else {
                    Reason::SignatureInvalid
                };
                Error::new(reason, error.to_string())
            })?;
        Ok(Some(match signed.by {
            Signer::Key { fingerprint } | Signer::Certificate { fingerprint, .. } => fingerprint,
        }))
    }

    /// Who signed files that are there already: by the bundle that was kept, or, where that does
    /// not hold, by the one that there is now.
    pub(super) async fn still_signed(
        &self,
        request: &Request,
        shape: Shape,
        files: &Files,
        kept: Option<Vec<u8>>,
    ) -> Result<Option<String>, Error> {
        if let Some(kept) = kept
            && let Ok(signer) = self.signed(request, shape, files, Some(&kept)).await
        {
            return Ok(signer);
        }
        self.signed(request, shape, files, None).await
    }

    /// The signature's bundle.
    pub(super) async fn bundle(&self, request: &Request) -> Result<Vec<u8>, Error> {
        let Some(address) = &request.signature else {
            let sentence = format!(
                "A signature is demanded, and the version of {} names none: sign it, and register it with artifact.signature.",
                request.address
            );
            return Err(Error::new(Reason::SignatureMissing, sentence));
        };
        let missing = |error: Error| {
            let reason = if error.reason == Reason::NotFound {
                Reason::SignatureMissing
            } else {
                error.reason
            };
            Error::new(reason, format!("Cannot read the signature. {}", error.sentence))
        };
        let source = source::open(address, &self.means).await?;
        let listing = source.list().await.map_err(missing)?;
        let [entry] = listing.entries.as_slice() else {
            return Err(Error::new(
                Reason::InvalidRequest,
                format!("The signature {address} is a directory: name the file."),
            ));
        };
        let mut arriving =
            source.read(entry, 0..entry.size.unwrap_or(BUNDLE_MAX)).await.map_err(missing)?;
        let mut bundle = Vec::new();
        while let Some(some) = arriving.try_next().await.map_err(missing)? {
            bundle.extend_from_slice(&some);
            if bundle.len() as u64 > BUNDLE_MAX {
                return Err(Error::new(
                    Reason::SignatureInvalid,
                    format!("The signature {address} is larger than 32 MiB."),
                ));
            }
        }
        Ok(bundle)
    }
}

/// The bundle that was kept beside what it signs.
#[must_use]
pub fn kept(record: &Path) -> Option<Vec<u8>> {
    fs::read(record.with_extension("sig")).ok()
}

/// Keeps a bundle beside what it signs, so that the next pod asks nobody for it.
///
/// # Errors
/// When it cannot be written.
pub fn keep(record: &Path, bundle: &[u8]) -> Result<(), Error> {
    write_whole(&record.with_extension("sig"), bundle)
        .map_err(|e| Error::io("keep the signature", &e))
}
