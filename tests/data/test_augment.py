"""Augmentations show an image again, as it is first."""

import pytest
import torch

from gradwire.data import augment
from gradwire.errors import GradwireError

IMAGES = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).view(2, 3, 4, 5)


@pytest.mark.parametrize(("spec", "count"), [("", 1), ("flip", 2), ("shift", 5), ("flip+shift", 10)])
def test_the_first_view_is_the_image_itself(spec, count):
    views = augment.views(IMAGES, spec)
    assert views.shape == (2, count, 3, 4, 5)
    assert torch.equal(views[:, 0], IMAGES)
    assert views.dtype == IMAGES.dtype
    assert len({tuple(view.flatten().tolist()) for view in views[0]}) == count


def test_a_flip_is_a_mirror_and_a_shift_is_one_pixel():
    assert torch.equal(augment.views(IMAGES, "flip")[:, 1], IMAGES.flip(-1))
    moved = augment.views(IMAGES, "shift")[:, 1:]
    down, up, right, left = moved.unbind(1)
    assert torch.equal(down[..., 1:, :], IMAGES[..., :-1, :])
    assert torch.equal(up[..., :-1, :], IMAGES[..., 1:, :])
    assert torch.equal(right[..., 1:], IMAGES[..., :-1])
    assert torch.equal(left[..., :-1], IMAGES[..., 1:])


@pytest.mark.parametrize("spec", ["rotate", "flip+flip", "flip,shift"])
def test_what_there_is_not_is_refused(spec):
    with pytest.raises(GradwireError, match="augment is"):
        augment.views(IMAGES, spec)


@pytest.mark.parametrize("inputs", [torch.ones(2, 7, dtype=torch.int64), torch.rand(2, 5)], ids=["text", "rows"])
def test_only_images_have_variants(inputs):
    assert augment.views(inputs, "").shape == (2, 1, *inputs.shape[1:])
    with pytest.raises(GradwireError, match="augment is 'flip', which is for images alone"):
        augment.views(inputs, "flip")
