"""`gradwire train` on tables, from a file to the columns of results.csv, for each loss that a target has."""

import csv
import dataclasses

import pytest

from gradwire import data, report
from gradwire.cli import main
from gradwire.errors import GradwireError
from gradwire.runs import read_table
from gradwire.studies import run_training
from gradwire.training import TrainSettings


def written(path):
    """A table by which every target can be told: x alone decides."""
    lines = ["x,y,town,class,ill,old,wage"]
    for i in range(100):
        x = (i * 37 % 100) / 100
        town = "north" if i % 3 else "south"
        lines.append(
            f"{x},{i * 53 % 100},{town},{'rich' if x > 0.5 else 'poor'},{int(x > 0.5)},{int(x > 0.3)},{90 * x}"
        )
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize(
    ("options", "measure", "first"),
    [
        ("target=class,drop=ill|old|wage", "test_accuracy", 0.75),
        ("target=ill|old,drop=class|wage", "test_accuracy", 0.75),
        ("target=wage,drop=class|ill|old", "test_absolute_error", 0.5),
    ],
)
def test_a_table_is_learned_whatever_its_loss(tmp_path, options, measure, first):
    spec = f"{written(tmp_path / 'people.csv')}:{options}"
    settings = TrainSettings(clients=2, rounds=30, batch_size=8, scheme="powersgd:rank=2")
    folder = run_training(spec, "mlp:hidden=20", settings, eval_every=30, out=tmp_path / "run")
    with (folder / "results.csv").open() as file:
        (row,) = csv.DictReader(file)
    found = float(row[measure])
    assert found > first if measure == "test_accuracy" else found < first
    assert ("test_accuracy" in row) == (measure == "test_accuracy")
    assert ("test_absolute_error" in row) == (measure != "test_accuracy")
    assert row["data"] == spec
    assert float(row["test_loss"]) > 0


def test_the_command_takes_a_target_and_shows_what_was_measured(tmp_path, capsys):
    path = written(tmp_path / "people.csv")
    arguments = ["--data", f"{path}:drop=class|ill|old", "--target", "wage", "--model", "mlp:hidden=9", "--rounds", "2"]
    main(["train", *arguments, "--batch-size", "4", "--out", str(tmp_path / "run")])
    assert "test absolute error" in capsys.readouterr().out
    assert "targets=" not in (tmp_path / "run" / "config.json").read_text()
    assert f"{path}:drop=class|ill|old,target=wage" in (tmp_path / "run" / "config.json").read_text()


OWN = """
from torch import nn

class Two(nn.Module):
    def __init__(self, shape, classes):
        super().__init__()
        self.body = nn.LazyLinear(classes)
    def forward(self, rows):
        return {"main": self.body(rows), "rows": rows}

def loss(output, targets):
    return nn.functional.cross_entropy(output["main"], targets)
"""


@pytest.mark.parametrize("malice", [{}, {"malicious": 1, "malice": "flip"}])
def test_an_own_loss_of_an_output_without_logits_is_reported_without_accuracy(tmp_path, monkeypatch, malice):
    (tmp_path / "twofold.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    spec = f"{written(tmp_path / 'people.csv')}:target=class,drop=ill|old|wage"
    settings = TrainSettings(clients=2, rounds=2, batch_size=8, loss="twofold:loss", **malice)
    out = tmp_path / "run"
    run_training(spec, "twofold:Two", settings, eval_every=1, out=out, by_client=True)
    rows = read_table(out / "results.csv")
    assert [float(row["test_loss"]) > 0 for row in rows] == [True, True]
    assert {row["test_accuracy"] for row in rows} == {""}
    assert "loss" in report.write(out).read_text()


def test_a_network_of_images_is_refused_before_there_is_a_folder(tmp_path):
    spec = f"{written(tmp_path / 'people.csv')}:target=class"
    with pytest.raises(GradwireError, match="model 'convnet' is a network of images"):
        run_training(spec, "convnet", TrainSettings(rounds=1, batch_size=4), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert data.load(spec).classes == ("poor", "rich")


def test_each_client_is_judged_on_its_own_examples_by_the_tasks_measures(tmp_path):
    """A row a client and evaluation; a resumed run keeps those that were there."""
    settings = TrainSettings(clients=3, rounds=4, batch_size=4, partition="iid")
    how = {"eval_every": 2, "by_client": True}
    whole = run_training("linnerud", "", settings, out=tmp_path / "whole", **how)
    cut = run_training("linnerud", "", dataclasses.replace(settings, rounds=2), out=tmp_path / "cut", **how)
    run_training("linnerud", "", settings, resume=cut, **how)
    rows = read_table(whole / "clients.csv")
    assert [(row["round"], row["client"]) for row in rows] == [(r, f"client:{i}") for r in "24" for i in range(3)]
    assert read_table(cut / "clients.csv") == rows
    assert sum(int(row["examples"]) for row in rows[:3]) == len(data.load("linnerud", "train"))
    assert all(float(row["absolute_error"]) > 0 for row in rows)
