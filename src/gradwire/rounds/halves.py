"""The two halves of a whole round: what the scheme sends of updates, then weights, then running statistics.

Weights: B. McMahan et al., "Communication-efficient learning of deep networks from decentralized data", AISTATS 2017,
algorithm 1: the mean is weighted by how many examples each client has. Each client scales its own update by its weight
w, whose mean over all clients is 1. Where a round's clients are only some of all, their w need not average to 1: they
then tell them, and the mean of w·update is divided by the mean of w. Buffers count as updates do.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from gradwire.errors import TooFewError, WireError
from gradwire.schemes import Contribution, Outcome, Round, Scheme, State, Update
from gradwire.schemes.halves import mean
from gradwire.schemes.scheme import exactly
from gradwire.wire import BUFFERS, WEIGHTS, ClientHalf, Send, ServerHalf, Tensors
from gradwire.wire.session import Check

UNMASK = "unmask"
"""How phases end in which clients help to open a sum that they are in already, whether or not they still answer."""


def client_half(scheme: Scheme, brought: Contribution, public: State, round: Round) -> ClientHalf[Outcome]:
    """A client's half of a round, from its contribution to the mean of all."""
    outcome = yield from scheme.client(_times(brought.update, _weight(brought, round)), brought.private, public, round)
    total = 1.0
    for send in sent_beside(brought, round):
        reply = yield replace(send, settled=outcome.private)
        if send.phase == WEIGHTS:
            total = float(reply["weight"])
            outcome = replace(outcome, aggregate=_times(outcome.aggregate, 1 / total))
        else:
            outcome = replace(outcome, buffers=received(_times(reply, 1 / total), brought.buffers))
    return replace(outcome, aggregate=round.layout.restored(outcome.aggregate))


def sent_beside(brought: Contribution, round: Round) -> tuple[Send, ...]:
    """What a client sends after the scheme's messages. No reply changes it: a carrier may send it with the first."""
    sends = []
    if round.weights == "told":
        sends.append(Send(WEIGHTS, {"weight": torch.tensor([brought.weight])}, mean=True))
    if brought.buffers:
        sends.append(Send(BUFFERS, _sent(brought.buffers, _weight(brought, round)), mean=True))
    return tuple(sends)


def server_half(scheme: Scheme, public: State, round: Round, buffers: Tensors) -> ServerHalf[Outcome]:
    """The server's half of a round.

    Args:
        buffers: tensors like those that clients send beside their updates; {} where they send none.
    """
    half = scheme.server(public, round)
    next(half)
    stayed = uploads = yield None
    while True:
        # The scheme's half returns when it is sent what comes after its last reply.
        try:
            reply = half.send(uploads)
        except StopIteration as stop:
            outcome: Outcome = stop.value
            break
        if reply is None or not reply.phase.endswith(UNMASK):
            stayed = uploads
        uploads = yield reply
    total = 1.0
    counted = [party for party in stayed if party not in outcome.refused]
    if round.weights == "told":
        gone = [party for party in counted if party not in uploads]
        if gone:
            raise TooFewError(f"round {round.index}: {gone[0]} vanished before it told its weight; no mean follows")
        means = mean({party: uploads[party] for party in counted})
        total = float(means["weight"])
        outcome = replace(outcome, aggregate=_times(outcome.aggregate, 1 / total))
        uploads = yield Send(WEIGHTS, means)
    if buffers:
        means = mean({party: sent for party, sent in uploads.items() if party in counted})
        outcome = replace(outcome, buffers=received(_times(means, 1 / total), buffers))
        yield Send(BUFFERS, means)
    return replace(outcome, aggregate=round.layout.restored(outcome.aggregate))


def checking(scheme: Scheme, round: Round, buffers: Tensors, bucket: int | None = None) -> Check:
    """What the server's session refuses; `buffers` as for `server_half`, `bucket` as for `run_round`."""

    def check(party: str, phase: str, tensors: Tensors) -> None:
        try:
            if bucket is not None:
                phase = phase.removeprefix(f"{bucket}/")
            if phase == WEIGHTS:
                exactly(tensors, {"weight": (1,)}, torch.float32)
                if not float(tensors["weight"]) > 0:
                    raise WireError(f"the weight is {float(tensors['weight'])}; it must be positive")
            elif phase == BUFFERS:
                due = _sent(buffers, 1.0)
                for dtype in dict.fromkeys(t.dtype for t in (*due.values(), *tensors.values())):
                    shapes = {name: tuple(t.shape) for name, t in due.items() if t.dtype == dtype}
                    exactly({name: t for name, t in tensors.items() if t.dtype == dtype}, shapes, dtype)
            else:
                scheme.check(phase, tensors, round)
        except WireError as error:
            raise WireError(f"round {round.index}, phase {phase!r}, {party}: {error}") from None

    return check


def _weight(brought: Contribution, round: Round) -> float:
    """What a client scales all that it sends by."""
    return 1.0 if round.weights == "equal" else brought.weight


def _times(update: Update, factor: float) -> Update:
    return update if factor == 1 else {name: tensor * factor for name, tensor in update.items()}


def _sent(buffers: Tensors, weight: float) -> dict[str, Tensor]:
    """Buffers as they cross the wire: whole numbers as float64, for their mean need not be one."""
    floating = {n: t if t.is_floating_point() else t.double() for n, t in buffers.items()}
    return {name: tensor if weight == 1 else tensor * weight for name, tensor in floating.items()}


def received(means: Tensors, like: Tensors) -> Mapping[str, Tensor]:
    """Buffers as they crossed the wire in their own dtypes; counters are rounded to the nearest whole number."""
    return {name: means[name] if t.is_floating_point() else means[name].round().to(t.dtype) for name, t in like.items()}
