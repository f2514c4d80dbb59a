import pytest
import torch

from gradwire.attacks.inversion.match import total_variation


def test_total_variation_is_the_mean_difference_of_neighbours():
    images = torch.tensor([[0.0, 1.0], [0.5, 0.5]])[None, None, None]
    assert float(total_variation(images)) == pytest.approx((0.5 + 0.5) / 2 + (1.0 + 0.0) / 2)


@pytest.mark.parametrize(("shape", "due"), [((1, 4), 1.0), ((4, 1), 1.0), ((1, 1), 0.0)])
def test_images_without_neighbours_on_one_side_have_the_differences_of_the_other(shape, due):
    images = torch.arange(4.0)[: shape[0] * shape[1]].view(1, 1, 1, *shape).expand(2, 3, 1, *shape)
    torch.testing.assert_close(total_variation(images), torch.full((2,), due))
