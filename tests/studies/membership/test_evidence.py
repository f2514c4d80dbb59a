"""Every sentence beside a table is said where it is so, and not where it is not."""

import numpy as np
import pytest
import torch

from gradwire.attacks.membership import Answers, Signals, attack
from gradwire.metrics import Scored, claims
from gradwire.metrics.claims import LEVEL
from gradwire.studies.membership.evidence import Entry, claimed, figures, notes, permuted
from gradwire.studies.membership.rows import spread
from gradwire.studies.membership.verdicts import judged, on_answers
from tests.metrics.worlds import RUNS, World

ROW = {"scheme": "none", "attack": "loss", "threshold": "shadow", "knowledge": ""}


def entry(models: int = 8, lift: float = 0.0, **row: str) -> Entry:
    """An attack on 400 examples."""
    return Entry({**ROW, **row}, World(models, 400, lift=lift).draw(np.random.default_rng(0)))


def said(*entries: Entry) -> str:
    _, made = claimed(entries, 0)
    missing = [why for each in entries for why in figures(each, 0.95)[1]]
    return " ".join(notes(entries, made, missing))


def test_what_intervals_are_over_depends_on_how_many_models_there_are() -> None:
    assert "Intervals are over examples and models, which several pairs share." in said(entry(8))
    assert "with 3 models, how much another one would differ cannot be told" in said(entry(3))
    assert "of another model nothing can be told from one" in said(entry(1))


def test_why_a_rate_is_missing_is_said_once() -> None:
    told = said(entry(), entry(attack="lira"))
    why = "A false-positive rate of 0.001 needs 10,000 non-members, all models together; there are 1,600."
    assert told.count(why) == 1
    assert "0.01 needs" not in told


def test_scores_the_wrong_way_round_are_noticed() -> None:
    leaking = entry(lift=3, attack="score")
    turned = Entry(leaking.row, Scored.of(-leaking.scored.scores, leaking.scored.members))
    assert "Members score lower than others" in said(turned)
    assert "Members score lower" not in said(leaking)


def test_a_tie_at_the_top_that_is_larger_than_a_rate_is_said_with_its_size() -> None:
    """Five non-members share the highest score with 20 members: of 200, at 1 % two may; of 1,000, at 0.1 % one may."""

    def told(nonmembers: int) -> str:
        scores = torch.zeros(100 + nonmembers)
        scores[80:105] = 1
        return said(Entry(ROW, Scored.of(scores, torch.arange(len(scores)) < 100)))

    assert "2.5 % of non-members share the highest score of loss, so nothing is found at 1 %." in told(200)
    assert "0.5 % of non-members share the highest score of loss, so nothing is found at 0.1 %." in told(1000)
    assert "so nothing is found at 1 %" not in told(1000)
    assert "share the highest score" not in said(entry(1))


def test_models_that_differ_are_a_warning() -> None:
    health = {"train_accuracy_low": 0.23, "train_accuracy_high": 0.91}
    health |= {"test_accuracy_low": 0.5, "test_accuracy_high": 0.55}
    (warning,) = spread("none", health)
    assert "Under none, models differ: their train accuracies lie between 0.23 and 0.91." in warning
    assert not list(spread("none", health | {"train_accuracy_low": 0.85}))
    assert not list(spread("none", dict.fromkeys(health, "")))


def test_a_threshold_chosen_on_the_answers_claims_nothing() -> None:
    found, _ = claimed([entry(lift=3), entry(lift=3, threshold="target")], 0)
    assert found[0]["finds"] == "tpr_at_1e-2"
    assert found[1] == {"finds": "", "p": ""}


def test_a_permuted_truth_has_as_many_members_and_finds_nothing() -> None:
    leaking = entry(lift=3)
    (row,) = permuted([leaking], 0.95, 0)
    assert row["members"] == int(leaking.scored.members.sum())
    assert row["auc_low"] < 0.5 < row["auc_high"]
    assert row["finds"] == ""
    assert torch.equal(leaking.scored.members, entry(lift=3).scored.members)


@pytest.mark.slow
def test_attacks_whose_scores_hang_on_the_others_members_claim_as_rarely() -> None:
    """A permuted truth leaves LiRA's scores as they are, although they are made with the other models' members."""
    random, fired, runs = np.random.default_rng(0), 0, int(60 * RUNS)
    specs = ("loss", "lira:variance=global", "lira-offline")
    for run in range(runs):
        world = World(8, 300).draw(random)
        phi = world.scores[..., None]
        answers = Answers(Signals(phi), world.members, torch.zeros(300, dtype=torch.int64))
        attacks = [attack(spec) for spec in specs]
        asked = judged(answers, attacks, rehearsed=False)
        rows = [on_answers(answers, each, ("none",), asked)["none"] for each in attacks]
        made = claims(rows, run)
        fired += any(made.finds(index) for index in range(len(rows)))
    print(f"{fired} of {runs} tables of {', '.join(specs)} without a leak have a finding")
    assert fired <= LEVEL * runs + 3 * (LEVEL * (1 - LEVEL) * runs) ** 0.5
