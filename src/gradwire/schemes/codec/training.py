"""How a client trains its autoencoder: equations 9 and 10 of learned model compression.

A state goes in and comes out: `weights`, Adam's moments `first` and `second`, the number of steps `fits`, the weights
`good` to which it returns if it diverges (during training), and the number of returns `fallbacks`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from gradwire.schemes.codec import network
from gradwire.schemes.layout import Update
from gradwire.seeds import generator

OPTIMIZERS = ("adam", "sgd")
BETAS, EPSILON = (0.9, 0.999), 1e-8
"""Adam's, as Kingma and Ba recommend."""


@dataclass(frozen=True)
class Training:
    """Passes over the parameters, numbers in a segment, the rate λ, and one of `OPTIMIZERS`.

    Attributes:
        jitter: standard deviation of the noise that is added to the parameters in every step, which the autoencoder has
            to reproduce too. Without it the autoencoder learns its parameters by heart and answers a small change of
            them by a large one, so that steps through it diverge.
    """

    passes: int
    segment: int
    lr: float
    optimizer: str
    jitter: float


def fit(state: dict[str, Tensor], parameters: Update, how: Training) -> dict[str, Tensor]:
    """Equation 9: passes over all parameters, with a step for each segment of a layer, until it diverges."""
    for _ in range(how.passes):
        for segment in segments(parameters, how.segment, int(state["fits"])):
            if "good" in state:
                state = _descended(state, segment, how)
    return state


def segments(parameters: Update, size: int, seed: int) -> list[Tensor]:
    """The layers' vectors in pieces of `size` / 2 to 3 · `size` / 2 numbers, in random order; small layers whole.

    The seams move from pass to pass, so that none is learned, by multiples of `network.SHRINK`, so that every piece is
    encoded as it is within the whole.
    """
    random, half, pieces = generator("autoencoder segments", seed), size // 2, list[Tensor]()
    for tensor in parameters.values():
        vector = tensor.detach().reshape(-1)
        first = half + network.SHRINK * int(torch.randint(size // network.SHRINK, (), generator=random))
        pieces += vector.tensor_split(list(range(first, len(vector) - half, size)))
    return [pieces[i] for i in torch.randperm(len(pieces), generator=random).tolist()]


def fallen(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state after an autoencoder diverged: the weights with which the round began; its training ends."""
    after = {name: tensor for name, tensor in state.items() if name != "good"}
    moments = {name: torch.zeros_like(state[name]) for name in ("first", "second")}
    return after | moments | {"weights": state["good"], "fallbacks": state["fallbacks"] + 1}


def _descended(state: Mapping[str, Tensor], vector: Tensor, how: Training) -> dict[str, Tensor]:
    """One step along the slope of a vector's mean squared error (equation 10)."""
    weights = state["weights"].to(vector).detach().requires_grad_()
    random = generator("autoencoder jitter", int(state["fits"]))
    vector = vector + how.jitter * torch.randn(vector.shape, generator=random).to(vector)
    with torch.enable_grad():
        encoder, decoder = network.halves(weights)
        rebuilt = network.decode(decoder, network.encode(encoder, vector), len(vector))
        (slope,) = torch.autograd.grad((rebuilt - vector).square().mean(), weights)
    after = {**state, "fits": state["fits"] + 1}
    if how.optimizer == "adam":
        slope = _adam(after, slope)
    after["weights"] = weights.detach() - how.lr * slope
    return after if bool(torch.isfinite(after["weights"]).all()) else fallen(after)


def _adam(state: dict[str, Tensor], slope: Tensor) -> Tensor:
    """Adam's direction (Kingma and Ba, algorithm 1); changes the moments in `state`."""
    scaled = []
    for name, beta, value in (("first", BETAS[0], slope), ("second", BETAS[1], slope.square())):
        state[name] = beta * state[name].to(slope) + (1 - beta) * value
        scaled.append(state[name] / (1 - beta ** int(state["fits"])))
    return scaled[0] / (scaled[1].sqrt() + EPSILON)
