"""QSGD: round every entry to one of s levels of its bucket's norm, at random and without bias.

D. Alistarh, D. Grubic, J. Li, R. Tomioka, M. Vojnovic, "QSGD: Communication-efficient SGD via gradient quantization
and encoding", NeurIPS 2017, section 3.1 (the quantiser Q_s) and section 4 (buckets). A message packs a sign bit and a
level of bits − 1 for each entry, and holds a float32 norm for each bucket; the paper's Elias code is left out.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.errors import GradwireError, check_counts
from gradwire.schemes.imitation import Stacked, flat, parts
from gradwire.schemes.layout import Layout, Update
from gradwire.schemes.measurement import Cells, Measurement, dense
from gradwire.schemes.round import Observation, Outcome, Round, State
from gradwire.schemes.scheme import Scheme, exactly, own_key, own_random
from gradwire.wire import ClientHalf, Send, ServerHalf, Tensors, bits

PART = 1 << 16
"""Entries that are processed at a time."""


@dataclass(frozen=True)
class QSGD(Scheme):
    """Unbiased stochastic quantisation of the flat update, bucket by bucket.

    Attributes:
        bits: of an entry, with its sign: 2 to 8. There are s = 2^(bits − 1) − 1 levels above zero.
        bucket: entries that share a norm.
    """

    name: ClassVar[str] = "qsgd"

    bits: int = 4
    bucket: int = 512

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= bits.MAX_BITS:
            raise GradwireError(f"qsgd: bits is {self.bits}; it must be in 2 to {bits.MAX_BITS}")
        check_counts(self.name, self, "bucket")

    @property
    def levels(self) -> int:
        """s, the number of levels above zero."""
        return (1 << (self.bits - 1)) - 1

    def private_state(self, layout: Layout, secret: int = 0) -> State:
        """The key of the client's own rounding, with which a value would be known better than to its cell."""
        return own_key(secret)

    def client(self, update: Update, private: State, public: State, round: Round) -> ClientHalf[Outcome]:
        """Send Q_s(g); receive the mean of what all clients' messages decode to."""
        codes = self.quantise(round.layout.flatten(update), own_random(private, "rounding", round.index))
        reply = yield Send("levels", codes, settled=private)
        return Outcome(round.layout.unflatten(reply["dense"]), public, private)

    def server(self, public: State, round: Round) -> ServerHalf[Outcome]:
        """Decode, and reply with the mean."""
        uploads = yield None
        total = torch.zeros(round.layout.size, dtype=round.layout.dtype)
        for tensors in uploads.values():
            self._add(total, tensors)
        average = total.div_(len(uploads))
        yield Send("levels", {"dense": average})
        return Outcome(round.layout.unflatten(average), public, {})

    def check(self, phase: str, tensors: Tensors, round: Round) -> None:
        """A code for each entry and a norm for each bucket."""
        self._read(tensors, round.layout.size)

    def quantise(self, vector: Tensor, rounding: torch.Generator) -> dict[str, Tensor]:
        """Q_s(v)ᵢ = ‖v‖₂·sgn(vᵢ)·ξᵢ, where ξᵢ is one of the two levels l/s around |vᵢ|/‖v‖₂ and has that mean."""
        norms, codes = zip(*(self._quantise(part, rounding) for part in self._parts(vector)), strict=True)
        return {"norms": torch.cat(norms), "codes": torch.cat(codes)}

    def dequantise(self, tensors: Tensors, size: int) -> Tensor:
        """The vector that a message of `quantise` stands for, shape (size,).

        Raises:
            WireError: a tensor is missing, or is of another size or dtype.
        """
        return self._add(torch.zeros(size), tensors)

    def _quantise(self, part: Tensor, rounding: torch.Generator) -> tuple[Tensor, Tensor]:
        """The norms of some whole buckets, and their packed codes."""
        v = _rows(part, self.bucket)
        norms = v.norm(dim=1)
        scaled = v.abs().mul_(self.levels / norms.clamp_min(torch.finfo(torch.float32).tiny)[:, None])
        # `to` rounds down; rounding errors must not carry the largest entry above the last level.
        level = scaled.add_(torch.rand(v.shape, generator=rounding)).clamp_(max=self.levels).to(torch.uint8)
        # An entry that rounds to zero gets no sign, which would give away more than the algorithm does.
        sign = (v < 0).view(torch.uint8) & (level > 0).view(torch.uint8)
        code = level.add_(sign, alpha=1 << (self.bits - 1))
        return norms, bits.pack(code.view(-1)[: part.numel()], self.bits)

    def _add(self, total: Tensor, tensors: Tensors) -> Tensor:
        """Add what a message stands for to `total`, shape (size,)."""
        code, norms = self._read(tensors, total.numel())
        steps = norms / self.levels
        for entries, part, step in zip(self._parts(total), self._parts(code), self._parts(steps, 1), strict=True):
            sign = 1 - 2 * (part >> (self.bits - 1)).view(torch.int8)
            level = _rows(sign.mul_((part & self.levels).view(torch.int8)), self.bucket)
            entries += (level * step[:, None]).view(-1)[: len(entries)]
        return total

    def _parts(self, vector: Tensor, bucket: int | None = None) -> tuple[Tensor, ...]:
        """A vector in parts of at least eight buckets that fit into a core's cache."""
        width = self.bucket if bucket is None else bucket
        return vector.split(width * max(8, PART // self.bucket // 8 * 8))

    def decode(self, observation: Observation) -> Update:
        """The levels times the norms."""
        tensors, layout = observation.uploads["levels"], observation.round.layout
        return layout.unflatten(tensors["dense"] if "dense" in tensors else self.dequantise(tensors, layout.size))

    def measure(self, observation: Observation) -> Measurement:
        """Every entry is less than one level above or below the one to which it was rounded."""
        tensors, layout = observation.uploads["levels"], observation.round.layout
        decoded = self.decode(observation)
        if "dense" in tensors:
            return dense(decoded)
        _, norms = self._read(tensors, layout.size)
        width = layout.unflatten((norms / self.levels).repeat_interleave(self.bucket)[: layout.size])
        return {name: [Cells(decoded[name][None], width[name][None])] for name in decoded}

    def imitate(
        self, own: Stacked, means: Stacked, public: State, round: Round, random: torch.Generator
    ) -> Measurement:
        """The levels of every gradient, rounded at random on their own."""
        layout = round.layout
        decoded = flat(own, layout).float()
        steps = []
        # Part by part of all gradients, as `quantise` does: a part stays in a core's cache.
        for part in decoded.split(len(self._parts(decoded[0])[0]), 1):
            v = _rows(part, self.bucket)
            norms = v.norm(dim=2, keepdim=True)
            level = v.abs().mul_(self.levels / norms.clamp_min(torch.finfo(torch.float32).tiny))
            level.add_(torch.rand(v.shape, generator=random)).floor_().clamp_(max=self.levels)
            steps.append((norms / self.levels)[..., 0])
            part.copy_(torch.copysign(level.mul_(steps[-1][..., None]), v).flatten(1)[:, : part.shape[1]])
        widths = parts(torch.cat(steps, 1).repeat_interleave(self.bucket, 1)[:, : layout.size], layout)
        return {name: [Cells(part, widths[name])] for name, part in parts(decoded, layout).items()}

    def others(self, reply: Tensors, own: Tensors, party: str, public: State, round: Round) -> Tensors:
        """The mean of the others' decoded updates: nobody learns their levels and norms."""
        n = len(round.clients)
        return {"dense": (n * reply["dense"] - self.dequantise(own, round.layout.size)) / (n - 1)}

    def _read(self, tensors: Tensors, size: int) -> tuple[Tensor, Tensor]:
        """The codes and the norms of a message."""
        shapes = {"norms": (-(-size // self.bucket),), "codes": (bits.packed_size(size, self.bits),)}
        exactly(tensors, shapes, {"norms": torch.float32, "codes": torch.uint8})
        return bits.unpack(tensors["codes"], size, self.bits), tensors["norms"]


def _rows(part: Tensor, width: int) -> Tensor:
    """Entries as float32, a bucket a row, the last one filled up with zeros."""
    short = -part.shape[-1] % width
    return (torch.nn.functional.pad(part, (0, short)) if short else part).float().unflatten(-1, (-1, width))
