"""Who is missing when a collective fails: one line that names the rank and what happened, as far as can be known.

A process of this host tells the system whether it runs. One of another host, or one that runs and is lost all the same,
is found by a roll call in the group's store: whoever has lost contact writes its name there, and waits for the others.
"""

import os
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist

from gradwire.errors import WireError

GRACE = 3.0
"""Seconds in which everybody who is still there answers the roll call."""
PAUSE = 0.02
STATES = {"Z": "has ended", "X": "has ended", "T": "is stopped", "t": "is stopped"}
"""What Linux calls a process that does nothing any more."""


@dataclass(frozen=True)
class Place:
    """A process: its host (boot and namespace of process numbers; "" where the system does not tell) and its number."""

    host: str
    process: int

    @classmethod
    def here(cls) -> "Place":
        """This process."""
        host = ""
        with suppress(OSError):
            host = Path("/proc/sys/kernel/random/boot_id").read_text().strip() + os.readlink("/proc/self/ns/pid")
        return cls(host, os.getpid())

    def trouble(self) -> str:
        """What has become of the process, if it is one of this host; "" where nothing has."""
        if not self.host or self.host != Place.here().host:
            return ""
        try:
            stat = Path(f"/proc/{self.process}/stat").read_text()
        except OSError:
            return "has ended"
        return STATES.get(stat.rpartition(")")[2].split()[0], "")


class RollCall:
    """Collectives of one group, whose failure says which rank is missing.

    Attributes:
        places: of the group's processes, by rank, as far as they have told.
    """

    def __init__(self, group: dist.ProcessGroup | None):
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        self.places: Mapping[int, Place] = {}
        self._group = group or dist.group.WORLD
        self._failures = 0

    def attempt(self, what: str, collective: Callable[[], object]) -> None:
        """Run a collective.

        Raises:
            WireError: it failed, for a process that died or hangs; within `GRACE` of the failure.
        """
        try:
            collective()
        except RuntimeError as error:
            # Without the place in the backend's source, and what it advises.
            reason = re.sub(r"^\[[^]]*\] *", "", str(error).strip()).splitlines()[0].split(". ")[0]
            raise WireError(f"lost contact with {self._missing()} during {what}: {reason}") from error

    def _missing(self) -> str:
        """The ranks that are gone, stopped or silent, as part of a sentence."""
        self._failures += 1
        others = [rank for rank in range(self.size) if rank != self.rank]
        silent, until = others, time.monotonic() + GRACE
        while True:
            troubles = {rank: self.places[rank].trouble() for rank in others if rank in self.places}
            if any(troubles.values()):
                return _named({rank: why for rank, why in troubles.items() if why})
            silent = self._silent(silent)
            if not silent:
                return "another worker, though all of them answer"
            if time.monotonic() > until:
                return _named(dict.fromkeys(silent, "does not answer"))
            time.sleep(PAUSE)

    def _silent(self, others: list[int]) -> list[int]:
        """Those of the ranks that have not answered the roll call yet; all, where the store is gone, too."""
        try:
            assert self._group is not None
            store = self._group.get_group_store()
            store.set_timeout(timedelta(seconds=GRACE))
            store.set(f"lost/{self._failures}/{self.rank}", "here")
            return [rank for rank in others if not store.check([f"lost/{self._failures}/{rank}"])]
        except RuntimeError:
            return others


def _named(troubles: Mapping[int, str]) -> str:
    return " and ".join(f"rank {rank}, which {why}," for rank, why in troubles.items())
