"""What config.json tells of a run's inputs, in words."""

import pytest

from gradwire import metrics
from gradwire.errors import GradwireError
from gradwire.report.domain import KNOWN, PIXELS, RunDomain
from gradwire.tasks import Columns, Numbers, Pixels, Tokens

TOLD = {"name": "columns", "what": "rows", "scores": ["fields", "whole_rows"]}


def test_runs_that_tell_nothing_are_of_images() -> None:
    assert RunDomain.of(None, "config.json") is PIXELS
    assert PIXELS.success == metrics.SUCCESS
    assert RunDomain.of({"name": "pixels", "what": "images", "scores": ["ssim"]}, "config.json").success == 0.6


def test_what_is_told_and_what_may_be_left_out() -> None:
    domain = RunDomain.of(TOLD, "config.json")
    assert (domain.name, domain.leading, domain.higher, domain.assumed) == ("columns", "fields", True, "")
    assert (domain.threshold, domain.criterion) == (None, "")
    assert RunDomain.of(TOLD | {"success": 0.9}, "config.json").criterion == "fields right ≥ 0.9"
    assert RunDomain.of(TOLD | {"success": 0.1, "higher": False}, "config.json").bound == "≤ 0.1"
    spoken = RunDomain.of(TOLD | {"success": "every field"}, "config.json")
    assert (spoken.threshold, spoken.bound, spoken.criterion) == (None, "", "every field")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": []}, r"config.json has domain.scores \[\]; it should be a list, not empty"),
        ({"what": None}, "config.json has domain.what None; it should be a str, not empty"),
        ({"higher": "yes"}, "config.json has domain.higher 'yes'; it should be a bool"),
        ({"success": [0.9]}, r"config.json has domain.success \[0.9\]; it should be a number, or words"),
    ],
)
def test_entries_of_another_type_are_named(change, message: str) -> None:
    with pytest.raises(GradwireError, match=message):
        RunDomain.of(TOLD | change, "config.json")
    with pytest.raises(GradwireError, match="has domain 'text'; it should be an object"):
        RunDomain.of("text", "config.json")


@pytest.mark.parametrize(
    ("what", "one"),
    [("images", "image"), ("rows", "row"), ("series", "series"), ("entries", "entry"), ("data", "data")],
)
def test_one_and_several(what: str, one: str) -> None:
    domain = RunDomain("any", what, ("score",))
    assert (domain.one, domain.count(1), domain.count(3)) == (one, f"one {one}", f"3 {what}")


def test_figures_of_shares_of_errors_and_of_names_that_nobody_knows() -> None:
    domain = RunDomain("any", "things", ("fields", "relative_error", "dtw"), higher=False)
    assert domain.says(0.976, 0.0213) == "0.98 ± 0.02"
    assert domain.says(0.00123, 0.0004, "relative_error") == "0.0012 ± 0.0004"
    assert domain.says(12.3456, score="dtw") == "12.3"
    assert domain.each(float("nan"), "dtw") == "–"
    assert (domain.best([0.3, 0.1]), domain.gain(0.1, 0.4)) == (0.1, pytest.approx(0.3))


def test_every_score_of_our_own_domains_has_words() -> None:
    assert {score for kind in (Pixels, Columns, Tokens, Numbers) for score in kind.scores} <= set(KNOWN)
