//! `gs://`: Google Cloud Storage.

use std::sync::Arc;

use object_store::gcp::GoogleCloudStorageBuilder;

use super::{Store, connector, retries, unusable};
use crate::fetch::{error::Error, source::Means};

/// Google Cloud Storage.
///
/// # Errors
/// When the credentials make no sense.
pub fn gs(bucket: &str, key: &str, means: &Means) -> Result<Store, Error> {
    const METADATA: &str = "metadata.google.internal";
    let given = &*means.credentials;
    let file = given.environment("GOOGLE_APPLICATION_CREDENTIALS");
    let json = given.get(&["gcloud-application-credentials.json"]);
    let endpoint = given.get(&["STORAGE_EMULATOR_HOST", "GCS_ENDPOINT_URL"]);
    // The metadata server of a cluster gives the ServiceAccount's identity; only where it is asked for, and only it.
    let workload = given.flag(&["GOOGLE_WORKLOAD_IDENTITY"]);
    let connector = connector(means, workload.then(|| METADATA.to_owned()))?;
    let mut builder = GoogleCloudStorageBuilder::new().with_http_connector(connector).with_retry(retries()).with_bucket_name(bucket);
    builder = endpoint.into_iter().fold(builder, |b, url| b.with_base_url(url));
    let anonymous = json.is_none() && file.is_none() && !workload;
    builder = match (json, file) {
        (Some(json), _) => builder.with_service_account_key(json),
        (None, Some(file)) => builder.with_application_credentials(file),
        (None, None) => builder.with_skip_signature(anonymous),
    };
    let store = builder.build().map_err(|_| unusable("Google Cloud Storage", "gcloud-application-credentials.json"))?;
    Ok(Store::new(Arc::new(store), format!("gs://{bucket}"), key, anonymous, false))
}
