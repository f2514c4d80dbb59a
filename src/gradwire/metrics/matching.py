"""Which reconstructed image is a guess at which true one."""

import torch
from torch import Tensor

from gradwire.metrics._victims import by_victim


def match(guess: Tensor, truth: Tensor) -> Tensor:
    """Reorder each victim's reconstructed images so that they stand beside the true ones they are nearest to.

    A gradient is a mean over its batch, so the order of the batch cannot be known to an attack, and a guess in another
    order is no worse. Of all pairings the one with the least total MSE is taken (linear sum assignment). This uses the
    truth: call it after the attack has chosen its answer, before the metrics.

    Args:
        guess: V×B×C×H×W in [0, 1]; N×C×H×W (one image a victim) comes back as it is.
        truth: images of the same shape.

    Returns:
        `guess` with the B images of each victim reordered; same shape, type and device.

    Raises:
        GradwireError: the shapes differ, or a value is not finite or outside [0, 1].
    """
    # Imported when needed, as in `images`: only batches of several images have an order.
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

    guesses, truths = by_victim(guess, truth)
    if guesses.shape[1] == 1:
        return guess
    matched = torch.empty_like(guess)
    for victim, (images, originals) in enumerate(zip(guesses.flatten(2), truths.flatten(2), strict=True)):
        _, order = linear_sum_assignment(torch.cdist(originals, images).square().numpy())
        matched[victim] = guess[victim, torch.from_numpy(order).to(guess.device)]
    return matched
