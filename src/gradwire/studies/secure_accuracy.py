"""What secure sparse aggregation does to accuracy: table I and figures 3, 5, 6 and 8 of the SSGA paper, smaller.

M. van Rooij, S. van Rooij, H. Bouma, A. Pimentel, "Secure sparse gradient aggregation in distributed architectures":
ResNet-110 on CIFAR-10 for 200 epochs, four clients, five runs. Here the default network is trained for a fraction of an
epoch to a few by as many clients. Tests are Welch's, at p < 0.05, as in the paper: "no significant difference" between
a few short runs says less than between five long ones, so that the differences stand beside the p-values.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar

from scipy.stats import ttest_ind  # type: ignore[import-untyped]

from gradwire.studies.grid import Claim, Row, Study, StudyCell, reached

PAPER = {
    "SGD": "94.72",
    "SSGA-DGC-400": "94.31",
    "SSGA-DGC-200": "94.22",
    "DGC": "94.10",
    "SSGA-200": "93.89",
    "SSGA-200-no-residual": "82.00",
}
"""Table I, test accuracy in per cent."""
ADAM = "ADAM"
LEVEL = 0.05
CHANCE = 10.0
"""Per cent: ten classes."""
COMPARISONS: Mapping[str, tuple[str, Callable[[float, float], bool]]] = {
    "alike": ("{} does not differ significantly from {}", lambda points, p: p >= LEVEL),
    "not below": ("{} is not below {}", lambda points, p: points >= 0 or p >= LEVEL),
    "below": ("{} is below {}", lambda points, p: points < 0 and p < LEVEL),
    "far below": ("{} is below {} by more than 3 points", lambda points, p: points < -3 and p < LEVEL),
}
"""Kind of comparison → its words, and whether it holds for a difference in points and the p-value of Welch's test."""


@dataclass(frozen=True)
class SecureAccuracy(Study):
    """Twenty-one schemes, with the labels of the paper.

    Attributes:
        batch: images a client and round.
        lr: of SGD and SGA; `sparse_lr`, of SSGA; `dgc_lr`, of DGC; `local_lr`, of SSGA-DGC, whose momentum still
            pushes an entry that has just been sent; `adam_lr`, of Adam.
        small, fit, large: fixed maxima, far below, above and far above the largest residual.
    """

    name: ClassVar[str] = "secure-accuracy"
    title: ClassVar[str] = "Does secure sparse aggregation keep accuracy?"

    rounds: int = 500
    batch: int = 8
    seeds: int = 3
    clients: int = 4
    model: str = "convnet"
    lr: float = 0.02
    sparse_lr: float = 0.01
    dgc_lr: float = 0.02
    local_lr: float = 0.0003
    adam_lr: float = 0.001
    small: float = 0.001
    fit: float = 10.0
    large: float = 1e9

    def cells(self) -> Sequence[StudyCell]:
        """One training a label and seed, the labels of one seed after another."""
        return [
            StudyCell(label, "train", self._settings(label, scheme, seed))
            for seed in range(self.seeds)
            for label, scheme in self._schemes().items()
        ]

    def claims(self, rows: Sequence[Row]) -> Sequence[Claim]:
        """What the paper says, beside what these runs measured."""
        found = reached(rows)

        def compare(one: str, kind: str, other: str, source: str, published: str) -> Claim:
            says, holds = COMPARISONS[kind]
            points, p = fmean(found[one]) - fmean(found[other]), _welch(found[one], found[other])
            chance = "too few runs to test" if p is None else f"p = {p:.2g}"
            ended = f"{fmean(found[one]):.1f} against {fmean(found[other]):.1f} %"
            measured = f"{ended} ({points:+.1f} points, {chance})"
            return Claim(says.format(one, other), source, published, measured, None if p is None else holds(points, p))

        def at_chance(label: str) -> Claim:
            mean = fmean(found[label])
            return Claim(f"{label} fails to learn", "section III-C", "10 %", f"{mean:.1f} %", mean < 1.5 * CHANCE)

        def published(one: str, other: str) -> str:
            difference = float(PAPER[one]) - float(PAPER[other])
            return f"{PAPER[one]} against {PAPER[other]} % ({difference:+.2f} points)"

        both, bare, bad = ("SSGA", "SSGA-DGC"), "SSGA-200-no-residual", "10 %, or far below"
        good, same = ("SSGA-200", "SSGA-DGC-200", "SSGA-DGC-400"), "no significant difference"
        return [
            compare("SGA", "alike", "SGD", "figure 3", "no significant decline"),
            compare("DGC", "not below", ADAM, "figure 3", "about 2 points above"),
            *(compare(label, "alike", "DGC", "figure 6", published(label, "DGC")) for label in good),
            compare("SSGA-400", "below", "SSGA-200", "figure 6", "declines"),
            compare("SSGA-DGC-400", "not below", "SSGA-400", "figure 6", "above"),
            compare(bare, "far below", "SSGA-200", "table I", published(bare, "SSGA-200")),
            *(at_chance(f"{m}-200-random") for m in both),
            *(
                compare(f"{m}-400-max-{size}", "far below", f"{m}-400", "figure 5", bad)
                for m in both
                for size in ("small", "large")
            ),
            *(compare(f"{m}-400-max-fit", "alike", f"{m}-400", "figure 5", "similar") for m in both),
            *(compare(f"{m}-400-{n}-bit", "alike", f"{m}-400", "figure 8", same) for m in both for n in (16, 8)),
        ]

    def _schemes(self) -> dict[str, str]:
        """Label → scheme."""
        found = {"SGD": "none", ADAM: "none", "SGA": "sga", "DGC": "dgc:ratio=0.001"}
        for label, name in (("SSGA", "ssga"), ("SSGA-DGC", "ssga-dgc")):
            found[f"{label}-200"] = name
            found[f"{label}-200-random"] = f"{name}:mask=random"
            found[f"{label}-400"] = f"{name}:compression=400"
            for bits in (16, 8):
                found[f"{label}-400-{bits}-bit"] = f"{name}:compression=400,bits={bits}"
            for size, maximum in (("small", self.small), ("fit", self.fit), ("large", self.large)):
                found[f"{label}-400-max-{size}"] = f"{name}:compression=400,max={maximum!r}"
        return found | {"SSGA-200-no-residual": "ssga:residual=false"}

    def _settings(self, label: str, scheme: str, seed: int) -> dict[str, object]:
        rates = {"ssga": self.sparse_lr, "dgc": self.dgc_lr, "ssga-dgc": self.local_lr}
        lr = rates.get(scheme.partition(":")[0], self.lr)
        task = {"data": "cifar10", "model": self.model, "scheme": scheme, "seed": seed}
        steps = {"clients": self.clients, "batch_size": self.batch, "rounds": self.rounds, "eval_every": self.rounds}
        how = {"lr": self.adam_lr, "optimizer": "adam"} if label == ADAM else {"lr": lr}
        return task | steps | how | {"schedule": "cosine"}


def _welch(first: Sequence[float], second: Sequence[float]) -> float | None:
    """The p-value of Welch's test; None where there are too few runs."""
    if min(len(first), len(second)) < 2:
        return None
    p = float(ttest_ind(first, second, equal_var=False).pvalue)
    # Runs that all end alike have no variance, and no p.
    return p if p == p else float(fmean(first) == fmean(second))
