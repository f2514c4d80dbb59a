"""The one renderer of a study's tables and figures."""

import pytest

from gradwire.report.figures import THEMES, render
from gradwire.report.study.shown import ended, section

ROWS = [
    {"command": "audit", "data": "mnist", "model": "resnet18", "scheme": scheme, "knowledge": knowledge}
    | {"seed": "0", "victim": str(victim), "ssim": str(ssim), "ratio": ratio}
    for scheme, ratio, both in (("none", "1", (0.8, 0.8)), ("powersgd:rank=1", "9.6", (0.1, 0.6)))
    for knowledge, ssim in zip(("naive", "adaptive"), both, strict=True)
    for victim in range(2)
]
SPEC = {"title": "Table I", "row": ["data", "scheme"], "column": "knowledge", "values": ["ssim", "ratio"]}


def shown(rows=ROWS, **changed):
    table = section(SPEC | changed, "table", rows, "trust").table
    titles = [column.title for column in table.columns]
    return [dict(zip(titles, row, strict=True)) for row in table.rows]


def test_what_a_column_tells_apart_stands_side_by_side_and_what_it_does_not_stands_once():
    none, compressed = shown()
    assert none == {
        "data": "mnist",
        "scheme": "none",
        "naive ssim": "0.800 ± 0.000",
        "adaptive ssim": "0.800 ± 0.000",
        "ratio": "1×",
    }
    assert (compressed["naive ssim"], compressed["adaptive ssim"]) == ("0.100 ± 0.000", "0.600 ± 0.000")
    assert compressed["ratio"] == "9.6×"


def test_a_share_of_another_line_and_the_published_figure_stand_beside_it():
    none, compressed = shown(percent_of={"scheme": "none"}, published="I")
    assert (none["% of none, naive ssim"], compressed["% of none, naive ssim"]) == ("100 %", "12 %")
    assert compressed["% of none, adaptive ssim"] == "75 %"
    assert (none["published ssim"], compressed["published ssim"]) == ("0.869", "0.071")


def test_a_setting_that_was_not_published_has_no_published_figure():
    other = [{**row, "model": "lenet"} for row in ROWS]
    assert "published ssim" not in shown(other, published="I")[0]


def test_rows_of_other_commands_join_a_line_and_failed_ones_do_not_count():
    theory = [{"command": "theory", "data": "mnist", "scheme": "none", "floor": "0.5"}]
    failed = [{**ROWS[0], "failed": "RuntimeError: no"}]
    none, compressed = shown(list(ended(ROWS + theory + failed)), values=["ssim", "floor"])
    assert (none["floor"], compressed["floor"]) == ("0.500", "–")
    assert none["naive ssim"] == "0.800 ± 0.000"


def test_what_a_study_did_not_run_is_not_shown():
    assert section(SPEC | {"where": {"command": "train"}}, "table", ROWS, "") is None


@pytest.mark.parametrize("figure", [{"figure": "points"}, {"figure": "scatter", "values": ["ratio", "ssim"]}])
def test_figures_are_drawn_alike_twice(figure):
    draw = section(SPEC | figure, "table", ROWS, "").draw
    one, other = (render(draw(THEMES["light"]), "svg") for _ in range(2))
    assert one == other
    assert one.startswith(b"<?xml")


def test_a_column_that_no_row_has_is_told():
    table = section(SPEC | {"values": ["ssim", "sism"], "row": ["data"]}, "table", ROWS, "trust").table
    assert "No row has the column 'sism'." in table.note
