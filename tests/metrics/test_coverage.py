"""Every interval that is printed holds the truth about as often as it says, whatever pairs share."""

from importlib import import_module

import numpy as np
import pytest
from tests.metrics.worlds import RUNS, World

from gradwire.metrics import clusters, membership

WORLDS = {
    "one model": World(1, 2000),
    "one model, leaking": World(1, 2000, lift=2, varies=2),
    "one model of which little is left to find": World(1, 2000, sd=0, lift=4),
    "shared examples": World(),
    "shared examples, models that differ": World(examples=1000, between=0.3),
    "shared examples, leaking": World(examples=1000, between=0.3, lift=2, varies=2),
    "shared examples, leaking evenly": World(lift=4),
    "few examples": World(examples=200, lift=2, varies=2),
    "few models": World(models=3, lift=1),
}


def coverage(world: World, runs: int, seed: int) -> dict[str, tuple[int, int]]:
    """Figure → how often its interval held the truth, and how often it was printed."""
    random, truth = np.random.default_rng(seed), world.truth()
    held: dict[str, list[bool]] = {name: [] for name in truth}
    for _ in range(runs):
        found = membership(world.draw(random))
        told = {"accuracy": found.balanced_accuracy, "auc": found.auc}
        told |= {f"{rate:g}": low.figure for rate, low in found.tpr_at.items() if low.figure}
        for name, figure in told.items():
            held[name].append(figure.low <= truth[name] <= figure.high)
    return {name: (sum(each), len(each)) for name, each in held.items()}


def check(found: dict[str, tuple[int, int]], low: float, high: float) -> None:
    for name, (held, printed) in found.items():
        if printed > 20:
            share = held / printed
            reach = 2.5 * np.sqrt(0.95 * 0.05 / printed)
            assert low - reach <= share <= high + reach, (name, held, printed)


@pytest.mark.parametrize("name", ["one model, leaking", "shared examples", "shared examples, leaking"])
def test_intervals_hold_the_truth(name) -> None:
    check(coverage(WORLDS[name], 60, 0), 0.92, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", WORLDS)
def test_intervals_hold_the_truth_as_often_as_they_say(name) -> None:
    found = coverage(WORLDS[name], int(150 * RUNS), 1)
    print(f"{name}: " + ", ".join(f"{figure} {held} of {printed}" for figure, (held, printed) in found.items()))
    check(found, 0.92, 0.98)


def test_an_interval_of_pairs_as_if_they_were_independent_would_hold_it_less_often(monkeypatch) -> None:
    """What was printed before: that the test above fails then shows that it can."""

    def alone(influence, models):
        found = clusters.variance(influence, models)
        return clusters.Variance(found.independent, found.independent, 1e9)

    monkeypatch.setattr(import_module("gradwire.metrics.membership"), "variance", alone)
    held, printed = coverage(WORLDS["shared examples, leaking"], 60, 0)["auc"]
    assert held / printed < 0.85
