"""A real link of a chosen speed on one machine: two network namespaces, a veth pair between them, shaped by tc."""

import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from gradwire.errors import GradwireError

DEVICE = "gradwire0"


class LinkRefused(GradwireError):
    """This machine makes no shaped links: which command was refused, and in which words."""


@dataclass(frozen=True)
class Link:
    """A link between two namespaces, `ends`, whose devices have the `addresses`."""

    ends: tuple[str, str]
    addresses: tuple[str, str] = ("10.213.0.1", "10.213.0.2")

    def limit(self, rate: float) -> None:
        """Lets `rate` bits a second pass each way.

        Raises:
            LinkRefused: by the kernel.
        """
        for end in self.ends:
            shape = ("tbf", "rate", f"{rate:.0f}bit", "burst", str(burst(rate)), "latency", "50ms")
            _run("tc", "-n", end, "qdisc", "replace", "dev", DEVICE, "root", *shape)

    def start(self, end: int, command: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[str]:
        """Runs a command at one end, with these variables beside those of this process."""
        inside, both = ["ip", "netns", "exec", self.ends[end], *command], {**os.environ, **environment}
        return subprocess.Popen(inside, env=both, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@contextmanager
def link() -> Iterator[Link]:
    """A link that is as fast as the machine can be until it is limited, and is gone at the end.

    Raises:
        LinkRefused: no privilege, no such thing in the kernel, or no `ip` or `tc`.
    """
    made = Link((f"gradwire-{os.getpid()}-0", f"gradwire-{os.getpid()}-1"))
    first, second = made.ends
    try:
        for end in made.ends:
            _run("ip", "netns", "add", end)
        _run("ip", "link", "add", DEVICE, "netns", first, "type", "veth", "peer", "name", DEVICE, "netns", second)
        for end, address in zip(made.ends, made.addresses, strict=True):
            _run("ip", "-n", end, "address", "add", f"{address}/24", "dev", DEVICE)
            for device in ("lo", DEVICE):
                _run("ip", "-n", end, "link", "set", device, "up")
        yield made
    finally:
        for end in made.ends:
            subprocess.run(["ip", "netns", "delete", end], capture_output=True, check=False)


def burst(rate: float) -> int:
    """Bytes that may pass at once: what is due within a tick of a slow kernel clock, and a segment at least."""
    return max(65536, int(rate / 8 * 0.004))


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise LinkRefused(f"no shaped link: {command[0]} is not installed (package iproute2)") from None
    if done.returncode:
        reason = (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[0]
        raise LinkRefused(f"no shaped link: `{' '.join(command)}` was refused: {reason}")
