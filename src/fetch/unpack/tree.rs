//! What is written: regular files and directories below one directory, within the limits.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Write as _},
    ops::ControlFlow,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::PathBuf,
};

use super::{
    Error, Limits, Progress, Unpacked,
    error::entry,
    name::{Names, RelativePath},
};

/// The mode of every file, whatever the archive says: a model is data, and one from an archive is
/// to be as one that was downloaded file by file, where there are no modes. Owner, times, extended
/// attributes and set-user-id bits are dropped for the same reason.
const FILE: u32 = 0o644;
const DIRECTORY: u32 = 0o755;
const BUFFER: usize = 128 * 1024;
/// What an entry may take in an archive besides its contents: its headers and padding.
const OVERHEAD: u64 = 4096;

pub(super) struct Tree<'p> {
    into: PathBuf,
    pub limits: Limits,
    names: Names,
    entries: usize,
    unpacked: Unpacked,
    /// How many bytes of decoded archive may still be read, whether or not they are written.
    pub readable: u64,
    progress: Progress<'p>,
    buffer: Box<[u8]>,
}

impl<'p> Tree<'p> {
    pub fn new(into: PathBuf, limits: Limits, progress: Progress<'p>) -> Self {
        let overhead = (limits.entries as u64).saturating_mul(OVERHEAD);
        Self {
            into,
            limits,
            names: Names::new(limits.entries),
            entries: 0,
            unpacked: Unpacked { files: 0, bytes: 0 },
            readable: limits.bytes.saturating_add(overhead),
            progress,
            buffer: vec![0; BUFFER].into_boxed_slice(),
        }
    }

    pub fn unpacked(&self) -> Unpacked {
        self.unpacked
    }

    /// One more entry, whether or not it is written.
    pub fn count(&mut self) -> Result<(), Error> {
        self.entries += 1;
        if self.entries > self.limits.entries {
            Err(Error::Entries(self.limits.entries))
        } else {
            self.moved(0)
        }
    }

    pub fn directory(&mut self, name: &RelativePath) -> Result<(), Error> {
        let new = self.names.directory(name)?;
        self.create(&new)
    }

    /// Writes a file of exactly `size` bytes. The reader may hold more.
    pub fn file(
        &mut self,
        name: &RelativePath,
        size: u64,
        contents: &mut dyn Read,
    ) -> Result<(), Error> {
        let new = self.names.file(name)?;
        self.create(&new)?;
        let mut file = self.open(name).map_err(|source| Error::write(name.as_str(), source))?;
        let mut left = size;
        while left > 0 {
            let read = self.fill(name, left, contents)?;
            self.unpacked.bytes = self.unpacked.bytes.saturating_add(read as u64);
            if self.unpacked.bytes > self.limits.bytes {
                return Err(Error::Bytes { at: entry(name.as_str()), limit: self.limits.bytes });
            }
            file.write_all(&self.buffer[..read])
                .map_err(|source| Error::write(name.as_str(), source))?;
            left -= read as u64;
            self.moved(read as u64)?;
        }
        self.unpacked.files += 1;
        Ok(())
    }

    /// Reads past `size` bytes that are not wanted.
    pub fn skip(&mut self, name: &[u8], size: u64, contents: &mut dyn Read) -> Result<(), Error> {
        let mut left = size;
        while left > 0 {
            let most = BUFFER.min(usize::try_from(left).unwrap_or(BUFFER));
            left -= read_some(name, &mut self.buffer[..most], contents)? as u64;
            self.moved(0)?;
        }
        Ok(())
    }

    fn fill(
        &mut self,
        name: &RelativePath,
        left: u64,
        contents: &mut dyn Read,
    ) -> Result<usize, Error> {
        let most = BUFFER.min(usize::try_from(left).unwrap_or(BUFFER));
        read_some(name.as_str(), &mut self.buffer[..most], contents)
    }

    fn moved(&mut self, bytes: u64) -> Result<(), Error> {
        match (self.progress)(bytes) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Stopped),
        }
    }

    /// Directories that were not there, outermost first. One that is there all the same was made by
    /// someone else: no one writes through it.
    fn create(&self, new: &[&str]) -> Result<(), Error> {
        new.iter().try_for_each(|name| {
            let path = self.into.join(name);
            let made = DirBuilder::new().mode(DIRECTORY).create(&path);
            let made =
                made.and_then(|()| match fs::symlink_metadata(&path)?.permissions().mode() {
                    // The volume's own set-group-id bit is kept: by it a shared group is passed on.
                    mode if mode & DIRECTORY != DIRECTORY => fs::set_permissions(
                        &path,
                        Permissions::from_mode(mode & 0o2000 | DIRECTORY),
                    ),
                    _ => Ok(()),
                });
            made.map_err(|source| Error::write(name, source))
        })
    }

    /// A file that was not there. `O_EXCL` follows no link at its end, and every directory on the
    /// way is one that `create` made.
    fn open(&self, name: &RelativePath) -> io::Result<File> {
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(FILE)
            .open(self.into.join(name.as_path()))?;
        // Whoever serves the model may run as someone else than who unpacks it, whatever the umask
        // here. On volumes with fixed modes, which have all that is asked for, nothing is changed:
        // some do not take a change.
        if file.metadata()?.permissions().mode() & FILE != FILE {
            file.set_permissions(Permissions::from_mode(FILE))?;
        }
        Ok(file)
    }
}

/// At least one byte.
fn read_some(name: impl AsRef<[u8]>, into: &mut [u8], from: &mut dyn Read) -> Result<usize, Error> {
    loop {
        match from.read(into) {
            Ok(0) => return Err(Error::Truncated(entry(name))),
            Ok(read) => return Ok(read),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::reading(entry(name), error)),
        }
    }
}
