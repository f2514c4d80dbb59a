"""Poisson batches: a coin for each example, steps that divide by the expected number, and batches of none."""

from dataclasses import replace

import pytest
import torch

from gradwire import data, models
from gradwire.errors import GradwireError
from gradwire.schemes import Layout, guarantees, parse
from gradwire.schemes.accounting import Spent, of_poisson
from gradwire.schemes.round import Round
from gradwire.training import TrainSettings, begin, evaluate, train
from gradwire.training.batches import descents, poisson_batch
from gradwire.training.client import Descent, contribution
from gradwire.training.plain import fits
from tests.schemes.rounds import flat


@pytest.fixture(scope="module")
def digits():
    return data.load("digits:train=400", "train")


def network(dataset):
    return models.build("mlp:hidden=16", dataset.shape, dataset.outputs, dataset.mean, dataset.std, seed=0)


def test_every_example_has_a_coin_of_its_own_in_every_step():
    taken = torch.zeros(2000, 60)
    for number in range(2000):
        taken[number, poisson_batch(60, "client:0", number, 0.1, seed=0)] = 1
    assert float(taken.mean()) == pytest.approx(0.1, abs=4 * (0.09 / 120_000) ** 0.5)
    # Independent: sizes are binomial, with the variance that fixed sizes lack; and so are two steps.
    assert float(taken.sum(1).var()) == pytest.approx(60 * 0.09, rel=0.15)
    assert float(torch.corrcoef(torch.stack([taken[:-1, 0], taken[1:, 0]]))[0, 1]) == pytest.approx(0, abs=0.09)
    assert not torch.equal(poisson_batch(60, "client:1", 0, 0.5, 0), poisson_batch(60, "client:0", 0, 0.5, 0))


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("scheme", ["none", "dpsgd:clip=1000,noise=0"])
def test_a_step_divides_by_the_expected_number(digits, scheme, local):
    model, where = network(digits), torch.tensor([1, 4, 9])
    inputs, targets = digits.batch(torch.arange(40))

    def update(descent):
        around = Round(0, ("client:0",), 0, layout(model))
        state = parse(scheme).private_state(layout(model))
        return flat(contribution(model, inputs, targets, parse(scheme), "client:0", state, around, descent).update)

    mean = update(Descent([where], [0], local=local))
    sampled = update(Descent([where], [0], local=local, rate=0.2, expected=8))
    torch.testing.assert_close(sampled, mean * 3 / 8)
    nothing = update(Descent([where[:0]], [0], local=local, rate=0.2, expected=8))
    assert not nothing.any()


def layout(model):
    return Layout.of_model(model)


@pytest.mark.parametrize("work", [{}, {"local_steps": 3}, {"local_epochs": 1}])
@pytest.mark.parametrize("scheme", ["none", "topk:ratio=0.1", "dpsgd:clip=1,noise=1"])
def test_runs_go_through_empty_batches(digits, scheme, work):
    """Batches of one in expectation: a third of them are empty."""
    settings = TrainSettings(scheme=scheme, clients=4, rounds=6, batch_size=1, sampling="poisson", lr=0.01, **work)
    if "local_epochs" in work:
        settings = replace(settings, batch_size=10, sampling="poisson:0.005")
    planned = [descents(settings, f"client:{c}", 100, r) for c in range(4) for r in range(6)]
    assert any(not len(batch) for each in planned for batch in each.plan)
    state = begin(settings, network(digits))
    train(state, settings, digits)
    assert state.round == 6
    assert all(bool(p.isfinite().all()) for p in state.model.parameters())


def test_the_noise_of_an_empty_batch_is_that_of_any_other(digits):
    model, scheme = network(digits), parse("dpsgd:clip=2,noise=3")
    around = Round(0, ("client:0",), 0, layout(model))
    nothing = Descent([torch.arange(0)], [0], local=False, rate=0.1, expected=4)
    inputs, targets = digits.batch(torch.arange(40))
    private = scheme.private_state(layout(model))
    came = contribution(model, inputs, targets, scheme, "client:0", private, around, nothing)
    update = flat(came.update)
    assert float(update.std()) == pytest.approx(3 * 2 / 4, rel=5 / (2 * len(update)) ** 0.5)
    assert Spent.of(came.private).rate == 0.1


def test_a_run_is_accounted_for_by_its_steps_and_its_largest_rate(digits):
    settings = TrainSettings(
        scheme="dpsgd:clip=1,noise=1", clients=3, rounds=4, local_steps=5, batch_size=20, sampling="poisson"
    )
    state = begin(settings, network(digits))
    train(state, settings, digits)
    (told,) = guarantees(parse(settings.scheme), state.private)
    smallest = min(len(s) for s in data.partition.split("iid", digits.targets, 3, 0))
    assert told == of_poisson(Spent(20, rate=20 / smallest), 1.0, 1e-5)
    assert told.adjacency == "add/remove"
    assert 0 < told.epsilon < 8
    notes = parse(settings.scheme).notes(state.private)
    assert "add/remove" in notes[0]
    assert not any("replace" in note for note in notes)


def test_opacus_says_the_same_of_the_run(digits):
    accountants = pytest.importorskip("opacus.accountants")
    settings = TrainSettings(
        scheme="dpsgd:clip=1,noise=0.9", clients=2, rounds=10, local_steps=4, batch_size=20, sampling="poisson:0.1"
    )
    state = begin(settings, network(digits))
    train(state, settings, digits)
    theirs = accountants.PRVAccountant()
    for _ in range(40):
        theirs.step(noise_multiplier=0.9, sample_rate=0.1)
    (told,) = guarantees(parse(settings.scheme), state.private)
    assert told.epsilon == pytest.approx(theirs.get_epsilon(1e-5), rel=0.01)


def test_a_resumed_run_draws_the_same_coins(digits, tmp_path):
    def settings(rounds):
        return TrainSettings(scheme="dpsgd", clients=2, rounds=rounds, local_steps=2, batch_size=4, sampling="poisson")

    whole, first, second = (begin(settings(4), network(digits)) for _ in range(3))
    train(whole, settings(4), digits)
    train(first, settings(3), digits)
    first.save(tmp_path / "checkpoint.safetensors", settings(3))
    second.restore(tmp_path / "checkpoint.safetensors", settings(4))
    train(second, settings(4), digits)
    for p, q in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(p, q)


def test_it_learns_as_shuffled_batches_do(digits):
    settings = TrainSettings(clients=2, rounds=120, batch_size=32, sampling="poisson", lr=0.1)
    state = begin(settings, network(digits))
    train(state, settings, digits)
    assert evaluate(state.model, data.load("digits", "test"))["accuracy"] > 0.8


def test_what_cannot_be_is_refused_by_name(digits):
    with pytest.raises(GradwireError, match="sampling is 'poison'; it must be shuffle, poisson or poisson:RATE"):
        TrainSettings(sampling="poison")
    with pytest.raises(GradwireError, match="sampling is 'poisson:2'; it must be"):
        TrainSettings(sampling="poisson:2")
    settings = TrainSettings(sampling="poisson", rounds=1)
    # Plain steps take shuffled batches.
    assert not fits(settings, network(digits))
    assert fits(TrainSettings(rounds=1), network(digits))
    norm = models.build("resnet20", digits.shape, 10, seed=0)
    with pytest.raises(GradwireError, match="one example or none, which batch norm cannot train on"):
        train(begin(settings, norm), settings, digits)
