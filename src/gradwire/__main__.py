"""`python -m gradwire`, and so `torchrun -m gradwire`: the command line."""

import os
import sys

from gradwire.cli import main
from gradwire.wire.rendezvous import launched


def run() -> None:
    """The command line; a worker that torchrun started leaves at once when it is done.

    Now and then a thread of gloo's outlives its group, and the interpreter's ordinary end then aborts the process:
    torchrun would end the other workers before they have written what came of the run.
    """
    try:
        main()
        status = 0
    except SystemExit as stop:
        if not launched():
            raise
        status = stop.code if isinstance(stop.code, int) else 1
    if launched():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    run()
