"""The variational bottleneck: a layer that encodes features in a random code, at a price for what the code tells.

A. A. Alemi, I. Fischer, J. V. Dillon, K. Murphy, "Deep variational information bottleneck", ICLR 2017, eq. 17.
"""

from typing import Any

import torch
from torch import Tensor, nn


class VariationalBottleneck(nn.Module):
    """A code z ~ N(μ, σ²) with μ and log σ² linear in the features, and an output of their size that is linear in z.

    In training mode every pass draws z anew; in evaluation mode z = μ. In both, a backward pass adds the slope of
    `beta`·KL(N(μ, σ²) ‖ N(0, 1)), its mean over the batch, to that of the loss, which is taken to be a mean over the
    batch, too. So the loss stays a function of logits and labels, and no caller has to know of the bottleneck.
    """

    noise: Tensor | None

    def __init__(self, features: int, width: int, beta: float):
        super().__init__()
        self.beta = beta
        self.encode = nn.Linear(features, 2 * width)
        self.decode = nn.Linear(width, features)
        self.register_buffer("noise", None)

    def hold(self, noise: Tensor | float) -> None:
        """From now on, use this in place of standard normal draws: shape (width,), or one number."""
        like = self.decode.weight
        self.noise = torch.as_tensor(noise, dtype=like.dtype, device=like.device).expand(like.shape[1]).clone()

    def forward(self, features: Tensor) -> Tensor:
        """Map features, shape (B, features), to what the code tells of them, of the same shape."""
        mean, log_variance = self.encode(features).chunk(2, -1)
        code = mean
        if self.training:
            code = mean + (log_variance / 2).exp() * (torch.randn_like(mean) if self.noise is None else self.noise)
        divergence = (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1) / 2
        return self.decode(_Charge.apply(code, divergence, self.beta))


class _Charge(torch.autograd.Function):
    """The identity of the code, whose backward pass adds the slope of beta times the mean divergence, shape (B,)."""

    generate_vmap_rule = True

    @staticmethod
    def forward(code: Tensor, divergence: Tensor, beta: float) -> Tensor:
        return code.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, float], output: Tensor) -> None:
        ctx.shape, ctx.beta = inputs[1].shape, inputs[2]

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, None]:
        return slope, slope.new_full(ctx.shape, ctx.beta / ctx.shape.numel()), None
