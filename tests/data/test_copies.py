import torch

from gradwire.data import Dataset
from gradwire.data.copies import copy_within, fingerprints


def dataset(images):
    return Dataset("made", "train", images, torch.zeros(len(images), dtype=torch.int64), ("one",))


def test_the_first_repetition_is_found():
    images = torch.randint(256, (6, 1, 3, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert copy_within(fingerprints(dataset(images))) is None
    images[4] = images[1]
    assert copy_within(fingerprints(dataset(images))) == (1, 4)


def test_one_pixel_makes_another_image():
    images = torch.zeros(2, 1, 3, 3)
    assert copy_within(fingerprints(dataset(images))) == (0, 1)
    images[1, 0, 0, 0] = 1e-7
    assert copy_within(fingerprints(dataset(images))) is None
