//! Whom to trust, and whether one of them made a signature.

use x509_cert::der::pem::{self, Decoder};

use super::{
    Signer,
    bundle::{Bundle, Material},
    certificate::{Certificate, named},
    chain,
    error::{Why, shown},
    key::PublicKey,
};

/// Most keys and most certificates that may be trusted.
const TRUSTED_MAX: usize = 64;

/// Whom to trust: at least one key or certificate, from the policy, never from what is to be
/// verified.
#[derive(Clone, Debug)]
pub struct Trust {
    keys: Vec<PublicKey>,
    certificates: Vec<Certificate>,
}

/// Why a policy's keys and certificates cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// There is nothing.
    #[error(
        "The policy names no key and no certificate to trust: add a public key or the certificate of an authority."
    )]
    Empty,
    /// Too much.
    #[error(
        "The policy names {0} keys or certificates to trust, and {TRUSTED_MAX} of each at most are read: remove those no longer in use."
    )]
    TooMany(usize),
    /// Not PEM.
    #[error(
        "Text number {1} among the policy's {0} is not PEM: paste the file from its -----BEGIN to its -----END line."
    )]
    NotPem(&'static str, usize),
    /// A secret.
    #[error(
        "Text number {1} among the policy's {0} is a private key: remove it, replace the key, and name its public key instead."
    )]
    Private(&'static str, usize),
    /// Something else.
    #[error("Text number {1} among the policy's {0} is PEM of a {2}, and {wanted} belongs there: replace it.", wanted = label(.0))]
    Label(&'static str, usize, String),
    /// A key of another kind.
    #[error(
        "Text number {0} among the policy's public keys is no key on curve P-256, P-384 or P-521: name one that is."
    )]
    Key(usize),
    /// Not a certificate.
    #[error(
        "Text number {0} among the policy's certificates cannot be read as X.509: paste the certificate again."
    )]
    Certificate(usize),
}

const KEYS: &str = "public keys";
const CERTIFICATES: &str = "certificates";

fn label(list: &str) -> &'static str {
    if list == KEYS { "PUBLIC KEY" } else { "CERTIFICATE" }
}

impl Trust {
    /// The keys and certificates in PEM texts, each of which may hold several. A certificate is
    /// trusted as an authority, and as a signer if it is the signer's own.
    ///
    /// # Errors
    /// When there is none at all, or one cannot be used.
    pub fn parse<T: AsRef<str>>(public_keys: &[T], certificates: &[T]) -> Result<Self, TrustError> {
        let key = |(n, der): (usize, Vec<u8>)| PublicKey::from_spki(&der).ok_or(TrustError::Key(n));
        let certificate = |(n, der): (usize, Vec<u8>)| {
            Certificate::parse(der).map_err(|_| TrustError::Certificate(n))
        };
        let trust = Self {
            keys: blocks(KEYS, public_keys)?.into_iter().map(key).collect::<Result<_, _>>()?,
            certificates: blocks(CERTIFICATES, certificates)?
                .into_iter()
                .map(certificate)
                .collect::<Result<_, _>>()?,
        };
        match trust.keys.len() + trust.certificates.len() {
            0 => Err(TrustError::Empty),
            _ => Ok(trust),
        }
    }

    /// Who of those trusted made a signature.
    pub(super) fn signer_of(&self, bundle: &Bundle) -> Result<Signer, Why> {
        match &bundle.material {
            Material::Key(_) if self.keys.is_empty() => Err(Why::NoKeyTrusted),
            Material::Certificates(_) if self.certificates.is_empty() => {
                Err(Why::NoCertificateTrusted)
            }
            Material::Key(hint) => self.key_of(bundle, hint.as_deref()),
            Material::Certificates(sent) => {
                let (certificate, key) = chain::signer(sent, &self.certificates)?;
                let subject = named(certificate.subject());
                match bundle.signed_by(&key) {
                    true => {
                        Ok(Signer::Certificate { subject, fingerprint: certificate.fingerprint() })
                    }
                    false => Err(Why::Altered(format!("the holder of certificate {subject}"))),
                }
            }
        }
    }

    /// The trusted key that made a signature; what the bundle says of it only tells what to say
    /// where there is none.
    fn key_of(&self, bundle: &Bundle, hint: Option<&str>) -> Result<Signer, Why> {
        if let Some(key) = self.keys.iter().find(|key| bundle.signed_by(key)) {
            return Ok(Signer::Key { fingerprint: key.fingerprint.clone() });
        }
        let hinted = |key: &&PublicKey| key.fingerprint.strip_prefix("sha256:") == hint;
        match self.keys.iter().find(hinted) {
            Some(key) => Err(Why::Altered(format!("key {}", key.fingerprint))),
            None => Err(Why::UntrustedKey(hint.map(str::to_owned))),
        }
    }
}

/// The PEM blocks of a list of texts, with the number of their text.
fn blocks<T: AsRef<str>>(
    list: &'static str,
    texts: &[T],
) -> Result<Vec<(usize, Vec<u8>)>, TrustError> {
    let mut all = Vec::new();
    for (n, text) in (1..).zip(texts) {
        // YAML may have left its indentation, and editors blanks at the ends of lines.
        let text = text.as_ref().lines().map(str::trim).collect::<Vec<_>>().join("\n");
        let mut rest = text.as_str();
        let before = all.len();
        while let Some((block, after)) = first_block(rest) {
            all.push((n, decode(list, n, block)?));
            rest = after;
        }
        if all.len() == before || rest.contains("-----BEGIN ") {
            return Err(TrustError::NotPem(list, n));
        }
    }
    if all.len() > TRUSTED_MAX { Err(TrustError::TooMany(all.len())) } else { Ok(all) }
}

/// The first block of a text, and what comes after it.
fn first_block(text: &str) -> Option<(&str, &str)> {
    let text = &text[text.find("-----BEGIN ")?..];
    let end = text.find("\n-----END ")? + "\n-----END ".len();
    let end = end + text[end..].find("-----")? + "-----".len();
    Some(text.split_at(end))
}

/// The bytes of a block, if it has the label that belongs into the list.
fn decode(list: &'static str, n: usize, block: &str) -> Result<Vec<u8>, TrustError> {
    let not_pem = |_: pem::Error| TrustError::NotPem(list, n);
    let found = pem::decode_label(block.as_bytes()).map_err(not_pem)?;
    if found.contains("PRIVATE KEY") {
        return Err(TrustError::Private(list, n));
    }
    if found != label(list) {
        return Err(TrustError::Label(list, n, shown(found)));
    }
    let mut der = Vec::new();
    Decoder::new_detect_wrap(block.as_bytes())
        .and_then(|mut decoder| decoder.decode_to_end(&mut der).map(|_| ()))
        .map_err(not_pem)?;
    Ok(der)
}
