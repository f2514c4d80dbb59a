"""Photographs that come with scikit-learn, cut into small colour pictures: for a first audit, without a download."""

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from gradwire.data.dataset import Dataset, image_dataset
from gradwire.data.splits import holdout

SIDE = 32
"""Pixels of a picture's side."""
LEAST_CONTRAST = 0.1
"""A picture whose brightness, from 0 to 1, has a smaller standard deviation is left out."""
CLASSES = ("china", "flower")
"""The photographs: a temple (danielbuechele) and a dahlia (vultilion), both CC BY 2.0."""


def load_photographs(split: str, limit: int | None = None) -> Dataset:
    """Load 59 pictures, 3×32×32, uint8: scikit-learn's two photographs at half their size, cut into squares.

    A picture's class is the photograph from which it is. No two overlap. Squares that show next to nothing (sky, a
    blurred ground) are left out: any guess would look right. `holdout` divides the rest: 47 train, 12 test.
    """
    from sklearn.datasets import load_sample_image

    cut = [squares(torch.from_numpy(load_sample_image(f"{name}.jpg").copy())) for name in CLASSES]
    labels = torch.arange(len(CLASSES)).repeat_interleave(torch.tensor([len(each) for each in cut]))
    chosen = holdout(labels.numpy(), split)[:limit]
    return image_dataset("photographs", split, torch.cat(cut)[chosen], labels[chosen], CLASSES, network="lenet")


def squares(photograph: Tensor) -> Tensor:
    """Halve a photograph (H×W×3, uint8), and cut it into squares; those that show something: N×3×32×32."""
    half = avg_pool2d(photograph.permute(2, 0, 1).float(), 2).round().byte()
    rows = half.unfold(1, SIDE, SIDE).unfold(2, SIDE, SIDE)
    pictures = rows.permute(1, 2, 0, 3, 4).flatten(0, 1).contiguous()
    contrast = pictures.float().mean(dim=1).flatten(1).std(dim=1) / 255
    return pictures[contrast > LEAST_CONTRAST]
