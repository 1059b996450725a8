//! Attacks by tars.

use super::*;

#[test]
fn nothing_but_files_and_directories_is_unpacked() {
    for (kind, words) in [
        (b'1', "`x` is a hard link; pack the file"),
        (b'2', "`x` is a symbolic link; pack the file"),
        (b'3', "`x` is a device"),
        (b'4', "`x` is a device"),
        (b'6', "`x` is a named pipe"),
        (b'7', "`x` is neither a file nor a directory"),
        (b'S', "`x` is a sparse file; pack it again without --sparse"),
        (b'D', "neither"),
        (b'M', "neither"),
        (b'V', "neither"),
        (b'Z', "neither"),
        (0xff, "neither"),
    ] {
        for tar in [Tar::default(), Tar::default().file("before", b"")] {
            unpack(&tar.entry("x", kind, b"").end()).refused(words);
        }
        // A link that stays inside is one as well, and so is one that stands for the directory that
        // is kept.
        unpack_layers(&[Tar::default().entry("models/x", kind, b"").end()], &below("models"))
            .refused(words.trim_start_matches("`x`"));
        unpack_layers(&[Tar::default().entry("models", kind, b"").end()], &below("models"))
            .refused("`models` is");
    }
}

#[test]
fn no_file_is_written_through_a_link_that_was_unpacked_before() {
    for kind in [b'1', b'2'] {
        let tar = Tar::default().entry("d", kind, b"").file("d/f", b"owned").end();
        unpack(&tar).refused("link");
    }
}

#[test]
fn names_that_are_no_plain_relative_paths_are_refused() {
    for (name, words) in [
        ("../sentinel", "`../sentinel` cannot be used: it has a component `.` or `..`"),
        ("a/../../sentinel", ".."),
        ("..", ".."),
        ("/etc/passwd", "absolute"),
        ("//etc/passwd", "absolute"),
        ("./../sentinel", ".."),
        ("a//b", "empty component"),
        ("a\nb", "`a\\nb`"),
        ("a\x1b[2Jb", "control"),
        ("a\\..\\b", "backslash"),
        ("", "empty"),
    ] {
        unpack(&Tar::default().file(name, b"x").end()).refused(words);
        unpack(&Tar::default().entry(name, b'5', b"").end()).refused(words);
        unpack(&Tar::default().long_name(name.as_bytes()).file("x", b"x").end()).refused(words);
        unpack(&Tar::default().pax(&[("path", name.as_bytes())]).file("x", b"x").end())
            .refused(words);
    }
    unpack(&Tar::default().file(b"a\xff", b"").end())
        .refused("`a\\xff` cannot be used: it is not UTF-8");
    unpack(&Tar::default().long_name(b"a\0b\0").file("x", b"").end()).refused("control");
    unpack(
        &Tar::default()
            .header_with("b", b'0', b"00000000000\0", |header| header[345..347].fill(b'.'))
            .end(),
    )
    .refused("..");
    unpack(&Tar::default().file(".wh.config.json", b"").end()).refused("deletes a file");
    unpack(&Tar::default().file("a/.wh..wh..opq", b"").end()).refused("deletes a file");
}

#[test]
fn two_entries_never_make_one_file() {
    for (first, second, words) in [
        ("a", "a", "`a` is there twice"),
        ("a", "./a", "`a` is there twice"),
        ("Model.bin", "model.bin", "upper and lower case"),
        ("é", "e\u{301}", "`e\\u{301}` differs from another only"),
        ("D/a", "d/b", "`d` differs"),
        ("a", "a/b", "`a` is that of a file and of a directory"),
        ("a/b", "a", "`a` is that of a file and of a directory"),
    ] {
        unpack(&Tar::default().file(first, b"1").file(second, b"2").end()).refused(words);
        let layers =
            [Tar::default().file(first, b"1").end(), Tar::default().file(second, b"2").end()];
        unpack_layers(&layers, &Keep::All).refused(words);
    }
    unpack(&Tar::default().file("a", b"1").entry("a", b'5', b"").end())
        .refused("of a file and of a directory");
}

#[test]
fn sizes_that_can_be_read_in_two_ways_are_refused() {
    let negative = [0xff; 12];
    let huge = [0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff];
    let beyond = [0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2];
    for size in
        [&negative[..], &huge, &beyond, b"-0000000001\0", b"0000000000x\0", b"\0", b"00000000009\0"]
    {
        unpack(&Tar::default().header("a", b'0', size).contents(b"hi").end())
            .refused("a size that is no number, or out of range");
        unpack(&Tar::default().header("a", b'x', size).contents(b"hi").end()).refused("size");
        unpack(&Tar::default().header("a", b'L', size).contents(b"hi").end()).refused("size");
    }
    // Contents of one reader are headers to another.
    let smuggled = Tar::default().file("smuggled", b"").0;
    let size = smuggled.len().to_string();
    let tar = Tar::default()
        .pax(&[("size", size.as_bytes())])
        .header("a", b'0', b"00000000000\0")
        .contents(&smuggled)
        .end();
    unpack(&tar).refused("at entry `a`: two different sizes");
    unpack(&Tar::default().pax(&[("size", b"0")]).file("a", &smuggled).end())
        .refused("two different sizes");
    for size in ["-1", "+2", "0x2", "2 ", "", "9223372036854775808", "99999999999999999999999"] {
        unpack(&Tar::default().pax(&[("size", size.as_bytes())]).file("a", b"hi").end())
            .refused("size that is no number");
    }
    // Beyond 8 GiB a plain header cannot tell; the limit can.
    let tar = Tar::default()
        .pax(&[("size", b"8589934592")])
        .header("a", b'0', b"00000000000\0")
        .contents(&[0; 4096])
        .0;
    unpack_within(&tar, Limits::bytes(2048)).refused("more than 2048 bytes");
    unpack(&tar).refused("cut short at entry `a`");
    for kind in *b"125" {
        unpack(&Tar::default().entry("a", kind, &smuggled).end())
            .refused("contents of what is not a file");
        unpack_layers(&[Tar::default().entry("a", kind, &smuggled).end()], &below("models"))
            .refused("contents of what is not a file");
    }
    unpack(&Tar::default().file("a/", b"hi").end()).refused("contents of what is not a file");
}

#[test]
fn extended_headers_that_contradict_each_other_are_refused() {
    let start = Tar::default;
    for (tar, words) in [
        (start().pax(&[("path", b"a"), ("path", b"b")]), "one thing twice"),
        (start().pax(&[("size", b"0"), ("size", b"0")]), "one thing twice"),
        (start().pax(&[("path", b"a")]).pax(&[("path", b"b")]), "two headers of one kind"),
        (start().long_name(b"a").long_name(b"b"), "two headers of one kind"),
        (start().long_name(b"a").pax(&[("path", b"b")]), "named in two headers"),
        (start().entry("g", b'g', &pax(&[("path", b"b")])), "global header"),
        (start().entry("g", b'g', &pax(&[("size", b"5")])), "global header"),
        (
            start().pax(&[("path", b"a")]).entry("g", b'g', b""),
            "extends an entry that does not follow",
        ),
        (start().pax(&[("GNU.sparse.major", b"1")]), "`x` is a sparse file"),
        (start().entry("p", b'x', b"5 a=b\n"), "damaged"),
        (start().entry("p", b'x', b"7 a=b\n"), "damaged"),
        (start().entry("p", b'x', b"6 a=bc"), "damaged"),
        (start().entry("p", b'x', b"4 ab\n"), "damaged"),
        (start().entry("p", b'x', b"0 a=b\n"), "damaged"),
        (start().entry("p", b'x', b"+6 a=b\n"), "damaged"),
        (start().entry("p", b'x', b"99999999999999999999 a=b\n"), "damaged"),
        (start().entry("p", b'x', b"\0\0"), "damaged"),
    ] {
        unpack(&tar.file("x", b"").end()).refused(words);
    }
    unpack(&start().file("a", b"").long_name(b"b").end())
        .refused("at the header after entry `a`: a header extends an entry that does not follow");
    unpack(&start().pax(&[("path", b"b")]).end()).refused("extends an entry that does not follow");
}

#[test]
fn an_extension_of_any_size_is_not_taken_into_memory() {
    for kind in *b"xgLK" {
        let tar = Tar::default().header("a", kind, b"77777777777\0").contents(&[b'a'; 4096]).end();
        unpack(&tar).refused("at its first header: an extension of more than 1048576 bytes");
    }
}

#[test]
fn a_tar_that_is_cut_short_anywhere_is_refused() {
    let mut tar = Tar::default()
        .long_name(b"config.json")
        .file("x", b"hi")
        .entry("d", b'5', b"")
        .file("d/w", &[7; 1000])
        .end();
    tar.truncate(tar.len() - 512);
    unpack(&tar).result.unwrap();
    for end in (512..tar.len()).step_by(128) {
        unpack(&tar[..end]).refused("cut short at");
    }
}

#[test]
fn what_follows_the_end_marker_must_be_zeros() {
    let good = Tar::default().file("a", b"").end();
    let padded = [good.clone(), vec![0; 9000]].concat();
    unpack(&padded).result.unwrap();
    let second = [good.clone(), Tar::default().file("b", b"").end()].concat();
    let garbage = [good.clone(), b"x".to_vec()].concat();
    for tar in [second, garbage] {
        for archive in [gz(&tar), zst(&tar), tar] {
            unpack(&archive).refused("follows the end marker");
        }
    }
    unpack(&[gz(&good), b"garbage".to_vec()].concat()).refused("its end");
    unpack(&[zst(&good), b"garbage".to_vec()].concat()).refused("its end");
    unpack(&[gz(&good), gz(&good)].concat()).refused("follows the end marker");
}

#[test]
fn what_is_no_tar_is_told_as_such() {
    let mut damaged = Tar::default().file("a", b"").file("b", b"").end();
    damaged[512 + 3] ^= 1;
    unpack(&damaged).refused("at the header after entry `a`: no header of a tar");
    for archive in [gz(b"GGUF"), zst(b"GGUF"), gz(b""), zst(b"")] {
        unpack(&archive).refused("cut short at its first header");
    }
    for archive in [gz(&[b'G'; 5000]), zst(&[b'G'; 5000])] {
        unpack(&archive).refused("at its first header: no header of a tar");
    }
    for bytes in [&b""[..], b"GGUF", b"PK", &[0; 511], &[b'G'; 5000], b"\xfd7zXZ\0", b"BZh9"] {
        unpack(bytes).refused("neither zip nor tar, nor compressed by gzip or zstd");
    }
    let zip = Zip::of([ZipEntry::stored("a", b"")]).end();
    unpack_layers(&[zip], &Keep::All).refused("layers are tar");
}

#[test]
fn an_archive_without_a_file_is_refused_and_such_a_layer_is_not() {
    let bare = Tar::default().end();
    let directories = Tar::default().entry("./", b'5', b"").entry("d", b'5', b"").end();
    for tar in [bare, directories] {
        for archive in [gz(&tar), zst(&tar), tar] {
            unpack(&archive).refused("there is no file in it");
            assert_eq!(
                unpack_layers(&[archive], &Keep::All).result.unwrap(),
                Unpacked { files: 0, bytes: 0 }
            );
        }
    }
}
