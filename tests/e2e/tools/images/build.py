"""Container images without a container engine: tar files as `docker save` writes them, which `ctr images import` takes.

    build.py servers PAUSE DIRECTORY     pause.tar and serving.tar: MLServer, and MLflow's scoring server on the same layers
    build.py programs DIRECTORY PROGRAM… rollmodel.tar: programs of this tree, at the top of a root that holds only their libraries

The servers' image is made of the interpreter that runs this and of the packages it sees: a venv.
"""

import hashlib
import io
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

# On the loader's path, without a cache of it, on every machine.
LIBRARIES = "usr/lib"
PYTHON = f"python{sys.version_info[0]}.{sys.version_info[1]}"
# Tests of the packages, and parts of the interpreter that no server uses: a third of the files.
LEFT_OUT = {"tests", "test", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3", "pip", "config-3.11-x86_64-linux-gnu"}


class Layer:
    """One layer, written as it grows."""

    def __init__(self, directory, name):
        self.path = directory / f".{name}.tar"
        self.tar = tarfile.open(self.path, "w", format=tarfile.GNU_FORMAT)
        self.seen = set()

    def entry(self, name, kind, mode, data=b"", link="", mtime=0):
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.size, info.linkname, info.mtime = kind, mode, len(data), link, mtime
        self.tar.addfile(info, io.BytesIO(data) if data else None)
        self.seen.add(name)

    def folder(self, name, mode=0o755):
        if name not in self.seen and name not in ("", "."):
            self.folder(os.path.dirname(name))
            self.entry(name, tarfile.DIRTYPE, mode)

    def text(self, name, text):
        self.folder(os.path.dirname(name))
        self.entry(name, tarfile.REGTYPE, 0o644, text.encode())

    def file(self, name, path):
        """A file as it is: its time too, by which Python knows whether what it compiled is of it."""
        if name not in self.seen:
            self.folder(os.path.dirname(name))
            path = Path(path).resolve()
            mode = 0o755 if os.access(path, os.X_OK) else 0o644
            self.entry(name, tarfile.REGTYPE, mode, path.read_bytes(), mtime=int(path.stat().st_mtime))

    def tree(self, name, top):
        """A directory with all below it; gives the shared objects in it."""
        objects = []
        for at, folders, files in os.walk(top):
            folders[:] = sorted(f for f in folders if f not in LEFT_OUT and not f.startswith("config-"))
            if Path(at) == top and name.startswith("usr/local/lib/python") and not name.endswith("site-packages"):
                folders[:] = [f for f in folders if f != "site-packages"]
            for file in sorted(files):
                path = Path(at, file)
                if path.is_file() and not file.endswith(".a"):
                    self.file(os.path.join(name, path.relative_to(top).as_posix()), path)
                    objects += [path] if ".so" in file else []
        return objects

    def libraries(self, programs):
        """What the loader finds for programs outside of the trees they are in, and the loader."""
        bundled = str(Path(sysconfig.get_paths()["purelib"]).resolve())
        for at in range(0, len(programs), 200):
            said = subprocess.run(["ldd", *programs[at : at + 200]], capture_output=True, text=True, check=False).stdout
            for path in set(re.findall(r"=> (/\S+) \(", said)):
                if not os.path.realpath(path).startswith(bundled):
                    self.file(f"{LIBRARIES}/{os.path.basename(path)}", path)
            for path in set(re.findall(r"^\s+(/\S+ld-linux\S+) \(", said, re.MULTILINE)):
                self.file(path.lstrip("/"), path)

    def close(self):
        self.tar.close()
        digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
        self.path = self.path.rename(self.path.with_name(f".{digest}"))
        return digest, self.path


def save(to, images):
    """Writes images, each a name, a configuration and closed layers, into one file, which appears whole."""
    part, manifest, written = to.with_name(f".{to.name}"), [], set()
    with tarfile.open(part, "w") as tar:

        def add(name, data):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))

        for name, configuration, layers in images:
            diff_ids = [f"sha256:{digest}" for digest, _ in layers]
            whole = {"architecture": "amd64", "os": "linux", "config": configuration, "rootfs": {"type": "layers", "diff_ids": diff_ids}}
            text = json.dumps(whole, sort_keys=True).encode()
            config = hashlib.sha256(text).hexdigest() + ".json"
            add(config, text)
            for digest, path in layers:
                if digest not in written:
                    tar.add(path, f"{digest}/layer.tar")
                    written.add(digest)
            manifest.append({"Config": config, "RepoTags": [name], "Layers": [f"{digest}/layer.tar" for digest, _ in layers]})
        add("manifest.json", json.dumps(manifest).encode())
    part.rename(to)
    for _, _, layers in images:
        for _, path in layers:
            path.unlink(missing_ok=True)


def root(layer):
    """What every root has: users, and a directory to write to."""
    layer.text("etc/passwd", "root:x:0:0::/:/none\nserver:x:1000:1000::/tmp:/none\n")
    layer.text("etc/group", "root:x:0:\nserver:x:1000:\n")
    layer.folder("tmp", 0o1777)


def servers(pause, directory):
    layer = Layer(directory, "pause")
    layer.file("pause", pause)
    save(directory / "pause.tar", [("localhost/pause:1", {"Entrypoint": ["/pause"], "User": "65535:65535"}, [layer.close()])])

    interpreter, packages, ours = (Layer(directory, name) for name in ("interpreter", "packages", "ours"))
    root(interpreter)
    executable = Path(os.path.realpath(sys.executable))
    interpreter.file(f"usr/local/bin/{PYTHON}", executable)
    interpreter.entry("usr/local/bin/python3", tarfile.SYMTYPE, 0o777, link=PYTHON)
    objects = interpreter.tree(f"usr/local/lib/{PYTHON}", Path(sysconfig.get_paths()["stdlib"]))
    interpreter.libraries([executable, *objects])
    objects = packages.tree(f"usr/local/lib/{PYTHON}/site-packages", Path(sysconfig.get_paths()["purelib"]))
    packages.libraries(objects)
    here = Path(__file__).parent
    for name in ("open_inference.py", "scoring.py"):
        ours.file(f"serve/{name}", here / "serve" / name)
    layers = [layer.close() for layer in (interpreter, packages, ours)]

    def configuration(name):
        environment = ["PATH=/usr/local/bin", "HOME=/tmp", "PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1"]
        return {"Entrypoint": [f"/usr/local/bin/{PYTHON}", f"/serve/{name}"], "WorkingDir": "/tmp", "User": "1000:1000", "Env": environment}

    images = [("localhost/mlserver:1", configuration("open_inference.py"), layers), ("localhost/mlflow:1", configuration("scoring.py"), layers)]
    save(directory / "serving.tar", images)


def programs(directory, paths):
    layer = Layer(directory, "programs")
    root(layer)
    for path in paths:
        layer.file(path.name, path)
    layer.libraries(paths)
    save(directory / "rollmodel.tar", [("localhost/rollmodel:1", {"Entrypoint": ["/rollmodel"], "User": "65532:65532"}, [layer.close()])])


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["servers", pause, directory]:
            servers(Path(pause), Path(directory))
        case ["programs", directory, *paths] if paths:
            programs(Path(directory), [Path(path) for path in paths])
        case _:
            sys.exit(__doc__)
