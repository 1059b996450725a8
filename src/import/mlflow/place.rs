//! Where an artifact is: from MLflow's address of it to one that a pod can use alone.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::Url;

use crate::{
    api::registry::Mlflow,
    fetch::{
        name::escaped,
        source::mlflow::{DEFAULT, WORKSPACES},
        uri::{Address, MLFLOW_API},
    },
};

/// What stands in a path as it is.
const PATH: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Where an artifact is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    /// What the record says.
    pub uri: String,
    /// Where the importer reads it.
    pub address: Address,
    /// Where pods read it, as the record says.
    pub pods: Address,
}

/// Where pods find what MLflow says is at `uri`.
///
/// # Errors
/// A sentence, where no pod can use it.
pub fn place(uri: &str, at: &Mlflow, server: &Url) -> Result<Placed, String> {
    if let Some(path) = proxied(uri) {
        let path = &within(path, at.workspace.as_deref());
        let through = through(server, path);
        let address: Address =
            through.parse().map_err(|e: crate::fetch::uri::Error| e.to_string())?;
        if !matches!(&address, Address::Mlflow { path: read, .. } if *read == *path) {
            return Err(format!("Its artifact is at {}, which is no plain path.", escaped(uri)));
        }
        let uri = match &at.artifacts_destination {
            Some(destination) => {
                format!("{}/{}", destination.trim_end_matches('/'), utf8_percent_encode(path, PATH))
            }
            None => through,
        };
        return checked(uri, address);
    }
    let wrong =
        |why: String| format!("Its artifact is at {}, which no pod can fetch: {why}", escaped(uri));
    let address: Address =
        uri.parse().map_err(|e: crate::fetch::uri::Error| wrong(e.to_string()))?;
    match address {
        Address::S3 { .. } | Address::Gs { .. } | Address::Az { .. } => {
            checked(uri.to_owned(), address)
        }
        _ => Err(wrong(
            "register it from an object store, or through the tracking server's own storage."
                .into(),
        )),
    }
}

/// What is written down has to be what is read back.
fn checked(uri: String, address: Address) -> Result<Placed, String> {
    match uri.parse::<Address>() {
        Ok(pods) if uri.len() <= 2048 => Ok(Placed { uri, address, pods }),
        Ok(_) => Err("The address of its artifact is longer than 2048 bytes.".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// The path in the tracking server's own storage, of `mlflow-artifacts:/path` or
/// `mlflow-artifacts://host/path`.
fn proxied(uri: &str) -> Option<&str> {
    let rest = uri.strip_prefix("mlflow-artifacts:")?;
    let path = match rest.strip_prefix("//") {
        Some(authority) => authority.split_once('/')?.1,
        None => rest,
    };
    Some(path.trim_matches('/'))
}

/// Where that is in the storage itself: the server puts what a workspace has below its name, where
/// its own address does not say so.
fn within<'a>(path: &'a str, workspace: Option<&str>) -> Cow<'a, str> {
    match workspace.filter(|name| *name != DEFAULT && !path.starts_with(WORKSPACES)) {
        Some(name) => format!("{WORKSPACES}{name}/{path}").into(),
        None => path.into(),
    }
}

fn through(server: &Url, path: &str) -> String {
    let prefix = server.path().trim_end_matches('/');
    let before = if prefix.is_empty() { String::new() } else { format!("{prefix}{MLFLOW_API}") };
    format!(
        "mlflow-artifacts+{}{before}/{}",
        &server[..url::Position::BeforePath],
        utf8_percent_encode(path, PATH)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(uri: &str, server: &str, destination: Option<&str>) -> Result<String, String> {
        let at =
            Mlflow { artifacts_destination: destination.map(str::to_owned), ..Mlflow::default() };
        place(uri, &at, &Url::parse(server).unwrap()).map(|placed| placed.uri)
    }

    #[test]
    fn what_the_server_keeps_is_fetched_from_where_it_keeps_it_or_through_the_server() {
        let (uri, plain) =
            ("mlflow-artifacts:/1/models/m-60a2/artifacts", "http://mlflow.mlflow:5000");
        for (uri, server, destination, want) in [
            (
                uri,
                plain,
                None,
                "mlflow-artifacts+http://mlflow.mlflow:5000/1/models/m-60a2/artifacts",
            ),
            (uri, plain, Some("s3://models/art"), "s3://models/art/1/models/m-60a2/artifacts"),
            (uri, plain, Some("s3://models/art/"), "s3://models/art/1/models/m-60a2/artifacts"),
            (
                "mlflow-artifacts://mlflow.mlflow:5000/1/a b",
                plain,
                None,
                "mlflow-artifacts+http://mlflow.mlflow:5000/1/a%20b",
            ),
            (
                uri,
                "https://ml.example.com/team/",
                None,
                "mlflow-artifacts+https://ml.example.com/team/api/2.0/mlflow-artifacts/artifacts/1/models/m-60a2/artifacts",
            ),
            (
                "s3://models/direct/0/models/m-1/artifacts",
                plain,
                Some("s3://other"),
                "s3://models/direct/0/models/m-1/artifacts",
            ),
        ] {
            assert_eq!(placed(uri, server, destination).as_deref(), Ok(want));
        }
    }

    #[test]
    fn what_a_workspace_has_is_below_its_name() {
        let at = |workspace: &str| Mlflow {
            workspace: Some(workspace.into()),
            artifacts_destination: Some("s3://b".into()),
            ..Mlflow::default()
        };
        for (uri, workspace, want) in [
            ("mlflow-artifacts:/workspaces/team-a/2/x", "team-a", "s3://b/workspaces/team-a/2/x"),
            ("mlflow-artifacts:/own/2/x", "team-a", "s3://b/workspaces/team-a/own/2/x"),
            ("mlflow-artifacts:/1/x", "default", "s3://b/1/x"),
            ("s3://own/2/x", "team-a", "s3://own/2/x"),
        ] {
            let placed =
                place(uri, &at(workspace), &Url::parse("http://mlflow:5000").unwrap()).unwrap();
            assert_eq!(placed.uri, want);
        }
    }

    #[test]
    fn what_no_pod_can_fetch_is_told() {
        for uri in [
            "dbfs:/models/x",
            "file:///models/x",
            "/models/x",
            "https://models.example.com/x",
            "hf://acme/fraud",
            "models:/m-1",
            "mlflow-artifacts:/1/../x",
            "s3://AKIA:secret@b/x",
        ] {
            assert!(placed(uri, "http://mlflow:5000", None).is_err(), "{uri}");
        }
    }
}
