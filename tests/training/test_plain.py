"""Plain training without a wire is what the round loop does with scheme `none`, in whatever way it is computed."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import nn

from gradwire import data, models
from gradwire.data import partition
from gradwire.errors import GradwireError
from gradwire.tasks import CrossEntropy, NextToken, Task, Tokens
from gradwire.training import TrainSettings, begin, train
from gradwire.training.batches import batch_indices, schedule
from gradwire.training.plain import Speed, fit, fits, resident
from gradwire.wire import client

DIGITS = data.load("digits", "train", 150)
SETTINGS = TrainSettings(clients=3, rounds=9, batch_size=7, lr=0.1, weight_decay=1e-3)


def started(settings, model="lenet"):
    net = models.build(model, DIGITS.shape, 10, DIGITS.mean, DIGITS.std, settings.seed)
    return begin(settings, net)


def batches(settings, rounds):
    shards = partition.split(settings.partition, DIGITS.targets, settings.clients, settings.seed)
    return schedule(shards, rounds, settings.batch_size, settings.seed)


def parameters(state):
    return torch.cat([p.detach().flatten() for p in state.model.parameters()])


def close(one, other):
    torch.testing.assert_close(parameters(one), parameters(other), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("options", [{}, {"optimizer": "adam", "lr": 0.01}, {"schedule": "cosine", "nesterov": True}])
def test_it_ends_where_the_round_loop_ends(options):
    settings = replace(SETTINGS, **options)
    looped, fast = started(settings), started(settings)
    train(looped, settings, DIGITS)
    fit([fast], settings, DIGITS.task, resident(DIGITS, "cpu"), [batches(settings, settings.rounds)])
    assert fast.round == looped.round
    close(fast, looped)


@pytest.mark.parametrize("together", [1, 2])
def test_the_round_loop_can_go_on_from_there(together):
    seeds = [replace(SETTINGS, seed=seed) for seed in range(together)]
    states = [started(settings) for settings in seeds]
    fit(states, SETTINGS, DIGITS.task, resident(DIGITS, "cpu"), [batches(settings, 5) for settings in seeds])
    for settings, state in zip(seeds, states, strict=True):
        train(state, settings, DIGITS)
        whole = started(settings)
        train(whole, settings, DIGITS)
        close(state, whole)


def test_networks_together_come_out_as_each_alone():
    seeds = [replace(SETTINGS, seed=seed, clients=1) for seed in range(3)]
    schedules = [batches(settings, 3) for settings in seeds]
    together, alone = ([started(settings, "resnet20") for settings in seeds] for _ in range(2))
    fit(together, seeds[0], DIGITS.task, resident(DIGITS, "cpu"), schedules)
    for settings, state, chosen in zip(seeds, alone, schedules, strict=True):
        fit([state], settings, DIGITS.task, resident(DIGITS, "cpu"), [chosen])
    for one, other in zip(together, alone, strict=True):
        close(one, other)
        for name, buffer in one.model.named_buffers():
            torch.testing.assert_close(buffer, other.model.get_buffer(name), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("speed", [Speed(channels_last=True), Speed(precision="bf16")])
def test_speed_changes_rounding_only(speed):
    plain, fast = started(SETTINGS), started(SETTINGS)
    schedules = [batches(SETTINGS, 9)]
    fit([plain], SETTINGS, DIGITS.task, resident(DIGITS, "cpu"), schedules)
    fit([fast], SETTINGS, DIGITS.task, resident(DIGITS, "cpu"), schedules, speed)
    moved = parameters(plain) - parameters(started(SETTINGS))
    assert (parameters(fast) - parameters(plain)).norm() < 0.05 * moved.norm()


def test_a_schedule_is_every_clients_batch_of_every_round():
    shards = partition.split("iid", DIGITS.targets, 4, 1)
    expected = [
        torch.cat([batch_indices(shard, client(i), round, 11, 5) for i, shard in enumerate(shards)])
        for round in range(8)
    ]
    assert torch.equal(schedule(shards, 8, 11, 5), torch.stack(expected))
    assert schedule(shards, 0, 11, 5).shape == (0, 44)


def test_what_it_cannot_stand_in_for():
    lenet, resnet = (models.build(name, DIGITS.shape, 10, seed=0) for name in ("lenet", "resnet20"))
    assert fits(SETTINGS, lenet)
    assert fits(replace(SETTINGS, clients=1), resnet)
    assert not fits(SETTINGS, resnet)
    assert not fits(SETTINGS, lenet, [torch.arange(50), torch.arange(SETTINGS.batch_size - 1)])
    for options in ({"sample": 2}, {"local_steps": 1}, {"average": "weighted"}):
        assert not fits(replace(SETTINGS, **options), lenet)
    for scheme in ("topk:ratio=0.5", "noise:std=0.1", "none+sga"):
        assert not fits(replace(SETTINGS, scheme=scheme), lenet)


def test_how_many_share_a_step_depends_on_network_and_device():
    lenet, mlp = (models.build(name, (1, 8, 8), 10, seed=0) for name in ("lenet", "mlp"))
    assert Speed().lot(lenet, "cpu") == Speed().lot(mlp, "cpu") == 1
    assert Speed().lot(lenet, "cuda") > 1
    assert Speed().lot(models.build("resnet18", (3, 8, 8), 10), "cuda") == 1
    assert Speed(together=3).lot(mlp, "cpu") == 3


def test_divergence_is_told():
    state = started(SETTINGS, "convnet")
    broken = copy.deepcopy(state.model.state_dict())
    broken["head.bias"].fill_(float("inf"))
    state.model.load_state_dict(broken)
    with pytest.raises(GradwireError, match="diverged"):
        fit([state], SETTINGS, DIGITS.task, resident(DIGITS, "cpu"), [batches(SETTINGS, 1)])


@pytest.mark.parametrize(("options", "says"), [({"together": -1}, "together is -1"), ({"precision": "fp8"}, "fp8")])
def test_what_cannot_be_is_refused(options, says):
    with pytest.raises(GradwireError, match=says):
        Speed(**options)


def test_a_loss_that_is_no_mean_over_examples_fits_for_one_client_only():
    """The mean of two clients' means over tokens is not the mean over all tokens."""
    model, tokens = nn.Linear(2, 2), Tokens(4, ("a", "b"), None)
    for loss, several in ((NextToken(None), False), (CrossEntropy(("a", "b")), True)):
        task = Task(tokens, loss)
        assert fits(SETTINGS, model, task=task) == several
        assert fits(replace(SETTINGS, clients=1), model, task=task)
