"""The graph of clients that share masks: complete, or for many clients a random one of sufficient degree.

J. Bell, K. Bonawitz, A. Gascón, T. Lepoint, M. Raykova, "Secure single-server aggregation with (poly)logarithmic
overhead", CCS 2020, section 4 (malicious variant): when keys are out, each client draws by itself the k others to whom
it deals shares, so that neither the server nor colluders can choose who sits around whom. Two clients share a mask if
either has drawn the other.
"""

from dataclasses import dataclass
from functools import cache
from math import ceil, log, log2
from typing import NamedTuple

import numpy as np

from gradwire.errors import GradwireError


@dataclass(frozen=True)
class Assumptions:
    """What a graph must withstand, and how surely; by default a third corrupted, 10 % dropping, σ = 40, η = 30.

    Attributes:
        corrupted: the share of clients that may side with the server.
        dropping: the share of clients that may drop out of a round.
        secrecy: σ: a secret is lost with probability 2^−σ at most.
        completion: η: a round cannot be finished with probability 2^−η at most.
    """

    corrupted: float = 1 / 3
    dropping: float = 0.1
    secrecy: int = 40
    completion: int = 30

    def __post_init__(self) -> None:
        for name in ("corrupted", "dropping"):
            if not 0 <= getattr(self, name) < 1:
                raise GradwireError(f"{name} is {getattr(self, name)}; it must be a share in [0, 1)")


STATED = Assumptions()


class Degree(NamedTuple):
    """The neighbours k of each client, and t: how many of a secret's k + 1 holders (they and itself) can restore it."""

    neighbours: int
    threshold: int


@cache
def sufficient(clients: int, assumed: Assumptions) -> Degree:
    """The smallest k with a t such that a random graph is good; the complete graph where none is smaller.

    A graph is good where these hold, with probabilities over the clients' draws and the union bound over clients:

    1. The server never gets both secrets of a client. Each of the k + 1 holders reveals one of them if it is honest,
       and both if it is corrupted, so that 2t > (k + 1) + corrupted holders is enough.
    2. A round can be finished: t holders are left.
    3. The honest clients that stay are connected, see `_apart`.
    """
    from scipy.stats import hypergeom  # type: ignore[import-untyped]

    n, union = clients, log2(clients)
    bad, gone = ceil(assumed.corrupted * n), ceil(assumed.dropping * n)
    for k in range(2, n - 1):
        t = np.arange((k + 1) // 2 + 1, k + 2)
        # log₂ P(X ≥ x), x = 0 … k + 1 corrupted holders, from its far end: no term is lost beside a larger one.
        exactly = np.append(hypergeom.logpmf(np.arange(k + 1), n - 1, bad, k), -np.inf)
        at_least = np.logaddexp.accumulate(exactly[::-1])[::-1] / log(2)
        # Condition 1 fails with 2t − k − 1 of them or more.
        both = at_least[2 * t - k - 1]
        secret = t[union + both <= -assumed.secrecy]
        if not len(secret):
            continue
        # Condition 2 fails with fewer than t holders left; the client itself may be gone.
        stuck = hypergeom.logcdf(secret[0] - 1, n - 1, n - 1 - gone, k) / log(2)
        if union + stuck <= -assumed.completion and _apart(n, k, bad + gone) <= -assumed.secrecy:
            return Degree(k, int(secret[0]))
    return Degree(n - 1, (n + bad) // 2 + 1)


def _apart(n: int, k: int, lost: int) -> float:
    """log₂ of a bound on the probability that some s of the h = n − lost clients share masks with none of the others.

    All draws of the s fall on one another or on clients that are lost, and the h − s others draw none of the s.
    """
    from scipy.special import gammaln  # type: ignore[import-untyped]

    h = n - lost
    s = np.arange(1, h // 2 + 1)
    if not len(s):
        return 0.0
    inside = k * s * np.log(np.minimum((lost + s - 1) / (n - 1), 1) + 1e-300)
    outside = k * (h - s) * np.log1p(-s / (n - 1))
    ways = gammaln(h + 1) - gammaln(s + 1) - gammaln(h - s + 1)
    return float(np.logaddexp.reduce(ways + inside + outside) / log(2))
