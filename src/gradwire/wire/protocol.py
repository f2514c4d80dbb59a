"""A scheme's two halves, as whoever carries their messages sees them.

A half is a generator. The client half yields what it sends and receives the server's reply to it; the server half
yields its reply and receives what the clients sent. Neither opens a socket, calls a process group or reads a clock, so
the same two generators run in this process, over torch.distributed and over Flower.
"""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]
T = TypeVar("T")


def wide(dtype: torch.dtype) -> torch.dtype:
    """What numbers of a dtype are added up in: float32 for those of sixteen bits, a sum of which overflows."""
    return torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype


@dataclass(frozen=True)
class Send:
    """Named tensors to put on the wire in one phase.

    Attributes:
        mean: promises that the server's reply is the entry-wise mean of what the clients send in this phase, so that a
            carrier without a server may all-reduce instead of gathering.
        settled: the client's private state once this message has arrived, where no reply changes it any more. A carrier
            that brings the new model by another way need not send the reply, and a client that vanishes afterwards goes
            into its next round with this state. None: the state needs the reply.
        left_out: clients that the server goes on without, party → why. They get no reply.
    """

    phase: str
    tensors: Tensors
    mean: bool = False
    settled: Tensors | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Deal:
    """A server's reply that differs from client to client: each gets its own tensors, unseen by the others.

    Every client that has sent in the phase, and is not `left_out` (as `Send` has it), must be dealt something.
    """

    phase: str
    tensors: Mapping[str, Tensors]
    left_out: Mapping[str, str] = field(default_factory=dict)


class Dropped(Exception):
    """Raised in a client half whose party is gone: from then on it sends nothing, and the others go on without it."""


ClientHalf = Generator[Send, Tensors, T]
"""Yields uploads, receives the replies to them, returns its outcome."""

ServerHalf = Generator[Send | Deal | None, Mapping[str, Tensors], T]
"""Yields None once to begin, then a reply to each phase's uploads (party → tensors); returns its outcome.

The uploads of clients that have dropped out are missing from the mapping: a half that needs all of them says so.
"""


def drop_out(half: ClientHalf[T], before: str | Callable[[Send], bool]) -> ClientHalf[T]:
    """The same half of a client that is gone just before it would send.

    Args:
        before: the phase, or a function that says of each message whether the client is gone before it.
    """
    gone = (lambda send: send.phase == before) if isinstance(before, str) else before
    try:
        send = next(half)
        while not gone(send):
            send = half.send((yield send))
    except StopIteration as stop:
        return stop.value
    half.close()
    raise Dropped(send.phase)
