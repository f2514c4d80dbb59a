"""How well compressed training learns: CIFAR-10, ResNet-20, four clients.

What the papers of the schemes report: PowerSGD (Vogels et al. 2019, table 3) and DGC (Lin et al. 2018, table 2) reach
the accuracy of plain SGD; sparsification without error feedback (Stich et al. 2018) and signs without it (Karimireddy
et al. 2019, section 5) do not.

Each client normalises by its own batch; batch norm's running statistics are sent dense beside every update, averaged,
and counted among the bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import fmean
from typing import ClassVar

from gradwire.studies.accuracies import reached
from gradwire.studies.grid import Cell, Claim, Row, Study

CLIENTS = 4
POWERSGD, DGC = "powersgd:rank=4", "dgc:ratio=0.01"
TOPK, TOPK_PLAIN = "topk:ratio=0.01", "topk:ratio=0.01,error_feedback=false"
SIGN, SIGN_FEEDBACK = "signsgd", "signsgd:error_feedback=true"
MARGIN = 1.0
"""Points of accuracy: closer is as good, further away is clearly apart."""


@dataclass(frozen=True)
class Compression(Study):
    """Seven schemes in one training.

    Attributes:
        epochs: passes over the training images.
        images: training images, the first ones of CIFAR-10.
        seeds: repetitions. `batch`: images that each of the four clients takes a round: few, for error feedback needs
            many rounds until what it kept back has been sent.
        lr: for all but signs, with momentum 0.9.
        sign_lr: signs without a scale move every weight by the whole rate, so that it is small (Bernstein et al. 2018
            take 1e-4 for ImageNet). `feedback_lr`: Karimireddy et al. 2019 tune theirs to 0.056 without momentum; the
            optimiser's momentum multiplies steps by up to ten.
    """

    name: ClassVar[str] = "compression"
    title: ClassVar[str] = "Does compressed training learn as well as plain SGD?"

    epochs: int = 10
    images: int = 20000
    seeds: int = 1
    batch: int = 8
    model: str = "resnet20"
    lr: float = 0.02
    sign_lr: float = 0.0002
    feedback_lr: float = 0.01

    def cells(self) -> Sequence[Cell]:
        """One training a scheme and seed."""
        return [
            Cell(scheme, "train", self._settings(scheme, seed))
            for seed in range(self.seeds)
            for scheme in ("none", POWERSGD, DGC, TOPK, TOPK_PLAIN, SIGN, SIGN_FEEDBACK)
        ]

    def claims(self, rows: Sequence[Row]) -> Sequence[Claim]:
        """Who keeps up with plain SGD, and who with error feedback."""
        ended = {label: fmean(accuracies) for label, accuracies in reached(rows).items()}

        def compare(says: str, source: str, published: str, one: str, other: str) -> Claim:
            difference = ended[one] - ended[other]
            measured = f"{difference:+.1f} points ({ended[one]:.1f} % against {ended[other]:.1f} %)"
            holds = difference >= -MARGIN if published == "equal" else difference < -MARGIN
            return Claim(says, source, published, measured, holds)

        close = [
            compare(f"{scheme} within {MARGIN:g} point of plain SGD", source, "equal", scheme, "none")
            for scheme, source in ((POWERSGD, "Vogels et al. 2019, table 3"), (DGC, "Lin et al. 2018, table 2"))
        ]
        apart = [
            compare(f"{one} clearly below {other}", source, "below", one, other)
            for one, other, source in (
                (TOPK_PLAIN, TOPK, "Stich et al. 2018"),
                (SIGN, SIGN_FEEDBACK, "Karimireddy et al. 2019"),
            )
        ]
        return [*close, *apart]

    def _settings(self, scheme: str, seed: int) -> dict[str, object]:
        rounds = ceil(self.epochs * self.images / (CLIENTS * self.batch))
        return {
            "data": f"cifar10:train={self.images}",
            "model": self.model,
            "scheme": scheme,
            "clients": CLIENTS,
            "batch_size": self.batch,
            "rounds": rounds,
            "eval_every": max(1, rounds // 10),
            "lr": {SIGN: self.sign_lr, SIGN_FEEDBACK: self.feedback_lr}.get(scheme, self.lr),
            "weight_decay": 1e-4,
            "schedule": "cosine",
            "seed": seed,
        }
