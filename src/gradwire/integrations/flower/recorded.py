"""Rounds of a federation, recorded for an audit: what the server knew of them, in one file."""

import logging
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from gradwire.rounds.recording import RecordedRound, Recorder, save
from gradwire.schemes import Round, Scheme, State
from gradwire.wire import Message, Need, Tensors

log = logging.getLogger(__name__)


class FederationRecorder:
    """Writes rounds to a file as they are run.

    Args:
        rounds: their numbers, the first being 0; none: the last one alone, whichever that is.
    """

    def __init__(self, path: str | Path, rounds: Sequence[int] = ()):
        self.path, self.rounds = Path(path), tuple(rounds)
        self.recorder = Recorder(keep=max(1, len(self.rounds)))

    def begin(self, scheme: Scheme, round: Round, model: dict[str, Tensor] | Tensors) -> None:
        """Keep what is public of a round, if it is one of those to record."""
        if self.rounds and round.index not in self.rounds:
            return
        carried = scheme.feeds_back and round.index > 0
        facts = RecordedRound(
            scheme.spec,
            round.seed,
            round.index,
            round.clients,
            round.clients[0],
            round.epoch,
            local=Need.SINGLE_GRADIENT not in scheme.needs,
            weights=round.weights,
            carried=carried,
        )
        self.recorder.begin(facts, model)

    def end(self, number: int, messages: tuple[Message, ...], public: State) -> None:
        """Write a round, and all recorded before it."""
        if number not in self.recorder.rounds or not messages:
            return
        self.recorder.add(number, messages, public)
        line = save(self.recorder.rounds, self.path)
        log.warning("%s holds %s", self.path, line)
