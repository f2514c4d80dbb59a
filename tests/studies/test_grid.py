"""The runner: what is finished stays, what failed is a row, a kill at any moment loses the cells under way alone."""

import csv
import random
import shutil
from dataclasses import replace
from multiprocessing import get_context

import pytest

from gradwire import report
from gradwire.errors import GradwireError
from gradwire.report.run import read
from gradwire.report.study.page import sections
from gradwire.runs import RunFolder
from gradwire.studies.cells import COMMANDS
from gradwire.studies.grid import key_of, run_study
from gradwire.studies.plan import Study, StudyCell

TRAIN = {"data": "digits:train=64,test=20", "model": "mlp", "rounds": 4, "eval_every": 2, "clients": 2}
CLAIM = {"says": "PowerSGD sends less", "value": "ratio", "of": {"scheme": "powersgd"}, "margin": 1}
TWO = {
    "title": "Two trainings",
    "command": "train",
    "settings": TRAIN,
    "grid": {"seed": [0, 1], "scheme": ["none", "powersgd"]},
    "claims": [CLAIM],
}


def two(**changed):
    return Study.of("two", TWO | changed)


def table(folder, name="results.csv"):
    with (folder / name).open(newline="") as file:
        return list(csv.DictReader(file))


def timeless(rows):
    return [{name: value for name, value in row.items() if name not in ("seconds", "energy_kwh")} for row in rows]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return run_study(two(), tmp_path_factory.mktemp("study") / "whole")


def test_a_study_gathers_the_rows_of_its_cells_and_judges_its_claims(whole):
    assert [(row["command"], row["label"], row["seed"], row["round"]) for row in table(whole)] == [
        ("train", label, seed, at) for seed in "01" for label in ("none", "powersgd") for at in ("2", "4")
    ]
    (claim,) = table(whole, "claims.csv")
    assert (claim["verdict"], claim["study"], claim["scale"]) == ("holds", "two", "desk")
    page = report.write(whole).read_text()
    assert "PowerSGD sends less" in page
    assert "Two trainings" in page


def test_a_finished_cell_is_not_run_again_whatever_study_it_is_of(whole, tmp_path):
    copy = shutil.copytree(whole, tmp_path / "copy")

    def never(*arguments):
        raise AssertionError("run again")

    commands = {"train": replace(COMMANDS["train"], run=never)}
    run_study(two(), resume=copy, commands=commands)
    assert timeless(table(copy)) == timeless(table(whole))
    grown = two(grid={"seed": [0], "scheme": ["none", "topk:ratio=0.1"]})
    run_study(grown, resume=copy, commands=commands)
    assert [row["label"] for row in table(copy) if row["failed"]] == ["topk:ratio=0.1"]


@pytest.mark.parametrize(
    "changed", [{"lr": 0.1}, {"rounds": 8}, {"data": "digits:train=65,test=20"}, {"model": "lenet"}]
)
def test_whatever_decides_a_cell_tells_it_apart(changed, monkeypatch):
    def key(settings):
        return key_of(StudyCell("", "train", settings))

    assert key(TRAIN | changed) != key(TRAIN)
    assert key(TRAIN | {"momentum": 0.9}) == key(TRAIN), "a default that is written down is still the default"
    before = key(TRAIN)
    monkeypatch.setattr("gradwire.studies.grid.version", lambda package: "9")
    assert key(TRAIN) != before


def test_a_failed_cell_is_a_row_with_its_error_and_is_tried_again(tmp_path):
    def fails(settings, own, out, resume):
        if settings.scheme == "powersgd":
            raise RuntimeError("no\nmemory")
        COMMANDS["train"].run(settings, own, out, resume)

    folder = run_study(two(), tmp_path / "out", commands={"train": replace(COMMANDS["train"], run=fails)})
    failed = [row for row in table(folder) if row["failed"]]
    assert [(row["label"], row["failed"]) for row in failed] == [("powersgd", "RuntimeError: no memory")] * 2
    assert table(folder, "claims.csv")[0]["verdict"] == "cannot tell"
    assert "RuntimeError: no memory" in report.write(folder).read_text()
    run_study(two(), resume=folder)
    assert not [row for row in table(folder) if row["failed"]]


def _study(content, folder):
    run_study(Study.of("two", content), resume=folder)


@pytest.mark.slow
def test_twenty_kills_and_a_resume_give_the_same_table(tmp_path):
    """Longer trainings, so that most kills fall into one; a checkpoint is written at every row."""
    content = TWO | {"settings": TRAIN | {"rounds": 400, "eval_every": 10}}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    run_study(Study.of("two", content), whole)
    cut.mkdir()
    context, chance = get_context("forkserver"), random.Random(0)
    context.set_forkserver_preload(["gradwire.studies.grid"])
    for _ in range(20):
        process = context.Process(target=_study, args=(content, cut))
        process.start()
        process.join(chance.uniform(0, 0.5))
        process.kill()
        process.join()
    _study(content, cut)
    assert timeless(table(cut)) == timeless(table(whole))
    assert not list((cut / "cells").glob("*.unfinished"))


def test_an_unfinished_training_goes_on_from_its_checkpoint(tmp_path):
    command, cell = COMMANDS["train"], tmp_path / "cell"
    command(TRAIN | {"rounds": 2, "scheme": "topk:ratio=0.1"}, cell)
    command(TRAIN | {"scheme": "topk:ratio=0.1"}, cell)
    command(TRAIN | {"scheme": "topk:ratio=0.1"}, tmp_path / "whole")
    assert timeless(table(cell)) == timeless(table(tmp_path / "whole"))


@pytest.mark.parametrize("command", COMMANDS)
def test_what_was_cut_before_it_could_be_gone_on_with_begins_again(tmp_path, command):
    """A run leaves its table and settings first; a cell that was cut there must not be in the way of itself."""
    folder, begun = tmp_path / "cell", []
    RunFolder.create(folder, command, ("scheme",))
    replace(COMMANDS[command], run=lambda settings, own, out, resume: begun.append((out, resume)))({}, folder)
    assert begun == [(folder, None)]
    assert not folder.exists()


def test_what_a_kill_left_half_written_begins_again(tmp_path):
    folder = tmp_path / "cell"
    COMMANDS["train"](TRAIN, folder)
    (folder / "checkpoint.safetensors").write_bytes(b"half")
    COMMANDS["train"](TRAIN, folder)
    assert [row["round"] for row in table(folder)] == ["2", "4"]


@pytest.mark.slow
def test_several_cells_at_a_time_write_the_same_table(tmp_path, whole):
    assert timeless(table(run_study(two(), tmp_path / "two", jobs=2))) == timeless(table(whole))


@pytest.mark.slow
def test_a_cluster_writes_the_same_table(tmp_path, whole):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        address = cluster.scheduler_address.removeprefix("tcp://")
        folder = run_study(two(), tmp_path / "cluster", engine=f"dask://{address}")
    assert timeless(table(folder)) == timeless(table(whole))


@pytest.mark.parametrize("engine", ["dask", "spark://a:1", "dask://"])
def test_an_engine_that_is_none_is_refused(tmp_path, engine):
    with pytest.raises(GradwireError, match="it must be dask://HOST:PORT"):
        run_study(two(), tmp_path / "out", engine=engine)


def test_another_study_is_not_gone_on_with(whole):
    with pytest.raises(GradwireError, match="has study=two; this run has study=three"):
        run_study(replace(two(), name="three"), resume=whole)


def test_a_folder_to_write_and_one_to_go_on_with_exclude_each_other(tmp_path):
    with pytest.raises(GradwireError, match="exclude each other"):
        run_study(two(), tmp_path / "new", tmp_path / "old")
    assert not (tmp_path / "new").exists()


def test_a_cell_that_is_there_twice_or_cannot_be_run_is_refused_before_anything_is_written(tmp_path):
    for grid, message in (
        ({"scheme": ["none", "none"]}, "two cells are called 'none'"),
        ({"batchsize": [3]}, "no 'batchsize'; did you mean 'batch_size'"),
        ({"scheme": ["tpok"]}, "unknown scheme 'tpok'"),
    ):
        with pytest.raises(GradwireError, match=message):
            run_study(two(grid=grid), tmp_path / "out")
    assert not (tmp_path / "out").exists()


OWN_AUDITS = {
    "command": "audit",
    "settings": {"samples": 1, "model": "mlp", "attacks": ["iga:iterations=2"], "schemes": ["none", "powersgd:rank=1"]},
}


@pytest.mark.parametrize(
    ("data", "groups"),
    [(["digits"], ("",)), (["digits", "digits:test=20"], ("data=digits: ", "data=digits:test=20: "))],
)
def test_a_grid_of_audits_gives_each_scheme_a_row(tmp_path, data, groups):
    folder = run_study(Study.of("mine", OWN_AUDITS | {"grid": {"data": data}}), tmp_path / "out")
    schemes = ("none", "powersgd:rank=1")
    assert [row["label"] for row in table(folder)[::2]] == [f"{group}{each}" for group in groups for each in schemes]
    shown = sections(read(folder))
    assert len(shown) == len(groups)
    for section in shown:
        assert [row[0] for row in section.table.rows] == list(schemes)
        assert "100 %" in "".join(section.table.rows[0])
