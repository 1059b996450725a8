//! Ways from a signer's certificate to a trusted one, and those that are none.

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType,
    ExtendedKeyUsagePurpose as Extended, IsCa, Issuer, KeyUsagePurpose as Usage, date_time_ymd,
};

use super::*;

/// A certificate with its key, to issue others with or to sign.
struct Holder {
    params: CertificateParams,
    key: KeyPair,
    der: Vec<u8>,
    pem: String,
}

fn authority(name: &str) -> CertificateParams {
    let mut params = named(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![Usage::KeyCertSign];
    params
}

fn signer() -> CertificateParams {
    let mut params = named("signer");
    params.key_usages = vec![Usage::DigitalSignature];
    params
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2040, 1, 1));
    params
}

impl Holder {
    fn root(params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { der: certificate.der().to_vec(), pem: certificate.pem(), params, key }
    }

    fn issue(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        let certificate =
            params.signed_by(&key, &Issuer::from_params(&self.params, &self.key)).unwrap();
        Self { der: certificate.der().to_vec(), pem: certificate.pem(), params, key }
    }
}

/// A bundle of the model by the first, with the certificates of all.
fn signed(holders: &[&Holder]) -> Vec<u8> {
    let chain: Vec<Value> =
        holders.iter().map(|h| json!({"rawBytes": STANDARD.encode(&h.der)})).collect();
    let material = json!({"x509CertificateChain": {"certificates": chain}, "tlogEntries": []});
    bundle_of(statement(&model()).to_string().as_bytes(), &holders[0].key, &material)
}

/// Why a signer under an authority under a trusted root is refused, each of them changed.
fn refused(
    root: fn(&mut CertificateParams),
    middle: fn(&mut CertificateParams),
    leaf: fn(&mut CertificateParams),
) -> Option<Why> {
    let mut all = (authority("root"), authority("middle"), signer());
    root(&mut all.0);
    middle(&mut all.1);
    leaf(&mut all.2);
    let root = Holder::root(all.0);
    let middle = root.issue(all.1);
    let leaf = middle.issue(all.2);
    checked(&signed(&[&leaf, &middle]), &certificates(&[&root.pem])).err()
}

fn same(_: &mut CertificateParams) {}

fn unknown(params: &mut CertificateParams) {
    params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0])];
}

fn critical(params: &mut CertificateParams) {
    unknown(params);
    params.custom_extensions[0].set_criticality(true);
}

#[test]
fn a_signer_under_authorities_that_may_issue_is_accepted() {
    assert_eq!(refused(same, same, same), None);
    assert_eq!(refused(|root| root.key_usages = vec![], same, same), None);
    assert_eq!(
        refused(|root| root.is_ca = IsCa::Ca(BasicConstraints::Constrained(1)), same, same),
        None
    );
    assert_eq!(
        refused(same, |middle| middle.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)), same),
        None
    );
    assert_eq!(
        refused(same, |middle| middle.extended_key_usages = vec![Extended::CodeSigning], same),
        None
    );
    assert_eq!(
        refused(same, same, |leaf| leaf.extended_key_usages =
            vec![Extended::CodeSigning, Extended::ServerAuth]),
        None
    );
    assert_eq!(
        refused(same, same, |leaf| (leaf.key_usages, leaf.extended_key_usages) =
            (vec![], vec![Extended::CodeSigning])),
        None
    );
    assert_eq!(refused(same, same, |leaf| leaf.not_after = date_time_ymd(2020, 1, 2)), None);
    assert_eq!(refused(unknown, unknown, unknown), None);
}

#[test]
fn a_signer_whose_certificate_is_not_for_signing_is_refused() {
    for leaf in [
        (|leaf| leaf.key_usages = vec![]) as fn(&mut CertificateParams),
        |leaf| leaf.key_usages = vec![Usage::KeyEncipherment],
        |leaf| leaf.extended_key_usages = vec![Extended::ServerAuth],
        |leaf| (leaf.key_usages, leaf.extended_key_usages) = (vec![], vec![Extended::ServerAuth]),
    ] {
        assert_eq!(
            refused(same, same, leaf),
            Some(ChainError::NotForSigning("CN=signer".into()).into())
        );
    }
}

#[test]
fn an_authority_that_may_not_issue_is_refused() {
    let why = Some(ChainError::NotAnAuthority("CN=middle".into()).into());
    for middle in [
        (|middle| middle.is_ca = IsCa::NoCa) as fn(&mut CertificateParams),
        |middle| middle.is_ca = IsCa::ExplicitNoCa,
        |middle| middle.key_usages = vec![Usage::DigitalSignature],
        |middle| middle.extended_key_usages = vec![Extended::ServerAuth],
    ] {
        assert_eq!(refused(same, middle, same), why);
    }
    assert_eq!(
        refused(|root| root.is_ca = IsCa::NoCa, same, same),
        Some(ChainError::NotAnAuthority("CN=root".into()).into())
    );
}

#[test]
fn more_authorities_than_one_allows_are_refused() {
    let why = refused(|root| root.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)), same, same);
    assert_eq!(why, Some(ChainError::PathLength("CN=root".into()).into()));
}

#[test]
fn an_authority_that_was_not_valid_when_the_signers_certificate_began_is_refused() {
    let expired = |params: &mut CertificateParams| params.not_after = date_time_ymd(2021, 1, 1);
    let later = |leaf: &mut CertificateParams| leaf.not_before = date_time_ymd(2022, 1, 1);
    assert_eq!(
        refused(same, expired, later),
        Some(ChainError::NotValid("CN=middle".into()).into())
    );
    assert_eq!(refused(expired, same, later), Some(ChainError::NotValid("CN=root".into()).into()));
    assert_eq!(
        refused(same, |middle| middle.not_before = date_time_ymd(2021, 1, 1), same),
        Some(ChainError::NotValid("CN=middle".into()).into())
    );
    assert_eq!(
        refused(same, same, |leaf| leaf.not_after = date_time_ymd(2019, 1, 1)),
        Some(ChainError::NotValid("CN=signer".into()).into())
    );
}

#[test]
fn a_critical_extension_that_is_not_understood_is_refused() {
    for (why, name) in [
        (refused(critical, same, same), "root"),
        (refused(same, critical, same), "middle"),
        (refused(same, same, critical), "signer"),
    ] {
        assert_eq!(why, Some(ChainError::Extension(format!("CN={name}"), "1.2.3.4".into()).into()));
    }
}

#[test]
fn a_certificate_that_is_too_large_or_none_is_refused() {
    let large = |leaf: &mut CertificateParams| {
        leaf.custom_extensions =
            vec![CustomExtension::from_oid_content(&[1, 2, 3], vec![0; 1 << 17])]
    };
    assert_eq!(refused(same, same, large), Some(ChainError::Unreadable(1).into()));
    let root = Holder::root(authority("root"));
    let none = Holder { der: b"none".to_vec(), ..Holder::root(authority("none")) };
    assert_eq!(
        checked(&signed(&[&root.issue(signer()), &none]), &certificates(&[&root.pem])),
        Err(ChainError::Unreadable(2).into())
    );
}

#[test]
fn a_certificate_of_sigstores_authority_is_keyless_whoever_is_trusted() {
    let issued_by_fulcio = |leaf: &mut CertificateParams| {
        leaf.custom_extensions = vec![CustomExtension::from_oid_content(
            &[1, 3, 6, 1, 4, 1, 57264, 1, 8],
            vec![12, 1, b'x'],
        )];
    };
    assert_eq!(refused(same, same, issued_by_fulcio), Some(Why::Keyless));
}

#[test]
fn a_root_that_is_not_trusted_is_refused_though_it_is_sent() {
    let (root, other) = (Holder::root(authority("root")), Holder::root(authority("other")));
    let middle = root.issue(authority("middle"));
    let leaf = middle.issue(signer());
    let untrusted = |name: &str, issuer: &str| {
        Err(ChainError::Untrusted(format!("CN={name}"), format!("CN={issuer}")).into())
    };
    let trust = certificates(&[&other.pem]);
    assert_eq!(checked(&signed(&[&leaf, &middle, &root]), &trust), untrusted("root", "root"));
    assert_eq!(checked(&signed(&[&leaf, &middle]), &trust), untrusted("middle", "root"));
    assert_eq!(checked(&signed(&[&leaf]), &trust), untrusted("signer", "middle"));
}

#[test]
fn an_authority_that_only_has_the_name_of_the_issuer_is_refused() {
    let (root, namesake) = (Holder::root(authority("root")), Holder::root(authority("root")));
    let leaf = root.issue(signer());
    assert_eq!(
        checked(&signed(&[&leaf]), &certificates(&[&namesake.pem])),
        Err(ChainError::NotIssued("CN=signer".into()).into())
    );
    // With both trusted the way is found.
    assert!(checked(&signed(&[&leaf]), &certificates(&[&namesake.pem, &root.pem])).is_ok());
}

#[test]
fn a_signer_does_not_sign_with_the_certificate_of_another() {
    let root = Holder::root(authority("root"));
    let (leaf, other) = (root.issue(signer()), root.issue(signer()));
    let mixed = Holder { der: leaf.der.clone(), ..other };
    let refused = checked(&signed(&[&mixed]), &certificates(&[&root.pem]));
    assert_eq!(refused, Err(Why::Altered("the holder of certificate CN=signer".into())));
}

#[test]
fn a_self_signed_certificate_that_is_trusted_may_sign() {
    let own = Holder::root(signer());
    assert!(checked(&signed(&[&own]), &certificates(&[&own.pem])).is_ok());
    let other = Holder::root(signer());
    assert!(checked(&signed(&[&own]), &certificates(&[&other.pem])).is_err());
}

#[test]
fn a_single_certificate_in_a_bundle_is_read_as_well() {
    let root = Holder::root(authority("root"));
    let leaf = root.issue(signer());
    let material = json!({"certificate": {"rawBytes": STANDARD.encode(&leaf.der)}});
    assert!(
        checked(
            &with(&signed(&[&leaf]), "/verificationMaterial", material),
            &certificates(&[&root.pem])
        )
        .is_ok()
    );
}

#[test]
fn more_certificates_than_are_read_are_refused() {
    let root = Holder::root(authority("root"));
    let leaf = root.issue(signer());
    for count in [0, 9] {
        let chain = vec![json!({"rawBytes": STANDARD.encode(&leaf.der)}); count];
        let material = json!({"x509CertificateChain": {"certificates": chain}});
        let refused = checked(
            &with(&signed(&[&leaf]), "/verificationMaterial", material),
            &certificates(&[&root.pem]),
        );
        assert_eq!(refused, Err(ChainError::Count(count).into()));
    }
}

#[test]
fn certificates_that_could_all_have_issued_one_another_are_refused() {
    // Seven of one name and one key, each of which could have issued every other.
    let first = Holder::root(authority("loop"));
    let others: Vec<Holder> = (0..6)
        .map(|n| {
            let mut params = authority("loop");
            params.serial_number = Some(n.into());
            let certificate = params.self_signed(&first.key).unwrap();
            Holder {
                der: certificate.der().to_vec(),
                pem: String::new(),
                params,
                key: KeyPair::generate().unwrap(),
            }
        })
        .collect();
    let leaf = first.issue(signer());
    let all: Vec<&Holder> = [&leaf, &first].into_iter().chain(&others).collect();
    let refused = checked(&signed(&all), &certificates(&[&Holder::root(authority("other")).pem]));
    assert_eq!(refused, Err(ChainError::Ways.into()));
}

#[test]
fn a_subject_cannot_break_out_of_its_sentence() {
    let root = Holder::root(authority("root"));
    let mut params = signer();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "a\u{202e}b\n");
    let leaf = root.issue(params);
    let Ok(Signed { by: Signer::Certificate { subject, .. }, .. }) =
        checked(&signed(&[&leaf]), &certificates(&[&root.pem]))
    else {
        panic!("refused")
    };
    assert_eq!(subject, "CN=a\\u{202e}b\\\\0a");
}
