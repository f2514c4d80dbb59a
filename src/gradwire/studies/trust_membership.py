"""Membership under compression: table II of the trustworthiness paper, smaller, and what it could not see.

"Trustworthiness of Stochastic Gradient Descent in Distributed Learning": ResNet-18 on CIFAR-10, CIFAR-100 and MNIST,
plain SGD against PowerSGD of five ranks and Top-K with as many bytes, attacked by prediction confidence, loss and
cross-entropy. The paper says neither how long it trained, nor how many candidates it asked, nor how it chose its
thresholds: every figure is k/6000 to two decimals, so that 6,000 candidates are likely. Beside its three attacks stand
two that compare a model with its shadows.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar

from gradwire.studies.grid import Cell, Claim, Row, Study

PAPER: dict[str, dict[str, tuple[float, float, float]]] = {
    "CIFAR-10": {
        "none": (54.02, 55.17, 55.93),
        "powersgd:rank=1": (54.10, 55.15, 56.05),
        "topk:match_rank=1": (54.93, 54.87, 53.03),
        "powersgd:rank=2": (53.98, 54.92, 56.47),
        "topk:match_rank=2": (56.20, 56.30, 54.97),
        "powersgd:rank=4": (54.02, 55.07, 55.88),
        "topk:match_rank=4": (56.52, 57.20, 56.53),
        "powersgd:rank=30": (54.23, 55.08, 56.03),
        "topk:match_rank=30": (54.15, 55.08, 56.00),
        "powersgd:rank=50": (53.83, 54.80, 55.53),
        "topk:match_rank=50": (54.13, 55.12, 55.77),
    },
    "CIFAR-100": {
        "none": (66.78, 69.83, 72.57),
        "powersgd:rank=1": (67.27, 70.23, 71.52),
        "topk:match_rank=1": (56.25, 55.73, 51.68),
        "powersgd:rank=2": (66.70, 70.08, 71.73),
        "topk:match_rank=2": (57.35, 56.90, 52.47),
        "powersgd:rank=4": (66.82, 70.17, 72.50),
        "topk:match_rank=4": (63.47, 63.03, 56.18),
        "powersgd:rank=30": (67.27, 70.17, 72.47),
        "topk:match_rank=30": (67.82, 69.85, 69.45),
        "powersgd:rank=50": (67.35, 70.27, 72.67),
        "topk:match_rank=50": (67.20, 69.47, 70.25),
    },
    "MNIST": {
        "none": (51.00, 51.30, 51.48),
        "powersgd:rank=1": (51.18, 51.57, 51.80),
        "topk:match_rank=1": (51.17, 51.60, 51.77),
        "powersgd:rank=2": (51.22, 51.62, 51.85),
        "topk:match_rank=2": (51.22, 51.77, 51.83),
        "powersgd:rank=4": (51.05, 51.48, 51.80),
        "topk:match_rank=4": (51.08, 51.53, 51.73),
        "powersgd:rank=30": (51.08, 51.48, 51.68),
        "topk:match_rank=30": (51.03, 51.38, 52.02),
        "powersgd:rank=50": (50.98, 51.40, 51.62),
        "topk:match_rank=50": (50.97, 51.35, 51.53),
    },
}
"""Table II: success in per cent, by prediction, by loss and by cross-entropy."""
THREE = ("prediction", "loss", "cross-entropy")
BEYOND = ("lira:variance=global", "rmia")
DATA = {"CIFAR-10": "cifar10", "CIFAR-100": "cifar100", "MNIST": "mnist"}


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

    def cells(self) -> Sequence[Cell]:
        """One membership run a data set, scheme and seed."""
        return [
            Cell(f"{data} {scheme}", "membership", self._settings(data, scheme, seed))
            for seed in range(self.seeds)
            for data, schemes in PAPER.items()
            for scheme in schemes
        ]

    def claims(self, rows: Sequence[Row]) -> Sequence[Claim]:
        """What the paper says of its table, what stands in it, and what the stronger attacks say."""
        found = TrustResult(rows)
        return [*_sentences(found), *_beyond(found), *_figures(found)]

    def _settings(self, data: str, scheme: str, seed: int) -> dict[str, object]:
        return {
            "data": f"{DATA[data]}:train={self.images}",
            "model": self.model,
            "schemes": [scheme],
            "shadows": self.shadows,
            "attacks": [*THREE, *BEYOND],
            "epochs": self.epochs,
            "clients": self.clients,
            "batch_size": self.batch,
            "lr": self.lr,
            "seed": seed,
        }


class TrustResult:
    """The figures of the finished grid, by label, attack and threshold; means over seeds."""

    def __init__(self, rows: Sequence[Row]):
        self._rows: dict[tuple[str, str, str], list[Row]] = {}
        for row in rows:
            self._rows.setdefault((row["label"], row["attack"], row["threshold"]), []).append(row)

    def __call__(self, label: str, attack: str, figure: str = "balanced_accuracy", threshold: str = "shadow") -> float:
        """A figure in per cent."""
        return 100 * fmean(float(row[figure]) for row in self._rows[label, attack, threshold])


def _sentences(found: TrustResult) -> Iterator[Claim]:
    """Section V of the paper."""
    for data, said in (("CIFAR-10", "minimal differences"), ("MNIST", "almost the same")):
        changes = [abs(drop) for scheme in PAPER[data] for drop in _drops(found, data, scheme)]
        measured = f"by {max(changes):.1f} points at most"
        claim = f"{data}: compression changes the attacks by less than 3 points"
        yield Claim(claim, "section V", said, measured, max(changes) < 3)
    for rank in (1, 2):
        scheme = f"topk:match_rank={rank}"
        drops = _drops(found, "CIFAR-100", scheme)
        table = PAPER["CIFAR-100"]
        published = [plain - compressed for plain, compressed in zip(table["none"], table[scheme], strict=True)]
        claim = f"CIFAR-100: {scheme} lowers every attack"
        yield Claim(claim, "section V", _points(published), _points(drops), min(drops) > 0)
    off = [abs(found(f"MNIST {scheme}", attack) - 50) for scheme in PAPER["MNIST"] for attack in THREE]
    farthest = max(map(max, PAPER["MNIST"].values())) - 50
    claim = "MNIST: every attack is within 3 points of guessing"
    yield Claim(claim, "table II", f"within {farthest:.2f}", f"within {max(off):.2f}", max(off) < 3)


def _beyond(found: TrustResult) -> Iterator[Claim]:
    """What attacks with shadow models find where a threshold on the loss finds little."""
    for data in PAPER:
        for scheme in ("none", "powersgd:rank=1", "topk:match_rank=1"):
            label = f"{data} {scheme}"
            loss = found(label, "loss", "tpr_at_1e-3")
            best, attack = max((found(label, attack, "tpr_at_1e-3"), attack) for attack in BEYOND)
            claim = f"{label}: at one false alarm in 1,000, shadow models name more members than the loss does"
            yield Claim(claim, "not in the paper", "", f"{attack} {best:.2f} %, loss {loss:.2f} %", best > loss)


def _figures(found: TrustResult) -> Iterator[Claim]:
    """Every cell of the table: does the interval of what was measured hold the published figure?"""
    for data, schemes in PAPER.items():
        for scheme, figures in schemes.items():
            label = f"{data} {scheme}"
            for attack, figure in zip(THREE, figures, strict=True):
                value, low, high = (found(label, attack, name) for name in ("balanced_accuracy", "low", "high"))
                target = found(label, attack, "balanced_accuracy", "target")
                measured = f"{value:.2f} % ({low:.2f}–{high:.2f}); with a threshold from the answers {target:.2f} %"
                yield Claim(f"{label}: {attack}", "table II", f"{figure:.2f} %", measured, low <= figure <= high)


def _drops(found: TrustResult, data: str, scheme: str) -> list[float]:
    """By how many points a scheme lowers the balanced accuracy of each of the three."""
    return [found(f"{data} none", attack) - found(f"{data} {scheme}", attack) for attack in THREE]


def _points(drops: Sequence[float]) -> str:
    return ", ".join(f"{attack} by {drop:.2f} points" for attack, drop in zip(THREE, drops, strict=True))
