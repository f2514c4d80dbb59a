import copy

import pytest
import torch
from torch import nn

from gradwire.data import partition
from gradwire.training import TrainSettings, begin, loop
from gradwire.training.cohort import Way
from gradwire.training.dropout_layers import OwnDropout, with_own_dropout
from gradwire.wire import InProcess, Transcript
from tests.training.test_federated import CLASSES, Pictures


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, CLASSES)).double()


def test_it_drops_and_scales_as_dropout_does_and_leaves_the_global_generator_alone():
    layer, before = OwnDropout(0.25, torch.Generator().manual_seed(0)), torch.get_rng_state()
    found = layer(torch.ones(10_000))
    assert found.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert float(found.mean()) == pytest.approx(1, abs=0.03)  # standard deviation 0.006
    assert torch.equal(layer.eval()(torch.ones(5)), torch.ones(5))
    assert torch.equal(before, torch.get_rng_state())


def test_the_seed_decides_and_copies_draw_on():
    images = torch.rand(2, 1, 8, 8, dtype=torch.float64)
    first, again, other = (with_own_dropout(network(), seed) for seed in (1, 1, 2))
    assert torch.equal(first(images), again(images))
    assert not torch.equal(first(images), other(images))
    assert not torch.equal(first(images), copy.deepcopy(first)(images))


def test_clients_with_dropout_train_alike_in_any_number_of_threads():
    settings, pictures = TrainSettings(clients=4, rounds=1, local_epochs=1, batch_size=5), Pictures()
    shards, ends = partition.split("iid", pictures.labels, 4, 0), []
    for threads in (2, 4):
        state = begin(settings, network())
        loop.play_round(state, settings, pictures, shards, InProcess(Transcript(keep=0)), Way(None, threads=threads))
        ends.append(state.model.state_dict())
    for name, tensor in ends[0].items():
        assert torch.equal(tensor, ends[1][name])
