"""Schemes that tell less than values: what contradicts the sent signs or cells counts against a candidate."""

import pytest
import torch

import gradwire
from gradwire import data, models
from gradwire.attacks.inversion import pose
from gradwire.attacks.inversion.match import Match
from gradwire.schemes.gradients import Full
from gradwire.schemes.measurement import Cells, Signs


@pytest.mark.parametrize("scheme", ["signsgd", "qsgd:bits=4"])
def test_the_truth_contradicts_nothing_and_noise_does(scheme):
    digits = data.load("digits")
    model = models.build("convnet", digits.shape, digits.outputs, seed=0)
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
    model = models.build("convnet", digits.shape, digits.outputs, seed=0)
    view = gradwire.capture(model, *digits.batch([0]), scheme)
    guess = gradwire.invert(view, iterations=200)
    assert gradwire.score(guess.inputs, digits.batch([0])[0]).success.all()


def values(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_cells_surprise_is_the_integral_of_the_noises_density_over_it():
    y, g, width = values(3, 4, seed=0), values(3, 4, seed=1), 0.1 + values(3, 4, seed=2).abs()
    variance = torch.tensor([0.5, 1.0, 9.0], dtype=torch.float64)
    noise = torch.distributions.Normal(g, variance.sqrt()[:, None])
    expected = -(noise.cdf(y + width) - noise.cdf(y - width)).log().sum(1)
    torch.testing.assert_close(Cells(y, width).surprise(Full(g), variance), expected)


def test_a_signs_surprise_is_the_probability_of_the_other_sign_and_knows_no_scale():
    y, g = values(2, 5, seed=0).sign(), values(2, 5, seed=1)
    y[0, 0] = 0
    variance = torch.tensor([0.25, 1.0], dtype=torch.float64)
    expected = []
    for row in range(2):
        known = y[row] != 0
        sigma = variance[row].sqrt() * g[row][known].square().mean().sqrt()
        noise = torch.distributions.Normal(g[row][known], sigma)
        positive = 1 - noise.cdf(torch.zeros(int(known.sum()), dtype=torch.float64))
        expected.append(-torch.where(y[row][known] > 0, positive, 1 - positive).log().sum())
    found = Signs(y).surprise(Full(g), variance)
    torch.testing.assert_close(found, torch.stack(expected))
    torch.testing.assert_close(Signs(y).surprise(Full(1000 * g), variance), found)


def test_surprise_is_finite_with_a_slope_however_far_out():
    y, width, variance = torch.zeros(1, 3), torch.tensor([[0.1, 1e-9, 10.0]]), torch.ones(1)
    g = torch.tensor([[1e4, -1e4, 300.0]], requires_grad=True)
    for term in (Cells(y, width), Signs(-g.detach().sign())):
        found = term.surprise(Full(g), 1e-4 * variance)
        (slope,) = torch.autograd.grad(found.sum(), g)
        assert found.isfinite().all()
        assert slope.isfinite().all()


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["signsgd", "qsgd:bits=2"])
def test_what_the_cells_are_worth_to_who_weighs_them_by_their_probability(scheme):
    digits = data.load("digits")
    model = models.build("convnet", digits.shape, digits.outputs, seed=0)
    views = [gradwire.capture(model, *digits.batch([i]), scheme) for i in range(4)]
    truth = digits.batch(range(4))[0][:, None]
    adaptive, naive = (gradwire.invert(views, "bayes", how, iterations=100) for how in ("adaptive", "naive"))
    assert gradwire.score(adaptive.inputs, truth).ssim.mean() > gradwire.score(naive.inputs, truth).ssim.mean()
