"""A table without a leak claims one in a twentieth of cases, and one with a leak claims it where it is."""

from importlib import import_module

import numpy as np
import pytest
import torch
from tests.metrics.worlds import RUNS, World

from gradwire.metrics import Scored, claims
from gradwire.metrics.claims import LEVEL


def table(random: np.random.Generator, models: int, examples: int, attacks: int, lift: float = 0.0) -> list[Scored]:
    """Several attacks on the same pairs: they agree in part, as attacks on the same answers do."""
    first = World(models, examples, between=0.3, lift=lift).draw(random)
    noise = (torch.from_numpy(random.standard_normal((attacks, models, examples))) for _ in range(1))
    return [Scored.of(first.scores + 0.7 * more, first.members) for more in next(noise)]


def fires(rows: list[Scored], seed: int) -> bool:
    made = claims(rows, seed)
    return any(made.finds(index) for index in range(len(rows)))


def allowed(runs: int) -> float:
    """How many false claims chance allows at most, three standard deviations above."""
    return LEVEL * runs + 3 * np.sqrt(LEVEL * (1 - LEVEL) * runs)


@pytest.mark.parametrize(("models", "attacks"), [(1, 1), (4, 3)])
def test_a_table_without_a_leak_claims_nothing(models, attacks, monkeypatch) -> None:
    monkeypatch.setattr(import_module("gradwire.metrics.claims"), "PERMUTATIONS", 399)
    random = np.random.default_rng(0)
    assert sum(fires(table(random, models, 400, attacks), run) for run in range(100)) <= allowed(100)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "models", "attacks", "runs"),
    [(400, 1, 1, 1000), (400, 1, 6, 500), (1000, 1, 6, 200), (10_000, 1, 6, 30), (400, 16, 6, 30), (1000, 16, 1, 30)],
)
def test_a_headline_without_a_leak_is_rare(n, models, attacks, runs, monkeypatch) -> None:
    """Of n candidates a side; `GRADWIRE_RUNS` times as many runs. It was more than half of six attacks' tables."""
    monkeypatch.setattr(import_module("gradwire.metrics.claims"), "PERMUTATIONS", 399)
    random, runs = np.random.default_rng(n + models), int(runs * RUNS)
    fired = sum(fires(table(random, models, 2 * n, attacks), run) for run in range(runs))
    print(f"n {n}, {models} models, {attacks} attacks: {fired} of {runs} tables without a leak have a headline")
    assert fired <= allowed(runs)


def test_a_leak_is_found_where_it_is() -> None:
    random = np.random.default_rng(0)
    rows = table(random, 16, 800, 2)
    rows.append(Scored.of(rows[0].scores + 2.0 * rows[0].members, rows[0].members))
    made = claims(rows)
    assert [made.finds(index) for index in range(3)] == ["", "", "tpr_at_1e-2"]
    assert made.p[2]["auc"] <= 2 / (made.permutations + 1)


def test_a_leak_in_one_of_many_rows_must_be_clearer() -> None:
    random = np.random.default_rng(0)
    leak = World(1, 400, sd=0, lift=0.25).draw(random)
    others = [World(1, 400, sd=0).draw(random) for _ in range(40)]
    alone, among = claims([leak]).p[0]["auc"], claims([leak, *others]).p[0]["auc"]
    assert alone < LEVEL < among


def test_examples_that_all_models_know_well_are_no_leak() -> None:
    """An effect of the example alone would look like one to a test that takes pairs for independent."""
    random = np.random.default_rng(3)
    fired = [fires([World(16, 100, sd=5).draw(random)], run) for run in range(40)]
    assert sum(fired) <= allowed(40)


def test_rows_that_differ_in_thresholds_alone_are_one_claim() -> None:
    row = World(1, 400, lift=0.5).draw(np.random.default_rng(0))
    other = Scored(row.scores, row.members, row.asked, row.limits - 1, row.models)
    assert claims([row]).p[0] == claims([row, other]).p[1]


def test_the_self_test_fires_about_as_often_as_it_may() -> None:
    fired = [claims([World(1, 400).draw(np.random.default_rng(run))], run).fired for run in range(10)]
    assert np.mean(fired) == pytest.approx(LEVEL, abs=0.02)


def test_nothing_to_claim() -> None:
    assert claims([]).permutations == 0
