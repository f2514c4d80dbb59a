import numpy as np
import pytest
import torch

from gradwire import metrics
from gradwire.errors import GradwireError


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def reference_ssim(x: np.ndarray, y: np.ndarray) -> float:
    """Wang et al. 2004, equation 13, window by window; one channel."""
    offsets = np.arange(-5, 6)
    window = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    x_padded, y_padded = (np.pad(image, 5, mode="reflect") for image in (x, y))
    values = []
    for row, column in np.ndindex(*x.shape):
        a = x_padded[row : row + 11, column : column + 11]
        b = y_padded[row : row + 11, column : column + 11]
        mean_a, mean_b = (window * a).sum(), (window * b).sum()
        var_a, var_b = (window * (a - mean_a) ** 2).sum(), (window * (b - mean_b) ** 2).sum()
        covariance = (window * (a - mean_a) * (b - mean_b)).sum()
        luminance = (2 * mean_a * mean_b + 0.01**2) / (mean_a**2 + mean_b**2 + 0.01**2)
        values.append(luminance * (2 * covariance + 0.03**2) / (var_a + var_b + 0.03**2))
    return float(np.mean(values))


def test_mse_by_hand() -> None:
    truth = torch.zeros(2, 1, 2, 2)
    guess = torch.tensor([[0.0, 0.0, 0.0, 1.0], [0.5, 0.5, 0.5, 0.5]]).reshape(2, 1, 2, 2)
    assert metrics.mse(guess, truth).tolist() == [0.25, 0.25]


def test_psnr_of_a_constant_offset() -> None:
    truth = images(3, 3, 8, 8) * 0.5
    torch.testing.assert_close(metrics.psnr(truth + 0.1, truth), torch.full((3,), 20.0).double(), atol=1e-4, rtol=0)


def test_psnr_of_identical_images_is_capped() -> None:
    truth = images(2, 1, 8, 8)
    assert metrics.psnr(truth, truth).tolist() == [metrics.PSNR_CAP] * 2


@pytest.mark.parametrize("size", [(2, 2), (5, 5), (8, 8), (11, 8), (28, 28), (32, 32)])
def test_ssim_of_identical_images_is_one(size: tuple[int, int]) -> None:
    truth = images(2, 3, *size)
    assert metrics.ssim(truth, truth).tolist() == [1.0, 1.0]


@pytest.mark.parametrize("size", [(8, 8), (6, 9), (16, 12)])
def test_ssim_follows_the_paper(size: tuple[int, int]) -> None:
    truth = images(2, 2, *size)
    guess = (truth + 0.3 * images(2, 2, *size, seed=1)).clamp(max=1)
    expected = [
        np.mean([reference_ssim(g.numpy(), t.numpy()) for g, t in zip(*pair, strict=True)])
        for pair in zip(guess.double(), truth.double(), strict=True)
    ]
    assert metrics.ssim(guess, truth).tolist() == pytest.approx(expected, abs=1e-9)


def test_ssim_of_digits_tells_good_from_bad() -> None:
    truth = images(4, 1, 8, 8)
    near = metrics.ssim((truth + 0.02).clamp(max=1), truth)
    far = metrics.ssim(images(4, 1, 8, 8, seed=2), truth)
    assert (near > 0.9).all()
    assert (far < 0.5).all()


def test_ssim_sigma_is_the_standard_one_where_it_fits() -> None:
    assert metrics.ssim_sigma(32, 32) == metrics.ssim_sigma(8, 8) == metrics.ssim_sigma(6, 100) == 1.5
    assert metrics.ssim_sigma(5, 8) == pytest.approx(1.2)
    assert metrics.ssim_sigma(2, 2) == pytest.approx(0.3)
    with pytest.raises(GradwireError, match="1×28 px is too small"):
        metrics.ssim_sigma(1, 28)


@pytest.mark.parametrize("metric", [metrics.mse, metrics.psnr, metrics.ssim])
def test_a_batch_scores_the_mean_of_its_images(metric) -> None:
    truth, guess = images(3, 4, 1, 8, 8), images(3, 4, 1, 8, 8, seed=1)
    single = metric(guess.flatten(0, 1), truth.flatten(0, 1))
    torch.testing.assert_close(metric(guess, truth), single.reshape(3, 4).mean(1))


def test_success_starts_at_the_threshold() -> None:
    assert metrics.success(torch.tensor([0.59, 0.6, 1.0], dtype=torch.float64)).tolist() == [False, True, True]


def test_rounding_just_outside_the_box_is_forgiven() -> None:
    truth = torch.ones(1, 1, 8, 8)
    assert metrics.mse(truth + 1e-6, truth).item() == 0


@pytest.mark.parametrize(
    ("guess", "truth", "message"),
    [
        (torch.zeros(2, 1, 8, 8), torch.zeros(3, 1, 8, 8), "2×1×8×8 and truth 3×1×8×8"),
        (torch.zeros(8, 8), torch.zeros(8, 8), "images are N×C×H×W"),
        (torch.zeros(0, 1, 8, 8), torch.zeros(0, 1, 8, 8), "holds no image"),
        (torch.full((1, 1, 8, 8), torch.nan), torch.zeros(1, 1, 8, 8), "guess holds a value that is not finite"),
        (torch.zeros(1, 1, 8, 8), torch.full((1, 1, 8, 8), 255.0), "truth has values from 255 to 255"),
        (torch.full((1, 1, 8, 8), -0.5), torch.zeros(1, 1, 8, 8), "guess has values from -0.5 to -0.5"),
    ],
)
@pytest.mark.parametrize("function", [metrics.mse, metrics.psnr, metrics.ssim, metrics.match])
def test_bad_images_are_named(function, guess: torch.Tensor, truth: torch.Tensor, message: str) -> None:
    with pytest.raises(GradwireError, match=message) as error:
        function(guess, truth)
    assert "\n" not in str(error.value)
