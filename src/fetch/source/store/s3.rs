//! `s3://`: Amazon S3, and what speaks its API.

use std::sync::Arc;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey as Key};

use super::{Store, connector, retries, unusable};
use crate::fetch::{credentials::Credentials, error::Error, source::Means};

/// S3, and what speaks its API.
///
/// # Errors
/// When the credentials make no sense.
pub fn s3(bucket: &str, key: &str, means: &Means) -> Result<Store, Error> {
    let given = &*means.credentials;
    let pod_identity = given.environment("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    let identity = pod_identity.and_then(|uri| {
        url::Url::parse(uri).ok()?.host_str().map(|h| h.trim_matches(['[', ']']).to_owned())
    });
    let connector = connector(means, identity)?;
    let region = given.get(&["AWS_REGION", "AWS_DEFAULT_REGION"]).unwrap_or("us-east-1");
    let mut builder = AmazonS3Builder::new()
        .with_http_connector(connector)
        .with_retry(retries())
        .with_bucket_name(bucket)
        .with_region(region);
    let endpoint = endpoint(given);
    // A dot in the bucket's name would not match the cloud's certificate.
    let hosted = given.flag(&["S3_USER_VIRTUAL_BUCKET", "S3_USE_VIRTUAL_BUCKET"])
        || (endpoint.is_none() && !bucket.contains('.'));
    if let Some(endpoint) = endpoint {
        // The library takes an endpoint as it is: with the bucket in it, where that is the style.
        let endpoint =
            if hosted { endpoint.replacen("://", &format!("://{bucket}."), 1) } else { endpoint };
        builder = builder.with_endpoint(endpoint).with_allow_http(true);
    }
    let (builder, anonymous) = signed(builder.with_virtual_hosted_style_request(hosted), given);
    let store = builder.build().map_err(|_| {
        unusable("S3", "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and AWS_ENDPOINT_URL")
    })?;
    Ok(Store::new(Arc::new(store), format!("s3://{bucket}"), key, anonymous, true))
}

/// With the credentials that are given: keys, else the pod's role, else its identity, else none;
/// and whether there are none.
fn signed(builder: AmazonS3Builder, given: &Credentials) -> (AmazonS3Builder, bool) {
    let pod_identity = given.environment("AWS_CONTAINER_CREDENTIALS_FULL_URI");
    let asked_anonymous =
        given.flag(&["awsAnonymousCredential", "AWS_ANONYMOUS_CREDENTIAL", "AWS_NO_SIGN_REQUEST"]);
    let keys = given.get(&["AWS_ACCESS_KEY_ID"]).zip(given.get(&["AWS_SECRET_ACCESS_KEY"]));
    let role =
        given.environment("AWS_WEB_IDENTITY_TOKEN_FILE").zip(given.environment("AWS_ROLE_ARN"));
    let token = given.environment("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE");
    let anonymous = asked_anonymous || (keys.is_none() && role.is_none() && pod_identity.is_none());
    let builder = match (keys, role, pod_identity) {
        _ if anonymous => builder.with_skip_signature(true),
        (Some((id, secret)), ..) => {
            let builder = builder.with_access_key_id(id).with_secret_access_key(secret);
            given
                .get(&["AWS_SESSION_TOKEN"])
                .into_iter()
                .fold(builder, |b, token| b.with_token(token))
        }
        (None, Some((file, role)), _) => {
            let builder = builder
                .with_config(Key::WebIdentityTokenFile, file)
                .with_config(Key::RoleArn, role);
            given
                .environment("AWS_ENDPOINT_URL_STS")
                .into_iter()
                .fold(builder, |b, sts| b.with_config(Key::StsEndpoint, sts))
        }
        (None, None, uri) => builder
            .with_config(Key::ContainerCredentialsFullUri, uri.unwrap_or_default())
            .with_config(Key::ContainerAuthorizationTokenFile, token.unwrap_or_default()),
    };
    (builder, anonymous)
}

/// The endpoint by any of its names; KServe's has no scheme.
fn endpoint(given: &Credentials) -> Option<String> {
    let text = given
        .get(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "S3_ENDPOINT"])?
        .trim_end_matches('/');
    if text.contains("://") {
        return Some(text.to_owned());
    }
    let plain =
        given.get(&["S3_USE_HTTPS"]).is_some_and(|v| v == "0" || v.eq_ignore_ascii_case("false"));
    Some(format!("{}://{text}", if plain { "http" } else { "https" }))
}
