use std::process::Command;

use object_store::{
    Certificate, ClientOptions, ObjectStore, ObjectStoreExt, RetryConfig, aws::AmazonS3Builder,
    path::Path,
};

use crate::servers::{
    Dir,
    certs::Authority,
    irsa::{FORBIDDEN, Irsa, REGION, ROLE, WEB_IDENTITY_TOKEN},
    run, tools,
};

/// A store whose credentials come of a web identity token.
fn store(irsa: &Irsa, authority: &Authority, bucket: &str, token: &str) -> (impl ObjectStore, Dir) {
    super::use_ring();
    let dir = Dir::fresh("identity");
    std::fs::write(dir.join("token"), token).unwrap();
    let trusted = Certificate::from_pem(&std::fs::read(authority.certificate()).unwrap()).unwrap();
    let client = ClientOptions::new().with_allow_http(true).with_root_certificate(trusted);
    let retry = RetryConfig { max_retries: 0, ..Default::default() };
    let builder = AmazonS3Builder::new()
        .with_endpoint(irsa.endpoint())
        .with_region(REGION)
        .with_client_options(client)
        .with_retry(retry);
    let builder = builder.with_config(
        "aws_web_identity_token_file".parse().unwrap(),
        dir.join("token").display().to_string(),
    );
    let builder =
        builder.with_config("aws_role_arn".parse().unwrap(), ROLE).with_bucket_name(bucket);
    (
        builder
            .with_config("aws_endpoint_url_sts".parse().unwrap(), irsa.sts_endpoint())
            .build()
            .unwrap(),
        dir,
    )
}

#[tokio::test]
async fn a_web_identity_token_is_changed_into_credentials_that_s3_takes() {
    let authority = Authority::new();
    let irsa = Irsa::start(&authority);
    irsa.make_bucket("models");
    irsa.put("models", "a/b c", b"hello");
    let (good, _dir) = store(&irsa, &authority, "models", WEB_IDENTITY_TOKEN);
    let path = Path::from("a/b c");
    assert_eq!(good.get(&path).await.unwrap().bytes().await.unwrap(), "hello");
    assert_eq!(good.get_range(&path, 1..3).await.unwrap(), "el");
    let (wrong, _dir) = store(&irsa, &authority, "models", "wrong");
    let error = format!("{:?}", wrong.get(&path).await.unwrap_err());
    assert!(error.contains("InvalidIdentityToken"), "{error}");
    let (forbidden, _dir) = store(&irsa, &authority, FORBIDDEN, WEB_IDENTITY_TOKEN);
    let error = forbidden.get(&path).await.unwrap_err();
    assert!(matches!(error, object_store::Error::PermissionDenied { .. }), "{error}");
}

#[test]
fn the_aws_sdk_gets_the_same() {
    const GET: &str = "
import boto3, sys
s3, sts, ca, role, token = sys.argv[1:]
sts = boto3.client('sts', endpoint_url=sts, region_name='us-east-1', verify=ca)
assumed = sts.assume_role_with_web_identity(RoleArn=role, RoleSessionName='test', WebIdentityToken=token)['Credentials']
session = boto3.Session(assumed['AccessKeyId'], assumed['SecretAccessKey'], assumed['SessionToken'], 'us-east-1')
print(session.client('s3', endpoint_url=s3).get_object(Bucket='models', Key='a')['Body'].read().decode(), end='')
";
    let authority = Authority::new();
    let irsa = Irsa::start(&authority);
    irsa.make_bucket("models");
    irsa.put("models", "a", b"hello");
    let mut python = Command::new(tools("moto").join("bin/python"));
    python
        .args(["-c", GET, &irsa.endpoint(), &irsa.sts_endpoint()])
        .arg(authority.certificate())
        .args([ROLE, WEB_IDENTITY_TOKEN]);
    assert_eq!(run(&mut python), b"hello");
}
