//! The outer layers of a signature: the Sigstore bundle (JSON) and the DSSE envelope.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, de::IgnoredAny};

use super::{
    error::{Why, shown},
    key::PublicKey,
};

/// Largest bundle that is read, in bytes: enough for the most files that are read.
pub const BYTES_MAX: usize = 32 << 20;
/// The only media type that `model_signing` writes and verifies.
pub const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// The only payload that `model_signing` signs.
pub const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// A signature, taken apart; nothing in it is verified.
#[derive(Debug)]
pub struct Bundle {
    /// What is signed.
    pub payload: Vec<u8>,
    /// Over the payload in DSSE's encoding, as DER.
    signature: Vec<u8>,
    /// What the signer says of itself.
    pub material: Material,
}

/// What a bundle says of its signer.
#[derive(Debug)]
pub enum Material {
    /// A key, and the hex of its fingerprint where the bundle has one (since model_signing 1.1).
    Key(Option<String>),
    /// Certificates as DER, the signer's first.
    Certificates(Vec<Vec<u8>>),
}

// A field that is named twice is an error of serde's, so that no two readers see two signatures.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawBundle {
    media_type: String,
    verification_material: RawMaterial,
    dsse_envelope: RawEnvelope,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawMaterial {
    public_key: Option<RawKey>,
    x509_certificate_chain: Option<RawChain>,
    certificate: Option<RawCertificate>,
    tlog_entries: Option<Vec<IgnoredAny>>,
}

#[derive(Deserialize)]
struct RawKey {
    hint: Option<String>,
}

#[derive(Deserialize)]
struct RawChain {
    certificates: Vec<RawCertificate>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawCertificate {
    raw_bytes: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawEnvelope {
    payload: String,
    payload_type: String,
    signatures: Vec<RawSignature>,
}

#[derive(Deserialize)]
struct RawSignature {
    sig: String,
}

impl Bundle {
    /// Takes a bundle apart.
    pub fn parse(json: &[u8]) -> Result<Self, Why> {
        if json.len() > BYTES_MAX {
            return Err(Why::TooLarge(json.len()));
        }
        let raw: RawBundle =
            serde_json::from_slice(json).map_err(|e| Why::NotABundle(shown(&e.to_string())))?;
        if raw.media_type != MEDIA_TYPE {
            return Err(Why::MediaType(shown(&raw.media_type)));
        }
        let envelope = raw.dsse_envelope;
        if envelope.payload_type != PAYLOAD_TYPE {
            return Err(Why::PayloadType(shown(&envelope.payload_type)));
        }
        let [signature] = envelope.signatures.as_slice() else {
            return Err(Why::SignatureCount(envelope.signatures.len()));
        };
        Ok(Self {
            signature: decode(&signature.sig, "signature")?,
            material: raw.verification_material.parse()?,
            payload: decode(&envelope.payload, "payload")?,
        })
    }

    /// Whether that key made the signature.
    pub fn signed_by(&self, key: &PublicKey) -> bool {
        let mut message =
            format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), self.payload.len())
                .into_bytes();
        message.extend_from_slice(&self.payload);
        key.verifies(&message, &self.signature)
    }
}

impl RawMaterial {
    fn parse(self) -> Result<Material, Why> {
        let logged = self.tlog_entries.is_some_and(|entries| !entries.is_empty());
        let certificates = match (self.public_key, self.x509_certificate_chain, self.certificate) {
            // Whether a key's signature is logged too does not matter: the key vouches for it.
            (Some(key), None, None) => return Ok(Material::Key(key.hint.map(|hint| shown(&hint)))),
            (None, Some(chain), None) => chain.certificates,
            (None, None, Some(one)) => vec![one],
            _ => {
                return Err(Why::NotABundle(
                    "it names not exactly one of publicKey, x509CertificateChain and certificate"
                        .into(),
                ));
            }
        };
        if logged {
            return Err(Why::Keyless);
        }
        let decoded = certificates.iter().map(|c| decode(&c.raw_bytes, "certificate"));
        Ok(Material::Certificates(decoded.collect::<Result<_, _>>()?))
    }
}

fn decode(text: &str, what: &str) -> Result<Vec<u8>, Why> {
    STANDARD.decode(text).map_err(|_| Why::NotABundle(format!("its {what} is not base64")))
}
