//! What the reference tool signs is accepted, and says who signed what.

use super::*;
use crate::fetch::digest::root;

#[test]
fn a_signature_by_a_key_on_each_curve_is_accepted() {
    for curve in ["p256", "p384", "p521"] {
        let bundle = fixture(&format!("{curve}.sig"));
        let key = text(&format!("{curve}.pub"));
        let signed = checked(&bundle, &keys(&[&key])).unwrap();
        let fingerprint = format!("sha256:{}", sha256(key.as_bytes()).hex());
        assert_eq!(signed.by, Signer::Key { fingerprint: fingerprint.clone() });
        // The same that the signer wrote down.
        assert_eq!(
            fingerprint,
            format!(
                "sha256:{}",
                parsed(&bundle)["verificationMaterial"]["publicKey"]["hint"].as_str().unwrap()
            )
        );
    }
}

#[test]
fn a_signature_by_a_certificate_under_a_trusted_root_is_accepted() {
    for (name, root, signer) in
        [("certificate", "root.pem", "signer"), ("rsa", "rsa-root.pem", "rsa-signer")]
    {
        let signed =
            checked(&fixture(&format!("{name}.sig")), &certificates(&[&text(root)])).unwrap();
        let Signer::Certificate { subject, fingerprint } = signed.by else {
            panic!("not by a certificate")
        };
        assert_eq!(subject, format!("CN={signer},O=Rollmodel tests"));
        assert_eq!(fingerprint.len(), "sha256:".len() + 64);
    }
}

#[test]
fn a_trusted_authority_and_the_signers_own_certificate_are_roots_too() {
    for trusted in ["authority.pem", "signer.pem"] {
        assert!(
            checked(&fixture("certificate.sig"), &certificates(&[&text(trusted)])).is_ok(),
            "{trusted}"
        );
    }
}

#[test]
fn the_signed_root_is_our_root_of_the_directory() {
    for name in ["p256", "p384", "p521"] {
        let bundle = fixture(&format!("{name}.sig"));
        let signed = checked(&bundle, &keys(&[&text(&format!("{name}.pub"))])).unwrap();
        assert_eq!(signed.root, root(&model()));
        assert_eq!(statement_in(&bundle)["subject"][0]["digest"]["sha256"], root(&model()).hex());
    }
}

#[test]
fn any_of_the_trusted_keys_may_have_signed() {
    let trusted = [text("p521.pub"), text("p384.pub") + &text("p256.pub")];
    let trust = Trust::parse(&trusted, &[text("root.pem")]).unwrap();
    for name in ["p256", "p384", "p521", "certificate"] {
        assert!(checked(&fixture(&format!("{name}.sig")), &trust).is_ok(), "{name}");
    }
}

#[test]
fn a_missing_or_wrong_hint_does_not_matter_where_a_trusted_key_signed() {
    let bundle = fixture("p256.sig");
    let trust = keys(&[&text("p384.pub"), &text("p256.pub")]);
    for material in [
        json!({"publicKey": {}}),
        json!({"publicKey": {"hint": "0".repeat(64)}}),
        // As model_signing wrote it before 1.1; that key is not looked at.
        json!({"publicKey": {"rawBytes": "AAAA", "keyDetails": "PKIX_ECDSA_P256_SHA_256"}}),
        json!({"publicKey": {"hint": null}, "tlogEntries": [{}]}),
    ] {
        assert!(checked(&with(&bundle, "/verificationMaterial", material), &trust).is_ok());
    }
}

#[test]
fn a_list_of_files_in_another_order_is_accepted_with_the_root_of_that_order() {
    let mut said_otherwise = statement(&model());
    let resources = said_otherwise["predicate"]["resources"].as_array_mut().unwrap();
    resources.sort_by_key(|r| r["name"].as_str().unwrap().to_owned());
    let digests: Vec<u8> = resources
        .iter()
        .flat_map(|r| base16ct::lower::decode_vec(r["digest"].as_str().unwrap()).unwrap())
        .collect();
    said_otherwise["subject"][0]["digest"]["sha256"] = json!(sha256(&digests).hex());
    let signed = said(&said_otherwise).unwrap();
    assert_eq!(signed.root, sha256(&digests));
    assert_ne!(signed.root, root(&model()));
}

#[test]
fn symbolic_links_and_unknown_fields_do_not_matter() {
    let mut more = statement(&model());
    more["predicate"]["serialization"]["allow_symlinks"] = json!(true);
    more["predicate"]["card"] = json!({"any": ["thing"]});
    assert!(said(&more).is_ok());
}
