"""Do secure sums hold against inversion, and what leaks beside them?

M. van Rooij, S. van Rooij, H. Bouma, A. Pimentel, "Secure sparse gradient aggregation in distributed architectures",
leave open "whether SSGA and SSGA-DGC hold up against inversion attacks" (section IV), and assert of R_max that "a
single value cannot possibly reveal a lot of information about the data" (section III-D).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product, starmap
from statistics import fmean
from typing import ClassVar

from gradwire.metrics import SUCCESS
from gradwire.report.audit.summary import is_part
from gradwire.studies.grid import Claim, Row, Study, StudyCell, counted, values
from gradwire.studies.verdicts import TOO_SHORT

CLIENTS = (1, 2, 4, 8)


@dataclass(frozen=True)
class SecureSums(Study):
    """Inversion of sums over 1, 2, 4 and 8 clients; labels from entries chosen in the open; membership from R_max.

    One client has no sum: plain gradients and Top-K stand in for SGA and SSGA.

    Attributes:
        samples: rounds attacked a cell, with `iterations` of the inversion.
        few, many: images a client.
        compression: of SSGA and Top-K.
        rounds_attacked: for labels.
        members: for R_max, and as many others, after so many `rounds` of training.
    """

    name: ClassVar[str] = "secure-sums"
    title: ClassVar[str] = "Do secure sums hold against inversion, and what leaks beside them?"

    data: str = "fashion_mnist"
    model: str = "lenet"
    samples: int = 4
    few: int = 1
    many: int = 4
    iterations: int = 800
    compression: float = 20.0
    rounds_attacked: int = 100
    members: int = 100
    rounds: int = 300
    seed: int = 0

    def cells(self) -> Sequence[StudyCell]:
        """Audits of sums, then labels, then R_max."""
        return [
            *starmap(self._audit, product((self.few, self.many), ("sga", "ssga"), CLIENTS)),
            *(self._labels(union, clients) for union in ("open", "anonymous") for clients in CLIENTS[1:]),
            StudyCell("R_max", "maximum", self._about(samples=self.members, rounds=self.rounds)),
        ]

    def claims(self, rows: Sequence[Row]) -> Sequence[Claim]:
        """The paper's question about each sum, and what it says of R_max."""
        audits = [row for row in rows if row["command"] == "audit"]
        labels = [row for row in rows if row["command"] == "labels"]
        (maximum,) = (row for row in rows if row["command"] == "maximum")
        return [*_sums(audits), *map(_labels, labels), _maximum(maximum)]

    def _audit(self, batch: int, scheme: str, clients: int) -> StudyCell:
        sparse = scheme == "ssga"
        spec = f"ssga:compression={self.compression}" if sparse else "sga"
        if clients == 1:
            spec = f"topk:ratio={1 / self.compression},per=model" if sparse else "none"
        label = f"{spec.partition(':')[0]}, {counted(clients, 'client')} × {counted(batch, 'image')}"
        attack = f"strongest:iterations={self.iterations}"
        settings = self._about(schemes=(spec,), clients=clients, batch=batch, samples=self.samples)
        return StudyCell(label, "audit", settings | {"attacks": (attack,), "mode": "eval"})

    def _labels(self, union: str, clients: int) -> StudyCell:
        settings = self._about(union=union, clients=clients, samples=self.rounds_attacked, compression=self.compression)
        return StudyCell(f"{union} union, {clients} clients", "labels", settings)

    def _about(self, **settings: object) -> dict[str, object]:
        return {"data": self.data, "model": self.model, "seed": self.seed, **settings}


def _sums(audits: Sequence[Row]) -> Iterator[Claim]:
    """Whether an attack on a sum brings images back.

    That none does is left open where it fails even without a sum, and where a search was too short.
    """
    audits = [row for row in audits if not is_part(row)]
    for label, batch in dict.fromkeys((row["label"], row["batch"]) for row in audits):
        measured, best = [], 0.0
        for knowledge in ("naive", "adaptive"):
            rows = [row for row in audits if (row["label"], row["knowledge"]) == (label, knowledge)]
            success, ssim = (fmean(values(rows, column)) for column in ("success", "ssim"))
            best = max(best, success)
            measured.append(f"{knowledge} SSIM {ssim:.2f}, success {success:.0%}")
        says = f"{label}: no attack here succeeds (SSIM below {SUCCESS})"
        able = any(values(audits, "success", scheme="none", batch=batch))
        short = any(row["label"] == label and row.get("verdict") == TOO_SHORT for row in audits)
        holds = None if not best and (short or not able) else best == 0
        yield Claim(says, "left open in section IV", "", "; ".join(measured), holds)


def _labels(row: Row) -> Claim:
    accuracy, low, high, fellow, chance = (float(row[name]) for name in ("accuracy", "low", "high", "fellow", "chance"))
    ends = f"({low:.0%} to {high:.0%})"
    measured = f"{accuracy:.0%} of labels {ends}; of a fellow's {fellow:.0%}; by chance {chance:.0%}"
    if "anonymous" in row["label"]:
        says = f"the anonymous union tells no more of a client than of its fellows, {row['clients']} clients"
        return Claim(says, "section II-C", "", measured, low <= fellow)
    says = f"entries chosen in the open give labels away, {row['clients']} clients"
    return Claim(says, "an expectation", "", measured, low > chance)


def _maximum(row: Row) -> Claim:
    maximum, loss = float(row["auc_maximum"]), float(row["auc_loss"])
    says, published = "R_max tells less of membership than the loss does", "cannot possibly reveal a lot"
    measured = f"AUC {maximum:.2f} of membership by R_max of one image, {loss:.2f} by its loss"
    return Claim(says, "section III-D", published, measured, maximum < loss)
