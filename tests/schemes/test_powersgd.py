import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradwire.errors import GradwireError
from gradwire.schemes import Layout, StackedMeasurement, parse
from gradwire.schemes.powersgd import Factorisation, orthonormal
from tests.schemes.rounds import SHAPES, Cluster, flat, random_update


@given(st.integers(2, 12), st.integers(2, 12), st.integers(1, 4), st.integers(0, 4), st.integers(0, 1000))
def test_exact_for_matrices_of_rank_at_most_r(n, m, rank, true_rank, seed):
    true_rank = min(true_rank, rank)
    g = torch.Generator().manual_seed(seed)
    matrix = torch.randn(n, true_rank, generator=g) @ torch.randn(true_rank, m, generator=g)
    update = {"w": matrix}
    aggregate, _ = Cluster.of(f"powersgd:rank={rank}", [update]).run([update])
    torch.testing.assert_close(aggregate["w"], matrix, atol=1e-5, rtol=1e-4)


@given(st.integers(1, 4), st.integers(1, 3), st.integers(0, 1000))
@settings(max_examples=50)
def test_mean_update_is_aggregate_plus_mean_error(rank, clients, seed):
    updates = [random_update(seed + i) for i in range(clients)]
    cluster = Cluster.of(f"powersgd:rank={rank}", updates)
    before = [cluster.private[party] for party in cluster.private]
    for step in range(3):
        updates = [random_update(seed + 10 * step + i) for i in range(clients)]
        aggregate, _ = cluster.run(updates)
        after = list(cluster.private.values())
        mean_delta = sum(flat(u) + flat(e) for u, e in zip(updates, before, strict=True)) / clients
        mean_error = sum(flat(e) for e in after) / clients
        torch.testing.assert_close(flat(aggregate) + mean_error, mean_delta, atol=1e-5, rtol=1e-5)
        before = after


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e15])
@pytest.mark.parametrize("kind", ["zero", "one column thrice", "one zero column", "full"])
def test_orthonormal_columns_whatever_the_input(kind, scale):
    matrix = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)) * scale
    if kind == "zero":
        matrix.zero_()
    if kind == "one column thrice":
        matrix = matrix[:, :1].expand(20, 3).clone()
    if kind == "one zero column":
        matrix[:, 1] = 0
    q = orthonormal({"w": matrix})["w"]
    torch.testing.assert_close(q.T @ q, torch.eye(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(q @ (q.T @ matrix), matrix, atol=1e-5 * scale, rtol=1e-5)


def test_a_zero_update_stays_zero():
    update = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    aggregate, _ = Cluster.of("powersgd:rank=2", [update]).run([update])
    assert not flat(aggregate).any()


def test_what_would_not_shrink_is_sent_dense():
    layout = Layout(SHAPES)
    assert set(Factorisation.of(layout, 4).shapes) == {"conv.weight", "head.weight"}
    assert set(Factorisation.of(layout, 6).shapes) == {"head.weight"}
    assert not Factorisation.of(Layout({"as many numbers": (4, 4)}), 2).shapes
    update = random_update(0)
    aggregate, _ = Cluster.of("powersgd:rank=1", [update]).run([update])
    assert torch.equal(aggregate["conv.bias"], update["conv.bias"])
    everything, _ = Cluster.of("powersgd:rank=100", [update]).run([update])
    assert torch.equal(flat(everything), flat(update))


def test_warm_start_converges_to_the_best_approximation():
    update = {"w": random_update(0, {"w": (30, 20)})["w"]}
    best = float(torch.linalg.svdvals(update["w"])[2:].norm())
    cluster = Cluster.of("powersgd:rank=2,error_feedback=false", [update])
    cold = Cluster.of("powersgd:rank=2,error_feedback=false,warm_start=false", [update])
    for _ in range(60):
        warm_aggregate, _ = cluster.run([update])
        cold_aggregate, _ = cold.run([update])
    assert float((update["w"] - warm_aggregate["w"]).norm()) == pytest.approx(best, rel=1e-3)
    assert (update["w"] - cold_aggregate["w"]).norm() > 1.02 * best


def test_measurement_counts_what_was_sent():
    update = random_update(0)
    cluster = Cluster.of("powersgd:rank=2", [update])
    _, observation = cluster.run([update])
    stack = StackedMeasurement.of([cluster.scheme.measure(observation)], torch.zeros(1))
    sent = sum(tensor.square().sum() for tensors in observation.uploads.values() for tensor in tensors.values())
    torch.testing.assert_close(stack.energy, sent[None])


@pytest.mark.parametrize(("spec", "message"), [("powersgd:rank=0", "rank is 0"), ("powersgd:rank=x", "whole number")])
def test_parameters_that_cannot_be(spec, message):
    with pytest.raises(GradwireError, match=message):
        parse(spec)
