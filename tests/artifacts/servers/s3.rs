//! S3: a versitygw over a directory. It checks SigV4 signatures, answers ranges, pages lists, and
//! holds no object in memory. What it was asked for and how much it gave counts a
//! [`super::proxy::Proxy`] before it: its own log has no bytes of GETs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{Dir, Server, certs::Authority, escaped, free_port, run, tools};

/// The access key id that it knows.
pub const KEY: &str = "rollmodel-test";
/// The secret access key of [`KEY`].
pub const SECRET: &str = "rollmodel-test-secret";
/// The region it says it is in; another one in a signature is refused.
pub const REGION: &str = "eu-test-1";

/// A running server; dropping it ends it and removes its objects.
pub struct S3 {
    server: Server,
    /// The authority that its certificate is of, when it speaks TLS.
    authority: Option<PathBuf>,
}

impl S3 {
    /// Starts one that speaks plain HTTP.
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// Starts one that speaks TLS.
    pub fn start_tls(authority: &Authority) -> Self {
        Self::start_with(Some(authority))
    }

    fn start_with(authority: Option<&Authority>) -> Self {
        let (dir, port) = (Dir::fresh("s3"), free_port());
        fs::create_dir(dir.join("buckets")).expect("the buckets' directory");
        let listen = format!("127.0.0.1:{port}");
        // Without --keep-alive every request is a connection of its own, which S3 does not do.
        let mut args = vec!["--port", &listen, "--region", REGION, "--keep-alive", "--quiet"];
        // It reads them after it went into the buckets' directory.
        let files = authority.map(|authority| authority.sign(&dir)).map(|files| {
            (files.certificate.display().to_string(), files.key.display().to_string())
        });
        if let Some((certificate, key)) = &files {
            args.extend(["--cert", certificate, "--key", key]);
        }
        args.extend(["posix", "buckets"]);
        let env = [("ROOT_ACCESS_KEY", KEY), ("ROOT_SECRET_KEY", SECRET)];
        let server = Server::start(&tools("s3").join("versitygw"), &args, &env, port, dir);
        Self { server, authority: authority.map(Authority::certificate) }
    }

    /// Its port on 127.0.0.1: what a proxy stands before.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Its address; buckets are the first part of the path.
    pub fn endpoint(&self) -> String {
        format!(
            "{}://127.0.0.1:{}",
            if self.authority.is_some() { "https" } else { "http" },
            self.port()
        )
    }

    /// What a client finds its credentials by, as the AWS SDKs read them: boto3 reads the second
    /// name of the region only.
    pub fn env() -> [(&'static str, &'static str); 4] {
        [
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_REGION", REGION),
            ("AWS_DEFAULT_REGION", REGION),
        ]
    }

    /// curl as it signs for this server, without an address.
    pub fn curl(&self) -> Command {
        let mut curl = Command::new("curl");
        // curl 7.88 signs this header but does not add it.
        curl.args(["-sS", "--fail-with-body", "-H", "x-amz-content-sha256: UNSIGNED-PAYLOAD"]);
        curl.args([
            "--aws-sigv4",
            &format!("aws:amz:{REGION}:s3"),
            "--user",
            &format!("{KEY}:{SECRET}"),
        ]);
        if let Some(authority) = &self.authority {
            curl.arg("--cacert").arg(authority);
        }
        curl
    }

    /// The address of an object.
    pub fn url(&self, bucket: &str, key: &str) -> String {
        format!("{}/{bucket}/{}", self.endpoint(), escaped(key))
    }

    /// Makes a bucket.
    pub fn make_bucket(&self, bucket: &str) {
        run(self.curl().args(["-X", "PUT", &self.url(bucket, "")]));
    }

    /// Puts an object.
    pub fn put(&self, bucket: &str, key: &str, bytes: &[u8]) {
        let file = Dir::fresh("object");
        fs::write(file.join("object"), bytes).expect("the object");
        self.put_file(bucket, key, &file.join("object"));
    }

    /// Puts a file as an object, however large it is.
    pub fn put_file(&self, bucket: &str, key: &str, file: &Path) {
        run(self.curl().arg("-T").arg(file).arg(self.url(bucket, key)));
    }

    /// Where the bytes of an object are on the disk: to change them behind the server's back.
    pub fn file(&self, bucket: &str, key: &str) -> PathBuf {
        self.server.dir().join("buckets").join(bucket).join(key)
    }
}
