"""The grid runner: what is finished stays, what is claimed is checked, what cannot be is refused."""

import csv
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from gradwire import report
from gradwire.errors import GradwireError
from gradwire.registry import STUDIES
from gradwire.report.run import read
from gradwire.report.study.page import sections
from gradwire.runs import RunFolder
from gradwire.studies import own
from gradwire.studies.cells import RUNNERS
from gradwire.studies.grid import Claim, Restartable, Study, StudyCell, run_study
from gradwire.studies.own import find

TRAIN = {"data": "digits:train=64,test=20", "model": "mlp", "rounds": 4, "eval_every": 2, "clients": 2}


@dataclass(frozen=True)
class Two(Study):
    name: ClassVar[str] = "two"
    title: ClassVar[str] = "Two trainings"

    seeds: int = 1

    def cells(self):
        return [
            StudyCell(scheme, "train", TRAIN | {"scheme": scheme, "seed": s})
            for s in range(self.seeds)
            for scheme in ("none", "powersgd")
        ]

    def claims(self, rows):
        sent = {row["label"]: int(row["bytes_up"]) for row in rows}
        less = sent["powersgd"] < sent["none"]
        return [Claim("PowerSGD sends less", "its paper", "", f"{sent['powersgd']} bytes", less)]


def table(folder, name="results.csv"):
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def timeless(rows):
    return [{name: value for name, value in row.items() if name not in ("seconds", "energy_kwh")} for row in rows]


def test_a_study_gathers_the_rows_of_its_cells_and_checks_its_claims(tmp_path):
    folder = run_study(Two(), RUNNERS, tmp_path / "out")
    rows = table(folder)
    assert [(row["command"], row["label"], row["round"]) for row in rows] == [
        ("train", label, at) for label in ("none", "powersgd") for at in ("2", "4")
    ]
    (claim,) = table(folder, "claims.csv")
    assert claim["holds"] == "True"
    page = report.write(folder).read_text()
    assert "PowerSGD sends less" in page
    assert "Two trainings" in page


def test_an_interrupted_study_goes_on_and_does_not_repeat_what_is_finished(tmp_path):
    whole = run_study(Two(), RUNNERS, tmp_path / "whole")

    def dies(settings, folder):
        if settings["scheme"] == "powersgd":
            raise KeyboardInterrupt
        RUNNERS["train"](settings, folder)

    with pytest.raises(KeyboardInterrupt):
        run_study(Two(), {"train": dies}, tmp_path / "cut")
    played = []

    def counts(settings, folder):
        played.append(settings["scheme"])
        RUNNERS["train"](settings, folder)

    again = run_study(Two(), {"train": counts}, resume=tmp_path / "cut")
    assert played == ["powersgd"]
    assert timeless(table(again)) == timeless(table(whole))


def test_an_unfinished_training_goes_on_from_its_checkpoint(tmp_path):
    runner, cell = RUNNERS["train"], tmp_path / "cell"
    runner(TRAIN | {"rounds": 2, "scheme": "topk:ratio=0.1"}, cell)
    runner(TRAIN | {"scheme": "topk:ratio=0.1"}, cell)
    runner(TRAIN | {"scheme": "topk:ratio=0.1"}, tmp_path / "whole")
    assert timeless(table(cell)) == timeless(table(tmp_path / "whole"))


@pytest.mark.parametrize("command", RUNNERS)
def test_what_was_cut_before_it_could_be_gone_on_with_begins_again(tmp_path, command):
    """A run leaves its table and settings first; a cell that was cut there must not be in the way of itself."""
    folder, begun = tmp_path / "cell", []
    RunFolder.create(folder, command, ("scheme",))
    assert isinstance(RUNNERS[command], Restartable)
    replace(RUNNERS[command], run=lambda settings, out, resume: begun.append((out, resume)))({}, folder)
    assert begun == [(folder, None)]
    assert not folder.exists()


@pytest.mark.slow
def test_several_cells_at_a_time_write_the_same_table(tmp_path):
    one, two = (run_study(Two(), RUNNERS, tmp_path / str(jobs), jobs=jobs) for jobs in (1, 2))
    assert timeless(table(one)) == timeless(table(two))


def test_another_study_is_not_gone_on_with(tmp_path):
    folder = run_study(Two(), RUNNERS, tmp_path / "out")
    with pytest.raises(GradwireError, match="has seeds=1; this run has seeds=2"):
        run_study(Two(seeds=2), RUNNERS, resume=folder)


def test_a_folder_to_write_and_one_to_go_on_with_exclude_each_other(tmp_path):
    with pytest.raises(GradwireError, match="exclude each other"):
        run_study(find("compression"), RUNNERS, tmp_path / "new", tmp_path / "old")
    assert not (tmp_path / "new").exists()


def test_cells_have_to_be_told_apart(tmp_path):
    class Same(Two):
        def cells(self):
            return [StudyCell("one", "train", TRAIN), StudyCell("one", "train", TRAIN)]

    with pytest.raises(GradwireError, match="two cells are called 'train_one_0'"):
        run_study(Same(), RUNNERS, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_grid_of_ones_own(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text('command = "train"\n[settings]\nlr = 1.0\n[grid]\nscheme = ["none", "topk"]\nseed = [0, 1]\n')
    cells = own.read(file).cells()
    assert [(cell.label, cell.settings["seed"]) for cell in cells] == [
        ("none", 0),
        ("none", 1),
        ("topk", 0),
        ("topk", 1),
    ]
    assert all(cell.settings["lr"] == 1.0 for cell in cells)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("command = 1", "needs command"),
        ('command = "train"\n[grid]\nseed = 3', "grid seed is 3; it must be a list"),
        ("=", "cannot be read as TOML"),
    ],
)
def test_a_file_that_is_no_grid_is_refused(tmp_path, text, message):
    file = tmp_path / "mine.toml"
    file.write_text(text)
    with pytest.raises(GradwireError, match=message):
        find(str(file))


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_cells_that_can_be_told_apart(name):
    cells = find(name).cells()
    assert len({cell.folder for cell in cells}) == len(cells) > 1
    assert {cell.command for cell in cells} <= RUNNERS.keys()


def test_an_unknown_study_is_refused_by_name():
    with pytest.raises(GradwireError, match="unknown study 'tabel1'; known: compression"):
        find("tabel1")


def test_a_setting_that_a_command_does_not_have_is_named(tmp_path):
    with pytest.raises(GradwireError, match="TrainSettings has no 'batchsize'; known: "):
        RUNNERS["train"](TRAIN | {"batchsize": 3}, tmp_path / "cell")


OWN_AUDITS = """
command = "audit"
[settings]
samples = 1
model = "mlp"
attacks = ["iga:iterations=2"]
schemes = ["none", "powersgd:rank=1"]
[grid]
data = [{data}]
"""


@pytest.mark.parametrize(
    ("data", "groups"),
    [('"digits"', ("",)), ('"digits", "digits:test=20"', ("data=digits: ", "data=digits:test=20: "))],
)
def test_a_grid_of_audits_gives_each_scheme_a_row(tmp_path, data, groups):
    path = tmp_path / "mine.toml"
    path.write_text(OWN_AUDITS.format(data=data))
    folder = run_study(own.read(path), RUNNERS, tmp_path / "out")
    schemes = ("none", "powersgd:rank=1")
    assert [row["label"] for row in table(folder)[::2]] == [
        f"{group}{scheme}" for group in groups for scheme in schemes
    ]
    shown = sections(read(folder))
    assert len(shown) == len(groups)
    for section in shown:
        assert [row[0] for row in section.table.rows] == list(schemes)
        assert "100 %" in "".join(section.table.rows[0])


def test_a_grid_over_lists_of_schemes_tells_its_cells_apart(tmp_path):
    path = tmp_path / "mine.toml"
    grid = 'schemes = [["none"], ["none", "powersgd:rank=1"]]\nattacks = [["iga:iterations=1"], ["dlg:iterations=1"]]'
    path.write_text(f'command = "audit"\n[settings]\nsamples = 1\nmodel = "mlp"\n[grid]\n{grid}')
    rows = table(run_study(own.read(path), RUNNERS, tmp_path / "out"))
    assert {row["label"] for row in rows} == {"none", "powersgd:rank=1"}
    assert {row["attack"] for row in rows} == {"iga:iterations=1", "dlg:iterations=1"}
