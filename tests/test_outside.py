"""What others add to gradwire, in a package with entry points, goes through every command without a line in ours."""

import csv
import re
import tomllib
from pathlib import Path

import pytest
import torch

from gradwire.cli import main
from gradwire.registry import ATTACKS, SCHEMES, STUDIES
from gradwire.schemes import parse
from gradwire.testing import check_attack, check_carrier, check_scheme
from tests.distributed import workers
from tests.integrations import steps

OUTSIDE = Path(__file__).parents[1] / "examples" / "outside"


def rows(folder):
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_examples_are_short():
    for module in OUTSIDE.glob("*.py"):
        assert len(module.read_text().splitlines()) <= 40, module.name


def test_the_page_shows_the_examples_as_they_are():
    page = (OUTSIDE.parents[1] / "docs" / "extend.md").read_text()
    shown = dict(re.findall(r"^```(?:python|toml) file=(\S+)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE))
    assert shown.keys() == {path.name for path in OUTSIDE.iterdir() if path.suffix in (".py", ".toml")}
    for name, text in shown.items():
        as_it_is = (OUTSIDE / name).read_text()
        assert tomllib.loads(text) == tomllib.loads(as_it_is) if name.endswith(".toml") else text == as_it_is, name


@pytest.mark.usefixtures("installed")
def test_they_pass_the_checks_and_go_by_the_names_of_their_entry_points():
    check_scheme("terngrad")
    check_attack("tag:iterations=5")
    check_carrier("shared-folder")
    assert parse("terngrad:TernGrad:clip=2") == parse("terngrad:clip=2")
    assert parse("terngrad:TernGrad:clip=2").spec == "terngrad:clip=2.0"
    assert ATTACKS.parse("tag:TAG").spec == "tag"
    assert {"terngrad", "none"} <= set(SCHEMES)
    assert "ternary" in STUDIES.names()


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_they_go_through_every_command(tmp_path, capsys):
    def run(*arguments, folder):
        main([*arguments, "--out", str(tmp_path / folder)])
        main(["report", str(tmp_path / folder)])
        return rows(tmp_path / folder)

    main(["list"])
    assert "TAG" not in capsys.readouterr().err
    quick = ["--scheme", "terngrad", "--model", "mlp"]
    found = run("audit", *quick, "--attack", "tag:iterations=3,alpha=0.1", "--samples", "1", folder="audit")
    assert {row["attack"] for row in found} == {"tag:iterations=3,alpha=0.1"}
    files = f"shared-folder:folder={tmp_path / 'carried'}"
    trained = run("train", *quick, "--rounds", "4", "--carrier", files, folder="train")
    assert {row["scheme"] for row in trained} == {"terngrad"}
    within = run("train", *quick, "--rounds", "4", folder="within")
    assert [row["test_loss"] for row in trained] == [row["test_loss"] for row in within]
    assert {path.name.split()[0] for path in (tmp_path / "carried").iterdir()} == {"0", "1", "2", "3"}
    small = ["--data", "digits:train=40,test=20", "--clients", "2", "--batch-size", "8", "--epochs", "1", "--jobs", "2"]
    few = ["--shadows", "4", "--attack", "loss", "--threshold", "mean-loss"]
    assert {row["scheme"] for row in run("membership", *quick, *small, *few, folder="membership")} == {"terngrad"}
    study = run("study", "ternary:rounds=4,iterations=3", "--jobs", "2", folder="study")
    assert {(row["command"], row["label"]) for row in study} == {
        (command, scheme) for command in ("train", "audit") for scheme in ("none", "terngrad")
    }
    (claim,) = csv.DictReader((tmp_path / "study" / "claims.csv").open(newline=""))
    assert claim["verdict"] == "cannot tell"  # one seed says nothing of others
    assert "Ternary gradients" in (tmp_path / "study" / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_a_domain_of_ones_own_goes_through_every_command(tmp_path):
    """Time series: audited, trained, judged for membership, and one recorded round attacked."""
    data = ["--data", "waves", "--model", "listener"]
    main(["audit", *data, "--samples", "2", "--scheme", "none", "--out", str(tmp_path / "audit")])
    found = rows(tmp_path / "audit")
    assert min(float(row["correlation"]) for row in found) > 0.99
    assert {row["success"] for row in found} == {"1"}
    main(["report", str(tmp_path / "audit")])
    page = (tmp_path / "audit" / "report.html").read_text()
    assert "orrelation" in page
    assert "images" not in page.partition("</style>")[2]
    record = ["--clients", "1", "--batch-size", "1", "--record", str(tmp_path / "round")]
    main(["train", *data, "--rounds", "2", "--scheme", "topk:ratio=0.1", *record, "--out", str(tmp_path / "train")])
    assert "test_accuracy" in rows(tmp_path / "train")[0]
    attack = ["--attack", "iga:iterations=5,tv=0", "--transcript", str(tmp_path / "round")]
    main(["audit", *data, *attack, "--out", str(tmp_path / "recorded")])
    assert {row["scheme"] for row in rows(tmp_path / "recorded")} == {"topk:ratio=0.1"}
    few = ["--shadows", "4", "--attack", "loss", "--threshold", "mean-loss", "--epochs", "1", "--batch-size", "8"]
    main(["membership", *data, *few, "--clients", "2", "--jobs", "2", "--out", str(tmp_path / "membership")])
    assert {row["attack"] for row in rows(tmp_path / "membership")} == {"loss"}


def wrapped_network(shape, classes):
    return steps.network()


def hooked(transport, folder):
    rank = transport.parties.index(transport.party)
    model, state = steps.wrapped("terngrad", small=False)
    state.record, state.recorder.keep = True, None
    first, last = steps.train(model, rank, range(2))
    state.save_transcript(f"{folder}/steps.{rank}")
    inputs, targets = steps.batch(1, rank)
    torch.save({"inputs": inputs, "targets": targets}, f"{folder}/batch.{rank}")
    return state.step, first, last


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_a_step_under_ddp_is_attacked_from_its_transcript(tmp_path):
    """What every worker applies is the mean of two ternary gradients, whose values are nine at most."""
    (count, *ours), (_, *theirs) = workers.run(hooked, tmp_path, str(tmp_path))
    assert count == 2
    for mine, other in zip(ours, theirs, strict=True):
        values = torch.cat([gradient.flatten() for gradient in mine.values()]).unique()
        assert 2 < len(values) <= 9
        for name, gradient in mine.items():
            assert torch.equal(gradient, other[name])
    batch = ["--truth", str(tmp_path / "batch.1"), "--model", "tests.test_outside:wrapped_network", "--raw"]
    recorded = ["--data", "digits", "--transcript", str(tmp_path / "steps.1"), "--attack", "tag:iterations=2", *batch]
    main(["audit", *recorded, "--out", str(tmp_path / "audit")])
    found = rows(tmp_path / "audit")
    assert {(row["scheme"], row["attack"], row["victim"]) for row in found} == {
        ("terngrad", "tag:iterations=2", "client:1")
    }
    assert {row["knowledge"] for row in found} == {"naive", "adaptive"}
    assert all(-1 <= float(row["ssim"]) < 0.9 for row in found)  # two iterations; the truth was read, and only then
    assert "terngrad" in (tmp_path / "audit" / "report.html").read_text()
