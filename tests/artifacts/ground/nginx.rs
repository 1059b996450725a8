use std::process::Command;

use crate::{
    fetcher::noise,
    servers::{certs::Authority, nginx::Nginx, run},
};

#[test]
fn files_are_served_with_ranges_and_each_answer_is_counted() {
    let nginx = Nginx::start("location /slow/ { limit_rate 1m; }", None);
    let bytes = noise(1, 500_000);
    nginx.put("models/a b.bin", &bytes);
    assert_eq!(run(Command::new("curl").args(["-sS", &nginx.url("models/a b.bin")])), bytes);
    assert_eq!(
        run(Command::new("curl").args(["-sS", "-r", "10-19", &nginx.url("models/a b.bin")])),
        bytes[10..20]
    );
    // Asking once more makes sure that what came before is written down: one process, one thing at
    // a time.
    run(Command::new("curl").args(["-sS", &nginx.url("none")]));
    let served = nginx.served();
    assert_eq!(
        (served[0].target.as_str(), served[0].status, served[0].bytes),
        ("/models/a%20b.bin", 200, 500_000)
    );
    assert_eq!(
        (served[1].range.as_str(), served[1].status, served[1].bytes),
        ("bytes=10-19", 206, 10)
    );
}

#[test]
fn tls_is_of_the_tests_own_authority() {
    let authority = Authority::new();
    let nginx = Nginx::start("", Some(&authority));
    nginx.put("a", b"a");
    let trusted = run(Command::new("curl")
        .args(["-sS", &nginx.url("a"), "--cacert"])
        .arg(authority.certificate()));
    assert_eq!(trusted, b"a");
    let stranger = Command::new("curl").args(["-s", &nginx.url("a")]).status().unwrap();
    assert_eq!(stranger.code(), Some(60));
}
