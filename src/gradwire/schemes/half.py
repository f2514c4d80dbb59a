"""Updates in numbers of sixteen bits: two bytes an entry, and nothing else is done to them.

As PyTorch's bf16_compress_hook and fp16_compress_hook do (torch.distributed.algorithms.ddp_comm_hooks.default_hooks):
every entry is rounded, and what is averaged are the rounded ones.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from gradwire.schemes.imitation import Stacked
from gradwire.schemes.layout import Update
from gradwire.schemes.measurement import Cells, Measurement, Term, dense
from gradwire.schemes.none import PlainSGD
from gradwire.schemes.round import Observation, Outcome, Round, State
from gradwire.schemes.scheme import exactly
from gradwire.wire import ClientHalf, Send, ServerHalf, Tensors

PAYLOADS = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Half(PlainSGD):
    """Plain distributed SGD over half of the bytes.

    Attributes:
        dtype: "bf16", of float32's range and eight significant bits, or "fp16", of eleven: an entry above 65,504
            becomes infinite, and the round is given up as where a gradient is not finite.
    """

    name: ClassVar[str] = "half"

    dtype: Literal["bf16", "fp16"] = "bf16"

    def payload(self, dtype: torch.dtype) -> torch.dtype | None:
        """Numbers of sixteen bits, whatever those of the update. A subclass inherits no rule."""
        return PAYLOADS[self.dtype] if type(self) is Half else None

    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """Send the update, flat and rounded."""
        flat = round.layout.flatten(update).to(PAYLOADS[self.dtype])
        reply = yield Send("update", {"dense": flat}, mean=True, settled=private)
        return Outcome(self._read(reply, round), public, private)

    def server(self, public: State, round: Round) -> ServerHalf[Outcome]:
        """Reply with the mean, rounded as well."""
        outcome = yield from super().server(public, round)
        aggregate = {name: tensor.to(round.layout.dtype) for name, tensor in outcome.aggregate.items()}
        return Outcome(aggregate, public, {})

    def check(self, phase: str, tensors: Tensors, round: Round) -> None:
        """One vector of the model's size, two bytes an entry."""
        exactly(tensors, {"dense": (round.layout.size,)}, PAYLOADS[self.dtype])

    def decode(self, observation: Observation) -> Update:
        """The update as it was rounded."""
        return self._read(observation.uploads["update"], observation.round)

    def measure(self, observation: Observation) -> Measurement:
        """Every entry is within half a step of the number to which it was rounded."""
        decoded = self.decode(observation)
        if observation.uploads["update"]["dense"].dtype != PAYLOADS[self.dtype]:  # what a fellow client works out
            return dense(decoded)
        return {name: [self._cells(tensor[None])] for name, tensor in decoded.items()}

    def imitate(
        self, own: Stacked, means: Stacked, public: State, round: Round, random: torch.Generator
    ) -> Measurement:
        """Every entry of every gradient, rounded."""
        payload, dtype = PAYLOADS[self.dtype], round.layout.dtype
        return {name: [self._cells(own[name].to(payload).to(dtype))] for name in round.layout.shapes}

    def others(self, reply: Tensors, own: Tensors, party: str, public: State, round: Round) -> Tensors:
        """The mean of the others, in float32: n times a mean may be beyond float16."""
        full, mine = ({"dense": tensors["dense"].float()} for tensors in (reply, own))
        return super().others(full, mine, party, public, round)

    def _cells(self, rounded: Tensor) -> Term:
        step = torch.finfo(PAYLOADS[self.dtype])
        return Cells(rounded, step.eps / 2 * (rounded.abs() + step.smallest_normal))

    def _read(self, tensors: Tensors, round: Round) -> Update:
        return round.layout.unflatten(tensors["dense"].to(round.layout.dtype))
