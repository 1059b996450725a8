use std::process::Command;

use futures::TryStreamExt;
use object_store::{
    ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig,
    gcp::{GcpCredential, GoogleCloudStorageBuilder},
    path::Path,
};

use crate::{
    fetcher::noise,
    servers::{
        gcs::{Gcs, TOKEN},
        proxy::Proxy,
        run,
    },
};

fn store(endpoint: &str, token: &str) -> impl ObjectStore {
    super::use_ring();
    let bearer = GcpCredential { bearer: token.into() };
    let credentials = std::sync::Arc::new(object_store::StaticCredentialProvider::new(bearer));
    let retry = RetryConfig { max_retries: 0, ..Default::default() };
    let builder = GoogleCloudStorageBuilder::new()
        .with_base_url(endpoint)
        .with_bucket_name("models")
        .with_credentials(credentials);
    builder
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .with_retry(retry)
        .build()
        .unwrap()
}

#[tokio::test]
async fn objects_are_listed_and_read_whole_and_in_ranges() {
    let gcs = Gcs::start();
    gcs.make_bucket("models");
    let bytes = noise(1, 1_000_000);
    gcs.put("models", "a b/c.bin", &bytes);
    gcs.put("models", "a b/d.bin", b"d");
    let proxy = Proxy::before(gcs.port());
    let store = store(&proxy.endpoint(), "any");
    let path = Path::from("a b/c.bin");
    let listed: Vec<_> = store.list(Some(&Path::from("a b"))).try_collect().await.unwrap();
    assert_eq!(
        listed.iter().map(|o| (o.location.as_ref(), o.size)).collect::<Vec<_>>(),
        [("a b/c.bin", 1_000_000), ("a b/d.bin", 1)]
    );
    let got = store.get(&path).await.unwrap();
    assert!(got.meta.e_tag.is_some());
    assert_eq!(got.bytes().await.unwrap(), bytes);
    assert_eq!(store.get_range(&path, 1000..5000).await.unwrap(), bytes[1000..5000]);
}

#[tokio::test]
async fn a_guarded_server_takes_the_metadata_servers_token_and_no_other() {
    let gcs = Gcs::start_guarded();
    gcs.make_bucket("models");
    gcs.put("models", "a", b"a");
    let wrong = store(&gcs.endpoint(), "wrong").get(&Path::from("a")).await.unwrap_err();
    assert!(matches!(wrong, object_store::Error::Unauthenticated { .. }), "{wrong}");
    assert_eq!(
        store(&gcs.endpoint(), TOKEN).get(&Path::from("a")).await.unwrap().bytes().await.unwrap(),
        "a"
    );
    let url = format!(
        "http://{}/computeMetadata/v1/instance/service-accounts/default/token",
        gcs.metadata_host()
    );
    let given =
        run(Command::new("curl").args(["-sS", "--fail", "-H", "Metadata-Flavor: Google", &url]));
    assert!(String::from_utf8(given).unwrap().contains(TOKEN));
}
