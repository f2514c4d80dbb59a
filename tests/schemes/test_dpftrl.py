"""DP-FTRL: the noise in the sum of a pass's first t gradients is that of a binary tree's nodes over t leaves."""

import pytest
import torch

from gradwire import data, models
from gradwire.errors import GradwireError
from gradwire.schemes import Layout, LocalStep, Round, guarantees, parse
from gradwire.schemes.accounting import Spent, gaussian
from gradwire.training import TrainSettings, begin, evaluate, train

LAYOUT = Layout({"w": (4000,)})


def steps(spec, epochs, batch=4, examples=32, rate=None):
    """What each step of a pass follows, times the batch, for examples without any gradient; and the state after."""
    scheme = parse(spec)
    private, found = scheme.private_state(LAYOUT, 3), []
    nothing = {"w": torch.zeros(batch, 4000)}
    for index, epoch in enumerate(epochs):
        step = LocalStep(Round(index, ("client:0",), 0, LAYOUT), 0, 1, batch, examples, epoch, rate)
        followed, private = scheme.before_step(nothing, private, step)
        found.append(batch * followed["w"])
    return torch.stack(found), private


def test_sums_have_the_noise_of_as_many_nodes_as_their_length_has_ones():
    found, _ = steps("dpftrl:clip=2,noise=3", [0] * 16)
    sums = found.cumsum(0)
    for t in range(1, 17):
        assert float(sums[t - 1].std()) == pytest.approx(6 * t.bit_count() ** 0.5, rel=0.06), t
    # z_16 is one node of its own: nothing is left of the others.
    assert float(torch.corrcoef(torch.stack([sums[14], sums[15]]))[0, 1]) == pytest.approx(0, abs=0.06)
    # z_13 = [1, 8] + [9, 12] + [13] and z_12 = [1, 8] + [9, 12].
    assert float((sums[12] - sums[11]).std()) == pytest.approx(6, rel=0.06)
    assert float(torch.corrcoef(torch.stack([sums[12], sums[11]]))[0, 1]) == pytest.approx((2 / 3) ** 0.5, abs=0.05)


def test_each_pass_has_a_tree_of_its_own():
    found, private = steps("dpftrl:noise=1", [0] * 8 + [1] * 8)
    first, second = found[:8].cumsum(0), found[8:].cumsum(0)
    assert float(torch.corrcoef(torch.stack([first[7], second[7]]))[0, 1]) == pytest.approx(0, abs=0.06)
    assert float(second[7].std()) == pytest.approx(1, rel=0.06)
    assert (Spent.of(private).passes, Spent.of(private).longest) == (2, 8)


def test_an_example_is_in_as_many_nodes_as_the_tree_is_high():
    """Brute force: which nodes hold a leaf, of all that prefixes of T leaves are made of."""
    for count in (1, 2, 3, 7, 8, 9):
        nodes = set()
        for t in range(1, count + 1):
            start = 0
            for level in reversed(range(t.bit_length())):
                if t >> level & 1:
                    nodes.add((start, start + (1 << level)))
                    start += 1 << level
        most = max(sum(low <= leaf < high for low, high in nodes) for leaf in range(count))
        _, private = steps("dpftrl:noise=2", [0] * count)
        replaced, zeroed = guarantees(parse("dpftrl:noise=2"), {"client:0": private})
        assert most <= count.bit_length()
        assert replaced.epsilon == gaussian("replace", count.bit_length(), 2.0, 1e-5, "").epsilon
        assert zeroed.epsilon == gaussian("zero-out", count.bit_length(), 2.0, 1e-5, "").epsilon


def test_it_learns_and_tells_its_trees():
    digits = data.load("digits:train=512", "train")
    settings = TrainSettings(
        scheme="dpftrl:clip=5,noise=0.5", clients=2, rounds=5, local_epochs=1, batch_size=16, lr=0.1, momentum=0.0
    )
    state = begin(settings, models.build("mlp:hidden=32", digits.shape, 10, digits.mean, digits.std, seed=0))
    train(state, settings, digits)
    assert evaluate(state.model, data.load("digits", "test"))["accuracy"] > 0.7
    notes = parse(settings.scheme).notes(state.private)
    assert "5 passes over a client's data, each a tree of 5 levels" in notes[0]
    assert not any("poisson" in note.lower() for note in notes)


def test_poisson_batches_are_refused():
    with pytest.raises(GradwireError, match="dpftrl has each example in one step of a pass; set sampling to shuffle"):
        steps("dpftrl", [0], rate=0.1)


def test_the_deviation_of_a_passs_first_steps():
    from gradwire.wire.view import LocalWork

    found, _ = steps("dpftrl:clip=2,noise=3", [0] * 7)
    stated = parse("dpftrl:clip=2,noise=3").deviation(Round(0, (), 0, LAYOUT), 4, LocalWork(7, 4, 0.1, 0.0))
    assert float(found.sum(0).std()) * 0.1 / 4 == pytest.approx(stated, rel=0.06)
