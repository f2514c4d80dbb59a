"""Differential privacy by noise that all clients add together, each a share, under the masks of a secure sum.

P. Kairouz, Z. Liu, T. Steinke, "The distributed discrete Gaussian mechanism for federated learning with secure
aggregation", ICML 2021, algorithms 1 and 2 and theorem 2; N. Agarwal, P. Kairouz, Z. Liu, "The Skellam mechanism for
differentially private federated learning", NeurIPS 2021, theorem 3.5. The server sees one noisy sum, so that the sum
needs no more noise than if somebody whom all trust had added it.

    clip       x ← x · min(1, c/‖x‖)
    rotate     y ← H D x, padded to a power of two: every entry is about as large as every other
    round      s·y to integers, stochastically, and again as long as the norm is larger than Δ
    noise      + discrete noise whose sum over n clients has the standard deviation s·z·c
    modular    mod 2^bits: s is such that the sum leaves (−2^bits/2, 2^bits/2) by less than `REACH` deviations

The guarantee is a client's (all that it sends may be zero), for every round that it takes part in. It counts the
noise of those who stayed, and not that of c clients who may tell theirs to the server.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, inf, log, pi, sqrt

import numpy as np
import torch
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.schemes.round import Round, State
from gradwire.secure.discrete_noise import FINEST, Kind, draw, uniform
from gradwire.secure.masks import Codes
from gradwire.secure.ring import Ring
from gradwire.secure.rotation import hadamard, padded, signs

ORDERS = (*(1 + x / 10 for x in range(1, 100)), *range(11, 65), 96, 128, 256, 512, 1024)
"""Orders of the Rényi divergence."""
REACH = 6.0
BETA = exp(-0.5)
"""How likely a rounding may be drawn again."""


@dataclass(frozen=True)
class DistributedNoise:
    """The noise of a sum of vectors of one size.

    Attributes:
        kind: of the distribution.
        multiplier: z: the standard deviation of the sum's noise, over `clip`, if all `clients` stay.
        clip: c, the largest norm of a client's vector.
        bits: of an entry on the wire.
        size: entries of a vector.
    """

    kind: Kind
    multiplier: float
    clip: float
    bits: int
    clients: int
    size: int

    def __post_init__(self) -> None:
        if self.deviation < 1:
            wrong = f"bits is {self.bits}: {self.clients} clients' noise in {self.size} entries would be"
            raise GradwireError(f"{wrong} {self.deviation:.2g} steps each; it must be 1 at least: take more bits")

    @property
    def width(self) -> int:
        """d, the entries that are sent."""
        return padded(self.size)

    @property
    def ring(self) -> Ring:
        """Z_R: all of it for the sum, which may wrap."""
        return Ring(self.bits, 1)

    @property
    def scale(self) -> float:
        """s: steps to a unit."""
        signal = (self.clients * self.clip) ** 2 / self.width
        room = self.ring.modulus / 2 / REACH
        fits = sqrt(max(0.0, room**2 - self.clients / 4) / (signal + (self.multiplier * self.clip) ** 2))
        return min(fits, FINEST * sqrt(self.clients) / (self.multiplier * self.clip))

    @property
    def deviation(self) -> float:
        """The standard deviation of one client's noise, in steps."""
        return self.scale * self.multiplier * self.clip / sqrt(self.clients)

    @property
    def sensitivity(self) -> float:
        """Δ, the largest norm of a client's integers."""
        d, norm = self.width, self.scale * self.clip
        likely = norm**2 + d / 4 + sqrt(2 * log(1 / BETA)) * (norm + sqrt(d) / 2)
        return min(sqrt(likely), norm + sqrt(d))

    def encode(self, values: Tensor, round: Round) -> Codes:
        """A client's integers with its share of the noise, shape (d,), of values (size,)."""
        norm = float(values.double().norm())
        unit = torch.zeros(self.width, dtype=torch.float64)
        unit[: self.size] = values.double().cpu() * (min(1.0, self.clip / norm) if norm else 0.0)
        exact = (hadamard(unit * self._signs(round)) * self.scale).numpy()
        while True:
            rounded = np.floor(exact + uniform(self.width))
            if float(np.linalg.norm(rounded)) <= self.sensitivity:
                break
        noisy = rounded.astype(np.int64) + draw(self.kind, self.deviation, self.width)
        return (noisy % self.ring.modulus).astype(self.ring.dtype)

    def decode(self, total: Codes, contributors: int, round: Round) -> Tensor:
        """The mean behind a sum, float64, shape (size,)."""
        signed = total.view(total.dtype.str.replace("u", "i")).astype(np.float64)
        turned = hadamard(torch.from_numpy(signed / self.scale)) * self._signs(round)
        return turned[: self.size] / contributors

    def renyi(self, honest: int) -> np.ndarray:
        """The Rényi divergence, by `ORDERS`, of one sum in which so many clients' noise is unknown to the server."""
        orders, d, each = np.array(ORDERS, dtype=np.float64), self.width, self.deviation
        if honest < 1:
            return np.full(len(orders), inf)
        if self.kind == "gaussian":
            tau = 10 * sum(exp(-2 * pi**2 * each**2 * k / (k + 1)) for k in range(1, honest))
            ratio = self.sensitivity / (sqrt(honest) * each)
            epsilon = min(sqrt(ratio**2 + tau * d / 2), ratio + tau * sqrt(d))
            return orders * epsilon**2 / 2
        variance, two = honest * each**2, self.sensitivity
        one = min(two**2, sqrt(d) * two)
        rest = np.minimum(((2 * orders - 1) * two**2 + 6 * one) / (4 * variance**2), 3 * one / (2 * variance))
        # The theorem is of whole orders.
        return np.where(orders == np.floor(orders), orders * two**2 / (2 * variance) + rest, inf)

    def _signs(self, round: Round) -> Tensor:
        return signs(self.width, round.generator("rotation"))


def spent(private: State, noise: DistributedNoise, contributors: int, colluders: int) -> dict[str, Tensor]:
    """A client's state after one more sum: the divergence so far, sums, and the contributors of the least."""
    before = private.get("dp/renyi", torch.zeros(len(ORDERS), dtype=torch.float64))
    sums, fewest = private.get("dp/sums", torch.tensor([0, noise.clients])).tolist()
    now = torch.from_numpy(noise.renyi(contributors - colluders))
    return {"dp/renyi": before + now, "dp/sums": torch.tensor([sums + 1, min(fewest, contributors)])}


def epsilon(private: Mapping[str, State], delta: float) -> float | None:
    """ε of the client that has spent most; None before any sum.

    Raises:
        GradwireError: `dp-accounting` is not installed.
    """
    try:
        from dp_accounting import rdp
    except ImportError:
        raise GradwireError("ε needs dp-accounting: pip install 'gradwire[dp]'") from None
    curves = [state["dp/renyi"].numpy() for state in private.values() if "dp/renyi" in state]
    if not curves:
        return None
    return max(float(rdp.compute_epsilon(ORDERS, curve, delta)[0]) for curve in curves)
