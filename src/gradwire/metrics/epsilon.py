"""What a test of membership proves about ε: a lower bound, at a confidence level.

Whatever is (ε, δ)-differentially private has, at any threshold, TPR ≤ e^ε·FPR + δ and TNR ≤ e^ε·FNR + δ (P. Kairouz, S.
Oh, P. Viswanath, "The composition theorem for differential privacy", ICML 2015, theorem 2.1). Rates that break this at
some ε prove that what was tested is not ε-private, provided that the threshold had not been chosen for the very
examples that the rates are counted on: of many thresholds one looks well by chance. Then the bound needs correction.

Counts are taken as binomial. So they are where each example is asked of a training of its own, and where nothing leaks.
Many examples of one training that leaks depend on each other, and what they prove is for `metrics.one_run` to say.
"""

from typing import Any

import numpy as np
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.metrics.intervals import clopper_pearson
from gradwire.metrics.roc import roc


def epsilon_bound(
    true: Any, members: Any, false: Any, nonmembers: Any, confidence: float = 0.95, delta: float = 0.0, tried: int = 1
) -> np.ndarray:
    """The largest ε ≥ 0 that the counts rule out everything below of; 0 where they prove nothing.

    One event of probability at most 1 − confidence is that the true rate lies below, or the false one above, its
    Clopper–Pearson limit, and both inequalities are drawn from the same two limits: so the bound holds at `confidence`
    whichever of them it comes from.

    Args:
        true: members called so, at a threshold fixed beforehand; false: non-members called so. Numbers or arrays.
        members, nonmembers: how many there are.
        delta: δ.
        tried: how many thresholds these are the best of; each then has to hold with so much more confidence.

    Raises:
        GradwireError: a confidence or δ outside (0, 1) and [0, 1), or less than one threshold.
    """
    if not 0 < confidence < 1 or not 0 <= delta < 1 or tried < 1:
        given = f"confidence is {confidence}, delta {delta}, tried {tried}"
        raise GradwireError(f"{given}; they must lie in (0, 1), in [0, 1), and from 1 upwards")
    level = 1 - (1 - confidence) / tried
    low, _ = clopper_pearson(true, members, level)
    _, high = clopper_pearson(false, nonmembers, level)
    with np.errstate(divide="ignore"):
        powers = np.log(np.maximum(low - delta, 0)) - np.log(high)
        counters = np.log(np.maximum(1 - high - delta, 0)) - np.log(1 - low)
    return np.maximum(0.0, np.maximum(powers, counters))


def epsilon_over(
    scores: Tensor, members: Tensor, confidence: float = 0.95, delta: float = 0.0, thresholds: int = 32
) -> float:
    """The best bound over thresholds that are looked up on the scores themselves, corrected for how many they are.

    They are the quantiles of all scores, both sides together, crowded towards the high ones, where ε shows: the shares
    of candidates called members are 2^0, 2^−½, 2^−1, …, as many as `thresholds`. The truth has no part in them, and
    Bonferroni's correction pays for taking the best.

    Args:
        scores: shape (n,), and members: bool, shape (n,).
    """
    curve = roc(scores, members)
    shares = 2.0 ** (-np.arange(thresholds) / 2)
    called = (curve.true + curve.false).numpy()
    # A tie makes the share larger than asked for: whoever scores alike is called alike.
    where = np.minimum(np.searchsorted(called, np.ceil(shares * len(scores))), len(called) - 1)
    bounds = epsilon_bound(
        *(curve.true.numpy()[where], curve.members, curve.false.numpy()[where], curve.nonmembers),
        confidence=confidence,
        delta=delta,
        tried=thresholds,
    )
    return float(bounds.max())
