import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradwire import capture, data, models
from gradwire.attacks.inversion import pose
from gradwire.errors import GradwireError
from gradwire.schemes import Layout, LocalStep, Round, guarantees, observation, parse
from gradwire.schemes.accounting import Spent, gaussian, multiplier, of_passes, of_poisson, of_steps
from gradwire.training import TrainSettings, begin, train
from gradwire.training.batches import descents
from gradwire.training.gradient import example_gradients
from tests.schemes.rounds import flat, random_update

NORMAL = NormalDist()
SHAPES = {"weight": (40, 50), "bias": (40,)}


def directed(spec, gradients, index=0, secret=3, examples=64):
    scheme, layout = parse(spec), Layout({name: tuple(g.shape[1:]) for name, g in gradients.items()})
    step = LocalStep(Round(index, ("client:0",), 0, layout), 0, 1, len(next(iter(gradients.values()))), examples, index)
    return scheme.step_hook.before_step(gradients, scheme.private_state(layout, secret), step)


def stepped(epoch, batch, examples, rate=None):
    return LocalStep(Round(0, ("client:0",), 0, Layout({})), 0, 1, batch, examples, epoch, rate)


def examples(norms):
    """Gradients of so many examples, each of a given norm."""
    each = [random_update(i, SHAPES) for i in range(len(norms))]
    return {
        name: torch.stack([g[name] * norm / flat(g).norm() for g, norm in zip(each, norms, strict=True)])
        for name in SHAPES
    }


def test_no_example_counts_for_more_than_the_clip():
    gradients = examples([0.1, 5.0, 100.0])
    found, _ = directed("dpsgd:clip=2,noise=0", gradients)
    right = {name: (g[0] + g[1] * 2 / 5 + g[2] * 2 / 100) / 3 for name, g in gradients.items()}
    torch.testing.assert_close(flat(found), flat(right))


def test_the_noise_is_the_multiplier_times_the_clip_over_the_batch():
    gradients = examples([0.0, 0.0, 0.0, 0.0])
    gradients = {name: torch.nan_to_num(g) for name, g in gradients.items()}
    found = flat(directed("dpsgd:clip=3,noise=2", gradients)[0])
    assert float(found.std()) == pytest.approx(2 * 3 / 4, rel=5 / (2 * len(found)) ** 0.5)
    assert not torch.equal(found, flat(directed("dpsgd:clip=3,noise=2", gradients, index=1)[0]))
    assert not torch.equal(found, flat(directed("dpsgd:clip=3,noise=2", gradients, secret=4)[0]))
    assert torch.equal(found, flat(directed("dpsgd:clip=3,noise=2", gradients)[0]))


def test_capture_sends_what_training_sends_and_tells_its_deviation():
    model = models.build("convnet", (1, 8, 8), 10, seed=0)
    random = torch.Generator().manual_seed(0)
    images, labels = torch.rand(4, 1, 8, 8, generator=random), torch.randint(10, (4,), generator=random)
    view = capture(model, images, labels, "dpsgd:clip=0.5,noise=0")
    norms = torch.stack([g.flatten(1).square().sum(1) for g in example_gradients(model, images, labels).values()])
    assert float(norms.sum(0).sqrt().min()) > 0.5
    scheme, seen = observation(view)
    assert float(flat(scheme.decode(seen)).norm()) <= 0.5 + 1e-6
    noisy = capture(model, images, labels, "dpsgd:clip=0.5,noise=1.5")
    assert pose(noisy, "adaptive").deviation == pytest.approx(1.5 * 0.5 / 4)
    assert pose(noisy, "naive").deviation == 0
    local = capture(model, images, labels, "dpsgd:clip=0.5,noise=1.5", local_steps=4, local_batch=2, lr=0.1)
    # An adversary brings what the steps add up to back to one gradient: their mean's noise.
    assert pose(local, "adaptive").deviation == pytest.approx(1.5 * 0.5 / 2 / 4**0.5)


def test_the_deviation_of_several_steps_is_what_their_noise_comes_to():
    model, random = models.build("mlp", (1, 8, 8), 10, seed=0), torch.Generator().manual_seed(0)
    images, labels = torch.rand(4, 1, 8, 8, generator=random), torch.randint(10, (4,), generator=random)
    found = []
    for spec in ("dpsgd:clip=1e-9,noise=1e9", "dpsgd:clip=1e-9,noise=0"):
        view = capture(model, images, labels, spec, local_steps=4, local_batch=2, lr=0.1)
        scheme, seen = observation(view)
        found.append(flat(scheme.decode(seen)))
    off = found[0] - found[1]
    stated = parse("dpsgd:clip=1e-9,noise=1e9").deviation(seen.round, 4, view.work)
    assert float(off.std()) == pytest.approx(stated, rel=5 / (2 * len(off)) ** 0.5)


def test_passes_and_steps_are_counted():
    spent = Spent()
    for epoch in (0, 0, 0, 1, 1, 4):
        spent = spent.after(stepped(epoch, 8, 40))
    assert (spent.steps, spent.passes, spent.longest, spent.rate) == (6, 3, 3, 0.2)
    assert Spent.of(spent.tensors()) == spent
    sampled = Spent().after(stepped(0, 8, 40, rate=0.25))
    assert (sampled.steps, sampled.sampled, sampled.passes, sampled.rate) == (1, 1, 0, 0.25)
    # Steps of both kinds: neither guarantee holds of them.
    assert of_steps(spent.after(stepped(4, 8, 40, rate=0.25)), 1.0, 1e-5) == ()


def test_a_run_tells_its_epsilon():
    digits = data.load("digits", "train")
    settings = TrainSettings(scheme="dpsgd:clip=1,noise=1", clients=2, rounds=2, local_steps=3, batch_size=50)
    state = begin(settings, models.build("mlp", digits.shape, 10, seed=0))
    train(state, settings, digits)
    replaced, zeroed, usual, loss = parse(settings.scheme).notes(state.private)
    rate = 50 / min(len(shard) for shard in data.partition.split("iid", digits.targets, 2, 0))
    assert "under replace of one example (shuffled batches, 1 passes over a client's data" in replaced
    assert "under zero-out of one example" in zeroed
    assert f"under add/remove of one example (6 Poisson batches at rate {rate:.3g}; PLD)" in usual
    assert "it would be" in usual
    assert "the training loss in a run's table is not private" in loss
    first = guarantees(parse(settings.scheme), state.private)[0]
    assert str(first) in replaced
    assert first.epsilon == pytest.approx(gaussian_epsilon(2.0))
    assert "infinite" in parse("dpsgd:noise=0").notes(state.private)[0]
    assert parse("dpsgd").notes({"client:0": parse("dpsgd").private_state(Layout({}))}) == ()


@given(
    batch=st.integers(1, 12),
    examples=st.integers(1, 40),
    work=st.sampled_from([{}, {"local_steps": 1}, {"local_steps": 7}, {"local_epochs": 1}, {"local_epochs": 3}]),
    rounds=st.sets(st.integers(0, 12), min_size=1, max_size=6),
)
def test_passes_are_what_the_most_used_example_was_used(batch, examples, work, rounds):
    """Brute force: every use of every example of a client that is in some rounds only."""
    settings = TrainSettings(clients=1, batch_size=batch, **work)
    uses, spent, begun = torch.zeros(examples, dtype=torch.int64), Spent(), set()
    for round in sorted(rounds):
        task = descents(settings, "client:0", examples, round)
        for where, epoch in zip(task.plan, task.epochs, strict=True):
            uses[where] += 1
            spent = spent.after(stepped(epoch, len(where), examples))
            begun.add(epoch)
    assert int(uses.max()) <= spent.passes == len(begun)
    if "local_epochs" in work:
        assert int(uses.max()) == spent.passes == settings.local_epochs * len(rounds)


def test_a_smaller_last_batch_is_no_pass_of_its_own():
    """Two clients of 150 and 149 images in batches of 40, two epochs a round: eight passes in four rounds."""
    digits = data.load("digits", "train")
    dataset = replace(digits, inputs=digits.inputs[:299], targets=digits.targets[:299])
    settings = TrainSettings(scheme="dpsgd:clip=1,noise=1", clients=2, rounds=4, local_epochs=2, batch_size=40)
    state = begin(settings, models.build("mlp", digits.shape, 10, seed=0))
    train(state, settings, dataset)
    assert {Spent.of(each).passes for each in state.private.values()} == {8}
    assert {Spent.of(each).steps for each in state.private.values()} == {32}


def gaussian_epsilon(distance, delta=1e-5):
    """Balle and Wang 2018, theorem 5, solved for ε: of two normal distributions whose means are so far apart."""

    def excess(epsilon):
        upper, lower = (NORMAL.cdf(sign * distance / 2 - epsilon / distance) for sign in (1, -1))
        return upper - math.exp(epsilon) * lower - delta

    low, high = 0.0, 100.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return low


@pytest.mark.parametrize(("adjacency", "clips"), [("replace", 2), ("zero-out", 1)])
def test_the_claim_is_what_a_pair_of_neighbours_comes_to(adjacency, clips):
    """A full batch of gradients −1, in which one example is +1 instead, or nothing: how far apart are the sums?"""
    scheme, count, layout = parse("dpsgd:noise=4,clip=1"), 4, Layout({"w": (20_000,)})

    def sums(first):
        # Every coordinate is a trial of its own; no example's norm is above the clip.
        gradient = torch.full((count, 20_000), -1 / 20_000**0.5)
        gradient[0] *= -first
        step = LocalStep(Round(0, ("client:0",), 0, layout), 0, 1, count, count, 0)
        found, private = scheme.before_step({"w": gradient}, scheme.private_state(layout, 3), step)
        return count * found["w"], private

    (one, private), (other, _) = sums(1.0), sums(-1.0 if adjacency == "replace" else 0.0)
    # The noise is the same, for the key is; clipped gradients differ by clips·clip along one direction.
    distance = float((one - other).norm()) / float((other + (count - 1) * torch.ones(20_000) / 20_000**0.5).std())
    assert distance == pytest.approx(clips / 4, rel=0.05)
    claimed = {each.adjacency: each.epsilon for each in scheme.guarantees({"client:0": private})}
    assert claimed[adjacency] == pytest.approx(gaussian_epsilon(clips / 4), rel=1e-3)


def test_epsilon_of_known_mechanisms():
    replaced, zeroed = of_passes(1, noise=1.0, delta=1e-5)
    # Balle and Wang 2018: the analytic Gaussian mechanism, σ = 1, δ = 1e-5.
    assert zeroed.epsilon == pytest.approx(4.377, abs=1e-3)
    assert replaced.epsilon == pytest.approx(gaussian_epsilon(2.0), rel=1e-4)
    assert gaussian("replace", 4, 4.0, 1e-5, "").epsilon == pytest.approx(zeroed.epsilon, rel=1e-4)
    assert multiplier(zeroed.epsilon, 1e-5, "replace", 4) == pytest.approx(4.0, rel=1e-3)
    # Abadi et al. 2016: q = 0.01, σ = 4, 10,000 steps, δ = 1e-5: their moments accountant gives 1.26.
    abadi = of_poisson(Spent(10_000, rate=0.01), noise=4.0, delta=1e-5)
    assert (abadi.adjacency, abadi.accountant) == ("add/remove", "PLD")
    assert 0.9 < abadi.epsilon < 1.26
    assert of_poisson(Spent(1, rate=1.0), 1.0, 1e-5).epsilon == pytest.approx(zeroed.epsilon, rel=1e-3)
    assert of_poisson(Spent(3, rate=0.1), 0.2, 1e-5).accountant == "RDP"


@pytest.mark.parametrize(("rate", "steps", "noise"), [(0.05, 60, 0.8), (0.2, 20, 1.5)])
def test_the_accountant_agrees_with_a_composition_of_its_own_and_with_opacus(rate, steps, noise):
    ours = of_poisson(Spent(steps, rate=rate), noise, 1e-5).epsilon
    assert ours == pytest.approx(composed_epsilon(rate, steps, noise, 1e-5), rel=2e-3)
    accountants = pytest.importorskip("opacus.accountants")
    theirs = accountants.PRVAccountant()
    theirs.history = [(noise, rate, steps)]
    assert ours == pytest.approx(theirs.get_epsilon(1e-5), rel=0.01)


def composed_epsilon(rate, steps, noise, delta, width=1e-3, reach=40.0):
    """ε of the worse direction, from the privacy loss's density on a grid, composed by a Fourier transform.

    P = (1 − q)·N(0, σ²) + q·N(1, σ²) and Q = N(0, σ²), and the other way round: Koskela et al. 2020, "Computing tight
    differential privacy guarantees using FFT".
    """
    found = []
    x = np.linspace(-12 * noise, 1 + 12 * noise, 2_000_001)
    plain = np.exp(-((x / noise) ** 2) / 2)
    mixed = (1 - rate) * plain + rate * np.exp(-(((x - 1) / noise) ** 2) / 2)
    plain, mixed = plain / plain.sum(), mixed / mixed.sum()
    for p, q in ((mixed, plain), (plain, mixed)):
        loss = np.log(p) - np.log(q)
        size = int(2 * reach / width)
        cells = np.clip(np.round(loss / width).astype(int) + size // 2, 0, size - 1)
        mass = np.fft.ifftshift(np.bincount(cells, weights=p, minlength=size))
        total = np.fft.fftshift(np.fft.ifft(np.fft.fft(mass) ** steps).real)
        losses = (np.arange(size) - size // 2) * width
        low, high = 0.0, reach
        for _ in range(50):
            middle = (low + high) / 2
            above = losses > middle
            excess = (total[above] * -np.expm1(middle - losses[above])).sum()
            low, high = (middle, high) if excess > delta else (low, middle)
        found.append(low)
    return max(found)


def test_bad_parameters():
    for spec, why in (
        ("clip=0", "clip is 0.0; it must be positive and finite"),
        ("noise=-1", "noise is -1.0; it must be finite and not negative"),
        ("delta=1", "delta is 1.0; it must be between 0 and 1"),
    ):
        with pytest.raises(GradwireError, match=why):
            parse(f"dpsgd:{spec}")
    model = models.build("resnet20", (1, 8, 8), 10, seed=0)
    with pytest.raises(GradwireError, match="batch norm, which mixes a batch"):
        capture(model, torch.rand(2, 1, 8, 8), torch.tensor([0, 1]), "dpsgd")
