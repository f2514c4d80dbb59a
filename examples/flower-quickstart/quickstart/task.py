"""The data of each node, and the network."""

import torch
from torch import Tensor, nn

from gradwire import data


def network(name: str) -> nn.Module:
    """The network, untrained, with the same weights everywhere."""
    return data.load("digits").network(name, seed=0, raw=True)


def examples(split: str, part: int, parts: int) -> tuple[Tensor, Tensor]:
    """A node's own examples: images in [0, 1], shape (N, 1, 8, 8), and labels."""
    digits = data.load("digits", split)
    return digits.batch(torch.arange(part, len(digits), parts))


def accuracy(net: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of images that the network gets right."""
    net.eval()
    with torch.no_grad():
        return (net(images).argmax(1) == labels).float().mean().item()
