import pytest
import torch

from gradwire.engine.convolution import WIDE, unfold

# Rows of as many positions as slices are added for, and of fewer; and what `fold` alone is asked for.
CASES = [
    ((2, 3, 7, WIDE + 2), (3, 3), (1, 1), (1, 1)),
    ((2, 3, 6, WIDE + 1), (3, 3), (1, 1), (1, 1)),
    ((1, 2, 11, 2 * WIDE + 7), (3, 5), (2, 1), (2, 2)),
    ((1, 2, 9, WIDE + 4), (3, 3), (2, 2), (1, 1)),
]


@pytest.mark.parametrize(("shape", "kernel", "dilation", "stride"), CASES)
def test_patches_and_all_their_slopes_are_pytorchs(shape, kernel, dilation, stride):
    random = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=random, dtype=torch.float64, requires_grad=True)
    ours, theirs = unfold(x, kernel, dilation, stride), torch.nn.functional.unfold(x, kernel, dilation, 0, stride)
    assert torch.equal(ours, theirs)
    weight = torch.randn(ours.shape, generator=random, dtype=torch.float64)
    found = []
    for patches in (ours, theirs):
        (slope,) = torch.autograd.grad((patches.square() * weight).sum(), x, create_graph=True)
        (second,) = torch.autograd.grad((slope**3).sum(), x)
        found.append((slope, second))
    for mine, due in zip(*found, strict=True):
        torch.testing.assert_close(mine, due)


@pytest.mark.parametrize(("shape", "kernel", "dilation", "stride"), CASES)
def test_half_precision_is_folded_too(shape, kernel, dilation, stride):
    x = torch.ones(shape, dtype=torch.bfloat16, requires_grad=True)
    (slope,) = torch.autograd.grad(unfold(x, kernel, dilation, stride).sum(), x)
    wide = torch.ones(shape, requires_grad=True)
    (due,) = torch.autograd.grad(torch.nn.functional.unfold(wide, kernel, dilation, 0, stride).sum(), wide)
    assert torch.equal(slope.float(), due)
