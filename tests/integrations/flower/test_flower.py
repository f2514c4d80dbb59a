"""Schemes within Flower's own ClientApp and FedAvg, against the same schemes driven by gradwire's own transport."""

import pytest

pytest.importorskip("flwr")

import torch
from flwr.serverapp.strategy import FedAvg

from gradwire.errors import GradwireError, WireError
from gradwire.integrations.flower import SchemeGrid, SchemeMod
from gradwire.schemes import Layout, Round, parse
from gradwire.wire import InProcess, Transcript, client
from gradwire.wire.transport import drive
from tests.integrations.flower.local import (
    ArrayRecord,
    ClientApp,
    ConfigRecord,
    LocalGrid,
    Message,
    MetricRecord,
    RecordDict,
)

SCHEMES = (
    "none",
    "topk:ratio=0.1",
    "randomk:ratio=0.1",
    "powersgd:rank=2",
    "noise:std=0.1",
    "dgc:ratio=0.1",
    "qsgd",
    "signsgd:error_feedback=true",
)
NAMES = ("w", "b")
NODES = (70, 11, 42)
ROUNDS = 3


def start():
    return {"w": torch.zeros(12, 20), "b": torch.ones(7), "mean": torch.zeros(3), "seen": torch.tensor(0)}


def change(node, round):
    """What a node's training changes in a round: new − old."""
    g = torch.Generator().manual_seed(1000 * node + round)
    return {name: torch.randn(shape, generator=g) for name, shape in (("w", (12, 20)), ("b", (7,)), ("mean", (3,)))}


def app(spec, node, secret=0, train=None):
    """A ClientApp as anybody writes it, with the mod."""
    made = ClientApp()

    @made.train(mods=[SchemeMod(spec, NAMES, secret + node)])
    def work(message, context):
        assert list(message.content) == ["arrays", "config"]
        round = message.content["config"]["server-round"]
        arrays = message.content["arrays"].to_torch_state_dict()
        moved = change(node, round)
        after = {name: t + moved[name] if name in moved else t + 5 for name, t in arrays.items()}
        metrics = MetricRecord({"loss": float(node), "num-examples": node})
        return Message(RecordDict({"arrays": ArrayRecord(after), "metrics": metrics}), reply_to=message)

    if train is not None:
        made = ClientApp()
        made.train(mods=[SchemeMod(spec, NAMES, secret + node)])(train)

    @made.evaluate()
    def judge(message, context):
        metrics = MetricRecord({"loss": 1.0, "num-examples": 1})
        return Message(RecordDict({"metrics": metrics}), reply_to=message)

    return made


def simulated(spec):
    """The arrays after the same rounds through gradwire's in-process transport."""
    scheme, arrays, transport = parse(spec), start(), InProcess(Transcript())
    layout = Layout.of({name: arrays[name] for name in NAMES})
    parties = {client(i): node for i, node in enumerate(NODES)}
    private = {party: scheme.private_state(layout, node) for party, node in parties.items()}
    public = scheme.public_state(layout)
    for index in range(ROUNDS):
        round = Round(index, tuple(parties), 0, layout)
        halves = {}
        for party, node in parties.items():
            moved = change(node, index + 1)
            update = {name: arrays[name] - (arrays[name] + moved[name]) for name in NAMES}
            halves[party] = scheme.client(update, private[party], public, round)
        outcomes, served = drive(transport, halves, scheme.server(public, round), index)
        private = {party: outcome.private for party, outcome in outcomes.items()}
        public = served.public
        moved = torch.stack([arrays["mean"] + change(node, index + 1)["mean"] for node in NODES]).mean(0)
        arrays = {name: arrays[name] - served.aggregate[name] for name in NAMES} | {
            "mean": moved,
            "seen": arrays["seen"] + 5,
        }
    return arrays, transport.transcript


def strategy():
    return FedAvg(min_train_nodes=3, min_evaluate_nodes=3, min_available_nodes=3)


@pytest.mark.parametrize("spec", SCHEMES)
def test_flowers_fedavg_ends_where_the_simulation_does(spec):
    inner = LocalGrid({node: app(spec, node) for node in NODES})
    grid = SchemeGrid(inner, spec, NAMES, transcript=Transcript())
    grid._parties = {node: client(i) for i, node in enumerate(NODES)}
    result = strategy().start(grid, ArrayRecord(start()), num_rounds=ROUNDS)
    expected, transcript = simulated(spec)
    for name, tensor in result.arrays.to_torch_state_dict().items():
        torch.testing.assert_close(tensor, expected[name].to(tensor.dtype), atol=1e-5, rtol=1e-4)
    assert result.train_metrics_clientapp[1]["loss"] == pytest.approx(sum(n * n for n in NODES) / sum(NODES))
    assert result.evaluate_metrics_clientapp[1]["loss"] == 1
    beside = [record for record in grid.transcript.records if record.message.phase == "buffers"]
    assert grid.transcript.bytes_up() - sum(record.size for record in beside) == transcript.bytes_up()
    assert grid.transcript.bytes_down() == transcript.bytes_down()


def test_nothing_else_of_an_update_leaves_a_client():
    inner = LocalGrid({node: app("topk:ratio=0.1", node) for node in NODES})
    strategy().start(SchemeGrid(inner, "topk:ratio=0.1", NAMES), ArrayRecord(start()), num_rounds=1)
    told = [m for m in inner.delivered if m.metadata.src_node_id in NODES and m.metadata.message_type == "train"]
    first, done = told[:3], told[3:]
    assert all(set(message.content) == {"gradwire", "metrics"} for message in first)
    assert all(set(message.content["gradwire"]) == {"message", "buffers"} for message in first)
    assert all(dict(message.content["gradwire"]) == {"done": True} for message in done)


def test_a_client_sends_nothing_to_a_server_without_a_scheme_or_with_another():
    inner = LocalGrid({node: app("qsgd", node) for node in NODES})
    record = RecordDict({"arrays": ArrayRecord(start()), "config": ConfigRecord({"server-round": 1})})
    (reply,) = inner.send_and_receive([Message(record, NODES[0], "train")])
    assert "the server asks for plain arrays; this client sends only qsgd" in reply.error.reason
    (reply,) = SchemeGrid(inner, "none", NAMES).send_and_receive([Message(record, NODES[0], "train")])
    assert "the server runs scheme 'none'; this client's is 'qsgd'" in reply.error.reason


def test_clients_that_fail_or_stay_silent_drop_out_of_the_round():
    def fail(message, context):
        raise RuntimeError("no disk")

    apps = {70: app("none", 70), 11: app("none", 11, train=fail), 42: app("none", 42), 5: app("none", 5)}
    inner = LocalGrid(apps)
    inner.silent = {5}
    grid = SchemeGrid(inner, "none", NAMES)
    record = RecordDict({"arrays": ArrayRecord(start()), "config": ConfigRecord({"server-round": 1})})
    first, second, failure = grid.send_and_receive([Message(record, node, "train") for node in apps])
    assert "no disk" in failure.error.reason
    moved = (change(70, 1)["b"] + change(42, 1)["b"]) / 2
    for reply in (first, second):
        torch.testing.assert_close(reply.content["arrays"].to_torch_state_dict()["b"], 1 + moved)
    inner.silent = set(apps)
    assert list(grid.send_and_receive([Message(record, 70, "train")])) == []


def test_gradients_that_are_not_finite_are_not_sent():
    def broken(message, context):
        arrays = message.content["arrays"].to_torch_state_dict()
        arrays["w"][0, 0] = float("nan")
        return Message(RecordDict({"arrays": ArrayRecord(arrays)}), reply_to=message)

    grid = SchemeGrid(LocalGrid({70: app("none", 70, train=broken)}), "none", NAMES)
    record = RecordDict({"arrays": ArrayRecord(start()), "config": ConfigRecord({"server-round": 1})})
    (reply,) = grid.send_and_receive([Message(record, 70, "train")])
    assert "gradient of 'w' is not finite in 1 of 240 entries" in reply.error.reason


def test_different_arrays_for_different_clients_are_refused():
    grid = SchemeGrid(LocalGrid({node: app("none", node) for node in NODES}), "none", NAMES)
    messages = [
        Message(RecordDict({"arrays": ArrayRecord(start() | {"b": torch.full((7,), float(node))})}), node, "train")
        for node in NODES
    ]
    with pytest.raises(WireError, match="the strategy sends clients different arrays"):
        grid.send_and_receive(messages)


def test_a_parameter_that_there_is_not_is_refused():
    grid = SchemeGrid(LocalGrid({70: app("none", 70)}), "none", ("weights",))
    with pytest.raises(GradwireError, match="parameter 'weights' is not among the arrays w, b, mean, seen"):
        grid.send_and_receive([Message(RecordDict({"arrays": ArrayRecord(start())}), 70, "train")])


@pytest.mark.parametrize("make", [SchemeMod, lambda spec: SchemeGrid(None, spec)])
def test_schemes_whose_clients_must_know_one_another_are_refused(make):
    with pytest.raises(GradwireError, match="scheme 'sga'"):
        make("sga")
