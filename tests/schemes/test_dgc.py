from math import ceil

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradwire.errors import GradwireError
from gradwire.schemes import Layout, Round, parse
from tests.schemes.rounds import SHAPES, Cluster, flat, random_update

LAYOUT = Layout(SHAPES)


def by_the_paper(gradients, momentum, ratio):
    """Algorithm 4 for one client, as it is written there, tensor by tensor: the entries sent, round after round."""
    u = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    v = {name: torch.zeros(shape) for name, shape in SHAPES.items()}
    for gradient in gradients:
        sent = {}
        for name, g in gradient.items():
            u[name] = momentum * u[name] + g
            v[name] = v[name] + u[name]
            count = ceil(ratio * g.numel())
            threshold = v[name].abs().flatten().topk(count).values.min()
            mask = v[name].abs() >= threshold
            sent[name] = v[name] * mask
            v[name] = v[name] * ~mask
            u[name] = u[name] * ~mask
        yield sent


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_follows_the_papers_algorithm(momentum):
    gradients = [random_update(step) for step in range(6)]
    cluster = Cluster.of(f"dgc:ratio=0.05,momentum={momentum}", gradients[:1])
    for gradient, expected in zip(gradients, by_the_paper(gradients, momentum, 0.05), strict=True):
        aggregate, _ = cluster.run([gradient])
        torch.testing.assert_close(flat(aggregate), flat(expected))


@given(st.floats(0, 0.99), st.integers(0, 1000))
def test_everything_sent_is_plain_momentum_sgd(momentum, seed):
    """Sending all entries clears both memories: what is left is g, and momentum has nothing to correct."""
    updates = [random_update(seed), random_update(seed + 1)]
    cluster = Cluster.of(f"dgc:ratio=1.0,momentum={momentum}", updates)
    for _ in range(2):
        aggregate, _ = cluster.run(updates)
        torch.testing.assert_close(flat(aggregate), (flat(updates[0]) + flat(updates[1])) / 2)


@given(st.integers(0, 1000), st.floats(0.01, 0.5))
def test_without_momentum_nothing_is_lost(seed, ratio):
    updates = [random_update(seed)]
    cluster = Cluster.of(f"dgc:ratio={ratio},momentum=0", updates)
    before = torch.zeros(LAYOUT.size)
    for step in range(3):
        update = random_update(seed + step)
        aggregate, _ = cluster.run([update])
        velocity = cluster.private["client:0"]["velocity"]
        torch.testing.assert_close(flat(aggregate) + velocity, flat(update) + before)
        before = velocity


def test_momentum_is_masked_where_entries_were_sent():
    updates = [random_update(0)]
    cluster = Cluster.of("dgc:ratio=0.1", updates)
    aggregate, _ = cluster.run(updates)
    sent = flat(aggregate) != 0
    state = cluster.private["client:0"]
    for name in ("momentum", "velocity"):
        assert not state[name][sent].any()
        assert torch.equal(state[name][~sent], flat(updates[0])[~sent])


def test_gradients_are_clipped_to_their_share():
    scheme = parse("dgc:clip=1.0")
    gradient = torch.full((100,), 3.0)
    assert float(scheme.clipped(gradient, 4).norm()) == pytest.approx(0.5)
    assert torch.equal(scheme.clipped(0.001 * gradient, 4), 0.001 * gradient)
    assert not scheme.clipped(torch.zeros(3), 4).any()


def test_the_papers_warm_up():
    scheme = parse("dgc:warmup_epochs=4")
    assert [scheme.ratio_at(e) for e in range(6)] == pytest.approx(
        [0.251, 0.063, 0.0158, 0.00398, 0.001, 0.001], rel=5e-3
    )
    assert parse("dgc").ratio_at(0) == 0.001


def test_the_epoch_decides_how_much_is_sent():
    scheme = parse("dgc:ratio=0.01,warmup_epochs=1")
    state = scheme.private_state(LAYOUT)
    counts = [
        next(scheme.client(random_update(0), state, {}, Round(0, ("client:0",), 0, LAYOUT, epoch))).tensors["values"]
        for epoch in (0, 1)
    ]
    assert [len(values) for values in counts] == [22 + 1 + 24 + 1, 3 + 1 + 3 + 1]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("dgc:ratio=0", r"ratio is 0.0; it must be in \(0, 1\]"),
        ("dgc:momentum=1", r"momentum is 1.0; it must be in \[0, 1\)"),
        ("dgc:clip=0", "clip is 0.0; it must be positive"),
        ("dgc:warmup_epochs=-1", "warmup_epochs is -1; it must not be negative"),
    ],
)
def test_parameters_that_cannot_be(spec, message):
    with pytest.raises(GradwireError, match=message):
        parse(spec)
