//! Attacks by zips.

use std::io::{Seek as _, SeekFrom};

use super::*;

#[test]
fn nothing_but_files_and_directories_is_unpacked() {
    for (mode, words) in [
        (0o120_777, "`x` is a symbolic link; pack the file"),
        (0o010_644, "neither a file nor a directory"),
        (0o020_644, "neither a file nor a directory"),
        (0o060_644, "neither a file nor a directory"),
        (0o140_644, "neither a file nor a directory"),
        (0o040_755, "a name that says file where the mode says directory"),
    ] {
        let entry = ZipEntry { attributes: mode << 16, ..ZipEntry::stored("x", b"/etc/passwd") };
        let mut zip = Zip::of([entry]);
        unpack(&zip.clone().end()).refused(words);
        // Made on Windows, it says: to some readers the mode does not count then.
        zip.directory[5] = 0;
        unpack(&zip.end()).refused(words);
    }
    let entry = ZipEntry { attributes: 0o100_644 << 16, ..ZipEntry::stored("x/", b"") };
    unpack(&Zip::of([entry]).end()).refused("a name that says file where the mode says directory");
    unpack(&Zip::of([ZipEntry::stored("x/", b"hi")]).end()).refused("contents of a directory");
}

#[test]
fn names_that_are_no_plain_relative_paths_are_refused() {
    for (name, words) in [
        (&b"../sentinel"[..], "`../sentinel` cannot be used"),
        (b"a/../../sentinel", ".."),
        (b"/etc/passwd", "absolute"),
        (b"..\\sentinel", "backslash"),
        (b"C:\\x", "backslash"),
        (b"a\nb", "`a\\nb`"),
        (b"a\0b", "control"),
        (b"a\xff", "not UTF-8"),
        (b"", "empty"),
        (b"./.", "a file without a name"),
    ] {
        unpack(&Zip::of([ZipEntry::stored(name, b"x")]).end()).refused(words);
    }
}

#[test]
fn two_entries_never_make_one_file() {
    for (first, second, words) in [
        ("a", "a", "`a` is there twice"),
        ("a", "./a", "`a` is there twice"),
        ("Model.bin", "model.bin", "upper and lower case"),
        ("é", "e\u{301}", "upper and lower case"),
        ("a", "a/b", "of a file and of a directory"),
        ("a/b", "a", "of a file and of a directory"),
        ("a", "a/", "of a file and of a directory"),
    ] {
        unpack(&Zip::of([ZipEntry::stored(first, b""), ZipEntry::stored(second, b"")]).end())
            .refused(words);
    }
}

#[test]
fn two_headers_that_disagree_are_refused() {
    let good = ZipEntry::deflated("a", &[7; 5000]);
    unpack(&Zip::of([good.clone()]).end()).result.unwrap();
    for entry in [
        ZipEntry { local_name: b"b".to_vec(), ..good.clone() },
        ZipEntry { local_name: b"../b".to_vec(), ..good.clone() },
        ZipEntry { name: b"../b".to_vec(), ..good.clone() },
    ] {
        unpack(&Zip::of([entry]).end()).refused("mismatch");
    }
    // Offsets in the central header of: flags, method, checksum, both sizes.
    for field in [8, 10, 16, 20, 24] {
        let mut zip = Zip::of([good.clone()]);
        zip.directory[field] ^= 1;
        unpack(&zip.end()).refusal();
    }
}

#[test]
fn headers_that_lie_about_the_contents_are_refused() {
    let good = ZipEntry::deflated("a", &[7; 5000]);
    for (entry, words) in [
        (
            ZipEntry { size: 4999, ..good.clone() },
            "at entry `a`: more contents than the headers say",
        ),
        (ZipEntry { size: 0, ..good.clone() }, "more contents than the headers say"),
        (ZipEntry { size: 5001, ..good.clone() }, "cut short at entry `a`"),
        (ZipEntry { size: u32::MAX - 1, ..good.clone() }, "cut short at entry `a`"),
        (
            ZipEntry { crc: 1, ..good.clone() },
            "at entry `a`: contents that do not match their checksum",
        ),
        (ZipEntry { data: good.data[..5].to_vec(), ..good.clone() }, "`a`"),
        (ZipEntry { method: 0, ..good.clone() }, "cut short"),
        (ZipEntry { method: 93, ..good.clone() }, "`a`"),
        (ZipEntry { method: 9, ..good.clone() }, "compressed with the method"),
        (ZipEntry { method: 12, ..good.clone() }, "compressed with the method"),
        (ZipEntry { method: 14, ..good.clone() }, "compressed with the method"),
        (ZipEntry { method: 99, ..good.clone() }, "compressed with the method"),
        (ZipEntry { flags: 1, ..good.clone() }, "`a` is encrypted"),
    ] {
        unpack(&Zip::of([entry]).end()).refused(words);
    }
}

#[test]
fn entries_that_share_bytes_are_refused() {
    let kernel = ZipEntry::deflated("a", &vec![0; 1_000_000]);
    // The same header, by its own name and by another.
    for name in ["a", "b"] {
        let again = ZipEntry { name: name.into(), offset: Some(0), ..kernel.clone() };
        unpack(&Zip::of([kernel.clone(), again]).end()).refusal();
    }
    // One file holds another's header and contents as its own contents: 42.zip's successor of 2019.
    // In either order.
    let inner = Zip::of([ZipEntry::stored("b", &[7; 1000])]);
    let outer = ZipEntry::stored("a", &inner.body);
    let body = Zip::of([outer.clone()]).body;
    let entries = [
        ZipEntry { offset: Some(0), ..outer },
        ZipEntry { offset: Some(31), ..ZipEntry::stored("b", &[7; 1000]) },
    ];
    for [first, second] in [[0, 1], [1, 0]] {
        let zip = Zip { body: body.clone(), ..Zip::default() }.with(entries[first].clone());
        unpack(&zip.clone().end()).result.unwrap();
        unpack(&zip.with(entries[second].clone()).end())
            .refused("contents that belong to another entry as well");
    }
    // Contents that are the directory.
    let mut zip = Zip::of([ZipEntry::stored("a", b"")]);
    let length = u32::try_from(zip.directory.len()).unwrap();
    for (header, size, compressed) in [(&mut zip.body, 22, 18), (&mut zip.directory, 24, 20)] {
        header[size..size + 4].copy_from_slice(&length.to_le_bytes());
        header[compressed..compressed + 4].copy_from_slice(&length.to_le_bytes());
    }
    unpack(&zip.end()).refused("reach into the directory");
}

#[test]
fn a_directory_that_counts_wrong_is_refused() {
    let zip = Zip::of(["a", "b", "c"].map(|name| ZipEntry::stored(name, b"")));
    unpack(&zip.clone().end()).result.unwrap();
    for (count, words) in [
        (0, "no file in it"),
        (1, "more entries than it counts"),
        (2, "more entries than it counts"),
    ] {
        unpack(&Zip { count, ..zip.clone() }.end()).refused(words);
    }
    for count in [4, 5, 65_534] {
        unpack(&Zip { count, ..zip.clone() }.end()).refusal();
    }
}

#[test]
fn an_end_record_of_any_size_is_not_taken_into_memory() {
    let zip = Zip::of(["a", "b"].map(|name| ZipEntry::stored(name, b"")));
    // A sparse file: more than any machine has memory, and less than file systems take.
    let length = 1_u64 << 42;
    let [start, end] = zip.end_with_record(length);
    let mut file = on_disk(&start);
    file.set_len(start.len() as u64 + length).unwrap();
    file.seek(SeekFrom::End(0)).unwrap();
    file.write_all(&end).unwrap();
    let site = Site::new();
    let error = unpack_file(&file, Format::Zip, &site.target(), MANY, &mut go_on).unwrap_err();
    assert!(
        error.to_string().contains("at its directory: an end record that is too large"),
        "{error}"
    );
}

#[test]
fn a_zip_that_is_cut_short_anywhere_is_refused() {
    let zip =
        Zip::of([ZipEntry::deflated("a", &[7; 500]), ZipEntry::stored("d/b", b"hello")]).end();
    unpack(&zip).result.unwrap();
    for end in 4..zip.len() {
        unpack(&zip[..end]).refusal();
    }
    unpack(&[b"#!/bin/sh\n".to_vec(), zip.clone()].concat()).refused("neither zip nor tar");
    unpack(&[b"PK\x03\x04 before".to_vec(), zip].concat()).refusal();
}

#[test]
fn a_zip_without_a_file_is_refused() {
    unpack(&Zip::default().end()).refused("there is no file in it");
    unpack(&Zip::of([ZipEntry::stored("d/", b"")]).end()).refused("there is no file in it");
}
