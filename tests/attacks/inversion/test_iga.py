import dataclasses

import pytest
import torch
from torch import nn

import gradwire
from gradwire import models
from gradwire.attacks.inversion import IGA, pose
from gradwire.attacks.inversion.match import Match
from gradwire.errors import GradwireError


def capture(model, digits, index=0, scheme="none", **options):
    return gradwire.capture(model, *digits.batch([index]), scheme, **options)


@pytest.mark.parametrize("scheme", ["none", "powersgd:rank=1", "topk:match_rank=1"])
@pytest.mark.parametrize("adversary", ["server", "eavesdropper", "client"])
def test_whoever_knows_the_scheme_sees_the_image(model, digits, scheme, adversary):
    fellows = [digits.batch([50])] if adversary == "client" else []
    view = capture(model, digits, 0, scheme, adversary=adversary, fellows=fellows)
    guess = gradwire.invert(view, knowledge="adaptive", iterations=150)
    score = gradwire.score(guess.inputs, digits.batch([0])[0])
    assert float(score.ssim) > 0.95
    assert bool(score.success)


def test_adaptive_beats_naive(model, digits):
    views = [capture(model, digits, i, "powersgd:rank=1") for i in range(4)]
    truth = digits.batch(range(4))[0][:, None]
    naive, adaptive = (gradwire.invert(views, knowledge=k, iterations=150) for k in ("naive", "adaptive"))
    assert (gradwire.score(adaptive.inputs, truth).ssim > gradwire.score(naive.inputs, truth).ssim).all()


def test_victims_do_not_mix(model, digits):
    views = [capture(model, digits, i) for i in range(3)]
    together = gradwire.invert(views, iterations=30)
    poses = [pose(view, "adaptive", salt) for salt, view in enumerate(views)]
    for i, problem in enumerate(poses):
        alone = IGA(iterations=30).run([problem])
        torch.testing.assert_close(alone.inputs[0], together.inputs[i], atol=1e-3, rtol=0)


def test_restarts_are_ranked_by_the_objective(model, digits):
    problem = pose(capture(model, digits), "adaptive")
    several = IGA(iterations=15, restarts=4).run([problem])
    first = IGA(iterations=15, restarts=1).run([problem])
    assert float(several.objective) <= float(first.objective)


def test_the_same_seed_gives_the_same_guess_and_another_seed_another(model, digits):
    view = capture(model, digits)
    guesses = [gradwire.invert(view, iterations=5, seed=seed).inputs for seed in (0, 0, 1)]
    assert torch.equal(guesses[0], guesses[1])
    assert not torch.equal(guesses[0], guesses[2])


def test_a_restart_that_is_not_finite_is_lost_alone(model, digits):
    views = [capture(model, digits, i) for i in range(2)]
    problems = [pose(view, "adaptive", salt) for salt, view in enumerate(views)]
    broken = {
        name: [dataclasses.replace(t, observed=t.observed * float("nan")) for t in terms]
        for name, terms in problems[0].measurement.items()
    }
    guess = IGA(iterations=20).run([dataclasses.replace(problems[0], measurement=broken), problems[1]])
    assert guess.lost == 1
    assert guess.objective[0] == float("inf")
    assert guess.objective[1] < 0.5
    assert guess.inputs.isfinite().all()


@pytest.mark.parametrize("name", ["mlp", "lenet", "convnet"])
def test_labels_of_a_hundred_single_images_are_inferred_exactly(digits, name):
    network = models.build(name, digits.shape, digits.outputs, digits.mean, digits.std, seed=1)
    for index in range(100):
        view = capture(network, digits, index, targets_known=False, freeze=False)
        assert pose(view, "adaptive").targets == digits.targets[index]


def test_its_value_is_the_distance_and_the_weighed_priors(digits):
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)
    network = nn.Sequential(*layers).eval()
    image = torch.rand(1, *digits.shape)
    down, across = (image.diff(dim=axis).abs().mean() for axis in (-2, -1))
    loss = nn.functional.cross_entropy(network(image), digits.batch([0])[1])
    slopes = dict(zip(dict(network.named_parameters()), torch.autograd.grad(loss, network.parameters()), strict=True))
    for scheme in ("none", "signsgd"):
        view = capture(network, digits, 0, scheme, mode="eval")
        match = Match.of([pose(view, "adaptive")], "cpu")
        decoded = {name: terms[0].observed[0] for name, terms in match.problems[0].measurement.items()}
        g, y = (torch.cat([each[name].flatten() for name in slopes]) for each in (slopes, decoded))
        due = 1 - g @ y / (g.norm() * y.norm())
        if scheme == "signsgd":
            shares = [(g * (g.sign() != y.sign())).abs().sum() / g.abs().sum() for g, y in pairs(slopes, decoded)]
            due = due + torch.stack(shares).mean()
        found = IGA(tv=0.0).value(match, image[None])
        torch.testing.assert_close(found, due[None], atol=1e-5, rtol=1e-4)
        found = IGA(tv=0.5, bn=0.25).value(match, image[None])
        due = due + 0.5 * (down + across) + 0.25 * match.statistics.distance(image[None])
        torch.testing.assert_close(found, due, atol=1e-5, rtol=1e-4)


def pairs(some, others):
    return [(some[name], others[name]) for name in some]


def test_bad_input(model, digits):
    view = capture(model, digits)
    with pytest.raises(GradwireError, match=r"unknown attack 'magic'; known: .*iga"):
        gradwire.invert(view, attack="magic")
    with pytest.raises(GradwireError, match="unknown knowledge 'some'; known: naive, adaptive"):
        gradwire.invert(view, knowledge="some")
    with pytest.raises(GradwireError, match="iterations is 0"):
        gradwire.invert(view, iterations=0)
    with pytest.raises(GradwireError, match="tv is -1"):
        gradwire.invert(view, tv=-1)
    with pytest.raises(GradwireError, match="holds no message"):
        gradwire.invert(dataclasses.replace(view, messages=()))
    with pytest.raises(GradwireError, match="no view"):
        gradwire.invert([])
    with pytest.raises(GradwireError, match="share a model, a mode and a shape"):
        gradwire.invert([view, gradwire.capture(model, *digits.batch([0, 1]))])
