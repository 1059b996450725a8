//! From the certificate of a signer to one that is trusted.

use std::time::Duration;

use super::{
    certificate::{Certificate, named},
    error::Why,
    key::PublicKey,
};

/// Most certificates in a bundle, and from a signer to what is trusted.
const CERTIFICATES_MAX: usize = 8;
/// Most signatures that are checked on the way.
const CHECKS_MAX: usize = 64;

/// Why a certificate is not trusted. Names within are escaped and bounded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// None, or more than are read.
    #[error(
        "it holds {0} certificates, and 1 to {CERTIFICATES_MAX} are read: sign with the signer's certificate and those of its authorities."
    )]
    Count(usize),
    /// Not a certificate.
    #[error(
        "its certificate number {0} cannot be read: sign again with certificates of X.509 version 3."
    )]
    Unreadable(usize),
    /// A key of another kind.
    #[error(
        "the key of certificate {0} is not on curve P-256, P-384 or P-521: sign with a key that is."
    )]
    Key(String),
    /// Not for signing.
    #[error(
        "certificate {0} may not sign models: have one issued with keyUsage digitalSignature, and extendedKeyUsage codeSigning or none."
    )]
    NotForSigning(String),
    /// Out of date.
    #[error(
        "certificate {0} was not valid when the signer's certificate began: have the signer's issued anew."
    )]
    NotValid(String),
    /// Not an authority.
    #[error(
        "certificate {0} may not issue certificates: sign with one whose issuers all have basicConstraints CA and keyUsage keyCertSign."
    )]
    NotAnAuthority(String),
    /// Too many authorities below one.
    #[error(
        "certificate {0} allows fewer authorities below it than there are: have the signer's issued by an authority closer to it."
    )]
    PathLength(String),
    /// An extension that has to be understood, and is not.
    #[error(
        "certificate {0} has critical extension {1}, which is not understood: sign with certificates without it."
    )]
    Extension(String, String),
    /// A signature of another kind.
    #[error(
        "the signature of certificate {0} is neither ECDSA nor RSA (PKCS #1 v1.5) with SHA-256, 384 or 512: have it issued anew."
    )]
    Algorithm(String),
    /// Not issued by whom it names.
    #[error(
        "certificate {0} is not signed by the issuer it names: sign with the certificates that belong together."
    )]
    NotIssued(String),
    /// Certificates that could all have issued one another.
    #[error(
        "its certificates can be put together in too many ways: sign with the signer's certificate and those of its authorities only."
    )]
    Ways,
    /// Nobody trusted issued it.
    #[error(
        "no trusted certificate is above certificate {0}, whose issuer is {1}: add its authority to the policy, or sign with a trusted one."
    )]
    Untrusted(String, String),
}

/// The signer's certificate and key, once there is a way from it to one of `trusted`.
///
/// As `model_signing` does it: the time is the one at which the signer's certificate begins, since
/// a signature has no trusted time of its own, and models outlive certificates. Unlike there, any
/// trusted certificate ends the way, not only a self-signed one.
pub fn signer(sent: &[Vec<u8>], trusted: &[Certificate]) -> Result<(Certificate, PublicKey), Why> {
    if sent.is_empty() || sent.len() > CERTIFICATES_MAX {
        return Err(ChainError::Count(sent.len()).into());
    }
    let parse = |(n, der): (usize, &Vec<u8>)| {
        Certificate::parse(der.clone()).map_err(|_| ChainError::Unreadable(n + 1))
    };
    let mut sent = sent.iter().enumerate().map(parse).collect::<Result<Vec<_>, _>>()?;
    let leaf = sent.remove(0);
    // Its holder is whoever logged in somewhere: trust in its issuer is not trust in it.
    if leaf.is_keyless() {
        return Err(Why::Keyless);
    }
    let key = leaf.key().ok_or_else(|| ChainError::Key(named(leaf.subject())))?;
    if !leaf.may_sign() {
        return Err(ChainError::NotForSigning(named(leaf.subject())).into());
    }
    let mut search =
        Search { trusted, sent: &sent, time: leaf.not_before(), checks: CHECKS_MAX, why: None };
    search.usable(&leaf)?;
    if !search.climb(&mut vec![&leaf]) {
        let untrusted = || ChainError::Untrusted(named(leaf.subject()), named(leaf.issuer()));
        return Err(search.why.take().unwrap_or_else(untrusted).into());
    }
    Ok((leaf, key))
}

struct Search<'a> {
    trusted: &'a [Certificate],
    sent: &'a [Certificate],
    time: Duration,
    /// How many more signatures are checked: the certificates sent could be made to have very many
    /// ways.
    checks: usize,
    /// Why the last way tried ends.
    why: Option<ChainError>,
}

impl<'a> Search<'a> {
    /// Whether there is a way from the last of `path` to what is trusted.
    fn climb(&mut self, path: &mut Vec<&'a Certificate>) -> bool {
        let Some(&below) = path.last() else { return false };
        if self.trusted.contains(below) {
            return true;
        }
        let mut found = false;
        for issuer in self.trusted.iter().chain(self.sent) {
            if issuer.subject() != below.issuer()
                || path.contains(&issuer)
                || path.len() == CERTIFICATES_MAX
            {
                continue;
            }
            found = true;
            if let Err(why) = self.issued(issuer, below, path.len() - 1) {
                self.why = Some(why);
                continue;
            }
            path.push(issuer);
            if self.climb(path) {
                return true;
            }
            path.pop();
        }
        if !found {
            self.why = Some(ChainError::Untrusted(named(below.subject()), named(below.issuer())));
        }
        false
    }

    /// Checks that `issuer` may have issued `below`, with so many authorities below it, and did.
    fn issued(
        &mut self,
        issuer: &Certificate,
        below: &Certificate,
        authorities: usize,
    ) -> Result<(), ChainError> {
        self.usable(issuer)?;
        if !issuer.may_issue() || !issuer.allows_code() {
            return Err(ChainError::NotAnAuthority(named(issuer.subject())));
        }
        if authorities > issuer.path_length() {
            return Err(ChainError::PathLength(named(issuer.subject())));
        }
        self.checks = self.checks.checked_sub(1).ok_or(ChainError::Ways)?;
        match below.signed_by(issuer) {
            Some(true) => Ok(()),
            Some(false) => Err(ChainError::NotIssued(named(below.subject()))),
            None => Err(ChainError::Algorithm(named(below.subject()))),
        }
    }

    /// Checks what holds for every certificate.
    fn usable(&self, certificate: &Certificate) -> Result<(), ChainError> {
        if !certificate.valid_at(self.time) {
            return Err(ChainError::NotValid(named(certificate.subject())));
        }
        match certificate.unknown() {
            Some(id) => Err(ChainError::Extension(named(certificate.subject()), id.to_string())),
            None => Ok(()),
        }
    }
}
