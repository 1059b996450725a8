//! HTTP and HTTPS: an nginx that serves a directory, with ranges, and whatever else its
//! configuration says.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{Dir, Server, certs::Authority, escaped, free_port, tools};

/// A running server; dropping it ends it and removes its files.
pub struct Nginx {
    server: Server,
    scheme: &'static str,
}

/// What was answered to one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Served {
    /// The method.
    pub method: String,
    /// The path and query as they were sent.
    pub target: String,
    /// The status.
    pub status: u16,
    /// How many bytes of the body were sent, without heads.
    pub bytes: u64,
    /// The Range header, `-` when there was none.
    pub range: String,
}

impl Nginx {
    /// Starts one; `more` stands in its `server` block, such as `limit_rate 1m;` or another
    /// `location`. With an authority it speaks TLS.
    pub fn start(more: &str, authority: Option<&Authority>) -> Self {
        let (dir, port) = (Dir::fresh("nginx"), free_port());
        fs::create_dir(dir.join("files")).expect("the files' directory");
        let (listen, scheme) = match authority {
            Some(authority) => {
                authority.sign(&dir);
                (
                    format!(
                        "listen 127.0.0.1:{port} ssl; ssl_certificate server.crt; ssl_certificate_key server.key;"
                    ),
                    "https",
                )
            }
            None => (format!("listen 127.0.0.1:{port};"), "http"),
        };
        fs::write(dir.join("nginx.conf"), configuration(&listen, more)).expect("nginx.conf");
        let prefix = format!("{}/", dir.path().display());
        let args = ["-p", &prefix, "-c", "nginx.conf", "-e", "stderr"];
        let server = Server::start(&tools("debian").join("usr/sbin/nginx"), &args, &[], port, dir);
        Self { server, scheme }
    }

    /// Its port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.server.port()
    }

    /// Its address.
    pub fn endpoint(&self) -> String {
        format!("{}://127.0.0.1:{}", self.scheme, self.port())
    }

    /// The address of a file.
    pub fn url(&self, path: &str) -> String {
        format!("{}/{}", self.endpoint(), escaped(path))
    }

    /// Puts a file.
    pub fn put(&self, path: &str, bytes: &[u8]) {
        let file = self.file(path);
        fs::create_dir_all(file.parent().expect("a directory")).expect("the file's directory");
        fs::write(file, bytes).expect("the file");
    }

    /// Where a file is on the disk.
    pub fn file(&self, path: &str) -> PathBuf {
        self.files().join(path)
    }

    /// The directory that it serves.
    pub fn files(&self) -> PathBuf {
        self.server.dir().join("files")
    }

    /// What was answered so far, in the order in which answers ended; one is written down just
    /// after its last byte was sent.
    pub fn served(&self) -> Vec<Served> {
        served(&self.server.dir().join("access.log"))
    }
}

fn served(log: &Path) -> Vec<Served> {
    let text = fs::read_to_string(log).expect("the access log");
    let line = |line: &str| {
        let mut fields = line.split('\t').map(String::from);
        let mut next = || fields.next().expect("a field of the log");
        let (method, target) = (next(), next());
        Served {
            method,
            target,
            status: next().parse().expect("a status"),
            bytes: next().parse().expect("a length"),
            range: next(),
        }
    };
    text.lines().map(line).collect()
}

/// One process: workers of their own would live on when the master is killed.
fn configuration(listen: &str, more: &str) -> String {
    format!(
        "daemon off; master_process off; pid nginx.pid;
events {{ worker_connections 1024; }}
http {{
  log_format seen '$request_method\\t$request_uri\\t$status\\t$body_bytes_sent\\t$sent_range';
  map $http_range $sent_range {{ '' '-'; default $http_range; }}
  access_log access.log seen;
  client_body_temp_path tmp; proxy_temp_path tmp; fastcgi_temp_path tmp; uwsgi_temp_path tmp; scgi_temp_path tmp;
  default_type application/octet-stream; sendfile on; tcp_nopush on; client_max_body_size 0;
  server {{
    {listen}
    root files;
    {more}
  }}
}}
"
    )
}
