"""What leaks from secure sparse aggregation all the same: who chose which entries, and the largest magnitude.

Two questions that the SSGA paper leaves open or answers by assertion. Do open index sets give labels away, and does the
anonymous union stop that? "A single value cannot possibly reveal a lot of information about the data": does R_max tell
whether an example was trained on?
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from scipy.stats import binomtest, spearmanr  # type: ignore[import-untyped]
from sklearn.metrics import roc_auc_score
from torch import Tensor

from gradwire import data, models
from gradwire.attacks.inversion.labels import last_linear
from gradwire.data import Dataset
from gradwire.errors import GradwireError
from gradwire.schemes import Layout, sight
from gradwire.schemes.ssga import SSGA, VOTE
from gradwire.seeds import generator
from gradwire.training import TrainSettings, begin, capture, gradient, train
from gradwire.wire import View, indices


@dataclass(frozen=True)
class LeakSettings:
    """What decides the study.

    Attributes:
        clients: |C| of the attacked rounds; `batch`: images a client.
        samples: rounds attacked (labels), or members and as many others (R_max).
        rounds: of training before R_max is looked at.
    """

    data: str = "digits"
    model: str = "convnet"
    clients: Sequence[int] = (2, 4, 8)
    batch: int = 1
    samples: int = 100
    compression: float = 50.0
    rounds: int = 300
    seed: int = 0


def labels_from_indices(view: View) -> Tensor:
    """The labels of a client's batch, by which rows of the last layer its chosen entries lie in; int64, shape (B,).

    Under cross-entropy the rows of the classes in the batch have the largest gradients, so that Top-K chooses them.
    Where the union is anonymous it stands for the client's own choice: that is all there is to see.

    Raises:
        GradwireError: a scheme whose entries are not chosen by size.
    """
    scheme, seen = sight(view)
    if not isinstance(scheme, SSGA) or scheme.mask != "topk":
        raise GradwireError(
            f"{view.scheme} tells no entries that clients chose; this attack is for ssga with mask=topk"
        )
    layout = seen.round.layout
    if scheme.votes:
        told = seen.replies[VOTE + scheme.protocol.closing("masked")]
        chosen = indices.decode(told["indices"], int(told["count"]), layout.size)
    else:
        chosen = scheme.places(seen.uploads["offer"], seen.round, view.victim)
    weight, _ = last_linear(view.model)
    classes, width = layout.shapes[weight]
    inside = chosen - layout.offsets[weight]
    rows = inside[(inside >= 0) & (inside < classes * width)] // width
    return torch.bincount(rows, minlength=classes).topk(view.shape[0]).indices


def label_leaks(settings: LeakSettings) -> Iterator[dict[str, object]]:
    """One row for each kind of union and number of clients: how many labels are guessed right, beside chance."""
    dataset = data.load(settings.data, "test")
    model = models.build(settings.model, dataset.shape, dataset.num_classes, dataset.mean, dataset.std, settings.seed)
    for union in ("open", "anonymous"):
        for clients in settings.clients:
            right, guesses = 0, settings.samples * settings.batch
            for sample in range(settings.samples):
                batches = [_batch(dataset, settings, sample, party) for party in range(clients)]
                scheme = f"ssga:compression={settings.compression},union={union}"
                view = capture(model, *batches[0], scheme, fellows=batches[1:], labels_known=False, freeze=False)
                right += _overlap(labels_from_indices(view), batches[0][1])
            ends = binomtest(right, guesses).proportion_ci(method="wilson")
            yield {
                "leak": "labels",
                "union": union,
                "clients": clients,
                "batch": settings.batch,
                "accuracy": right / guesses,
                "low": float(ends.low),
                "high": float(ends.high),
                # A label is among B distinct guesses at random as often as one of B labels is a given class.
                "chance": 1 - (1 - 1 / dataset.num_classes) ** settings.batch,
            }


def maximum_leaks(settings: LeakSettings) -> dict[str, object]:
    """How well R_max of one image tells members from others after training, beside what the loss would tell."""
    members, others = data.load(settings.data, "train"), data.load(settings.data, "test")
    how = TrainSettings(rounds=settings.rounds, seed=settings.seed)
    model = models.build(settings.model, members.shape, members.num_classes, members.mean, members.std, settings.seed)
    state = begin(how, model)
    train(state, how, members)
    found = [_loss_and_maximum(state.model, d, i) for d in (members, others) for i in range(settings.samples)]
    losses, maxima = zip(*found, strict=True)
    truth = [1] * settings.samples + [0] * settings.samples
    return {
        "leak": "maximum",
        "auc_maximum": float(roc_auc_score(truth, [-m for m in maxima])),
        "auc_loss": float(roc_auc_score(truth, [-v for v in losses])),
        "rank_correlation": float(spearmanr(losses, maxima).statistic),
    }


def _batch(dataset: Dataset, settings: LeakSettings, sample: int, party: int) -> tuple[Tensor, Tensor]:
    """Images drawn anew for each round and party, so that labels are as frequent as in the data."""
    drawn = generator("secure leaks", settings.seed, sample, party)
    return dataset.batch(torch.randint(len(dataset), (settings.batch,), generator=drawn))


def _overlap(guessed: Tensor, true: Tensor) -> int:
    """How many of the true labels are guessed, each guess used once."""
    return (Counter(guessed.tolist()) & Counter(true.tolist())).total()


def _loss_and_maximum(model: torch.nn.Module, dataset: Dataset, index: int) -> tuple[float, float]:
    loss, update, _ = gradient(model, *dataset.batch(torch.tensor([index])), mode="eval")
    return loss, float(Layout.of(update).flatten(update).abs().max())
