use std::process::{Child, Stdio};

use crate::{
    fetcher::noise,
    servers::{
        Dir,
        proxy::{Mood, Proxy},
        s3::S3,
    },
};

const SIZE: usize = 3_000_000;

/// A server with one object, and a proxy before it.
fn setup() -> (S3, Proxy, Vec<u8>) {
    let s3 = S3::start();
    s3.make_bucket("models");
    let bytes = noise(1, SIZE);
    s3.put("models", "a", &bytes);
    let proxy = Proxy::before(s3.port());
    (s3, proxy, bytes)
}

/// A running curl, and the file that it writes: a pipe would be full long before the object is
/// whole.
struct Get(Child, Dir);

fn get(s3: &S3, proxy: &Proxy, more: &[&str]) -> Get {
    let (url, dir) = (format!("{}/models/a?x=1", proxy.endpoint()), Dir::fresh("curl"));
    let child = s3
        .curl()
        .args(more)
        .arg("-o")
        .arg(dir.join("out"))
        .arg(url)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Get(child, dir)
}

/// Whether it ended well, and what it wrote.
fn end(Get(mut child, dir): Get) -> (bool, Vec<u8>) {
    let whole = child.wait().unwrap().success();
    (whole, std::fs::read(dir.join("out")).unwrap_or_default())
}

#[test]
fn requests_and_bytes_are_counted_by_path() {
    let (s3, proxy, bytes) = setup();
    assert_eq!(end(get(&s3, &proxy, &[])), (true, bytes.clone()));
    assert_eq!(end(get(&s3, &proxy, &["-r", "5-14"])), (true, bytes[5..15].to_vec()));
    let requests = proxy.requests();
    assert_eq!((requests.len(), proxy.connections()), (2, 2));
    assert_eq!(
        (requests[0].method.as_str(), requests[0].query.as_str(), &requests[0].range),
        ("GET", "x=1", &None)
    );
    assert_eq!(requests[1].range.as_deref(), Some("bytes=5-14"));
    let heads = proxy.sent_of("/models/a") - SIZE as u64 - 10;
    assert!((200..2000).contains(&heads), "{heads}");
    assert_eq!(proxy.sent(), proxy.sent_of("/models/a"));
    assert!(proxy.received() > 100);
    proxy.reset();
    assert_eq!((proxy.sent(), proxy.requests()), (0, vec![]));
}

#[test]
fn connections_are_cut_as_often_as_asked_for() {
    let (s3, proxy, bytes) = setup();
    proxy.set(Mood::Cut { after: 100_000, times: 2 });
    for _ in 0..2 {
        let (whole, got) = end(get(&s3, &proxy, &[]));
        assert!(!whole && got.len() < 100_000 && got == bytes[..got.len()], "{}", got.len());
    }
    assert_eq!(end(get(&s3, &proxy, &[])), (true, bytes));
}

#[test]
fn a_held_transfer_goes_on_where_it_was_held() {
    let (s3, proxy, bytes) = setup();
    proxy.set(Mood::Hold { after: 1_000_000 });
    let child = get(&s3, &proxy, &[]);
    proxy.until_sent(1_000_000);
    assert_eq!(proxy.sent(), 1_000_000);
    proxy.set(Mood::Through);
    assert_eq!(end(child), (true, bytes));
}

#[test]
fn a_stalled_connection_stays_silent_and_the_next_one_passes() {
    let (s3, proxy, bytes) = setup();
    proxy.set(Mood::Stall { after: 500_000, times: 1 });
    let mut stalled = get(&s3, &proxy, &[]);
    proxy.until_troubled(1);
    assert_eq!(end(get(&s3, &proxy, &[])), (true, bytes));
    proxy.set(Mood::Through);
    assert!(stalled.0.try_wait().unwrap().is_none());
    stalled.0.kill().unwrap();
    assert!(end(stalled).1.len() < 500_000);
}

#[test]
fn a_slow_server_gives_no_more_than_its_rate() {
    let (s3, proxy, bytes) = setup();
    proxy.set(Mood::Slow { rate: 10_000_000 });
    let began = std::time::Instant::now();
    assert_eq!(end(get(&s3, &proxy, &[])), (true, bytes));
    assert!(began.elapsed().as_secs_f64() > 0.25, "{:?}", began.elapsed());
}

#[test]
fn a_server_that_refuses_ends_running_connections() {
    let (s3, proxy, _) = setup();
    proxy.set(Mood::Hold { after: 1000 });
    let child = get(&s3, &proxy, &[]);
    proxy.until_sent(1000);
    proxy.set(Mood::Refuse);
    assert!(!end(child).0);
    assert!(!end(get(&s3, &proxy, &[])).0);
    proxy.set(Mood::Through);
    assert!(end(get(&s3, &proxy, &[])).0);
}
