//! A certificate authority of the tests, and certificates of servers on loopback.

use std::{fs, path::PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::Dir;

/// An authority that nobody but the tests trusts.
pub struct Authority {
    dir: Dir,
    issuer: Issuer<'static, KeyPair>,
}

/// The files of one certificate.
pub struct Certificate {
    /// The certificate, PEM.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
}

impl Authority {
    /// Makes one.
    pub fn new() -> Self {
        let (dir, key) = (Dir::fresh("authority"), KeyPair::generate().expect("a key"));
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "rollmodel test");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        fs::write(dir.join("ca.crt"), params.self_signed(&key).expect("the authority").pem())
            .expect("ca.crt");
        Self { dir, issuer: Issuer::new(params, key) }
    }

    /// Its own certificate, PEM: what clients are told to trust.
    pub fn certificate(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// A certificate of a server on 127.0.0.1 and `localhost`, in a server's directory.
    pub fn sign(&self, dir: &Dir) -> Certificate {
        self.sign_for(dir, &["127.0.0.1", "localhost"])
    }

    /// A certificate of a server with these names and addresses, in its directory.
    pub fn sign_for(&self, dir: &Dir, names: &[&str]) -> Certificate {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().expect("a key");
        let files =
            Certificate { certificate: dir.join("server.crt"), key: dir.join("server.key") };
        fs::write(
            &files.certificate,
            params.signed_by(&key, &self.issuer).expect("a certificate").pem(),
        )
        .expect("server.crt");
        fs::write(&files.key, key.serialize_pem()).expect("server.key");
        files
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
