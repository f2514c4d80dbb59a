"""How well compressed training learns: CIFAR-10, ResNet-20, four clients.

What the papers of the schemes report: PowerSGD (Vogels et al. 2019, table 3) and DGC (Lin et al. 2018, table 2) reach
the accuracy of plain SGD; sparsification without error feedback (Stich et al. 2018) and signs without it (Karimireddy
et al. 2019, section 5) do not.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import fmean
from typing import ClassVar

from gradwire.studies.grid import Cell, Claim, Row, Study

POWERSGD, DGC = "powersgd:rank=4", "dgc:ratio=0.01"
TOPK, TOPK_PLAIN = "topk:ratio=0.01", "topk:ratio=0.01,error_feedback=false"
SIGN, SIGN_FEEDBACK = "signsgd", "signsgd:error_feedback=true"


@dataclass(frozen=True)
class Compression(Study):
    """Seven schemes in one training.

    Attributes:
        epochs: passes over the training images.
        images: training images, the first ones of CIFAR-10.
        seeds: repetitions.
    """

    name: ClassVar[str] = "compression"
    title: ClassVar[str] = "Does compressed training learn as well as plain SGD?"

    epochs: int = 10
    images: int = 20000
    seeds: int = 1
    model: str = "resnet20"
    lr: float = 0.1
    sign_lr: float = 0.001

    def cells(self) -> Sequence[Cell]:
        """One training a scheme and seed; signs move every weight by the whole rate, and have one of their own."""
        return [
            Cell(scheme, "train", self._settings(scheme, seed))
            for seed in range(self.seeds)
            for scheme in ("none", POWERSGD, DGC, TOPK, TOPK_PLAIN, SIGN, SIGN_FEEDBACK)
        ]

    def claims(self, rows: Sequence[Row]) -> Sequence[Claim]:
        """Who keeps up with plain SGD, and who with error feedback."""
        reached = {label: 100 * _last(rows, label) for label in dict.fromkeys(row["label"] for row in rows)}

        def beside(one: str, other: str) -> float:
            return reached[one] - reached[other]

        close = [
            Claim(
                f"{scheme} within one point of plain SGD",
                source,
                "equal",
                f"{beside(scheme, 'none'):+.1f} points",
                beside(scheme, "none") >= -1,
            )
            for scheme, source in ((POWERSGD, "Vogels et al. 2019, table 3"), (DGC, "Lin et al. 2018, table 2"))
        ]
        apart = [
            Claim(f"{one} below {other}", source, "below", f"{beside(one, other):+.1f} points", beside(one, other) < 0)
            for one, other, source in (
                (TOPK_PLAIN, TOPK, "Stich et al. 2018"),
                (SIGN, SIGN_FEEDBACK, "Karimireddy et al. 2019"),
            )
        ]
        return [*close, *apart]

    def _settings(self, scheme: str, seed: int) -> dict[str, object]:
        clients, batch = 4, 32
        rounds = ceil(self.epochs * self.images / (clients * batch))
        return {
            "data": f"cifar10:train={self.images}",
            "model": self.model,
            "scheme": scheme,
            "clients": clients,
            "batch_size": batch,
            "rounds": rounds,
            "eval_every": max(1, rounds // 10),
            "lr": self.sign_lr if scheme.startswith("signsgd") else self.lr,
            "weight_decay": 1e-4,
            "schedule": "cosine",
            "seed": seed,
        }


def _last(rows: Sequence[Row], label: str) -> float:
    """The mean over seeds of the last accuracy."""
    mine = [row for row in rows if row["label"] == label]
    end = max(int(row["round"]) for row in mine)
    return fmean(float(row["test_accuracy"]) for row in mine if int(row["round"]) == end)
