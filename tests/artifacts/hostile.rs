//! A server that answers as it likes, byte by byte.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

/// A running one; dropping it ends it.
pub struct Hostile {
    address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
    over: Arc<AtomicBool>,
}

impl Hostile {
    /// Answers each request's head (one request a connection) by what a function writes.
    pub fn start(
        answer: impl Fn(&str, &mut TcpStream) -> std::io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (heads, over, answer) =
            (Arc::<Mutex<Vec<String>>>::default(), Arc::<AtomicBool>::default(), Arc::new(answer));
        let (seen, ended) = (heads.clone(), over.clone());
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::Relaxed) {
                    return;
                }
                let (answer, seen) = (answer.clone(), seen.clone());
                thread::spawn(move || {
                    let mut stream = stream;
                    let head: Vec<String> = BufReader::new(stream.try_clone().unwrap())
                        .lines()
                        .map_while(Result::ok)
                        .take_while(|l| !l.is_empty())
                        .collect();
                    let head = head.join("\n");
                    seen.lock().unwrap().push(head.clone());
                    let _ = answer(&head, &mut stream);
                });
            }
        });
        Self { address, heads, over }
    }

    /// Its address.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The heads of the requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

impl Drop for Hostile {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

/// Writes a head and some of a body.
pub fn reply(stream: &mut TcpStream, head: &str, body: &[u8]) -> std::io::Result<()> {
    write!(stream, "HTTP/1.1 {}\r\nConnection: close\r\n\r\n", head.replace('\n', "\r\n"))?;
    stream.write_all(body)
}
