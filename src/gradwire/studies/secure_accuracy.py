"""What secure sparse aggregation does to accuracy: table I and figures 3, 5, 6 and 8 of the SSGA paper, smaller.

M. van Rooij, S. van Rooij, H. Bouma, A. Pimentel, "Secure sparse gradient aggregation in distributed architectures":
ResNet-110 on CIFAR-10 for 200 epochs, four clients, five runs. Here the default network, a fraction of an epoch to a
few, as many clients. Tests are Welch's, at p < 0.05, as in the paper: "no significant difference" between a few short
runs says less than between five long ones, so the differences stand beside the p-values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar

from scipy.stats import ttest_ind  # type: ignore[import-untyped]

from gradwire.studies.accuracies import reached
from gradwire.studies.grid import Cell, Claim, Row, Study

PAPER = {
    "SGD": "94.72",
    "SSGA-DGC-400": "94.31",
    "SSGA-DGC-200": "94.22",
    "DGC": "94.10",
    "SSGA-200": "93.89",
    "SSGA-200-no-residual": "82.00",
}
"""Table I, test accuracy in per cent."""
LEVEL = 0.05
CHANCE = 10.0
"""Per cent: ten classes."""


@dataclass(frozen=True)
class SecureAccuracy(Study):
    """Twenty ways to train, with the labels of the paper.

    Attributes:
        rounds: of training; one batch a client each.
        batch: images a client and round.
        lr: of SGD and SGA; `sparse_lr`, of SSGA; `dgc_lr`, of DGC; `local_lr`, of SSGA-DGC, whose momentum goes on
            pushing an entry that has just been sent.
        small, fit, large: fixed maxima, far below, above and far above the residuals' largest.
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
    small: float = 0.001
    fit: float = 10.0
    large: float = 1e9

    def cells(self) -> Sequence[Cell]:
        """One training a label and seed, the labels of one seed after another."""
        return [
            Cell(label, "train", self._settings(scheme, seed))
            for seed in range(self.seeds)
            for label, scheme in self._schemes().items()
        ]

    def claims(self, rows: Sequence[Row]) -> Sequence[Claim]:
        """What the paper says, beside what these runs say."""
        found = reached(rows)
        both, bare = ("SSGA", "SSGA-DGC"), "SSGA-200-no-residual"
        return [
            _alike(found, "SGA", "SGD", "figure 3", "no significant decline"),
            *(_alike(found, f"{m}-200", "DGC", "figure 6", _published(f"{m}-200", "DGC")) for m in both),
            _alike(found, "SSGA-DGC-400", "DGC", "figure 6", _published("SSGA-DGC-400", "DGC")),
            _below(found, "SSGA-400", "SSGA-200", "figure 6", "declines", 0),
            _not_below(found, "SSGA-DGC-400", "SSGA-400", "figure 6", "above"),
            _below(found, bare, "SSGA-200", "table I", _published(bare, "SSGA-200"), 3),
            *(_at_chance(found, f"{m}-200-random", "section III-C", "10 %") for m in both),
            *(
                _below(found, f"{m}-400-max-{size}", f"{m}-400", "figure 5", "10 %, or far below", 3)
                for m in both
                for size in ("small", "large")
            ),
            *(_alike(found, f"{m}-400-max-fit", f"{m}-400", "figure 5", "similar") for m in both),
            *(
                _alike(found, f"{m}-400-{bits}-bit", f"{m}-400", "figure 8", "no significant difference")
                for m in both
                for bits in (16, 8)
            ),
        ]

    def _schemes(self) -> dict[str, str]:
        """The label and the scheme of every way to train."""
        found = {"SGD": "none", "SGA": "sga", "DGC": "dgc:ratio=0.001"}
        for label, name in (("SSGA", "ssga"), ("SSGA-DGC", "ssga-dgc")):
            found[f"{label}-200"] = name
            found[f"{label}-200-random"] = f"{name}:mask=random"
            found[f"{label}-400"] = f"{name}:compression=400"
            for bits in (16, 8):
                found[f"{label}-400-{bits}-bit"] = f"{name}:compression=400,bits={bits}"
            for size, maximum in (("small", self.small), ("fit", self.fit), ("large", self.large)):
                found[f"{label}-400-max-{size}"] = f"{name}:compression=400,max={maximum!r}"
        return found | {"SSGA-200-no-residual": "ssga:residual=false"}

    def _rates(self) -> dict[str, float]:
        """The learning rate of every scheme."""
        return {
            **dict.fromkeys(("none", "sga"), self.lr),
            "ssga": self.sparse_lr,
            "dgc": self.dgc_lr,
            "ssga-dgc": self.local_lr,
        }

    def _settings(self, scheme: str, seed: int) -> dict[str, object]:
        return {
            "data": "cifar10",
            "model": self.model,
            "scheme": scheme,
            "clients": self.clients,
            "batch_size": self.batch,
            "rounds": self.rounds,
            "eval_every": self.rounds,
            "lr": self._rates()[scheme.partition(":")[0]],
            "schedule": "cosine",
            "seed": seed,
        }


Found = Mapping[str, Sequence[float]]
"""Label → accuracy of each run, in per cent."""


def _alike(found: Found, one: str, other: str, source: str, published: str) -> Claim:
    """No significant difference."""
    _, p = _welch(found, one, other)
    says = f"{one} does not differ significantly from {other}"
    return Claim(says, source, published, _measured(found, one, other), None if p is None else p >= LEVEL)


def _not_below(found: Found, one: str, other: str, source: str, published: str) -> Claim:
    """At least as good, as far as can be told."""
    difference, p = _welch(found, one, other)
    holds = None if p is None else difference >= 0 or p >= LEVEL
    return Claim(f"{one} is not below {other}", source, published, _measured(found, one, other), holds)


def _below(found: Found, one: str, other: str, source: str, published: str, points: float) -> Claim:
    """Significantly worse, and by more than so many points."""
    difference, p = _welch(found, one, other)
    by = f" by more than {points:g} points" if points else ""
    holds = None if p is None else difference < -points and p < LEVEL
    return Claim(f"{one} is below {other}{by}", source, published, _measured(found, one, other), holds)


def _at_chance(found: Found, label: str, source: str, published: str) -> Claim:
    """Has learnt nothing: half of chance above chance at most."""
    mean = fmean(found[label])
    return Claim(f"{label} fails to learn", source, published, f"{mean:.1f} %", mean < 1.5 * CHANCE)


def _welch(found: Found, one: str, other: str) -> tuple[float, float | None]:
    """How much higher the mean of `one` is, in points, and p; None where there are too few runs to tell."""
    first, second = found[one], found[other]
    if min(len(first), len(second)) < 2:
        return fmean(first) - fmean(second), None
    p = float(ttest_ind(first, second, equal_var=False).pvalue)
    # Runs that all end alike have no variance, and no p.
    return fmean(first) - fmean(second), p if p == p else float(fmean(first) == fmean(second))


def _measured(found: Found, one: str, other: str) -> str:
    difference, p = _welch(found, one, other)
    chance = "too few runs to test" if p is None else f"p = {p:.2g}"
    return f"{fmean(found[one]):.1f} against {fmean(found[other]):.1f} % ({difference:+.1f} points, {chance})"


def _published(one: str, other: str) -> str:
    difference = float(PAPER[one]) - float(PAPER[other])
    return f"{PAPER[one]} against {PAPER[other]} % ({difference:+.2f} points)"
