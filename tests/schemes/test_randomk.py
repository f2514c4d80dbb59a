import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradwire.errors import GradwireError
from gradwire.schemes import Layout, Round, parse
from gradwire.schemes.powersgd import Factorisation
from gradwire.schemes.randomk import draw
from tests.schemes.rounds import SHAPES, Cluster, flat, random_update

LAYOUT = Layout(SHAPES)


@given(st.integers(1, 300), st.data())
def test_draws_are_distinct_and_ascending(size, data):
    count = data.draw(st.integers(0, size))
    drawn = draw(size, count, torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    assert len(drawn) == count
    assert (drawn.diff() > 0).all()
    assert count == 0 or 0 <= drawn[0] <= drawn[-1] < size


@pytest.mark.parametrize("count", [3, 20])
def test_every_position_is_as_likely_as_any_other(count):
    size, rounds = 40, 4000
    g = torch.Generator().manual_seed(0)
    hits = torch.zeros(size)
    for _ in range(rounds):
        hits[draw(size, count, g)] += 1
    # Five standard deviations of a binomial: a fair draw strays further once in 40,000 runs of 40 positions.
    share = count / size
    assert ((hits / rounds - share).abs() < 5 * (share * (1 - share) / rounds) ** 0.5).all()


def test_all_parties_draw_the_same_positions_and_each_round_others():
    scheme = parse("randomk:ratio=0.1")
    first, second = (scheme.positions(Round(i, ("client:0",), 7, LAYOUT)) for i in (0, 1))
    assert torch.equal(first, scheme.positions(Round(0, ("client:0",), 7, LAYOUT)))
    assert not torch.equal(first, second)


@given(st.floats(0.001, 1), st.sampled_from(["tensor", "model"]), st.integers(0, 1000), st.integers(1, 3))
def test_mean_update_is_aggregate_plus_mean_error(ratio, per, seed, clients):
    cluster = Cluster.of(f"randomk:ratio={ratio},per={per}", [random_update(seed)] * clients)
    before = [torch.zeros(LAYOUT.size)] * clients
    for step in range(3):
        updates = [random_update(seed + 10 * step + i) for i in range(clients)]
        aggregate, _ = cluster.run(updates)
        after = [state["residual"] for state in cluster.private.values()]
        mean_delta = sum(flat(u) + e for u, e in zip(updates, before, strict=True)) / clients
        torch.testing.assert_close(flat(aggregate) + sum(after) / clients, mean_delta)
        before = after


def test_is_a_contraction_in_the_mean():
    """E‖x − rand_k(x)‖² = (1 − k/d)·‖x‖²."""
    update = {"w": random_update(0, {"w": (100,)})["w"]}
    cluster = Cluster.of("randomk:ratio=0.2,error_feedback=false", [update])
    lost = torch.tensor([float((cluster.run([update])[0]["w"] - update["w"]).square().sum()) for _ in range(1000)])
    expected = 0.8 * float(update["w"].square().sum())
    assert abs(float(lost.mean()) - expected) < 4 * float(lost.std()) / len(lost) ** 0.5


def test_positions_cost_nothing():
    update = random_update(0)
    cluster = Cluster.of("randomk:ratio=0.1", [update])
    _, observation = cluster.run([update])
    assert set(observation.uploads["entries"]) == {"values"}
    assert observation.uploads["entries"]["values"].shape == (22 + 1 + 24 + 1,)


@pytest.mark.parametrize("rank", [1, 2])
def test_match_rank_sends_as_many_numbers_as_powersgd(rank):
    scheme = parse(f"randomk:match_rank={rank}")
    assert len(scheme.positions(Round(0, ("client:0",), 0, LAYOUT))) == Factorisation.of(LAYOUT, rank).entries


def test_a_fellow_takes_its_own_part_out():
    updates = [random_update(0), random_update(1)]
    cluster = Cluster.of("randomk:ratio=0.1,error_feedback=false", updates)
    _, observation = cluster.run(updates)
    other = cluster.scheme.others(
        observation.replies["entries"], observation.uploads["entries"], "client:0", {}, observation.round
    )
    positions = cluster.scheme.positions(observation.round)
    torch.testing.assert_close(other["values"], flat(updates[1])[positions])


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("randomk", "randomk needs either ratio or match_rank"),
        ("randomk:ratio=2.0", r"randomk: ratio is 2.0; it must be in \(0, 1\]"),
        ("randomk:match_rank=0", "randomk: match_rank is 0; it must be at least 1"),
    ],
)
def test_parameters_that_cannot_be(spec, message):
    with pytest.raises(GradwireError, match=message):
        parse(spec)
