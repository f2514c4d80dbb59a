"""Real numbers as elements of Z_R: the encoding of what a client contributes, and the decoding of the sum.

M. van Rooij et al., "Secure sparse gradient aggregation in distributed architectures", eq. 4 and section II-C.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from torch import Tensor

from gradwire.errors import GradwireError, WireError
from gradwire.secure.masks import Codes

BITS = (8, 16, 32)
LEAST = 15
"""R_U from which a grid is fine enough to send: steps of 2 R_max / 15, four bits a client."""
FINE = 1 << 20
"""R_U from which rounding to the nearest code is off by no more than float32 is."""


@dataclass(frozen=True)
class Ring:
    """Z_R with R = 2^bits, divided among so many clients that their sum cannot wrap.

    Attributes:
        bits: of one number, in memory and on the wire.
        clients: |C|, the most that may contribute.
    """

    bits: int
    clients: int

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            raise GradwireError(f"bits is {self.bits}; it must be one of {', '.join(map(str, BITS))}")
        if self.ceiling < 1:
            most = self.modulus // 2
            raise GradwireError(f"bits is {self.bits}: too few for {self.clients} clients, enough for {most} at most")

    @classmethod
    def fitting(cls, bits: int, clients: int) -> Self:
        """The ring of at least so many bits whose grid is fine enough for so many clients.

        Raises:
            GradwireError: none is.
        """
        for wider in BITS:
            if wider >= bits and (1 << wider) // clients - 1 >= LEAST:
                return cls(wider, clients)
        return cls(bits, clients)

    @property
    def fine(self) -> bool:
        """Whether to round to the nearest code does no harm; on coarser grids it would swallow small values."""
        return self.ceiling >= FINE

    @property
    def modulus(self) -> int:
        """R."""
        return 1 << self.bits

    @property
    def ceiling(self) -> int:
        """R_U = ⌊R / |C|⌋ − 1, the largest code of one client (eq. 4): |C|·R_U < R, so no sum wraps."""
        return self.modulus // self.clients - 1

    @property
    def dtype(self) -> np.dtype[np.unsignedinteger]:
        """Unsigned integers of `bits` bits, little endian."""
        return np.dtype(f"<u{self.bits // 8}")

    def encode(
        self, values: Tensor, maximum: float, offset: int = 0, generator: torch.Generator | None = None
    ) -> Codes:
        """Codes 0 … R_U for values −maximum … maximum, shape (K,) of `dtype`; values outside are clipped.

        For an even number of clients R_U is odd, and zero falls half-way between two codes. Ties therefore go up in
        every other entry and down in the rest, by the parity of `offset`, so that those of neighbours cancel and no
        sum of zeros is biased (rounding all ties alike would add R_max / R_U an entry and client).

        Args:
            values: shape (K,).
            maximum: R_max, at least 0.
            offset: the client's place in the round.
            generator: round stochastically, with this randomness, instead of to the nearest code.
        """
        if not (maximum >= 0 and np.isfinite(maximum)):
            raise GradwireError(f"the largest magnitude is {maximum}; it must be finite and not negative")
        scaled = np.clip(values.detach().cpu().double().numpy() / (maximum or 1.0), -1, 1)
        scaled += 1
        scaled *= self.ceiling / 2
        if generator is not None:
            scaled += torch.rand(len(scaled), generator=generator, dtype=torch.float64).numpy()
            return np.minimum(scaled, self.ceiling, out=scaled).astype(self.dtype)
        up, down = scaled[offset % 2 :: 2], scaled[(offset + 1) % 2 :: 2]
        up += 0.5
        np.floor(up, out=up)
        down -= 0.5
        np.ceil(down, out=down)
        return scaled.astype(self.dtype)

    def decode(self, total: Codes, contributors: int, maximum: float) -> Tensor:
        """The real sum behind a sum of codes, float64, shape (K,): 0 ↦ −n·R_max, n·R_U ↦ n·R_max for n contributors.

        Raises:
            WireError: more contributors than the ring was divided among, or a sum that they cannot have made.
        """
        if not 0 < contributors <= self.clients:
            raise WireError(f"sum of {contributors} clients; the ring of {self.bits} bits is shared by {self.clients}")
        largest = contributors * self.ceiling
        if len(total) and int(total.max()) > largest:
            raise WireError(f"sum holds {int(total.max())}; {contributors} clients can make {largest} at most")
        centred = total.astype(np.float64)
        centred -= largest / 2
        centred *= 2 * maximum / self.ceiling
        return torch.from_numpy(centred)

    def check(self, codes: Tensor, count: int, whose: str) -> Codes:
        """The codes that arrived from a party; WireError, naming `whose`, if they are not `count` elements of Z_R."""
        plain = codes.numpy()
        if plain.dtype != self.dtype or plain.shape != (count,):
            found = f"{plain.dtype} of shape {tuple(codes.shape)}"
            raise WireError(f"masked vector of {whose} is {found}; it must be {self.dtype} of shape ({count},)")
        return plain
