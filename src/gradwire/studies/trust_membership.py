"""Membership under compression: table II of the trustworthiness paper, smaller, and what it could not see.

"Trustworthiness of Stochastic Gradient Descent in Distributed Learning": ResNet-18 on CIFAR-10, CIFAR-100 and MNIST,
plain SGD against PowerSGD of five ranks and Top-K with as many bytes, attacked by prediction confidence, loss and
cross-entropy. The paper gives neither the length of its training, nor the number of candidates (every figure is k/6000
to two decimals, so 6,000 are likely), nor its thresholds. Here are two more attacks, which compare a model with its
shadows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar

from gradwire.studies.grid import Claim, Row, Study, StudyCell, values

DATA = {"CIFAR-10": "cifar10", "CIFAR-100": "cifar100", "MNIST": "mnist"}
TABLE = {
    "none": ((54.02, 55.17, 55.93), (66.78, 69.83, 72.57), (51.00, 51.30, 51.48)),
    "powersgd:rank=1": ((54.10, 55.15, 56.05), (67.27, 70.23, 71.52), (51.18, 51.57, 51.80)),
    "topk:match_rank=1": ((54.93, 54.87, 53.03), (56.25, 55.73, 51.68), (51.17, 51.60, 51.77)),
    "powersgd:rank=2": ((53.98, 54.92, 56.47), (66.70, 70.08, 71.73), (51.22, 51.62, 51.85)),
    "topk:match_rank=2": ((56.20, 56.30, 54.97), (57.35, 56.90, 52.47), (51.22, 51.77, 51.83)),
    "powersgd:rank=4": ((54.02, 55.07, 55.88), (66.82, 70.17, 72.50), (51.05, 51.48, 51.80)),
    "topk:match_rank=4": ((56.52, 57.20, 56.53), (63.47, 63.03, 56.18), (51.08, 51.53, 51.73)),
    "powersgd:rank=30": ((54.23, 55.08, 56.03), (67.27, 70.17, 72.47), (51.08, 51.48, 51.68)),
    "topk:match_rank=30": ((54.15, 55.08, 56.00), (67.82, 69.85, 69.45), (51.03, 51.38, 52.02)),
    "powersgd:rank=50": ((53.83, 54.80, 55.53), (67.35, 70.27, 72.67), (50.98, 51.40, 51.62)),
    "topk:match_rank=50": ((54.13, 55.12, 55.77), (67.20, 69.47, 70.25), (50.97, 51.35, 51.53)),
}
"""Table II: scheme → on each of the data sets, success in per cent by prediction, by loss and by cross-entropy."""
PAPER = {data: {scheme: figures[column] for scheme, figures in TABLE.items()} for column, data in enumerate(DATA)}
THREE = ("prediction", "loss", "cross-entropy")
BEYOND = ("lira:variance=global", "rmia")


@dataclass(frozen=True)
class TrustMembership(Study):
    """Eleven schemes, three data sets, three attacks of the paper's and two more.

    Attributes:
        images: candidates, the first of the training images; each model is trained on a random half.
        shadows: models a scheme, each the target once.
        seeds: repetitions.
    """

    name: ClassVar[str] = "trust-membership"
    title: ClassVar[str] = "Does compression hide who was in the training set?"

    images: int = 2000
    epochs: int = 20
    shadows: int = 8
    model: str = "convnet"
    clients: int = 4
    batch: int = 16
    lr: float = 0.01
    seeds: int = 1

    def cells(self) -> Sequence[StudyCell]:
        """One membership run a data set, scheme and seed."""
        return [
            StudyCell(f"{data} {scheme}", "membership", self._settings(data, scheme, seed))
            for seed in range(self.seeds)
            for data, schemes in PAPER.items()
            for scheme in schemes
        ]

    def claims(self, rows: Sequence[Row]) -> Sequence[Claim]:
        """What the paper says of its table, each of its cells, and what the stronger attacks find."""
        found = TrustResult(rows)
        return [*_sentences(found), *_beyond(found), *_figures(found)]

    def _settings(self, data: str, scheme: str, seed: int) -> dict[str, object]:
        return {
            "data": f"{DATA[data]}:train={self.images}",
            **{name: getattr(self, name) for name in ("model", "shadows", "epochs", "clients", "lr")},
            "schemes": [scheme],
            "attacks": [*THREE, *BEYOND],
            "batch_size": self.batch,
            "seed": seed,
        }


@dataclass(frozen=True)
class TrustResult:
    """The figures of the finished grid, means over seeds."""

    rows: Sequence[Row]

    def __call__(self, label: str, attack: str, figure: str = "balanced_accuracy", threshold: str = "shadow") -> float:
        """A figure in per cent."""
        return 100 * fmean(values(self.rows, figure, label=label, attack=attack, threshold=threshold))

    def drops(self, data: str, scheme: str) -> list[float]:
        """By how many points a scheme lowers the balanced accuracy of each of the three attacks."""
        return [self(f"{data} none", attack) - self(f"{data} {scheme}", attack) for attack in THREE]


def _sentences(found: TrustResult) -> Iterator[Claim]:
    """Section V of the paper."""
    for data, said in (("CIFAR-10", "minimal differences"), ("MNIST", "almost the same")):
        change = max(abs(drop) for scheme in PAPER[data] for drop in found.drops(data, scheme))
        says = f"{data}: compression changes the attacks by less than 3 points"
        yield Claim(says, "section V", said, f"by {change:.1f} points at most", change < 3)
    table = PAPER["CIFAR-100"]
    for scheme in ("topk:match_rank=1", "topk:match_rank=2"):
        drops = found.drops("CIFAR-100", scheme)
        published = [plain - compressed for plain, compressed in zip(table["none"], table[scheme], strict=True)]
        says = f"CIFAR-100: {scheme} lowers every attack"
        yield Claim(says, "section V", _points(published), _points(drops), min(drops) > 0)
    off = max(abs(found(f"MNIST {scheme}", attack) - 50) for scheme in PAPER["MNIST"] for attack in THREE)
    farthest = max(map(max, PAPER["MNIST"].values())) - 50
    says = "MNIST: every attack is within 3 points of guessing"
    yield Claim(says, "table II", f"within {farthest:.2f}", f"within {off:.2f}", off < 3)


def _beyond(found: TrustResult) -> Iterator[Claim]:
    """What attacks with shadow models find where a threshold on the loss finds little."""
    for data in PAPER:
        for scheme in ("none", "powersgd:rank=1", "topk:match_rank=1"):
            label = f"{data} {scheme}"
            loss = found(label, "loss", "tpr_at_1e-2")
            best, attack = max((found(label, attack, "tpr_at_1e-2"), attack) for attack in BEYOND)
            says = f"{label}: at one false alarm in 100, shadow models name more members than the loss does"
            yield Claim(says, "not in the paper", "", f"{attack} {best:.2f} %, loss {loss:.2f} %", best > loss)


def _figures(found: TrustResult) -> Iterator[Claim]:
    """Every cell of the table: does the measured interval hold the published figure?"""
    for data, schemes in PAPER.items():
        for scheme, figures in schemes.items():
            label = f"{data} {scheme}"
            for attack, figure in zip(THREE, figures, strict=True):
                value, low, high = (found(label, attack, name) for name in ("balanced_accuracy", "low", "high"))
                target = found(label, attack, threshold="target")
                measured = f"{value:.2f} % ({low:.2f}–{high:.2f}); with a threshold from the answers {target:.2f} %"
                yield Claim(f"{label}: {attack}", "table II", f"{figure:.2f} %", measured, low <= figure <= high)


def _points(drops: Sequence[float]) -> str:
    return ", ".join(f"{attack} by {drop:.2f} points" for attack, drop in zip(THREE, drops, strict=True))
