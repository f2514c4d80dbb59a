"""`python -m gradwire`, and so `torchrun -m gradwire`: the command line."""

import os
import sys

from gradwire.cli import main


def run() -> None:
    """The command line; a worker that torchrun started leaves at once when it is done.

    Now and then a thread of gloo's outlives its group, and the interpreter's ordinary end then aborts the process:
    torchrun would end the other workers before they have written what came of the run.
    """
    try:
        main()
        status = 0
    except SystemExit as stop:
        if not _worker():
            raise
        status = stop.code if isinstance(stop.code, int) else 1
    if _worker():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _worker() -> bool:
    """Whether this process is one of torchrun's, and may have a thread of gloo's."""
    if "torch" not in sys.modules:
        return False
    from gradwire.wire.rendezvous import launched

    return launched()


if __name__ == "__main__":
    run()
