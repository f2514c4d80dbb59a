import dataclasses

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradwire.errors import GradwireError
from gradwire.schemes import StackedMeasurement, parse
from gradwire.schemes.gradients import Full
from tests.schemes.rounds import Cluster, flat, random_update


@given(st.floats(0, 0.999), st.integers(0, 1000))
def test_each_tensor_loses_its_smallest_entries_and_nothing_else_changes(drop, seed):
    update = random_update(seed)
    cluster = Cluster.of(f"sparsify:drop={drop}", [update])
    _, observation = cluster.run([update])
    for name, decoded in cluster.scheme.decode(observation).items():
        kept = decoded != 0
        assert torch.equal(decoded[kept], update[name][kept])
        assert int((~kept).sum()) == pytest.approx(drop * kept.numel(), abs=1)
        if not kept.all():
            assert update[name][kept].abs().min() >= update[name][~kept].abs().max()


@pytest.mark.parametrize(("drop", "kept"), [(0.7, 30), (0.9, 10), (0.99, 1), (0.999, 1), (0, 100)])
def test_shares_are_exact(drop, kept):
    update = random_update(0, {"a": (10, 10)})
    cluster = Cluster.of(f"sparsify:drop={drop}", [update])
    aggregate, _ = cluster.run([update])
    assert int((aggregate["a"] != 0).sum()) == kept


def test_nothing_is_carried_over():
    update = random_update(0)
    cluster = Cluster.of("sparsify:drop=0.9", [update])
    first, _ = cluster.run([update])
    second, _ = cluster.run([update])
    assert cluster.private == {"client:0": {}}
    assert torch.equal(flat(first), flat(second))


@given(st.floats(0, 0.99), st.integers(1, 4))
def test_the_aggregate_is_the_mean_of_what_was_sent(drop, clients):
    updates = [random_update(i) for i in range(clients)]
    aggregate, _ = Cluster.of(f"sparsify:drop={drop}", updates).run(updates)
    sent = [flat(Cluster.of(f"sparsify:drop={drop}", [update]).run([update])[0]) for update in updates]
    torch.testing.assert_close(flat(aggregate), sum(sent) / clients)


def test_the_message_is_never_longer_than_the_whole_update():
    update = random_update(0, {"a": (100, 100)})
    sizes = {}
    for spec in ("none", "sparsify:drop=0", "sparsify:drop=0.01", "sparsify:drop=0.9"):
        cluster = Cluster.of(spec, [update])
        cluster.run([update])
        sizes[spec] = cluster.bytes_up
    assert sizes["sparsify:drop=0"] <= sizes["none"] + 8
    assert sizes["sparsify:drop=0.01"] <= sizes["none"] + 8
    assert sizes["sparsify:drop=0.9"] < sizes["none"] / 7


@given(st.floats(0, 0.99))
def test_measurement_is_exact_on_the_kept_entries_and_silent_elsewhere(drop):
    update, noise = random_update(0), random_update(1)
    cluster = Cluster.of(f"sparsify:drop={drop}", [update])
    _, observation = cluster.run([update])
    decoded = cluster.scheme.decode(observation)
    elsewhere = {name: torch.where(decoded[name] == 0, noise[name], update[name]) for name in update}
    stack = StackedMeasurement.of([cluster.scheme.measure(observation)], torch.zeros(1))
    assert float(stack.distance({name: Full(g[None]) for name, g in elsewhere.items()})) == 0


@pytest.mark.parametrize("drop", [0.0, 0.5, 0.9])
def test_a_fellow_finds_what_the_other_sent(drop):
    updates = [random_update(i) for i in range(2)]
    cluster = Cluster.of(f"sparsify:drop={drop}", updates)
    _, observation = cluster.run(updates)
    own = next(cluster.scheme.client(updates[1], {}, {}, observation.round)).tensors
    found = cluster.scheme.others(observation.replies["entries"], own, "client:0", {}, observation.round)
    seen = cluster.scheme.decode(dataclasses.replace(observation, uploads={"entries": found}))
    torch.testing.assert_close(flat(seen), flat(cluster.scheme.decode(observation)), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sparsify", "scheme 'sparsify' lacks drop: sparsify:drop=VALUE"),
        ("sparsify:drop=1", r"drop is 1.0; it must be in \[0, 1\)"),
        ("sparsify:drop=-0.1", "drop is -0.1"),
        ("sparsify:drop=nan", "drop is nan"),
    ],
)
def test_parameters_that_cannot_be(spec, message):
    with pytest.raises(GradwireError, match=message):
        parse(spec)
