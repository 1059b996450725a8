//! Public keys, and signatures made with them.

use p256::ecdsa::signature::hazmat::PrehashVerifier;
use ring::signature::{
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    UnparsedPublicKey,
};
use sha2::{Digest, Sha256, Sha384, Sha512};
use x509_cert::{
    der::{
        Decode, Encode,
        asn1::{AnyRef, BitStringRef, ObjectIdentifier},
        oid::db::rfc5912::{
            ID_EC_PUBLIC_KEY, RSA_ENCRYPTION, SECP_256_R_1, SECP_384_R_1, SECP_521_R_1,
        },
        pem::{self, LineEnding},
    },
    spki::{AlgorithmIdentifierRef, SubjectPublicKeyInfoRef},
};

/// A key on one of the three curves that `model_signing` signs with.
#[derive(Clone, Debug)]
pub struct PublicKey {
    point: Point,
    /// `sha256:<hex>` of the key as PEM.
    pub fingerprint: String,
}

#[derive(Clone, Debug)]
enum Point {
    P256(p256::ecdsa::VerifyingKey),
    P384(p384::ecdsa::VerifyingKey),
    P521(p521::ecdsa::VerifyingKey),
}

/// A hash that is signed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// A key with which certificates are issued.
pub enum IssuerKey<'a> {
    Curve(PublicKey),
    /// As RSAPublicKey of PKCS #1.
    Rsa(&'a [u8]),
}

impl PublicKey {
    /// The key in a SubjectPublicKeyInfo; none if it is no point on one of the curves.
    pub fn from_spki(der: &[u8]) -> Option<Self> {
        Self::of(&SubjectPublicKeyInfoRef::from_der(der).ok()?)
    }

    fn of(spki: &SubjectPublicKeyInfoRef<'_>) -> Option<Self> {
        if spki.algorithm.oid != ID_EC_PUBLIC_KEY {
            return None;
        }
        let curve: ObjectIdentifier = spki.algorithm.parameters?.decode_as().ok()?;
        let bytes = spki.subject_public_key.as_bytes()?;
        let (point, uncompressed) = match curve {
            SECP_256_R_1 => {
                let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(bytes).ok()?;
                (Point::P256(key), key.to_sec1_point(false).as_bytes().to_vec())
            }
            SECP_384_R_1 => {
                let key = p384::ecdsa::VerifyingKey::from_sec1_bytes(bytes).ok()?;
                (Point::P384(key), key.to_sec1_point(false).as_bytes().to_vec())
            }
            SECP_521_R_1 => {
                let key = p521::ecdsa::VerifyingKey::from_sec1_bytes(bytes).ok()?;
                (Point::P521(key), key.to_sec1_point(false).as_bytes().to_vec())
            }
            _ => return None,
        };
        Some(Self { point, fingerprint: fingerprint(curve, &uncompressed)? })
    }

    /// Whether the signature (DER) is over `message`, hashed with the hash that `model_signing`
    /// takes for the key's curve: SHA-256 for P-256, SHA-384 for P-384, SHA-512 for P-521.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let hash = match self.point {
            Point::P256(_) => Hash::Sha256,
            Point::P384(_) => Hash::Sha384,
            Point::P521(_) => Hash::Sha512,
        };
        self.verifies_with(hash, message, signature)
    }

    /// Whether the signature (DER) is over `message`, hashed with `hash`.
    fn verifies_with(&self, hash: Hash, message: &[u8], signature: &[u8]) -> bool {
        let hashed = hash.digest(message);
        let valid = match &self.point {
            Point::P256(key) => p256::ecdsa::Signature::from_der(signature)
                .and_then(|s| key.verify_prehash(&hashed, &s)),
            Point::P384(key) => p384::ecdsa::Signature::from_der(signature)
                .and_then(|s| key.verify_prehash(&hashed, &s)),
            Point::P521(key) => p521::ecdsa::Signature::from_der(signature)
                .and_then(|s| key.verify_prehash(&hashed, &s)),
        };
        valid.is_ok()
    }
}

impl Hash {
    fn digest(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(message).to_vec(),
            Self::Sha384 => Sha384::digest(message).to_vec(),
            Self::Sha512 => Sha512::digest(message).to_vec(),
        }
    }
}

impl<'a> IssuerKey<'a> {
    /// The key in a SubjectPublicKeyInfo; none if it is of a kind that is not verified.
    pub fn of(spki: &SubjectPublicKeyInfoRef<'a>) -> Option<Self> {
        if spki.algorithm.oid == RSA_ENCRYPTION {
            return spki.subject_public_key.as_bytes().map(Self::Rsa);
        }
        PublicKey::of(spki).map(Self::Curve)
    }

    /// Whether the signature of a certificate is over `message`. RSA keys have 2048 to 8192 bits,
    /// and PKCS #1 v1.5 signatures.
    pub fn verifies(&self, hash: Hash, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Curve(key) => key.verifies_with(hash, message, signature),
            Self::Rsa(key) => {
                let algorithm = match hash {
                    Hash::Sha256 => &RSA_PKCS1_2048_8192_SHA256,
                    Hash::Sha384 => &RSA_PKCS1_2048_8192_SHA384,
                    Hash::Sha512 => &RSA_PKCS1_2048_8192_SHA512,
                };
                UnparsedPublicKey::new(algorithm, key).verify(message, signature).is_ok()
            }
        }
    }
}

/// The fingerprint of a key as `model_signing` takes it: over its PEM as OpenSSL writes it.
fn fingerprint(curve: ObjectIdentifier, point: &[u8]) -> Option<String> {
    let algorithm =
        AlgorithmIdentifierRef { oid: ID_EC_PUBLIC_KEY, parameters: Some(AnyRef::from(&curve)) };
    let spki = SubjectPublicKeyInfoRef {
        algorithm,
        subject_public_key: BitStringRef::from_bytes(point).ok()?,
    };
    let pem = pem::encode_string("PUBLIC KEY", LineEnding::LF, &spki.to_der().ok()?).ok()?;
    Some(sha256(pem.as_bytes()))
}

/// `sha256:<hex>` of bytes.
pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", base16ct::lower::encode_string(&Sha256::digest(bytes)))
}
