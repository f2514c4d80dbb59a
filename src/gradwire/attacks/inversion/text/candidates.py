"""Candidates' gradients in some rows of the embeddings, many candidates at once.

The gradient of an embedding's row is the sum of the slopes of the loss at the places where the row was looked up, so that
one backward pass to the embeddings' outputs gives every candidate's rows, for a whole stack of candidates side by side;
where the head's matrix is the tokens', its own part is added: ∂W = δᵀ·h, δ being the slope at the scores.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import vmap

from gradwire.attacks.inversion.text.embedding import Embeddings
from gradwire.engine.choice import unfused
from gradwire.models.mode import copied, logits, set_mode
from gradwire.tasks import Task
from gradwire.wire.view import Mode

AGREE = 1e-3
"""Relative difference, in float32, beyond which a stack's gradients are held to differ from those of one at a time."""


@dataclass(frozen=True)
class Slopes:
    """The gradients of C candidates.

    Attributes:
        tokens: of the kept rows of the tokens' table, (C, R, m).
        positions: of the first n rows of the positions' table, (C, n, m).
        places: the slope of the loss at each place of each sentence, (C, B, n, m).
    """

    tokens: Tensor
    positions: Tensor
    places: Tensor


class Candidates:
    """A network's gradients, in the rows of some tokens, for stacks of candidates.

    Args:
        kept: the tokens of whose rows gradients are wanted, int64 (R,).
    """

    def __init__(self, model: nn.Module, mode: Mode, task: Task, embeddings: Embeddings, kept: Tensor, device: str):
        self._network = set_mode(copied(model).to(device), mode).requires_grad_(False)
        for module in self._network.modules():
            # Every draw of dropout is another gradient: candidates are compared without it.
            if isinstance(module, nn.modules.dropout._DropoutNd):
                module.p = 0.0
        self._task, self._tied, self.kept, self.device = task, embeddings.tied, kept.to(device), device
        self._place = torch.full((embeddings.tokens.rows,), -1, device=device)
        self._place[self.kept] = torch.arange(len(kept), device=device)
        self._noted: dict[str, Tensor] = {}
        self._sentences = 1
        self._hook("tokens", embeddings.tokens.layer)
        if embeddings.positions is not None:
            self._hook("positions", embeddings.positions.layer)
        if embeddings.tied and embeddings.head is not None:
            self._hook("head", embeddings.head.layer, inputs=True)
        self._stacked: bool | None = None

    def __call__(self, inputs: Tensor, targets: Tensor) -> Slopes:
        """Gradients for candidates (C, B, n) and their targets (C, B, …)."""
        inputs, targets = inputs.to(self.device), targets.to(self.device)
        if self._stacked is None:
            self._stacked = not self._task.loss.reported and self._agrees(inputs[:2], targets[:2])
        if self._stacked:
            return self._slopes(inputs, targets, vmap(self._task.loss))
        each = [self._slopes(x[None], y[None], self._one) for x, y in zip(inputs, targets, strict=True)]
        return Slopes(*(torch.cat([getattr(one, name) for one in each]) for name in ("tokens", "positions", "places")))

    def _one(self, scores: Any, targets: Tensor) -> Tensor:
        """The loss of the only candidate."""
        return self._task.loss(scores[0] if isinstance(scores, Tensor) else scores, targets[0])[None]

    def _agrees(self, inputs: Tensor, targets: Tensor) -> bool:
        """Whether a stack's gradients are those of its candidates alone."""
        try:
            found = self._slopes(inputs, targets, vmap(self._task.loss)).places
        except Exception:  # the network or the loss may be anybody's, and fail in any way
            return False
        alone = [self._slopes(x[None], y[None], self._one).places for x, y in zip(inputs, targets, strict=True)]
        right = torch.cat(alone)
        return bool((found - right).norm() <= AGREE * right.norm())

    def _slopes(self, inputs: Tensor, targets: Tensor, loss: Callable[[Any, Tensor], Tensor]) -> Slopes:
        count, batch, length = inputs.shape
        self._noted, self._sentences = {}, count * batch
        with torch.enable_grad(), unfused(self._network):
            output = self._task.output(self._network, inputs.flatten(0, 1), targets=targets.flatten(0, 1))
            scores = logits(output)
            if self._task.loss.reported:
                losses = self._one(output, targets)
            else:
                losses = loss(scores.unflatten(0, (count, batch)), targets)
            at = [self._noted[name] for name in ("tokens", "positions") if name in self._noted]
            slopes = torch.autograd.grad(losses.sum(), [*at, *([scores] if self._tied else [])])
        places = slopes[0].unflatten(0, (count, batch))
        positions = slopes[1].unflatten(0, (count, batch)).sum(1) if len(at) > 1 else places.new_zeros(count, 0, 0)
        width = places.shape[-1]
        row = self._place[inputs]
        tokens = places.new_zeros(count, len(self.kept) + 1, width)
        index = torch.where(row < 0, len(self.kept), row).flatten(1)[..., None].expand(-1, -1, width)
        tokens = tokens.scatter_add_(1, index, places.flatten(1, 2))[:, :-1]
        if self._tied:
            entered = self._noted["head"].unflatten(0, (count, batch)).flatten(1, 2)
            tokens = tokens + slopes[-1].unflatten(0, (count, batch)).flatten(1, 2)[..., self.kept].mT @ entered
        return Slopes(tokens.detach(), positions.detach(), places.detach())

    def _hook(self, name: str, layer: str, inputs: bool = False) -> None:
        def note(_: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> Tensor:
            if inputs:
                self._noted[name] = given[0].detach()
                return output
            # Positions are looked up once for all sentences: each gets a slope of its own.
            output = output.expand(self._sentences, *output.shape[1:]).detach().requires_grad_()
            self._noted[name] = output
            return output

        self._network.get_submodule(layer).register_forward_hook(note)
