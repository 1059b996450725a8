use std::process::Command;

use object_store::{
    ClientOptions, ObjectStore, ObjectStoreExt, azure::MicrosoftAzureBuilder, path::Path,
};

use crate::{
    fetcher::noise,
    servers::{
        azurite::{ACCOUNT, Azurite, KEY},
        run,
    },
};

fn store(azurite: &Azurite, key: &str) -> impl ObjectStore {
    super::use_ring();
    let builder = MicrosoftAzureBuilder::new()
        .with_endpoint(azurite.endpoint())
        .with_account(ACCOUNT)
        .with_access_key(key);
    let retry = object_store::RetryConfig { max_retries: 0, ..Default::default() };
    builder
        .with_client_options(ClientOptions::new().with_allow_http(true))
        .with_retry(retry)
        .with_container_name("models")
        .build()
        .unwrap()
}

#[tokio::test]
async fn blobs_are_read_with_the_accounts_key_and_with_a_shared_access_signature() {
    let azurite = Azurite::start();
    azurite.make_container("models");
    let bytes = noise(1, 1_000_000);
    azurite.put("models", "a b/c.bin", &bytes);
    let path = Path::from("a b/c.bin");
    let store = store(&azurite, KEY);
    let got = store.get(&path).await.unwrap();
    assert!(got.meta.e_tag.is_some());
    assert_eq!(got.bytes().await.unwrap(), bytes);
    assert_eq!(store.get_range(&path, 1000..5000).await.unwrap(), bytes[1000..5000]);
    let url = format!(
        "{}?{}",
        azurite.url("models", "a b/c.bin"),
        Azurite::sas("r", "2099-01-01T00:00:00Z")
    );
    assert_eq!(run(Command::new("curl").args(["-sS", "--fail", &url])), bytes);
}

#[tokio::test]
async fn wrong_keys_old_signatures_and_strangers_are_refused() {
    let azurite = Azurite::start();
    azurite.make_container("models");
    azurite.put("models", "a", b"a");
    let wrong = store(&azurite, "d3Jvbmc=").get(&Path::from("a")).await.unwrap_err();
    assert!(
        wrong.to_string().contains("403")
            || matches!(wrong, object_store::Error::PermissionDenied { .. }),
        "{wrong}"
    );
    let status = |url: &str| {
        run(Command::new("curl").args(["-sS", "-o", "/dev/null", "-w", "%{http_code}", url]))
    };
    let url = azurite.url("models", "a");
    assert_eq!(status(&format!("{url}?{}", Azurite::sas("r", "2020-01-01T00:00:00Z"))), b"403");
    assert_ne!(status(&url), b"200");
}
