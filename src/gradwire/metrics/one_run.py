"""Auditing in one training run: of many canaries, each in or out by its own coin, how many does an attack get right?

T. Steinke, M. Nasr, M. Jagielski, "Privacy auditing with one (1) training run", NeurIPS 2023, theorem 5.2 and
algorithm 1. Under (ε, δ)-differential privacy each guess is right with probability at most e^ε / (1 + e^ε), whatever
the others are, but for what δ adds; so v right guesses of r have a p-value.
"""

import numpy as np

from gradwire.errors import GradwireError


def p_value(canaries: int, guesses: int, right: int, epsilon: float, delta: float = 0.0) -> float:
    """The highest probability that anything (ε, δ)-private gives at least so many right guesses.

    Pr[W ≥ v] + 2mδ·max_{1≤i≤v} Pr[v > W ≥ v − i] / i, with W ~ Binomial(r, e^ε / (1 + e^ε)).

    Args:
        canaries: m, and guesses: r ≤ m of them that were not abstained from; right: v ≤ r.
        epsilon: ε ≥ 0, and delta: δ.

    Raises:
        GradwireError: counts that cannot be.
    """
    from scipy.stats import binom  # type: ignore[import-untyped]

    if not 0 <= right <= guesses <= canaries:
        raise GradwireError(
            f"{right} of {guesses} guesses about {canaries} canaries are right; each must be at most the next"
        )
    fair = 1 / (1 + np.exp(-epsilon))
    tail = float(binom.sf(right - 1, guesses, fair))
    if delta == 0 or right == 0:
        return min(1.0, tail)
    near = np.cumsum(binom.pmf(np.arange(right - 1, -1, -1), guesses, fair)) / np.arange(1, right + 1)
    return min(1.0, tail + 2 * canaries * delta * float(near.max()))


def one_run_bound(canaries: int, guesses: int, right: int, confidence: float = 0.95, delta: float = 0.0) -> float:
    """The largest ε that the right guesses rule out at this confidence; 0 where they prove nothing.

    Raises:
        GradwireError: counts that cannot be, or a confidence outside (0, 1).
    """
    from scipy.optimize import brentq  # type: ignore[import-untyped]

    if not 0 < confidence < 1:
        raise GradwireError(f"confidence is {confidence}; it must lie between 0 and 1")

    def excess(epsilon: float) -> float:
        return p_value(canaries, guesses, right, epsilon, delta) - (1 - confidence)

    if excess(0.0) >= 0:
        return 0.0
    above = 1.0
    while excess(above) < 0:
        above *= 2
    return float(brentq(excess, 0.0, above, xtol=1e-9))
