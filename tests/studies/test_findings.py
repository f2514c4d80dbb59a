import csv
from dataclasses import asdict

import pytest

from gradwire import papers
from gradwire.errors import GradwireError
from gradwire.studies.claims import FAILS, HOLDS, JudgedClaim
from gradwire.studies.findings import findings

ORIGIN = {"data": "mnist", "model": "lenet", "date": "2026-01-01", "commit": "abc", "machine": "", "torch": ""}


def keep(folder, study, scale, *judged):
    rows = [{**asdict(each), **ORIGIN, "study": study, "scale": scale} for each in judged]
    with (folder / f"{study}-{scale}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def line(page, start):
    return next(each for each in page.splitlines() if each.startswith(f"| {start} "))


def test_every_claim_has_a_line_and_none_says_more_than_the_tables(tmp_path):
    keep(
        tmp_path, "trust-table1", "desk", JudgedClaim("T18", "plain is highest", "", "", "0.8", "0.1", "0.9", HOLDS, "")
    )
    page = findings(tmp_path)
    for paper in papers.PAPERS:
        for claim in papers.claims(paper):
            assert line(page, claim)
    assert "0.1 to 0.9 | holds |" in line(page, "T18")
    assert "trust-table1 (desk: lenet; 2026-01-01, abc)" in line(page, "T18")
    assert "not testable here: cited from other work" in line(page, "T03")
    assert line(page, "T40").endswith("| trust-table2 |  |  | cannot tell: no committed table of trust-table2 has it |")
    assert "40 claims: 2 hold, 0 do not hold, 29 cannot be told, 9 are not testable here." in page


def test_a_sentence_that_repeats_another_has_its_verdict(tmp_path):
    keep(tmp_path, "trust-table1", "desk", JudgedClaim("T01", "resists", "", "", "0.4", "0.1", "0.9", HOLDS, ""))
    page = findings(tmp_path)
    assert line(page, "T39").startswith(
        "| T39 compression significantly lowers the quality of reconstructed images (as T01)"
    )
    assert "0.1 to 0.9 | holds |" in line(page, "T39")


def test_every_claim_is_one_of_a_study_or_says_why_there_is_none():
    studies = [papers.study(name) for name in papers.names()]
    judged = {claim.get("id") for study in studies for claim in study.get("claims", ())}
    for paper in papers.PAPERS:
        for id, said in papers.claims(paper).items():
            assert id in judged or said["lacks"] or said["same_as"] in judged, id


def test_the_largest_scale_counts(tmp_path):
    keep(tmp_path, "trust-table1", "smoke", JudgedClaim("T18", "plain is highest", "", "", "", "", "", HOLDS, ""))
    keep(tmp_path, "trust-table1", "desk", JudgedClaim("T18", "plain is highest", "", "", "", "", "", FAILS, ""))
    assert "| does not hold |" in line(findings(tmp_path), "T18")


def test_a_folder_without_tables_is_refused(tmp_path):
    with pytest.raises(GradwireError, match="holds no table of claims"):
        findings(tmp_path)


def test_the_committed_page_is_what_the_committed_tables_say():
    root = papers.HERE.parents[2]
    assert (root / "docs" / "findings.md").read_text() == findings(root / "results")
