"""How alike a guess and the truth are. The only room that sees both, and only after an attack has chosen."""

from gradwire.metrics.epsilon import epsilon_bound, epsilon_over
from gradwire.metrics.images import PSNR_CAP, SUCCESS, mse, psnr, ssim, ssim_sigma, success
from gradwire.metrics.labels import label_accuracy
from gradwire.metrics.matching import match
from gradwire.metrics.membership import Membership, membership
from gradwire.metrics.one_run import one_run_bound, p_value
from gradwire.metrics.roc import Roc, roc
from gradwire.metrics.scores import Score, score
from gradwire.metrics.thresholds import best, best_by_class

__all__ = [
    "PSNR_CAP",
    "SUCCESS",
    "Membership",
    "Roc",
    "Score",
    "best",
    "best_by_class",
    "epsilon_bound",
    "epsilon_over",
    "label_accuracy",
    "match",
    "membership",
    "mse",
    "one_run_bound",
    "p_value",
    "psnr",
    "roc",
    "score",
    "ssim",
    "ssim_sigma",
    "success",
]
