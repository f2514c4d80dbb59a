import pytest
import torch

from gradwire.errors import GradwireError
from gradwire.schemes.codec import network
from gradwire.schemes.codec.initial import drawn
from gradwire.schemes.codec.layers import Layers, beginning, code_sizes
from gradwire.schemes.layout import Layout
from gradwire.schemes.round import Round
from tests.schemes.rounds import random_update

SHAPES = {"conv.weight": (4, 2, 3, 3), "conv.bias": (4,), "zeros": (5,)}
LAYOUT = Layout(SHAPES, dict.fromkeys(SHAPES, torch.float64))


def weights():
    random = torch.Generator().manual_seed(0)
    return 2 * torch.cat([drawn(half, random) for half in network.HALVES]).double()  # lest little gets through


def start(size=1.0):
    start = {name: size * tensor.double() for name, tensor in random_update(1, SHAPES).items()}
    start["zeros"] = torch.zeros(5, dtype=torch.float64)
    return Round(0, ("client:0",), 0, LAYOUT, start=start)


def made(of, vector):
    return of.decode(network.halves(weights())[1], of.encode(weights(), vector))


def test_every_tensor_is_divided_by_its_size_and_goes_through_the_codec_by_itself():
    of, parameters = Layers.of(start()), beginning(start())
    left = LAYOUT.unflatten(made(of, parameters))
    for name, tensor in LAYOUT.unflatten(parameters).items():
        size = tensor.square().mean().sqrt() if name != "zeros" else torch.ones(())
        alone = size * network.rebuilt(weights(), tensor.reshape(-1) / size)
        torch.testing.assert_close(left[name].reshape(-1), alone)
    assert of.encode(weights(), parameters).numel() == sum(code_sizes(LAYOUT).values())


def test_how_large_the_parameters_are_makes_no_difference():
    small, large = ((Layers.of(start(size)), beginning(start(size))) for size in (1.0, 1000.0))
    nonzero = slice(0, 76)  # what is divided by 1 stays as large as it is
    torch.testing.assert_close(made(*large)[nonzero], 1000 * made(*small)[nonzero])


def test_a_round_without_parameters():
    with pytest.raises(GradwireError, match="has to be told those that the round begins with"):
        Layers.of(Round(0, ("client:0",), 0, LAYOUT))
