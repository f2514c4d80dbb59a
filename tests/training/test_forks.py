"""What a run comes to does not depend on how many processes its clients train in."""

from dataclasses import replace
from multiprocessing import active_children

import pytest
import torch
from torch import nn

from gradwire.data import partition
from gradwire.errors import GradwireError
from gradwire.schemes import parse
from gradwire.training import TrainSettings, begin, loop
from gradwire.training.cohort import staffed, way
from gradwire.training.forks import AVAILABLE
from gradwire.wire import InProcess, Transcript
from tests.training.test_federated import CLASSES, Pictures, network

pytestmark = pytest.mark.skipif(not AVAILABLE, reason="forks are for Linux")
HOW = {"clients": 7, "sample": 5, "rounds": 2, "local_epochs": 1, "batch_size": 3, "partition": "dirichlet:1.0"}


def dropping():
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Dropout(0.5), nn.Linear(16, CLASSES)).double()


def rounds(model, processes, pictures=None, between=lambda: None):
    """Losses and the last state after rounds in so many processes, two networks a batch."""
    settings, pictures = TrainSettings(**HOW), pictures or Pictures()
    state, scheme, losses = begin(settings, model), parse("none"), []
    shards = partition.split(settings.partition, pictures.labels, settings.clients, settings.seed)
    chosen = replace(way(settings, scheme, state.model, pictures, shards, 5), processes=processes)
    chosen = replace(chosen, size=min(chosen.size, 2))
    with staffed(chosen, state.model, settings, scheme, pictures, shards) as crew:
        for _ in range(settings.rounds):
            losses.append(loop.play_round(state, settings, pictures, shards, InProcess(Transcript(keep=0)), crew))
            between()
    return losses, state.model.state_dict()


@pytest.mark.parametrize("make", [network, lambda: network("norm"), dropping], ids=["layers", "alone", "dropout"])
def test_any_number_of_processes_comes_to_the_same(make):
    ends = [rounds(make(), processes) for processes in (1, 2, 3)]
    assert not active_children()
    for losses, state in ends[1:]:
        assert losses == ends[0][0]
        assert all(torch.equal(tensor, ends[0][1][name]) for name, tensor in state.items())


def test_the_work_of_a_process_that_dies_is_done_all_the_same():
    def kill():
        for process in active_children():
            process.kill()
            process.join()

    losses, state = rounds(network(), 3, between=kill)
    due, ends = rounds(network(), 1)
    assert losses == due
    assert all(torch.equal(tensor, ends[name]) for name, tensor in state.items())


def test_what_goes_wrong_in_another_process_is_seen_in_this_one():
    pictures = Pictures()
    pictures.labels[::3] = CLASSES
    with pytest.raises(GradwireError, match="label"):
        rounds(network("norm"), 2, pictures)
    assert not active_children()
