"""The head: the parameters whose gradients show the loss's slopes at the logits, found by tracing and not by name.

A bias b that is added to the logits z has ∂L/∂b = s·Σ δ over the batch, δ = ∂L/∂z; a weight whose rows meet features h
has ∂L/∂W = s·Σ δ·hᵀ. Whichever layer makes the logits, inferring labels uses these two identities alone, so that they
are what is checked: random slopes V are sent back from the logits of two batches of noise, and a parameter is the
head's if its gradient is s·ΣV, or v·s·Σhᵀ where all slopes are v, with one s for both batches. This finds linear heads,
and convolutions with a mean over positions behind them, behind a view, a scale or a temperature, and parts of layers
that are made of other parameters (the bias of one with weight norm). It refuses layers that the loss does not use, and
parameters that are used elsewhere, too.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import torch
import xxhash
from torch import Tensor, nn

from gradwire.attacks.inversion.labels.slopes import is_cross_entropy
from gradwire.attacks.inversion.labels.traced import Traced, features_of, scale_of
from gradwire.errors import GradwireError
from gradwire.models.mode import NARROW, copied, failure, floating, set_mode
from gradwire.schemes import Update
from gradwire.seeds import drawing
from gradwire.tasks import Task
from gradwire.tasks.losses import matrix
from gradwire.wire.view import Mode

PROBES = 64
"""Inputs at random, in two batches, on which the network is traced and its mean prediction estimated."""

_KEPT: WeakKeyDictionary[nn.Module, tuple[tuple[object, ...], "Head"]] = WeakKeyDictionary()
"""Network → what was asked of it, and its head."""


@dataclass(frozen=True)
class Head:
    """The parameters that show slopes at the logits, and what the network does with noise.

    Attributes:
        bias: the name of the one that is added to the logits; None where there is none that is trained.
        scale: s of each class, float64 (classes,), with ∂L/∂b = s·Σ δ.
        weight: the name of the one whose rows are multiplied with features; None where there is none that is trained.
        transposed: whether classes are the weight's columns.
        inputs: the mean of s·h on noise, float64 (features,).
        logits: of noise, float64 (PROBES, classes).
        cross_entropy: whether the loss is plain cross-entropy of the logits.
    """

    bias: str | None
    scale: Tensor
    weight: str | None
    transposed: bool
    inputs: Tensor
    logits: Tensor
    cross_entropy: bool

    @property
    def classes(self) -> int:
        """How many logits there are."""
        return self.logits.shape[1]

    def rows(self, weight: Tensor) -> Tensor:
        """A tensor of the weight's shape as one row a class, (classes, features)."""
        return weight.mT if self.transposed else weight.flatten(1)

    def classes_of(self, positions: Tensor) -> Tensor:
        """The class of each position in the flattened weight, int64 of any shape."""
        return positions % self.classes if self.transposed else positions // len(self.inputs)

    def slopes(self, update: Update) -> Tensor:
        """Σ δ of each class, float64 (classes,), from a decoded update; zero where nothing of the class was sent.

        Where nothing was sent of a bias's entry, the class's row of the weight replaces it: Σ δ·h ≈ h̄·Σ δ, by least
        squares over what was sent, with the mean features h̄ on noise.
        """
        found = torch.zeros(self.classes, dtype=torch.float64)
        if self.weight is not None:
            rows = self.rows(update[self.weight].cpu().double())
            found = rows @ self.inputs / ((rows != 0).double() @ self.inputs.square()).clamp_min(1e-38)
        if self.bias is not None:
            sent = update[self.bias].cpu().double().flatten()
            found = torch.where(sent != 0, sent / self.scale, found)
        return found


def trace(model: nn.Module, mode: Mode, task: Task, probes: int = PROBES) -> Head:
    """Find a network's head. It is kept for the next view of the same network, as long as nothing in that changes.

    Raises:
        GradwireError: the network gives no logits (B, classes), or no parameter that is trained shows their slopes.
    """
    asked = (mode, task, probes, _state(model))
    kept = _KEPT.get(model)
    if kept is None or kept[0] != asked:
        kept = _KEPT[model] = (asked, _trace(model, mode, task, probes))
    return kept[1]


def _state(model: nn.Module) -> str:
    """A digest of everything that decides what a network does: its numbers, what is trained, each layer's mode."""
    digest = xxhash.xxh3_64()
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        digest.update(f"{name} {tensor.requires_grad} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    digest.update(bytes(module.training for module in model.modules()))
    return digest.hexdigest()


def _trace(model: nn.Module, mode: Mode, task: Task, probes: int) -> Head:
    network = set_mode(copied(model), mode).to("cpu", torch.float32 if floating(model) in NARROW else None)
    random = torch.Generator().manual_seed(0)
    batches = task.domain.sample(2, max(2, probes // 2), random=random)
    # Dropout must not draw from the global generator.
    with drawing(0):
        for parameter in network.parameters():
            parameter.requires_grad_(False)
        with torch.no_grad():
            few = batches[0, :8]
            logits = _logits(task, network, few)
        outputs, plain = logits.shape[1], is_cross_entropy(task, network, few, logits)
        candidates = {n: p for n, p in network.named_parameters() if outputs in (p.numel(), *p.shape)}
        for parameter in candidates.values():
            parameter.requires_grad_()
        tried = [Traced.of(_logits(task, network, batch), candidates, plain, random) for batch in batches]
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    biases = {n: s for n in candidates if (s := scale_of(*(each.spread[n] for each in tried))) is not None}
    weights: dict[str, tuple[bool, Tensor]] = {}
    for name, parameter in candidates.items():
        for transposed in _layouts(parameter, outputs):
            sums = [f for each in tried if (f := features_of(each, name, transposed)) is not None]
            if len(sums) == len(tried):
                weights[name] = (transposed, torch.stack(sums).sum(0) / sum(len(each.logits) for each in tried))
                break
    bias = next((name for name in biases if name in trained), None)
    weight = next((name for name in reversed(weights) if name in trained), None)
    if bias is None and weight is None:
        raise GradwireError(f"labels cannot be inferred: {_reason(network, {*biases, *weights})}")
    nothing = torch.zeros(0, dtype=torch.float64)
    transposed, inputs = weights[weight] if weight is not None else (False, nothing)
    scale = biases[bias] if bias is not None else nothing
    return Head(bias, scale, weight, transposed, inputs, torch.cat([each.logits for each in tried]), plain)


def outputs(model: nn.Module, mode: Mode, task: Task) -> int:
    """How many logits a network gives for an input."""
    network = set_mode(copied(model), mode)
    like = next(network.parameters())
    with drawing(0, str(like.device)), torch.no_grad():
        inputs = task.domain.sample(2, random=torch.Generator().manual_seed(0)).to(like.device)
        return _logits(task, network, inputs).shape[1]


def _layouts(parameter: Tensor, classes: int) -> Iterator[bool]:
    """Whether classes may be a weight's rows (False), its columns (True), or both."""
    if parameter.numel() == classes:
        return
    if parameter.ndim >= 2 and parameter.shape[0] == classes:
        yield False
    if parameter.ndim == 2 and parameter.shape[1] == classes:
        yield True


def _logits(task: Task, network: nn.Module, inputs: Tensor) -> Tensor:
    try:
        output = task.output(network, inputs)
    except Exception as error:
        raise GradwireError(f"labels cannot be inferred: the network fails on noise: {failure(error)}") from error
    return matrix(output, len(inputs))


def _reason(network: nn.Module, frozen: set[str]) -> str:
    """Why no parameter that is trained shows slopes at the logits."""
    if frozen:
        return f"{' and '.join(sorted(frozen))}, which would tell them, are frozen and send no gradient"
    what = f"no parameter of {type(network).__name__} shows the slopes at its logits"
    layers = ((n, m) for n, m in network.named_modules() if isinstance(m, nn.Linear | nn.Conv2d))
    made = [name for name, layer in layers if "weight" not in layer._parameters]
    return what + (f"; the weight of {made[-1]!r} is made of other parameters" if made else "")
