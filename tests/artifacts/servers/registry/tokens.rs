//! The token server of a registry: gives a JWT for a password. "Token Authentication Specification"
//! and "Token Authentication Implementation" of the distribution project say what is asked for and
//! what stands in a token.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{Router, extract::RawQuery, response::Response, routing::get};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use http::{HeaderMap, StatusCode, header};
use percent_encoding::percent_decode_str;
use rcgen::{CertificateParams, KeyPair};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair},
};
use serde_json::{Value, json};

use super::{PASSWORD, USER};
use crate::servers::{
    certs::Authority,
    nginx::Nginx,
    serve::{Serving, json as answer},
};

/// The name of the registry in tokens, and of who gives them.
const NAME: &str = "rollmodel-test";

/// A running one.
pub struct Tokens {
    serving: Serving,
    /// Speaks TLS for it: clients give their password nowhere else.
    front: Option<Nginx>,
    signer: Arc<Signer>,
}

struct Signer {
    key: EcdsaKeyPair,
    certificate: rcgen::Certificate,
}

impl Tokens {
    /// Starts one with a key of its own; with an authority it speaks TLS.
    pub fn start(authority: Option<&Authority>) -> Self {
        let key = KeyPair::generate().expect("a key");
        let certificate = CertificateParams::new([NAME.into()])
            .expect("a name")
            .self_signed(&key)
            .expect("a certificate");
        let key = EcdsaKeyPair::from_pkcs8(
            &ECDSA_P256_SHA256_FIXED_SIGNING,
            key.serialized_der(),
            &SystemRandom::new(),
        );
        let signer = Arc::new(Signer { key: key.expect("the key again"), certificate });
        let for_route = signer.clone();
        let router = Router::new()
            .route("/token", get(move |query, headers| give(for_route.clone(), query, headers)));
        let serving = Serving::start(router);
        let front = authority.map(|a| {
            Nginx::start(&format!("location / {{ proxy_pass {}; }}", serving.url()), Some(a))
        });
        Self { serving, front, signer }
    }

    /// The certificate that the registry checks tokens by, PEM.
    pub fn certificate(&self) -> String {
        self.signer.certificate.pem()
    }

    /// What stands in the registry's configuration at `auth.token`.
    pub fn configuration(&self, certificate_file: &str) -> Value {
        let realm = format!(
            "{}/token",
            self.front.as_ref().map_or_else(|| self.serving.url(), Nginx::endpoint)
        );
        json!({"realm": realm, "service": NAME, "issuer": NAME, "rootcertbundle": certificate_file})
    }

    /// A token for one repository.
    pub fn token(&self, repository: &str, actions: &[&str]) -> String {
        self.signer.token(&[json!({"type": "repository", "name": repository, "actions": actions})])
    }
}

impl Signer {
    fn token(&self, access: &[Value]) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let head =
            json!({"typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(self.certificate.der())]});
        let claims = json!({
            "iss": NAME, "aud": NAME, "sub": USER, "jti": "1", "iat": now, "nbf": now - 60, "exp": now + 300, "access": access,
        });
        let signed = [head, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        let signature =
            self.key.sign(&SystemRandom::new(), signed.as_bytes()).expect("a signature");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

/// `GET /token?service=…&scope=repository:NAME:ACTION,…`, more scopes each in a parameter of its
/// own.
async fn give(
    signer: Arc<Signer>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, StatusCode> {
    let known = format!("Basic {}", STANDARD.encode(format!("{USER}:{PASSWORD}")));
    if headers.get(header::AUTHORIZATION).is_none_or(|sent| sent != known.as_str()) {
        return Err(StatusCode::UNAUTHORIZED);
    }
    let query = query.unwrap_or_default();
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let scopes = query.split('&').filter_map(|pair| pair.strip_prefix("scope=").map(decoded));
    let access = |scope: String| {
        let (kind, rest) = scope.split_once(':')?;
        let (name, actions) = rest.rsplit_once(':')?;
        Some(json!({"type": kind, "name": name, "actions": actions.split(',').collect::<Vec<_>>()}))
    };
    let token = signer.token(&scopes.filter_map(access).collect::<Vec<_>>());
    Ok(answer(&json!({"token": token, "access_token": token, "expires_in": 300})))
}
