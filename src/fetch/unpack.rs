//! Unpacking archives whose author may be hostile: a digest says that they are the bytes that were
//! registered, not that they mean well.
//!
//! What is written are regular files and directories, below one directory that the caller made and
//! no one else writes to; all else is refused, and with it the archive. Limits hold while it is
//! unpacked, whatever its headers say. Blocking; memory is bounded by [`Limits`]: about 40 bytes an
//! entry, a zstd window, and a few buffers. After an error the directory holds some of the files.
//!
//! | to change | open |
//! |---|---|
//! | what is written, and how | `tree` |
//! | tar | `tarball`, `pax` |
//! | zip | `zipfile` |
//! | gzip, zstd, what is read | `input` |
//! | which names are taken | `name` |

use std::{
    fs::File,
    io::{Cursor, Read},
    ops::ControlFlow,
    path::Path,
};

use super::name::{self, RelativePath, escaped};

mod error;
mod input;
mod pax;
mod tarball;
mod tree;
mod zipfile;

#[cfg(test)]
mod tests;

pub use error::Error;

/// Is told how many bytes were written since it was told last, zero where only time passed, and
/// stops it all with `Break`.
pub type Progress<'p> = &'p mut dyn FnMut(u64) -> ControlFlow<()>;

/// How much an archive may unpack to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all files. Somewhat more may be read: headers, and files that are not kept.
    pub bytes: u64,
    /// Entries of the archive; also files and directories, with those that have no entry of their
    /// own.
    pub entries: usize,
    /// The binary logarithm of the largest zstd window, in bytes.
    pub zstd_window_log: u32,
}

impl Limits {
    /// At most so many bytes, 100,000 entries, and zstd windows of 8 MiB: what RFC 8878 asks every
    /// decoder for, `zstd -19` makes, and builders of images use.
    #[must_use]
    pub const fn bytes(bytes: u64) -> Self {
        Self { bytes, entries: 100_000, zstd_window_log: 23 }
    }
}

/// A kind of archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Plain tar.
    Tar,
    /// Tar compressed by gzip.
    TarGz,
    /// Tar compressed by zstd.
    TarZst,
    /// Zip.
    Zip,
}

impl Format {
    /// How many bytes are enough to recognise any of them.
    pub const HEAD: usize = 512;

    /// Recognises a format by the first bytes, [`Format::HEAD`] or all there are; names of files
    /// say nothing. What gzip or zstd hold is taken for a tar: whether it is one shows when it is
    /// unpacked.
    ///
    /// # Errors
    /// [`Error::Unknown`]
    pub fn recognise(head: &[u8]) -> Result<Self, Error> {
        match head {
            [0x1f, 0x8b, ..] => Ok(Self::TarGz),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Ok(Self::TarZst),
            // A frame to be skipped, which some compressors put first (RFC 8878, 3.1.2).
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::TarZst),
            // The second is that of a zip without entries.
            [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Ok(Self::Zip),
            head if tarball::begins(head) => Ok(Self::Tar),
            _ => Err(Error::Unknown),
        }
    }

    /// Recognises a file's format, see [`Format::recognise`].
    ///
    /// # Errors
    /// [`Error::Unknown`], or [`Error::Read`].
    pub fn of(file: &File) -> Result<Self, Error> {
        let (_, format) = recognised(input::At::new(file, 0))?;
        Ok(format)
    }
}

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unpacked {
    /// How many files.
    pub files: u64,
    /// Bytes of all of them.
    pub bytes: u64,
}

/// Which part of a layer is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keep {
    /// All of it.
    All,
    /// What is below this directory, without it: of `models/a/b`, kept below `models`, `a/b` is
    /// written.
    Below(RelativePath),
}

impl Keep {
    /// What is left of an entry's name, if it is kept. What is not kept may have any name.
    fn rest<'n>(&self, mut name: &'n [u8]) -> Option<&'n [u8]> {
        let Self::Below(directory) = self else { return Some(name) };
        while let Some(shorter) = name.strip_prefix(b"./") {
            name = shorter;
        }
        // Names in a layer are relative to the image's root, and some builders write that.
        let rest =
            name.strip_prefix(b"/").unwrap_or(name).strip_prefix(directory.as_str().as_bytes())?;
        match rest {
            [] => Some(b"."),
            [b'/'] => Some(b"./"),
            [b'/', rest @ ..] => Some(rest),
            _ => None,
        }
    }
}

/// Unpacks a file into an empty directory.
///
/// # Errors
/// If anything in it is refused, if it holds no file, or if reading or writing fails.
pub fn unpack_file(
    file: &File,
    format: Format,
    into: &Path,
    limits: Limits,
    progress: Progress,
) -> Result<Unpacked, Error> {
    let mut tree = tree::Tree::new(into.to_owned(), limits, progress);
    match format {
        Format::Zip => zipfile::unpack(&mut tree, file)?,
        format => {
            let mut tar = input::decoded(input::At::new(file, 0), format, limits.zstd_window_log)?;
            tarball::unpack(&mut tree, &mut tar, &Keep::All)?;
        }
    }
    match tree.unpacked() {
        Unpacked { files: 0, .. } => Err(Error::Empty),
        unpacked => Ok(unpacked),
    }
}

/// The layers of one image, unpacked as they are read into one directory, with limits on all of
/// them together. A file that one layer replaces or deletes in another is refused: an image of
/// models has each once.
pub struct Layers<'p> {
    tree: tree::Tree<'p>,
}

impl<'p> Layers<'p> {
    /// Nothing yet, in an empty directory.
    #[must_use]
    pub fn new(into: &Path, limits: Limits, progress: Progress<'p>) -> Self {
        Self { tree: tree::Tree::new(into.to_owned(), limits, progress) }
    }

    /// Unpacks what is to be kept of a layer, which may be nothing. The reader is read to its end.
    ///
    /// # Errors
    /// If anything that is kept is refused, if it is no tar, or if reading or writing fails. No
    /// layer can be added after that.
    pub fn add(&mut self, layer: impl Read, keep: &Keep) -> Result<(), Error> {
        let (layer, format) = recognised(layer)?;
        let mut tar = input::decoded(layer, format, self.tree.limits.zstd_window_log)?;
        tarball::unpack(&mut self.tree, &mut tar, keep)
    }

    /// What was written of all layers.
    #[must_use]
    pub fn unpacked(&self) -> Unpacked {
        self.tree.unpacked()
    }
}

/// A reader as it was before its first bytes were looked at, and what they say.
fn recognised<R: Read>(mut reader: R) -> Result<(impl Read, Format), Error> {
    let mut head = Vec::new();
    let read = input::Source((&mut reader).take(Format::HEAD as u64)).read_to_end(&mut head);
    read.map_err(|error| Error::reading("its first bytes", error))?;
    let format = Format::recognise(&head)?;
    Ok((Cursor::new(head).chain(reader), format))
}
