"""How far a candidate's measured gradient is from what was observed, by its moments; and how images look."""

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
