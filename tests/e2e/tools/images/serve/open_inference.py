"""MLServer on the model that Rollmodel brought: its name, version and place come from the variables of the container."""

import logging
import os
import sys
import traceback


class LastWords(logging.Handler):
    """MLServer logs why a model cannot be loaded and ends with 0: here it is what the container says at its end, and it ends with 1."""

    said = None

    def emit(self, record):
        if record.exc_info and record.exc_info[1]:
            LastWords.said = "".join(traceback.format_exception_only(record.exc_info[1])).strip()


def main():
    of = os.environ
    of.update(
        MLSERVER_MODEL_NAME=of["MODEL_NAME"],
        MLSERVER_MODEL_VERSION=of["MODEL_VERSION"],
        MLSERVER_MODEL_URI=of["MODEL_DIR"],
        MLSERVER_MODEL_IMPLEMENTATION="mlserver_mlflow.MLflowRuntime",
        MLSERVER_MODEL_CONTENT_TYPE="np",
        MLSERVER_PARALLEL_WORKERS="0",
    )
    from mlserver.cli.main import root

    logging.getLogger("mlserver").addHandler(LastWords())
    root(["start", "/tmp"], standalone_mode=False)
    if LastWords.said:
        with open(of.get("TERMINATION_LOG", "/dev/termination-log"), "w") as log:
            log.write(LastWords.said)
        sys.exit(1)


if __name__ == "__main__":
    main()
