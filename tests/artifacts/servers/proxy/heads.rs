//! The heads of HTTP/1 requests as they pass. A request begins with what a client says after the
//! server has answered, so pipelined requests are not told apart; nobody pipelines.

use std::time::Instant;

/// A head longer than this is not read.
const LONGEST: usize = 64 << 10;

/// A request whose head the proxy read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When it came.
    pub at: Instant,
    /// The method.
    pub method: String,
    /// The path, escaped as it was sent, without the query.
    pub path: String,
    /// The query, empty when there is none.
    pub query: String,
    /// The value of the Range header.
    pub range: Option<String>,
}

/// Where one connection is.
#[derive(Default)]
pub(super) struct Heads {
    head: Vec<u8>,
    /// Whether the head was read, or never will be.
    done: bool,
    answered: bool,
    path: String,
}

impl Heads {
    /// Takes what a client said; gives the request whose head ended with it.
    pub(super) fn asked(&mut self, bytes: &[u8]) -> Option<Seen> {
        if std::mem::take(&mut self.answered) {
            self.head.clear();
            self.done = false;
        }
        if self.done {
            return None;
        }
        self.head.extend_from_slice(bytes);
        let end = self.head.windows(4).position(|w| w == b"\r\n\r\n");
        self.done = end.is_some() || self.head.len() > LONGEST;
        let seen = parse(std::str::from_utf8(&self.head[..end?]).ok()?)?;
        self.path.clone_from(&seen.path);
        Some(seen)
    }

    /// Takes note that the server answers, and gives the path that it answers to.
    pub(super) fn answered(&mut self) -> String {
        self.answered = true;
        self.path.clone()
    }
}

fn parse(head: &str) -> Option<Seen> {
    let mut lines = head.split("\r\n");
    let (method, rest) = lines.next()?.split_once(' ')?;
    let (target, _version) = rest.split_once(" HTTP/1.")?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let header = |line: &str| {
        line.split_once(':')
            .filter(|(name, _)| name.eq_ignore_ascii_case("range"))
            .map(|(_, v)| v.trim().to_owned())
    };
    Some(Seen {
        at: Instant::now(),
        method: method.into(),
        path: path.into(),
        query: query.into(),
        range: lines.find_map(header),
    })
}
