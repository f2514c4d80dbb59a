"""What a scheme has clients do while they train reaches training and capture alike."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from gradwire import capture, models
from gradwire.errors import GradwireError
from gradwire.schemes import Layout, LocalStepHook, Round, observation, parse
from gradwire.schemes.none import PlainSGD
from gradwire.training import gradient
from gradwire.training.client import Descent, contribution
from gradwire.training.gradient import example_gradients


@dataclass(frozen=True)
class Halving(PlainSGD, LocalStepHook):
    """Follows half the gradient, halves what a step leaves, and counts both in its state."""

    per_example = True

    @property
    def step_hook(self):
        return self

    def before_step(self, gradient, private, step):
        state = {**private, "directed": private.get("directed", torch.zeros(())) + step.examples}
        return {name: g.mean(0) / 2 for name, g in gradient.items()}, state

    def after_step(self, parameters, private, step):
        state = {**private, "settled": torch.tensor([step.index, step.steps, step.last])}
        return {name: p / 2 for name, p in parameters.items()}, state


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    return torch.rand(4, 1, 8, 8, generator=generator), torch.randint(10, (4,), generator=generator)


@pytest.fixture
def model():
    return models.build("convnet", (1, 8, 8), 10, seed=0)


GRADIENT = Descent([torch.arange(4)], [0], local=False)


def came(model, batch, scheme, steps=GRADIENT):
    round = Round(0, ("client:0",), 0, Layout.of_model(model))
    return contribution(model, *batch, scheme, "client:0", {}, round, steps)


def test_examples_gradients_have_the_batchs_as_their_mean(model, batch):
    _, mean, _ = gradient(model, *batch)
    for name, own in example_gradients(model, *batch).items():
        assert own.shape == (4, *mean[name].shape)
        torch.testing.assert_close(own.mean(0), mean[name], atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(own[1], gradient(model, batch[0][1:2], batch[1][1:2])[1][name], atol=1e-6, rtol=1e-4)


def test_examples_that_batch_norm_mixes_have_none(batch):
    norm = models.build("resnet20", (1, 8, 8), 10, seed=0)
    with pytest.raises(GradwireError, match="'norm' is batch norm, which mixes a batch"):
        example_gradients(norm, *batch)
    assert example_gradients(norm, *batch, mode="eval")


def test_a_hook_changes_one_gradient_and_not_what_it_leaves(model, batch):
    found = came(model, batch, Halving())
    for name, g in gradient(model, *batch)[1].items():
        torch.testing.assert_close(found.update[name], g / 2, atol=1e-6, rtol=1e-4)
    assert found.private == {"directed": 4}


def test_a_hook_changes_every_local_step_and_what_it_leaves(model, batch):
    found = came(model, batch, Halving(), Descent([torch.arange(4)] * 2, [0, 1], 0.1))
    before = {name: p.detach() for name, p in model.named_parameters()}
    by_hand = models.build("convnet", (1, 8, 8), 10, seed=0)
    for _ in range(2):
        slope = gradient(by_hand, *batch)[1]
        with torch.no_grad():
            for name, p in by_hand.named_parameters():
                p.copy_((p - 0.1 * slope[name] / 2) / 2)
    for name, p in by_hand.named_parameters():
        torch.testing.assert_close(found.update[name], before[name] - p.detach(), atol=1e-6, rtol=1e-4)
    assert found.private["directed"] == 8
    assert found.private["settled"].tolist() == [1, 2, 1]


def test_what_a_network_draws_is_decided_by_round_and_party(batch):
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))
    layout = Layout.of_model(net)

    def head(party, index):
        round = Round(index, ("client:0", "client:1"), 0, layout)
        torch.rand(1)
        return contribution(net, *batch, parse("none"), party, {}, round, GRADIENT).update["2.weight"]

    assert torch.equal(head("client:0", 0), head("client:0", 0))
    assert not torch.equal(head("client:0", 0), head("client:1", 0))
    assert not torch.equal(head("client:0", 0), head("client:0", 1))


def test_a_round_begins_with_the_parameters_in_the_view(model, batch):
    _, seen = observation(capture(model, *batch))
    for name, p in model.named_parameters():
        assert torch.equal(seen.round.start[name], p.detach())
