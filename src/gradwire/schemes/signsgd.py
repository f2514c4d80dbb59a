"""signSGD: one bit for each entry, by majority vote; with error feedback, EF-signSGD.

J. Bernstein, Y.-X. Wang, K. Azizzadenesheli, A. Anandkumar, "signSGD: Compressed optimisation for non-convex
problems", ICML 2018, algorithm 3 (distributed training by majority vote: one bit up, one bit down).
S. P. Karimireddy, Q. Rebjock, S. U. Stich, M. Jaggi, "Error feedback fixes SignSGD and other gradient compression
schemes", ICML 2019, algorithm 1: p = g + e, Δ = (‖p‖₁/d)·sign(p), e ← p − Δ (here in units of the gradient: the
learning rate is applied afterwards), tensor by tensor as in section 6.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.errors import WireError
from gradwire.schemes.imitation import Stacked
from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.measurement import Measurement, Signs, dense
from gradwire.schemes.round import Observation, Outcome, Round, State
from gradwire.schemes.scheme import ErrorFeedback, exactly
from gradwire.wire import ClientHalf, Send, ServerHalf, Tensors, bits


@dataclass(frozen=True)
class SignSGD(ErrorFeedback):
    """Send the sign of every entry. Zero counts as positive, as one bit has no third value.

    Attributes:
        error_feedback: send a scale for each tensor too, and add what the signs left out to the next update.
    """

    name: ClassVar[str] = "signsgd"

    error_feedback: bool = False

    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """Send sign(g) and receive the vote; or send sign(p) and ‖p‖₁/d and receive the mean."""
        layout = round.layout
        p = self.corrected(update, private, layout)
        if not self.error_feedback:
            reply = yield Send("signs", {"signs": encode(p)}, settled=private)
            return Outcome(layout.unflatten(signs(reply, layout)), public, private)
        scales = [part.abs().sum() / max(1, part.numel()) for part in layout.unflatten(p).values()]
        sent = {"signs": encode(p), "scales": torch.stack(scales)}
        state = {**private, "residual": p - scaled(sent, layout)}
        reply = yield Send("signs", sent, settled=state)
        return Outcome(layout.unflatten(reply["dense"]), public, state)

    def server(self, public: State, round: Round) -> ServerHalf[Outcome]:
        """Reply with the majority's signs, or with the mean of the scaled ones."""
        uploads = yield None
        layout = round.layout
        if self.error_feedback:
            total = torch.zeros(layout.size, dtype=layout.dtype)
            for tensors in uploads.values():
                total += scaled(tensors, layout)
            aggregate = total.div_(len(uploads))
            yield Send("signs", {"dense": aggregate})
        else:
            voted = {"signs": bits.pack(majority(list(uploads.values()), round), 1)}
            yield Send("signs", voted)
            aggregate = signs(voted, layout)
        return Outcome(layout.unflatten(aggregate), public, {})

    def check(self, phase: str, tensors: Tensors, round: Round) -> None:
        """A bit for each entry, and with error feedback a scale for each tensor."""
        layout = round.layout
        scales = {"scales": (len(layout.shapes),)} if self.error_feedback else {}
        shapes = {"signs": (bits.packed_size(layout.size, 1),), **scales}
        exactly(tensors, shapes, {"signs": torch.uint8, "scales": layout.dtype})

    def decode(self, observation: Observation) -> Update:
        """±1 for each entry, or ± the tensor's scale; 0 where a fellow client cannot tell."""
        tensors, layout = observation.uploads["signs"], observation.round.layout
        if "dense" in tensors:
            return layout.unflatten(tensors["dense"])
        decoded = scaled(tensors, layout) if self.error_feedback else signs(tensors, layout)
        if "known" in tensors:
            decoded = decoded * bits.unpack(tensors["known"], layout.size, 1)
        return layout.unflatten(decoded)

    def measure(self, observation: Observation) -> Measurement:
        """The signs, as constraints."""
        decoded = self.decode(observation)
        if "dense" in observation.uploads["signs"]:
            return dense(decoded)
        return {name: [Signs(tensor[None])] for name, tensor in decoded.items()}

    def imitate(
        self, own: Stacked, means: Stacked, public: State, round: Round, random: torch.Generator
    ) -> Measurement:
        """The signs of every gradient, with error feedback times each tensor's mean magnitude."""
        found = {}
        for name in round.layout.shapes:
            g = own[name].to(round.layout.dtype)
            scale = g.abs().flatten(1).mean(1).view(-1, *[1] * (g.ndim - 1)) if self.error_feedback else 1.0
            found[name] = [Signs(scale * torch.where(g < 0, -1.0, 1.0).to(g))]
        return found

    def others(self, reply: Tensors, own: Tensors, party: str, public: State, round: Round) -> Tensors:
        """With error feedback, the mean of the others; of a vote, their majority where it follows.

        A reply that differs from one's own vote is that of the others. Where it does not and the coin differs, there
        was no tie for the coin to decide, so the others agree with it too.
        """
        n, layout = len(round.clients), round.layout
        if self.error_feedback:
            return {"dense": (n * reply["dense"] - scaled(own, layout)) / (n - 1)}
        vote, mine = signs(reply, layout), signs(own, layout)
        known = (vote != mine) | (coins(round) != mine)
        return {"signs": reply["signs"], "known": bits.pack(known.to(torch.uint8), 1)}


def encode(vector: Tensor) -> Tensor:
    """One bit for each entry, set where it is negative."""
    return bits.pack((vector < 0).to(torch.uint8), 1)


def signs(tensors: Tensors, layout: Layout) -> Tensor:
    """±1 for each entry, of the layout's dtype, as a message says; WireError if it holds another number of signs."""
    if "signs" not in tensors:
        raise WireError(f"signsgd message holds {sorted(tensors)}; it must hold 'signs'")
    return bits.unpack(tensors["signs"], layout.size, 1).view(torch.int8).mul_(-2).add_(1).to(layout.dtype)


def majority(votes: Sequence[Tensors], round: Round) -> Tensor:
    """1 for each entry that most votes, or the coin where they are tied, call negative, else 0: uint8."""
    size, n = round.layout.size, len(votes)
    against = torch.zeros(size, dtype=torch.uint8 if n < 128 else torch.int32)
    for tensors in votes:
        against += bits.unpack(tensors["signs"], size, 1)
    if n % 2:
        return (against > n // 2).view(torch.uint8)
    # Every vote counts twice and the coin once, so that it decides only where votes are tied.
    return (against.mul_(2).add_(1 - heads(round)) > n).view(torch.uint8)


def scaled(tensors: Tensors, layout: Layout) -> Tensor:
    """(‖p‖₁/d)·sign(p), tensor by tensor, flat."""
    vector = signs(tensors, layout)
    for part, scale in zip(layout.unflatten(vector).values(), tensors["scales"], strict=True):
        part *= scale
    return vector


def heads(round: Round) -> Tensor:
    """1 or 0 for each entry, from the round's public seed: it decides a tied vote."""
    size = round.layout.size
    drawn = torch.randint(256, (bits.packed_size(size, 1),), generator=round.generator(), dtype=torch.uint8)
    return bits.unpack(drawn, size, 1)


def coins(round: Round) -> Tensor:
    """±1 for each entry: +1 where `heads` is 1."""
    return heads(round).view(torch.int8).mul_(2).sub_(1).float()
