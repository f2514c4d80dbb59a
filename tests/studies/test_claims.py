"""Verdicts: what an interval says and no more, and nothing where a control does not hold."""

import numpy as np
import pytest

from gradwire.studies.claims import FAILS, HOLDS, OPEN, UNTESTABLE, ClaimSpec, judge


def rows(scheme, values, **others):
    return [
        {"cell": f"{scheme} {seed}", "scheme": scheme, "seed": str(seed), "ssim": str(value)} | others
        for seed, value in enumerate(values)
    ]


def verdict(found, *claims, **changed):
    usual = {"says": "so", "value": "ssim", "of": {"scheme": "topk"}, "than": {"scheme": "none"}}
    specs = [ClaimSpec.of_file("test", usual | each, "") for each in claims or [{}]]
    specs = [ClaimSpec.of_file("test", usual | changed, "")] if changed else specs
    return judge(specs, found)[0].verdict


NONE = rows("none", (0.80, 0.82, 0.81, 0.79, 0.83, 0.80, 0.82, 0.81))
FAR = rows("topk", (0.50, 0.53, 0.47, 0.54, 0.51, 0.52, 0.50, 0.51))
NEAR = rows("topk", (0.80, 0.81, 0.82, 0.79, 0.83, 0.81, 0.80, 0.82))


@pytest.mark.parametrize(
    ("found", "changed", "expected"),
    [
        (FAR, {"is": "below"}, HOLDS),
        (FAR, {"is": "below", "margin": 0.298}, OPEN),
        (FAR, {"is": "below", "margin": 0.4}, FAILS),
        (FAR, {"is": "above"}, FAILS),
        (NEAR, {"is": "below"}, OPEN),
        (NEAR, {"is": "above", "margin": -0.1}, HOLDS),
        (NEAR, {"is": "alike", "margin": 0.1}, HOLDS),
        (NEAR, {"is": "alike", "margin": 0.002}, OPEN),
        (FAR, {"is": "alike", "margin": 0.1}, FAILS),
        (FAR, {"is": "within", "between": [0.4, 0.6], "than": None}, HOLDS),
        (FAR, {"is": "within", "between": [0.51, 0.6], "than": None}, OPEN),
        (FAR, {"is": "at chance", "chance": 0.5, "margin": 0.1, "than": None}, HOLDS),
        (FAR, {"is": "at chance", "chance": 0.1, "margin": 0.1, "than": None}, FAILS),
        (FAR, {"is": "alike", "margin": 0.1, "than": None}, OPEN),
        (FAR[:1], {"is": "below"}, OPEN),
        ([], {"is": "below"}, OPEN),
        (FAR, {"lacks": "a GPU", "value": ""}, UNTESTABLE),
    ],
)
@pytest.mark.parametrize("test", ["welch", "bootstrap"])
def test_a_verdict_is_what_the_interval_says(found, changed, expected, test):
    assert verdict(NONE + found, **changed, test=test) == expected


def test_what_lacks_is_not_lacking_where_rows_have_the_value():
    lacks = {"lacks": "a GPU", "is": "below"}
    assert verdict(NONE + FAR, **lacks) == HOLDS
    assert verdict(NONE + FAR, **lacks, value="energy_kwh") == UNTESTABLE
    assert verdict(NONE + FAR, **lacks, where={"data": "tiny_imagenet"}) == UNTESTABLE


def test_each_side_is_judged_at_the_best_value_of_what_was_swept():
    found = [dict(row, lr=lr) for lr, several in (("0.1", FAR), ("0.2", NEAR)) for row in several]
    found += [dict(row, lr="0.1") for row in NONE] + [dict(row, lr="0.2", ssim="nan") for row in NONE]
    assert verdict(found, **{"is": "alike", "margin": 0.1, "best": "lr"}) == HOLDS
    assert verdict(found, **{"is": "alike", "margin": 0.1}) == OPEN  # several rows of a seed are meant
    assert verdict(found, **{"is": "alike", "margin": 0.1, "where": {"lr": "0.1"}}) == FAILS


def test_a_name_with_a_colon_is_of_nothing_but_itself():
    found = [*NONE, *FAR, *rows("topk:ratio=0.1", [0.5])]
    assert verdict(found, **{"is": "below", "of": {"scheme": "topk:"}}) == HOLDS
    assert verdict(found, **{"is": "below", "of": {"scheme": "topk"}}) == OPEN


def test_shares_of_successes_are_compared_by_newcombe():
    def shares(scheme, good, of):
        ones = [1.0] * good + [0.0] * (of - good)
        return [{**row, "success": row["ssim"]} for row in rows(scheme, ones)]

    claim = {"value": "success", "test": "newcombe", "is": "below"}
    assert verdict(shares("none", 10, 10) + shares("topk", 0, 10), **claim, margin=50) == HOLDS
    assert verdict(shares("none", 10, 10) + shares("topk", 0, 10), **claim, margin=65) == OPEN
    assert verdict(shares("none", 2, 2) + shares("topk", 0, 2), **claim, margin=50) == OPEN


def test_a_membership_run_of_one_seed_is_judged_by_its_own_interval():
    def one(scheme, value, reach):
        return [
            {**row, "auc_low": str(value - reach), "auc_high": str(value + reach), "low": "0", "high": "1"}
            | {"auc": str(value)}
            for row in rows(scheme, [value])
        ]

    claim = {"value": "auc", "test": "interval", "is": "below"}
    assert verdict(one("none", 0.7, 0.03) + one("topk", 0.6, 0.03), **claim) == HOLDS
    assert verdict(one("none", 0.7, 0.08) + one("topk", 0.6, 0.08), **claim) == OPEN


def test_a_claim_about_all_holds_for_all_and_fails_for_one():
    def both(other):
        second = [{**row, "data": "b"} for row in NONE + other]
        return [{**row, "data": "a"} for row in NONE + FAR] + second

    assert verdict(both(FAR), {"each": ["data"], "is": "below"}) == HOLDS
    assert verdict(both(NEAR), {"each": ["data"], "is": "below"}) == OPEN
    assert (
        verdict(both(rows("topk", (0.9, 0.91, 0.92, 0.93, 0.94, 0.9, 0.91, 0.92))), {"each": ["data"], "is": "below"})
        == FAILS
    )
    assert verdict(both([])[:-1], {"each": ["data"], "is": "below", "of": {"scheme": "topk"}}) == HOLDS
    lost = [{"scheme": "topk", "data": "b", "failed": "RuntimeError: no memory"}]
    assert verdict(both([]) + lost, {"each": ["data"], "is": "below"}) == OPEN


def test_nothing_is_told_without_the_controls():
    """PRECODE "fails on non-IID data" says nothing where it fails on IID data, too."""
    lost = {"says": "lost", "is": "below", "controls": ["learns"]}
    for least, expected in ((0.4, HOLDS), (0.6, OPEN)):
        control = {"name": "learns", "says": "it learns", "is": "above", "margin": least, "than": None}
        assert verdict(NONE + FAR, lost, control) == expected
    assert verdict(NONE + FAR, {"is": "above", "controls": ["c"]}, {"name": "c", "says": "c", "is": "above"}) == OPEN


def test_a_search_that_was_too_short_shows_no_protection_but_can_show_none():
    short = rows("topk", (0.50, 0.52, 0.51, 0.49, 0.53), verdict="too short")
    low = {"is": "within", "between": [-1, 0.6], "than": None, "searched": True}
    assert verdict(NONE + FAR, **low) == HOLDS
    assert verdict(NONE + short, **low) == OPEN
    assert verdict(NONE + short, **low | {"between": [-1, 0.3]}) == FAILS


def test_rows_that_no_sentence_tells_apart_are_not_averaged():
    twice = FAR + [{**row, "attack": "dlg"} for row in FAR]
    assert verdict(NONE + twice, {"is": "below"}) == OPEN
    assert verdict(NONE + FAR + rows("topk:ratio=0.1", [0.1]), {"is": "below"}) == OPEN


def test_only_the_last_round_counts():
    early = [{**row, "round": "5", "ssim": "0.99"} for row in FAR]
    late = [{**row, "round": "10"} for row in FAR]
    assert verdict(NONE + early + late, {"is": "below"}) == HOLDS


def test_the_published_figure_is_that_of_the_very_setting():
    """LeNet, non-IID, PRECODE: the table's loss at B = 64, E = 10 is not the one at B = 8, E = 1."""

    def published(batch, epochs):
        about = {"data": "fashion_mnist:train=6000", "model": "lenet", "partition": "shards:2"}
        about |= {"batch_size": batch, "local_epochs": epochs}
        found = [{**row, **about, "test_accuracy": row["ssim"]} for row in [*NONE, *rows("precode", (0.1, 0.2))]]
        claim = {"says": "so", "value": "test_accuracy", "of": {"scheme": "precode"}, "than": {"scheme": "none"}}
        claim |= {"published": {"table": "III"}, "is": "below"}
        return judge([ClaimSpec.of_file("test", claim, "lmc")], found)[0].published

    assert published("64", "10") == "-6.54"
    assert published("8", "1") == "-69.62"
    assert published("16", "1") == ""


@pytest.mark.parametrize("test", ["welch", "bootstrap"])
@pytest.mark.parametrize("size", [8, 12])
def test_equal_means_are_seldom_told_apart(test, size):
    """Of 400 pairs of skewed samples with one mean, "below" is said, or denied, of 5 % and their chance at most."""
    random = np.random.default_rng(1)
    wrong = 0
    for _ in range(400):
        one, other = (random.beta(2, 4, size) for _ in range(2))
        found = rows("none", one) + [{**row, "seed": f"-{row['seed']}"} for row in rows("topk", other)]
        wrong += verdict(found, **{"is": "below", "test": test}) != OPEN
    assert wrong <= 32


def test_the_smallest_scale_says_nothing_of_a_papers_data():
    claim = {"id": "T18", "value": "ssim", "of": {"scheme": "topk"}, "than": {"scheme": "none"}, "is": "below"}
    for changed, scale, expected in (({}, "desk", HOLDS), ({}, "smoke", OPEN), ({"anywhere": True}, "smoke", HOLDS)):
        spec = ClaimSpec.of_file("test", claim | changed, "trust")
        assert judge([spec], NONE + FAR, scale)[0].verdict == expected


@pytest.mark.parametrize(
    ("found", "changed", "why"),
    [
        (NONE[:1] + FAR[:1], {}, "one run does not tell how much it varies; add seeds or victims"),
        (NONE + NEAR, {}, "the interval reaches over the limit"),
        (NONE + FAR, {"value": "bytes"}, "no row has the column 'bytes'"),
        (NONE + FAR, {"of": {"sheme": "topk"}}, "no row has the column 'sheme'"),
        (NONE + FAR, {"each": ["data"]}, "no row has the column 'data'"),
        (
            [*NONE, *FAR, *rows("topk:ratio=0.1", [0.5])],
            {},
            "several rows of seed 0 are meant: their scheme is topk and topk:ratio=0.1",
        ),
    ],
)
def test_what_cannot_be_told_says_why(found, changed, why):
    usual = {"says": "so", "value": "ssim", "of": {"scheme": "topk"}, "than": {"scheme": "none"}, "is": "below"}
    (judged,) = judge([ClaimSpec.of_file("test", usual | changed, "")], found)
    assert (judged.verdict, judged.why) == (OPEN, why)
