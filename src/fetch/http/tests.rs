//! Connections that are kept for the next request, against a server that gives them up.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::fetch::guard::Trusted;

/// Answers so many requests on each connection, and closes it when the next has come, as servers do
/// that close at that moment. Gives its address, and counts connections.
async fn server(answers: usize) -> (Url, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = connections.clone();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(async move {
                let mut left = answers;
                // These requests are short enough to come as a whole.
                while stream.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) && left > 0 {
                    left -= 1;
                    stream
                        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                        .await
                        .unwrap();
                }
            });
        }
    });
    (url, connections)
}

fn client() -> Http {
    let guard = Guard {
        allowed: vec!["127.0.0.0/8".parse().unwrap()],
        trusted: Trusted::None,
        identity: None,
    };
    Http::new(guard, &[], Arc::new(System)).unwrap()
}

async fn ask(http: &Http, url: &Url) -> Result<Bytes, Error> {
    text("it", http.get(Get::new(url.clone())).await?).await
}

#[tokio::test]
async fn a_request_that_meets_the_end_of_a_kept_connection_is_answered_on_a_new_one() {
    let (url, connections) = server(1).await;
    let http = client();
    for asked in 1..=3 {
        assert_eq!(ask(&http, &url).await.unwrap(), "ok", "request {asked}");
    }
    assert!(connections.load(Ordering::Relaxed) >= 2);
}

#[tokio::test]
async fn a_server_that_hangs_up_on_new_connections_too_is_asked_twice_and_told() {
    let (url, connections) = server(0).await;
    let error = ask(&client(), &url).await.unwrap_err();
    assert!(error.sentence.starts_with("Cannot reach 127.0.0.1:"), "{error}");
    assert_eq!(connections.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn connections_are_kept_for_the_next_request_and_given_up_before_common_servers_do() {
    let (url, connections) = server(usize::MAX).await;
    let http = client();
    for (seconds, want) in [(0, 1), (3, 1), (5, 2)] {
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(seconds)).await;
        tokio::time::resume();
        ask(&http, &url).await.unwrap();
        assert_eq!(connections.load(Ordering::Relaxed), want, "after {seconds} s");
    }
}

/// Takes one request, says so much, and then nothing more for ever. Gives its address, and a word
/// when the request came.
async fn stalls(says: &'static [u8]) -> (Url, tokio::sync::oneshot::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let (came, asked) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        stream.write_all(says).await.unwrap();
        came.send(()).unwrap();
        std::future::pending::<()>().await;
    });
    (url, asked)
}

#[tokio::test]
async fn a_server_that_is_silent_or_never_ends_its_answer_is_left_after_a_minute() {
    // Time that is paused goes on by itself once there is nothing else to wait for.
    let (url, asked) = stalls(b"").await;
    let asking = tokio::spawn(async move { ask(&client(), &url).await });
    asked.await.unwrap();
    tokio::time::pause();
    let silent = asking.await.unwrap().unwrap_err();
    tokio::time::resume();
    assert!(silent.sentence.ends_with("did not begin to answer within 60 s."), "{silent}");
    let (url, _asked) = stalls(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok").await;
    let begun = client().get(Get::new(url)).await.unwrap();
    tokio::time::pause();
    let endless = text("it", begun).await.unwrap_err();
    assert_eq!(endless.sentence, "The answer to it did not end within 60 s.");
}
