"""Every example's own gradient, of networks that `vmap` takes and of those that it does not."""

import warnings

import pytest
import torch
from torch import nn

from gradwire import capture
from gradwire.errors import GradwireError
from gradwire.training.gradient import example_gradients, gradient


class Recurrent(nn.Module):
    """A GRU or LSTM over the rows of an image."""

    def __init__(self, kind=nn.GRU):
        super().__init__()
        self.rnn, self.head = kind(8, 6, batch_first=True), nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.rnn(x[:, 0])[0][:, -1])


def normed(**options):
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.InstanceNorm2d(4, **options), nn.Flatten(), nn.Linear(144, 3))


class Branching(nn.Module):
    """Its way depends on what it sees."""

    def __init__(self):
        super().__init__()
        self.small, self.large = nn.Linear(64, 3), nn.Linear(64, 3)

    def forward(self, x):
        x = x.flatten(1)
        return self.large(x) if x.sum() > 32 else self.small(x)


class Attentive(nn.Module):
    """One layer of attention over the rows of an image."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        rows = x.unflatten(3, (2, 4)).transpose(2, 3).flatten(0, 1)
        return self.head(nn.functional.scaled_dot_product_attention(rows, rows, rows).mean(2).flatten(1))


NETWORKS = {
    "taken by vmap": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3)),
    "gru": Recurrent,
    "lstm": lambda: Recurrent(nn.LSTM),
    "rnn": lambda: Recurrent(nn.RNN),
    "instance norm with statistics": lambda: normed(affine=True, track_running_stats=True),
    "branching": Branching,
    "attentive": Attentive,
}


def batch(count=3):
    random = torch.Generator().manual_seed(0)
    return torch.rand(count, 1, 8, 8, generator=random), torch.arange(count) % 3


@pytest.mark.parametrize("name", NETWORKS)
def test_each_is_the_gradient_of_a_batch_of_one(name):
    torch.manual_seed(0)
    model = NETWORKS[name]()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    inputs, targets = batch()
    found = example_gradients(model, inputs, targets)
    for i in range(len(inputs)):
        _, alone, _ = gradient(model, inputs[i : i + 1], targets[i : i + 1])
        assert found.keys() == alone.keys()
        for key, value in alone.items():
            torch.testing.assert_close(found[key][i], value, atol=1e-6, rtol=1e-5)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_attention_runs_for_all_examples_at_once(monkeypatch):
    """A fused kernel would run for one after another under vmap, and torch would warn of it."""
    monkeypatch.setattr(torch, "stack", None)  # with which the gradients of one after another are put together
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(example_gradients(Attentive(), *batch())["head.weight"]) == 3


@pytest.mark.parametrize("name", ["gru", "branching"])
def test_dpsgd_clips_what_they_have(name):
    torch.manual_seed(0)
    view = capture(NETWORKS[name](), *batch(), "dpsgd:clip=1e-3,noise=0")
    (message,) = [m for m in view.messages if m.sender == view.victim]
    assert 0 < float(message.tensors["dense"].norm()) <= 1e-3 + 1e-8


def test_statistics_that_no_noise_covers_are_not_sent():
    inputs, targets = batch()
    with pytest.raises(
        GradwireError, match=r"buffer '1.running_mean' holds statistics of the examples, to which dpsgd"
    ):
        capture(normed(track_running_stats=True), inputs, targets, "dpsgd")
    assert capture(normed(track_running_stats=True), inputs, targets, "dpsgd", mode="eval")
    assert capture(normed(), inputs, targets, "dpsgd")
    assert capture(normed(track_running_stats=True), inputs, targets, "none")


def test_a_network_that_fails_on_one_example_says_so():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(64, 3)

        def forward(self, x):
            if len(x) < 2:
                raise ValueError("needs two")
            return self.head(x.flatten(1))

    with pytest.raises(GradwireError, match=r"model fails on images of shape .*one example at a time: .*needs two"):
        example_gradients(Pair(), *batch())
