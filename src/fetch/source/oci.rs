//! `oci://`: models as OCI artifacts (ModelPack, KitOps, ORAS), and images with `/models`, by tag
//! or digest.

use std::{env::consts::ARCH, ops::Range};

use async_trait::async_trait;
use bytes::Bytes;
use http::{StatusCode, header};
use oci_spec::{
    distribution::Reference,
    image::{Descriptor, ImageIndex, ImageManifest},
};
use url::Url;

use super::{Entry, Listing, Means, Place, Shape, Source, Stream, named, ranged};
use crate::fetch::{
    digest::Digest,
    error::{Error, Reason},
    http::{Get, denied, text},
    name::{RelativePath, escaped},
};

mod access;

/// What is accepted as a manifest.
const ACCEPT: &str = "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json, application/vnd.docker.distribution.manifest.list.v2+json";
/// Where ModelPack says which file a raw layer is.
const FILEPATH: &str = "org.cncf.model.filepath";
/// Where ORAS says which file a layer is.
const TITLE: &str = "org.opencontainers.image.title";
/// Where an image keeps a model, as KServe has it.
const MODELS: &str = "models";

/// An artifact in a registry.
pub struct Registry {
    access: access::Access,
    reference: Reference,
}

impl Registry {
    /// # Errors
    /// When the credentials make no sense.
    pub fn new(reference: &Reference, means: &Means) -> Result<Self, Error> {
        Ok(Self { access: access::Access::new(reference, means)?, reference: reference.clone() })
    }

    fn url(&self, kind: &str, name: &str) -> Result<Url, Error> {
        let text = format!(
            "https://{}/v2/{}/{kind}/{name}",
            self.reference.resolve_registry(),
            self.reference.repository()
        );
        text.parse().map_err(|_| {
            Error::new(
                Reason::InvalidRequest,
                format!("{} is no address of a registry.", self.what()),
            )
        })
    }

    fn what(&self) -> String {
        format!("oci://{}", self.reference)
    }

    /// A manifest by tag or digest, checked where it is by digest.
    async fn manifest(&self, name: &str) -> Result<(Bytes, Digest), Error> {
        let what = self.what();
        let get = Get::new(self.url("manifests", name)?).header(header::ACCEPT, ACCEPT);
        let response = self.access.get(get).await?;
        if response.status() != StatusCode::OK {
            return Err(denied(&what, response.status(), self.access.with_credentials()));
        }
        let body = text(&what, response).await?;
        let digest = Digest::of(&body);
        if name.contains(':') && name != digest.to_string() {
            return Err(Error::new(
                Reason::Mismatch,
                format!("{what} is answered with manifest {digest}, not {}.", escaped(name)),
            ));
        }
        Ok((body, digest))
    }

    /// The manifest itself, and the digest of what was asked for: of the index, where there is one.
    async fn resolved(&self) -> Result<(ImageManifest, Digest), Error> {
        let name = self.reference.digest().or(self.reference.tag()).unwrap_or("latest");
        let (body, digest) = self.manifest(name).await?;
        if let Ok(manifest) = parse::<ImageManifest>(&body) {
            return Ok((manifest, digest));
        }
        let what = self.what();
        let index = parse::<ImageIndex>(&body).map_err(|_| {
            Error::new(Reason::Unsupported, format!("{what} is neither an image nor an artifact."))
        })?;
        let child = index.manifests().iter().find(|m| fits(m)).ok_or_else(|| {
            Error::new(
                Reason::NotFound,
                format!("{what} has no manifest for linux/{}.", architecture()),
            )
        })?;
        let (body, _) = self.manifest(child.digest().as_ref()).await?;
        let manifest = parse(&body).map_err(|_| {
            Error::new(Reason::Unsupported, format!("{what} is no image of one platform."))
        })?;
        Ok((manifest, digest))
    }

    fn entry(&self, layer: &Descriptor) -> Result<Entry, Error> {
        let what = self.what();
        let media = layer.media_type().to_string();
        let annotation =
            |name| layer.annotations().as_ref().and_then(|a| a.get(name)).map(String::as_str);
        let digest = layer.digest().as_ref().parse::<Digest>().map_err(|_| {
            Error::new(
                Reason::Unsupported,
                format!(
                    "{what} has a layer whose digest is not a sha256: {}.",
                    escaped(layer.digest().as_ref())
                ),
            )
        })?;
        let place = match (kind(&media), annotation(FILEPATH).or(annotation(TITLE))) {
            (Kind::Image, _) => Place::Archive { below: Some(RelativePath::parse(MODELS)?) },
            (Kind::Archive, _) => Place::Archive { below: None },
            (Kind::Raw, Some(name)) => Place::File(named(&what, name)?),
            (Kind::Raw, None) => {
                let how = format!("annotate it with {FILEPATH}");
                return Err(Error::new(
                    Reason::Unsupported,
                    format!(
                        "{what} has a layer of type {} without a name: {how}.",
                        escaped(&media)
                    ),
                ));
            }
        };
        let key = digest.to_string();
        Ok(Entry {
            place,
            key,
            size: Some(layer.size()),
            ranges: true,
            pin: None,
            digest: Some(digest),
        })
    }
}

/// What a layer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// One of an image's file system.
    Image,
    /// An archive of files.
    Archive,
    /// A file as it is.
    Raw,
}

fn kind(media: &str) -> Kind {
    match media {
        m if m.starts_with("application/vnd.oci.image.layer.")
            || m.starts_with("application/vnd.docker.image.rootfs.") =>
        {
            Kind::Image
        }
        m if m.ends_with(".tar")
            || m.ends_with("tar+gzip")
            || m.ends_with("tar+zstd")
            || m.ends_with("tar.gzip") =>
        {
            Kind::Archive
        }
        _ => Kind::Raw,
    }
}

fn fits(manifest: &Descriptor) -> bool {
    manifest.platform().as_ref().is_none_or(|p| {
        p.os().to_string() == "linux" && p.architecture().to_string() == architecture()
    })
}

/// This machine's architecture, as images name it.
fn architecture() -> &'static str {
    match ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(body)
}

#[async_trait]
impl Source for Registry {
    async fn list(&self) -> Result<Listing, Error> {
        let (manifest, digest) = self.resolved().await?;
        let entries: Vec<Entry> =
            manifest.layers().iter().map(|l| self.entry(l)).collect::<Result<_, _>>()?;
        if entries.is_empty() {
            return Err(Error::new(Reason::NotFound, format!("{} has no layers.", self.what())));
        }
        Ok(Listing { shape: Shape::Manifest(digest), entries })
    }

    async fn read(&self, entry: &Entry, range: Range<u64>) -> Result<Stream, Error> {
        // Blobs are often sent on to a store, with signed links that need no token.
        let get = self.access.with_header(Get::new(self.url("blobs", &entry.key)?));
        match ranged::read(self.access.http(), get.clone(), Some(range.clone())).await {
            // Tokens live for minutes, and a large layer takes longer.
            Err(error) if error.reason == Reason::Unauthorized => {
                self.access.renew().await?;
                ranged::read(self.access.http(), self.access.with_header(get), Some(range)).await
            }
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_told_apart_by_their_media_types() {
        for (media, want) in [
            ("application/vnd.oci.image.layer.v1.tar+gzip", Kind::Image),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", Kind::Image),
            ("application/vnd.cncf.model.weight.v1.tar", Kind::Archive),
            ("application/vnd.cncf.model.weight.config.v1.tar+zstd", Kind::Archive),
            ("application/vnd.kitops.modelkit.model.v1.tar+gzip", Kind::Archive),
            ("application/vnd.cncf.model.weight.v1.raw", Kind::Raw),
            ("application/octet-stream", Kind::Raw),
        ] {
            assert_eq!(kind(media), want, "{media}");
        }
    }
}
