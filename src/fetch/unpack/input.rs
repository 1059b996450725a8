//! How archives are read: errors of the source told from errors of the format, and no more than a
//! limit.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::FileExt as _,
};

use flate2::bufread::MultiGzDecoder;

use super::{Error, Format, error::Inner};

const BUFFER: usize = 64 * 1024;

/// A reader whose errors are those of the source. That it ends is not one of them.
pub(super) struct Source<R>(pub R);

impl<R: Read> Read for Source<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into).map_err(of_source)
    }
}

fn of_source(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::Interrupted { error } else { Inner::Source(error).into() }
}

/// A file read from an offset of its own, which leaves the file's as it is.
pub(super) struct At<'f> {
    file: &'f File,
    at: u64,
}

impl<'f> At<'f> {
    pub fn new(file: &'f File, at: u64) -> Self {
        Self { file, at }
    }
}

impl Read for At<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(into, self.at).map_err(of_source)?;
        self.at = self.at.saturating_add(read as u64);
        Ok(read)
    }
}

impl Seek for At<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let to = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => {
                self.file.metadata().map_err(Inner::Source)?.len().checked_add_signed(by)
            }
        };
        // No file is longer, and Linux refuses to read from there.
        let to = to.filter(|at| i64::try_from(*at).is_ok());
        self.at = to.ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, "an offset outside of the file")
        })?;
        Ok(self.at)
    }
}

/// A reader that ends in an error after so many bytes.
pub(super) struct Meter<R> {
    pub reader: R,
    /// What may still be read.
    pub left: u64,
    /// The limit that is told.
    pub limit: u64,
}

impl<R: Read> Read for Meter<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(into)?;
        self.left = self.left.checked_sub(read as u64).ok_or(Inner::Limit(self.limit))?;
        Ok(read)
    }
}

/// The tar in a reader. All of it is decoded, however many gzip members or zstd frames it is made
/// of.
pub(super) fn decoded<'r>(
    reader: impl Read + 'r,
    format: Format,
    window_log: u32,
) -> Result<Box<dyn Read + 'r>, Error> {
    let buffered = BufReader::with_capacity(BUFFER, Source(reader));
    Ok(match format {
        Format::Tar => Box::new(buffered),
        Format::TarGz => Box::new(MultiGzDecoder::new(buffered)),
        Format::TarZst => Box::new(unzstd(buffered, window_log).map_err(Error::Read)?),
        Format::Zip => return Err(Error::ZipLayer),
    })
}

/// A zstd decoder that takes no more memory than a window of that size: a frame says itself how
/// much it wants.
pub(super) fn unzstd<R: io::BufRead>(
    reader: R,
    window_log: u32,
) -> io::Result<zstd::Decoder<'static, R>> {
    let mut decoder = zstd::Decoder::with_buffer(reader)?;
    decoder.window_log_max(window_log)?;
    Ok(decoder)
}
