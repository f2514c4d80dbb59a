"""What a secure sum gives: the sum of the codes, and how many clients it is of."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from gradwire.errors import WireError
from gradwire.secure.masks import Codes
from gradwire.secure.ring import Ring
from gradwire.wire import Deal, Send, Tensors

T = TypeVar("T")
Uploads = Mapping[str, Tensors]
Hosting = Generator[Send | Deal, Uploads, T]
"""A stretch of a server half: takes uploads as they come, yields replies, returns its outcome."""


@dataclass(frozen=True)
class Total:
    """A sum over Z_R.

    Attributes:
        codes: the sum modulo R, shape (K,).
        contributors: how many clients' codes it is made of.
    """

    codes: Codes
    contributors: int

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of a message."""
        return {"sum": torch.from_numpy(self.codes), "contributors": torch.tensor(self.contributors)}

    @classmethod
    def of(cls, tensors: Tensors, ring: Ring, count: int | None = None) -> "Total":
        """What `tensors()` put on the wire, if it is a sum of `count` elements of the ring.

        Raises:
            WireError: it is not.
        """
        if set(tensors) != {"sum", "contributors"}:
            raise WireError(f"sum message holds {sorted(tensors)}; it must hold 'contributors' and 'sum'")
        length = tensors["sum"].numel() if count is None else count
        return cls(ring.check(tensors["sum"], length, "the server"), int(tensors["contributors"]))
