"""The graph of clients that share masks: complete, or for many clients a random k-regular one of sufficient degree.

J. Bell, K. Bonawitz, A. Gascón, T. Lepoint, M. Raykova, "Secure single-server aggregation with (poly)logarithmic
overhead", CCS 2020, section 3 (the Harary graph on randomly permuted clients, and what makes a graph good).
"""

from dataclasses import dataclass
from functools import cache
from math import ceil, log, log2
from typing import NamedTuple

import torch

from gradwire.errors import GradwireError


@dataclass(frozen=True)
class Assumptions:
    """What a graph must withstand, and how surely; by default 5 % corrupted, 10 % dropping, σ = 40, η = 30.

    Attributes:
        corrupted: the share of clients that may side with the server.
        dropping: the share of clients that may drop out of a round.
        secrecy: σ: a secret is lost with probability 2^−σ at most.
        completion: η: a round cannot be finished with probability 2^−η at most.
    """

    corrupted: float = 0.05
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

    A graph is good where these hold, with probabilities over the random graph and the union bound over clients:

    1. The server never gets both secrets of a client. Each of the k + 1 holders reveals one of them if it is honest,
       and both if it is corrupted, so that 2t > (k + 1) + corrupted neighbours is enough.
    2. A round can be finished: t holders are left.
    3. The honest clients that stay are connected: a Harary graph falls apart only where k/2 consecutive clients are
       all corrupted or gone, n·(γ + δ)^(k/2).
    """
    for k in range(2, clients - 1, 2):
        for t in range((k + 1) // 2 + 1, k + 2):
            if _good(clients, k, t, assumed):
                return Degree(k, t)
    return Degree(clients - 1, clients // 2 + 1)


def _good(n: int, k: int, t: int, assumed: Assumptions) -> bool:
    from scipy.stats import hypergeom  # type: ignore[import-untyped]

    bad, gone = assumed.corrupted, assumed.dropping
    if bad + gone >= 1 or log2(n) + k / 2 * log2(bad + gone or 2**-99) > -assumed.secrecy:
        return False
    # Condition 1 fails with 2t − k − 1 corrupted neighbours or more; X ≥ x is X > x − 1.
    revealed = hypergeom.logsf(2 * t - k - 2, n - 1, ceil(bad * n), k) / log(2)
    # Condition 2 fails with fewer than t holders left; the client itself may be gone.
    stuck = hypergeom.logcdf(t - 1, n - 1, n - 1 - ceil(gone * n), k) / log(2)
    return bool(log2(n) + revealed <= -assumed.secrecy and log2(n) + stuck <= -assumed.completion)


def neighbourhoods(clients: int, degree: int, generator: torch.Generator) -> list[tuple[int, ...]]:
    """Each client's neighbours, ascending: those within degree/2 on a circle in random order (a Harary graph).

    `degree` is even, or clients − 1 for the complete graph; `generator` is the same on every party.
    """
    if degree >= clients - 1:
        return [tuple(j for j in range(clients) if j != i) for i in range(clients)]
    circle = torch.randperm(clients, generator=generator).tolist()
    place = {client: where for where, client in enumerate(circle)}
    steps = [step for s in range(1, degree // 2 + 1) for step in (s, -s)]
    return [tuple(sorted(circle[(place[i] + step) % clients] for step in steps)) for i in range(clients)]
