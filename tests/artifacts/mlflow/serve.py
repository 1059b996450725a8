"""`mlflow server`, whose own processes end when it does, however it does: it starts a uvicorn, which would outlive it."""

import ctypes
import signal
import subprocess

PR_SET_PDEATHSIG = 1
libc = ctypes.CDLL(None)


class Popen(subprocess.Popen):
    def __init__(self, *args, **kwargs):
        kwargs.setdefault("preexec_fn", lambda: libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL))
        super().__init__(*args, **kwargs)


subprocess.Popen = Popen

from mlflow.cli import cli  # noqa: E402

cli()
