"""How well compressed training learns: CIFAR-10, ResNet-20, four clients.

The papers report that PowerSGD (Vogels et al. 2019, table 3) and DGC (Lin et al. 2018, table 2) reach the accuracy of
plain SGD; sparsification (Stich et al. 2018) and signs (Karimireddy et al. 2019, section 5) without error feedback do
not. Each client normalises by its own batch; batch norm's running statistics are sent dense beside every update,
averaged, and counted among the bytes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from statistics import fmean
from typing import ClassVar

from gradwire.studies.grid import Claim, Row, Study, StudyCell, reached

CLIENTS = 4
POWERSGD, DGC = "powersgd:rank=4", "dgc:ratio=0.01"
TOPK, TOPK_PLAIN = "topk:ratio=0.01", "topk:ratio=0.01,error_feedback=false"
SIGN, SIGN_FEEDBACK = "signsgd", "signsgd:error_feedback=true"
MARGIN = 1.0
"""Points of accuracy within which two schemes are as good as each other."""


@dataclass(frozen=True)
class Compression(Study):
    """Seven schemes in one training.

    Attributes:
        epochs: passes over the training images.
        images: training images, the first ones of CIFAR-10.
        seeds: repetitions.
        batch: images a client and round: few, for error feedback takes many rounds to send what it kept back.
        lr: for all schemes but signs, with momentum 0.9.
        sign_lr: signs without a scale move every weight by the whole rate, so that it is small (Bernstein et al. 2018
            take 1e-4 for ImageNet).
        feedback_lr: Karimireddy et al. 2019 take 0.056 without momentum, which multiplies steps by up to ten.
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

    def cells(self) -> Sequence[StudyCell]:
        """One training a scheme and seed."""
        return [
            StudyCell(scheme, "train", self._settings(scheme, seed))
            for seed in range(self.seeds)
            for scheme in ("none", POWERSGD, DGC, TOPK, TOPK_PLAIN, SIGN, SIGN_FEEDBACK)
        ]

    def claims(self, rows: Sequence[Row]) -> Sequence[Claim]:
        """Which schemes keep up with plain SGD, and which with their own error feedback."""
        ended = {label: fmean(accuracies) for label, accuracies in reached(rows).items()}

        def compare(one: str, other: str, equal: bool, source: str) -> Claim:
            says = f"{one} within {MARGIN:g} point of plain SGD" if equal else f"{one} clearly below {other}"
            difference = ended[one] - ended[other]
            measured = f"{difference:+.1f} points ({ended[one]:.1f} % against {ended[other]:.1f} %)"
            return Claim(says, source, "equal" if equal else "below", measured, (difference >= -MARGIN) == equal)

        return [
            compare(POWERSGD, "none", True, "Vogels et al. 2019, table 3"),
            compare(DGC, "none", True, "Lin et al. 2018, table 2"),
            compare(TOPK_PLAIN, TOPK, False, "Stich et al. 2018"),
            compare(SIGN, SIGN_FEEDBACK, False, "Karimireddy et al. 2019"),
        ]

    def _settings(self, scheme: str, seed: int) -> dict[str, object]:
        rounds = ceil(self.epochs * self.images / (CLIENTS * self.batch))
        task = {"data": f"cifar10:train={self.images}", "model": self.model, "scheme": scheme, "seed": seed}
        steps = {"clients": CLIENTS, "batch_size": self.batch, "rounds": rounds, "eval_every": max(1, rounds // 10)}
        lr = {SIGN: self.sign_lr, SIGN_FEEDBACK: self.feedback_lr}.get(scheme, self.lr)
        return task | steps | {"lr": lr, "weight_decay": 1e-4, "schedule": "cosine"}
