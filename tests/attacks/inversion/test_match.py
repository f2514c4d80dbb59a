import pytest
import torch

from gradwire.attacks.inversion.match import cosine, total_variation


def test_total_variation_is_the_mean_difference_of_neighbours():
    images = torch.tensor([[0.0, 1.0], [0.25, 0.5]])[None, None, None]
    assert float(total_variation(images)) == pytest.approx((0.25 + 0.5) / 2 + (1.0 + 0.25) / 2)


@pytest.mark.parametrize(("shape", "due"), [((1, 4), 1.0), ((4, 1), 1.0), ((1, 1), 0.0)])
def test_images_without_neighbours_on_one_side_have_the_differences_of_the_other(shape, due):
    images = torch.arange(4.0)[: shape[0] * shape[1]].view(1, 1, 1, *shape).expand(2, 3, 1, *shape)
    torch.testing.assert_close(total_variation(images), torch.full((2,), due))


def test_the_cosine_distance_is_zero_of_what_points_the_same_way():
    a = torch.tensor([[3.0, 4.0]]).repeat(4, 1)
    b = torch.tensor([[6.0, 8.0], [-3.0, -4.0], [-4.0, 3.0], [0.0, 0.0]])
    found = cosine((a * b).sum(1), a.square().sum(1), b.square().sum(1))
    torch.testing.assert_close(found, torch.tensor([0.0, 2.0, 1.0, 1.0]))
