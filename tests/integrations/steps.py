"""A small network under DDP, and steps of it in a worker."""

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

from gradwire.integrations import ddp_hook

STEPS = 6


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 300), nn.Tanh(), nn.Linear(300, 300), nn.Tanh(), nn.Linear(300, 10)
    )


def batch(step: int, rank: int):
    g = torch.Generator().manual_seed(1000 * step + rank)
    return torch.rand(8, 1, 8, 8, generator=g), torch.randint(10, (8,), generator=g)


def wrapped(spec, small: bool = True, scaler=None, kind=torch.float32):
    """A network under DDP, with buckets of 0.2 MB (two of them) or one for all."""
    model = DistributedDataParallel(network().to(kind), bucket_cap_mb=0.2 if small else 25)
    state, hook = ddp_hook(spec, model, scaler=scaler)
    model.register_comm_hook(state, hook)
    return model, state


def train(model, rank, steps):
    """Gradients of every step of plain SGD."""
    found = []
    for step in steps:
        model.zero_grad()
        inputs, labels = batch(step, rank)
        cross_entropy(model(inputs), labels).backward()
        found.append({name: p.grad.clone() for name, p in model.module.named_parameters()})
        with torch.no_grad():
            for p in model.parameters():
                p -= 0.05 * p.grad
    return found
