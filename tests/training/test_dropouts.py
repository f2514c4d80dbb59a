"""Clients that vanish in the middle of a round: the round is that of the others, or none."""

import pytest
import torch

from gradwire import data, models
from gradwire.errors import GradwireError, TooFewError, WireError
from gradwire.seeds import generator
from gradwire.training import TrainSettings, begin, train
from gradwire.training.batches import batch_indices
from gradwire.training.gradient import gradient
from gradwire.wire import InProcess, Transcript, client

BASE = {"clients": 6, "batch_size": 8, "rounds": 1, "lr": 0.1, "momentum": 0.0, "drop_clients": 0.3, "seed": 3}


def trained(**changed):
    settings, dataset = TrainSettings(**BASE | changed), data.load("digits", "train")
    model = models.build(changed.pop("model", "lenet"), dataset.shape, dataset.outputs, seed=0)
    state, transport = begin(settings, model), InProcess(Transcript())
    train(state, settings, dataset, transport)
    return state, transport


def survivors(settings):
    """Clients that send one message and stay for it, and the mean of their gradients."""
    dataset = data.load("digits", "train")
    model = models.build("lenet", dataset.shape, dataset.outputs, seed=0)
    clients = tuple(map(client, range(settings.clients)))
    chances = {p: torch.rand((), generator=generator("dropouts", settings.seed, 0, p)) for p in clients}
    stayed = [p for p in clients if chances[p] >= settings.drop_clients]
    shards = data.partition.split(settings.partition, dataset.targets, settings.clients, settings.seed)
    found = []
    for party in stayed:
        shard = shards[clients.index(party)]
        batch = dataset.batch(batch_indices(shard, party, 0, settings.batch_size, settings.seed))
        found.append(gradient(model, *batch)[1])
    mean = {name: sum(g[name] for g in found) / len(found) for name in found[0]}
    return stayed, {name: p.detach() - settings.lr * mean[name] for name, p in model.named_parameters()}


def test_a_plain_round_is_the_mean_of_those_who_stayed():
    settings = TrainSettings(**BASE)
    stayed, expected = survivors(settings)
    assert 0 < len(stayed) < 6
    state, transport = trained()
    assert {m.sender for m in transport.transcript.messages() if m.sender != "server"} == set(stayed)
    assert state.dropped == 6 - len(stayed)
    for name, parameter in state.model.named_parameters():
        torch.testing.assert_close(parameter.detach(), expected[name])


@pytest.mark.parametrize("spec", ["sga:threshold=4,colluders=1", "ssga:compression=5,threshold=4,colluders=1"])
def test_a_robust_sum_is_exactly_that_of_the_clients_whose_codes_arrived(spec):
    state, transport = trained(scheme=spec, drop_clients=0.05, seed=2, rounds=3)
    assert state.dropped > 0
    for index in range(3):
        messages = [m for m in transport.transcript.messages() if m.round == index]
        arrived = sum(m.phase == "masked" and m.sender != "server" for m in messages)
        (told,) = (m.tensors for m in messages if m.phase == "unmask" and m.sender == "server")
        assert int(told["contributors"]) == arrived


@pytest.mark.parametrize(
    "spec", ["topk:ratio=0.1", "randomk:ratio=0.1", "powersgd", "dgc:ratio=0.1", "qsgd", "signsgd", "noise:std=0.01"]
)
def test_every_scheme_goes_on_without_those_who_left(spec):
    state, _ = trained(scheme=spec, rounds=4)
    assert state.round == 4
    assert state.dropped > 0
    assert all(p.isfinite().all() for p in state.model.parameters())


@pytest.mark.parametrize("spec", ["sga", "sga:threshold=6"])
def test_too_few_end_the_run_or_skip_the_round(spec):
    with pytest.raises(TooFewError, match=r"round 0, phase '.*'.*(missing|clients are left, threshold is 6)"):
        trained(scheme=spec)
    state, _ = trained(scheme=spec, rounds=3, on_few="skip")
    assert (state.round, state.short, state.taken) == (3, 3, 0)
    untouched = models.build("lenet", (1, 8, 8), 10, seed=0)
    for name, parameter in state.model.named_parameters():
        assert torch.equal(parameter, untouched.get_parameter(name))
    assert state.bytes_up > 0


def test_pairwise_masks_go_on_after_a_skipped_round():
    state, _ = trained(scheme="sga", drop_clients=0.03, rounds=12, on_few="skip")
    assert 0 < state.short < 12
    assert state.taken > 1


def test_a_fault_is_no_dropout():
    """What is wrong with a message is never skipped over."""
    assert not issubclass(WireError, TooFewError)
    with pytest.raises(GradwireError, match="fewer than the 6 clients"):
        trained(scheme="ssga:compression=100000", on_few="skip", drop_clients=0.0)


def test_the_schedule_is_the_seeds():
    first, _ = trained(rounds=4)
    second, _ = trained(rounds=4)
    other, _ = trained(rounds=4, seed=4)
    assert first.dropped == second.dropped
    one, same, another = (next(iter(state.model.parameters())) for state in (first, second, other))
    assert torch.equal(one, same)
    assert not torch.equal(one, another)


def test_what_cannot_be():
    with pytest.raises(GradwireError, match=r"drop_clients is 1.0; it must be in \[0, 1\)"):
        TrainSettings(drop_clients=1.0)
    with pytest.raises(GradwireError, match="unknown on_few 'wait'; known: stop, skip"):
        TrainSettings(on_few="wait")
