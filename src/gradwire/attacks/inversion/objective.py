"""Terms of objectives: how far a measured gradient is from what was observed, and how images look."""

from torch import Tensor

EPSILON = 1e-12


def cosine(inner: Tensor, square: Tensor, energy: Tensor) -> Tensor:
    """1 − ⟨A(G), y⟩ / (‖A(G)‖·‖y‖), shape (V,). Geiping et al. 2020, eq. 4, over all parameters at once."""
    return 1 - inner / (square * energy).clamp_min(EPSILON**2).sqrt()


def total_variation(images: Tensor) -> Tensor:
    """The mean absolute difference of neighbouring pixels, down plus across, a victim: (V, B, C, H, W) → (V,)."""
    down = (images[..., 1:, :] - images[..., :-1, :]).abs().flatten(1).mean(1)
    across = (images[..., :, 1:] - images[..., :, :-1]).abs().flatten(1).mean(1)
    return down + across


def apart(images: Tensor, restarts: int) -> Tensor:
    """The mean squared distance of each row to the mean of its victim's restarts: (V, …) → (V,).

    The mean has no slope: each restart is drawn to it and does not move it. Yin et al. 2021, eq. 11.
    """
    groups = images.unflatten(0, (-1, restarts))
    mean = groups.detach().mean(1, keepdim=True)
    return (groups - mean).flatten(2).square().mean(2).flatten()
