"""Time spent inside the halves of a protocol, party by party: the work itself, without the wire."""

import time
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TypeVar

Y = TypeVar("Y")
S = TypeVar("S")
T = TypeVar("T")


@dataclass
class Stopwatch:
    """Seconds that each party has spent."""

    seconds: dict[str, float] = field(default_factory=dict)

    def around(self, party: str, half: Generator[Y, S, T]) -> Generator[Y, S, T]:
        """The same half; what it computes between receiving and yielding is counted as the party's."""
        received = None
        while True:
            started = time.perf_counter()
            try:
                sent = half.send(received)  # type: ignore[arg-type]
            except StopIteration as stop:
                return stop.value
            finally:
                self.seconds[party] = self.seconds.get(party, 0.0) + time.perf_counter() - started
            received = yield sent
