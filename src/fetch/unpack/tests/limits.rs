//! Archives that want more than they are given.

use std::io::{self, Read};

use super::*;

/// A tar of so many entries that are made as they are read.
struct Endless {
    entry: Vec<u8>,
    at: usize,
    left: u64,
}

impl Endless {
    fn new(entry: Tar, times: u64) -> Self {
        Self { entry: entry.0, at: 0, left: times }
    }
}

impl Read for Endless {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.at == self.entry.len() {
            (self.at, self.left) = (0, self.left - 1);
        }
        let read = if self.left == 0 { 0 } else { (&self.entry[self.at..]).read(into)? };
        self.at += read;
        Ok(read)
    }
}

fn layer(reader: impl Read, limits: Limits, keep: &Keep) -> Outcome {
    let site = Site::new();
    let result = Layers::new(&site.target(), limits, &mut go_on)
        .add(reader, keep)
        .map(|()| Unpacked { files: 0, bytes: 0 });
    Outcome { result, files: site.files() }
}

#[test]
fn a_million_entries_of_a_tar_are_refused_at_the_limit() {
    let million = |entry| Endless::new(entry, 1_000_000);
    let directory = Tar::default().entry("d", b'5', b"");
    layer(million(directory.clone()), MANY, &Keep::All).refused("it has more than 100000 entries");
    let few = Limits { entries: 100, ..MANY };
    layer(million(directory.clone()), few, &below("models"))
        .refused("it has more than 100 entries");
    layer(million(Tar::default().entry("g", b'g', &pax(&[("comment", b"x")]))), few, &Keep::All)
        .refused("it has more than 100 entries");
    let compressed: Vec<u8> = vec![gz(&directory.0.repeat(1000)); 1000].concat();
    unpack_within(&compressed, few).refused("it has more than 100 entries");
}

#[test]
fn directories_without_an_entry_count_as_well() {
    let files =
        (0..10).fold(Tar::default(), |tar, n| tar.file(format!("{n}/a/b/c/d/e/f/g/h/i"), b""));
    let limits = Limits { entries: 50, ..MANY };
    unpack_within(&files.clone().end(), limits).refused("more than 50 files and directories");
    unpack_within(&files.end(), Limits { entries: 100, ..MANY }).result.unwrap();
}

#[test]
fn a_million_entries_of_a_zip_are_refused_before_the_first_is_read() {
    let mut zip = Zip::of([ZipEntry::stored("a", b"")]);
    (zip.directory, zip.count) = (zip.directory.repeat(1_000_000), 1_000_000);
    let outcome = unpack(&zip.end());
    outcome.refused("it has more than 100000 entries");
    assert!(outcome.files.is_empty());
}

#[test]
fn a_bomb_of_each_format_ends_at_the_limit() {
    let zeros = vec![0; 20 << 20];
    let tar = Tar::default().file("a", &zeros).end();
    let packed = zstd::encode_all(&zeros[..], 1).unwrap();
    let zipped = ZipEntry { method: 93, data: packed, ..ZipEntry::stored("a", &zeros) };
    let limits = Limits::bytes(1 << 20);
    for (archive, ratio) in [
        (gz(&tar), 200),
        (zst(&tar), 1000),
        (gz(&gz(&tar)), 0),
        (Zip::of([ZipEntry::deflated("a", &zeros)]).end(), 500),
        (Zip::of([zipped]).end(), 1000),
    ] {
        assert!(archive.len() * ratio < zeros.len());
        let outcome = unpack_within(&archive, limits);
        outcome.refused(if ratio == 0 {
            "no header of a tar"
        } else {
            "at entry `a` it has more than 1048576 bytes"
        });
        assert!(outcome.files.values().all(|contents| contents.len() <= 1 << 20));
    }
}

#[test]
fn the_limit_is_on_all_files_together_to_the_byte() {
    let tar = Tar::default().file("a", &[1; 600]).file("b", &[2; 400]);
    let zip = Zip::of([ZipEntry::deflated("a", &[1; 600]), ZipEntry::deflated("b", &[2; 400])]);
    for archive in [tar.clone().end(), zip.end()] {
        unpack_within(&archive, Limits::bytes(1000)).result.unwrap();
        unpack_within(&archive, Limits::bytes(999))
            .refused("at entry `b` it has more than 999 bytes");
    }
    // Of all layers, too.
    let site = Site::new();
    let mut go_on = go_on;
    let mut layers = Layers::new(&site.target(), Limits::bytes(1999), &mut go_on);
    layers.add(&tar.end()[..], &Keep::All).unwrap();
    let again = Tar::default().file("c", &[1; 1000]).end();
    assert!(matches!(layers.add(&again[..], &Keep::All), Err(Error::Bytes { limit: 1999, .. })));
}

#[test]
fn what_is_passed_over_is_limited_as_well() {
    let limits = Limits { bytes: 1000, entries: 10, ..MANY };
    let skipped = Tar::default().file("usr/a", &[0; 60_000]).end();
    layer(&skipped[..], limits, &below("models")).refused("more than 1000 bytes");
    let half = Tar::default().file("usr/a", &[0; 25_000]).end();
    let site = Site::new();
    let mut go_on = go_on;
    let mut layers = Layers::new(&site.target(), limits, &mut go_on);
    layers.add(&half[..], &below("models")).unwrap();
    assert!(matches!(
        layers.add(&half[..], &below("models")),
        Err(Error::Bytes { limit: 1000, .. })
    ));
    let padding = [Tar::default().file("a", b"").end(), vec![0; 60_000]].concat();
    layer(&gz(&padding)[..], limits, &Keep::All).refused("at its end it has more than 1000 bytes");
}

#[test]
fn a_zstd_frame_that_wants_a_huge_window_is_refused() {
    let packed = |log, contents: &[u8]| {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
        encoder.window_log(log).unwrap();
        encoder.write_all(contents).unwrap();
        encoder.finish().unwrap()
    };
    let tar = Tar::default().file("a", b"hi").end();
    unpack(&packed(23, &tar)).result.unwrap();
    let zipped =
        |log| ZipEntry { method: 93, data: packed(log, b"hi"), ..ZipEntry::stored("a", b"hi") };
    unpack(&Zip::of([zipped(23)]).end()).result.unwrap();
    for log in [24, 27, 30] {
        unpack(&packed(log, &tar)).refused("zstd wants more memory than it is given");
        unpack(&[zst(&tar[..512]), packed(log, &tar[512..])].concat())
            .refused("zstd wants more memory than it is given");
        unpack(&Zip::of([zipped(log)]).end()).refused("zstd wants more memory than it is given");
        unpack_within(&packed(log, &tar), Limits { zstd_window_log: 30, ..MANY }).result.unwrap();
    }
}

#[test]
fn a_compressed_archive_that_is_cut_short_or_changed_is_refused() {
    let tar = Tar::default().file("a", &[7; 1000]).file("b", b"hi").end();
    for archive in [gz(&tar), zst(&tar), gz(&[tar.clone(), vec![0; 100_000]].concat())] {
        for end in (4..archive.len()).step_by(3) {
            unpack(&archive[..end]).refused("cut short at");
        }
    }
    // The last bytes of gzip: the checksum.
    let mut archive = gz(&tar);
    let at = archive.len() - 6;
    archive[at] ^= 1;
    unpack(&archive).refused("its end");
}

#[test]
fn trouble_with_reading_or_writing_is_told_from_a_bad_archive() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::ErrorKind::UnexpectedEof.into())
        }
    }
    let weights: Vec<u8> =
        (0..200_000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let tar = Tar::default().file("a", &weights).end();
    for archive in [gz(&tar), zst(&tar), tar] {
        for read in [100, 1000, archive.len() / 2] {
            let site = Site::new();
            let error = Layers::new(&site.target(), MANY, &mut go_on)
                .add(archive[..read].chain(Broken), &Keep::All)
                .unwrap_err();
            assert!(matches!(error, Error::Read(_)) && error.is_trouble(), "{error}");
        }
    }
    let site = Site::new();
    fs::write(site.target().join("a"), "there before").unwrap();
    let archive = Tar::default().file("a", b"").end();
    let error =
        Layers::new(&site.target(), MANY, &mut go_on).add(&archive[..], &Keep::All).unwrap_err();
    assert!(matches!(error, Error::Write { .. }) && error.is_trouble(), "{error}");
    assert_eq!(fs::read(site.target().join("a")).unwrap(), b"there before");
}

#[test]
fn nothing_is_written_through_a_link_that_someone_else_put_there() {
    for name in ["a", "a/b"] {
        let site = Site::new();
        std::os::unix::fs::symlink("..", site.target().join("a")).unwrap();
        let archive = Tar::default().file(name, b"").end();
        let error = Layers::new(&site.target(), MANY, &mut go_on)
            .add(&archive[..], &Keep::All)
            .unwrap_err();
        assert!(matches!(error, Error::Write { .. }), "{error}");
        fs::remove_file(site.target().join("a")).unwrap();
        assert!(site.files().is_empty());
    }
}
