import dataclasses

import pytest
import torch

import gradwire
from gradwire import models
from gradwire.attacks.inversion import DLG, IDLG, pose
from gradwire.attacks.inversion.match import Match
from gradwire.errors import GradwireError


@pytest.fixture(scope="module")
def model(digits):
    return models.build("lenet", digits.shape, digits.outputs, digits.mean, digits.std, seed=0)


def views(model, digits, indices=(0, 1), **options):
    return [gradwire.capture(model, *digits.batch([i]), **options) for i in indices]


def ssim(guess, digits, indices=(0, 1)):
    return gradwire.score(guess.inputs, digits.batch(list(indices))[0][:, None]).ssim


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_the_image_is_found_by_either_optimiser(digits, optimizer):
    network = models.build("convnet", digits.shape, digits.outputs, digits.mean, digits.std, seed=0)
    guess = gradwire.invert(views(network, digits), "dlg", iterations=300, optimizer=optimizer)
    assert (ssim(guess, digits) > 0.95).all()


def test_labels_are_found_together_with_the_images_where_they_are_not_known(digits):
    network = models.build("convnet", digits.shape, digits.outputs, digits.mean, digits.std, seed=0)
    unknown = views(network, digits, targets_known=False)
    guess = gradwire.invert(unknown, "dlg", iterations=400, optimizer="adam")
    assert torch.equal(guess.targets[:, 0], digits.targets[:2])
    assert (ssim(guess, digits) > 0.9).all()


def test_the_objective_is_the_squared_distance_and_zero_at_the_truth(model, digits):
    problems = [pose(view, "adaptive") for view in views(model, digits)]
    match = Match.of(problems, "cpu")
    truth, other = digits.batch([0, 1])[0][:, None], digits.batch([2, 3])[0][:, None]
    assert (DLG().value(match, truth) < 1e-8 * match.stack.energy).all()
    inner, square = match.stack.moments(match.gradients(other))
    energy = match.stack.energy
    torch.testing.assert_close(DLG().value(match, other), square - 2 * inner + energy, rtol=1e-3, atol=1e-5)


def test_soft_labels_that_are_sure_are_labels(model, digits):
    problems = [pose(view, "adaptive") for view in views(model, digits, targets_known=False)]
    match = Match.of(problems, "cpu")
    images = digits.batch([4, 5])[0][:, None]
    sure = 100.0 * torch.nn.functional.one_hot(match.targets, digits.outputs)
    torch.testing.assert_close(DLG().value(match, images, sure), DLG().value(match, images), rtol=1e-4, atol=1e-6)


def test_idlg_seeks_no_labels(model, digits):
    unknown = views(model, digits, targets_known=False)
    match = Match.of([pose(view, "adaptive") for view in unknown], "cpu")
    assert IDLG().extras(match, 0) == ()
    assert DLG().extras(match, 0)[0].shape == (2, 1, digits.outputs)
    guess = gradwire.invert(unknown, "idlg", iterations=2)
    assert torch.equal(guess.targets[:, 0], digits.targets[:2])


def test_with_known_labels_idlg_is_dlg(model, digits):
    known = views(model, digits)
    guesses = [gradwire.invert(known, name, iterations=10) for name in ("dlg", "idlg")]
    assert torch.equal(guesses[0].inputs, guesses[1].inputs)


def test_restarts_start_from_labels_of_their_own(model, digits):
    problem = pose(views(model, digits, targets_known=False)[0], "adaptive")
    (logits,) = DLG(restarts=3).extras(Match.of([problem] * 3, "cpu"), 0)
    assert not torch.equal(logits[0], logits[1])
    (first,) = DLG(restarts=1).extras(Match.of([problem], "cpu"), 0)
    assert torch.equal(logits[0], first[0])


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_a_victim_that_is_not_finite_is_lost_alone(model, digits, optimizer):
    problems = [pose(view, "adaptive") for view in views(model, digits)]
    broken = {
        name: [dataclasses.replace(t, observed=t.observed * float("nan")) for t in terms]
        for name, terms in problems[0].measurement.items()
    }
    attack = DLG(iterations=20, optimizer=optimizer)
    guess = attack.run([dataclasses.replace(problems[0], measurement=broken), problems[1]])
    assert guess.lost == 1
    assert guess.objective[0] == float("inf")
    assert guess.inputs.isfinite().all()


def test_bad_input(model, digits):
    with pytest.raises(GradwireError, match="unknown optimizer 'sgd'; known: adam, lbfgs"):
        DLG(optimizer="sgd")
    with pytest.raises(GradwireError, match="unknown precision 'fp8'; known: fp32, tf32, bf16"):
        DLG(precision="fp8")
    mixed = [*views(model, digits, (0,)), *views(model, digits, (1,), targets_known=False)]
    with pytest.raises(GradwireError, match="some of the views hold labels and some do not"):
        gradwire.invert(mixed, "dlg", iterations=1)
