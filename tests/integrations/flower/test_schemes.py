"""Every scheme within Flower's ClientApp and FedAvg ends where the same rounds in one process do."""

import logging
import random

import pytest

pytest.importorskip("flwr")

import torch
from flwr.clientapp import ClientApp
from flwr.serverapp.strategy import FedAvg
from torch import nn

from gradwire.errors import GradwireError
from gradwire.integrations.flower import SchemeGrid, SchemeMod, local_steps, run, scheme_network
from gradwire.integrations.flower.records import KEY
from gradwire.schemes import SCHEMES, adapted, parse
from gradwire.seeds import number
from gradwire.wire import client
from tests.integrations.flower.in_process import same_rounds
from tests.integrations.flower.local import ArrayRecord, LocalGrid, Message, MetricRecord, RecordDict, parts

NODES = {70: 6, 11: 4, 42: 5}
"""Node → its examples."""
ROUNDS = 3
LR = 0.1
ALL = {"min_train_nodes": 3, "min_available_nodes": 3, "fraction_evaluate": 0.0}
PLAIN = ("autoencoder:warmup_rounds=1,warmup_iterations=2", "dpfedavg:clip=0.5,noise=0.5")
SPECS = {
    "none": "none",
    "topk": "topk:ratio=0.1",
    "randomk": "randomk:ratio=0.1",
    "powersgd": "powersgd:rank=2",
    "lqsgd": "lqsgd:rank=2",
    "half": "half",
    "noise": "noise:std=0.1",
    "qsgd": "qsgd",
    "signsgd": "signsgd",
    "sparsify": "sparsify:drop=0.5",
    "dgc": "dgc:ratio=0.1,clip=1.0",
    "dpsgd": "dpsgd:clip=0.5,noise=0.5",
    "dpftrl": "dpftrl:clip=0.5,noise=0.5",
    "dpfedavg": "dpfedavg:clip=0.5,noise=0.5",
    "autoencoder": "autoencoder:warmup_rounds=1,warmup_iterations=2",
    "precode": "precode:bottleneck=4",
    "sga": "sga",
    "ssga": "ssga:compression=4",
    "ssga-dgc": "ssga-dgc:compression=4",
    "composed": "powersgd:rank=2+sga",
}
MORE = (
    "sga:threshold=2,colluders=0",
    "ssga:compression=4,threshold=2,colluders=0",
    "randomk:ratio=0.1+sga",
    "powersgd:rank=1+sga:threshold=2,colluders=0",
)


def net(spec=""):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Flatten(), nn.Linear(64, 12), nn.Sigmoid(), nn.Linear(12, 4))
    # Its codec's training amplifies the rounding of float32 to 3e-5 on some processors.
    return network.double() if spec.startswith("autoencoder") else network


def examples(node, spec=""):
    g = torch.Generator().manual_seed(node)
    inputs, labels = torch.rand(NODES[node], 1, 8, 8, generator=g), torch.randint(4, (NODES[node],), generator=g)
    return inputs.to(net(spec)[1].weight.dtype), labels


def single(spec):
    return "dgc" in spec


def work(spec):
    return {"lr": LR, "batch": 2, "steps": 1} if single(spec) else {"lr": LR, "batch": 2, "epochs": 2}


def app(spec, node, line=True, secret=None, behind=()):
    made = ClientApp()

    @made.train(mods=[SchemeMod(spec, secret=node if secret is None else secret), *behind])
    def train(message, context):
        network = scheme_network(net(spec), spec) if line else adapted(parse(spec), net(spec), 0)
        network.load_state_dict(message.content["arrays"].to_torch_state_dict())
        if line:
            local_steps(network, *examples(node, spec), **work(spec))
        metrics = MetricRecord({"num-examples": NODES[node]})
        return Message(RecordDict({"arrays": ArrayRecord(network.state_dict()), "metrics": metrics}), reply_to=message)

    return made


def federation(spec, weighted=True, **how):
    inner = LocalGrid({node: app(spec, node) for node in NODES})
    how = {"weighted_by": "num-examples" if weighted else None, "lr": LR if single(spec) else None} | how
    grid = SchemeGrid(inner, spec, model=net(spec), **how)
    for node in NODES:
        grid.members.party(node)
    return inner, grid


def simulated(spec, weighted):
    """The network after the same rounds in one process."""
    parties = {client(i): (number("flower", node, 1, node), *examples(node, spec)) for i, node in enumerate(NODES)}
    return same_rounds(spec, net(spec), parties, ROUNDS, LR, weighted, 2, 2, single(spec)).state_dict()


def test_every_scheme_is_among_them():
    assert {*SPECS} == {*SCHEMES, "composed"}


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("spec", [*SPECS.values(), *MORE])
def test_every_scheme_ends_where_the_simulation_does(spec, weighted):
    random.seed(0)
    if weighted and spec in PLAIN:
        with pytest.raises(GradwireError, match="updates that count alike"):
            federation(spec, weighted)
        return
    _inner, grid = federation(spec, weighted)
    result = run(FedAvg(**ALL), grid, ArrayRecord(grid.model.state_dict()), num_rounds=ROUNDS)
    assert not grid.refused
    expected = simulated(spec, weighted)
    arrays = result.arrays.to_torch_state_dict()
    assert {name: t.shape for name, t in arrays.items()} == {name: t.shape for name, t in expected.items()}
    moved = sum(
        float((t - s).abs().sum()) for t, s in zip(arrays.values(), grid.model.state_dict().values(), strict=True)
    )
    assert moved > 0.1
    for name, tensor in arrays.items():
        torch.testing.assert_close(tensor, expected[name], atol=1e-5, rtol=1e-5)


LINES = {
    "dgc:ratio=0.1": "needs single gradients",
    "dpsgd": "needs a hand in each step",
    "autoencoder": "needs a hand in each step",
    "precode": "trains a network of its own: net = scheme_network",
    "ssga-dgc": "needs single gradients",
}


@pytest.mark.parametrize("spec", LINES)
def test_without_its_line_nothing_is_sent_and_the_reason_said(spec):
    inner, grid = federation(spec, weighted=False)
    inner.apps = {node: app(spec, node, line=False) for node in NODES}
    FedAvg(**ALL).start(grid, ArrayRecord(grid.model.state_dict()), 1)
    assert all(LINES[spec] in why for why in grid.refused.values())
    assert len(grid.refused) == 3
    assert not any("message" in parts(reply) for reply in inner.replied)


def test_arrays_that_went_on_after_the_line_are_not_sent():
    def more(message, context, call_next):
        reply = call_next(message, context)
        state = reply.content["arrays"].to_torch_state_dict()
        reply.content["arrays"] = ArrayRecord({name: tensor + 1 for name, tensor in state.items()})
        return reply

    inner, grid = federation("dpsgd", weighted=False)
    inner.apps[70] = app("dpsgd", 70, behind=[more])
    run(FedAvg(**ALL), grid, ArrayRecord(grid.model.state_dict()), num_rounds=1)
    (why,) = grid.refused.values()
    assert "the trained arrays are not those that local_steps left" in why


def test_more_than_one_step_is_no_single_gradient():
    _, grid = federation("dgc:ratio=0.1", lr=0.2)
    FedAvg(**ALL).start(grid, ArrayRecord(grid.model.state_dict()), 1)
    assert all("sends one gradient a round, not 1 steps of size 0.1" in why for why in grid.refused.values())


@pytest.mark.parametrize(
    ("spec", "how", "why"),
    [
        ("dgc:ratio=0.1", {"lr": None}, "wants single gradients, and lr"),
        ("none", {"lr": 0.1}, "wants no single gradients, and no lr"),
        ("precode", {"model": None}, "SchemeGrid\\(…, model=Net\\(\\)\\)"),
        ("sga", {"replies": "opened"}, "nothing but sums; replies cannot be opened"),
        ("none", {"replies": "each"}, "replies is 'each'"),
    ],
)
def test_settings_that_a_scheme_cannot_have_are_refused(spec, how, why):
    settings = {"model": net(), "lr": 0.1 if single(spec) else None} | how
    with pytest.raises(GradwireError, match=why):
        SchemeGrid(None, spec, **settings)


def test_without_a_mod_the_lines_are_plain_sgd():
    network, plain = net(), net()
    inputs, targets = examples(70)
    loss = local_steps(scheme_network(network, "none"), inputs, targets, lr=LR, batch=6)
    value = nn.functional.cross_entropy(plain(inputs), targets)
    value.backward()
    assert loss == pytest.approx(value.item())
    for own, other in zip(network.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(own, other - LR * other.grad)


def test_nodes_and_runs_share_no_secret():
    keys = []
    for run_id in (1, 2):
        inner = LocalGrid({node: app("dpsgd", node, secret=5) for node in NODES})
        for context in inner.contexts.values():
            context.run_id = run_id
        grid = SchemeGrid(inner, "dpsgd", model=net())
        run(FedAvg(**ALL), grid, ArrayRecord(grid.model.state_dict()), num_rounds=1)
        keys += [context.state[KEY]["secret"] for context in inner.contexts.values()]
    assert len({*keys}) == 6


# Keys and secure sums.


def test_a_client_that_vanishes_before_unmasking_is_in_the_sum():
    """Its codes have arrived: its weight and its examples count as its update does."""
    undisturbed, whole = federation("sga:threshold=2,colluders=0")
    expected = run(FedAvg(**ALL), whole, ArrayRecord(whole.model.state_dict()), num_rounds=1)
    inner, grid = federation("sga:threshold=2,colluders=0")

    def twist(reply, number):
        unmasking = len(inner.asked) > len(undisturbed.asked) - len(NODES)
        return [] if reply.metadata.src_node_id == 70 and unmasking else [reply]

    inner.twist = twist
    result = run(FedAvg(**ALL), grid, ArrayRecord(grid.model.state_dict()), num_rounds=1)
    assert grid.refused == {"client:0": "it has not answered"}
    for name, tensor in expected.arrays.to_torch_state_dict().items():
        torch.testing.assert_close(result.arrays.to_torch_state_dict()[name], tensor, atol=1e-6, rtol=0)


def test_more_dropouts_than_the_threshold_end_the_round_and_not_the_run():
    inner, grid = federation("sga:threshold=3")
    inner.silent = {70}
    with pytest.raises(GradwireError, match="none of 1 rounds has come to an end; the last: client:"):
        run(FedAvg(**(ALL | {"min_train_nodes": 2})), grid, ArrayRecord(grid.model.state_dict()), num_rounds=1)
    assert all("threshold is 3" in why or "has not answered" in why for why in grid.refused.values())
    inner.silent = set()
    run(FedAvg(**ALL), grid, ArrayRecord(grid.model.state_dict()), num_rounds=1)
    assert not grid.refused


def test_a_node_that_lost_its_keys_is_another_party_from_then_on(caplog):
    inner, grid = federation("sga:threshold=2,colluders=0")
    start = ArrayRecord(grid.model.state_dict())
    run(FedAvg(**ALL), grid, start, num_rounds=1)
    inner.contexts[70].state = RecordDict()
    with caplog.at_level(logging.WARNING, "gradwire"):
        run(FedAvg(**ALL), grid, start, num_rounds=1)
    assert grid.refused == {"client:0": "it has lost its keys, and is enrolled anew in its next round"}
    assert "client:0 has lost its keys of earlier rounds" in caplog.text
    run(FedAvg(**ALL), grid, start, num_rounds=1)
    assert not grid.refused
    assert grid.members.parties[70] == "client:3"


def test_a_residual_that_is_lost_is_said(caplog):
    inner, grid = federation("topk:ratio=0.1")
    start = ArrayRecord(grid.model.state_dict())
    run(FedAvg(**ALL), grid, start, num_rounds=1)
    inner.contexts[70].state = RecordDict()
    with caplog.at_level(logging.WARNING, "gradwire"):
        run(FedAvg(**ALL), grid, start, num_rounds=1)
    assert caplog.text.count("has lost its state") == 1
    assert not grid.refused


def test_a_server_that_changes_a_key_gets_nothing():
    _inner, grid = federation("sga")
    start = ArrayRecord(grid.model.state_dict())
    run(FedAvg(**ALL), grid, start, num_rounds=1)
    grid.members.keys["client:1"] = grid.members.keys["client:2"]
    FedAvg(**ALL).start(grid, start, 1)
    assert len(grid.refused) == 3
    assert all("another key of client:1 than before" in why for why in grid.refused.values())


def test_four_of_eight_nodes_with_secure_sums():
    nodes = dict.fromkeys(range(8), 5)
    NODES.update(dict.fromkeys(nodes, 5))
    try:
        inner = LocalGrid({node: app("sga:threshold=3", node) for node in nodes})
        grid = SchemeGrid(inner, "sga:threshold=3", model=net())
        result = run(
            FedAvg(fraction_train=0.5, min_available_nodes=8, fraction_evaluate=0.0),
            grid,
            ArrayRecord(grid.model.state_dict()),
            num_rounds=3,
        )
    finally:
        for node in nodes:
            del NODES[node]
    assert not grid.refused
    assert len(grid.members.keys) > 4
    assert result.arrays
