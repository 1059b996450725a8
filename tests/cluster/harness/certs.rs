//! One certificate authority, the API server's certificate, an administrator's, a node's, and the
//! key of ServiceAccount tokens.

use std::{fs, path::Path};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

/// The name of the node that may have a real kubelet.
pub const NODE: &str = "real";

/// Writes all of them into `dir`.
pub fn write(dir: &Path) {
    let put =
        |name: &str, text: String| fs::write(dir.join(name), text).expect("a certificate file");
    let ca_key = KeyPair::generate().expect("a key");
    let mut ca = CertificateParams::default();
    ca.distinguished_name.push(DnType::CommonName, "rollmodel test");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    put("ca.crt", ca.self_signed(&ca_key).expect("the authority").pem());
    let issuer = Issuer::new(ca, ca_key);

    let sans: Vec<String> =
        ["127.0.0.1", "10.0.0.1", "localhost", "kubernetes.default.svc"].map(Into::into).to_vec();
    let mut server = CertificateParams::new(sans).expect("names");
    server.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    sign(&server, &issuer, "server", &put);

    for (file, group, name) in [
        ("admin", "system:masters", "admin"),
        ("node", "system:nodes", &format!("system:node:{NODE}")),
    ] {
        let mut client = CertificateParams::default();
        client.distinguished_name.push(DnType::OrganizationName, group);
        client.distinguished_name.push(DnType::CommonName, name);
        client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        sign(&client, &issuer, file, &put);
    }

    let accounts = KeyPair::generate().expect("a key");
    put("sa.key", accounts.serialize_pem());
    put("sa.pub", accounts.public_key_pem());
}

fn sign(
    params: &CertificateParams,
    issuer: &Issuer<'_, KeyPair>,
    name: &str,
    put: &impl Fn(&str, String),
) {
    let key = KeyPair::generate().expect("a key");
    put(&format!("{name}.crt"), params.signed_by(&key, issuer).expect("a certificate").pem());
    put(&format!("{name}.key"), key.serialize_pem());
}
