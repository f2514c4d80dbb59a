import pytest
import torch

from gradwire.errors import GradwireError
from gradwire.schemes import codec
from gradwire.schemes.codec_layers import Layers
from gradwire.schemes.layout import Layout
from gradwire.schemes.round import Round
from tests.schemes.rounds import random_update

SHAPES = {"conv.weight": (4, 2, 3, 3), "conv.bias": (4,), "zeros": (5,)}
LAYOUT = Layout(SHAPES)


def weights():
    random = torch.Generator().manual_seed(0)
    return 2 * torch.cat([codec.initial(half, random) for half in codec.HALVES]).double()  # lest little gets through


def layers(size=1.0):
    start = {name: size * tensor.double() for name, tensor in random_update(1, SHAPES).items()}
    start["zeros"] = torch.zeros(5, dtype=torch.float64)
    return Layers.of(Round(0, ("client:0",), 0, LAYOUT, start=start))


def made(of, vector):
    return of.decode(codec.halves(weights())[1], of.encode(weights(), vector))


def test_every_tensor_is_divided_by_its_size_and_goes_through_the_codec_by_itself():
    of = layers()
    left = LAYOUT.unflatten(made(of, of.start))
    for name, tensor in LAYOUT.unflatten(of.start).items():
        size = tensor.square().mean().sqrt() if name != "zeros" else torch.ones(())
        alone = size * codec.rebuilt(weights(), tensor.reshape(-1) / size)
        torch.testing.assert_close(left[name].reshape(-1), alone)
    assert of.encode(weights(), of.start).numel() == sum(of.sizes.values())


def test_how_large_the_parameters_are_makes_no_difference():
    small, large = layers(), layers(1000.0)
    nonzero = slice(0, 76)  # what is divided by 1 stays as large as it is
    torch.testing.assert_close(made(large, large.start)[nonzero], 1000 * made(small, small.start)[nonzero])


def test_a_round_without_parameters():
    with pytest.raises(GradwireError, match="has to be told those that the round begins with"):
        Layers.of(Round(0, ("client:0",), 0, LAYOUT))
