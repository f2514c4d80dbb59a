"""Schemes with a say in training, in the round loop: resumed, sampled, and what is on no difference of parameters."""

import pytest
import torch

from gradwire import data, models
from gradwire.errors import GradwireError
from gradwire.training import TrainSettings, begin, evaluate, train

AUTOENCODER = "autoencoder:warmup_rounds=2,warmup_iterations=1,passes=1"


@pytest.fixture(scope="module")
def digits():
    return data.load("digits", "train")


def fresh(dataset):
    return models.build("convnet", dataset.shape, dataset.num_classes, dataset.mean, dataset.std, seed=0)


@pytest.mark.parametrize("scheme", ["dpsgd", "precode:bottleneck=8", AUTOENCODER])
def test_a_resumed_run_ends_where_an_uninterrupted_one_does(digits, scheme, tmp_path):
    def settings(rounds):
        return TrainSettings(scheme=scheme, rounds=rounds, clients=3, sample=2, local_steps=1, batch_size=8)

    whole = begin(settings(4), fresh(digits))
    train(whole, settings(4), digits)
    first = begin(settings(3), fresh(digits))
    train(first, settings(3), digits)
    first.save(tmp_path / "checkpoint.safetensors", settings(3))
    second = begin(settings(4), fresh(digits))
    second.restore(tmp_path / "checkpoint.safetensors", settings(4))
    train(second, settings(4), digits)
    assert (second.round, second.bytes_up, second.bytes_down) == (4, whole.bytes_up, whole.bytes_down)
    for p, q in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(p, q)


@pytest.mark.parametrize("scheme", ["dpsgd:clip=5,noise=0.05", "precode:bottleneck=16"])
def test_learns(digits, scheme):
    settings = TrainSettings(scheme=scheme, clients=2, rounds=60, lr=0.1)
    state = begin(settings, fresh(digits))
    train(state, settings, digits)
    assert evaluate(state.model, data.load("digits", "test"))[1] > 0.8


def test_gradients_are_not_what_an_autoencoder_sends(digits):
    settings = TrainSettings(scheme=AUTOENCODER, clients=2, rounds=1)
    with pytest.raises(GradwireError, match="autoencoder sends what local steps make of the parameters"):
        train(begin(settings, fresh(digits)), settings, digits)
