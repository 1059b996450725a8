//! `gs://`: Google Cloud Storage.

use std::{sync::Arc, time::Duration};

use object_store::gcp::GoogleCloudStorageBuilder;

use super::{Store, connector, retries, unusable};
use crate::fetch::{error::Error, source::Means};

/// The host that gives a pod of Google's clusters its ServiceAccount's identity.
const METADATA: &str = "metadata.google.internal";
/// How long that host's name may take to be found.
const PATIENCE: Duration = Duration::from_secs(3);

/// Whether the pod has an identity of its own: where it is said so, or else where the host that
/// gives it is found by its name.
async fn identity(means: &Means) -> bool {
    let given = &*means.credentials;
    if given.get(&["GOOGLE_WORKLOAD_IDENTITY"]).is_some() {
        return given.flag(&["GOOGLE_WORKLOAD_IDENTITY"]);
    }
    let found = tokio::time::timeout(PATIENCE, means.resolve.resolve(METADATA.into(), 80)).await;
    matches!(found, Ok(Ok(addresses)) if !addresses.is_empty())
}

/// Google Cloud Storage.
///
/// # Errors
/// When the credentials make no sense.
pub async fn gs(bucket: &str, key: &str, means: &Means) -> Result<Store, Error> {
    let given = &*means.credentials;
    let file = given.environment("GOOGLE_APPLICATION_CREDENTIALS");
    let json = given.get(&["gcloud-application-credentials.json"]);
    let endpoint = given.get(&["STORAGE_EMULATOR_HOST", "GCS_ENDPOINT_URL"]);
    let workload = json.is_none() && file.is_none() && identity(means).await;
    let connector = connector(means, workload.then(|| METADATA.to_owned()))?;
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_http_connector(connector)
        .with_retry(retries())
        .with_bucket_name(bucket);
    builder = endpoint.into_iter().fold(builder, |b, url| b.with_base_url(url));
    let anonymous = json.is_none() && file.is_none() && !workload;
    builder = match (json, file) {
        (Some(json), _) => builder.with_service_account_key(json),
        (None, Some(file)) => builder.with_application_credentials(file),
        (None, None) => builder.with_skip_signature(anonymous),
    };
    let store = builder
        .build()
        .map_err(|_| unusable("Google Cloud Storage", "gcloud-application-credentials.json"))?;
    Ok(Store::new(Arc::new(store), format!("gs://{bucket}"), key, anonymous, false))
}
