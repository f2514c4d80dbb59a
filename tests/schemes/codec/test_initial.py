import pytest
import torch

from gradwire.schemes.codec import initial, network


def start(seed=0):
    return initial.projection(torch.Generator().manual_seed(seed)).double()


def matrix(weights, length=48):
    """What the autoencoder does to each direction."""
    columns = [network.rebuilt(weights, direction) for direction in torch.eye(length, dtype=torch.float64)]
    return torch.stack(columns, 1)


@pytest.mark.parametrize("seed", range(3))
def test_it_projects_every_16_numbers_on_four_directions_without_a_mean(seed):
    projection, size = matrix(start(seed)), network.SHRINK
    torch.testing.assert_close(projection, projection.mT, atol=1e-5, rtol=0)
    torch.testing.assert_close(projection @ projection, projection, atol=1e-5, rtol=0)
    block = projection[:size, :size]
    torch.testing.assert_close(projection, torch.block_diag(block, block, block), atol=1e-5, rtol=0)
    assert float(block.trace()) == pytest.approx(network.CHANNELS, abs=1e-4)
    assert float(block.sum(0).abs().max()) < 1e-5


def test_it_is_linear_where_projections_are_no_longer_than_what_numbers_are_lifted_by():
    weights, random = start(), torch.Generator().manual_seed(1)
    vector = torch.rand(160, generator=random, dtype=torch.float64) * 2 - 1
    for size in (0.1, initial.LIFT / network.SHRINK**0.5):  # the longest projection of a block is LIFT long then
        made = network.rebuilt(weights, size * vector)
        torch.testing.assert_close(made, matrix(weights, 160) @ (size * vector), atol=1e-4, rtol=0)


def test_it_differs_from_seed_to_seed_and_is_the_same_for_one():
    assert torch.equal(start(1), start(1))
    assert float((matrix(start(1)) - matrix(start(2))).norm()) > 0.5


def test_the_channels_that_take_no_part_in_it_can_be_trained():
    weights = start().float().requires_grad_()
    vector = torch.randn(160, generator=torch.Generator().manual_seed(2))
    (slope,) = torch.autograd.grad((network.rebuilt(weights, vector) - vector).square().mean(), weights)
    _, decoder = network.halves(slope)
    taps = network.HALVES["decode"].unflatten(decoder)["4.weight"]
    assert bool((taps[36:, 0] != 0).any())  # channels that are not read yet will be
