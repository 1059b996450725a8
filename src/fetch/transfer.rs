//! The transfer: parts of entries are read side by side, each written where it belongs as it is
//! whole, and hashed in order. What is held in memory is bounded by the number of parts, whatever
//! the size of the artifact.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read, Seek, SeekFrom},
    ops::Range,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures::{StreamExt, TryStreamExt, stream};
use sha2::{Digest as _, Sha256};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::{
    buffers::{Buffer, Buffers},
    digest::Digest,
    error::{Again, Error, Reason},
    name::{Names, escaped},
    progress::{Progress, size},
    source::{Entry, Place, Source},
};

/// What a transfer may use, and how patient it is.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Size of a part in bytes.
    pub part: u64,
    /// Parts that are held at once.
    pub parts: usize,
    /// Files of one artifact.
    pub files: usize,
    /// How long a connection may give nothing, and how long `floor` is measured over.
    pub stall: Duration,
    /// Bytes that have to arrive in that time.
    pub floor: u64,
    /// How often a part is asked for again without progress.
    pub attempts: u32,
    /// How long the first pause between two attempts is; each is twice the one before, up to 50
    /// times.
    pub pause: Duration,
    /// The most bytes of an entry whose size nobody says.
    pub unsaid: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            part: 4 * 1024 * 1024,
            parts: 6,
            files: 100_000,
            stall: Duration::from_secs(30),
            floor: 32 * 1024,
            attempts: 6,
            pause: Duration::from_millis(200),
            unsaid: None,
        }
    }
}

/// An entry that was read, and checked against what its source says of it.
#[derive(Clone, Debug)]
pub struct Fetched {
    /// Where it belongs.
    pub place: Place,
    /// Its sha256.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Where it was written; None where nothing is kept.
    pub file: Option<PathBuf>,
}

/// Where entries are written.
#[derive(Clone, Debug)]
pub struct Target {
    /// Files, by their names.
    pub tree: PathBuf,
    /// Archives, until they are unpacked.
    pub archives: PathBuf,
}

/// A transfer from one source.
#[derive(Clone)]
pub struct Transfer {
    source: Arc<dyn Source>,
    into: Option<Target>,
    limits: Limits,
    progress: Arc<Progress>,
    buffers: Buffers,
}

impl Transfer {
    /// A transfer that writes what it reads, or only hashes it.
    #[must_use]
    pub fn new(
        source: Arc<dyn Source>,
        into: Option<Target>,
        limits: Limits,
        progress: Arc<Progress>,
    ) -> Self {
        Self { source, into, limits, progress, buffers: Buffers::new(limits.parts) }
    }

    /// Reads every entry, in the order given.
    ///
    /// # Errors
    /// The first that does not pass by itself.
    pub async fn run(&self, entries: Vec<Entry>) -> Result<Vec<Fetched>, Error> {
        let files = self.prepare(&entries)?;
        self.progress.of(entries.iter().filter_map(|e| e.size).sum());
        let each =
            entries.into_iter().zip(files).map(|(entry, file)| self.clone().entry(entry, file));
        stream::iter(each).buffered(self.limits.parts).try_collect().await
    }

    /// Checks all names against each other, makes their directories, and says where each entry is
    /// written.
    fn prepare(&self, entries: &[Entry]) -> Result<Vec<Option<PathBuf>>, Error> {
        if entries.len() > self.limits.files {
            let most = self.limits.files;
            return Err(Error::new(
                Reason::Unsupported,
                format!("There are more than {most} files: pack them into an archive."),
            ));
        }
        let mut names = Names::new(2 * self.limits.files);
        let mut made = BTreeSet::new();
        let mut files = Vec::with_capacity(entries.len());
        for (number, entry) in entries.iter().enumerate() {
            let Place::File(path) = &entry.place else {
                files.push(self.into.as_ref().map(|into| into.archives.join(number.to_string())));
                continue;
            };
            let directories = names.file(path)?;
            let Some(into) = &self.into else {
                files.push(None);
                continue;
            };
            for directory in directories {
                let directory = into.tree.join(directory);
                if made.insert(directory.clone()) {
                    fs::create_dir(&directory)
                        .map_err(|e| Error::io("make a directory of the artifact", &e))?;
                }
            }
            files.push(Some(into.tree.join(path.as_path())));
        }
        Ok(files)
    }

    async fn entry(self, entry: Entry, path: Option<PathBuf>) -> Result<Fetched, Error> {
        let file = match &path {
            Some(path) => Some(Arc::new(create(path.clone()).await?)),
            None => None,
        };
        let entry = Arc::new(entry);
        let (digest, size) = match entry.size {
            Some(size) if entry.ranges || size == 0 => self.parts(&entry, size, file).await?,
            said => self.whole(&entry, said, file).await?,
        };
        if let Some(want) = entry.digest.filter(|want| *want != digest) {
            let sentence = format!(
                "{} has the sha256 {}, and its source says {}.",
                shown(&entry),
                digest.hex(),
                want.hex()
            );
            return Err(Error::new(Reason::Mismatch, sentence));
        }
        Ok(Fetched { place: entry.place.clone(), digest, size, file: path })
    }

    /// Part by part, or all at once where the server turns out to give no parts.
    async fn parts(
        &self,
        entry: &Arc<Entry>,
        size: u64,
        file: Option<Arc<File>>,
    ) -> Result<(Digest, u64), Error> {
        match self.ranges(entry, size, file.clone()).await {
            Ok(digest) => Ok((digest, size)),
            Err(error) if error.again == Again::Whole => self.whole(entry, Some(size), file).await,
            Err(error) => Err(error),
        }
    }

    /// Parts side by side, hashed in order.
    async fn ranges(
        &self,
        entry: &Arc<Entry>,
        size: u64,
        file: Option<Arc<File>>,
    ) -> Result<Digest, Error> {
        let count = size.div_ceil(self.limits.part);
        let part = |number: u64| {
            let range = number * self.limits.part..size.min((number + 1) * self.limits.part);
            let (this, entry, file) = (self.clone(), entry.clone(), file.clone());
            async move {
                // Parts of an entry get their buffers in order, so that the one which is hashed
                // next always has one.
                let room = usize::try_from(range.end - range.start).unwrap_or_default();
                let buffer = this.buffers.take(room).await.ok_or_else(stopped)?;
                let task =
                    tokio::spawn(async move { this.part(&entry, range, file, buffer).await });
                AbortOnDropHandle::new(task).await.map_err(|_| stopped())?
            }
        };
        let mut parts = stream::iter(0..count).map(part).buffered(self.limits.parts);
        let mut hasher = Sha256::new();
        while let Some(part) = parts.try_next().await? {
            hasher = blocking(move || {
                hasher.update(&part.bytes);
                Ok(hasher)
            })
            .await?;
        }
        Ok(Digest(hasher.finalize().into()))
    }

    async fn part(
        &self,
        entry: &Entry,
        range: Range<u64>,
        file: Option<Arc<File>>,
        mut buffer: Buffer,
    ) -> Result<Buffer, Error> {
        if let Some(path) = self.source.path(entry) {
            buffer = self.read_local(shown(entry), path, range.clone(), buffer).await?;
        } else {
            self.read_remote(entry, range.clone(), &mut buffer.bytes).await?;
        }
        let Some(file) = file else { return Ok(buffer) };
        let what = shown(entry);
        blocking(move || {
            file.write_all_at(&buffer.bytes, range.start)
                .map_err(|e| Error::io(format!("write {what}"), &e))?;
            Ok(buffer)
        })
        .await
    }

    async fn read_local(
        &self,
        what: String,
        path: PathBuf,
        range: Range<u64>,
        mut buffer: Buffer,
    ) -> Result<Buffer, Error> {
        let progress = self.progress.clone();
        blocking(move || {
            let failed = |e: &std::io::Error| Error::io(format!("read {what}"), e);
            // O_NOFOLLOW: what was a file when it was listed may have become a link.
            let flags = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
            let mut file = OpenOptions::new()
                .read(true)
                .custom_flags(flags)
                .open(path)
                .map_err(|e| failed(&e))?;
            file.seek(SeekFrom::Start(range.start)).map_err(|e| failed(&e))?;
            let want = range.end - range.start;
            let read = file.take(want).read_to_end(&mut buffer.bytes).map_err(|e| failed(&e))?;
            if read as u64 != want {
                return Err(failed(&ErrorKind::UnexpectedEof.into()));
            }
            progress.more(want);
            Ok(buffer)
        })
        .await
    }

    /// Reads a part over the network, again and again from where the connection broke.
    async fn read_remote(
        &self,
        entry: &Entry,
        range: Range<u64>,
        bytes: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let want = usize::try_from(range.end - range.start).unwrap_or_default();
        let mut patience = Patience::new(&self.limits);
        while bytes.len() < want {
            let had = bytes.len();
            let at = range.start + had as u64;
            if let Err(error) = self.more(entry, at..range.end, bytes, want).await {
                patience.again(error, (bytes.len() - had) as u64).await?;
            }
        }
        Ok(())
    }

    /// Reads into a part until it is whole or the connection fails.
    async fn more(
        &self,
        entry: &Entry,
        range: Range<u64>,
        bytes: &mut Vec<u8>,
        want: usize,
    ) -> Result<(), Error> {
        let mut pace = Pace::new(&self.limits);
        let mut arriving = self.source.read(entry, range).await?;
        while let Some(some) = pace.next(&mut arriving, entry).await? {
            if bytes.len() + some.len() > want {
                return Err(Error::new(
                    Reason::Unreachable,
                    format!("{} is answered with more bytes than were asked for.", shown(entry)),
                ));
            }
            bytes.extend_from_slice(&some);
            self.progress.more(some.len() as u64);
        }
        if bytes.len() < want {
            return Err(Error::transient(format!(
                "The answer for {} ended {} early.",
                shown(entry),
                size((want - bytes.len()) as u64)
            )));
        }
        Ok(())
    }

    /// All of an entry in one answer, for servers that cannot give parts; a broken connection
    /// begins anew.
    async fn whole(
        &self,
        entry: &Arc<Entry>,
        said: Option<u64>,
        file: Option<Arc<File>>,
    ) -> Result<(Digest, u64), Error> {
        let most = said.or(self.limits.unsaid).ok_or_else(|| {
            let how = "write artifact.size (or --size), so that it cannot go on for ever";
            Error::new(
                Reason::Unsupported,
                format!("The server does not say how large {} is: {how}.", shown(entry)),
            )
        })?;
        let mut patience = Patience::new(&self.limits);
        loop {
            let mut counted = 0;
            match self.once(entry, said, most, file.clone(), &mut counted).await {
                Ok(done) => return Ok(done),
                Err(error) => {
                    self.progress.less(counted);
                    patience.again(error, 0).await?;
                }
            }
        }
    }

    /// One such answer; `counted` is what of it counts as done.
    async fn once(
        &self,
        entry: &Entry,
        said: Option<u64>,
        most: u64,
        file: Option<Arc<File>>,
        counted: &mut u64,
    ) -> Result<(Digest, u64), Error> {
        let room = usize::try_from(self.limits.part).unwrap_or_default();
        let mut buffer = self.buffers.take(room).await.ok_or_else(stopped)?;
        let mut pace = Pace::new(&self.limits);
        let mut arriving = self.source.read(entry, 0..u64::MAX).await?;
        let (mut hasher, mut at) = (Sha256::new(), 0);
        loop {
            let some = pace.next(&mut arriving, entry).await?;
            let ended = some.is_none();
            if let Some(some) = some {
                self.progress.more(some.len() as u64);
                *counted += some.len() as u64;
                buffer.bytes.extend_from_slice(&some);
            }
            let length = buffer.bytes.len() as u64;
            if at + length > most {
                return Err(Error::new(
                    Reason::SizeMismatch,
                    format!("{} has more than the {most} bytes that it should have.", shown(entry)),
                ));
            }
            if ended || length >= self.limits.part {
                let (file, what) = (file.clone(), shown(entry));
                (hasher, buffer) = blocking(move || {
                    hasher.update(&buffer.bytes);
                    file.map_or(Ok(()), |f| f.write_all_at(&buffer.bytes, at))
                        .map_err(|e| Error::io(format!("write {what}"), &e))?;
                    buffer.bytes.clear();
                    Ok((hasher, buffer))
                })
                .await?;
                at += length;
            }
            if ended {
                break;
            }
        }
        if said.is_some_and(|said| at < said) {
            return Err(Error::transient(format!("The answer for {} ended early.", shown(entry))));
        }
        if let Some(file) = file {
            file.set_len(at).map_err(|e| Error::io(format!("write {}", shown(entry)), &e))?;
        }
        Ok((Digest(hasher.finalize().into()), at))
    }
}

/// How long a connection is waited for: it must give something within `stall`, and `floor` bytes in
/// each such time.
struct Pace {
    stall: Duration,
    floor: u64,
    since: Instant,
    bytes: u64,
}

impl Pace {
    fn new(limits: &Limits) -> Self {
        Self { stall: limits.stall, floor: limits.floor, since: Instant::now(), bytes: 0 }
    }

    async fn next(
        &mut self,
        arriving: &mut super::source::Stream,
        entry: &Entry,
    ) -> Result<Option<bytes::Bytes>, Error> {
        let slow =
            || Error::transient(format!("The answer for {} came to a standstill.", shown(entry)));
        let some = timeout(self.stall, arriving.try_next()).await.map_err(|_| slow())??;
        self.bytes += some.as_ref().map_or(0, |s| s.len() as u64);
        if self.since.elapsed() >= self.stall && some.is_some() {
            if self.bytes < self.floor {
                return Err(slow());
            }
            (self.since, self.bytes) = (Instant::now(), 0);
        }
        Ok(some)
    }
}

/// How often something is tried again.
struct Patience {
    limits: Limits,
    tried: u32,
}

impl Patience {
    fn new(limits: &Limits) -> Self {
        Self { limits: *limits, tried: 0 }
    }

    /// Waits before the next attempt, or gives the error back where there is none. Progress makes
    /// patient again.
    async fn again(&mut self, error: Error, progress: u64) -> Result<(), Error> {
        if error.again != Again::Soon {
            return Err(error);
        }
        if progress >= self.limits.floor {
            self.tried = 0;
        }
        self.tried += 1;
        if self.tried >= self.limits.attempts {
            let sentence =
                format!("{}, after {} attempts.", error.sentence.trim_end_matches('.'), self.tried);
            return Err(Error { again: Again::No, sentence, ..error });
        }
        let pause = self.limits.pause * 2_u32.pow(self.tried - 1).min(50);
        // Half of it at random, so that many pods do not come back at once.
        let nanos = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |t| t.subsec_nanos());
        sleep(pause / 2 + (pause / 2).mul_f64(f64::from(nanos % 1000) / 1000.0)).await;
        Ok(())
    }
}

/// What an entry is called in a sentence.
fn shown(entry: &Entry) -> String {
    match &entry.place {
        Place::File(path) => escaped(path.as_str()),
        Place::Archive { .. } => format!("layer {}", escaped(&entry.key)),
    }
}

async fn create(path: PathBuf) -> Result<File, Error> {
    let what = |path: &Path| {
        format!("make {}", escaped(path.file_name().unwrap_or_default().to_string_lossy().as_ref()))
    };
    blocking(move || {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)
            .map_err(|e| Error::io(what(&path), &e))
    })
    .await
}

fn stopped() -> Error {
    Error::new(Reason::Interrupted, "The fetch was stopped.")
}

/// Work that blocks, off the threads that wait for the network.
///
/// # Errors
/// Those of the work.
pub async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(stopped()))
}
