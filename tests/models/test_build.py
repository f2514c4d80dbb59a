import re

import pytest
import torch

from gradwire import models
from gradwire.errors import GradwireError

SHAPE = (3, 8, 8)


def test_the_known_names() -> None:
    of_images = ("mlp", "lenet", "convnet", "cnn", "resnet18", "resnet20", "resnet110", "resnet50")
    assert models.names() == (*of_images, "bert", "gpt2", "pretrained")


@pytest.mark.parametrize("name", ["mlp", "lenet", "convnet", "resnet20"])
def test_a_seed_decides_and_leaves_the_global_generator_alone(name: str) -> None:
    before = torch.random.get_rng_state()
    first, again, other = (models.build(name, SHAPE, 10, seed=seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not all(torch.equal(first[key], other[key]) for key in first)


def test_without_a_seed_the_global_generator_decides() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        first = models.build("mlp", SHAPE, 10).state_dict()
        torch.manual_seed(0)
        again = models.build("mlp", SHAPE, 10).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)


@pytest.mark.parametrize("name", [name for name in models.names() if name not in ("bert", "gpt2", "pretrained")])
def test_normalisation_changes_no_name_and_no_initial_value(name: str) -> None:
    plain = models.build(name, SHAPE, 10, seed=0).state_dict()
    normalized = models.build(name, SHAPE, 10, [0.4] * 3, [0.2] * 3, seed=0).state_dict()
    assert list(plain) == list(normalized)
    assert all(torch.equal(plain[key], normalized[key]) for key in plain)


def test_normalisation_is_the_first_layer() -> None:
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)
    images = torch.rand(2, *SHAPE)
    by_hand = torch.stack([(images[:, c] - mean[c]) / std[c] for c in range(3)], dim=1)
    torch.testing.assert_close(models.Normalize(mean, std)(images), by_hand)
    plain, normalized = models.build("mlp", SHAPE, 10, seed=0), models.build("mlp", SHAPE, 10, mean, std, seed=0)
    torch.testing.assert_close(normalized(images), plain(by_hand))


def test_parameter_names_are_short() -> None:
    names = [name for name, _ in models.build("mlp", SHAPE, 10, [0.4] * 3, [0.2] * 3).named_parameters()]
    assert names == ["hidden1.weight", "hidden1.bias", "hidden2.weight", "hidden2.bias", "head.weight", "head.bias"]


@pytest.mark.parametrize("shape", [(7,), (8, 8), SHAPE])
def test_an_mlp_takes_inputs_of_any_shape_and_says_how_wide_it_is(shape: tuple[int, ...]) -> None:
    net = models.build("mlp:hidden=100", shape, 3, seed=0)
    assert net(torch.rand(5, *shape)).shape == (5, 3)
    assert [net.hidden1.out_features, net.hidden2.in_features, net.hidden2.out_features] == [100, 100, 100]
    assert models.build("mlp", shape, 3).hidden1.out_features == 256


def test_frozen_parameters_count() -> None:
    layer = torch.nn.Linear(3, 2).requires_grad_(False)
    assert models.parameter_count(layer) == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ("vgg", SHAPE, 10),
            "unknown model 'vgg'; known: mlp, lenet, convnet, cnn, resnet18, resnet20, resnet110, res",
        ),
        (("mlp", (), 10), "the shape of an input is ()"),
        (("mlp", (0, 8, 8), 10), "the shape of an input is (0, 8, 8)"),
        (("mlp", SHAPE, -1), "a model for -1 classes"),
        (("mlp:hidden=0", (7,), 2), "model 'mlp:hidden=0': hidden is 0; it must be at least 1"),
        (("mlp:width=9", (7,), 2), "cannot read 'width=9'; mlp takes hidden, as key=value"),
        (("lenet", (7,), 2), "model 'lenet' is a network of images (channels, height, width); inputs have shape (7,)"),
        (("resnet20", (8, 8), 2), "inputs have shape (8, 8): take mlp, or a network of your own"),
        (("mlp", SHAPE, 10, [0.5] * 3), "give both or neither"),
        (("mlp", SHAPE, 10, None, [0.5] * 3), "give both or neither"),
        (("mlp", SHAPE, 10, [0.5], [0.5]), "mean has 1 channels and the images have 3"),
        (("mlp", SHAPE, 10, [0.5] * 3, [0.5] * 2), "mean has 3 channels and std 2"),
        (("mlp", SHAPE, 10, [0.5] * 3, [0.5, 0.0, 0.5]), "each channel's must be above 0"),
    ],
)
def test_what_cannot_be_is_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(GradwireError, match=re.escape(message)):
        models.build(*arguments)
