"""Opened replies are what plain Flower gives strategies that compare clients; mods of noise and clipping, in order."""

import random

import pytest

pytest.importorskip("flwr")

import torch
from flwr.clientapp import ClientApp
from flwr.clientapp.mod import LocalDpMod, fixedclipping_mod
from flwr.serverapp import strategy as strategies
from flwr.serverapp.strategy import FedAvg

from gradwire.errors import GradwireError
from gradwire.integrations.flower import SchemeGrid, SchemeMod
from tests.integrations.flower.local import ArrayRecord, LocalGrid, Message, MetricRecord, RecordDict, app, parts

NODES = (1, 2, 3, 4, 5, 6, 7)
ALL = {"min_train_nodes": 7, "min_available_nodes": 7, "fraction_evaluate": 0.0}


def move(node, round, arrays):
    g = torch.Generator().manual_seed(100 * node + round)
    far = 1e6 if node == 3 else 1.0
    return {"w": arrays["w"] + far * torch.randn(9, 5, generator=g), "mean": arrays["mean"] + node}


def start():
    return {"w": torch.zeros(9, 5), "mean": torch.zeros(2)}


def played(strategy, spec, rounds=2, **how):
    random.seed(0)
    inner = LocalGrid({node: app(spec, node, move, 10 * node, node) for node in NODES})
    grid = inner if spec is None else SchemeGrid(inner, spec, ["w"], **how)
    result = strategy.start(grid, ArrayRecord(start()), num_rounds=rounds)
    return result.arrays.to_torch_state_dict(), grid


KINDS = {
    "FedAvg": {},
    "FedMedian": {},
    "FedTrimmedAvg": {"beta": 0.2},
    "Krum": {"num_malicious_nodes": 1},
    "MultiKrum": {"num_malicious_nodes": 1, "num_nodes_to_select": 2},
    "Bulyan": {"num_malicious_nodes": 1},
}


def made(name):
    if name.startswith("Diff"):
        return getattr(strategies, name)(FedAvg(**ALL), noise_multiplier=1e-9, clipping_norm=1.0, num_sampled_clients=7)
    return getattr(strategies, name)(**KINDS[name], **ALL)


@pytest.mark.parametrize("spec", ["none", "topk:ratio=1.0", "sparsify:drop=0"])
@pytest.mark.parametrize("name", [*KINDS, "DifferentialPrivacyServerSideFixedClipping"])
def test_opened_replies_are_what_plain_flower_gets(name, spec):
    expected, _ = played(made(name), None)
    arrays, grid = played(made(name), spec, replies="opened")
    assert not grid.refused
    for key, tensor in expected.items():
        torch.testing.assert_close(arrays[key].double(), tensor.double(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("spec", ["powersgd:rank=1", "qsgd", "topk:ratio=0.1", "randomk:ratio=0.2"])
def test_the_mean_of_opened_replies_is_the_mean(spec):
    opened, _ = played(FedAvg(**ALL), spec, replies="opened")
    mean, _ = played(FedAvg(**ALL), spec)
    for key, tensor in mean.items():
        torch.testing.assert_close(opened[key], tensor, rtol=1e-4, atol=1e-1)


@pytest.mark.parametrize("how", [{}, {"replies": "opened"}])
def test_noise_for_clipped_updates_is_not_added_to_others(how):
    clipped = strategies.DifferentialPrivacyClientSideFixedClipping(FedAvg(**ALL), 1.0, 1.0, num_sampled_clients=7)
    with pytest.raises(GradwireError, match="wants updates as clients have clipped them; scheme qsgd sends others"):
        played(clipped, "qsgd", **how)


def clipping_app(mods, by=100.0):
    made = ClientApp()

    @made.train(mods=mods)
    def train(message, context):
        arrays = {name: t + by for name, t in message.content["arrays"].to_torch_state_dict().items()}
        metrics = MetricRecord({"num-examples": 1})
        return Message(RecordDict({"arrays": ArrayRecord(arrays), "metrics": metrics}), reply_to=message)

    return made


def federated(mods, strategy, **how):
    inner = LocalGrid({node: clipping_app(mods) for node in NODES})
    grid = SchemeGrid(inner, "none", **how)
    return strategy.start(grid, ArrayRecord({"w": torch.zeros(4)}), 1), grid, inner


def test_clipping_at_the_client_stands_behind_the_mod():
    make = strategies.DifferentialPrivacyClientSideFixedClipping
    strategy = make(FedAvg(**ALL), 1e-9, 2.0, num_sampled_clients=7)
    result, _, _ = federated([SchemeMod("none"), fixedclipping_mod], strategy, replies="opened")
    torch.testing.assert_close(result.arrays.to_torch_state_dict()["w"].float(), torch.full((4,), 1.0))


def test_local_noise_behind_the_mod_is_sent_and_before_it_nothing_is():
    noisy = LocalDpMod(2.0, 1.0, 1.0, 1e-5)
    result, grid, _ = federated([SchemeMod("none"), noisy], FedAvg(**ALL))
    assert not grid.refused
    w = result.arrays.to_torch_state_dict()["w"]
    assert (w - 1).abs().max() < 10  # clipped to norm 2: not 100
    assert (w - 1).abs().max() > 0.1  # and noisy
    for mods in ([noisy, SchemeMod("none")], [fixedclipping_mod, SchemeMod("none")]):
        _, grid, inner = federated(mods, FedAvg(**ALL))
        assert len(grid.refused) == 7
        assert not any(parts(reply) for reply in inner.replied)
