import pytest
import torch
from torch.func import vjp, vmap
from torch.nn.functional import conv1d, conv_transpose1d

from gradwire.schemes.codec.banded import doubled, halved, spread

CHANNELS, FILTERS = 3, 5
LAYERS = {
    halved: lambda x, taps, bias: conv1d(x.mT, taps.permute(2, 1, 0), bias, 2, 1).mT,
    doubled: lambda x, taps, bias: conv_transpose1d(x.mT, taps.permute(1, 2, 0), bias, 2, 1, 1).mT,
    spread: lambda x, taps, bias: conv_transpose1d(x.mT, taps.permute(1, 2, 0), bias, 1, 1).mT,
}
each = pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: layer.__name__)


def inputs(length, *batch):
    random = torch.Generator().manual_seed(length)
    shapes = (length, CHANNELS), (3, CHANNELS, FILTERS), (FILTERS,)
    return [torch.randn(*batch, *shape, generator=random, dtype=torch.float64) for shape in shapes]


@each
@pytest.mark.parametrize("length", [2, 4, 14])
def test_it_is_the_convolution(layer, length):
    torch.testing.assert_close(layer(*inputs(length)), LAYERS[layer](*inputs(length)))


def test_one_position_has_no_neighbours():
    for layer in (doubled, spread):
        torch.testing.assert_close(layer(*inputs(1)), LAYERS[layer](*inputs(1)))


@each
def test_its_derivatives_are_the_differences(layer):
    given = [tensor.requires_grad_() for tensor in inputs(4)]
    assert torch.autograd.gradcheck(layer, given)
    assert torch.autograd.gradgradcheck(layer, given)


@each
def test_many_at_once_are_one_after_another(layer):
    given = inputs(4, 6)
    slope = torch.ones_like(layer(*inputs(4)))

    def back(x, taps, bias):
        return vjp(layer, x, taps, bias)[1](slope)

    for one, many in ((layer, vmap(layer)), (back, vmap(back))):
        found, due = many(*given), [one(*own) for own in zip(*given, strict=True)]
        if isinstance(found, torch.Tensor):
            found, due = (found,), [(own,) for own in due]
        for together, apart in zip(found, zip(*due, strict=True), strict=True):
            torch.testing.assert_close(together, torch.stack(apart))
