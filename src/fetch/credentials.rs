//! Credentials: a mounted Secret in the shapes that KServe's users have, and behind it the
//! environment, where workload identity is.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde_json::Value;

use super::error::{Error, Reason};

/// The largest key of a Secret that is read, in bytes; Kubernetes stores 1 MiB at most in a Secret.
const KEY_MAX: u64 = 1024 * 1024;

/// Something that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Something that is never shown.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// What it is, for the one who needs it.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// All that was given, by name: what the Secret holds wins over the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    mounted: BTreeMap<String, Secret>,
    environment: BTreeMap<String, Secret>,
}

impl Credentials {
    /// Reads a mounted Secret, if there is one, and takes the environment.
    ///
    /// # Errors
    /// When the Secret cannot be read.
    pub fn read(
        directory: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, Error> {
        let mounted = directory.map(mounted).transpose()?.unwrap_or_default();
        let environment =
            environment.into_iter().map(|(name, value)| (name, Secret(value))).collect();
        Ok(Self { mounted, environment })
    }

    /// With one more variable in the environment, which wins over what the Secret holds under that
    /// name.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.mounted.remove(name);
        self.environment.insert(name.to_owned(), Secret(value.to_owned()));
        self
    }

    /// The first of these names that is given and not empty.
    #[must_use]
    pub fn get(&self, names: &[&str]) -> Option<&str> {
        lookup(&self.mounted, names).or_else(|| lookup(&self.environment, names))
    }

    /// Whether one of these names is given as `true` or `1`.
    #[must_use]
    pub fn flag(&self, names: &[&str]) -> bool {
        self.get(names).is_some_and(|value| {
            matches!(value.to_ascii_lowercase().as_str(), "true" | "1" | "yes")
        })
    }

    /// Whether anything of these names is in the environment, which workload identity's webhooks
    /// write.
    #[must_use]
    pub fn environment(&self, name: &str) -> Option<&str> {
        lookup(&self.environment, &[name])
    }

    /// Certificates to trust beside the system's, in DER: `ca.crt` or `cabundle.crt` of the Secret,
    /// or the file that AWS_CA_BUNDLE names.
    ///
    /// # Errors
    /// When there is a file and no certificate in it.
    pub fn certificates(&self) -> Result<Vec<Vec<u8>>, Error> {
        let from_file = |path: &str| {
            fs::read_to_string(path)
                .map_err(|e| Error::io("read the file that AWS_CA_BUNDLE names", &e))
        };
        let pem = match lookup(&self.mounted, &["ca.crt", "cabundle.crt"]) {
            Some(pem) => pem.to_owned(),
            None => match self.environment("AWS_CA_BUNDLE") {
                Some(path) => from_file(path)?,
                None => return Ok(Vec::new()),
            },
        };
        let found = certificates(&pem);
        if found.is_empty() {
            return Err(Error::new(
                Reason::InvalidRequest,
                "The certificates given (ca.crt of the Secret, or AWS_CA_BUNDLE) hold no PEM certificate.",
            ));
        }
        Ok(found)
    }
}

fn lookup<'a>(from: &'a BTreeMap<String, Secret>, names: &[&str]) -> Option<&'a str> {
    names
        .iter()
        .find_map(|name| from.get(*name))
        .map(Secret::reveal)
        .filter(|value| !value.is_empty())
}

fn certificates(pem: &str) -> Vec<Vec<u8>> {
    CertificateDer::pem_slice_iter(pem.as_bytes())
        .filter_map(Result::ok)
        .map(|certificate| certificate.to_vec())
        .collect()
}

/// The keys of a mounted Secret. Those of KServe's `storage-config`, each a JSON object, are spread
/// out under the names of the rest.
fn mounted(directory: &Path) -> Result<BTreeMap<String, Secret>, Error> {
    let failed = |error: &std::io::Error| Error::io("read the mounted credentials", error);
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).map_err(|e| failed(&e))? {
        let path = entry.map_err(|e| failed(&e))?.path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
        // The kubelet keeps the files in a directory that begins so, and a link to each beside it.
        if name.starts_with("..") || !path.is_file() {
            continue;
        }
        if fs::metadata(&path).map_err(|e| failed(&e))?.len() > KEY_MAX {
            return Err(Error::new(
                Reason::InvalidRequest,
                format!("Key {} of the Secret is larger than 1 MiB.", super::name::escaped(&name)),
            ));
        }
        let Ok(text) = fs::read_to_string(&path) else { continue };
        found.insert(name, Secret(text.trim_end_matches(['\n', '\r']).to_owned()));
    }
    let spread: Vec<(String, Secret)> =
        found.values().flat_map(|secret| storage_config(secret.reveal())).collect();
    for (name, value) in spread {
        found.entry(name).or_insert(value);
    }
    Ok(found)
}

/// One key of KServe's `storage-config` (`{"type": "s3", "access_key_id": …}`) under the names of
/// the environment.
fn storage_config(text: &str) -> Vec<(String, Secret)> {
    let Ok(Value::Object(fields)) = serde_json::from_str::<Value>(text) else { return Vec::new() };
    if fields.get("type").and_then(Value::as_str) != Some("s3") {
        return Vec::new();
    }
    let names = [
        ("access_key_id", "AWS_ACCESS_KEY_ID"),
        ("secret_access_key", "AWS_SECRET_ACCESS_KEY"),
        ("session_token", "AWS_SESSION_TOKEN"),
        ("endpoint_url", "AWS_ENDPOINT_URL"),
        ("region", "AWS_DEFAULT_REGION"),
        ("anonymous", "AWS_ANONYMOUS_CREDENTIAL"),
    ];
    let given = |(from, to): (&str, &str)| match fields.get(from)? {
        Value::String(text) => Some((to.to_owned(), Secret(text.clone()))),
        Value::Bool(yes) => Some((to.to_owned(), Secret(yes.to_string()))),
        _ => None,
    };
    names.into_iter().filter_map(given).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(files: &[(&str, &str)], environment: &[(&str, &str)]) -> Credentials {
        let directory = std::env::temp_dir().join(format!(
            "rollmodel-credentials-{}-{:?}",
            std::process::id(),
            std::thread::current().id()
        ));
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(directory.join("..data")).unwrap();
        for (name, text) in files {
            fs::write(directory.join(name), text).unwrap();
        }
        let all = environment.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned()));
        let read = Credentials::read(Some(&directory), all).unwrap();
        fs::remove_dir_all(&directory).unwrap();
        read
    }

    #[test]
    fn what_the_secret_holds_wins_over_the_environment_and_line_ends_are_no_part_of_it() {
        let credentials = given(
            &[("AWS_ACCESS_KEY_ID", "mounted\n"), ("AWS_REGION", "")],
            &[("AWS_ACCESS_KEY_ID", "env"), ("AWS_REGION", "eu-1")],
        );
        assert_eq!(credentials.get(&["AWS_ACCESS_KEY_ID"]), Some("mounted"));
        assert_eq!(credentials.get(&["AWS_REGION"]), Some("eu-1"));
        assert_eq!(credentials.get(&["HF_TOKEN"]), None);
    }

    #[test]
    fn a_storage_config_of_kserve_is_read_by_the_same_names() {
        let json = r#"{"type": "s3", "access_key_id": "id", "secret_access_key": "key", "endpoint_url": "http://minio:9000", "anonymous": "True"}"#;
        let credentials = given(&[("localMinIO", json)], &[]);
        assert_eq!(credentials.get(&["AWS_SECRET_ACCESS_KEY"]), Some("key"));
        assert_eq!(credentials.get(&["AWS_ENDPOINT_URL"]), Some("http://minio:9000"));
        assert!(credentials.flag(&["AWS_ANONYMOUS_CREDENTIAL"]));
    }

    #[test]
    fn nothing_that_is_secret_is_shown_by_debugging() {
        let credentials =
            given(&[("HF_TOKEN", "hunter2")], &[("AWS_SECRET_ACCESS_KEY", "hunter2")]);
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }

    #[test]
    fn a_certificate_bundle_without_a_certificate_is_told() {
        assert!(given(&[("ca.crt", "nonsense")], &[]).certificates().is_err());
        assert_eq!(given(&[], &[]).certificates().unwrap().len(), 0);
    }
}
