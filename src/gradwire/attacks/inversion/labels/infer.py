"""Labels from the gradient of the layer that makes the logits, or from the positions of a sparse message alone.

- B. Zhao, K. R. Mopuri, H. Bilen, "iDLG: Improved deep leakage from gradients", 2020: one image, exactly.
- H. Yin et al., "See through gradients: Image batch recovery via GradInversion", CVPR 2021, eq. 4: a batch of images
  of distinct classes: the classes with the most negative gradients.
- A. Wainakh et al., "User-level label leakage from gradients in federated learning", PoPETs 2022, and J. Geng et al.,
  "Towards general deep leakage in federated learning", 2021: a batch with repeated classes, by counting.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from gradwire.attacks.inversion.labels.head import PROBES, Head, trace
from gradwire.attacks.inversion.labels.proof import all_signs_sent, proven
from gradwire.attacks.inversion.labels.slopes import solved
from gradwire.errors import GradwireError
from gradwire.schemes import Measurement, Update, observation
from gradwire.schemes.measurement import Support
from gradwire.tasks import BinaryCrossEntropy, CrossEntropy, TaskLoss
from gradwire.wire import View


@dataclass(frozen=True)
class Inferred:
    """What a view says of the labels of a victim's batch.

    Attributes:
        targets: ascending: class numbers (B,), or 0 and 1 under bce, (B, outputs). Empty, (B, 0), where they cannot be
            inferred, and then `reason` says why.
        exact: whether they follow from what was sent; else they are estimates.
    """

    targets: Tensor
    exact: bool = False
    reason: str = ""


def infer(view: View, update: Update, sent: Measurement) -> Inferred:
    """The labels of a victim's batch from its decoded update and from what was sent, as the scheme measures it.

    Under cross-entropy the logits have the slopes g = mean over the batch of (softmax − onehot), which the head's
    gradients show (`Head.slopes`), so that class c occurs n_c = Σ p_c − B·g_c times.

    - For one image the class is the only one with a negative slope (iDLG, eq. 3), and the one with the largest: the
      others' add up to it. Under binary cross-entropy the slope is sigmoid − y, negative for the labels that are 1, and
      for these alone.
    - For several, every class with a negative slope occurs, and Σ p_c is B times the network's mean prediction, which
      is estimated on noise. The counts are the whole numbers that come nearest.

    A user's function of logits and class numbers has slopes of its own: `slopes.solved`.
    """
    loss, batch = view.task.loss, view.shape[0]
    nothing = torch.empty(batch, 0, dtype=torch.int64)
    binary = loss.name == BinaryCrossEntropy.name
    if not (binary or isinstance(getattr(loss, "like", loss), CrossEntropy)):
        return Inferred(nothing, reason=f"targets of the loss {loss.name!r} cannot be inferred")
    if binary and batch > 1 and loss.outputs > 1:
        what = f"a batch's slopes count the ones of each of {loss.outputs} labels, and do not say whose they are"
        return Inferred(nothing, reason=f"targets of the loss {loss.name!r} cannot be inferred: {what}")
    try:
        head = trace(view.model, view.mode, view.task, PROBES if batch > 1 or loss.name == "own" else 4)
    except GradwireError as error:
        return Inferred(nothing, reason=str(error))
    if binary:
        slopes = head.slopes(update)
        if batch == 1:
            return Inferred((slopes < 0).float()[None], all_signs_sent(view, head, sent))
        ones = round(float(batch * (head.logits.sigmoid().mean() - slopes[0])))
        return Inferred((torch.arange(batch) >= batch - min(max(ones, 0), batch)).float()[:, None])
    if not head.cross_entropy:
        return _of_a_users_function(head, loss, head.slopes(update), batch, nothing)
    if batch == 1:
        label, by_bias = _only_one(head, update)
        return Inferred(label[None], proven(view, head, sent, int(label), by_bias))
    slopes, prediction = head.slopes(update), head.logits.softmax(1).mean(0)
    return Inferred(counts(batch * (prediction - slopes), slopes < 0, batch))


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
        GradwireError: the scheme sends no positions, or the weight that makes the logits is not to be found.
    """
    head = rows_known(view)
    scheme, seen = observation(view)
    sparse = ((name, term) for name, terms in scheme.measure(seen).items() for term in terms)
    positions = {name: term.indices[0] for name, term in sparse if isinstance(term, Support)}
    if not positions:
        raise GradwireError(f"scheme {view.scheme!r} sends no positions; sparse-index needs one that does: topk")
    nothing = torch.empty(0, dtype=torch.int64)
    rows = head.classes_of(positions.get(head.weight or "", nothing)).bincount(minlength=head.classes).double()
    if head.bias is not None and head.bias in positions:
        rows = rows + rows.mean().clamp_min(1) * positions[head.bias].bincount(minlength=head.classes)
    share = rows / rows.sum().clamp_min(1)
    trust = head.classes / (head.classes + batch)
    expected = batch * (trust * share + (1 - trust) / head.classes)
    return counts(expected, torch.zeros(head.classes, dtype=torch.bool), batch)


def rows_known(view: View) -> Head:
    """The head of a view's network, which must have a weight with a row for each class.

    Raises:
        GradwireError: it has none that is trained.
    """
    head = trace(view.model, view.mode, view.task, 4)
    if head.weight is None:
        raise GradwireError(
            f"positions tell labels by a weight's rows; {head.bias!r} stands beside none that is trained"
        )
    return head


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


def _only_one(head: Head, update: Update) -> tuple[Tensor, bool]:
    """The label of a batch of one under cross-entropy, and whether a bias told it."""
    if head.bias is not None:
        slopes = update[head.bias].cpu().double().flatten() / head.scale
        if bool((slopes < 0).any()):
            return slopes.argmin(), True
    if head.weight is not None and head.classes > 2:
        return head.rows(update[head.weight].cpu().double()).norm(dim=1).argmax(), False
    return head.slopes(update).argmin(), False


def _of_a_users_function(head: Head, loss: TaskLoss, slopes: Tensor, batch: int, nothing: Tensor) -> Inferred:
    """Labels under a function that is not plain cross-entropy."""
    unlike = f"targets of the loss {loss.name!r} cannot be inferred"
    if loss.reported:
        return Inferred(
            nothing, reason=f"{unlike}: the network reports another one than the cross-entropy of its logits"
        )
    try:
        expected = solved(loss, head.logits, slopes, batch)
    except Exception as error:  # a user's function may want another output, or other targets
        return Inferred(nothing, reason=f"{unlike}: it is no function of logits and class numbers: {error}")
    return Inferred(counts(expected, torch.zeros(head.classes, dtype=torch.bool), batch))
