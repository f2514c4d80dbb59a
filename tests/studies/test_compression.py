import pytest

from gradwire.studies.compression import DGC, POWERSGD, SIGN, SIGN_FEEDBACK, TOPK, TOPK_PLAIN, Compression
from gradwire.studies.own import find


def rows(**accuracies):
    """What two seeds reached at the end, after a better evaluation half-way that must not count."""
    return [
        {"label": label, "seed": str(seed), "round": str(round), "test_accuracy": str(value)}
        for label, pair in accuracies.items()
        for seed, end in enumerate(pair)
        for round, value in ((5, 0.99), (10, end))
    ]


def verdicts(**changed):
    reached = {
        "none": (0.90, 0.90),
        POWERSGD: (0.89, 0.90),
        DGC: (0.90, 0.90),
        TOPK: (0.88, 0.88),
        TOPK_PLAIN: (0.80, 0.84),
        SIGN: (0.85, 0.85),
        SIGN_FEEDBACK: (0.88, 0.88),
    }
    return Compression(seeds=2).claims(rows(**(reached | changed)))


def test_claims_compare_the_last_accuracies():
    close, dgc, topk, sign = verdicts()
    assert all(claim.holds for claim in (close, dgc, topk, sign))
    assert close.says == "powersgd:rank=4 within 1 point of plain SGD"
    assert close.measured == "-0.5 points (89.5 % against 90.0 %)"
    assert topk.measured == "-6.0 points (82.0 % against 88.0 %)"


@pytest.mark.parametrize(
    ("changed", "fails"),
    [
        ({POWERSGD: (0.88, 0.89)}, 0),
        ({DGC: (0.5, 0.5)}, 1),
        ({TOPK_PLAIN: (0.89, 0.89)}, 2),
        ({TOPK_PLAIN: (0.875, 0.875)}, 2),
        ({SIGN: (0.89, 0.89)}, 3),
    ],
)
def test_a_claim_that_does_not_hold_is_said_not_to(changed, fails):
    assert [claim.holds for claim in verdicts(**changed)] == [i != fails for i in range(4)]


def test_all_schemes_see_the_same_images_and_differ_in_their_rates_alone():
    cells = find("compression:epochs=2,images=1000,batch=5,seeds=2").cells()
    assert len(cells) == 14
    assert {cell.settings["rounds"] for cell in cells} == {100}
    same = [{k: v for k, v in c.settings.items() if k not in ("scheme", "lr", "seed")} for c in cells]
    assert all(settings == same[0] for settings in same)
    rates = {cell.label: cell.settings["lr"] for cell in cells}
    assert {label for label, rate in rates.items() if rate != rates["none"]} == {SIGN, SIGN_FEEDBACK}
