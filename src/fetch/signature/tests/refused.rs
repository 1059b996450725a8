//! Signatures that are whole, and still not what is verified here; and trust that is none.

use super::*;

#[test]
fn other_methods_and_hashes_are_refused() {
    let trust = keys(&[&text("p256.pub")]);
    let refused = |name| checked(&fixture(name), &trust).unwrap_err();
    assert_eq!(refused("shards.sig"), Why::Method("shards".into()));
    assert_eq!(refused("blake2b.sig"), Why::HashType("blake2b".into()));
    assert_eq!(refused("blake3.sig"), Why::HashType("blake3".into()));
    assert_eq!(refused("single-file.sig"), Why::SingleFile);
    let says = refused("shards.sig").to_string();
    assert_eq!(
        says,
        "its files are hashed by method shards, and only method files is verified: sign again with method files and sha256."
    );
}

#[test]
fn a_statement_that_is_not_one_about_this_format_is_refused() {
    let good = statement(&model());
    let other = |pointer: &str, value: Value| {
        let mut statement = good.clone();
        *statement.pointer_mut(pointer).unwrap() = value;
        said(&statement).unwrap_err()
    };
    assert!(said(&good).is_ok());
    assert_eq!(
        other("/predicateType", json!("https://model_signing/Digests/v0.1")),
        Why::OldFormat
    );
    assert_eq!(
        other("/predicateType", json!("https://slsa.dev/\n")),
        Why::PredicateType("https://slsa.dev/\\n".into())
    );
    assert_eq!(other("/_type", json!("x")), Why::NotAStatement("its type is x".into()));
    assert_eq!(
        other("/subject", json!([])),
        Why::NotAStatement("it has 0 subjects instead of one".into())
    );
    assert_eq!(other("/subject/0/digest/sha256", json!("0".repeat(64))), Why::Root);
    assert_eq!(other("/predicate/resources", json!([])), Why::Root);
    assert!(matches!(other("/predicate", json!(null)), Why::NotAStatement(_)));
}

#[test]
fn a_listed_file_that_is_not_plain_is_refused() {
    let name = |name: &str| said_of(0, "name", json!(name));
    for bad in [
        "../config.json",
        "/config.json",
        "./config.json",
        "weights//a",
        "weights/",
        "",
        "a/../b",
        "a\u{0}b",
    ] {
        assert!(matches!(name(bad), Err(Why::Name(_))), "{bad:?}");
    }
    assert_eq!(name("tokenizer.json"), Err(Why::Duplicate("tokenizer.json".into())));
    assert_eq!(said_of(1, "algorithm", json!("sha512")), Err(Why::HashType("sha512".into())));
    for bad in ["", "00", &"0".repeat(63), &"0".repeat(66), &"A".repeat(64), &"é".repeat(32)] {
        assert_eq!(
            said_of(0, "digest", json!(bad)),
            Err(Why::Digest("config.json".into())),
            "{bad}"
        );
    }
}

/// What comes of a statement with another value in one of its resources.
fn said_of(index: usize, field: &str, value: Value) -> Result<Signed, Why> {
    let mut statement = statement(&model());
    statement["predicate"]["resources"][index][field] = value;
    said(&statement)
}

#[test]
fn more_files_than_are_read_are_refused() {
    let resource = json!({"name": "a", "algorithm": "sha256", "digest": "0"});
    let mut many = statement(&model());
    many["predicate"]["resources"] = vec![resource; manifest::FILES_MAX + 1].into();
    assert_eq!(said(&many), Err(Why::TooManyFiles(manifest::FILES_MAX + 1)));
}

#[test]
fn keyless_signatures_are_refused() {
    let trust = Trust::parse(&[text("p256.pub")], &[text("root.pem")]).unwrap();
    let certificate = parsed(&fixture("certificate.sig"))["verificationMaterial"]["x509CertificateChain"]["certificates"][0].clone();
    for material in [
        json!({"certificate": certificate, "tlogEntries": [{"logIndex": "1"}]}),
        json!({"x509CertificateChain": {"certificates": [certificate]}, "tlogEntries": [{"logIndex": "1"}]}),
    ] {
        let refused =
            checked(&with(&fixture("certificate.sig"), "/verificationMaterial", material), &trust)
                .unwrap_err();
        assert_eq!(
            refused.to_string(),
            "it is keyless, and keyless signatures are not verified yet: sign with a key or a certificate."
        );
    }
}

#[test]
fn what_is_no_bundle_is_refused() {
    let trust = keys(&[&text("p256.pub")]);
    let deep = "[".repeat(100_000);
    for garbage in ["", "null", "{}", "[]", "\u{0}", "{\"mediaType\": 1}", &deep, &text("p256.pub")]
    {
        assert!(
            matches!(checked(garbage.as_bytes(), &trust), Err(Why::NotABundle(_))),
            "{:.20}",
            garbage
        );
    }
    let huge = vec![b' '; bundle::BYTES_MAX + 1];
    assert_eq!(checked(&huge, &trust), Err(Why::TooLarge(huge.len())));
}

#[test]
fn another_bundle_than_the_reference_tool_makes_is_refused() {
    let trust = keys(&[&text("p256.pub")]);
    let other = |pointer: &str, value: Value| {
        checked(&with(&fixture("p256.sig"), pointer, value), &trust).unwrap_err()
    };
    assert_eq!(other("/mediaType", json!("application/x")), Why::MediaType("application/x".into()));
    assert_eq!(
        other("/dsseEnvelope/payloadType", json!("text/plain")),
        Why::PayloadType("text/plain".into())
    );
    assert_eq!(other("/dsseEnvelope/signatures", json!([])), Why::SignatureCount(0));
    assert_eq!(
        other("/dsseEnvelope/signatures", json!([{"sig": ""}, {"sig": ""}])),
        Why::SignatureCount(2)
    );
    assert_eq!(
        other("/dsseEnvelope/payload", json!("%")),
        Why::NotABundle("its payload is not base64".into())
    );
    assert!(matches!(other("/verificationMaterial", json!({})), Why::NotABundle(_)));
    let both = json!({"publicKey": {}, "certificate": {"rawBytes": ""}});
    assert!(matches!(other("/verificationMaterial", both), Why::NotABundle(_)));
}

#[test]
fn a_field_named_twice_is_refused() {
    let twice = text("p256.sig").replacen("\"payload\":", "\"payload\":\"\",\"payload\":", 1);
    assert!(matches!(
        checked(twice.as_bytes(), &keys(&[&text("p256.pub")])),
        Err(Why::NotABundle(_))
    ));
}

#[test]
fn a_signer_of_another_kind_than_is_trusted_is_refused() {
    assert_eq!(
        checked(&fixture("p256.sig"), &certificates(&[&text("root.pem")])),
        Err(Why::NoKeyTrusted)
    );
    assert_eq!(
        checked(&fixture("certificate.sig"), &keys(&[&text("p256.pub")])),
        Err(Why::NoCertificateTrusted)
    );
}

#[test]
fn nothing_to_trust_is_not_trust() {
    assert_eq!(Trust::parse::<&str>(&[], &[]).unwrap_err(), TrustError::Empty);
}

#[test]
fn a_policy_that_trusts_something_else_is_refused_with_its_place() {
    let (key, root, secret) =
        (text("p256.pub"), text("root.pem"), KeyPair::generate().unwrap().serialize_pem());
    let k256 = "-----BEGIN PUBLIC KEY-----\nMFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAEebB4gH+zvmtVBXNsoQKmSL7KPvGFFJNJ\nRHcQE6ZkXKPjrRLE2IoHjNMYE8bI8p1sjzeBEmjRxcvxwHDPjeEyCA==\n-----END PUBLIC KEY-----\n";
    let unfinished = format!("{key}-----BEGIN PUBLIC KEY-----\nAAAA\n");
    let cases: [(&[&str], &[&str], TrustError); 10] = [
        (&[&key, "key"], &[], TrustError::NotPem("public keys", 2)),
        (&[""], &[], TrustError::NotPem("public keys", 1)),
        (&[&key[..90]], &[], TrustError::NotPem("public keys", 1)),
        (&[&unfinished], &[], TrustError::NotPem("public keys", 1)),
        (
            &["-----BEGIN PUBLIC KEY-----\n%%%%\n-----END PUBLIC KEY-----"],
            &[],
            TrustError::NotPem("public keys", 1),
        ),
        (&[&secret], &[], TrustError::Private("public keys", 1)),
        (&[&root], &[], TrustError::Label("public keys", 1, "CERTIFICATE".into())),
        (&[], &[&root, &key], TrustError::Label("certificates", 2, "PUBLIC KEY".into())),
        (&[k256], &[], TrustError::Key(1)),
        (
            &[],
            &["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"],
            TrustError::Certificate(1),
        ),
    ];
    for (keys, certificates, error) in cases {
        assert_eq!(Trust::parse(keys, certificates).unwrap_err(), error);
    }
    assert_eq!(Trust::parse(&[key.repeat(65)], &[]).unwrap_err(), TrustError::TooMany(65));
}

#[test]
fn pem_as_people_paste_it_is_read() {
    let key = text("p256.pub");
    let lines: Vec<&str> = key.lines().collect();
    let indented: String = key.lines().map(|line| format!("    {line} \n")).collect();
    let unwrapped =
        format!("{}\n{}\n{}", lines[0], lines[1..lines.len() - 1].concat(), lines[lines.len() - 1]);
    for pasted in [
        key.replace('\n', "\r\n"),
        key.trim_end().to_owned(),
        format!("# the signer's\n{key}\n\n"),
        indented,
        unwrapped,
    ] {
        assert!(checked(&fixture("p256.sig"), &keys(&[&pasted])).is_ok(), "{pasted:?}");
    }
}
