import torch

from gradwire.schemes.codec import affine, network
from gradwire.schemes.codec.layers import Layers
from gradwire.schemes.layout import Layout
from gradwire.schemes.round import Round
from tests.schemes.rounds import random_update

SHAPES = {"conv.weight": (3, 1, 5, 5), "bias": (7,), "none": (0,), "head": (32,), "one": (1,)}


def test_it_is_the_autoencoders_derivative_in_every_direction_and_no_more():
    """Beside plain differentiation, at random weights and for tensors whose lengths are no multiples of 16."""
    layout = Layout(SHAPES, dict.fromkeys(SHAPES, torch.float64))
    start = {name: tensor.double() for name, tensor in random_update(1, SHAPES).items()}
    layers = Layers.of(Round(0, ("client:0",), 0, layout, start=start))
    random = torch.Generator().manual_seed(0)
    weights = 0.1 * torch.randn(sum(half.size for half in network.HALVES.values()), generator=random).double()

    def made(vector):
        return layers.decode(network.halves(weights)[1], layers.encode(weights, vector))

    at = layout.flatten(start)
    state = affine.tangent(weights, at, layers)
    assert set(state) == set(affine.AFFINE)
    torch.testing.assert_close(state["made"], made(at))
    jacobian = torch.autograd.functional.jacobian(made, at)
    for _ in range(3):
        along = torch.randn(len(at), generator=random, dtype=torch.float64)
        found = affine.response(state, at + along, layers)
        torch.testing.assert_close(found, made(at) + jacobian @ along)
    assert float((made(at + along) - found).norm()) > 1e-3 * float(found.norm())  # the autoencoder is not affine
