"""Networks with a closed form, and gradients to compare with."""

import torch
from torch import nn

from gradwire.seeds import drawing


class VisionTransformer(nn.Module):
    """Blocks of attention over the patches of an image and one token, which the head reads.

    Args:
        kind: of the patch embedding: "conv", "linear", or "normed", with a layer norm before positions are added.
        backwards: patches are embedded in the reverse order.
    """

    def __init__(self, channels=1, side=8, patch=4, width=24, classes=10, depth=3, kind="conv", backwards=False):
        super().__init__()
        self.patch, self.kind, self.backwards = patch, kind, backwards
        size = channels * patch * patch
        self.taken = nn.Linear(size, width) if kind == "linear" else nn.Conv2d(channels, width, patch, patch)
        self.between = nn.LayerNorm(width) if kind == "normed" else nn.Identity()
        self.token = nn.Parameter(0.02 * torch.randn(1, 1, width))
        self.added = nn.Parameter(0.02 * torch.randn(1, (side // patch) ** 2 + 1, width))
        self.attention = nn.ModuleList(nn.MultiheadAttention(width, 4, batch_first=True) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2 * depth))
        self.mixed = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)) for _ in range(depth)
        )
        self.head = nn.Linear(width, classes)

    def forward(self, images):
        if self.kind == "linear":
            tiles = images.unflatten(2, (-1, self.patch)).unflatten(4, (-1, self.patch))
            tokens = self.taken(tiles.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2))
        else:
            tokens = self.taken(images * 2 - 1).flatten(2).mT
        tokens = self.between(tokens.flip(1) if self.backwards else tokens)
        tokens = torch.cat([self.token.expand(len(tokens), -1, -1), tokens], 1) + self.added
        for n, attention in enumerate(self.attention):
            normed = self.norms[2 * n](tokens)
            tokens = tokens + attention(normed, normed, normed, need_weights=False)[0]
            tokens = tokens + self.mixed[n](self.norms[2 * n + 1](tokens))
        return self.head(tokens[:, 0])


def transformer(seed=0, **options):
    with drawing(seed):
        return VisionTransformer(**options)


def convolutions(act=nn.LeakyReLU, bias=True, head=True, norm=False, channels=(4, 8, 8), seed=0, **options):
    """Three convolutions, the second with stride 2, each with an activation behind it, and a linear head; of digits.

    Args:
        bias: whether convolutions have one, and `head` the last layer.
        norm: whether batch norm, with statistics as if it had been trained, stands between the two.
    """
    with drawing(seed):
        layers, before = [], 1
        for width, stride in zip(channels, (1, 2, 1), strict=True):
            layers.append(nn.Conv2d(before, width, 3, stride, 1, bias=bias))
            if norm:
                layers.append(nn.BatchNorm2d(width))
                for statistics in (layers[-1].running_var, layers[-1].weight.data, layers[-1].bias.data):
                    nn.init.uniform_(statistics, 0.5, 1.5)
            layers.append(act(**options))
            before = width
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(16 * before, 10, bias=head))


class Cnn6(nn.Sequential):
    """R-GAP's network for CIFAR-10: six convolutions and a linear layer, no biases, leaky ReLUs of slope 0.2."""

    def __init__(self, shape=(3, 32, 32), classes=10):
        sizes = ((12, 4, 2, 2), (36, 3, 2, 1), (36, 3, 1, 1), (36, 3, 1, 1), (64, 3, 2, 1), (128, 3, 1, 1))
        layers, before = [], shape[0]
        for width, kernel, stride, padding in sizes:
            layers += [nn.Conv2d(before, width, kernel, stride, padding, bias=False), nn.LeakyReLU(0.2)]
            before = width
        super().__init__(*layers, nn.Flatten(), nn.Linear(128 * 5 * 5, classes, bias=False))


def gradient(model, images, labels):
    """The mean gradient of a batch, in evaluation mode."""
    model.eval()
    value = nn.functional.cross_entropy(model(images), labels)
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(value, parameters), strict=True))
