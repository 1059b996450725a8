//! Zip, as in PKWARE's APPNOTE 6.3.10: the `zip` crate reads the directory at its end, entry by
//! entry, and holds each entry's two headers against each other; contents are decoded here, with
//! the same limits as everywhere.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Read},
};

use flate2::{CrcReader, bufread::DeflateDecoder};
use zip::{
    CompressionMethod, HasZipMetadata as _,
    read::{ArchiveOffset, Config, ZipFileEntry},
    result::ZipError,
    unstable::read::ZipIterable,
};

use super::{
    Error,
    error::entry,
    input::{At, unzstd},
    name::{EntryName, RelativePath},
    tree::Tree,
};

const BUFFER: usize = 64 * 1024;
const DIRECTORY: &str = "its directory";
/// A header of the directory up to its variable fields (APPNOTE 4.3.12).
const CENTRAL: usize = 46;
const CENTRAL_MAGIC: &[u8] = b"PK\x01\x02";
/// Where end records are looked for: the longest comment, and more than the records before it.
const TAIL: u64 = 66 * 1024;
/// The largest zip64 end record, in bytes; without further data it has 56 (APPNOTE 4.3.14).
const RECORD_MAX: u64 = 64 * 1024;
const RECORD_MAGIC: &[u8] = b"PK\x06\x06";
const LOCATOR_MAGIC: &[u8] = b"PK\x06\x07";

/// Bytes of the archive that some entry is made of: where each piece starts, and where it ends.
type Taken = BTreeMap<u64, u64>;

/// Writes all of a zip.
pub(super) fn unpack(tree: &mut Tree, file: &File) -> Result<(), Error> {
    bounded(file)?;
    // The archive begins where the file does: nothing searches for it through the file.
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let archive = ZipIterable::try_new(At::new(file, 0), config)
        .map_err(|error| reading(DIRECTORY, error))?;
    // Before the first entry is read.
    if archive.len() > tree.limits.entries {
        return Err(Error::Entries(tree.limits.entries));
    }
    let mut archive = archive.enforce_header_consistency(true);
    let mut taken = Taken::new();
    let (mut first, mut last, mut at) = (None, None, "its first entry".to_owned());
    for found in archive.files().map_err(|error| reading(DIRECTORY, error))? {
        let found = found.map_err(|error| reading(&at, error))?;
        tree.count()?;
        at = format!("the entry after `{}`", super::escaped(found.name_raw()));
        last = Some(found.central_header_start());
        let directory = *first.get_or_insert(found.central_header_start());
        let data = contents(&found, directory, &mut taken)?;
        one(tree, file, &found, data)?;
    }
    last.map_or(Ok(()), |last| ends(file, last))
}

/// Whether the end record is of a size to be read. In a zip64 it may hold data of any length, for
/// which the crate takes memory at once; none is known to use it. What the crate may take for a
/// record is looked at here: one that a locator (APPNOTE 4.3.15) before an end record points to.
fn bounded(file: &File) -> Result<(), Error> {
    let length = file.metadata().map_err(Error::Read)?.len();
    let start = length.saturating_sub(TAIL);
    let mut tail = Vec::new();
    At::new(file, start)
        .take(TAIL)
        .read_to_end(&mut tail)
        .map_err(|error| Error::reading(DIRECTORY, error))?;
    for (locator, window) in
        (start..).zip(tail.windows(20)).filter(|(_, window)| window.starts_with(LOCATOR_MAGIC))
    {
        let record =
            window[8..16].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte));
        let mut magic = Vec::new();
        let near = locator.saturating_sub(record) <= RECORD_MAX;
        if !near
            && At::new(file, record).take(4).read_to_end(&mut magic).is_ok()
            && magic == RECORD_MAGIC
        {
            return Err(Error::malformed(DIRECTORY, "an end record that is too large"));
        }
    }
    Ok(())
}

/// Where an entry's contents start. No two entries may share a byte, nor one with the directory: by
/// that a file of kilobytes unpacks to petabytes.
fn contents(found: &ZipFileEntry, directory: u64, taken: &mut Taken) -> Result<u64, Error> {
    let damaged = |what| Error::malformed(entry(found.name_raw()), what);
    let start = found.header_start();
    let data = *found
        .get_metadata()
        .data_start
        .get()
        .ok_or_else(|| damaged("no header before the contents"))?;
    let end = data.checked_add(found.compressed_size()).filter(|end| *end <= directory);
    let end = end.ok_or_else(|| damaged("contents that reach into the directory"))?;
    let before = taken.range(..end).next_back();
    if before.is_some_and(|(_, end)| *end > start) {
        return Err(damaged("contents that belong to another entry as well"));
    }
    taken.insert(start, end);
    Ok(data)
}

fn one(tree: &mut Tree, file: &File, found: &ZipFileEntry, data: u64) -> Result<(), Error> {
    let raw = found.name_raw();
    if found.encrypted() {
        return Err(Error::Encrypted(super::escaped(raw)));
    }
    let EntryName { path, slash } = RelativePath::entry(raw)?;
    // Unix' file type, if the archive was made where there is one; it is honoured whatever system
    // the archive says it is from.
    match (found.external_attributes() >> 16) & 0o170_000 {
        0 => {}
        0o100_000 if !slash => {}
        0o040_000 if slash => {}
        0o120_000 => {
            return Err(Error::kind(
                raw,
                "a symbolic link",
                "pack the file that it points to instead (zip without --symlinks)",
            ));
        }
        0o100_000 | 0o040_000 => {
            return Err(Error::malformed(
                entry(raw),
                "a name that says file where the mode says directory, or the reverse",
            ));
        }
        _ => return Err(Error::kind(raw, "neither a file nor a directory", "leave it out")),
    }
    match path {
        _ if slash && found.size() > 0 => {
            Err(Error::malformed(entry(raw), "contents of a directory"))
        }
        None if !slash => Err(Error::kind(raw, "a file without a name", "name it")),
        None => Ok(()),
        Some(path) if slash => tree.directory(&path),
        Some(path) => write(tree, file, found, &path, data),
    }
}

/// Writes one file, and holds its size and checksum against what the headers say.
fn write(
    tree: &mut Tree,
    file: &File,
    found: &ZipFileEntry,
    path: &RelativePath,
    data: u64,
) -> Result<(), Error> {
    let stored =
        BufReader::with_capacity(BUFFER, At::new(file, data).take(found.compressed_size()));
    let decoder: Box<dyn Read> = match found.compression() {
        CompressionMethod::STORE => Box::new(stored),
        CompressionMethod::DEFLATE => Box::new(DeflateDecoder::new(stored)),
        CompressionMethod::ZSTD => {
            Box::new(unzstd(stored, tree.limits.zstd_window_log).map_err(Error::Read)?)
        }
        other => {
            return Err(Error::Method {
                entry: super::escaped(path.as_str()),
                method: other.to_string(),
            });
        }
    };
    let mut decoder = CrcReader::new(decoder);
    tree.file(path, found.size(), &mut decoder)?;
    // Decoders check that what they decode is whole when they are read to the end.
    let longer = io::copy(&mut (&mut decoder).take(1), &mut io::sink())
        .map_err(|error| Error::reading(entry(path.as_str()), error))?;
    if longer > 0 {
        return Err(Error::malformed(entry(path.as_str()), "more contents than the headers say"));
    }
    if decoder.crc().sum() != found.crc32() {
        return Err(Error::malformed(
            entry(path.as_str()),
            "contents that do not match their checksum",
        ));
    }
    Ok(())
}

/// Whether the directory ends behind the last entry that was counted. The count of old writers
/// starts over at 65536.
fn ends(file: &File, last: u64) -> Result<(), Error> {
    let mut header = [0; CENTRAL];
    let mut at = At::new(file, last);
    at.read_exact(&mut header).map_err(|error| Error::reading(DIRECTORY, error))?;
    let length = |from: usize| u64::from(u16::from_le_bytes([header[from], header[from + 1]]));
    let next = last.saturating_add(CENTRAL as u64 + length(28) + length(30) + length(32));
    let mut magic = Vec::new();
    At::new(file, next)
        .take(4)
        .read_to_end(&mut magic)
        .map_err(|error| Error::reading(DIRECTORY, error))?;
    if magic == CENTRAL_MAGIC {
        return Err(Error::malformed(DIRECTORY, "more entries than it counts"));
    }
    Ok(())
}

fn reading(at: &str, error: ZipError) -> Error {
    match error {
        ZipError::Io(error) => Error::reading(at, error),
        error => Error::malformed(at, error.to_string()),
    }
}
