"""A network with batch norm, some of the nodes a round, server optimisers: what plain Flower's runs come to."""

import random

import pytest

pytest.importorskip("flwr")

import torch
from flwr.clientapp import ClientApp
from flwr.serverapp import strategy as strategies

from gradwire import data
from gradwire.integrations.flower import SchemeGrid, SchemeMod, local_steps, run
from tests.integrations.flower.local import ArrayRecord, LocalGrid, Message, MetricRecord, RecordDict

NODES = range(8)
ROUNDS = 3
DIGITS = data.load("digits")


def net(model):
    """In float64: batch norm over few examples amplifies the rounding of float32 within three rounds to 1e-4."""
    return DIGITS.network(model, seed=0, raw=True).double()


def app(spec, node, model):
    made = ClientApp()

    @made.train(mods=[] if spec is None else [SchemeMod(spec, secret=1)])
    def train(message, context):
        network = net(model)
        network.load_state_dict(message.content["arrays"].to_torch_state_dict())
        inputs, targets = DIGITS.batch(range(20 * node, 20 * node + 4 + node))
        local_steps(network, inputs.double(), targets, lr=0.05, batch=len(inputs))
        metrics = MetricRecord({"num-examples": len(inputs)})
        return Message(RecordDict({"arrays": ArrayRecord(network.state_dict()), "metrics": metrics}), reply_to=message)

    return made


def trained(name, model, spec):
    random.seed(0)
    inner = LocalGrid({node: app(spec, node, model) for node in NODES})
    start = net(model)
    sampling = {"fraction_train": 0.5, "min_train_nodes": 4, "min_available_nodes": 8, "fraction_evaluate": 0.0}
    options = {"proximal_mu": 0.1} if name == "FedProx" else {}
    strategy = getattr(strategies, name)(**sampling, **options)
    arrays = ArrayRecord(start.state_dict())
    if spec is None:
        return strategy.start(inner, arrays, num_rounds=ROUNDS).arrays.to_torch_state_dict(), start
    grid = SchemeGrid(inner, spec, model=start)
    found = run(strategy, grid, arrays, num_rounds=ROUNDS).arrays.to_torch_state_dict()
    assert not grid.refused
    assert len(grid.members.parties) > 4
    return found, start


@pytest.mark.parametrize(
    ("name", "model"),
    [
        *((name, "resnet20") for name in ("FedAvg", "FedProx", "FedAvgM", "FedAdam")),
        pytest.param("FedAvg", "resnet18", marks=pytest.mark.slow),
    ],
)
def test_a_network_with_batch_norm_ends_where_plain_flower_does(name, model, monkeypatch):
    # The order of a batch shows in rounding, which batch norm amplifies.
    monkeypatch.setattr(torch, "randperm", lambda n, **_: torch.arange(n))
    plain, start = trained(name, model, None)
    through, _ = trained(name, model, "none")
    assert {key: t.dtype for key, t in through.items()} == {key: t.dtype for key, t in start.state_dict().items()}
    own = {key for key, _ in start.named_parameters()}
    if name in ("FedAvg", "FedProx"):  # a server's optimiser moves plain Flower's statistics, too
        own |= {key for key, t in start.state_dict().items() if t.is_floating_point()}
    for key in own:
        torch.testing.assert_close(through[key], plain[key].to(through[key].dtype), atol=1e-5, rtol=1e-4)
