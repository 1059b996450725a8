use std::process::Command;

use futures::TryStreamExt;
use object_store::{
    GetOptions, GetRange, ObjectStore, ObjectStoreExt, aws::AmazonS3Builder, path::Path,
};

use crate::{
    fetcher::noise,
    servers::{
        certs::Authority,
        run,
        s3::{KEY, REGION, S3, SECRET},
    },
};

fn store(s3: &S3, secret: &str) -> impl ObjectStore {
    super::use_ring();
    let builder = AmazonS3Builder::new()
        .with_endpoint(s3.endpoint())
        .with_allow_http(true)
        .with_region(REGION);
    builder
        .with_bucket_name("models")
        .with_access_key_id(KEY)
        .with_secret_access_key(secret)
        .build()
        .unwrap()
}

#[tokio::test]
async fn what_is_put_is_given_back_whole_and_in_ranges() {
    let s3 = S3::start();
    s3.make_bucket("models");
    let bytes = noise(1, 3_000_000);
    s3.put("models", "a b/ü+&.bin", &bytes);
    let store = store(&s3, SECRET);
    let path = Path::parse("a b/ü+&.bin").unwrap();
    let got = store.get(&path).await.unwrap();
    assert!(got.meta.e_tag.is_some());
    assert_eq!(got.bytes().await.unwrap(), bytes);
    assert_eq!(store.get_range(&path, 1000..5000).await.unwrap(), bytes[1000..5000]);
    let last = GetOptions { range: Some(GetRange::Suffix(10)), ..GetOptions::default() };
    assert_eq!(
        store.get_opts(&path, last).await.unwrap().bytes().await.unwrap(),
        bytes[2_999_990..]
    );
    assert_eq!(run(s3.curl().arg(s3.url("models", "a b/ü+&.bin"))), bytes);
}

#[tokio::test]
async fn a_list_of_more_than_a_thousand_objects_has_them_all() {
    let s3 = S3::start();
    s3.make_bucket("models");
    // On the disk they are objects too, and a thousand times faster put.
    std::fs::create_dir(s3.file("models", "many")).unwrap();
    (0..2500).for_each(|i| {
        std::fs::write(s3.file("models", &format!("many/{i}")), i.to_string()).unwrap()
    });
    let all: Vec<_> =
        store(&s3, SECRET).list(Some(&Path::from("many"))).try_collect().await.unwrap();
    assert_eq!(all.len(), 2500);
}

#[tokio::test]
async fn a_wrong_secret_is_refused() {
    let s3 = S3::start();
    s3.make_bucket("models");
    s3.put("models", "a", b"a");
    let error = store(&s3, "wrong").get(&Path::from("a")).await.unwrap_err();
    assert!(error.to_string().contains("SignatureDoesNotMatch"), "{error}");
    let without = Command::new("curl")
        .args(["-s", "-o", "/dev/null", "-w", "%{http_code}", &s3.url("models", "a")])
        .output()
        .unwrap();
    assert_eq!(without.stdout, b"403");
}

#[test]
fn tls_is_of_the_tests_own_authority() {
    let authority = Authority::new();
    let s3 = S3::start_tls(&authority);
    s3.make_bucket("models");
    s3.put("models", "a", b"a");
    assert_eq!(run(s3.curl().arg(s3.url("models", "a"))), b"a");
}
