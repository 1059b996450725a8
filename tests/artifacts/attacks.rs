//! What a server, a registry, DNS or an address may try; each must fail, with one clear line and
//! nothing visible.

use std::{
    collections::BTreeMap,
    fs,
    future::Future,
    io::{self, Write},
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rollmodel::fetch::{
    credentials::Credentials,
    error::{Error, Reason},
    http::Resolve,
    job::{Fetch, Outcome, Request, To},
    source::Means,
    transfer::Limits,
};

use crate::{
    fetcher::{Fetcher, Ran, sha256},
    hostile::{Hostile, reply},
    servers::{certs::Authority, nginx::Nginx, s3::S3},
};

/// An S3 without signatures that answers with one object, `HEAD` as it should, and `GET` from a
/// byte on as the function likes.
fn object(
    size: u64,
    get: impl Fn(u64, &mut std::net::TcpStream) -> io::Result<()> + Send + Sync + 'static,
) -> Hostile {
    Hostile::start(move |head, stream| {
        if head.starts_with("HEAD") {
            return reply(
                stream,
                &format!(
                    "200 OK\nContent-Length: {size}\nETag: \"x\"\nLast-Modified: Tue, 03 Nov 2026 08:00:00 GMT"
                ),
                b"",
            );
        }
        let range = head.lines().find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_owned)
        });
        get(range.unwrap().split('-').next().unwrap().parse().unwrap(), stream)
    })
}

const PARTIAL: &str =
    "206 Partial Content\nETag: \"x\"\nLast-Modified: Tue, 03 Nov 2026 08:00:00 GMT";

fn from(endpoint: String) -> Fetcher {
    Fetcher::new().env([("AWS_ENDPOINT_URL", endpoint)])
}

/// The library with little patience, for what would take minutes.
async fn impatient(
    uri: &str,
    endpoint: String,
    resolve: Arc<dyn Resolve>,
) -> Result<Outcome, Error> {
    let credentials = Credentials::read(None, [("AWS_ENDPOINT_URL".to_owned(), endpoint)]).unwrap();
    let limits = Limits {
        stall: Duration::from_millis(300),
        floor: 1000,
        attempts: 2,
        pause: Duration::from_millis(1),
        ..Limits::default()
    };
    let means = Means {
        credentials: Arc::new(credentials),
        allowed: vec!["127.0.0.0/8".parse().unwrap()],
        resolve,
        volumes: "/nowhere".into(),
    };
    let request = Request {
        address: uri.parse().unwrap(),
        digest: None,
        size: None,
        signature: None,
        unpack: false,
        to: To::Nowhere,
    };
    Fetch { means, limits, trust: None }.run(&request).await
}

#[test]
fn credentials_do_not_follow_a_redirect_to_another_host() {
    let authority = Authority::new();
    let other = Nginx::start("", Some(&authority));
    other.put("model.bin", b"bytes");
    let elsewhere = format!("https://localhost:{}/model.bin", other.port());
    let first =
        Nginx::start(&format!("location /m {{ return 302 {elsewhere}; }}"), Some(&authority));
    let uri = format!("{}/m", first.endpoint());
    let with = Fetcher::trusting(&authority).secret([
        ("https-host", "127.0.0.1"),
        ("headers", r#"{"Authorization": "Bearer hunter2"}"#),
    ]);
    let ran = with.fetch(&uri, &[]);
    assert!(
        ran.failed("Refused").contains(
            "sends the request on to another host, localhost, to which the credentials do not go"
        ),
        "{ran:?}"
    );
    assert!(!format!("{ran:?}").contains("hunter2"));
    assert_eq!(other.served(), []);
    with.assert_nothing();
    // Without credentials there is nothing to lose.
    Fetcher::trusting(&authority).fetch(&uri, &["--digest", &sha256(b"bytes")]).verified();
}

#[test]
fn a_redirect_to_a_private_address_a_metadata_service_or_plain_http_is_refused() {
    let authority = Authority::new();
    for (target, says) in [
        (
            "https://10.11.12.13/m",
            "10.11.12.13 is a private address; an administrator can allow it in delivery.allowedHosts",
        ),
        (
            "https://169.254.169.254/latest/meta-data/",
            "169.254.169.254 is this machine, its link or a metadata",
        ),
        ("https://2852039166/latest", "169.254.169.254 is this machine"),
        ("https://[::1]/m", "::1 is this machine"),
        ("http://127.0.0.1/m", "sends the request on to an address without TLS"),
        (
            "https://alice:hunter2@127.0.0.1/m",
            "sends the request on to an address with credentials in it",
        ),
        ("file:///etc/passwd", "sends the request on to an address without TLS"),
    ] {
        let server =
            Nginx::start(&format!("location /m {{ return 307 {target}; }}"), Some(&authority));
        let fetcher = Fetcher::trusting(&authority);
        let ran = fetcher.fetch(&format!("{}/m", server.endpoint()), &[]);
        assert!(ran.failed("Refused").contains(says), "{target}: {ran:?}");
        assert!(!format!("{ran:?}").contains("hunter2"));
        fetcher.assert_nothing();
    }
    let circle = Nginx::start("location /m { return 302 /m; }", Some(&authority));
    let ran = Fetcher::trusting(&authority).fetch(&format!("{}/m", circle.endpoint()), &[]);
    assert!(ran.failed("Refused").contains("was sent on more than 5 times"), "{ran:?}");
}

#[test]
fn metadata_services_and_this_machine_are_refused_in_every_notation() {
    for host in [
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
        "0251.0376.0251.0376",
        "169.254.43518",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::a9fe:a9fe]",
        "[fd00:ec2::254]",
        "168.63.129.16",
        "100.100.100.200",
        "169.254.170.23",
        "[::1]",
        "[::]",
        "0",
        "0.0.0.0",
    ] {
        let https = Fetcher::new().fetch(&format!("https://{host}/latest/meta-data/iam"), &[]);
        assert!(
            https.failed("Refused").contains("no artifact is fetched from there"),
            "{host}: {https:?}"
        );
        // Also where the credentials name the host, in front of which a library may parse it in its
        // own way.
        let s3 = from(format!("http://{host}")).fetch("s3://models/m", &[]);
        assert!(
            s3.failed("Refused").contains("no artifact is fetched from there"),
            "{host}: {s3:?}"
        );
    }
    // Without leave, this machine too, and private networks where the version's author names the
    // host.
    for (uri, says) in [
        ("https://127.0.0.1:1/m", "this machine"),
        ("https://localhost:1/m", "this machine"),
        ("https://192.168.7.7/m", "private address"),
    ] {
        let ran = Fetcher::new().env([("ROLLMODEL_ALLOWED_HOSTS", "")]).fetch(uri, &[]);
        assert!(ran.failed("Refused").contains(says), "{uri}: {ran:?}");
    }
}

/// Says another thing each time it is asked.
struct Fickle(Mutex<Vec<IpAddr>>);

impl Resolve for Fickle {
    fn resolve(
        &self,
        _: String,
        _: u16,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send>> {
        let next = self.0.lock().unwrap().pop();
        Box::pin(async move { Ok(next.into_iter().collect()) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dns_that_answers_differently_the_second_time_is_looked_at_the_second_time() {
    let server = object(5, |_, stream| {
        reply(
            stream,
            &format!("{PARTIAL}\nContent-Range: bytes 0-4/5\nContent-Length: 5"),
            b"bytes",
        )
    });
    let endpoint = server.endpoint().replace("127.0.0.1", "rebind.example.com");
    let good: IpAddr = "127.0.0.1".parse().unwrap();
    let steady = Arc::new(Fickle(Mutex::new(vec![good, good])));
    assert_eq!(impatient("s3://models/m", endpoint.clone(), steady).await.unwrap().size, 5);
    let fickle = Arc::new(Fickle(Mutex::new(vec!["169.254.169.254".parse().unwrap(), good])));
    let error = impatient("s3://models/m", endpoint, fickle).await.unwrap_err();
    assert_eq!(error.reason, Reason::Refused);
    assert!(
        error
            .sentence
            .starts_with("rebind.example.com is at 169.254.169.254, which is this machine"),
        "{error}"
    );
}

#[test]
fn credentials_in_an_address_are_refused_and_never_echoed() {
    for uri in [
        "https://alice:hunter2@models.example.com/m.bin",
        "https://models.example.com/m.bin?X-Amz-Signature=hunter2",
        "s3://AKIA:hunter2@models/m",
        "oci://alice:hunter2@registry.example.com/m:1",
    ] {
        let ran = Fetcher::new().fetch(uri, &[]);
        assert!(
            ran.failed("Refused")
                .starts_with("The artifact's address holds credentials, and is not shown here."),
            "{ran:?}"
        );
        assert!(!format!("{ran:?}").contains("hunter2"));
    }
}

#[test]
fn a_body_that_is_longer_than_was_asked_for_is_cut_off() {
    let server = object(5, |_, stream| {
        reply(
            stream,
            &format!("{PARTIAL}\nContent-Range: bytes 0-4/5\nContent-Length: 10"),
            b"bytes more",
        )
    });
    let fetcher = from(server.endpoint());
    let ran = fetcher.fetch("s3://models/m", &[]);
    assert_eq!(ran.troubled("Unreachable"), "m is answered with more bytes than were asked for.");
    fetcher.assert_nothing();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_shorter_than_it_says_is_never_taken_for_whole() {
    let server = object(5, |_, stream| {
        reply(stream, &format!("{PARTIAL}\nContent-Range: bytes 0-4/5\nContent-Length: 5"), b"byt")
    });
    let error =
        impatient("s3://models/m", server.endpoint(), Arc::new(rollmodel::fetch::http::System))
            .await
            .unwrap_err();
    assert_eq!(error.reason, Reason::Unreachable, "{error}");
    assert!(server.heads().len() >= 3, "it was not tried again");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_byte_at_a_time_is_not_waited_for() {
    let server = object(100_000, |start, stream| {
        let head = format!(
            "{PARTIAL}\nContent-Range: bytes {start}-99999/100000\nContent-Length: {}",
            100_000 - start
        );
        reply(stream, &head, b"")?;
        while stream.write_all(b"x").is_ok() {
            thread::park_timeout(Duration::from_millis(20));
        }
        Ok(())
    });
    let error =
        impatient("s3://models/m", server.endpoint(), Arc::new(rollmodel::fetch::http::System))
            .await
            .unwrap_err();
    assert_eq!(
        (error.reason, error.sentence.as_str()),
        (Reason::Unreachable, "The answer for m came to a standstill, after 2 attempts.")
    );
}

#[test]
fn an_answer_with_other_bytes_than_were_asked_for_is_not_taken() {
    let server = object(5, |_, stream| {
        reply(
            stream,
            &format!("{PARTIAL}\nContent-Range: bytes 5-9/10\nContent-Length: 5"),
            b"bytes",
        )
    });
    let fetcher = from(server.endpoint());
    let ran = fetcher.fetch("s3://models/m", &[]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    fetcher.assert_nothing();
}

#[test]
fn a_file_of_a_web_server_that_does_not_say_its_size_needs_a_size_and_ends_there() {
    let authority = Authority::new();
    let endless = Hostile::start(|_, stream| {
        reply(stream, "200 OK\nTransfer-Encoding: chunked", b"5\r\nbytes\r\n")?;
        while stream.write_all(b"4\r\nmore\r\n").is_ok() {}
        Ok(())
    });
    let front = Nginx::start(
        &format!(
            "location / {{ proxy_pass {}; proxy_buffering off; proxy_http_version 1.1; }}",
            endless.endpoint()
        ),
        Some(&authority),
    );
    let uri = format!("{}/m", front.endpoint());
    let fetcher = Fetcher::trusting(&authority);
    assert!(
        fetcher
            .fetch(&uri, &[])
            .failed("Unsupported")
            .starts_with("The server does not say how large m is: write artifact.size")
    );
    assert_eq!(
        fetcher.fetch(&uri, &["--size", "1000"]).failed("SizeMismatch"),
        "m has more than the 1000 bytes that it should have."
    );
    fetcher.assert_nothing();
}

#[test]
fn names_that_would_lead_elsewhere_or_break_a_line_are_refused() {
    let s3 = S3::start();
    s3.make_bucket("models");
    let cases: BTreeMap<&str, &str> =
        BTreeMap::from([("line", "a\nb"), ("alike", "Model.bin"), ("accents", "e\u{301}.bin")]);
    s3.put("models", "alike/model.bin", b"1");
    s3.put("models", "accents/é.bin", b"1");
    for (directory, name) in cases {
        let path = s3.file("models", directory);
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join(name), b"2").unwrap();
        let fetcher = from(s3.endpoint()).env(S3::env());
        let ran = fetcher.fetch(&format!("s3://models/{directory}/"), &[]);
        assert_eq!(ran.code, Some(3), "{directory}: {ran:?}");
        assert!(ran.message.starts_with("UnsafeArchive: "), "{directory}: {ran:?}");
        assert_eq!(ran.message.lines().count(), 1, "{directory}: {ran:?}");
        assert!(
            !ran.message.chars().any(|c| c.is_control() || c == '\u{202e}'),
            "{directory}: {ran:?}"
        );
        fetcher.assert_nothing();
    }
}

#[test]
fn nothing_that_goes_wrong_shows_a_signed_link() {
    // A registry or a hub sends large files on by signed links; this one's store refuses.
    let authority = Authority::new();
    let store = Nginx::start("location / { return 403; }", Some(&authority));
    let link = format!("https://localhost:{}/blob?X-Amz-Signature=hunter2", store.port());
    let front = Nginx::start(&format!("location / {{ return 302 {link}; }}"), Some(&authority));
    let ran: Ran = Fetcher::trusting(&authority).fetch(&format!("{}/m", front.endpoint()), &[]);
    ran.troubled("Unauthorized");
    assert!(
        !format!("{ran:?}").contains("hunter2") && !format!("{ran:?}").contains("X-Amz"),
        "{ran:?}"
    );
    let gone = Nginx::start(
        "location / { return 302 https://localhost:1/blob?sig=hunter2; }",
        Some(&authority),
    );
    let ran = Fetcher::trusting(&authority).fetch(&format!("{}/m", gone.endpoint()), &[]);
    ran.troubled("Unreachable");
    assert!(!format!("{ran:?}").contains("hunter2"), "{ran:?}");
}
