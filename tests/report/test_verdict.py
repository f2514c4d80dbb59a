"""Every sentence that a verdict can be, and a world in which it is not said."""

import pytest

from gradwire.report import summarise
from gradwire.report.audit.verdict import said, verdict_table

PRIOR, SHORT = "the prior decides", "too short"


@pytest.fixture
def verdict(row):
    """The verdict on topk, whose two victims come out at 0.1, beside none, whose come out at 0.9."""

    def of(scheme="topk:ratio=0.1", none=True, **others):
        plain = {"ssim": 0.9, "verdict": "reached", "expected": 0.9}
        own = {"ssim": 0.1, "verdict": PRIOR, "expected": 0.1} | others
        rows = [row("none", **plain, victim=v) for v in range(2) if none]
        rows += [row(scheme, **own, victim=v) for v in range(2)]
        summaries = summarise(rows)
        return said(summaries[-1], summaries)

    return of


def test_attacks_that_could_have_succeeded_and_did_not(verdict):
    assert verdict() == "no attack here succeeded"


def test_one_victim_is_enough_to_give_away(verdict, row):
    rows = [row("topk:ratio=0.1", ssim=ssim, verdict=v) for ssim, v in ((0.7, "reached"), (0.1, PRIOR), (0.9, "exact"))]
    summaries = summarise(rows)
    assert said(summaries[0], summaries) == "gives away 2 of 3 victims, 1 of them proved"
    assert verdict(ssim=0.6) == "gives away 2 of 2 victims"


def test_nothing_follows_from_a_search_that_was_too_short(verdict):
    assert verdict(verdict=SHORT) == "cannot tell: the search was too short for 2 of 2"


def test_nothing_follows_where_nobody_knows_how_far_the_search_came(verdict):
    assert verdict(verdict="") == "cannot tell: how far the search came is not known"


def test_nothing_follows_without_images_of_its_own(verdict):
    assert verdict(expected="") == ("cannot tell: nothing was rehearsed on images of the adversary's own")


def test_nothing_follows_where_its_own_images_come_out(verdict):
    assert verdict(expected=0.65) == "cannot tell: the adversary's own images came out at 0.65"


def test_nothing_follows_from_an_attack_that_was_not_tried_on_none(verdict):
    assert verdict(none=False) == "cannot tell: whether this attack breaks none was not tried"


def test_nothing_follows_from_an_attack_that_does_not_break_none(row):
    rows = [row("none", ssim=0.1, verdict=PRIOR, expected=0.1), row("signsgd", ssim=0.1, verdict=PRIOR, expected=0.1)]
    plain, signs = summarise(rows)
    assert said(signs, [plain, signs]) == "cannot tell: the attack breaks only 0 of 1 under none"
    assert said(plain, [plain, signs]) == "cannot tell: not even the plain update was inverted"


@pytest.mark.parametrize(
    ("searched", "told"),
    [
        ({"ssim": 0.1, "verdict": PRIOR}, "cannot tell: the attack breaks only 0 of 1 under none by search"),
        ({"ssim": 0.9, "verdict": "reached"}, "no attack here succeeded"),
    ],
)
def test_algebra_that_solves_none_tells_nothing_of_a_search_that_failed(row, searched, told):
    own = {"ssim": 0.1, "verdict": PRIOR, "expected": 0.1, "attack": "strongest"}
    rows = [row("none", ssim=1.0, verdict="exact", attack="strongest"), row("signsgd", **own)]
    rows += [row("none", **searched, attack="strongest/annealed")]
    rows += [row("none", ssim=1.0, verdict="exact", attack="strongest/exact")]
    assert said(summarise(rows)[-1], summarise(rows), summarise(rows, parts=True)) == told


def test_another_attack_that_breaks_none_does_not_count(row):
    rows = [row("none", ssim=0.9, attack="dlg"), row("signsgd", ssim=0.1, verdict=PRIOR, expected=0.1)]
    summaries = summarise(rows)
    assert said(summaries[-1], summaries) == "cannot tell: whether this attack breaks none was not tried"


def test_who_knows_the_scheme_can_do_no_less(row):
    plain = {"verdict": "reached", "expected": 0.1}
    levels = {"naive": (0.9, 0.7, 0.1), "adaptive": (0.1, 0.1, 0.1)}
    rows = [row("none", k, 0.9, **plain) for k in levels]
    rows += [row("topk", k, ssim, **plain) for k, found in levels.items() for ssim in found]
    rows += [row("topk", "adaptive", 0.1, attack="dlg", **plain), row("none", "adaptive", 0.9, attack="dlg", **plain)]
    *_, naive, adaptive, other, _ = summaries = summarise(rows)
    assert said(naive, summaries) == "gives away 2 of 3 victims"
    assert said(adaptive, summaries) == "gives away 2 of 3 victims to the naive attack"
    assert adaptive.success == 0
    assert said(other, summaries) == "this attack did not succeed"


def test_parts_of_an_attack_are_no_rows_of_their_own(row):
    rows = [row(ssim=0.9, attack="strongest"), row(ssim=0.1, attack="strongest/annealed")]
    assert [summary.score for summary in summarise(rows)] == [0.9]
    assert [summary.setting.attack for summary in summarise(rows, parts=True)] == ["strongest/annealed"]


def test_the_table_names_the_worst_victim_and_what_was_expected(row):
    rows = [row(ssim=ssim, verdict="reached", expected=0.8) for ssim in (0.7, 0.9)]
    (line,) = verdict_table(summarise(rows)).rows
    assert line == ("none", "naive", "0.90", "0.80", "gives away 2 of 2 victims")
