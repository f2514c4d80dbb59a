"""Dropout that draws from a generator of its own: networks can train in several threads, and seeds still decide."""

import copy

import torch
from torch import Tensor, nn


class OwnDropout(nn.Module):
    """nn.Dropout, but for where its random numbers come from."""

    def __init__(self, p: float, generator: torch.Generator):
        super().__init__()
        self.p, self.generator = p, generator

    def forward(self, x: Tensor) -> Tensor:
        """Zero each entry with probability p and scale the others by 1 / (1 − p), while training."""
        if not self.training or self.p == 0:
            return x
        kept = torch.empty_like(x).bernoulli_(1 - self.p, generator=self.generator)
        return x * kept if self.p == 1 else x * kept / (1 - self.p)

    def __deepcopy__(self, memo: object) -> "OwnDropout":
        """A generator is shared by copies: it is a source, not a state of the network."""
        twin = OwnDropout(self.p, self.generator)
        twin.training = self.training
        return twin


def with_own_dropout(model: nn.Module, seed: int) -> nn.Module:
    """A copy of a network on the CPU whose dropout layers draw from one new generator."""
    network, generator = copy.deepcopy(model), torch.Generator().manual_seed(seed)
    for module in list(network.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Dropout:
                own = OwnDropout(child.p, generator)
                own.training = child.training
                setattr(module, name, own)
    return network
