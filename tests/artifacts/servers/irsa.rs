//! S3 for roles, as pods on EKS have them: a moto, which checks signatures, session tokens and the
//! role's policy, and a token service that gives the role's credentials for a web identity token.
//! For large objects there is [`super::s3`]: moto holds them in memory.

use std::{fs, process::Command};

use axum::{Router, extract::RawQuery, routing::any};
use http::StatusCode;
use percent_encoding::percent_decode_str;

use super::{
    Dir, Server, certs::Authority, escaped, free_port, nginx::Nginx, run, serve::Serving, tools,
};

/// The one token that the token service takes; moto's own takes every one.
pub const WEB_IDENTITY_TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb2xsbW9kZWwifQ.";
/// The one role.
pub const ROLE: &str = "arn:aws:iam::123456789012:role/rollmodel-test";
/// The region it is in.
pub const REGION: &str = "us-east-1";
/// The bucket that the role may not use; every other it may.
pub const FORBIDDEN: &str = "forbidden";

/// Running servers; dropping them ends them.
pub struct Irsa {
    s3: Server,
    /// The credentials as STS gives them, XML.
    assumed: String,
    /// Holds the service that `sts` speaks TLS for.
    service: Serving,
    sts: Nginx,
}

impl Irsa {
    /// Starts both: S3 speaks plain HTTP, the token service TLS, for object_store sends a token
    /// nowhere else.
    pub fn start(authority: &Authority) -> Self {
        let (dir, port) = (Dir::fresh("moto"), free_port());
        let listen = port.to_string();
        let s3 = Server::start(
            &tools("moto").join("bin/moto_server"),
            &["-H", "127.0.0.1", "-p", &listen],
            &[],
            port,
            dir,
        );
        let assumed = assume_role(&format!("http://127.0.0.1:{port}"));
        let answer = assumed.clone();
        let service = Serving::start(
            Router::new().fallback(any(move |query, form| give(answer.clone(), query, form))),
        );
        let sts = Nginx::start(
            &format!("location / {{ proxy_pass {}; }}", service.url()),
            Some(authority),
        );
        Self { s3, assumed, service, sts }
    }

    /// The address of S3.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.s3.port())
    }

    /// The address of the token service, for `AWS_ENDPOINT_URL_STS`.
    pub fn sts_endpoint(&self) -> String {
        self.sts.endpoint()
    }

    /// Makes a bucket, as the role.
    pub fn make_bucket(&self, bucket: &str) {
        run(self.curl().args(["-X", "PUT"]).arg(format!("{}/{bucket}", self.endpoint())));
    }

    /// Puts an object, as the role.
    pub fn put(&self, bucket: &str, key: &str, bytes: &[u8]) {
        let file = Dir::fresh("object");
        fs::write(file.join("object"), bytes).expect("the object");
        run(self.curl().arg("-T").arg(file.join("object")).arg(format!(
            "{}/{bucket}/{}",
            self.endpoint(),
            escaped(key)
        )));
    }

    /// One of the role's credentials by STS' name of it: `AccessKeyId`, `SecretAccessKey`,
    /// `SessionToken`.
    pub fn credential(&self, name: &str) -> String {
        let (_, rest) = self.assumed.split_once(&format!("<{name}>")).expect("credentials");
        rest.split('<').next().unwrap_or_default().to_owned()
    }

    fn curl(&self) -> Command {
        let part = |name: &str| self.credential(name);
        let mut curl =
            signed("s3", &format!("{}:{}", part("AccessKeyId"), part("SecretAccessKey")));
        curl.args(["-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD", "-H"])
            .arg(format!("x-amz-security-token: {}", part("SessionToken")));
        curl
    }
}

fn signed(service: &str, user: &str) -> Command {
    let mut curl = Command::new("curl");
    curl.args([
        "-sS",
        "--fail-with-body",
        "--aws-sigv4",
        &format!("aws:amz:{REGION}:{service}"),
        "--user",
        user,
    ]);
    curl
}

/// Makes the role, assumes it, and lets everything after that be checked. Gives what STS answered.
fn assume_role(endpoint: &str) -> String {
    let policy = format!(
        "{{\"Version\":\"2012-10-17\",\"Statement\":[{{\"Effect\":\"Allow\",\"Action\":\"s3:*\",\"Resource\":\"*\"}},\
         {{\"Effect\":\"Deny\",\"Action\":\"s3:*\",\"Resource\":\"arn:aws:s3:::{FORBIDDEN}*\"}}]}}"
    );
    let name = "rollmodel-test";
    let call = |service: &str, version: &str, parameters: &[(&str, &str)]| {
        let mut curl = signed(service, "anybody:secret");
        for (name, value) in [("Version", version)].iter().chain(parameters) {
            curl.arg("--data-urlencode").arg(format!("{name}={value}"));
        }
        String::from_utf8(run(curl.arg(endpoint))).expect("XML")
    };
    call(
        "iam",
        "2010-05-08",
        &[
            ("Action", "CreateRole"),
            ("RoleName", name),
            ("AssumeRolePolicyDocument", "{\"Statement\":[]}"),
        ],
    );
    let put = [
        ("Action", "PutRolePolicy"),
        ("RoleName", name),
        ("PolicyName", "s3"),
        ("PolicyDocument", &policy),
    ];
    call("iam", "2010-05-08", &put);
    let assume = [
        ("Action", "AssumeRoleWithWebIdentity"),
        ("RoleArn", ROLE),
        ("RoleSessionName", "test"),
        ("WebIdentityToken", "any"),
    ];
    let assumed = call("sts", "2011-06-15", &assume);
    let mut strict = Command::new("curl");
    strict.args([
        "-sS",
        "--fail",
        "-H",
        "Content-Type: text/plain",
        "-d",
        "0",
        &format!("{endpoint}/moto-api/reset-auth"),
    ]);
    run(&mut strict);
    assumed
}

/// Parameters come in the query (object_store) or in a form (the AWS SDKs).
async fn give(assumed: String, RawQuery(query): RawQuery, form: String) -> (StatusCode, String) {
    let text = format!("{}&{form}", query.unwrap_or_default());
    let parameter = |name: &str| {
        let value = text.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        percent_decode_str(value.unwrap_or_default()).decode_utf8_lossy().into_owned()
    };
    if parameter("Action") != "AssumeRoleWithWebIdentity" {
        return (
            StatusCode::BAD_REQUEST,
            refusal("InvalidAction", "The action is not valid for this endpoint."),
        );
    }
    if parameter("WebIdentityToken") != WEB_IDENTITY_TOKEN {
        return (
            StatusCode::BAD_REQUEST,
            refusal(
                "InvalidIdentityToken",
                "The web identity token provided could not be validated.",
            ),
        );
    }
    if parameter("RoleArn") != ROLE {
        return (
            StatusCode::FORBIDDEN,
            refusal("AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity"),
        );
    }
    (StatusCode::OK, assumed)
}

fn refusal(code: &str, message: &str) -> String {
    format!(
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type><Code>{code}</Code>\
         <Message>{message}</Message></Error><RequestId>0</RequestId></ErrorResponse>"
    )
}
