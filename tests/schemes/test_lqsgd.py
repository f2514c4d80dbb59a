from math import log1p

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradwire.errors import GradwireError, WireError
from gradwire.schemes import Layout, Round, parse
from gradwire.schemes.gradients import Full
from gradwire.schemes.lqsgd import FactorCells, LeftCells, RightCells
from gradwire.schemes.powersgd import Factorisation
from gradwire.wire import bits
from tests.schemes.rounds import SHAPES, Cluster, flat, random_update


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def once(spec, factor):
    scheme, layout = parse(spec), Layout.of({"w": factor})
    sent = scheme.quantise({"w": factor}, layout)
    return sent, layout.unflatten(scheme.opened(sent, layout)["mean"])["w"]


@given(st.integers(2, 8), st.floats(0.01, 1000), st.integers(1, 40), st.integers(0, 1000))
def test_every_entry_gets_the_nearest_of_the_papers_levels(width, alpha, size, seed):
    factor = drawn(size, 1, seed=seed)
    sent, decoded = once(f"lqsgd:bits={width},alpha={alpha}", factor)
    s, unit = 2 ** (width - 1) - 1, float(factor.abs().max())

    def q(x):
        x = x.double() / unit
        return x.sign() * torch.log1p(alpha * x.abs()) / log1p(alpha)

    levels = s * q(decoded)
    torch.testing.assert_close(levels, levels.round(), atol=2e-3, rtol=0)
    assert ((q(factor) - q(decoded)).abs() <= (0.5 + 2e-3) / s).all()
    assert sent["codes"].nbytes == bits.packed_size(size, width)


@pytest.mark.parametrize("scale", [0.0, 1e-42, 1e-20, 1e18])
def test_any_scale(scale):
    factor = scale * drawn(30, 2)
    _, decoded = once("lqsgd", factor)
    assert torch.isfinite(decoded).all()
    assert (decoded - factor).norm() <= factor.norm()


@given(st.integers(1, 3), st.integers(2, 8), st.integers(1, 3), st.integers(0, 1000))
@settings(max_examples=30)
def test_mean_update_is_aggregate_plus_mean_error(rank, width, clients, seed):
    updates = [random_update(seed + i) for i in range(clients)]
    cluster = Cluster.of(f"lqsgd:rank={rank},bits={width}", updates)
    before = list(cluster.private.values())
    for step in range(3):
        updates = [random_update(seed + 10 * step + i) for i in range(clients)]
        aggregate, _ = cluster.run(updates)
        after = list(cluster.private.values())
        mean_delta = sum(flat(u) + flat(e) for u, e in zip(updates, before, strict=True)) / clients
        torch.testing.assert_close(flat(aggregate) + sum(map(flat, after)) / clients, mean_delta, atol=1e-5, rtol=1e-5)
        before = after


def test_many_levels_are_powersgd_and_few_are_not():
    """The distance to PowerSGD's aggregate falls with every bit, down to rounding a tenth of a percent of it."""
    updates = [random_update(0), random_update(1)]
    due = flat(Cluster.of("powersgd:rank=2", updates).run(updates)[0])
    off = []
    for width in (2, 4, 6, 8):
        aggregate, _ = Cluster.of(f"lqsgd:rank=2,bits={width},alpha=0.01", updates).run(updates)
        off.append(float((flat(aggregate) - due).norm() / due.norm()))
    assert off == sorted(off, reverse=True)
    assert off[0] > 0.1
    assert off[-1] < 0.01


@pytest.mark.parametrize(("width", "rank"), [(8, 1), (4, 3)])
def test_bits_of_the_factors_their_magnitudes_and_the_rest_are_all_that_is_sent(width, rank):
    updates = [random_update(0)]
    _, observation = Cluster.of(f"lqsgd:bits={width},rank={rank}", updates).run(updates)
    plan = Factorisation.of(Layout(SHAPES), rank)
    sizes = {"P": plan.p.size, "Q": plan.q.size}
    for phase, tensors in observation.uploads.items():
        assert tensors["codes"].nbytes == -(-sizes[phase] * width // 8)
        assert tensors["scales"].nbytes == 4 * len(plan.shapes)
    assert observation.uploads["P"]["dense"].nbytes == 4 * plan.rest.size
    assert set(observation.uploads["Q"]) == {"codes", "scales"}


def measured(spec, updates):
    cluster = Cluster.of(spec, updates)
    _, observation = cluster.run(updates)
    terms = cluster.scheme.measure(observation)
    return cluster, observation, [(name, t) for name, each in terms.items() for t in each if isinstance(t, FactorCells)]


def test_the_cells_hold_the_truth_and_little_else():
    updates = [random_update(0), random_update(1)]
    _, _, terms = measured("lqsgd:rank=2,bits=4", updates)
    assert [type(term) for _, term in terms] == [RightCells, LeftCells] * (len(terms) // 2)
    for name, term in terms:
        own, other = (Full(update[name][None]) for update in updates)
        assert float(term.violation(own)) < 1e-6
        assert float(term.violation(other)) > 1e-3
        edge = term.observed + term.width
        assert float((term.apply(own) - term.observed).abs().sub(term.width).max()) < 1e-5 * float(edge.abs().max())
        assert float(term.times(3.0).violation(Full(3 * updates[0][name][None]))) < 1e-6
        nearest = term.nearest(updates[1][name][None])
        assert float(term.violation(Full(nearest))) < 1e-5
        assert nearest.shape == updates[1][name][None].shape
        far = (nearest - updates[1][name][None]).norm()
        assert far <= (updates[0][name] - updates[1][name]).norm()  # the truth is in the cells, too
        variance = torch.tensor([0.01])
        assert float(term.surprise(own, variance)) < float(term.surprise(other, variance))


def test_the_cells_of_one_entry_share_their_edges():
    """From one level's cell to the next there is no gap, and the outermost end at the largest magnitude."""
    scheme, layout = parse("lqsgd:bits=4"), Layout({"w": (15, 1)})
    codes = {"codes": bits.pack(torch.arange(15, dtype=torch.uint8), 4), "scales": torch.tensor([2.0])}
    ((middle, width),) = scheme._cells(codes, layout).values()
    low, high = (middle - width).flatten(), (middle + width).flatten()
    torch.testing.assert_close(low[1:], high[:-1])
    torch.testing.assert_close(torch.stack([low[0], high[-1]]), torch.tensor([-2.0, 2.0]))


def test_a_fellow_gets_the_others_mean_and_no_cell():
    updates = [random_update(i) for i in range(3)]
    cluster, observation, _ = measured("lqsgd:rank=2", updates)
    plan = Factorisation.of(observation.round.layout, 2)
    known = {phase: cluster.others(observation, phase) for phase in ("P", "Q")}
    mine = cluster.scheme.opened(observation.uploads["Q"], plan.q)["mean"]
    torch.testing.assert_close((2 * known["Q"]["mean"] + mine) / 3, observation.replies["Q"]["mean"])
    seen = type(observation)(known, observation.replies, observation.public, observation.round)
    others = {name: (updates[1][name] + updates[2][name]) / 2 for name in updates[0]}
    for name, terms in cluster.scheme.measure(seen).items():
        for term in terms:
            if isinstance(term, FactorCells):
                assert float(term.violation(Full(others[name][None]))) == 0
                off = (term.apply(Full(others[name][None])) - term.observed).norm() / term.observed.norm()
                assert float(off) < 0.05


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"codes": torch.full((30,), 255, dtype=torch.uint8)}, "'codes' holds shape"),
        ({"scales": torch.ones(9)}, "'scales' holds shape"),
        ({"dense": None}, "'dense' holds nothing"),
        ({"codes": 255}, "'codes' holds a code above 254, the highest level's"),
    ],
)
def test_a_message_that_does_not_fit_is_refused(changed, message):
    updates = [random_update(0)]
    cluster = Cluster.of("lqsgd", updates)
    _, observation = cluster.run(updates)
    sent = dict(observation.uploads["P"])
    context = Round(0, ("client:0",), 0, Layout(SHAPES))
    cluster.scheme.check("P", sent, context)
    for name, tensor in changed.items():
        sent[name] = torch.full_like(sent[name], tensor) if isinstance(tensor, int) else tensor
    sent = {name: tensor for name, tensor in sent.items() if tensor is not None}
    with pytest.raises(WireError, match=message):
        cluster.scheme.check("P", sent, context)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("lqsgd:bits=1", "lqsgd: bits is 1; it must be in 2 to 8"),
        ("lqsgd:alpha=0", "lqsgd: alpha is 0.0; it must be above 0"),
        ("lqsgd:rank=0", "rank is 0; it must be at least 1"),
    ],
)
def test_parameters_that_cannot_be(spec, message):
    with pytest.raises(GradwireError, match=message):
        parse(spec)
