"""Batch-norm statistics as a prior of images: those that a model keeps, or those of the batch that a victim sent.

H. Yin et al., "See through gradients: Image batch recovery via GradInversion", CVPR 2021, eq. 9, where the running
statistics replace the batch's. But training sends them round by round: a client's new ones are
(1 − m)·old + m·batch, with m the layer's momentum, so that they give its batch's up to rounding.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from gradwire.engine import choose, wide_copy
from gradwire.engine.norms import NORMS, normalise, scale
from gradwire.errors import GradwireError
from gradwire.models.mode import copied, set_mode
from gradwire.tasks import Task
from gradwire.wire import View
from gradwire.wire.view import Mode

Norm = nn.BatchNorm1d | nn.BatchNorm2d
Known = Mapping[str, tuple[Tensor, Tensor]]
"""Layer name → the mean and the variance (unbiased, as PyTorch keeps it) of each channel, each of shape (V, C)."""


class Statistics:
    """Images of V victims → how far their statistics are from the known ones.

    It takes a forward pass of its own, for the engine's paths do not all show activations: one of all victims' images
    together where that gives the same as one victim after another.

    Args:
        model: the network as the adversary knows it; it is copied.
        known: to compare with; by default the model's running statistics.
    """

    def __init__(self, model: nn.Module, task: Task, mode: Mode, device: str = "cpu", known: Known | None = None):
        self._model, self._task, self._mode, self._device = model, task, mode, device
        self._known = running(model) if known is None else known
        self._path: _Distances | None = None
        if not self._known:
            raise GradwireError(f"model {type(model).__name__} has no batch norm whose statistics could be a prior")

    def distance(self, images: Tensor) -> Tensor:
        """Σ_l ‖μ_l(x) − μ_l‖₂ + ‖σ²_l(x) − σ²_l‖₂ over layers l, for images (V, B, C, H, W); shape (V,)."""
        if self._path is None:
            probe = partial(self._probe, images.shape[1])
            name, _ = choose(("together", "apart"), probe, wide_copy(self._model, "cpu"))
            self._path = _Distances(
                wide_copy(self._model, self._device), self._task, self._mode, self._known, name == "together"
            )
        return self._path(images)

    def _probe(self, batch: int, name: str, model: nn.Module) -> dict[str, Tensor]:
        images = self._task.probe(2, batch)[0].requires_grad_()
        found = _Distances(model, self._task, self._mode, running(model), name == "together")(images)
        return {"distances": found.detach(), "their slope": torch.autograd.grad(found.sum(), images)[0]}


class _Distances:
    """The path of `Statistics.distance`: one forward pass of all victims together, or of one after another."""

    def __init__(self, network: nn.Module, task: Task, mode: Mode, known: Known, together: bool):
        self._task = task
        self._network, self._together = set_mode(copied(network), mode).requires_grad_(False), together
        like, self._victims = next(self._network.parameters()), 1
        self._seen: list[tuple[Tensor, Tensor]] = []
        for name, layer in _norms(self._network):
            layer.register_forward_pre_hook(partial(self._note, [moment.to(like) for moment in known[name]]))
            if together and type(layer) in NORMS:
                layer.forward = partial(self._normalising, layer)  # type: ignore[method-assign]

    def __call__(self, images: Tensor) -> Tensor:
        passes = []
        for several in [images] if self._together else images.split(1):
            self._victims, self._seen = len(several), []
            self._task.output(self._network, several.flatten(0, 1))
            passes.append(self._seen)
        each = [(torch.cat([own for own, _ in seen]) - seen[0][1]).norm(dim=1) for seen in zip(*passes, strict=True)]
        return torch.stack(each).sum(0)

    def _note(self, known: Sequence[Tensor], _: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        each = arguments[0].unflatten(0, (self._victims, -1)).transpose(1, 2).flatten(2)
        variance, mean = torch.var_mean(each, 2, correction=min(1, each.shape[2] - 1))
        self._seen.extend(zip((mean, variance), known, strict=True))

    def _normalising(self, layer: Norm, x: Tensor) -> Tensor:
        return scale(layer, normalise(layer, x, self._victims))


def running(model: nn.Module) -> Known:
    """The statistics that a model keeps, as those of one victim."""
    return {n: (layer.running_mean[None], layer.running_var[None]) for n, layer in _norms(model)}  # type: ignore[index]


def sent(views: Sequence[View]) -> Known | None:
    """The statistics of each victim's own batch, from the running ones that it sent.

    None where a victim sent none, after several local steps, whose statistics are mixed, and where a layer's momentum
    is zero.
    """
    found: dict[str, list[tuple[Tensor, Tensor]]] = {}
    for view in views:
        buffers = view.buffers
        if buffers is None or (view.work is not None and (view.work.steps, view.work.batch) != (1, view.shape[0])):
            return None
        for name, layer in _norms(view.model):
            tracked = 0 if layer.num_batches_tracked is None else int(layer.num_batches_tracked)
            momentum = 1 / (tracked + 1) if layer.momentum is None else layer.momentum
            if not momentum:
                return None
            old = [getattr(layer, kind).cpu() for kind in ("running_mean", "running_var")]
            new = [buffers[f"{name}.{kind}".lstrip(".")] for kind in ("running_mean", "running_var")]
            mean, variance = ((n - (1 - momentum) * o) / momentum for n, o in zip(new, old, strict=True))
            found.setdefault(name, []).append((mean, variance))
    return {
        name: (torch.stack([m for m, _ in each]), torch.stack([v for _, v in each])) for name, each in found.items()
    }


def _norms(model: nn.Module) -> list[tuple[str, Norm]]:
    """The layers that keep running statistics, with their names."""
    return [
        (name, layer)
        for name, layer in model.named_modules()
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d) and layer.running_mean is not None
    ]
