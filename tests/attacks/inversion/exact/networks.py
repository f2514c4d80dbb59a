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


def gradient(model, images, labels):
    """The mean gradient of a batch, in evaluation mode."""
    model.eval()
    value = nn.functional.cross_entropy(model(images), labels)
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(value, parameters), strict=True))
