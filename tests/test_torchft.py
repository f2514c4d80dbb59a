"""The example of members under a quorum of torchft's, where it is installed."""

import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.slow


class Member:
    """A worker of the example, and what it has printed."""

    def __init__(self, name: str, lighthouse: str):
        command = [sys.executable, "examples/torchft/members.py", name, lighthouse]
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        self.lines = []

    def until(self, pattern: str) -> str:
        """The next line that matches; the test fails where the worker ends before it."""
        for line in self.process.stdout:
            self.lines.append(line)
            if re.search(pattern, line):
                return line
        raise AssertionError(f"ended without {pattern!r}: {''.join(self.lines[-5:])}")


@pytest.fixture
def lighthouse():
    coordination = pytest.importorskip("torchft.coordination")
    server = coordination.LighthouseServer(
        bind="[::]:0", min_replicas=1, join_timeout_ms=500, heartbeat_timeout_ms=2000
    )
    yield server.address()
    server.shutdown()


def test_members_come_are_killed_and_come_again(lighthouse):
    members = [Member("ann", lighthouse)]
    watch = threading.Timer(120, lambda: [each.process.kill() for each in members])
    watch.start()
    try:
        members[0].until("^round 3 of 1 members")
        for _ in range(2):
            members.append(Member("bob", lighthouse))
            members[0].until("of 2 members")
            number = int(re.search(r"round (\d+)", members[-1].until("of 2 members"))[1])
            assert number > 3  # it has taken over what the others have in common
            members[-1].process.kill()
            members[-1].process.wait()
            members[0].until("of 1 members")
    finally:
        watch.cancel()
        for each in members:
            each.process.kill()
            each.process.wait()
    lost = [line for line in members[0].lines if line.startswith("lost contact")]
    assert all(re.match(r"lost contact with rank \d, which has ended, during ", line) for line in lost)
