//! One X.509 certificate: what it says, and what it may be used for (RFC 5280).

use std::{fmt::Write, time::Duration};

use x509_cert::{
    der::{
        self, Decode, Encode, Header, Reader, SliceReader,
        asn1::ObjectIdentifier,
        oid::{
            AssociatedOid,
            db::{
                rfc5280::{
                    ANY_EXTENDED_KEY_USAGE, ID_CE_AUTHORITY_KEY_IDENTIFIER, ID_CE_SUBJECT_ALT_NAME,
                    ID_CE_SUBJECT_KEY_IDENTIFIER, ID_KP_CODE_SIGNING,
                },
                rfc5912::{
                    ECDSA_WITH_SHA_256, ECDSA_WITH_SHA_384, ECDSA_WITH_SHA_512,
                    SHA_256_WITH_RSA_ENCRYPTION, SHA_384_WITH_RSA_ENCRYPTION,
                    SHA_512_WITH_RSA_ENCRYPTION,
                },
            },
        },
    },
    ext::pkix::{BasicConstraints, ExtendedKeyUsage, KeyUsage},
    name::Name,
    spki::SubjectPublicKeyInfoRef,
};

use super::{
    error::shown,
    key::{Hash, IssuerKey, PublicKey, sha256},
};

/// Largest certificate that is read, in bytes.
const BYTES_MAX: usize = 64 << 10;
/// What Fulcio, Sigstore's authority, puts into every certificate, below this.
const FULCIO: &str = "1.3.6.1.4.1.57264.1.";
/// Extensions that are understood, or say nothing about what a certificate may be used for.
const KNOWN: [ObjectIdentifier; 6] = [
    BasicConstraints::OID,
    KeyUsage::OID,
    ExtendedKeyUsage::OID,
    ID_CE_SUBJECT_ALT_NAME,
    ID_CE_SUBJECT_KEY_IDENTIFIER,
    ID_CE_AUTHORITY_KEY_IDENTIFIER,
];

/// A certificate that can be read; nothing in it is verified.
#[derive(Clone, Debug)]
pub struct Certificate {
    der: Vec<u8>,
    parsed: x509_cert::Certificate,
    constraints: Option<BasicConstraints>,
    usage: Option<KeyUsage>,
    extended: Option<ExtendedKeyUsage>,
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.der == other.der
    }
}

impl Certificate {
    /// Reads a certificate.
    pub fn parse(der: Vec<u8>) -> der::Result<Self> {
        if der.len() > BYTES_MAX {
            return Err(der::ErrorKind::Overlength.into());
        }
        let parsed = x509_cert::Certificate::from_der(&der)?;
        let tbs = parsed.tbs_certificate();
        Ok(Self {
            constraints: tbs.get_extension()?.map(|(_, value)| value),
            usage: tbs.get_extension()?.map(|(_, value)| value),
            extended: tbs.get_extension()?.map(|(_, value)| value),
            der,
            parsed,
        })
    }

    pub fn subject(&self) -> &Name {
        self.parsed.tbs_certificate().subject()
    }

    pub fn issuer(&self) -> &Name {
        self.parsed.tbs_certificate().issuer()
    }

    /// `sha256:<hex>` of it.
    pub fn fingerprint(&self) -> String {
        sha256(&self.der)
    }

    /// When it becomes valid, as time since 1970.
    pub fn not_before(&self) -> Duration {
        self.parsed.tbs_certificate().validity().not_before.to_unix_duration()
    }

    pub fn valid_at(&self, time: Duration) -> bool {
        self.not_before() <= time
            && time <= self.parsed.tbs_certificate().validity().not_after.to_unix_duration()
    }

    /// The first critical extension that is not understood.
    pub fn unknown(&self) -> Option<ObjectIdentifier> {
        self.extensions().find(|(id, critical)| *critical && !KNOWN.contains(id)).map(|(id, _)| id)
    }

    /// Whether Sigstore's authority issued it to someone who logged in.
    pub fn is_keyless(&self) -> bool {
        self.extensions().any(|(id, _)| id.to_string().starts_with(FULCIO))
    }

    fn extensions(&self) -> impl Iterator<Item = (ObjectIdentifier, bool)> {
        self.parsed
            .tbs_certificate()
            .extensions()
            .into_iter()
            .flatten()
            .map(|e| (e.extn_id, e.critical))
    }

    /// Whether it may sign models: keyUsage digitalSignature, or extendedKeyUsage codeSigning, as
    /// `model_signing` has it. Unlike there, an extendedKeyUsage that is present has to allow it: a
    /// web server's certificate signs no models.
    pub fn may_sign(&self) -> bool {
        let digital_signature = self.usage.is_some_and(|usage| usage.digital_signature());
        self.allows_code() && (digital_signature || self.extended.is_some())
    }

    /// Whether extendedKeyUsage is absent, or allows to sign code.
    pub fn allows_code(&self) -> bool {
        let code =
            |id: &ObjectIdentifier| *id == ID_KP_CODE_SIGNING || *id == ANY_EXTENDED_KEY_USAGE;
        self.extended.as_ref().is_none_or(|usages| usages.0.iter().any(code))
    }

    /// Whether it may issue certificates at all: basicConstraints CA, and keyCertSign where it has
    /// a keyUsage (RFC 5280, 6.1.4).
    pub fn may_issue(&self) -> bool {
        self.constraints.as_ref().is_some_and(|c| c.ca)
            && self.usage.is_none_or(|usage| usage.key_cert_sign())
    }

    /// How many authorities may stand between it and a signer.
    pub fn path_length(&self) -> usize {
        self.constraints
            .as_ref()
            .and_then(|c| c.path_len_constraint)
            .map_or(usize::MAX, usize::from)
    }

    /// The key of a signer; none if it is not on one of the curves.
    pub fn key(&self) -> Option<PublicKey> {
        PublicKey::from_spki(&self.spki()?)
    }

    /// Whether `issuer`'s key signed it; none if its kind of key or signature is not verified.
    pub fn signed_by(&self, issuer: &Self) -> Option<bool> {
        // Of which of the two the signature is made is not to be left open (RFC 5280, 4.1.1.2).
        let algorithm = self.parsed.signature_algorithm();
        if algorithm != self.parsed.tbs_certificate().signature() {
            return Some(false);
        }
        let spki = issuer.spki()?;
        let key = IssuerKey::of(&SubjectPublicKeyInfoRef::from_der(&spki).ok()?)?;
        let hash = match (&key, algorithm.oid) {
            (IssuerKey::Curve(_), ECDSA_WITH_SHA_256)
            | (IssuerKey::Rsa(_), SHA_256_WITH_RSA_ENCRYPTION) => Hash::Sha256,
            (IssuerKey::Curve(_), ECDSA_WITH_SHA_384)
            | (IssuerKey::Rsa(_), SHA_384_WITH_RSA_ENCRYPTION) => Hash::Sha384,
            (IssuerKey::Curve(_), ECDSA_WITH_SHA_512)
            | (IssuerKey::Rsa(_), SHA_512_WITH_RSA_ENCRYPTION) => Hash::Sha512,
            _ => return None,
        };
        let valid = || {
            Some(key.verifies(hash, self.to_be_signed().ok()?, self.parsed.signature().as_bytes()?))
        };
        Some(valid().unwrap_or(false))
    }

    fn spki(&self) -> Option<Vec<u8>> {
        self.parsed.tbs_certificate().subject_public_key_info().to_der().ok()
    }

    /// The bytes that are signed, as they came: written anew they could be others.
    fn to_be_signed(&self) -> der::Result<&[u8]> {
        let mut reader = SliceReader::new(&self.der)?;
        Header::decode(&mut reader)?;
        reader.tlv_bytes()
    }
}

/// A name as in RFC 4514, escaped.
pub fn named(name: &Name) -> String {
    let mut text = String::new();
    // Not to_string(), which panics on a name that cannot be written.
    match write!(text, "{name}") {
        Ok(()) if !text.is_empty() => shown(&text),
        _ => "without a name".into(),
    }
}
