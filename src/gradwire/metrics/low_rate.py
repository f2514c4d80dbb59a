"""How many members an attack finds at a low false-positive rate, with an interval that knows how the threshold is set.

The threshold is an order statistic of the non-members' scores: with a false alarms allowed among n of them, its true
false-positive rate is distributed as Beta(a + 1, n − a), whatever the scores' distribution. The true rate at which it
finds members has Jeffreys' distribution given how many it found. Both are carried to the rate that was asked for along
the chord, on normal-quantile axes, from this point of the curve to one further up, at `FURTHER` times the rate, that
is known far better. The interval holds the middle of what comes out (generalised confidence limits; S. Weerahandi, JASA
88(423), 1993).

Where examples are asked of several models, both counts are divided by the figure's design effect (E. L. Korn,
B. I. Graubard, "Confidence intervals for proportions with small expected number of positive counts estimated from
survey data", Survey Methodology 24(2), 1998).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import floor

import numpy as np

from gradwire.metrics.clusters import variance
from gradwire.metrics.intervals import Figure, quantile
from gradwire.metrics.scored import Scored

FURTHER = 16
DIFFERENT = 0.25
"""The share of models in the variance of non-members' scores above which few models would set the threshold of all."""
ALARMS = 10
"""False alarms that must be allowed where examples are asked of several models: fewer do not show their dependence."""
GRID = 400
"""Quantiles that stand for the threshold's distribution."""


@dataclass(frozen=True)
class LowRate:
    """The share of members found at a false-positive rate: `figure`, or `why` there is none."""

    figure: Figure | None
    why: str = ""


def low_rate(scored: Scored, rate: float, confidence: float = 0.95) -> LowRate:
    """The share of members above the lowest threshold that calls at most this share of non-members members."""
    curve = scored.curve
    allowed = floor(rate * curve.nonmembers * (1 + 1e-12))
    if allowed < (least := 1 if len(scored.scores) == 1 else ALARMS):
        needed = f"a false-positive rate of {rate:g} needs {round(least / rate):,} non-members"
        of = "" if least == 1 else ", all models together"
        return LowRate(None, f"{needed}{of}; there are {curve.nonmembers:,}")
    if (level := _between_models(scored)) > DIFFERENT:
        says = f"{100 * level:.0f} % of the variance of non-members' scores lies between models"
        return LowRate(None, f"{says}, so few of them would set the threshold of all (at most {100 * DIFFERENT:.0f} %)")
    found = curve.found_at(rate)
    return LowRate(Figure(found / curve.members, *_interval(scored, rate, allowed, found, confidence)))


def _interval(scored: Scored, rate: float, allowed: int, found: int, confidence: float) -> tuple[float, float]:
    from scipy.special import betainc, betaincinv, ndtr, ndtri  # type: ignore[import-untyped]

    curve = scored.curve
    inside, outside = curve.members, curve.nonmembers
    above = min(FURTHER * allowed, outside // 2)
    anchor = ndtri((above + 1) / (outside + 1)), ndtri((curve.found_at(above / outside) + 0.5) / (inside + 1))
    point = ndtri((allowed + 1) / (outside + 1)), ndtri((found + 0.5) / (inside + 1))
    effect = _design_effect(scored, rate, point, anchor, confidence)
    true_rates = betaincinv((allowed + 1) / effect, (outside - allowed) / effect, (np.arange(GRID) + 0.5) / GRID)
    # How much longer the chord is from the threshold's true place than from the rate asked for.
    stretch = (anchor[0] - np.minimum(ndtri(true_rates), anchor[0] - 1e-3)) / (anchor[0] - ndtri(rate))
    shape = found / effect + 0.5, (inside - found) / effect + 0.5

    def below(value: float) -> float:
        return float(betainc(*shape, ndtr(anchor[1] + (ndtri(value) - anchor[1]) * stretch)).mean())

    tail = (1 - confidence) / 2
    low, high = (_solve(below, level) for level in (tail, 1 - tail))
    return (0.0 if found == 0 else low), (1.0 if found == inside else high)


def _design_effect(
    scored: Scored, rate: float, point: tuple[float, float], anchor: tuple[float, float], confidence: float
) -> float:
    """The variance of the logarithm of the figure over that of as many independent pairs; 1 for one model."""
    if len(scored.scores) == 1:
        return 1.0
    curve, asked = scored.curve, scored.asked.numpy()
    kept = curve.false <= floor(rate * curve.nonmembers * (1 + 1e-12))
    threshold = curve.thresholds[kept][-1]
    members, called = scored.members.numpy(), (scored.scores >= threshold).numpy()
    inside, outside = curve.members, curve.nonmembers
    # The elasticity of the curve here: by how many per cent TPR grows with a per cent of FPR.
    chord = np.clip((anchor[1] - point[1]) / (anchor[0] - point[0]), 0.0, 1.2)
    density = [np.exp(-z * z / 2) / np.sqrt(2 * np.pi) for z in point]
    tpr, fpr = (int((called & members & asked).sum()) + 0.5) / (inside + 1), rate
    elasticity = chord * density[1] / density[0] * fpr / tpr
    influence = np.where(
        members,
        (called - called[members & asked].mean()) / (inside * tpr),
        -elasticity * (called - called[~members & asked].mean()) / (outside * fpr),
    )
    found = variance(np.where(asked, influence, 0.0), scored.models.numpy())
    if not found.independent:
        return 1.0
    widened = quantile(found, confidence) / quantile(found._replace(freedom=1e9), confidence)
    return max(1.0, found.value / found.independent * widened**2)


def _between_models(scored: Scored) -> float:
    """The share of the variance of non-members' scores that lies between models; 0 for infinite ones."""
    outside = scored.asked & ~scored.members
    several = [row[kept] for row, kept in zip(scored.scores, outside, strict=True) if kept.sum() > 1]
    if len(several) < 2 or not all(bool(row.isfinite().all()) for row in several):
        return 0.0
    within = float(np.mean([float(row.var()) for row in several]))
    sizes = float(np.mean([1 / len(row) for row in several]))
    between = float(np.var([float(row.mean()) for row in several], ddof=1)) - within * sizes
    return max(0.0, between) / max(between + within, 1e-300)


def _solve(rising: Callable[[float], float], level: float) -> float:
    """Where a rising function of a share reaches a level."""
    from scipy.optimize import brentq  # type: ignore[import-untyped]

    least, most = 1e-12, 1 - 1e-12
    if rising(most) < level:
        return 1.0
    return 0.0 if rising(least) > level else float(brentq(lambda x: rising(x) - level, least, most, xtol=1e-9))
