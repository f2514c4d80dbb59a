import subprocess
import sys

import pytest
import torch

import gradwire
import gradwire.metrics as metrics
from gradwire.errors import GradwireError


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_a_score_matches_first_and_then_measures() -> None:
    truth = images(2, 3, 1, 8, 8)
    score = gradwire.score(truth.flip(1), truth)
    assert torch.equal(score.inputs, truth)
    assert score.mse.tolist() == [0, 0]
    assert score.psnr.tolist() == [metrics.PSNR_CAP] * 2
    assert score.ssim.tolist() == [1, 1]
    assert score.success.tolist() == [True, True]


def test_the_truth_may_come_as_the_plain_batch_that_the_victim_held() -> None:
    truth, guess = images(3, 1, 8, 8), images(1, 3, 1, 8, 8, seed=1)
    score = gradwire.score(guess, truth)
    assert score.inputs.shape == guess.shape
    assert torch.equal(score.ssim, metrics.ssim(metrics.match(guess, truth[None]), truth[None]))


def test_a_truth_of_another_size_is_refused() -> None:
    with pytest.raises(GradwireError, match="1×3×1×8×8 and truth 2×1×8×8"):
        gradwire.score(images(1, 3, 1, 8, 8), images(2, 1, 8, 8))


def test_the_metrics_are_imported_without_what_only_some_of_them_need() -> None:
    """The package's own `__init__` imports more than the metrics, so an empty one stands in its place."""
    code = (
        "import importlib.util, sys, types; package = types.ModuleType('gradwire');"
        "package.__path__ = importlib.util.find_spec('gradwire').submodule_search_locations;"
        "sys.modules['gradwire'] = package; import gradwire.metrics; print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "gradwire.metrics.scores" in loaded
    assert not {"scipy", "torchmetrics", "PIL", "datasets"} & set(loaded)
