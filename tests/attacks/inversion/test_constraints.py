"""Schemes that tell less than values: what contradicts the sent signs or cells counts against a candidate."""

import pytest
import torch

import gradwire
from gradwire import data, models
from gradwire.attacks.inversion import pose
from gradwire.attacks.inversion.match import Match


@pytest.mark.parametrize("scheme", ["signsgd", "qsgd:bits=4"])
def test_the_truth_contradicts_nothing_and_noise_does(scheme):
    digits = data.load("digits")
    model = models.build("convnet", digits.shape, digits.num_classes, seed=0)
    views = [gradwire.capture(model, *digits.batch([i]), scheme) for i in range(2)]
    adaptive = Match.of([pose(view, "adaptive") for view in views], "cpu")
    truth = digits.batch([0, 1])[0][:, None]
    noise = torch.rand(truth.shape, generator=torch.Generator().manual_seed(0))
    assert (adaptive.stack.violation(adaptive.gradients(truth)) == 0).all()
    assert (adaptive.stack.violation(adaptive.gradients(noise)) > 1e-4).all()
    naive = Match.of([pose(view, "naive") for view in views], "cpu")
    assert (naive.stack.violation(naive.gradients(noise)) == 0).all()


@pytest.mark.parametrize("scheme", ["signsgd", "qsgd:bits=4"])
def test_an_adaptive_attack_on_them_sees_the_image(scheme):
    digits = data.load("digits")
    model = models.build("convnet", digits.shape, digits.num_classes, seed=0)
    view = gradwire.capture(model, *digits.batch([0]), scheme)
    guess = gradwire.invert(view, iterations=200)
    assert gradwire.score(guess.images, digits.batch([0])[0]).success.all()
