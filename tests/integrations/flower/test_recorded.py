"""A federation that was recorded is attacked as a round of the same batches in one process is."""

import csv
import logging
import random
import stat

import pytest

pytest.importorskip("flwr")

import torch
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg

from gradwire import data
from gradwire.attacks.inversion import pose
from gradwire.cli import main
from gradwire.errors import GradwireError
from gradwire.integrations.flower import SchemeGrid, SchemeMod, local_steps, run
from gradwire.registry import ATTACKS
from gradwire.rounds.recording import load
from gradwire.training import capture
from gradwire.wire.view import LocalWork
from tests.integrations.flower.local import ArrayRecord, LocalGrid, Message, MetricRecord, RecordDict

NODES = (1, 2, 3)
ALL = {"min_train_nodes": 3, "min_available_nodes": 3, "fraction_evaluate": 0.0}
DIGITS = data.load("digits", "test")


def net():
    return DIGITS.network("mlp", seed=0)


def batch(node, count):
    return DIGITS.batch(range(10 * node, 10 * node + count))


def recorded(path, spec, steps=1, count=1, rounds=1, which=(0,), weights=None, lr=None):
    """A federation of clients that hold one batch each, all steps of one pass over it."""

    def app(node):
        made = ClientApp()

        @made.train(mods=[SchemeMod(spec, secret=node)])
        def train(message, context):
            network = net()
            network.load_state_dict(message.content["arrays"].to_torch_state_dict())
            inputs, targets = batch(node, count)
            local_steps(network, inputs, targets, lr=0.1, batch=count // steps, steps=steps)
            metrics = MetricRecord({"num-examples": weights[node] if weights else 1})
            content = RecordDict({"arrays": ArrayRecord(network.state_dict()), "metrics": metrics})
            return Message(content, reply_to=message)

        return made

    random.seed(0)
    grid = SchemeGrid(
        LocalGrid({node: app(node) for node in NODES}), spec, model=net(), record=path, rounds=which, lr=lr
    )
    for node in NODES:
        grid.members.party(node)
    run(FedAvg(**ALL), grid, ArrayRecord(grid.model.state_dict()), num_rounds=rounds)
    assert not grid.refused
    return grid


@pytest.mark.parametrize("weights", [None, {1: 5, 2: 9, 3: 1}])
@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize(
    "spec", ["none", "topk:ratio=0.1", "powersgd:rank=2", "qsgd", "sga", "sga:threshold=2,colluders=0"]
)
def test_the_objective_at_the_truth_is_that_of_a_simulated_round(tmp_path, spec, steps, weights, monkeypatch):
    count = steps
    monkeypatch.setattr(torch, "randperm", lambda n, **_: torch.arange(n))
    recorded(tmp_path / "t", spec, steps, count, weights=weights)
    work = LocalWork(steps, count // steps, 0.1)
    found = load(tmp_path / "t")[0].of_client("client:1", work)
    network, inputs, targets = net(), *batch(2, count)
    seen = found.view(network, tuple(inputs.shape), targets, task=DIGITS.task)
    fellows = [batch(node, count) for node in (1, 3)]
    parties = ("client:1", "client:0", "client:2")
    counts = [weights[node] for node in (2, 1, 3)] if weights else ()
    how = {"local_steps": steps, "local_batch": count // steps, "lr": 0.1, "task": DIGITS.task, "weights": counts}
    simulated = capture(network, inputs, targets, spec, fellows=fellows, parties=parties, **how)
    attack = ATTACKS.parse("fedavg:iterations=1,tv=0")
    values = []
    for view in (seen, simulated):
        problems = [pose(view, knowledge) for knowledge in ("naive", "adaptive")]
        truth = inputs[None].expand(len(problems), *inputs.shape)
        values.append(attack.run(problems).value(truth))
    close = 2e-2 if spec == "qsgd" else 1e-4  # its random rounding is each client's own
    torch.testing.assert_close(values[0], values[1], atol=close, rtol=0)
    assert seen.weight == pytest.approx(1.0 if weights is None else 9 / 5)


def test_recording_is_off_by_default_and_warned_of_and_the_owners_alone(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "gradwire"):
        recorded(tmp_path / "t", "topk:ratio=0.1", rounds=4, which=(1, 3))
    assert stat.S_IMODE((tmp_path / "t").stat().st_mode) == 0o600
    assert sorted(load(tmp_path / "t")) == [1, 3]
    assert "enough to attack them" in caplog.text
    assert list(tmp_path.iterdir()) == [tmp_path / "t"]


def rows(folder):
    with (folder / "results.csv").open() as file:
        return list(csv.DictReader(file))


def test_the_command_attacks_a_client_on_one_round_and_on_several(tmp_path, capsys):
    recorded(tmp_path / "t", "topk:ratio=0.3", rounds=3, which=(0, 1, 2))
    common = [
        "audit",
        "--data",
        "digits",
        "--transcript",
        str(tmp_path / "t"),
        "--client",
        "client:2",
        "--local-steps",
        "1",
        "--lr",
        "0.1",
    ]
    common += ["--model", "mlp", "--label", str(int(batch(3, 1)[1]))]
    main([*common, "--attack", "iga:iterations=2,tv=0", "--round", "0", "--out", str(tmp_path / "one")])
    main([*common, "--attack", "rounds:iterations=2,tv=0", "--rounds", "3", "--out", str(tmp_path / "several")])
    for place in ("one", "several"):
        assert [(row["victim"], row["knowledge"]) for row in rows(tmp_path / place)] == [
            ("client:2", "naive"),
            ("client:2", "adaptive"),
        ]
    with pytest.raises(SystemExit):
        main([*common, "--attack", "rounds", "--round", "1", "--rounds", "3"])
    assert "rounds is 3; 2 are recorded up to round 1" in capsys.readouterr().err


@pytest.mark.usefixtures("installed")
def test_a_scheme_from_outside_is_recorded_and_attacked_by_an_attack_from_outside(tmp_path):
    recorded(tmp_path / "t", "terngrad:clip=2")
    common = [
        "audit",
        "--data",
        "digits",
        "--transcript",
        str(tmp_path / "t"),
        "--client",
        "client:1",
        "--local-steps",
        "1",
        "--lr",
        "0.1",
    ]
    known = ["--model", "mlp", "--label", str(int(batch(2, 1)[1]))]
    main([*common, *known, "--attack", "tag:iterations=2", "--out", str(tmp_path / "out")])
    assert {(row["scheme"], row["attack"]) for row in rows(tmp_path / "out")} == {
        ("terngrad:clip=2.0", "tag:iterations=2")
    }
    assert "tag" in (tmp_path / "out" / "report.html").read_text()


def test_what_is_not_told_or_not_there_is_said(tmp_path):
    recorded(tmp_path / "t", "none")
    (found,) = load(tmp_path / "t").values()
    with pytest.raises(GradwireError, match="clients' own training changed: name its --local-steps"):
        found.view(net(), (1, 1, 8, 8), task=DIGITS.task)
    with pytest.raises(GradwireError, match="has no client 'client:7'; it has client:"):
        found.of_client("client:7", None)


def test_single_gradients_need_no_local_steps(tmp_path):
    recorded(tmp_path / "t", "dgc:ratio=0.2", lr=0.1)
    (found,) = load(tmp_path / "t").values()
    assert found.view(net(), (1, 1, 8, 8), task=DIGITS.task).work is None


def test_the_wire_tells_members(tmp_path, capsys):
    recorded(tmp_path / "t", "topk:ratio=0.3", steps=2, count=2, rounds=2, which=(0, 1))
    main(
        [
            *("membership", "--transcript", str(tmp_path / "t"), "--candidates", "digits:train=200", "--model", "mlp"),
            *("--local-steps", "2", "--lr", "0.1", "--out", str(tmp_path / "out")),
        ]
    )
    found = rows(tmp_path / "out")
    assert {row["attack"] for row in found} == {"inner-product", "cosine", "norm-difference", "fedmia"}
    assert {row["client"] for row in found} == {"client:0", "client:1", "client:2"}
    assert len(found) == 4 * 2 * 3 * 200
    assert "likeliest members" in capsys.readouterr().out
