//! `https://`, on a real nginx.

use crate::{
    fetcher::{Fetcher, noise, sha256, tree},
    servers::{
        certs::Authority,
        nginx::Nginx,
        proxy::{Mood, Proxy},
    },
};

const MIB: usize = 1024 * 1024;

#[test]
fn a_file_is_fetched_in_parts_and_goes_on_where_a_connection_broke() {
    let authority = Authority::new();
    let (nginx, bytes) = (Nginx::start("", Some(&authority)), noise(1, 9 * MIB));
    nginx.put("fraud/model 7.bin", &bytes);
    let proxy = Proxy::before(nginx.port());
    proxy.set(Mood::Cut { after: 2 * MIB as u64, times: 3 });
    let fetcher = Fetcher::trusting(&authority);
    let uri = format!("https://127.0.0.1:{}/fraud/model%207.bin", proxy.port());
    fetcher.fetch(&uri, &["--digest", &sha256(&bytes)]).verified();
    assert_eq!(tree(&fetcher.model()), [("model 7.bin".into(), bytes)]);
    assert!(nginx.served().iter().any(|s| s.status == 206));
}

#[test]
fn a_server_without_ranges_is_read_as_a_whole_and_again_where_the_connection_broke() {
    let authority = Authority::new();
    let (nginx, bytes) = (Nginx::start("max_ranges 0;", Some(&authority)), noise(2, 5 * MIB));
    nginx.put("model.bin", &bytes);
    let proxy = Proxy::before(nginx.port());
    proxy.set(Mood::Cut { after: 2 * MIB as u64, times: 2 });
    let fetcher = Fetcher::trusting(&authority);
    fetcher
        .fetch(
            &format!("https://127.0.0.1:{}/model.bin", proxy.port()),
            &["--digest", &sha256(&bytes)],
        )
        .verified();
    assert_eq!(tree(&fetcher.model()), [("model.bin".into(), bytes)]);
}

#[test]
fn a_server_whose_certificate_nobody_vouches_for_is_not_trusted() {
    let nginx = Nginx::start("", Some(&Authority::new()));
    nginx.put("model.bin", b"bytes");
    let ran = Fetcher::new().fetch(&nginx.url("model.bin"), &[]);
    assert!(ran.troubled("Unreachable").contains("invalid peer certificate"), "{ran:?}");
}

#[test]
fn headers_of_a_secret_go_to_the_host_that_it_names_and_to_no_other() {
    let authority = Authority::new();
    let guard = "location / { if ($http_x_token != \"hunter2\") { return 401; } root files; }";
    let nginx = Nginx::start(guard, Some(&authority));
    nginx.put("model.bin", b"bytes");
    let given = |host| {
        Fetcher::trusting(&authority)
            .secret([("https-host", host), ("headers", r#"{"X-Token": "hunter2"}"#)])
    };
    given("127.0.0.1").fetch(&nginx.url("model.bin"), &[]).verified();
    let ran = given("models.example.com").fetch(&nginx.url("model.bin"), &[]);
    assert!(ran.troubled("Unauthorized").contains("no credentials were given"), "{ran:?}");
}

#[test]
fn an_empty_file_and_a_missing_one_are_told_apart() {
    let authority = Authority::new();
    let nginx = Nginx::start("", Some(&authority));
    nginx.put("empty", b"");
    let fetcher = Fetcher::trusting(&authority);
    fetcher.fetch(&nginx.url("empty"), &["--digest", &sha256(b"")]).verified();
    assert_eq!(
        fetcher.fetch(&nginx.url("none"), &[]).failed("NotFound"),
        format!("There is nothing at {} (404).", nginx.url("none"))
    );
}
