"""How alike a guess and the truth are. The only room that sees both, and only after an attack has chosen."""

from gradwire.metrics.images import PSNR_CAP, SUCCESS, mse, psnr, ssim, ssim_sigma, success
from gradwire.metrics.labels import label_accuracy
from gradwire.metrics.matching import match
from gradwire.metrics.scores import Score, score

__all__ = [
    "PSNR_CAP",
    "SUCCESS",
    "Score",
    "label_accuracy",
    "match",
    "mse",
    "psnr",
    "score",
    "ssim",
    "ssim_sigma",
    "success",
]
