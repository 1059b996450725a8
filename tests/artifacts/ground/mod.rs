//! The ground that the other tests stand on: every server starts, takes an object, gives it back
//! and refuses wrong credentials, as real clients see it (`huggingface_hub`, boto3, KServe's
//! storage initializer, `model_signing`).

mod azure;
mod clients;
mod gcs;
mod hub;
mod irsa;
mod nginx;
mod proxy;
mod registry;
mod s3;

/// Sets the cryptography that reqwest uses, which object_store asks for even where there is no TLS.
fn use_ring() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}
