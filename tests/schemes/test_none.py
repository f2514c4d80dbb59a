import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.schemes.rounds import Cluster, random_update


@given(st.integers(1, 6), st.integers(0, 1000))
def test_averaging_equals_the_plain_average(clients, seed):
    updates = [random_update(seed + i) for i in range(clients)]
    aggregate, _ = Cluster.of("none", updates).run(updates)
    for name in updates[0]:
        torch.testing.assert_close(aggregate[name], torch.stack([u[name] for u in updates]).mean(0))
