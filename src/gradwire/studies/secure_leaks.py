"""What secure sparse aggregation leaks all the same: who chose which entries, and the largest magnitude.

The SSGA paper does not say whether open index sets give labels away, and whether the anonymous union stops that; and it
asserts of R_max that "a single value cannot possibly reveal a lot of information about the data".
"""

from collections import Counter
from dataclasses import dataclass

import torch
from scipy.stats import binomtest, spearmanr  # type: ignore[import-untyped]
from sklearn.metrics import roc_auc_score
from torch import Tensor

from gradwire import data
from gradwire.attacks.inversion.labels.infer import rows_known
from gradwire.data import Dataset
from gradwire.errors import GradwireError
from gradwire.runs import Row
from gradwire.schemes import Layout, observation
from gradwire.schemes.ssga import SSGA, VOTE
from gradwire.seeds import generator
from gradwire.training import TrainSettings, begin, capture, gradient, train
from gradwire.wire import View, indices

LABELS = (
    *("data", "model", "scheme", "seed", "clients", "batch", "samples"),
    *("accuracy", "low", "high", "fellow", "chance"),
)
MAXIMUM = ("data", "model", "seed", "rounds", "samples", "auc_maximum", "auc_loss", "rank_correlation")
"""Columns of the two tables."""


@dataclass(frozen=True)
class LabelLeak:
    """What decides how many labels the chosen entries give away.

    Attributes:
        union: "open" or "anonymous".
        samples: rounds attacked, of so many `clients` with `batch` images each.
    """

    data: str = "digits"
    model: str = "convnet"
    union: str = "open"
    clients: int = 4
    batch: int = 1
    samples: int = 100
    compression: float = 50.0
    seed: int = 0

    @property
    def scheme(self) -> str:
        """The spec of the scheme."""
        return f"ssga:compression={self.compression},union={self.union}"


@dataclass(frozen=True)
class MaximumLeak:
    """What decides how much R_max tells of membership.

    Attributes:
        samples: members, and as many others, after so many `rounds` of training.
    """

    data: str = "digits"
    model: str = "convnet"
    samples: int = 100
    rounds: int = 300
    seed: int = 0


def labels_from_indices(view: View) -> Tensor:
    """The labels of a client's batch, from the rows of the last layer that hold its chosen entries; int64, shape (B,).

    Under cross-entropy the rows of the classes in the batch have the largest gradients, so that Top-K chooses them. An
    anonymous union stands for the client's own choice, which cannot be seen.

    Raises:
        GradwireError: a scheme whose entries are not chosen by size.
    """
    scheme, seen = observation(view)
    if not isinstance(scheme, SSGA) or scheme.mask != "topk":
        wanted = "this attack is for ssga with mask=topk"
        raise GradwireError(f"{view.scheme} tells no entries that clients chose; {wanted}")
    layout = seen.round.layout
    if scheme.votes:
        told = seen.replies[VOTE + scheme.protocol.closing("masked")]
        chosen = indices.decode(told["indices"], int(told["count"]), layout.size)
    else:
        chosen = scheme.places(seen.uploads["offer"], seen.round, view.victim)
    head = rows_known(view)
    assert head.weight is not None
    inside = chosen - layout.offsets[head.weight]
    rows = head.classes_of(inside[(inside >= 0) & (inside < layout.sizes[head.weight])])
    return torch.bincount(rows, minlength=head.classes).topk(view.shape[0]).indices


def label_leak(settings: LabelLeak) -> list[Row]:
    """The share of the victim's labels that are guessed right from the chosen entries, and what chance would find.

    `fellow` is the share of another client's labels for which the same guess is right: as high as `accuracy` where an
    adversary cannot tell the two apart.
    """
    dataset = data.load(settings.data, "test")
    model = dataset.network(settings.model, settings.seed)
    right, guesses = [0, 0], settings.samples * settings.batch
    for sample in range(settings.samples):
        # Drawn with replacement, so that labels are as frequent as in the data.
        random = [generator("secure leaks", settings.seed, sample, party) for party in range(settings.clients)]
        batches = [dataset.batch(torch.randint(len(dataset), (settings.batch,), generator=drawn)) for drawn in random]
        view = capture(model, *batches[0], settings.scheme, fellows=batches[1:], targets_known=False, freeze=False)
        guess = labels_from_indices(view)
        for party in (0, 1):  # each guess is used once
            right[party] += (Counter(guess.tolist()) & Counter(batches[party][1].tolist())).total()
    ends = binomtest(right[0], guesses).proportion_ci(method="wilson")
    found: Row = {
        "accuracy": right[0] / guesses,
        "low": float(ends.low),
        "high": float(ends.high),
        "fellow": right[1] / guesses,
        # A label is among B distinct random guesses as often as one of B labels is a given class.
        "chance": 1 - (1 - 1 / dataset.outputs) ** settings.batch,
    }
    return [{name: getattr(settings, name) for name in LABELS[:7]} | dict(found)]


def maximum_leak(settings: MaximumLeak) -> list[Row]:
    """How well R_max of one image tells members from others after training, beside what the loss would tell."""
    members, others = data.load(settings.data, "train"), data.load(settings.data, "test")
    how = TrainSettings(rounds=settings.rounds, seed=settings.seed)
    state = begin(how, members.network(settings.model, settings.seed))
    train(state, how, members)
    pairs = [_loss_and_maximum(state.model, d, i) for d in (members, others) for i in range(settings.samples)]
    losses, maxima = zip(*pairs, strict=True)
    truth = [1] * settings.samples + [0] * settings.samples
    found: Row = {
        "auc_maximum": float(roc_auc_score(truth, [-m for m in maxima])),
        "auc_loss": float(roc_auc_score(truth, [-v for v in losses])),
        "rank_correlation": float(spearmanr(losses, maxima).statistic),
    }
    return [{name: getattr(settings, name) for name in MAXIMUM[:5]} | dict(found)]


def _loss_and_maximum(model: torch.nn.Module, dataset: Dataset, index: int) -> tuple[float, float]:
    loss, update, _ = gradient(model, *dataset.batch(torch.tensor([index])), mode="eval")
    return loss, float(Layout.of(update).flatten(update).abs().max())
