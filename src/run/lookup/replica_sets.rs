//! The ReplicaSets of a Deployment, which no cache holds: read page by page, each reduced to the
//! templates that can be gone back to before the next one is read.

use std::collections::HashSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Client, api::ListParams};
use serde::Deserialize;
use serde_json::{Value, value::RawValue};
use tracing::warn;

use super::{Error, Key};
use crate::{
    api::names,
    plan::{facts::attribution::read_revision, observed::ReplicaSet},
};

/// ReplicaSets a page: each may hold a template of hundreds of KiB.
const PAGE: u32 = 20;
/// The most pages that are read.
const PAGES_MAX: usize = 100;
/// The most bytes of templates that are kept.
const BYTES_MAX: usize = 8 << 20;

/// Reads the ReplicaSets that the Deployment of that uid controls, or that nobody does: one for
/// each revision. Beyond the bounds the rest counts as not there, which is logged: their revisions
/// cannot be gone back to, and whoever asks for one is told so.
pub(super) async fn list_replica_sets(
    client: &Client,
    key: &Key,
    deployment_uid: Option<String>,
) -> Result<Vec<ReplicaSet>, Error> {
    let labels = format!("{}={}", names::MODEL_DEPLOYMENT, key.name);
    let mut params = ListParams::default().labels(&labels).limit(PAGE);
    let mut gathered = Gathered { deployment_uid, ..Gathered::default() };
    for _ in 0..PAGES_MAX {
        let page = read_page(client, key, &params).await?;
        let has_room = page.items.into_iter().all(|set| gathered.add(set));
        params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
        if params.continue_token.is_none() && has_room {
            return Ok(gathered.sets);
        }
        if !has_room {
            break;
        }
    }
    warn!(deployment = %key, kept = gathered.sets.len(), "there are more ReplicaSets than are read: the revisions of the others cannot be gone back to");
    Ok(gathered.sets)
}

async fn read_page(client: &Client, key: &Key, params: &ListParams) -> Result<Page, Error> {
    let failed = |source| Error::Request {
        what: format!("the ReplicaSets of {key}"),
        source: Box::new(source),
    };
    let path = format!("/apis/apps/v1/namespaces/{}/replicasets", key.namespace);
    let request = kube::core::Request::new(path)
        .list(params)
        .map_err(|error| failed(kube::Error::BuildRequest(error)))?;
    client.request(request).await.map_err(failed)
}

/// What is read of a list of ReplicaSets.
#[derive(Deserialize)]
struct Page {
    #[serde(default)]
    metadata: PageMeta,
    #[serde(default)]
    items: Vec<Listed>,
}

#[derive(Default, Deserialize)]
struct PageMeta {
    #[serde(rename = "continue")]
    continue_: Option<String>,
}

#[derive(Deserialize)]
struct Listed {
    metadata: ListedMeta,
    spec: ListedSpec,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListedMeta {
    name: String,
    #[serde(default)]
    owner_references: Vec<OwnerReference>,
}

#[derive(Deserialize)]
struct ListedSpec {
    template: Box<RawValue>,
}

/// What is kept of the pages that were read.
#[derive(Default)]
struct Gathered {
    deployment_uid: Option<String>,
    sets: Vec<ReplicaSet>,
    /// The revisions that are kept. ReplicaSets of one revision differ in restartedAt alone, which
    /// is no part of what is stored.
    known: HashSet<String>,
    size_bytes: usize,
}

impl Gathered {
    /// Adds a ReplicaSet, if it is one that the planner may use; false where there is no room.
    fn add(&mut self, listed: Listed) -> bool {
        let owners = listed.metadata.owner_references;
        let controller = owners.into_iter().find(|o| o.controller == Some(true)).map(|o| o.uid);
        let is_anothers = match (&controller, &self.deployment_uid) {
            (Some(controller), Some(deployment)) => controller != deployment,
            _ => false,
        };
        let size = listed.spec.template.get().len();
        let Ok(template) = serde_json::from_str::<Value>(listed.spec.template.get()) else {
            return true;
        };
        if is_anothers || !self.known.insert(read_revision(&template).to_owned()) {
            return true;
        }
        if self.size_bytes + size > BYTES_MAX {
            return false;
        }
        self.size_bytes += size;
        let name = listed.metadata.name;
        self.sets.push(ReplicaSet { name, controller_uid: controller, template });
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn listed(name: &str, controller: &str, revision: &str, filler: usize) -> Listed {
        let owner = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "fraud",
            "uid": controller, "controller": true});
        let template = json!({"metadata": {"labels": {names::REVISION: revision},
            "annotations": {"filler": "x".repeat(filler)}}});
        let set = json!({"metadata": {"name": name, "ownerReferences": [owner]},
            "spec": {"template": template}});
        serde_json::from_str(&set.to_string()).unwrap()
    }

    #[test]
    fn one_replica_set_of_each_revision_of_the_deployment_is_kept() {
        let mut gathered = Gathered { deployment_uid: Some("ours".into()), ..Gathered::default() };
        let all =
            [("a", "ours", "6"), ("b", "ours", "6"), ("c", "theirs", "7"), ("d", "ours", "7")];
        assert!(all.into_iter().all(|(name, uid, of)| gathered.add(listed(name, uid, of, 0))));
        let names: Vec<&str> = gathered.sets.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["a", "d"]);
    }

    #[tokio::test]
    async fn every_page_is_read() {
        let service = tower::service_fn(|request: http::Request<kube::client::Body>| async move {
            let query = request.uri().query().unwrap_or_default().to_owned();
            assert!(query.contains("limit=20"), "{query}");
            let (name, next) = match query.contains("continue=more") {
                true => ("b", None),
                false => ("a", Some("more")),
            };
            let template = json!({"metadata": {"labels": {names::REVISION: name}}});
            let page = json!({"metadata": {"continue": next},
                "items": [{"metadata": {"name": name}, "spec": {"template": template}}]});
            let body = kube::client::Body::from(serde_json::to_vec(&page).unwrap());
            Ok::<_, std::convert::Infallible>(http::Response::new(body))
        });
        let client = Client::new(service, "ml");
        let sets = list_replica_sets(&client, &Key::new("ml", "fraud"), None).await.unwrap();
        let names: Vec<&str> = sets.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn templates_are_kept_up_to_a_bound() {
        let mut gathered = Gathered::default();
        let added = (0..100).take_while(|n| {
            gathered.add(listed(&format!("s{n}"), "ours", &n.to_string(), 1 << 20))
        });
        assert_eq!(added.count(), 7, "of a megabyte and a bit each");
        assert!(gathered.size_bytes <= BYTES_MAX);
    }
}
