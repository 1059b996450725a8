//! A signature that was changed anywhere fails, or still says the same.

use proptest::prelude::*;

use super::*;
use crate::fetch::digest::root;

#[test]
fn a_changed_payload_fails() {
    let trust = keys(&[&text("p256.pub")]);
    let root = root(&model()).hex();
    let fails =
        Err(Why::Altered(format!("key sha256:{}", sha256(text("p256.pub").as_bytes()).hex())));
    for (from, to) in [
        ("config.json", "Config.json"),
        (root.as_str(), &"0".repeat(64)),
        ("\"files\"", "\"shards\""),
        ("{", "{ "),
    ] {
        assert_eq!(checked(&with_payload(&fixture("p256.sig"), from, to), &trust), fails, "{from}");
    }
}

#[test]
fn the_signature_of_another_payload_or_key_fails() {
    let trust = keys(&[&text("p256.pub"), &text("p384.pub")]);
    for other in ["blake3.sig", "p384.sig"] {
        let signature = parsed(&fixture(other))["dsseEnvelope"]["signatures"].clone();
        let refused =
            checked(&with(&fixture("p256.sig"), "/dsseEnvelope/signatures", signature), &trust);
        assert!(matches!(refused, Err(Why::Altered(_))), "{other}");
    }
}

#[test]
fn a_key_that_is_not_trusted_fails_whatever_it_is_called() {
    let hint = parsed(&fixture("p256.sig"))["verificationMaterial"]["publicKey"]["hint"]
        .as_str()
        .unwrap()
        .to_owned();
    let trust = keys(&[&text("p384.pub"), &text("p521.pub")]);
    assert_eq!(checked(&fixture("p256.sig"), &trust), Err(Why::UntrustedKey(Some(hint))));
    let nameless = with(&fixture("p256.sig"), "/verificationMaterial", json!({"publicKey": {}}));
    assert_eq!(checked(&nameless, &trust), Err(Why::UntrustedKey(None)));
    let trusted = parsed(&fixture("p384.sig"))["verificationMaterial"].clone();
    assert!(matches!(
        checked(&with(&fixture("p256.sig"), "/verificationMaterial", trusted), &trust),
        Err(Why::Altered(_))
    ));
}

#[test]
fn a_signature_that_is_none_fails() {
    let trust = keys(&[&text("p256.pub")]);
    let zeros = [0x30, 6, 2, 1, 0, 2, 1, 0];
    let ones = [0x30, 6, 2, 1, 1, 2, 1, 1];
    for signature in [&[][..], &[0x30], &[0x30, 0], &zeros, &ones, &[0xff; 200]] {
        let signatures = json!([{"sig": STANDARD.encode(signature)}]);
        let refused =
            checked(&with(&fixture("p256.sig"), "/dsseEnvelope/signatures", signatures), &trust);
        assert!(matches!(refused, Err(Why::Altered(_))), "{signature:?}");
    }
}

fn everyone() -> Trust {
    let keys = ["p256.pub", "p384.pub", "p521.pub"].map(text);
    Trust::parse(&keys, &["root.pem", "rsa-root.pem"].map(text)).unwrap()
}

fn any_bundle() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(vec!["p256.sig", "p384.sig", "p521.sig", "certificate.sig", "rsa.sig"])
        .prop_map(fixture)
}

/// The signature and what it is over, in bytes, without the layers of text around them.
fn signed_bytes(bundle: &Value) -> (Vec<u8>, Vec<u8>) {
    let bytes = |value: &Value| STANDARD.decode(value.as_str().unwrap()).unwrap();
    (
        bytes(&bundle["dsseEnvelope"]["payload"]),
        bytes(&bundle["dsseEnvelope"]["signatures"][0]["sig"]),
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_byte_changed_anywhere_fails_or_says_the_same(bundle in any_bundle(), at: prop::sample::Index, flip in 1u8..) {
        let trust = everyone();
        let whole = checked(&bundle, &trust).unwrap();
        let mut changed = bundle.clone();
        changed[at.index(bundle.len())] ^= flip;
        if let Ok(signed) = checked(&changed, &trust) {
            prop_assert_eq!(signed, whole);
            prop_assert_eq!(signed_bytes(&parsed(&changed)), signed_bytes(&parsed(&bundle)));
        }
    }

    #[test]
    fn a_bit_changed_in_what_is_signed_or_in_the_signature_fails(
        bundle in any_bundle(), at: prop::sample::Index, bit in 0u8..8, in_payload: bool
    ) {
        let (mut payload, mut signature) = signed_bytes(&parsed(&bundle));
        let bytes = if in_payload { &mut payload } else { &mut signature };
        let index = at.index(bytes.len());
        bytes[index] ^= 1 << bit;
        let changed = with(&bundle, "/dsseEnvelope/payload", json!(STANDARD.encode(payload)));
        let changed = with(&changed, "/dsseEnvelope/signatures", json!([{"sig": STANDARD.encode(signature)}]));
        prop_assert!(checked(&changed, &everyone()).is_err());
    }

    #[test]
    fn a_bundle_cut_short_fails(bundle in any_bundle(), at: prop::sample::Index) {
        prop_assert!(checked(&bundle[..at.index(bundle.len())], &everyone()).is_err());
    }

    #[test]
    fn any_bytes_fail(bytes: Vec<u8>) {
        prop_assert!(checked(&bytes, &everyone()).is_err());
    }

    #[test]
    fn any_certificate_bytes_fail(at: prop::sample::Index, with_byte: u8, cut: prop::sample::Index) {
        let pointer = "/verificationMaterial/x509CertificateChain/certificates/0/rawBytes";
        let bundle = fixture("certificate.sig");
        let mut der = STANDARD.decode(parsed(&bundle).pointer(pointer).unwrap().as_str().unwrap()).unwrap();
        let at = at.index(der.len());
        prop_assume!(der[at] != with_byte);
        der[at] = with_byte;
        prop_assert!(checked(&with(&bundle, pointer, json!(STANDARD.encode(&der))), &everyone()).is_err());
        der.truncate(cut.index(der.len()));
        prop_assert!(checked(&with(&bundle, pointer, json!(STANDARD.encode(&der))), &everyone()).is_err());
    }
}
