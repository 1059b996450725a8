//! Tar: the plain format, ustar, GNU's long names and POSIX's extended headers, as in POSIX.1-2017
//! (pax, "ustar Interchange Format" and "pax Extended Header") and GNU tar's manual ("Basic Tar
//! Format").
//!
//! Headers are framed here and their fields parsed by the `tar` crate: its own reader takes
//! extension headers of any size into memory, does not tell an archive that is cut short between
//! two entries from a whole one, and lets sizes disagree. What two readers could understand in two
//! ways is refused: whoever looked at the archive with another one is to have seen what is served.

use std::io::{self, Read};

use tar::{EntryType, Header};

use super::{
    Error, Keep,
    error::entry,
    input::Meter,
    name::{EntryName, RelativePath},
    pax,
    tree::Tree,
};

const BLOCK: usize = 512;
/// The largest header that extends another, in bytes. Attributes that are not used here have up to
/// 64 KiB each.
const EXTENSION_MAX: u64 = 1024 * 1024;
const START: &str = "its first header";
const DEREFERENCE: &str =
    "pack the file that it points to instead (tar --dereference --hard-dereference)";
const LEAVE_OUT: &str = "leave it out";

/// An entry's header with what extended it.
struct Head {
    name: Vec<u8>,
    kind: EntryType,
    size: u64,
    sparse: bool,
}

/// What the headers before an entry's own say of it.
#[derive(Default)]
struct Extensions {
    long_name: Option<Vec<u8>>,
    pax: Option<pax::Fields>,
    long_link: bool,
}

impl Extensions {
    fn none(&self) -> bool {
        self.long_name.is_none() && self.pax.is_none() && !self.long_link
    }
}

/// Writes what is to be kept of a tar.
pub(super) fn unpack(tree: &mut Tree, reader: &mut dyn Read, keep: &Keep) -> Result<(), Error> {
    let mut reader = Meter { reader, left: tree.readable, limit: tree.limits.bytes };
    let mut last = START.to_owned();
    while let Some(head) = next(tree, &mut reader, &last)? {
        last = entry(&head.name);
        one(tree, &mut reader, &head, keep)?;
        let padding = head.size.next_multiple_of(BLOCK as u64) - head.size;
        tree.skip(&head.name, padding, &mut reader)?;
    }
    end(&mut reader)?;
    tree.readable = reader.left;
    Ok(())
}

/// The next entry; None at the end marker.
fn next(tree: &mut Tree, reader: &mut dyn Read, last: &str) -> Result<Option<Head>, Error> {
    let mut before = Extensions::default();
    let orphan = || Error::malformed(after(last), "a header extends an entry that does not follow");
    let twice = || Error::malformed(after(last), "two headers of one kind extend the next entry");
    loop {
        let Some(header) = header(reader, last)? else {
            return if before.none() { Ok(None) } else { Err(orphan()) };
        };
        match header.entry_type() {
            EntryType::GNULongName if before.long_name.is_some() => return Err(twice()),
            EntryType::XHeader if before.pax.is_some() => return Err(twice()),
            EntryType::GNULongLink if before.long_link => return Err(twice()),
            EntryType::GNULongName => {
                before.long_name = Some(long_name(extension(&header, reader, last)?))
            }
            EntryType::XHeader => {
                before.pax = Some(pax::local(&extension(&header, reader, last)?, &after(last))?)
            }
            EntryType::GNULongLink => {
                before.long_link = true;
                extension(&header, reader, last)?;
            }
            EntryType::XGlobalHeader if !before.none() => return Err(orphan()),
            EntryType::XGlobalHeader => {
                tree.count()?;
                pax::global(&extension(&header, reader, last)?, &after(last))?;
            }
            _ => {
                tree.count()?;
                return head(&header, before, last).map(Some);
            }
        }
    }
}

/// Where a header is, by the entry before it.
fn after(last: &str) -> String {
    if last == START { START.to_owned() } else { format!("the header after {last}") }
}

/// A block that is a header; None for the end marker, a block of zeros. The second one that should
/// follow is not asked for.
fn header(reader: &mut dyn Read, last: &str) -> Result<Option<Header>, Error> {
    let mut header = Header::new_old();
    let block = header.as_mut_bytes();
    reader.read_exact(block).map_err(|error| Error::reading(after(last), error))?;
    if block.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    if sound(&header) {
        return Ok(Some(header));
    }
    Err(Error::malformed(after(last), "no header of a tar"))
}

/// Whether these bytes may be the first of a tar: a header, or the end marker of one without
/// entries.
pub(super) fn begins(head: &[u8]) -> bool {
    let mut header = Header::new_old();
    if head.len() < BLOCK {
        return false;
    }
    header.as_mut_bytes().copy_from_slice(&head[..BLOCK]);
    sound(&header) || head[..BLOCK].iter().all(|byte| *byte == 0)
}

/// Whether a header's checksum is right.
fn sound(header: &Header) -> bool {
    let bytes = header.as_bytes();
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    // The checksum's own eight bytes count as spaces.
    header.cksum().is_ok_and(|told| told == sum(&bytes[..148]) + 8 * 32 + sum(&bytes[156..]))
}

/// The contents of a header that extends another.
fn extension(header: &Header, reader: &mut dyn Read, last: &str) -> Result<Vec<u8>, Error> {
    let size = size(header, last)?;
    if size > EXTENSION_MAX {
        return Err(Error::malformed(
            after(last),
            format!("an extension of more than {EXTENSION_MAX} bytes"),
        ));
    }
    let mut contents = Vec::new();
    let mut padded = reader.take(size.next_multiple_of(BLOCK as u64));
    let wanted = padded.limit();
    let read =
        padded.read_to_end(&mut contents).map_err(|error| Error::reading(after(last), error))?;
    if (read as u64) < wanted {
        return Err(Error::Truncated(after(last)));
    }
    contents.truncate(usize::try_from(size).unwrap_or(usize::MAX));
    Ok(contents)
}

fn long_name(mut name: Vec<u8>) -> Vec<u8> {
    if name.last() == Some(&0) {
        name.pop();
    }
    name
}

/// The size field. The crate reads the last eight of its twelve bytes, and takes what is negative
/// for large.
fn size(header: &Header, last: &str) -> Result<u64, Error> {
    let field = header.as_old().size;
    let binary = field[0] & 0x80 != 0;
    let fits = !binary || (field[0] == 0x80 && field[1..4] == [0; 3] && field[4] & 0x80 == 0);
    match header.entry_size() {
        Ok(size) if fits && i64::try_from(size).is_ok() => Ok(size),
        _ => Err(Error::malformed(after(last), "a size that is no number, or out of range")),
    }
}

fn head(header: &Header, before: Extensions, last: &str) -> Result<Head, Error> {
    let mut size = size(header, last)?;
    let mut name = header.path_bytes().into_owned();
    let fields = before.pax.unwrap_or_default();
    match (before.long_name, fields.path) {
        (Some(_), Some(_)) => {
            return Err(Error::malformed(after(last), "the next entry is named in two headers"));
        }
        (Some(long), None) | (None, Some(long)) => name = long,
        (None, None) => {}
    }
    if let Some(told) = fields.size {
        // The field of a plain header ends at 8 GiB: only beyond may the two disagree. Otherwise a
        // reader that does not know extended headers would take contents for headers.
        if told != size && told < 1 << 33 {
            return Err(Error::malformed(entry(&name), "two different sizes"));
        }
        size = told;
    }
    let sparse = fields.sparse || header.entry_type() == EntryType::GNUSparse;
    Ok(Head { name, kind: header.entry_type(), size, sparse })
}

fn one(tree: &mut Tree, reader: &mut dyn Read, head: &Head, keep: &Keep) -> Result<(), Error> {
    let refuse = |kind, advice| Err(Error::kind(&head.name, kind, advice));
    if head.sparse {
        return refuse("a sparse file", "pack it again without --sparse");
    }
    // Readers disagree whether these have contents.
    let bare = matches!(head.kind, EntryType::Directory | EntryType::Link | EntryType::Symlink);
    if head.size > 0 && bare {
        return Err(Error::malformed(entry(&head.name), "contents of what is not a file"));
    }
    let Some(rest) = keep.rest(&head.name) else {
        return tree.skip(&head.name, head.size, reader);
    };
    match head.kind {
        EntryType::Regular | EntryType::Directory => {}
        EntryType::Symlink => return refuse("a symbolic link", DEREFERENCE),
        EntryType::Link => return refuse("a hard link", DEREFERENCE),
        EntryType::Fifo => return refuse("a named pipe", LEAVE_OUT),
        EntryType::Char | EntryType::Block => return refuse("a device", LEAVE_OUT),
        _ => return refuse("neither a file nor a directory", LEAVE_OUT),
    }
    // The oldest tars have no directories, but names that end in a slash.
    let EntryName { path, slash } = RelativePath::entry(rest)?;
    let directory = slash || head.kind == EntryType::Directory;
    match path {
        _ if directory && head.size > 0 => {
            Err(Error::malformed(entry(&head.name), "contents of what is not a file"))
        }
        None if head.kind == EntryType::Regular && !directory => {
            refuse("a file without a name", "name it")
        }
        None => Ok(()),
        Some(path) if whiteout(&path) => refuse(
            "a mark that deletes a file of a layer below",
            "build the image without that file",
        ),
        Some(path) if directory => tree.directory(&path),
        Some(path) => tree.file(&path, head.size, reader),
    }
}

/// Layers of images delete by name (OCI image specification, "Whiteouts"); no such name is served
/// as a file.
fn whiteout(path: &RelativePath) -> bool {
    path.components().any(|component| component.starts_with(".wh."))
}

/// What follows the end marker has to be zeros: with some readers' options a second archive there
/// would be unpacked. Reading to the end is also what makes a decoder check its last checksum.
fn end(reader: &mut dyn Read) -> Result<(), Error> {
    let mut buffer = [0; 16 * 1024];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) if buffer[..read].iter().any(|byte| *byte != 0) => {
                return Err(Error::malformed("its end", "something that follows the end marker"));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::reading("its end", error)),
        }
    }
}
