"""Scripts for Pythons that have other people's packages, and how they are run. They do without gradwire's own."""

import os
import subprocess
from pathlib import Path

from gradwire.errors import GradwireError

SCRIPTS = Path(__file__).parent


def run(option: str, python: str, *arguments: str, limit: float | None = None) -> str:
    """Runs another Python, in an environment that does not lead it to this one's packages; returns what it prints.

    Args:
        option: the command line's option that named the Python.

    Raises:
        GradwireError: it cannot be run, takes longer than `limit` seconds, or fails, with the last line that it says.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment["PYTHONPATH"] = str(SCRIPTS)  # for the processes that a script starts
    command = [python, *arguments]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=limit)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise GradwireError(f"{option} {python} cannot be run: {error}") from None
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["it gives no reason"])[-1]
        raise GradwireError(f"{option} {python} fails: {last}")
    return ended.stdout
