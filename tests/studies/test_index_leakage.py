import dataclasses

import pytest
import torch

from gradwire import capture, data, models
from gradwire.attacks.inversion.labels.infer import labels_from_indices
from gradwire.errors import GradwireError
from gradwire.metrics.intervals import wilson
from gradwire.studies.index_leakage import index_leakage
from gradwire.training import TrainSettings, begin, train
from gradwire.wire import Message


@pytest.fixture(scope="module")
def digits():
    return data.load("digits")


def network(digits, rounds=0):
    model = models.build("convnet", digits.shape, digits.outputs, digits.mean, digits.std, seed=0)
    if rounds:
        settings = TrainSettings(scheme="none", clients=1, rounds=rounds)
        train(begin(settings, model), settings, data.load("digits", "train"))
    return model


@pytest.mark.parametrize("scheme", ["topk:ratio=0.01", "topk:match_rank=1", "topk:ratio=0.01,per=model"])
@pytest.mark.parametrize(("rounds", "batch"), [(0, 1), (0, 2), (0, 4), (100, 1), (100, 2)])
def test_positions_alone_beat_chance(digits, scheme, rounds, batch):
    leak = index_leakage(network(digits, rounds), digits, scheme, victims=40, batch=batch)
    assert leak.low > leak.chance


def test_an_untrained_network_gives_the_label_of_one_image_away(digits):
    assert index_leakage(network(digits), digits, "topk:ratio=0.01", victims=50).accuracy == 1


@pytest.mark.parametrize("batch", [1, 3])
def test_values_are_not_read(digits, batch):
    view = capture(network(digits), *digits.batch(range(batch)), "topk:ratio=0.05", targets_known=False)
    poisoned = tuple(
        Message(**{**vars(m), "tensors": {**m.tensors, "values": torch.randn_like(m.tensors["values"])}})
        for m in view.messages
    )
    before = labels_from_indices(view, batch)
    assert torch.equal(before, labels_from_indices(dataclasses.replace(view, messages=poisoned), batch))


def test_wilsons_interval_is_the_known_one():
    low, high = wilson(0.5, 100)
    assert low == pytest.approx(0.4038, abs=1e-4)
    assert high == pytest.approx(0.5962, abs=1e-4)
    assert wilson(1, 10)[1] == 1
    assert wilson(0, 10)[0] == 0


def test_bad_input(digits):
    with pytest.raises(GradwireError, match="'none' sends no positions"):
        index_leakage(network(digits), digits, "none", victims=1)
    with pytest.raises(GradwireError, match="victims is 0"):
        index_leakage(network(digits), digits, "topk:ratio=0.1", victims=0)
