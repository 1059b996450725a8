//! Addresses of artifacts, parsed once; what could hold credentials is refused and never shown.

use std::{fmt, str::FromStr};

use url::Url;

/// Where an artifact is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `s3://bucket/key`.
    S3 {
        /// Bucket.
        bucket: String,
        /// Key of the object, or of all below it.
        key: String,
    },
    /// `gs://bucket/key`.
    Gs {
        /// Bucket.
        bucket: String,
        /// Key of the object, or of all below it.
        key: String,
    },
    /// `az://container/key`, `abfs://container/key` or
    /// `abfs://container@account.dfs.core.windows.net/key`.
    Az {
        /// Account; absent: the credentials name it.
        account: Option<String>,
        /// Container.
        container: String,
        /// Name of the blob, or of all below it.
        key: String,
    },
    /// `https://host/path`: one file.
    Https(Url),
    /// `hf://organisation/repository@revision`, with a path behind it for a part of the repository.
    Hf {
        /// `organisation/repository`.
        repository: String,
        /// Branch, tag or commit.
        revision: String,
        /// File or directory in it; empty: all.
        path: String,
    },
    /// `mlflow-artifacts+https://host/path`: what MLflow's tracking server hands out of its own
    /// storage. Where the server has a path before its API, the address is that of the API:
    /// `mlflow-artifacts+https://host/prefix/api/2.0/mlflow-artifacts/artifacts/path`.
    Mlflow {
        /// The tracking server.
        server: Url,
        /// File or directory in its storage.
        path: String,
    },
    /// `oci://registry/repository:tag` or `@sha256:…`.
    Oci(Box<oci_spec::distribution::Reference>),
    /// `pvc://claim/path`.
    Pvc {
        /// Claim.
        claim: String,
        /// File or directory in it.
        path: String,
    },
    /// A path of this machine, for people.
    Local(String),
}

/// What addresses of a tracking server's storage begin with. Plain HTTP is for a server inside the
/// cluster: the digest holds either way.
const MLFLOW: &str = "mlflow-artifacts+https";
const MLFLOW_PLAIN: &str = "mlflow-artifacts+http";
/// Where a tracking server serves its storage.
pub const MLFLOW_API: &str = "/api/2.0/mlflow-artifacts/artifacts";

/// Why an address is none; it never quotes what was given, which may hold credentials.
#[derive(Clone, Copy, Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    /// Credentials in front of the host, or in the query.
    #[error(
        "The artifact's address holds credentials, and is not shown here. Register the version with the bare address, and give credentials by delivery.credentialsSecret or the ServiceAccount; the ones that were written down are no secret any more."
    )]
    Credentials,
    /// Characters that no address has.
    #[error(
        "The artifact's address holds control characters or spaces: write it in one line, with %20 for a space."
    )]
    Characters,
    /// A scheme that is not known.
    #[error(
        "The artifact's address is of a kind that is not known: s3, gs, az, abfs, https, hf, oci, pvc and mlflow-artifacts+https are."
    )]
    Scheme,
    /// Plain HTTP.
    #[error(
        "The artifact's address is plain http, on which anybody may change the bytes: use https."
    )]
    Plain,
    /// Parts that are missing or make no sense.
    #[error("The artifact's address is not complete: {0}.")]
    Shape(&'static str),
}

impl FromStr for Address {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if text.is_empty() || text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(Error::Characters);
        }
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Self::Local(text.to_owned()));
        };
        match scheme {
            "s3" => object(rest).map(|(bucket, key)| Self::S3 { bucket, key }),
            "gs" => object(rest).map(|(bucket, key)| Self::Gs { bucket, key }),
            "az" => object(rest).map(|(container, key)| Self::Az { account: None, container, key }),
            "abfs" | "abfss" => abfs(rest),
            "https" => https(text),
            "http" => Err(Error::Plain),
            "hf" => hf(rest),
            MLFLOW | MLFLOW_PLAIN => mlflow(text),
            "oci" => oci(rest),
            "pvc" => pvc(rest),
            _ => Err(Error::Scheme),
        }
    }
}

/// `bucket/key`; a bucket is what becomes part of a host name.
fn object(rest: &str) -> Result<(String, String), Error> {
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    if bucket.contains(['@', ':']) {
        return Err(Error::Credentials);
    }
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if bucket.is_empty() || !bucket.chars().all(good) {
        return Err(Error::Shape(
            "write scheme://bucket/key, the bucket of letters, digits, '-', '.' and '_'",
        ));
    }
    if key.contains(['?', '#']) {
        return Err(Error::Shape(
            "a key has no '?' and no '#'; a signed link cannot be used as an address",
        ));
    }
    Ok((bucket.to_owned(), key.to_owned()))
}

fn abfs(rest: &str) -> Result<Address, Error> {
    let (authority, key) = rest.split_once('/').unwrap_or((rest, ""));
    let Some((container, host)) = authority.split_once('@') else {
        return object(rest).map(|(container, key)| Address::Az { account: None, container, key });
    };
    // Only Azure's own hosts: credentials are sent there.
    let account = host
        .strip_suffix(".dfs.core.windows.net")
        .or_else(|| host.strip_suffix(".blob.core.windows.net"));
    let account = account.filter(|a| {
        !a.is_empty() && a.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
    });
    let account =
        account.ok_or(Error::Shape("write abfs://container@account.dfs.core.windows.net/path"))?;
    let (container, key) = object(&format!("{container}/{key}"))?;
    Ok(Address::Az { account: Some(account.to_owned()), container, key })
}

fn https(text: &str) -> Result<Address, Error> {
    let url = Url::parse(text).map_err(|_| Error::Shape("write https://host/path"))?;
    if !url.username().is_empty()
        || url.password().is_some()
        || text["https://".len()..].split('/').next().is_some_and(|a| a.contains('@'))
    {
        return Err(Error::Credentials);
    }
    if url.query_pairs().any(|(name, _)| secret_name(&name)) {
        return Err(Error::Credentials);
    }
    if url.path().trim_matches('/').is_empty() {
        return Err(Error::Shape("an https address names one file: write https://host/path/file"));
    }
    Ok(Address::Https(url))
}

/// Whether a query parameter of that name may be a credential: signed links of every cloud, tokens,
/// keys and passwords.
fn secret_name(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    [
        "sig", "token", "key", "secret", "pass", "pwd", "cred", "auth", "session", "policy", "jwt",
        "code",
    ]
    .iter()
    .any(|part| name.contains(part))
}

fn hf(rest: &str) -> Result<Address, Error> {
    const SHAPE: Error = Error::Shape("write hf://organisation/repository@revision");
    if rest.contains(['?', '#', ':']) {
        return Err(SHAPE);
    }
    let (repository, behind) = match rest.split_once('@') {
        Some((repository, behind)) => (repository, behind),
        None => (rest, "main"),
    };
    let (revision, path) = behind.split_once('/').unwrap_or((behind, ""));
    let good = |part: &str| {
        !part.is_empty()
            && part != "."
            && part != ".."
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    let parts: Vec<&str> = repository.split('/').collect();
    if parts.len() != 2 || !parts.iter().all(|p| good(p)) || !good(revision) {
        return Err(SHAPE);
    }
    Ok(Address::Hf {
        repository: repository.to_owned(),
        revision: revision.to_owned(),
        path: path.trim_matches('/').to_owned(),
    })
}

fn mlflow(text: &str) -> Result<Address, Error> {
    const SHAPE: Error = Error::Shape(
        "write mlflow-artifacts+https://host/path, the path as in mlflow-artifacts:/path",
    );
    let mut server =
        text.strip_prefix("mlflow-artifacts+").and_then(|url| Url::parse(url).ok()).ok_or(SHAPE)?;
    if !server.username().is_empty() || server.password().is_some() {
        return Err(Error::Credentials);
    }
    if server.query().is_some() || server.fragment().is_some() {
        return Err(SHAPE);
    }
    let whole = server.path().to_owned();
    let (prefix, path) = whole.split_once(MLFLOW_API).unwrap_or(("", &whole));
    let path = percent_encoding::percent_decode_str(path.trim_matches('/'))
        .decode_utf8()
        .map_err(|_| SHAPE)?;
    if path.is_empty() || path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(SHAPE);
    }
    server.set_path(prefix);
    Ok(Address::Mlflow { server, path: path.into_owned() })
}

fn oci(rest: &str) -> Result<Address, Error> {
    const SHAPE: Error =
        Error::Shape("write oci://registry/repository@sha256:… or oci://registry/repository:tag");
    let host = rest.split('/').next().unwrap_or_default();
    if host.contains('@') {
        return Err(Error::Credentials);
    }
    // What has no dot, no port and is not localhost would be read as a repository of Docker Hub.
    if !rest.contains('/') || !(host.contains(['.', ':']) || host == "localhost") {
        return Err(SHAPE);
    }
    rest.parse().map(|reference| Address::Oci(Box::new(reference))).map_err(|_| SHAPE)
}

fn pvc(rest: &str) -> Result<Address, Error> {
    let (claim, path) = rest.split_once('/').unwrap_or((rest, ""));
    let good = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.');
    if claim.is_empty() || claim.starts_with('.') || !claim.chars().all(good) {
        return Err(Error::Shape("write pvc://claim/path"));
    }
    if path.split('/').any(|part| part == "..") {
        return Err(Error::Shape("a path has no '..'"));
    }
    Ok(Address::Pvc { claim: claim.to_owned(), path: path.trim_matches('/').to_owned() })
}

impl Address {
    /// The name of the file where the address is one of a single file.
    #[must_use]
    pub fn file_name(&self) -> String {
        let path = match self {
            Self::S3 { key, .. } | Self::Gs { key, .. } | Self::Az { key, .. } => key.clone(),
            Self::Https(url) => {
                percent_encoding::percent_decode_str(url.path()).decode_utf8_lossy().into_owned()
            }
            Self::Hf { path, .. }
            | Self::Pvc { path, .. }
            | Self::Mlflow { path, .. }
            | Self::Local(path) => path.clone(),
            Self::Oci(reference) => reference.repository().to_owned(),
        };
        path.trim_end_matches('/')
            .rsplit('/')
            .next()
            .filter(|name| !name.is_empty())
            .unwrap_or("model")
            .to_owned()
    }
}

/// For people: without a query.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, key } => write!(f, "s3://{bucket}/{}", shown(key)),
            Self::Gs { bucket, key } => write!(f, "gs://{bucket}/{}", shown(key)),
            Self::Az { account: None, container, key } => {
                write!(f, "az://{container}/{}", shown(key))
            }
            Self::Az { account: Some(account), container, key } => {
                write!(f, "abfs://{container}@{account}.dfs.core.windows.net/{}", shown(key))
            }
            Self::Https(url) => write!(f, "{}", bare(url)),
            Self::Hf { repository, revision, path } if path.is_empty() => {
                write!(f, "hf://{repository}@{revision}")
            }
            Self::Hf { repository, revision, path } => {
                write!(f, "hf://{repository}@{revision}/{}", shown(path))
            }
            Self::Mlflow { server, path } => {
                let (base, api) =
                    (bare(server), if server.path() == "/" { "" } else { MLFLOW_API });
                write!(f, "mlflow-artifacts+{}{api}/{}", base.trim_end_matches('/'), shown(path))
            }
            Self::Oci(reference) => write!(f, "oci://{reference}"),
            Self::Pvc { claim, path } => write!(f, "pvc://{claim}/{}", shown(path)),
            Self::Local(path) => f.write_str(&shown(path)),
        }
    }
}

fn shown(text: &str) -> String {
    super::name::escaped(text)
}

/// A URL for people: without a query, which is where signed links keep their signature.
#[must_use]
pub fn bare(url: &Url) -> String {
    let port = url.port().map(|p| format!(":{p}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme(), url.host_str().unwrap_or_default(), shown(url.path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_address_is_shown_as_it_was_written() {
        for text in [
            "s3://models/fraud/7/",
            "s3://models/fraud/7/model.bin",
            "gs://models/fraud",
            "az://models/fraud/7/",
            "abfs://models@acme.dfs.core.windows.net/fraud/7/",
            "https://models.example.com:8443/fraud/7.tar.gz",
            "hf://acme/fraud@main",
            "hf://acme/fraud@v1.0/onnx",
            "oci://registry.example.com/risk/fraud:7",
            "oci://localhost:5000/fraud@sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef",
            "pvc://models/fraud/7",
            "mlflow-artifacts+http://mlflow.mlflow:5000/1/models/m-60a2/artifacts",
            "mlflow-artifacts+https://ml.example.com/team/a/api/2.0/mlflow-artifacts/artifacts/1/models/m-60a2/artifacts",
            "some/directory",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn credentials_in_an_address_are_refused_and_never_echoed() {
        for text in [
            "https://alice:hunter2@models.example.com/m.bin",
            "https://hunter2@models.example.com/m.bin",
            "https://models.example.com/m.bin?X-Amz-Credential=a&X-Amz-Signature=hunter2",
            "https://models.example.com/m.bin?sv=2024&SIG=hunter2",
            "https://models.example.com/m.bin?access_token=hunter2",
            "s3://AKIA:hunter2@models/fraud",
            "gs://hunter2@models/fraud",
            "oci://alice:hunter2@registry.example.com/fraud:7",
            "mlflow-artifacts+https://alice:hunter2@mlflow.example.com/1/models",
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert_eq!(error, Error::Credentials, "{text}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn what_is_no_address_is_refused_with_how_it_is_written() {
        for (text, error) in [
            ("", Error::Characters),
            ("s3://models/a b", Error::Characters),
            ("s3://models/a\nb", Error::Characters),
            ("ftp://models/a", Error::Scheme),
            ("file:///etc/passwd", Error::Scheme),
            ("http://models.example.com/a", Error::Plain),
        ] {
            assert_eq!(text.parse::<Address>(), Err(error), "{text}");
        }
        for text in [
            "s3://",
            "s3:///a",
            "s3://mo%2fdels/a",
            "s3://models/a?versionId=1",
            "https://",
            "https://models.example.com/",
            "hf://acme",
            "hf://acme/fraud:main",
            "hf://acme/fraud@../x",
            "hf://acme/../x@main",
            "oci://fraud:7",
            "oci://risk/fraud:7",
            "oci://registry.example.com/Fraud:7",
            "pvc://",
            "pvc://models/../x",
            "mlflow-artifacts+https://mlflow.example.com",
            "mlflow-artifacts+https://mlflow.example.com/1/%2e%2e%2f/x",
            "mlflow-artifacts+https://mlflow.example.com/1?path=x",
            "abfs://models@evil.example.com/x",
            "abfs://models@a/b.dfs.core.windows.net/x",
        ] {
            assert!(
                matches!(text.parse::<Address>(), Err(Error::Shape(_))),
                "{text}: {:?}",
                text.parse::<Address>()
            );
        }
    }

    #[test]
    fn a_single_file_is_called_what_its_address_ends_in() {
        for (text, name) in [
            ("s3://models/fraud/model.bin", "model.bin"),
            ("https://models.example.com/a/my%20model.bin?download=true", "my model.bin"),
            ("s3://models", "model"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().file_name(), name);
        }
    }
}
