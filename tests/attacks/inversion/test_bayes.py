import pytest
import torch

import gradwire
from gradwire.attacks.inversion import Bayes, pose
from gradwire.attacks.inversion.match import Match
from gradwire.errors import GradwireError


def problems(model, digits, scheme, knowledge="adaptive", indices=(0,)):
    views = [gradwire.capture(model, *digits.batch([i]), scheme) for i in indices]
    return [pose(view, knowledge, salt) for salt, view in enumerate(views)]


def test_the_variance_is_the_noises_where_it_is_known(model, digits):
    match = Match.of(problems(model, digits, "noise:std=0.25"), "cpu")
    assert float(Bayes().variance(match)) == pytest.approx(0.25**2)


@pytest.mark.parametrize("scheme", ["none", "topk:ratio=0.1"])
def test_without_noise_the_slack_stands_in(model, digits, scheme):
    (problem,) = problems(model, digits, scheme)
    sent = torch.cat([term.observed.flatten() for terms in problem.measurement.values() for term in terms])
    match = Match.of([problem], "cpu")
    assert float(Bayes(slack=0.1).variance(match)) == pytest.approx(0.01 * float(sent.square().mean()), rel=1e-4)


def test_who_does_not_know_the_scheme_knows_of_no_noise(model, digits):
    assert problems(model, digits, "noise:std=0.25", "naive")[0].deviation == 0


def test_padding_counts_for_nothing(model, digits):
    rows = problems(model, digits, "topk:ratio=0.1,per=model", indices=(0, 1))
    together = Match.of(rows, "cpu").stack.counts()
    alone = torch.cat([Match.of([row], "cpu").stack.counts() for row in rows])
    assert torch.equal(together, alone)


def test_the_value_is_the_negative_logarithm_of_the_posterior(model, digits):
    match = Match.of(problems(model, digits, "noise:std=0.1"), "cpu")
    images = torch.rand(1, 1, *digits.shape)
    flat = torch.full_like(images, 0.5)
    down, across = images.diff(dim=-2).abs(), images.diff(dim=-1).abs()
    pixels = images.numel()
    differences = pixels * (down.mean() + across.mean()) / 0.1
    likelihood = torch.distributions.Normal(0.0, 0.1)
    sent = torch.cat([t.observed.flatten() for ts in match.problems[0].measurement.values() for t in ts])

    def logarithm(candidates):
        gradients = match.engine.gradients(candidates, match.targets)
        return likelihood.log_prob(torch.cat([g.full().flatten() for g in gradients.values()]) - sent).sum()

    expected = logarithm(flat) - logarithm(images) + differences
    found = Bayes().value(match, images) - Bayes().value(match, flat)
    torch.testing.assert_close(found[0], expected, rtol=1e-3, atol=1e-1)


def test_the_likelihood_and_the_prior_beat_plain_distance_under_noise(model, digits):
    rows = problems(model, digits, "noise:std=0.05", indices=(0, 1, 2, 3))
    truth = digits.batch(range(4))[0][:, None]
    bayes = gradwire.score(Bayes(iterations=200, scale=1).run(rows).inputs, truth).ssim.mean()
    plain = gradwire.attacks.inversion.DLG(iterations=200, optimizer="adam").run(rows)
    assert bayes > gradwire.score(plain.inputs, truth).ssim.mean()


def test_bad_input():
    with pytest.raises(GradwireError, match="scale is 0; it must be positive"):
        Bayes(scale=0)
    with pytest.raises(GradwireError, match="slack is -1; it must be positive"):
        Bayes(slack=-1)
