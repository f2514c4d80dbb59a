"""Metrics: how much a guess has in common with the truth. Only metrics see both, after an attack has chosen its answer.

scipy and torchmetrics are imported inside the functions that use them, because importing them takes seconds.
"""

from gradwire.metrics.claims import Claims, claims
from gradwire.metrics.epsilon import epsilon_bound, one_run_bound, p_value
from gradwire.metrics.images import PSNR_CAP, SUCCESS, mse, psnr, ssim, ssim_sigma, success
from gradwire.metrics.membership import Membership, membership
from gradwire.metrics.roc import Roc, roc
from gradwire.metrics.scored import Scored
from gradwire.metrics.scores import label_accuracy, match
from gradwire.metrics.thresholds import best, best_by_class

__all__ = ["PSNR_CAP", "SUCCESS", "mse", "psnr", "ssim", "ssim_sigma", "success"]
__all__ += ["Claims", "Membership", "Roc", "Scored", "best", "best_by_class", "claims", "membership", "roc"]
__all__ += ["label_accuracy", "match"]
__all__ += ["epsilon_bound", "one_run_bound", "p_value"]
