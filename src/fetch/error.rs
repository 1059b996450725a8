//! What can go wrong with a fetch, in one sentence each, and whether trying again can help.

use std::{fmt, io};

/// Why a fetch failed; its name is the first word of the termination message, and a reason for
/// conditions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The bytes are not those that were registered.
    Mismatch,
    /// There are more or fewer bytes than were registered.
    SizeMismatch,
    /// The signature does not hold.
    SignatureInvalid,
    /// A signature is demanded and there is none.
    SignatureMissing,
    /// The archive, or a name in it, could do harm.
    UnsafeArchive,
    /// There is nothing at the address.
    NotFound,
    /// Safety or policy forbids the address.
    Refused,
    /// This build does not do that.
    Unsupported,
    /// What was asked for makes no sense.
    InvalidRequest,
    /// The server cannot be reached, or breaks off.
    Unreachable,
    /// The server does not accept the credentials, or wants some.
    Unauthorized,
    /// The volume is full.
    NoSpace,
    /// What is at the address changed while it was read.
    Interrupted,
    /// Someone else holds the cache for too long.
    CacheBusy,
    /// The volume does not do what it should.
    IOError,
}

impl Reason {
    /// The exit code: 3 where trying again does not help, 1 where it may.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        if self.passes() { 1 } else { 3 }
    }

    /// Whether it may pass by itself.
    #[must_use]
    pub fn passes(self) -> bool {
        matches!(
            self,
            Self::Unreachable
                | Self::Unauthorized
                | Self::NoSpace
                | Self::Interrupted
                | Self::CacheBusy
                | Self::IOError
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Why a fetch failed, and the sentence for people.
///
/// Sentences are made of names that were checked or escaped; query strings, headers and credentials
/// never get into one.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{sentence}")]
pub struct Error {
    /// Why.
    pub reason: Reason,
    /// What was attempted, on which object, and what to do.
    pub sentence: String,
    /// Whether another request may be answered better.
    pub again: Again,
}

/// Whether another request may be answered better.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// No.
    No,
    /// The same, in a moment: the connection broke, or the server is busy.
    Soon,
    /// One for all of it: the server gives no parts.
    Whole,
}

impl Error {
    /// An error that ends the fetch.
    #[must_use]
    pub fn new(reason: Reason, sentence: impl Into<String>) -> Self {
        Self { reason, sentence: sentence.into(), again: Again::No }
    }

    /// An error that may be gone in a moment.
    #[must_use]
    pub fn transient(sentence: impl Into<String>) -> Self {
        Self { reason: Reason::Unreachable, sentence: sentence.into(), again: Again::Soon }
    }

    /// What is to be read and is not there, or cannot be read.
    #[must_use]
    pub fn unread(what: impl fmt::Display, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::new(Reason::NotFound, format!("There is no {what}.")),
            _ => Self::io(format_args!("open {what}"), error),
        }
    }

    /// An error of the file system; a full volume is told as such.
    #[must_use]
    pub fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        let reason = match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Reason::NoSpace,
            _ => Reason::IOError,
        };
        let advice = if reason == Reason::NoSpace { "; give the volume more room" } else { "" };
        Self::new(reason, format!("Cannot {what}: {error}{advice}."))
    }
}

impl From<super::name::Error> for Error {
    fn from(error: super::name::Error) -> Self {
        Self::new(Reason::UnsafeArchive, error.to_string())
    }
}

impl From<super::unpack::Error> for Error {
    fn from(error: super::unpack::Error) -> Self {
        use super::unpack::Error as E;
        if let E::Write { source, .. } = &error {
            return Self::io("unpack the archive", source);
        }
        let reason = if error.is_trouble() { Reason::IOError } else { Reason::UnsafeArchive };
        let sentence = error.to_string();
        // Sentences of an archive go on behind a colon elsewhere.
        let mut letters = sentence.chars();
        let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
        Self::new(reason, format!("{first}{}.", letters.as_str()))
    }
}
