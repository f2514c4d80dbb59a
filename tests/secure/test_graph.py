import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradwire.errors import GradwireError
from gradwire.secure.graph import STATED, Assumptions, neighbourhoods, sufficient


@given(st.integers(2, 60), st.integers(1, 29), st.integers(0, 9))
def test_graphs_are_regular_mutual_and_connected(clients, half, seed):
    degree = min(2 * half, clients - 1)
    graph = neighbourhoods(clients, degree, torch.Generator().manual_seed(seed))
    assert all(len(set(peers)) == len(peers) == degree for peers in graph)
    assert all(i not in peers and all(i in graph[j] for j in peers) for i, peers in enumerate(graph))
    reached = {0}
    while more := {j for i in reached for j in graph[i]} - reached:
        reached |= more
    assert len(reached) == clients


def test_the_degree_grows_with_the_logarithm_of_the_clients():
    degrees = {n: sufficient(n, STATED).neighbours for n in (100, 1000, 10_000, 1_000_000)}
    assert degrees[100] < 60
    assert degrees[1_000_000] < 2 * degrees[1000]
    assert list(degrees.values()) == sorted(degrees.values())


@pytest.mark.parametrize("clients", [2, 3, 10, 37, 64, 100, 250, 1000])
def test_a_server_that_lies_needs_more_shares_than_there_are_honest_holders(clients):
    degree = sufficient(clients, STATED)
    assert 2 * degree.threshold > degree.neighbours + 1
    assert degree.threshold <= degree.neighbours + 1


def test_few_clients_share_with_everybody():
    assert sufficient(10, STATED).neighbours == 9
    assert sufficient(10, STATED).threshold == 6


def test_more_enemies_need_more_neighbours():
    mild, harsh = Assumptions(0.01, 0.05), Assumptions(0.2, 0.05)
    assert sufficient(10_000, mild).neighbours < sufficient(10_000, harsh).neighbours


def test_shares_of_clients_that_cannot_be():
    with pytest.raises(GradwireError, match=r"corrupted is 1.5; it must be a share in \[0, 1\)"):
        Assumptions(corrupted=1.5)
