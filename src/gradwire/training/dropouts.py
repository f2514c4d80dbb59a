"""Clients that vanish in the middle of a round, as phones do: simulated, by a schedule that the seed decides."""

from collections.abc import Callable

import torch

from gradwire.schemes import Round
from gradwire.seeds import generator
from gradwire.training.settings import TrainSettings
from gradwire.wire import ClientHalf, Send, drop_out
from gradwire.wire.protocol import T


def exposed(half: ClientHalf[T], settings: TrainSettings, round: Round, party: str) -> ClientHalf[T]:
    """The half of a client that may vanish before any of its messages; the same one where none ever does."""
    return drop_out(half, schedule(settings, round, party)) if settings.drop_clients else half


def schedule(settings: TrainSettings, round: Round, party: str) -> Callable[[Send], bool]:
    """Says of a client's messages, one after another, whether it is gone before it."""
    chances = generator("dropouts", settings.seed, round.index, party)
    return lambda _: bool(torch.rand((), generator=chances) < settings.drop_clients)
