"""gradwire membership as a shell runs it."""

import csv

import pytest

from gradwire.cli import main

QUICK = ["--data", "digits:train=300", "--model", "mlp", "--shadows", "4", "--epochs", "2", "--clients", "2"]


def test_it_writes_a_run_goes_on_with_it_and_reports(tmp_path, capsys):
    out = tmp_path / "run"
    options = [*QUICK, "--attack", "loss", "--attack", "cosine", "--threshold", "shadow", "--canaries", "random:20"]
    main(["membership", *options, "--out", str(out)])
    shown = capsys.readouterr().out
    assert f"report: {out / 'report.html'}" in shown
    before = (out / "results.csv").read_text()
    main(["membership", *options, "--resume", str(out)])
    assert (out / "results.csv").read_text() == before
    with (out / "results.csv").open(newline="") as file:
        attacks = [(row["attack"], row["knowledge"]) for row in csv.DictReader(file)]
    assert attacks == [("loss", ""), ("cosine", "naive"), ("cosine", "adaptive"), ("one-run:random:20", "")]


def test_list_names_its_attacks(capsys):
    main(["list"])
    shown = capsys.readouterr().out
    for name in ("lira-offline", "rmia", "norm-difference", "fedmia"):
        assert name in shown


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--attack", "lira"], "shadows is 4; lira needs at least 7"),
        (["--attack", "magic"], "unknown attack 'magic'"),
        (["--attack", "loss", "--scheme", "zip"], "unknown scheme 'zip'"),
        (["--attack", "loss", "--resume", "nowhere"], "holds no config.json"),
        (["--attack", "loss", "--jobs", "0"], "jobs is 0"),
    ],
)
def test_what_cannot_be_is_one_line_before_any_training(options, says, tmp_path, capsys):
    out = [] if "--resume" in options else ["--out", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as stop:
        main(["membership", *QUICK, *options, *out])
    assert stop.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len([line for line in lines if line.startswith("gradwire:")]) == 1
    assert says in lines[-1]
    assert not (tmp_path / "run").exists()
