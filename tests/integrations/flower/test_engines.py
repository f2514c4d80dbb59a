"""The example under Flower's own engines: `flwr run`, real processes, TLS and registered keys on loopback."""

import importlib
import importlib.util
import time

import pytest

pytest.importorskip("flwr")

import torch

from gradwire.seeds import number
from tests.integrations.flower import engines
from tests.integrations.flower.in_process import same_rounds

pytestmark = pytest.mark.deploy
NODES = 3
SENT = "[[grid.transcript.bytes_up(p, r) for p in grid.members.parties.values()] for r in range(grid.round)]"
CONFIG = {"num_server_rounds": 2, "fraction_evaluate": 0.0, "nodes": NODES}


@pytest.fixture
def task(monkeypatch):
    monkeypatch.syspath_prepend(str(engines.EXAMPLE))
    return importlib.import_module("quickstart.task")


def app(folder):
    """The example, whose nodes' random numbers can be repeated, and which tells who was who."""
    tells = f'__import__("pathlib").Path({str(folder)!r}, f"is-{{context.node_id}}").write_text'
    line = '    """Train on the node\'s own examples."""\n'
    client = engines.copied(
        folder,
        client_app=(line, f'{line}    {tells}(str(context.node_config["partition-id"]))\n'),
        server_app=(
            "torch.save(result.arrays.to_torch_state_dict(),",
            f"torch.save((result.arrays.to_torch_state_dict(), grid.members.parties, context.run_id, {SENT}),",
        ),
    )
    engines.change(client, "client_app", '"scheme"])])', '"scheme"], secret=7)])')
    return client


def check(task, folder, out, spec, rounds=2, weighted=True, model="mlp", single=False):
    """Whether what a run left is what the same rounds in one process come to."""
    arrays, parties, run_id, _ = torch.load(out, weights_only=True)
    held = {}
    for node, party in parties.items():
        part = int((folder / f"is-{node}").read_text())
        held[party] = (number("flower", 7, run_id, node), *task.examples("train", part, NODES))
    network = same_rounds(spec, task.network(model), held, rounds, 0.3, weighted, 16, 1, single)
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(arrays[name], tensor, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="the simulation engine needs ray")
@pytest.mark.parametrize("spec", ["powersgd:rank=2", "sga:threshold=2,colluders=0"])
def test_the_simulation_engine_ends_where_one_process_does(tmp_path, task, spec):
    made, out = app(tmp_path), tmp_path / "out.pt"
    with engines.simulation(tmp_path, NODES) as engine:
        run = engine.run(made, scheme=spec, out=str(out), **CONFIG)
        assert engine.finished(run) == "finished:completed", engine.said()
    check(task, tmp_path, out, spec)


def test_the_deployment_engine_ends_where_one_process_does_and_outlives_a_node(tmp_path, task):
    made, out = app(tmp_path), tmp_path / "out.pt"
    with engines.deployment(tmp_path, NODES) as engine:
        run = engine.run(made, scheme="powersgd:rank=2", out=str(out), **CONFIG)
        assert engine.finished(run) == "finished:completed", engine.said()
        check(task, tmp_path, out, "powersgd:rank=2")
        # A node that dies in a round is one failure; it comes back under the same key, and is asked again.
        begun = {path: path.stat().st_mtime_ns for path in tmp_path.glob("is-*")}
        config = CONFIG | {"num_server_rounds": 3, "round_timeout": 60}
        run = engine.run(made, scheme="topk:ratio=0.1", out=str(tmp_path / "again.pt"), **config)
        while all(path.stat().st_mtime_ns == before for path, before in begun.items()):
            time.sleep(0.2)
        engines.revive(engine, 0)
        assert engine.finished(run) == "finished:completed", engine.said()
    arrays, _, _, sent = torch.load(tmp_path / "again.pt", weights_only=True)
    assert sorted(party > 0 for party in sent[0]) == [False, True, True]
    assert all(party > 0 for party in sent[2])
    assert all(torch.isfinite(tensor).all() for tensor in arrays.values())
