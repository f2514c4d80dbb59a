from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradwire import capture, data, models
from gradwire.attacks.inversion import pose
from gradwire.errors import GradwireError
from gradwire.schemes import Layout, LocalStep, Round, observation, parse
from gradwire.schemes.accounting import Spent, epsilons
from gradwire.training import TrainSettings, begin, train
from gradwire.training.batches import descents
from gradwire.training.gradient import example_gradients
from tests.schemes.rounds import flat, random_update

SHAPES = {"weight": (40, 50), "bias": (40,)}


def directed(spec, gradients, index=0, secret=3, examples=64):
    scheme, layout = parse(spec), Layout({name: tuple(g.shape[1:]) for name, g in gradients.items()})
    step = LocalStep(Round(index, ("client:0",), 0, layout), 0, 1, len(next(iter(gradients.values()))), examples, index)
    return scheme.step_hook.before_step(gradients, scheme.private_state(layout, secret), step)


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
        spent = spent.after(epoch, 8, 40)
    assert (spent.steps, spent.passes, spent.rate) == (6, 3, 0.2)
    assert Spent.of(spent.tensors()) == spent


def test_a_run_tells_its_epsilon():
    digits = data.load("digits", "train")
    settings = TrainSettings(scheme="dpsgd:clip=1,noise=1", clients=2, rounds=2, local_steps=3, batch_size=50)
    state = begin(settings, models.build("mlp", digits.shape, 10, seed=0))
    train(state, settings, digits)
    sure, usual = parse(settings.scheme).notes(state.private)
    rate = 50 / min(len(shard) for shard in data.partition.split("iid", digits.targets, 2, 0))
    assert sure.startswith("dpsgd: ε = ")
    assert sure.endswith("at δ = 1e-05 as batches are used here, in 1 passes over a client's data")
    assert f"were its 6 batches Poisson samples at rate {rate:.3g}, which they are not" in usual
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
            spent = spent.after(epoch, len(where), examples)
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


def test_epsilon_of_known_mechanisms():
    (_, sure), (_, usual) = epsilons(Spent(1, 1, 0, 1.0), noise=1.0, delta=1e-5)
    # Balle and Wang 2018: the analytic Gaussian mechanism, σ = 1, δ = 1e-5.
    assert sure == pytest.approx(4.377, abs=1e-3)
    assert sure <= usual < 1.2 * sure
    # Abadi et al. 2016: q = 0.01, σ = 4, 10,000 steps, δ = 1e-5: their moments accountant gives 1.26.
    (_, _), (_, abadi) = epsilons(Spent(10_000, 100, 0, 0.01), noise=4.0, delta=1e-5)
    assert 0.9 < abadi < 1.27
    more = [epsilons(Spent(k, k, 0, 0.1), 1.0, 1e-5) for k in (1, 10)]
    assert all(a[1] < b[1] for a, b in zip(*more, strict=True))


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
