import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradwire import models
from gradwire.errors import GradwireError
from gradwire.schemes import Layout, StackedMeasurement, parse
from gradwire.schemes.gradients import Full
from gradwire.schemes.powersgd import Factorisation
from gradwire.schemes.selection import largest
from tests.schemes.rounds import Cluster, flat, random_update

# Few distinct values, so that ties and zeros are the rule.
vectors = st.lists(st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, -3.5]), min_size=1, max_size=40).map(torch.tensor)


@given(vectors, st.data())
def test_keeps_the_k_largest_magnitudes(vector, data):
    count = data.draw(st.integers(0, len(vector)))
    kept = largest(vector, count)
    assert len(kept) == count
    assert (kept.diff() > 0).all()
    dropped = torch.ones(len(vector), dtype=torch.bool)
    dropped[kept] = False
    if 0 < count < len(vector):
        assert vector[kept].abs().min() >= vector[dropped].abs().max()


@given(st.floats(0.001, 1), st.sampled_from(["tensor", "model"]), st.integers(0, 1000), st.integers(1, 3))
def test_update_is_what_was_sent_plus_error(ratio, per, seed, clients):
    updates = [random_update(seed + i) for i in range(clients)]
    cluster = Cluster.of(f"topk:ratio={ratio},per={per}", updates)
    before = 0
    for step in range(3):
        updates = [random_update(seed + 10 * step + i) for i in range(clients)]
        _, observation = cluster.run(updates)
        sent = flat(cluster.scheme.decode(observation))
        error = cluster.private["client:0"]["residual"]
        assert torch.equal(sent + error, flat(updates[0]) + before)
        assert (sent * error == 0).all()
        before = error


@given(st.floats(0.001, 0.5), st.integers(1, 4))
def test_the_aggregate_is_the_mean_of_what_was_sent(ratio, clients):
    updates = [random_update(i) for i in range(clients)]
    cluster = Cluster.of(f"topk:ratio={ratio}", updates)
    aggregate, _ = cluster.run(updates)
    expected = sum(flat(u) - cluster.private[p]["residual"] for u, p in zip(updates, cluster.private, strict=True))
    torch.testing.assert_close(flat(aggregate), expected / clients)


def test_without_error_feedback_nothing_is_carried_over():
    updates = [random_update(0)]
    cluster = Cluster.of("topk:ratio=0.1,error_feedback=false", updates)
    first, _ = cluster.run(updates)
    second, _ = cluster.run(updates)
    assert cluster.private == {"client:0": {}}
    assert torch.equal(flat(first), flat(second))


def test_per_model_keeps_the_largest_of_the_whole():
    update = random_update(0)
    update["head.bias"] += 100
    cluster = Cluster.of("topk:ratio=0.02,per=model", [update])
    aggregate, _ = cluster.run([update])
    kept = flat(aggregate).abs()
    assert torch.equal(aggregate["head.bias"], update["head.bias"])
    assert kept[kept > 0].min() >= flat(update).abs()[kept == 0].max()


@pytest.mark.parametrize("per", ["tensor", "model"])
@pytest.mark.parametrize("rank", [1, 2, 4, 30])
@pytest.mark.parametrize("name", ["convnet", "resnet18"])
def test_match_rank_costs_what_powersgd_of_that_rank_costs(name, rank, per):
    model = models.build(name, (3, 32, 32), 10, seed=0)
    layout = Layout.of_model(model)
    update = random_update(0, layout.shapes)
    sizes = {}
    for spec in (f"powersgd:rank={rank}", f"topk:match_rank={rank},per={per}"):
        cluster = Cluster.of(spec, [update])
        cluster.run([update])
        sizes[spec.partition(":")[0]] = cluster.bytes_up
    assert sizes["topk"] == pytest.approx(sizes["powersgd"], abs=0.01 * sizes["powersgd"] + 300)
    assert sizes["topk"] <= sizes["powersgd"]
    assert sum(parse(f"topk:match_rank={rank}").counts(layout).values()) <= Factorisation.of(layout, rank).entries


def test_measurement_is_exact_on_the_kept_entries_and_silent_elsewhere():
    update = random_update(0)
    cluster = Cluster.of("topk:ratio=0.1", [update])
    _, observation = cluster.run([update])
    measurement = cluster.scheme.measure(observation)
    noise = random_update(1)
    decoded = cluster.scheme.decode(observation)
    elsewhere = {name: torch.where(decoded[name] == 0, noise[name], update[name]) for name in update}
    stack = StackedMeasurement.of([measurement], torch.zeros(1))
    inner, square = stack.moments({name: Full(tensor[None]) for name, tensor in elsewhere.items()})
    torch.testing.assert_close(inner, stack.energy)
    torch.testing.assert_close(square, stack.energy)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("topk", "needs either ratio or match_rank"),
        ("topk:ratio=0.1,match_rank=2", "needs either ratio or match_rank"),
        ("topk:ratio=0", r"ratio is 0.0; it must be in \(0, 1\]"),
        ("topk:ratio=1.5", r"ratio is 1.5; it must be in \(0, 1\]"),
        ("topk:ratio=nan", r"ratio is nan; it must be in \(0, 1\]"),
        ("topk:match_rank=0", "match_rank is 0; it must be at least 1"),
        ("topk:ratio=0.1,per=layer", "it must be one of tensor, model"),
    ],
)
def test_parameters_that_cannot_be(spec, message):
    with pytest.raises(GradwireError, match=message):
        parse(spec)
