"""Sources that are independent are unmixed, whatever the sum hides; what cannot be unmixed is said."""

import pytest
import torch
from torch import nn

from gradwire import capture, invert, models, score
from gradwire.attacks.inversion import ICA, pose
from gradwire.attacks.inversion.first_layer import FirstLayer
from gradwire.attacks.inversion.ica import GAUSSIAN, log_cosh, mixtures
from gradwire.errors import GradwireError
from tests.tasks import of

SHAPE = (1, 24, 24)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(576, 64), nn.Tanh(), nn.Linear(64, 10))


def batch(size, seed=0):
    """Independent pixels, far from Gaussian: one in ten is bright."""
    random = torch.Generator().manual_seed(seed)
    bright = torch.rand(size, *SHAPE, generator=random) < 0.1
    images = torch.rand(size, *SHAPE, generator=random) * bright
    return images, torch.randint(10, (size,), generator=random)


def apart(guess, truth):
    """The largest of the images' distances to the nearest guess, in root mean squares of a pixel."""
    return float(torch.cdist(truth.flatten(1), guess.flatten(1)).min(1).values.max()) / 24


@pytest.mark.parametrize("scheme", ["none", "powersgd:rank=4"])
def test_independent_sources_of_a_batch_are_unmixed(scheme):
    images, labels = batch(4)
    view = capture(network(), images, labels, scheme)
    assert apart(invert(view, "ica:iterations=400,tv=0").inputs[0], images) < 1e-3
    # By negentropy alone, without a look at the domain, the bias still gives sign and scale.
    assert apart(invert(view, "ica:iterations=400,tv=0,outside=0,contrast=0,fade=1").inputs[0], images) < 0.03


def test_of_a_secure_sum_the_inputs_of_all_clients_are_unmixed():
    parties = [batch(1, seed) for seed in range(4)]
    view = capture(network(), *parties[0], "sga", fellows=parties[1:])
    guess = invert(view, "ica:iterations=400,tv=0")
    assert guess.inputs.shape == (1, 4, *SHAPE)
    assert apart(guess.inputs[0], torch.cat([images for images, _ in parties])) < 1e-3


def test_one_input_needs_no_search():
    images, labels = batch(1)
    assert apart(invert(capture(network(), images, labels), "ica:iterations=1").inputs[0], images) < 1e-4


def test_pictures_are_unmixed_though_they_have_much_in_common(digits):
    images, labels = digits.batch(range(8))
    model = models.build("mlp", digits.shape, digits.outputs, digits.mean, digits.std, seed=0)
    guess = invert(capture(model, images, labels), "ica:iterations=400")
    assert score(guess.inputs, images[None]).ssim.mean() > 0.8


def test_mixtures_are_whitened_and_hold_the_inputs():
    images, labels = batch(4)
    problem = pose(capture(network(), images, labels), "adaptive")
    mixed, as_sent = mixtures(problem, FirstLayer.of(problem.view.model, of(SHAPE), "train", problem.view.shape))
    assert as_sent
    covariance = mixed.whitened @ mixed.whitened.mT / mixed.whitened.shape[1]
    torch.testing.assert_close(covariance, torch.eye(4, dtype=torch.float64), rtol=0, atol=1e-6)
    unmixing = torch.linalg.lstsq(mixed.whole.mT, images.flatten(1).double().mT).solution.mT
    torch.testing.assert_close(mixed.inputs(3 * unmixing), images.flatten(1).double(), rtol=1e-3, atol=1e-4)


def test_a_rank_below_the_batch_is_said_and_a_layer_that_is_not_linear_refused():
    images, labels = batch(4)
    guess = invert(capture(network(), images, labels, "powersgd:rank=2"), "ica:iterations=5")
    assert "powersgd:rank=2 shows mixtures of rank 2; 4 inputs cannot be told apart in them" in guess.notes
    torch.testing.assert_close(guess.inputs[0, 2:], torch.full((2, *SHAPE), 0.5))
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 22 * 22, 10))
    with pytest.raises(GradwireError, match="needs a first layer with parameters that is Linear; '0' is Conv2d"):
        invert(capture(model, images, labels), "ica")


def test_negentropy_is_zero_for_a_gaussian():
    draws = torch.randn(1_000_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert float(log_cosh(draws).mean()) == pytest.approx(GAUSSIAN, abs=1e-3)
    torch.testing.assert_close(log_cosh(draws), draws.cosh().log())


BAD = [({"iterations": 0}, "at least 1"), ({"step": 0.0}, "positive"), ({"tv": -1.0}, "not be negative")]


@pytest.mark.parametrize(("options", "words"), BAD)
def test_bad_options_are_refused(options, words):
    with pytest.raises(GradwireError, match=words):
        ICA(**options)
