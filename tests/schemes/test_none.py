import torch
from hypothesis import given
from hypothesis import strategies as st

from gradwire.schemes.halves import mean
from tests.schemes.rounds import Cluster, random_update


@given(st.integers(1, 6), st.integers(0, 1000))
def test_averaging_equals_the_plain_average(clients, seed):
    updates = [random_update(seed + i) for i in range(clients)]
    aggregate, _ = Cluster.of("none", updates).run(updates)
    for name in updates[0]:
        torch.testing.assert_close(aggregate[name], torch.stack([u[name] for u in updates]).mean(0))


def test_the_server_decodes_the_victims_update_itself():
    updates = [random_update(0), random_update(1)]
    cluster = Cluster.of("none", updates)
    _, observation = cluster.run(updates)
    for name, tensor in cluster.scheme.decode(observation).items():
        assert torch.equal(tensor, updates[0][name])


@given(clients=st.integers(1, 9), seed=st.integers(0, 99))
def test_the_mean_is_that_of_all_and_leaves_what_was_sent_as_it_was(clients, seed):
    random = torch.Generator().manual_seed(seed)
    stacked = torch.randn(clients, 5, 3, generator=random, dtype=torch.float64)
    sent = {f"client:{i}": {"a": row.clone(), "b": row[0].float()} for i, row in enumerate(stacked)}
    found = mean(sent)
    torch.testing.assert_close(found["a"], stacked.mean(0))
    torch.testing.assert_close(found["b"], stacked[:, 0].float().mean(0))
    assert torch.equal(torch.stack([tensors["a"] for tensors in sent.values()]), stacked)
