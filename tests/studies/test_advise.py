"""The screening: who goes on to the next rung, and one small screening of two schemes on the digits."""

import csv
from dataclasses import replace

import pytest

from gradwire.cli import main
from gradwire.errors import GradwireError
from gradwire.studies.advise import AdviseSettings
from gradwire.studies.advise.run import advise, halved, point
from gradwire.tasks import Pixels

QUICK = AdviseSettings(
    data="digits:train=200,test=40", model="mlp:hidden=16", schemes=("powersgd", "autoencoder"), noises=(1.0,),
    clients=2, rounds=8, lrs=(0.05, 0.005), samples=2, budget=2, attack="iga:iterations=8", link="100mbps",
)  # fmt: skip


def found(given=0, accuracy=0.9, cost=1.0, state="dropped", told=1):
    return {"given": given, "victims": 2, "test_accuracy": accuracy, "cost": cost, "state": state, "told": told}


def test_the_better_half_goes_on_and_what_gives_up_too_much_accuracy_is_behind():
    table = {
        "none": found(2, 0.95, 3),
        "private": found(0, 0.93, 3),
        "small": found(2, 0.95, 1),
        "worse": found(2, 0.94, 2),
        "useless": found(0, 0.1, 0.5),
    }
    assert halved(list(table)[1:], table, 0.05) == ["private", "small"]
    assert halved(["useless"], table, 0.05) == ["useless"]
    assert halved([], table, 0.05) == []
    assert halved(["small", "worse", "useless"], table, 1.0) == ["small", "useless"], "nothing is too much"


def test_a_short_attack_never_speaks_against_a_scheme_and_in_the_end_not_for_it():
    doubtful = found(0, told=0)
    assert point(doubtful, cautious=False)[0] == 0
    assert point(doubtful)[0] == 1


def test_rungs_double():
    settings = AdviseSettings(budget=3, attack="strongest:iterations=300")
    assert [(r.rounds, r.samples, r.attack) for r in settings.rungs] == [
        (30, 2, "strongest:iterations=75"),
        (60, 4, "strongest:iterations=150"),
        (120, 8, "strongest:iterations=300"),
    ]
    assert AdviseSettings(budget=6, attack="strongest:iterations=300").rungs[0].attack == "strongest:iterations=50"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"link": "fast"}, "link is 'fast'; it must be a speed"),
        ({"give_up": 2.0}, "give_up is 2.0"),
        ({"budget": 0}, "budget is 0"),
        ({"lrs": ()}, "lr is not given"),
        ({"noises": (-1.0,)}, "noise is -1.0"),
        ({"attack": "iga:tempo=1"}, "iga"),
    ],
)
def test_what_cannot_be_is_refused(changed, says):
    with pytest.raises(GradwireError, match=says):
        _ = replace(QUICK, **changed).rungs


def test_targets_that_are_no_classes_are_refused(tmp_path):
    with pytest.raises(GradwireError, match="targets are no classes"):
        advise(AdviseSettings(data="diabetes"), tmp_path / "out")


@pytest.fixture(scope="module")
def screened(tmp_path_factory):
    """Two schemes through the command, one of which cannot run without local steps."""
    out = tmp_path_factory.mktemp("advise") / "run"
    options = ["--scheme", "powersgd", "--scheme", "autoencoder", "--noise", "1", "--link", "100mbps"]
    options += ["--data", QUICK.data, "--model", QUICK.model, "--clients", "2", "--rounds", "8", "--samples", "2"]
    main(["advise", *options, "--budget", "2", "--attack", QUICK.attack, "--jobs", "1", "--out", str(out)])
    return out


def rows(folder):
    with (folder / "results.csv").open(newline="") as file:
        return {row["scheme"]: row for row in csv.DictReader(file)}


def test_a_screening_has_a_row_a_scheme(screened):
    table = rows(screened)
    assert {scheme: row["state"] for scheme, row in table.items()} == {
        "none": "screened to the end",
        "powersgd": "screened to the end",
        "dpsgd": "screened to the end",
        "autoencoder": "could not run",
    }
    assert "local steps" in table["autoencoder"]["why"]
    assert "add/remove" in table["dpsgd"]["guarantee"]
    assert float(table["dpsgd"]["epsilon"]) > 0
    none, low_rank = table["none"], table["powersgd"]
    assert float(low_rank["bytes_up"]) < float(none["bytes_up"])
    both = float(none["bytes_up"]) + float(none["bytes_down"])
    assert float(none["cost"]) == pytest.approx(float(none["seconds"]) + 8 * both / 1e8)
    page = (screened / "report.html").read_text()
    assert "protects" not in page


def test_eight_steps_of_an_attack_tell_nothing(screened):
    """The attack does not break `none`, and so its failures under other schemes are no findings."""
    table = rows(screened)
    assert table["none"]["given"] == "0"
    assert {row["told"] for row in table.values() if row["state"] == "screened to the end"} == {"0"}
    assert "No defence can be named" in (screened / "report.html").read_text()


def test_a_finished_screening_goes_on_without_running_a_cell(screened, monkeypatch):
    def never(*arguments):
        raise AssertionError("run again")

    def timeless():
        timed = ("seconds", "cost", "front")  # steps are timed anew
        return [{name: value for name, value in row.items() if name not in timed} for row in rows(screened).values()]

    before = timeless()
    monkeypatch.setattr("gradwire.studies.grid._run", never)
    advise(QUICK, resume=screened)
    assert timeless() == before
    with pytest.raises(GradwireError, match="has clients=2; this run has clients=3"):
        advise(replace(QUICK, clients=3), resume=screened)


def test_the_usual_attack_is_that_of_the_domain():
    from gradwire import data

    task = data.load("digits", "test").task
    assert isinstance(task.domain, Pixels)
    assert AdviseSettings().of(task).attack == "strongest"
