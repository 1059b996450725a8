//! What has to unpack, byte for byte.

use std::io::Cursor;

use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use super::*;

fn tar_of(files: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, contents) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(0o755);
        header.set_cksum();
        tar.append_data(&mut header, name, &contents[..]).unwrap();
    }
    tar.into_inner().unwrap()
}

fn zip_of(files: &BTreeMap<String, Vec<u8>>, method: CompressionMethod, large: bool) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method).large_file(large);
    for (name, contents) in files {
        zip.start_file(name.as_str(), options).unwrap();
        zip.write_all(contents).unwrap();
    }
    zip.add_directory("an/empty/one", options).unwrap();
    zip.finish().unwrap().into_inner()
}

#[test]
fn every_format_unpacks_byte_for_byte() {
    let tar = tar_of(&model());
    let zip = |method, large| zip_of(&model(), method, large);
    let members: Vec<u8> = tar.chunks(100_000).flat_map(gz).collect();
    let frames: Vec<u8> = [0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 2]
        .into_iter()
        .chain(tar.chunks(100_000).flat_map(zst))
        .collect();
    let cases = [
        (Format::TarGz, gz(&tar)),
        (Format::TarGz, members),
        (Format::TarZst, zst(&tar)),
        (Format::TarZst, frames),
        (Format::Tar, tar),
        (Format::Zip, zip(CompressionMethod::Stored, false)),
        (Format::Zip, zip(CompressionMethod::Deflated, false)),
        (Format::Zip, zip(CompressionMethod::Zstd, false)),
        (Format::Zip, zip(CompressionMethod::Deflated, true)),
    ];
    let bytes = model().values().map(|contents| contents.len() as u64).sum();
    for (format, archive) in cases {
        assert_eq!(Format::recognise(&archive).unwrap(), format);
        let outcome = unpack(&archive);
        assert_eq!(outcome.result.unwrap(), Unpacked { files: 5, bytes });
        assert!(outcome.files == model(), "{format:?}");
    }
}

#[test]
fn long_names_unpack_in_each_of_the_three_ways() {
    let name = format!("{}/{}", "d".repeat(120), "f".repeat(200));
    let ustar = format!("{}/{}", "d".repeat(120), "f".repeat(90));
    let prefixed = Tar::default()
        .header_with("f".repeat(90), b'0', b"00000000000\0", |header| header[345..465].fill(b'd'))
        .end();
    for (name, tar) in [
        (&name, Tar::default().long_name(format!("{name}\0").as_bytes()).file("short", b"").end()),
        (
            &name,
            Tar::default()
                .pax(&[("mtime", b"1.5"), ("path", name.as_bytes())])
                .file("short", b"")
                .end(),
        ),
        (&ustar, prefixed),
    ] {
        assert_eq!(unpack(&tar).files.into_keys().collect::<Vec<_>>(), std::slice::from_ref(name));
    }
}

#[test]
fn headers_without_a_say_are_passed_over() {
    let tar = Tar::default()
        .entry("pax_global_header", b'g', &pax(&[("comment", b"0123456789")]))
        .pax(&[
            ("SCHILY.xattr.security.capability", b"\x01\0\n=\n2"),
            ("uid", b"5000000"),
            ("size", b"2"),
        ])
        .file("a", b"hi")
        .entry("././@LongLink", b'K', b"a long link's target\0")
        .file("b", b"")
        .end();
    assert_eq!(
        unpack(&tar).files,
        BTreeMap::from([("a".into(), b"hi".to_vec()), ("b".into(), Vec::new())])
    );
}

#[test]
fn a_zip64_unpacks() {
    let zip = Zip::of(["a", "b"].map(|name| ZipEntry::stored(name, b"hi")));
    let [start, end] = zip.end_with_record(10);
    assert_eq!(unpack(&[start, b"0123456789".to_vec(), end].concat()).result.unwrap().files, 2);
}

#[test]
fn roots_directories_and_the_oldest_kind_of_header_unpack() {
    let old = |header: &mut [u8]| header[257..265].fill(0);
    let tar = Tar::default()
        .entry("./", b'5', b"")
        .entry("./a/", b'5', b"")
        .entry("./a/", b'5', b"")
        .header_with("a/old/", 0, b"00000000000\0", old)
        .header_with("a/old/file", 0, b"         2 \0", old)
        .contents(b"hi")
        .end();
    let outcome = unpack(&tar);
    assert_eq!(outcome.result.unwrap(), Unpacked { files: 1, bytes: 2 });
    assert_eq!(outcome.files.into_keys().collect::<Vec<_>>(), ["a/old/file"]);
}

#[test]
fn modes_owners_and_set_user_id_bits_are_dropped() {
    // Every header made here says 6777; a site accepts nothing but 644 and 755.
    let tar = Tar::default().entry("d", b'5', b"").file("d/f", b"").end();
    unpack(&tar).result.unwrap();
    let setuid = ZipEntry { attributes: 0o106_777 << 16, ..ZipEntry::stored("d/f", b"") };
    let directory = ZipEntry { attributes: 0o047_777 << 16, ..ZipEntry::stored("d/", b"") };
    unpack(&Zip::of([directory, setuid]).end()).result.unwrap();
}

#[test]
fn what_is_below_a_directory_of_an_image_is_kept_without_it() {
    let first = Tar::default()
        .entry("bin/sh", b'2', b"")
        .entry("dev/null", b'3', b"")
        .file(b"usr/not\xffutf8", b"12345")
        .file("modelsmith", b"x")
        .file("../etc/passwd", b"x")
        .entry("models/", b'5', b"")
        .file("models/config.json", b"{}")
        .end();
    let second = Tar::default()
        .entry("./models", b'5', b"")
        .entry("./models/1", b'5', b"")
        .file("./models/1/w", b"w")
        .end();
    let third = Tar::default()
        .file("/models/1/x", b"x")
        .file("models", b"")
        .file("usr/models/y", b"")
        .end();
    let none = Tar::default().end();
    let mut layers = vec![gz(&first), zst(&second), none];
    let outcome = unpack_layers(&layers, &below("models"));
    assert_eq!(outcome.result.unwrap(), Unpacked { files: 2, bytes: 3 });
    assert_eq!(outcome.files.into_keys().collect::<Vec<_>>(), ["1/w", "config.json"]);
    layers.push(third);
    let outcome = unpack_layers(&layers, &below("models"));
    assert_eq!(outcome.files.get("1/x").unwrap(), b"x");
    outcome.refused("entry `models` is a file without a name");
}

#[test]
fn progress_adds_up_and_can_stop_it() {
    let archive = gz(&tar_of(&model()));
    let file = on_disk(&archive);
    let (site, mut seen) = (Site::new(), 0);
    let mut add = |bytes| {
        seen += bytes;
        ControlFlow::Continue(())
    };
    let unpacked = unpack_file(&file, Format::TarGz, &site.target(), MANY, &mut add).unwrap();
    assert_eq!(unpacked.bytes, seen);
    let site = Site::new();
    let mut stop =
        |bytes| if bytes > 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    let error = unpack_file(&file, Format::TarGz, &site.target(), MANY, &mut stop).unwrap_err();
    assert!(matches!(error, Error::Stopped) && error.is_trouble());
}
