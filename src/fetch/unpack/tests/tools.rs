//! Archives by the tools that people use.

use std::process::Command;

use super::*;

/// The model packed by a command, which is run in its directory. None where the tool is not
/// installed.
fn packed(command: &str) -> Option<Vec<u8>> {
    let site = tempfile::tempdir().unwrap();
    let model = site.path().join("model");
    for (name, contents) in self::model() {
        let path = model.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }
    fs::set_permissions(model.join("config.json"), fs::Permissions::from_mode(0o4755)).unwrap();
    let out = site.path().join("out");
    let ran = Command::new("sh")
        .args(["-ec", command])
        .env("LC_ALL", "C.UTF-8")
        .env("out", &out)
        .current_dir(&model)
        .output()
        .unwrap();
    let missing = ran.status.code() == Some(127);
    assert!(ran.status.success() || missing, "{command}: {}", String::from_utf8_lossy(&ran.stderr));
    (!missing).then(|| fs::read(out).unwrap())
}

#[test]
fn what_common_tools_pack_unpacks_byte_for_byte() {
    for command in [
        "tar -cf $out .",
        "tar -cf $out *",
        "tar -czf $out .",
        "tar --format=v7 -cf $out *",
        "tar --format=ustar -cf $out *",
        "tar --format=posix -cf $out *",
        "tar --format=posix --xattrs --sort=name -cf $out *",
        "tar -c * | zstd > $out",
        "tar -c * | zstd -19 > $out",
        "tar -c * | gzip -9 > $out; printf ''",
        "zip -qr - . > $out",
        "zip -qr $out.zip . && mv $out.zip $out",
        "zip -q0r $out.zip * && mv $out.zip $out",
        "zip -qr -fz $out.zip * && mv $out.zip $out",
        "python3 -m tarfile -c $out *",
        "python3 -m zipfile -c $out *",
        "python3 -c 'import os,shutil; shutil.make_archive(os.environ[\"out\"], \"zip\", \".\")' && mv $out.zip $out",
    ] {
        let Some(archive) = packed(command) else { continue };
        let outcome = unpack(&archive);
        assert!(outcome.result.is_ok(), "{command}: {}", outcome.result.unwrap_err());
        assert!(outcome.files == model(), "{command}");
    }
}

#[test]
fn what_common_tools_pack_with_links_is_refused() {
    for (command, words) in [
        ("ln -s /etc/passwd 0 && tar -cf $out *", "`0` is a symbolic link"),
        ("ln -s config.json 0 && tar -cf $out *", "`0` is a symbolic link"),
        (
            "ln -s .. 0 && zip -qr --symlinks $out.zip * && mv $out.zip $out",
            "`0` is a symbolic link",
        ),
        ("ln config.json z && tar -cf $out *", "`z` is a hard link"),
        ("mkfifo 0 && tar -cf $out *", "`0` is a named pipe"),
        ("truncate -s 1M 0 && echo x >> 0 && tar --sparse -cf $out *", "`0` is a sparse file"),
        (
            "truncate -s 1M 0 && echo x >> 0 && tar --sparse --format=posix -cf $out *",
            "is a sparse file",
        ),
        ("tar -P -cf $out $PWD", "absolute"),
        ("cd 1 && tar -P -cf $out ../config.json", "`../config.json` cannot be used"),
        ("zip -qr -P password $out.zip * && mv $out.zip $out", "is encrypted"),
    ] {
        let Some(archive) = packed(command) else { continue };
        unpack(&archive).refused(words);
    }
    let followed = packed(
        "ln -s config.json 0 && ln config.json z && tar --dereference --hard-dereference -cf $out *",
    );
    let outcome = unpack(&followed.unwrap());
    assert_eq!(outcome.result.unwrap().files, 7);
}
