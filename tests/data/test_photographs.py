import torch
from sklearn.datasets import load_sample_image

from gradwire import data
from gradwire.data.dataset import copy_within, fingerprints
from gradwire.data.photographs import LEAST_CONTRAST, SIDE, squares


def test_both_splits_are_whole_and_share_no_picture() -> None:
    train, test = data.load("photographs", "train"), data.load("photographs", "test")
    assert (len(train), len(test), train.shape, train.classes) == (47, 12, (3, SIDE, SIDE), ("china", "flower"))
    assert copy_within([*fingerprints(train), *fingerprints(test)]) is None
    assert {*train.targets.tolist()} == {*test.targets.tolist()} == {0, 1}


def test_a_square_is_the_photograph_at_half_its_size() -> None:
    photograph = torch.from_numpy(load_sample_image("flower.jpg").copy())
    # The whole photograph with noise of high contrast in its first square, so that this one is kept for certain.
    photograph[: 2 * SIDE, : 2 * SIDE] = torch.randint(0, 2, (2 * SIDE, 2 * SIDE, 1)) * 255
    first = squares(photograph)[0].permute(1, 2, 0).float()
    blocks = photograph[: 2 * SIDE, : 2 * SIDE].float().unflatten(0, (SIDE, 2)).unflatten(2, (SIDE, 2))
    assert torch.allclose(first, blocks.mean(dim=(1, 3)), atol=0.5)


def test_pictures_that_show_nothing_are_left_out() -> None:
    assert len(squares(torch.full((427, 640, 3), 200, dtype=torch.uint8))) == 0
    for split in ("train", "test"):
        brightness = data.load("photographs", split).inputs.float().mean(dim=1).flatten(1) / 255
        assert bool((brightness.std(dim=1) > LEAST_CONTRAST).all())


def test_they_bring_their_usual_network() -> None:
    assert data.load("photographs").task.network == "lenet"
    assert data.load("digits").task.network == "convnet"
