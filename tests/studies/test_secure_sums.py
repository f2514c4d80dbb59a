import csv

import pytest

from gradwire import report
from gradwire.schemes import parse
from gradwire.studies.cells import RUNNERS
from gradwire.studies.grid import run_study
from gradwire.studies.secure_sums import SecureSums


def rows(ssim=0.2, alone=0.9, open_found=0.9, hidden_found=0.3, verdict="the prior decides"):
    """What a finished study could hold: every sum, and `none` alone, inverted so well, labels found so often."""
    for cell in SecureSums(samples=1).cells():
        row = {"command": cell.command, "label": cell.label}
        if cell.command == "audit":
            (scheme,), batch = cell.settings["schemes"], str(cell.settings["batch"])
            reached = alone if scheme == "none" else ssim
            row |= {"scheme": scheme, "batch": batch, "ssim": str(reached), "success": str(int(reached >= 0.6))}
            row |= {"attack": "strongest", "verdict": "reached" if reached >= 0.6 else verdict}
            yield from (row | {"knowledge": knowledge} for knowledge in ("naive", "adaptive"))
        elif cell.command == "labels":
            found = open_found if cell.settings["union"] == "open" else hidden_found
            ends = {"accuracy": found, "low": found - 0.05, "high": found + 0.05, "fellow": 0.3, "chance": 0.1}
            yield row | {"clients": str(cell.settings["clients"])} | {name: str(v) for name, v in ends.items()}
        else:
            yield row | {"auc_maximum": "0.6", "auc_loss": "0.7"}


def verdicts(**measured):
    return {claim.says: claim.holds for claim in SecureSums().claims(list(rows(**measured)))}


def test_one_client_stands_alone_and_several_are_summed():
    audits = [cell.settings for cell in SecureSums().cells() if cell.command == "audit"]
    assert len(audits) == 16
    for settings in audits:
        scheme = parse(settings["schemes"][0])
        assert (settings["clients"] == 1) == (scheme.name in ("none", "topk"))


def on_inversion(**measured):
    return {says: holds for says, holds in verdicts(**measured).items() if "no attack here succeeds" in says}


def test_a_sum_holds_where_no_image_came_back():
    assert {holds for says, holds in on_inversion().items() if "none" not in says} == {True}
    assert set(on_inversion(ssim=0.7).values()) == {False}


def test_an_attack_that_fails_without_a_sum_says_nothing_of_sums():
    assert set(on_inversion(alone=0.4).values()) == {None}


def test_a_search_that_was_too_short_says_nothing_of_sums():
    assert {holds for says, holds in on_inversion(verdict="too short").items() if "none" not in says} == {None}
    assert set(on_inversion(ssim=0.7, verdict="too short").values()) == {False}


def test_entries_in_the_open_tell_labels_and_an_anonymous_union_must_not_tell_whose():
    found = verdicts()
    assert found["entries chosen in the open give labels away, 4 clients"]
    assert found["the anonymous union tells no more of a client than of its fellows, 4 clients"]
    assert found["R_max tells less of membership than the loss does"]
    found = verdicts(open_found=0.12, hidden_found=0.5)
    assert found["entries chosen in the open give labels away, 4 clients"] is False
    assert found["the anonymous union tells no more of a client than of its fellows, 4 clients"] is False


@pytest.mark.slow
def test_one_report_holds_all_three(tmp_path):
    tiny = SecureSums(data="digits", samples=1, iterations=24, rounds_attacked=3, members=3, rounds=2)
    folder = run_study(tiny, RUNNERS, tmp_path / "run")
    with (folder / "claims.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 16 + 6 + 1
    page = report.write(folder).read_text()
    for title in ("What leaks, and what it costs", "Labels from the entries", "Membership from the largest value"):
        assert title in page
