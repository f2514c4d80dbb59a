"""Studies as data: what a file may say, and what those that come with gradwire say at every scale."""

import re

import pytest

from gradwire import papers
from gradwire.errors import GradwireError
from gradwire.studies.grid import keys_of
from gradwire.studies.plan import SCALES, Study, find

GRID = {
    "command": "train",
    "settings": {"lr": 1.0, "rounds": 9},
    "grid": {"scheme": ["none", {"scheme": "signsgd", "lr": 0.1}], "seed": [0, 1]},
    "smoke": {"rounds": 2, "scheme": ["none"], "model": "mlp"},
}


def settings(study):
    return [dict(cell.settings) for cell in study.cells]


def test_a_grid_has_every_combination_and_a_table_in_it_sets_several():
    assert settings(Study.of("mine", GRID)) == [
        {"lr": 1.0, "rounds": 9, "scheme": "none", "seed": 0},
        {"lr": 1.0, "rounds": 9, "scheme": "none", "seed": 1},
        {"lr": 0.1, "rounds": 9, "scheme": "signsgd", "seed": 0},
        {"lr": 0.1, "rounds": 9, "scheme": "signsgd", "seed": 1},
    ]


def test_a_scale_changes_settings_and_axes_and_can_leave_a_block_out():
    small = Study.of("mine", GRID, "smoke")
    assert settings(small) == [
        {"lr": 1.0, "rounds": 2, "scheme": "none", "seed": seed, "model": "mlp"} for seed in (0, 1)
    ]
    blocks = {"cells": [{}, {"command": "theory", "settings": {"lr": 2.0}, "smoke": False}]}
    assert len(Study.of("mine", GRID | blocks, "smoke").cells) == 2
    assert {cell.command for cell in Study.of("mine", GRID | blocks).cells} == {"train", "theory"}


def test_a_spec_changes_settings_and_seeds_and_nothing_that_is_not_there():
    changed = Study.of("mine", GRID, lr=3.0, seeds=1)
    assert [(cell.settings["lr"], cell.settings["seed"]) for cell in changed.cells] == [(3.0, 0), (0.1, 0)]
    with pytest.raises(GradwireError, match=r"study mine: there is no 'round'; did you mean 'rounds'\?"):
        Study.of("mine", GRID, round=3)


def test_a_study_that_is_like_another_changes_it():
    other = Study.of("mine", {"like": "ssga-table1:rounds=7,seeds=1", "title": "mine"})
    assert {cell.settings["rounds"] for cell in other.cells} == {7}
    assert [cell.filed({}) for cell in other.cells] == [cell.filed({}) for cell in find("ssga-table1:seeds=1").cells]
    assert other.claims


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"comand": "train"}, "there is no 'comand'; did you mean 'command'?"),
        ({"cells": [{"grids": {}}]}, "there is no 'grids'; did you mean 'grid'?"),
        ({"claims": [{"says": "so", "vlaue": "ratio"}]}, "there is no 'vlaue'; did you mean 'value'?"),
        ({"claims": [{"says": "so", "value": "ratio", "is": "over"}]}, "unknown predicate 'over'"),
        ({"claims": [{"says": "so", "value": "ratio", "is": "alike"}]}, "'alike' needs a margin above 0"),
        ({"claims": [{"says": "so", "value": "ratio", "controls": ["x"]}]}, "unknown control of claim"),
        ({"claims": [{"id": "T99"}], "source": "trust"}, "source 'trust' has no claim 'T99'"),
        ({"show": [{"value": "ssim"}]}, "there is no 'value'; did you mean 'values'?"),
        ({"show": [{"values": ["ssim"], "row": "scheme"}]}, "show: row is 'scheme'; it must be of type"),
        ({"show": [{"values": ["ssim"], "column": ["seed"]}]}, "column is ['seed']; it must be of type str"),
        ({"show": [{"values": ["ssim"], "figure": "pie"}]}, "figure is 'pie'; it must be of type"),
        ({"show": [{"title": "A"}]}, "show 'A': it needs values, a list of columns"),
        ({"grid": {"seed": 3}}, "grid seed is 3; it must be a list"),
        ({"like": "nothing"}, "unknown study 'nothing'"),
    ],
)
def test_what_a_file_may_not_say_is_named_with_what_is_near(changed, message):
    with pytest.raises(GradwireError, match=re.escape(message)):
        Study.of("mine", GRID | changed)


@pytest.mark.parametrize("text", ["=", None])
def test_a_file_that_is_no_toml_is_refused(tmp_path, text):
    file = tmp_path / "mine.toml"
    if text:
        file.write_text(text)
    with pytest.raises(GradwireError, match="cannot be read as TOML"):
        find(str(file))


def test_names_are_told():
    with pytest.raises(GradwireError, match="unknown study 'tabel1'; known: compression"):
        find("tabel1")
    with pytest.raises(GradwireError, match="unknown scale 'big'; known: smoke, desk, paper"):
        find("compression", "big")


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", papers.names())
def test_every_study_can_be_run_at_every_scale(name, scale):
    study = find(name, scale)
    assert len(set(keys_of(study))) > 1
    given = [(claim.id, claim.says) for claim in study.claims]
    assert len(set(given)) == len(given)
    assert all(claim.published.get("table", "I") in TABLES[study.source] for claim in study.claims if claim.published)


TABLES = {paper: {row["table"] for row in papers.figures(paper)} for paper in papers.PAPERS} | {"": set()}
