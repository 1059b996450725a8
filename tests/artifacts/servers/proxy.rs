//! A TCP proxy before any server: counts what goes through, and makes trouble on demand.
//!
//! It changes no byte. Of HTTP/1 without TLS it also reads the requests' heads, and counts the
//! answers' bytes by path; the bytes of answers always include their heads, a few hundred a
//! request.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::Instant,
};

mod heads;
mod mood;

use heads::Heads;
pub use heads::Seen;
use mood::Connection;
pub use mood::Mood;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

use super::{DEADLINE, runtime};

#[derive(Default)]
struct Counts {
    connections: u64,
    sent: u64,
    received: u64,
    requests: Vec<Seen>,
    by_path: BTreeMap<String, u64>,
    /// Bytes of answers since the mood was set, and those that were let through but are perhaps not
    /// yet written.
    since: u64,
    let_through: u64,
    /// Connections that were cut or stalled since then.
    troubled: u64,
    /// When the next byte may pass, in a slow mood.
    next: Option<Instant>,
}

struct Shared {
    mood: watch::Sender<(u64, Mood)>,
    counts: Mutex<Counts>,
    changed: Condvar,
}

/// A running proxy; dropping it ends it and its connections.
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Starts one before a port of 127.0.0.1.
    pub fn before(port: u16) -> Self {
        Self::before_address(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// Starts one before any address of this machine.
    pub fn before_address(server: SocketAddr) -> Self {
        Self::listening("127.0.0.1", server)
    }

    /// Starts one before any address of this machine that listens on every one, for pods.
    pub fn everywhere(server: SocketAddr) -> Self {
        Self::listening("0.0.0.0", server)
    }

    fn listening(host: &str, server: SocketAddr) -> Self {
        let _guard = runtime().enter();
        let socket = TcpSocket::new_v4().expect("a socket");
        // What is counted as sent may still be in the kernel when a client dies: keep that small.
        socket.set_send_buffer_size(64 << 10).expect("a small buffer");
        socket.bind(format!("{host}:0").parse().expect("an address")).expect("a port");
        let listener = socket.listen(1024).expect("it listens");
        let address = listener.local_addr().expect("its address");
        let shared = Arc::new(Shared {
            mood: watch::Sender::default(),
            counts: Mutex::default(),
            changed: Condvar::new(),
        });
        let task = runtime().spawn(accept(listener, server, shared.clone()));
        Self { shared, address, task }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Its address, for a server that speaks plain HTTP.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes what it does from now on.
    pub fn set(&self, mood: Mood) {
        let mut counts = self.shared.counts();
        (counts.since, counts.let_through, counts.troubled, counts.next) = (0, 0, 0, None);
        self.shared.mood.send_modify(|(version, now)| (*version, *now) = (*version + 1, mood));
    }

    /// Bytes of answers that were passed on to clients, heads and all.
    pub fn sent(&self) -> u64 {
        self.shared.counts().sent
    }

    /// Bytes of requests that were passed on to the server.
    pub fn received(&self) -> u64 {
        self.shared.counts().received
    }

    /// Connections that clients made.
    pub fn connections(&self) -> u64 {
        self.shared.counts().connections
    }

    /// Requests in the order they came.
    pub fn requests(&self) -> Vec<Seen> {
        self.shared.counts().requests.clone()
    }

    /// Bytes of answers to requests of one path, as [`Seen::path`] writes it.
    pub fn sent_of(&self, path: &str) -> u64 {
        self.shared.counts().by_path.get(path).copied().unwrap_or_default()
    }

    /// Counts connections, requests and bytes anew; what the mood counts goes on.
    pub fn reset(&self) {
        let mut counts = self.shared.counts();
        (counts.connections, counts.sent, counts.received) = (0, 0, 0);
        counts.requests.clear();
        counts.by_path.clear();
    }

    /// Waits until so many bytes of answers were passed on since the mood was set.
    pub fn until_sent(&self, bytes: u64) {
        self.until("bytes", |counts| counts.since >= bytes);
    }

    /// Waits until so many connections were cut or stalled since the mood was set.
    pub fn until_troubled(&self, times: u64) {
        self.until("troubled connections", |counts| counts.troubled >= times);
    }

    fn until(&self, what: &str, mut is: impl FnMut(&Counts) -> bool) {
        let (counts, over) = self
            .shared
            .changed
            .wait_timeout_while(self.shared.counts(), DEADLINE, |c| !is(c))
            .expect("nobody panics");
        let (since, troubled) = (counts.since, counts.troubled);
        drop(counts);
        assert!(
            !over.timed_out(),
            "{what}: not within {DEADLINE:?}; {since} bytes since the mood was set, {troubled} troubled connections"
        );
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Mood::Refuse);
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        shared.counts().connections += 1;
        let shared = shared.clone();
        tokio::spawn(async move {
            let mut mood = shared.mood.subscribe();
            // Both ends close when this future ends, however it ends.
            tokio::select! {
                _ = mood.wait_for(|(_, mood)| *mood == Mood::Refuse) => {}
                _ = pass(client, server, &shared) => {}
            }
        });
    }
}

async fn pass(client: TcpStream, server: SocketAddr, shared: &Shared) -> io::Result<()> {
    let server = TcpStream::connect(server).await?;
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) =
        (client.into_split(), server.into_split());
    let heads = Mutex::new(Heads::default());
    let requests = async {
        let _ = pass_requests(from_client, to_server, shared, &heads).await;
        // A client that is done asking may still want its answer.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        ended = pass_answers(from_server, to_client, shared, &heads) => ended,
        () = requests => Ok(()),
    }
}

async fn pass_requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    heads: &Mutex<Heads>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        let seen = heads.lock().expect("nobody panics").asked(&buffer[..read]);
        {
            let mut counts = shared.counts();
            counts.received += read as u64;
            counts.requests.extend(seen);
        }
        to.write_all(&buffer[..read]).await?;
    }
}

async fn pass_answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    heads: &Mutex<Heads>,
) -> io::Result<()> {
    let mut buffer = vec![0; 256 << 10];
    let mut connection = Connection::new(shared);
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        let mut rest = &buffer[..read];
        while !rest.is_empty() {
            let Some(some) = connection.may_pass(rest.len(), shared).await else { return Ok(()) };
            to.write_all(&rest[..some]).await?;
            rest = &rest[some..];
            let path = heads.lock().expect("nobody panics").answered();
            shared.count(some as u64, path);
        }
    }
}

impl Shared {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().expect("nobody panics")
    }

    fn count(&self, bytes: u64, path: String) {
        let mut counts = self.counts();
        counts.sent += bytes;
        counts.since += bytes;
        *counts.by_path.entry(path).or_default() += bytes;
        self.changed.notify_all();
    }
}
