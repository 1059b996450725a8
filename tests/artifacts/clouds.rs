//! `gs://`, `az://` and `abfs://`, and identities of pods.

use std::{fs, io, net::IpAddr, pin::Pin, sync::Arc};

use rollmodel::fetch::{
    credentials::Credentials,
    http::Resolve,
    source::{self, Means},
};

use crate::{
    fetcher::{Fetcher, noise, sha256, tree},
    hostile::{Hostile, reply},
    servers::{
        azurite::{self, Azurite},
        certs::Authority,
        gcs::Gcs,
        irsa::{FORBIDDEN, Irsa, REGION, ROLE, WEB_IDENTITY_TOKEN},
        proxy::{Mood, Proxy},
    },
};

const MIB: usize = 1024 * 1024;

#[test]
fn google_cloud_storage_gives_files_and_directories() {
    let gcs = Gcs::start();
    gcs.make_bucket("models");
    let bytes = noise(1, 9 * MIB);
    gcs.put("models", "fraud/7/model.bin", &bytes);
    gcs.put("models", "fraud/7/deep/config.json", b"{}");
    let proxy = Proxy::before(gcs.port());
    let fetcher = Fetcher::new().env([("STORAGE_EMULATOR_HOST", proxy.endpoint())]);
    fetcher.fetch("gs://models/fraud/7/", &[]).verified();
    assert_eq!(
        tree(&fetcher.model()),
        [("deep/config.json".into(), b"{}".to_vec()), ("model.bin".into(), bytes.clone())]
    );
    proxy.set(Mood::Cut { after: MIB as u64, times: 3 });
    fetcher.fetch("gs://models/fraud/7/model.bin", &["--digest", &sha256(&bytes)]).verified();
    assert_eq!(
        fetcher.fetch("gs://models/none/", &[]).failed("NotFound"),
        "There is nothing at gs://models/none/."
    );
}

#[test]
fn a_pods_identity_in_google_cloud_is_used_where_it_is_asked_for_and_only_then() {
    let gcs = Gcs::start_guarded();
    gcs.make_bucket("models");
    gcs.put("models", "model.bin", b"bytes");
    let fetcher = || {
        Fetcher::new().env([
            ("STORAGE_EMULATOR_HOST", gcs.endpoint()),
            ("GCE_METADATA_HOST", gcs.metadata_host()),
        ])
    };
    let ran = fetcher().fetch("gs://models/model.bin", &[]);
    assert!(ran.troubled("Unauthorized").contains("no credentials were given"), "{ran:?}");
    fetcher()
        .env([("GOOGLE_WORKLOAD_IDENTITY", "true")])
        .fetch("gs://models/model.bin", &[])
        .verified();
}

/// Finds the host that gives pods of Google's clusters their identity, on this machine where
/// nothing listens, or does not.
struct Google(bool);

impl Resolve for Google {
    fn resolve(
        &self,
        _: String,
        _: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        let found = if self.0 {
            Ok(vec![IpAddr::from([127, 0, 0, 1])])
        } else {
            Err(io::ErrorKind::NotFound.into())
        };
        Box::pin(async move { found })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pods_identity_in_google_cloud_is_asked_for_where_its_host_is_found() {
    let gcs = Gcs::start_guarded();
    // Where the host does not answer, the library tries the address that it usually has, which is
    // refused like any other of its kind.
    for (found, says) in [
        (true, "169.254.169.254 is this machine, its link or a metadata service"),
        (false, "no credentials were given"),
    ] {
        let given = Credentials::read(None, [("STORAGE_EMULATOR_HOST".to_owned(), gcs.endpoint())])
            .unwrap();
        let allowed = vec!["127.0.0.0/8".parse().unwrap()];
        let means = Means {
            credentials: Arc::new(given),
            allowed,
            resolve: Arc::new(Google(found)),
            volumes: "/nowhere".into(),
        };
        let source = source::open(&"gs://models/model.bin".parse().unwrap(), &means).await.unwrap();
        let error = source.list().await.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}

#[test]
fn azure_gives_files_and_directories_by_key_and_by_shared_access_signature() {
    let azure = Azurite::start();
    azure.make_container("models");
    let bytes = noise(2, 9 * MIB);
    azure.put("models", "fraud/7/model.bin", &bytes);
    azure.put("models", "fraud/7/deep/config.json", b"{}");
    let place = [
        ("AZURE_STORAGE_ACCOUNT", azurite::ACCOUNT.to_owned()),
        ("AZURE_STORAGE_BLOB_ENDPOINT", azure.endpoint()),
    ];
    let sas = Azurite::sas("rl", "2099-01-01T00:00:00Z");
    let by = |name: &str, value: &str| Fetcher::new().env(place.clone()).env([(name, value)]);
    for fetcher in
        [by("AZURE_STORAGE_ACCESS_KEY", azurite::KEY), by("AZURE_STORAGE_SAS_TOKEN", &sas)]
    {
        fetcher.fetch("az://models/fraud/7/", &[]).verified();
        assert_eq!(
            tree(&fetcher.model()),
            [("deep/config.json".into(), b"{}".to_vec()), ("model.bin".into(), bytes.clone())]
        );
        fetcher.fetch("abfs://models/fraud/7/model.bin", &["--digest", &sha256(&bytes)]).verified();
        let account =
            format!("abfs://models@{}.dfs.core.windows.net/fraud/7/model.bin", azurite::ACCOUNT);
        fetcher.fetch(&account, &["--digest", &sha256(&bytes)]).verified();
    }
    let ran = by("AZURE_STORAGE_SAS_TOKEN", &sas)
        .fetch("abfs://models@somebodyelse.dfs.core.windows.net/fraud/7/model.bin", &[]);
    assert_eq!(
        ran.failed("Refused"),
        "The artifact is in Azure account somebodyelse, and the credentials are of another one."
    );
    let wrong = by("AZURE_STORAGE_SAS_TOKEN", &sas.replace("sig=", "sig=hunter2"));
    let ran = wrong.fetch("az://models/fraud/7/model.bin", &[]);
    ran.troubled("Unauthorized");
    let gone = by("AZURE_STORAGE_SAS_TOKEN", &sas)
        .env([("AZURE_STORAGE_BLOB_ENDPOINT", "http://127.0.0.1:1/rollmodeltest")]);
    let unreached = gone.fetch("az://models/fraud/7/model.bin", &[]);
    unreached.troubled("Unreachable");
    for ran in [ran, unreached] {
        assert!(!format!("{ran:?}").contains("sig="), "a signature is shown: {ran:?}");
    }
}

#[test]
fn a_pods_identity_in_amazons_cloud_becomes_credentials_by_its_web_identity_token() {
    let authority = Authority::new();
    let irsa = Irsa::start(&authority);
    irsa.make_bucket("models");
    irsa.put("models", "fraud/model.bin", b"bytes");
    let ca = fs::read_to_string(authority.certificate()).unwrap();
    let with = |token: &str| {
        let fetcher = Fetcher::new().secret([("ca.crt", ca.as_str())]);
        fs::write(fetcher.path("token"), token).unwrap();
        let file = fetcher.path("token").to_str().unwrap().to_owned();
        let variables = [
            ("AWS_ENDPOINT_URL_S3", irsa.endpoint()),
            ("AWS_ENDPOINT_URL_STS", irsa.sts_endpoint()),
            ("AWS_REGION", REGION.into()),
            ("AWS_ROLE_ARN", ROLE.into()),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", file),
        ];
        fetcher.env(variables)
    };
    with(WEB_IDENTITY_TOKEN).fetch("s3://models/fraud/", &[]).verified();
    let ran = with(WEB_IDENTITY_TOKEN).fetch(&format!("s3://{FORBIDDEN}/x/"), &[]);
    assert!(
        ran.troubled("Unauthorized").contains("the credentials given do not allow it"),
        "{ran:?}"
    );
    let ran = with("hunter2").fetch("s3://models/fraud/", &[]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(!format!("{ran:?}").contains("hunter2"), "{ran:?}");
}

#[test]
fn a_pods_identity_by_the_eks_agent_becomes_credentials() {
    let irsa = Irsa::start(&Authority::new());
    irsa.make_bucket("models");
    irsa.put("models", "fraud/model.bin", b"bytes");
    let part = |name: &str| irsa.credential(name);
    let given = serde_json::json!({"AccessKeyId": part("AccessKeyId"), "SecretAccessKey": part("SecretAccessKey"), "Token": part("SessionToken"),
        "AccountId": "1", "Expiration": "2099-01-01T00:00:00Z"});
    let agent = Hostile::start(move |head, stream| {
        match head.to_ascii_lowercase().contains("authorization: of-the-pod") {
            true => reply(
                stream,
                &format!("200 OK\nContent-Length: {}", given.to_string().len()),
                given.to_string().as_bytes(),
            ),
            false => reply(stream, "401 Unauthorized\nContent-Length: 0", b""),
        }
    });
    let fetcher = Fetcher::new();
    fs::write(fetcher.path("token"), "of-the-pod").unwrap();
    let token = fetcher.path("token").to_str().unwrap().to_owned();
    let fetcher = fetcher.env([
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", format!("{}/v1/credentials", agent.endpoint())),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", token),
        ("AWS_ENDPOINT_URL", irsa.endpoint()),
        ("AWS_REGION", REGION.into()),
    ]);
    fetcher.fetch("s3://models/fraud/", &[]).verified();
}
