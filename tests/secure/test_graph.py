from math import ceil, comb, log2

import numpy as np
import pytest
from scipy.stats import hypergeom

from gradwire.errors import GradwireError
from gradwire.secure.graph import STATED, Assumptions, Degree, _apart, sufficient

TWENTIETH = Assumptions(corrupted=0.05)


@pytest.mark.parametrize(
    ("clients", "assumed", "published"),
    [
        (100, STATED, Degree(56, 46)),
        (1000, STATED, Degree(250, 194)),
        (10_000, STATED, Degree(364, 281)),
        (100, TWENTIETH, Degree(27, 17)),
        (1000, TWENTIETH, Degree(91, 59)),
        (10_000, TWENTIETH, Degree(114, 74)),
    ],
)
def test_the_published_degrees_are_what_comes_out(clients, assumed, published):
    """Those of the documentation. A term that is dropped, such as the union bound over clients, moves them."""
    assert sufficient(clients, assumed) == published


@pytest.mark.parametrize("assumed", [STATED, TWENTIETH, Assumptions(0.2, 0.05)])
@pytest.mark.parametrize("clients", [64, 250, 1000])
def test_a_secret_of_any_client_is_safe_by_the_union_bound_and_one_neighbour_fewer_is_not_enough(clients, assumed):
    """Worked out once more from the exact probabilities: P(some client has 2t − k − 1 corrupted holders) ≤ 2^−σ."""

    def lost(k, t):
        bad = ceil(assumed.corrupted * clients)
        return clients * hypergeom.sf(2 * t - k - 2, clients - 1, bad, k)

    def stuck(k, t):
        gone = ceil(assumed.dropping * clients)
        return clients * hypergeom.cdf(t - 1, clients - 1, clients - 1 - gone, k)

    k, t = sufficient(clients, assumed)
    assert log2(lost(k, t) + 1e-300) <= -assumed.secrecy
    assert log2(stuck(k, t) + 1e-300) <= -assumed.completion
    fewer = np.arange((k + 1) // 2, k + 1)
    good = (lost(k - 1, fewer) <= 2**-assumed.secrecy) & (stuck(k - 1, fewer) <= 2**-assumed.completion)
    assert not good.any()


@pytest.mark.parametrize("clients", [2, 3, 10, 37, 64, 100, 250, 1000])
def test_a_server_that_lies_needs_more_shares_than_there_are_honest_holders(clients):
    degree = sufficient(clients, STATED)
    assert 2 * degree.threshold > degree.neighbours + 1
    assert degree.threshold <= degree.neighbours + 1


@pytest.mark.parametrize(("n", "k", "lost"), [(6, 2, 1), (12, 3, 2), (40, 8, 16)])
def test_honest_clients_stay_connected_as_often_as_the_bound_says(n, k, lost):
    """The bound worked out term by term, and held against graphs that were drawn."""
    h = n - lost
    terms = (
        comb(h, s) * ((lost + s - 1) / (n - 1)) ** (k * s) * (1 - s / (n - 1)) ** (k * (h - s))
        for s in range(1, h // 2 + 1)
    )
    bound = sum(terms)
    assert _apart(n, k, lost) == pytest.approx(log2(bound))
    random, trials = np.random.default_rng(0), 400
    apart = sum(not connected(n, k, h, random) for _ in range(trials))
    assert apart <= trials * min(1, bound) + 3 * (trials * min(1, bound)) ** 0.5


def connected(n, k, honest, random):
    """Whether the honest clients of a drawn graph are connected by masks that they share with one another."""
    drawn = [set(random.choice([j for j in range(n) if j != i], k, replace=False).tolist()) for i in range(honest)]
    found, waiting = {0}, [0]
    while waiting:
        i = waiting.pop()
        near = {j for j in range(honest) if j in drawn[i] or i in drawn[j]} - found
        found, waiting = found | near, [*waiting, *near]
    return len(found) == honest


def test_few_clients_share_with_everybody():
    assert sufficient(10, STATED) == (9, 8)
    assert sufficient(10, TWENTIETH) == (9, 6)


def test_more_enemies_need_more_neighbours():
    mild, harsh = Assumptions(0.01, 0.05), Assumptions(0.2, 0.05)
    assert sufficient(10_000, mild).neighbours < sufficient(10_000, harsh).neighbours


def test_shares_of_clients_that_cannot_be():
    with pytest.raises(GradwireError, match=r"corrupted is 1.5; it must be a share in \[0, 1\)"):
        Assumptions(corrupted=1.5)
