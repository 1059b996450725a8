//! Bytes at random: nothing panics, and nothing is written but files below the directory, which
//! every `unpack` here looks at.

use proptest::{collection::vec, prelude::*};

use super::*;

const SMALL: Limits = Limits { bytes: 1 << 20, entries: 100, zstd_window_log: 23 };

/// One archive of each format, of a few kilobytes.
fn archives() -> Vec<Vec<u8>> {
    let tar = Tar::default()
        .entry("./", b'5', b"")
        .file("config.json", b"{}")
        .long_name(b"a/long/name\0")
        .file("x", &[7; 700])
        .pax(&[("path", "é/☃".as_bytes()), ("size", b"3")])
        .file("y", b"abc")
        .end();
    let zip = Zip::of([
        ZipEntry::stored("config.json", b"{}"),
        ZipEntry::stored("d/", b""),
        ZipEntry::deflated("d/w", &[7; 700]),
    ]);
    vec![gz(&tar), zst(&tar), tar, zip.end()]
}

fn try_all(bytes: &[u8]) {
    let outcome = unpack_within(bytes, SMALL);
    if outcome.result.is_err() {
        outcome.refusal();
    }
    unpack_layers(&[bytes.to_vec()], &below("d"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..3000), magic in 0..5_usize) {
        let magics: [&[u8]; 5] = [b"", &[0x1f, 0x8b, 8, 0], &[0x28, 0xb5, 0x2f, 0xfd], b"PK\x03\x04", b"PK\x05\x06"];
        try_all(&[magics[magic], &bytes].concat());
    }

    #[test]
    fn any_changed_archive_does_no_harm(which in 0..4_usize, changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut archive = archives().swap_remove(which);
        for (at, byte) in changes {
            let at = at.index(archive.len());
            archive[at] = byte;
        }
        try_all(&archive);
    }

    #[test]
    fn any_change_behind_the_checksums_does_no_harm(which in 0..2_usize, changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut tar = archives().swap_remove(2);
        for (at, byte) in changes {
            let at = at.index(tar.len());
            tar[at] = byte;
        }
        // Headers' checksums made right again, wherever a header may be.
        for block in tar.chunks_exact_mut(512) {
            if &block[257..262] == b"ustar" {
                block[148..156].fill(b' ');
                let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        try_all(&[gz, zst][which](&tar));
    }

    #[test]
    fn any_name_in_a_sound_archive_stays_inside(name in "[./a\\\\\u{e9}\n\u{0}A]{0,12}", kind in any::<u8>()) {
        try_all(&Tar::default().entry(&name, kind, b"").file("a", b"x").end());
        try_all(&Tar::default().pax(&[("path", name.as_bytes())]).entry("x", kind, b"").end());
        try_all(&Zip::of([ZipEntry { attributes: u32::from(kind) << 24, ..ZipEntry::stored(&name, b"x") }, ZipEntry::stored("a", b"x")]).end());
    }
}
