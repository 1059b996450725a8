//! Why an archive could not be unpacked.

use std::io;

use super::{escaped, name};

/// Why an archive could not be unpacked: one sentence that names the entry, and what to do. All but
/// [`Error::is_trouble`] lies in the archive's bytes or in the limits, and comes again when it is
/// tried again.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not one of the formats.
    #[error(
        "the file cannot be unpacked: by its first bytes it is neither zip nor tar, nor compressed by gzip or zstd; pack it as one of these, or store it without asking for it to be unpacked"
    )]
    Unknown,
    /// A zip among the layers of an image.
    #[error(
        "the layer cannot be unpacked: it is a zip file; layers are tar, plain or compressed by gzip or zstd"
    )]
    ZipLayer,
    /// A name that is refused.
    #[error("the archive cannot be unpacked: {0}, then pack it again")]
    Name(#[from] name::Error),
    /// Neither file nor directory.
    #[error("the archive cannot be unpacked: entry `{entry}` is {kind}; {advice}")]
    Kind {
        /// The entry.
        entry: String,
        /// What it is.
        kind: &'static str,
        /// What to do about it.
        advice: &'static str,
    },
    /// Larger than is taken.
    #[error(
        "the archive cannot be unpacked: at {at} it has more than {limit} bytes; raise the limit if its author is trusted, or make it smaller"
    )]
    Bytes {
        /// Where it became too much.
        at: String,
        /// The limit.
        limit: u64,
    },
    /// More entries than are taken.
    #[error(
        "the archive cannot be unpacked: it has more than {0} entries; pack many small files into few, or raise the limit"
    )]
    Entries(usize),
    /// Encrypted.
    #[error(
        "the archive cannot be unpacked: entry `{0}` is encrypted; pack it again without a password"
    )]
    Encrypted(String),
    /// Compressed in a way that is not known.
    #[error(
        "the archive cannot be unpacked: entry `{entry}` is compressed with the method {method}; use deflate, zstd or no compression"
    )]
    Method {
        /// The entry.
        entry: String,
        /// The method's name.
        method: String,
    },
    /// A zstd window larger than is taken. It holds where.
    #[error(
        "the archive cannot be unpacked: at {0}: zstd wants more memory than it is given; compress it without --long and --ultra"
    )]
    Window(String),
    /// The end is missing. It holds where.
    #[error("the archive cannot be unpacked: it is cut short at {0}; pack or upload it again")]
    Truncated(String),
    /// Damaged, or made to be read in two ways.
    #[error("the archive cannot be unpacked: at {at}: {what}; pack it again with a common tool")]
    Malformed {
        /// Where: an entry, or a part of the format.
        at: String,
        /// What is wrong.
        what: String,
    },
    /// Not a single file.
    #[error(
        "the archive cannot be unpacked: there is no file in it; pack it again with the model's files"
    )]
    Empty,
    /// The archive could not be read.
    #[error("the archive cannot be unpacked now: reading it failed: {0}")]
    Read(io::Error),
    /// A file could not be written.
    #[error("the archive cannot be unpacked now: writing `{name}` failed: {source}")]
    Write {
        /// Which one.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The caller asked to stop.
    #[error("the archive is not unpacked: it was stopped")]
    Stopped,
}

impl Error {
    /// Whether another try may go better with the same bytes: reading, writing, or a stop that was
    /// asked for.
    #[must_use]
    pub fn is_trouble(&self) -> bool {
        matches!(self, Self::Read(_) | Self::Write { .. } | Self::Stopped)
    }

    pub(super) fn kind(entry: impl AsRef<[u8]>, kind: &'static str, advice: &'static str) -> Self {
        Self::Kind { entry: escaped(entry), kind, advice }
    }

    /// `what` may be text of a library that quotes the archive.
    pub(super) fn malformed(at: impl Into<String>, what: impl AsRef<[u8]>) -> Self {
        Self::Malformed { at: at.into(), what: escaped(what) }
    }

    pub(super) fn write(name: impl AsRef<[u8]>, source: io::Error) -> Self {
        Self::Write { name: escaped(name), source }
    }

    /// What reading an archive through decoders ended with: the source's own error, a limit, or
    /// something wrong with the bytes.
    pub(super) fn reading(at: impl Into<String>, error: io::Error) -> Self {
        match error.downcast::<Inner>() {
            Ok(Inner::Source(source)) => Self::Read(source),
            Ok(Inner::Limit(limit)) => Self::Bytes { at: at.into(), limit },
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Self::Truncated(at.into())
            }
            // Libzstd's errors reach here as text alone; a test holds this one to be it.
            Err(error) if error.to_string().contains("too much memory") => Self::Window(at.into()),
            Err(error) => Self::malformed(at, error.to_string()),
        }
    }
}

/// What travels through decoders as an I/O error, to be told from theirs.
#[derive(Debug, thiserror::Error)]
pub(super) enum Inner {
    #[error("{0}")]
    Source(io::Error),
    #[error("more than {0} bytes")]
    Limit(u64),
}

impl From<Inner> for io::Error {
    fn from(inner: Inner) -> Self {
        Self::other(inner)
    }
}

/// An entry as a message has it.
pub(super) fn entry(name: impl AsRef<[u8]>) -> String {
    format!("entry `{}`", escaped(name))
}
