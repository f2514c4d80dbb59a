"""Lower bounds on ε that a membership test proves, at a confidence level.

`epsilon_bound` takes the rates at one threshold. (ε, δ)-differential privacy implies TPR ≤ e^ε·FPR + δ and TNR ≤
e^ε·FNR + δ (P. Kairouz, S. Oh, P. Viswanath, "The composition theorem for differential privacy", ICML 2015, theorem
2.1). The threshold must be fixed before the examples are seen, and each example asked of a training of its own: the
counts are taken as binomial, and the examples of one training depend on each other where it leaks.

`one_run_bound` takes the guesses about one training's canaries, each in or out by its own coin (T. Steinke, M. Nasr,
M. Jagielski, "Privacy auditing with one (1) training run", NeurIPS 2023, theorem 5.2 and algorithm 1). Each is right
with probability at most e^ε / (1 + e^ε), whatever the others are, apart from what δ adds.
"""

from typing import Any

import numpy as np

from gradwire.errors import GradwireError
from gradwire.metrics.intervals import clopper_pearson


def epsilon_bound(
    true: Any, members: Any, false: Any, nonmembers: Any, confidence: float = 0.95, delta: float = 0.0, tried: int = 1
) -> np.ndarray:
    """The largest ε ≥ 0 below which the counts rule out every value; 0 where they prove nothing.

    Both inequalities use the same two Clopper–Pearson limits, which fail with probability at most 1 − confidence.

    Args:
        true, false: members and non-members called members, at a threshold fixed beforehand; numbers or arrays.
        members, nonmembers: how many there are.
        tried: how many thresholds these are the best of; Bonferroni's correction is made for them.

    Raises:
        GradwireError: a confidence outside (0, 1), δ outside [0, 1), or less than one threshold.
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


def one_run_bound(canaries: int, guesses: int, right: int, confidence: float = 0.95, delta: float = 0.0) -> float:
    """The largest ε that the right guesses about one run rule out; 0 where they prove nothing. Arguments as `p_value`.

    Raises:
        GradwireError: as `p_value`, or a confidence outside (0, 1).
    """
    from scipy.optimize import brentq  # type: ignore[import-untyped]

    if not 0 < confidence < 1:
        raise GradwireError(f"confidence is {confidence}; it must lie between 0 and 1")

    def excess(epsilon: float) -> float:
        return p_value(canaries, guesses, right, epsilon, delta) - (1 - confidence)

    above = 1.0
    while excess(above) < 0:
        above *= 2
    return 0.0 if excess(0.0) >= 0 else float(brentq(excess, 0.0, above, xtol=1e-9))


def distance_bound(guesses: int, right: int, confidence: float = 0.95) -> float:
    """The largest distance μ of two Gaussian outcomes that the right guesses rule out; 0 where they prove nothing.

    M. Nasr et al., "Tight auditing of differentially private machine learning", USENIX Security 2023, section 5: where
    in and out are told no better than N(0, 1) and N(μ, 1) are (μ-GDP), a guess at a fair coin is right with probability
    at most Φ(μ/2). Each coin has noise of its own, so that the right guesses are no more than binomial.

    Raises:
        GradwireError: more right guesses than guesses, none at all, or a confidence outside (0, 1).
    """
    from scipy.stats import beta, norm  # type: ignore[import-untyped]

    if not 0 <= right <= guesses or guesses < 1 or not 0 < confidence < 1:
        raise GradwireError(f"{right} of {guesses} guesses are right at confidence {confidence}; that cannot be")
    low = beta.ppf(1 - confidence, right, guesses - right + 1) if right else 0.0
    return max(0.0, 2 * float(norm.ppf(low)))


def p_value(canaries: int, guesses: int, right: int, epsilon: float, delta: float = 0.0) -> float:
    """The highest probability with which an (ε, δ)-private training leads to at least so many right guesses.

    Pr[W ≥ v] + 2mδ·max_{1≤i≤v} Pr[v > W ≥ v − i] / i, with W ~ Binomial(r, e^ε / (1 + e^ε)).

    Args:
        canaries: m, and guesses: r ≤ m of them that were not abstained from; right: v ≤ r.

    Raises:
        GradwireError: counts of which one is larger than the next.
    """
    from scipy.stats import binom

    if not 0 <= right <= guesses <= canaries:
        counts = f"{right} of {guesses} guesses about {canaries} canaries are right"
        raise GradwireError(f"{counts}; each must be at most the next")
    fair = 1 / (1 + np.exp(-epsilon))
    tail = float(binom.sf(right - 1, guesses, fair))
    if delta == 0 or right == 0:
        return min(1.0, tail)
    near = np.cumsum(binom.pmf(np.arange(right - 1, -1, -1), guesses, fair)) / np.arange(1, right + 1)
    return min(1.0, tail + 2 * canaries * delta * float(near.max()))
