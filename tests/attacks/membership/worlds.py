"""Made-up models whose answers follow a law that is known."""

import torch
from torch import Tensor

from gradwire.attacks.membership import Answers, Signals


def of(label: Tensor) -> Signals:
    """Signals that say one thing; the label is the likeliest class where it is likelier than not."""
    return Signals(label.double(), label.double().abs(), label.double())


def world(
    models: int = 16, candidates: int = 400, lift: float = 2.0, spread: float = 1.0, augmentations: int = 1
) -> Answers:
    """Answers φ = difficulty + lift·(member) + spread·noise; half of the models trained on each candidate."""
    random = torch.Generator().manual_seed(0)
    order = torch.rand(models, candidates, generator=random).argsort(0)
    members = order < models // 2
    difficulty = 3 * torch.randn(candidates, 1, generator=random)
    noise = torch.randn(models, candidates, augmentations, generator=random)
    phi = difficulty + lift * members[..., None] + spread * noise
    others = 3 * torch.randn(1000, 1, generator=random)
    others = others + spread * torch.randn(models, 1000, augmentations, generator=random)
    return Answers(of(phi), members, torch.randint(5, (candidates,), generator=random), of(others))
