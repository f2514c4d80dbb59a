"""Labels from the last layer's gradient, or from the positions of a sparse message alone.

- B. Zhao, K. R. Mopuri, H. Bilen, "iDLG: Improved deep leakage from gradients", 2020: one image, exactly.
- H. Yin et al., "See through gradients: Image batch recovery via GradInversion", CVPR 2021, eq. 4: a batch of images
  of distinct classes: the classes with the most negative gradients.
- A. Wainakh et al., "User-level label leakage from gradients in federated learning", PoPETs 2022, and J. Geng et al.,
  "Towards general deep leakage in federated learning", 2021: a batch with repeated classes, by counting.
"""

import torch
from torch import Tensor, nn

from gradwire.errors import GradwireError
from gradwire.models.mode import copied, set_mode
from gradwire.schemes import Update, observation
from gradwire.schemes.measurement import Support
from gradwire.tasks import BinaryCrossEntropy, CrossEntropy
from gradwire.wire import View

PROBES = 64
"""Inputs at random from which the network's mean prediction is estimated."""


def infer(view: View, update: Update) -> Tensor:
    """The labels of a victim's batch from its decoded update, ascending: class numbers, or 0 and 1 under bce.

    Under cross-entropy the last bias has the gradient g = mean over the batch of (softmax − onehot), so that class c
    occurs n_c = Σ p_c − B·g_c times.

    - For one image the class is the only one with a negative gradient (iDLG, eq. 3). Under binary cross-entropy the
      slope is sigmoid − y, negative for the labels that are 1, and for these alone.
    - For several, every class with a negative gradient occurs, and Σ p_c is B times the network's mean prediction,
      which is estimated on noise. The counts are the whole numbers that come nearest.

    Where nothing was sent of a bias, its row of the last weight replaces it: Σ δ·h ≈ g_c·h̄, by least squares over what
    was sent, with the layer's mean inputs h̄ on noise as well. For one image the row's sum is enough (iDLG, eq. 5).
    """
    if not inferable(view):
        raise GradwireError(f"targets of the loss {view.task.loss.name!r} cannot be inferred; say that they are known")
    weight, bias = last_linear(view.model)
    batch = view.shape[0]
    if batch == 1:
        slopes = update[bias] if bias is not None and update[bias].any() else update[weight].sum(1)
        if view.task.loss.name == BinaryCrossEntropy.name:
            return (slopes < 0).float()[None]
        return slopes.argmin()[None]
    prediction, inputs = _on_noise(view, weight.removesuffix("weight").rstrip("."))
    rows = update[weight].cpu().double()
    gradient = rows @ inputs / ((rows != 0).double() @ inputs.square()).clamp_min(torch.finfo(torch.float32).tiny)
    if bias is not None:
        gradient = torch.where(update[bias].cpu() != 0, update[bias].cpu().double(), gradient)
    return counts(batch * (prediction - gradient), gradient < 0, batch)


def inferable(view: View) -> bool:
    """Whether the loss and the batch are such that `infer` gives the targets."""
    loss = view.task.loss.name
    return loss == CrossEntropy.name or (loss == BinaryCrossEntropy.name and view.shape[0] == 1)


def labels_from_indices(view: View, batch: int) -> Tensor:
    """The labels that fit the positions of a sparse message, whose values are not read; int64 (batch,), ascending.

    Encrypting, masking or rounding the values of a sparse update leaves its positions in the clear. Row c of the last
    weight's gradient is Σ (p_c − y_c)·h, about one for the classes that occur and 1/classes for the others, so that the
    largest entries lie in the rows of the classes that occur. No paper's algorithm: it is the row rule of iDLG, with
    magnitudes replaced by whether they were among the largest.

    A bias that was sent counts for its class as much as the mean row of the weight. With s_c the class's share of what
    was sent, n_c is expected to be batch·(w·s_c + (1 − w)/classes), w = classes/(classes + batch), rounded by least
    squares: the larger a batch, the nearer the counts are to equal.

    A row's size is about |1/classes − n_c/batch|, whose sign positions do not show: from batch ≥ classes/2 on, absent
    classes have rows as large as those that occur, and an untrained network's positions reveal next to nothing.

    Raises:
        GradwireError: the scheme sends no positions, or the model has no linear layer.
    """
    weight, bias = last_linear(view.model)
    classes, width = view.model.get_parameter(weight).shape
    scheme, seen = observation(view)
    sparse = ((name, term) for name, terms in scheme.measure(seen).items() for term in terms)
    positions = {name: term.indices[0] for name, term in sparse if isinstance(term, Support)}
    if not positions:
        raise GradwireError(f"scheme {view.scheme!r} sends no positions; sparse-index needs one that does: topk")
    nothing = torch.empty(0, dtype=torch.int64)
    rows = (positions.get(weight, nothing) // width).bincount(minlength=classes).double()
    if bias is not None and bias in positions:
        rows = rows + rows.mean().clamp_min(1) * positions[bias].bincount(minlength=classes)
    share = rows / rows.sum().clamp_min(1)
    trust = classes / (classes + batch)
    return counts(batch * (trust * share + (1 - trust) / classes), torch.zeros(classes, dtype=torch.bool), batch)


def counts(expected: Tensor, present: Tensor, batch: int) -> Tensor:
    """The multiset of labels, ascending, whose counts are nearest to `expected` (classes,).

    Each class that is `present` counts at least once, the most expected ones first should there be more than `batch`
    of them. Given that, taking the class that lacks most, one label at a time, is the least-squares solution.
    """
    labels: list[int] = []
    lacking = expected.clone()
    certain = sorted(present.nonzero()[:, 0].tolist(), key=lambda c: -float(expected[c]))
    for place in range(batch):
        chosen = certain[place] if place < len(certain) else int(lacking.argmax())
        labels.append(chosen)
        lacking[chosen] -= 1
    return torch.tensor(sorted(labels))


def last_linear(model: nn.Module) -> tuple[str, str | None]:
    """Names of the last linear layer's weight and bias (None if it has none).

    Raises:
        GradwireError: the model has no linear layer, or the last one's weight is no parameter.
    """
    linear = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise GradwireError(f"labels cannot be inferred: {type(model).__name__} has no linear layer")
    name, module = linear[-1]
    if "weight" not in module._parameters:
        why = f"the weight of {name!r} is made of other parameters (weight_norm)"
        raise GradwireError(f"labels cannot be inferred: {why}")
    prefix = f"{name}." if name else ""
    return f"{prefix}weight", None if module.bias is None else f"{prefix}bias"


def _on_noise(view: View, layer: str) -> tuple[Tensor, Tensor]:
    """The mean prediction (classes,) and the last layer's mean inputs (features,), on noise; float64."""
    network = set_mode(copied(view.model), view.mode)
    like = next(network.parameters())
    inputs = view.task.domain.sample(PROBES, random=torch.Generator().manual_seed(0)).to(like.device)
    seen: list[Tensor] = []

    def note(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        seen.append(arguments[0].mean(0).cpu().double())

    network.get_submodule(layer).register_forward_pre_hook(note)
    # Dropout must not draw from the global generator.
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(0)
        prediction = view.task.logits(network, inputs).softmax(1).mean(0).cpu().double()
    return prediction, seen[-1]
