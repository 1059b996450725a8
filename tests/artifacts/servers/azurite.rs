//! Azure Blob Storage: an Azurite with one account.

use std::{fs, path::Path, process::Command};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::hmac;

use super::{Dir, Server, escaped, free_port, run, tools};

/// The account.
pub const ACCOUNT: &str = "rollmodeltest";
/// Its key: base64 of `rollmodel-test-secret`.
pub const KEY: &str = "cm9sbG1vZGVsLXRlc3Qtc2VjcmV0";

/// The version of the protocol that signatures are made for.
const VERSION: &str = "2020-12-06";

/// A running server; dropping it ends it and removes its blobs.
pub struct Azurite(Server);

impl Azurite {
    /// Starts one that speaks plain HTTP.
    pub fn start() -> Self {
        let (dir, port) = (Dir::fresh("azurite"), free_port());
        let listen = port.to_string();
        let mut args = vec![
            "--blobHost",
            "127.0.0.1",
            "--blobPort",
            &listen,
            "--location",
            "blobs",
            "--silent",
            "--disableTelemetry",
        ];
        // Clients keep connections longer than the default's 5 s, and may use one as it ends.
        // Azurite knows fewer versions than clients.
        args.extend(["--blobKeepAliveTimeout", "300", "--skipApiVersionCheck"]);
        let accounts = format!("{ACCOUNT}:{KEY}");
        let program = tools("azure").join("node_modules/.bin/azurite-blob");
        Self(Server::start(&program, &args, &[("AZURITE_ACCOUNTS", &accounts)], port, dir))
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.0.port()
    }

    /// The account's address: as on every Azurite, the account is the first part of the path.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}/{ACCOUNT}", self.port())
    }

    /// A shared access signature, the query of a URL without `?`; permissions are such as `rl`, the
    /// time such as `2099-01-01T00:00:00Z`.
    pub fn sas(permissions: &str, until: &str) -> String {
        // "Create an account SAS", version 2020-12-06 and later: a field a line, the last of them
        // is the encryption scope.
        let text = format!("{ACCOUNT}\n{permissions}\nb\nsco\n\n{until}\n\n\n{VERSION}\n\n");
        let key = hmac::Key::new(hmac::HMAC_SHA256, &STANDARD.decode(KEY).expect("base64"));
        let signature = STANDARD.encode(hmac::sign(&key, text.as_bytes()));
        let escape = |text: &str| escaped(text).replace('/', "%2F");
        format!(
            "sv={VERSION}&ss=b&srt=sco&sp={permissions}&se={}&sig={}",
            escape(until),
            escape(&signature)
        )
    }

    /// The address of a blob, without a signature.
    pub fn url(&self, container: &str, name: &str) -> String {
        format!("{}/{container}/{}", self.endpoint(), escaped(name))
    }

    /// Makes a container.
    pub fn make_container(&self, container: &str) {
        let url = format!("{}/{container}?restype=container&{}", self.endpoint(), all());
        run(curl().args(["-X", "PUT", "-H", "Content-Length: 0", &url]));
    }

    /// Puts a blob.
    pub fn put(&self, container: &str, name: &str, bytes: &[u8]) {
        let file = Dir::fresh("blob");
        fs::write(file.join("blob"), bytes).expect("the blob");
        self.put_file(container, name, &file.join("blob"));
    }

    /// Puts a file as a blob.
    pub fn put_file(&self, container: &str, name: &str, file: &Path) {
        let url = format!("{}?{}", self.url(container, name), all());
        run(curl().args(["-H", "x-ms-blob-type: BlockBlob", "-T"]).arg(file).arg(url));
    }
}

/// A signature that may do everything.
fn all() -> String {
    Azurite::sas("rwdlac", "2099-01-01T00:00:00Z")
}

fn curl() -> Command {
    let mut curl = Command::new("curl");
    curl.args(["-sS", "--fail-with-body", "-H"]).arg(format!("x-ms-version: {VERSION}"));
    curl
}
