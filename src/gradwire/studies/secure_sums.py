"""Do secure sums hold against inversion? And what leaks beside them all the same?

M. van Rooij, S. van Rooij, H. Bouma, A. Pimentel, "Secure sparse gradient aggregation in distributed architectures",
leave it to "experimentally determining whether SSGA and SSGA-DGC hold up against inversion attacks" (section IV), and
assert of R_max that "a single value cannot possibly reveal a lot of information about the data" (section III-D).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar

from gradwire.metrics import SUCCESS
from gradwire.studies.grid import Cell, Claim, Row, Study

SOURCE = "left open in section IV"
CLIENTS = (1, 2, 4, 8)


@dataclass(frozen=True)
class SecureSums(Study):
    """Inversion of sums over 1, 2, 4 and 8 clients; labels from entries chosen in the open; membership from R_max.

    Where there is one client, nothing is summed: plain gradients and Top-K stand in for SGA and SSGA.

    Attributes:
        samples: rounds attacked a cell.
        few, many: images a client.
        iterations: of the inversion.
        compression: of SSGA and Top-K.
        rounds_attacked: for labels; `members`, for R_max, and as many others.
        rounds: of training before R_max is looked at.
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

    def cells(self) -> Sequence[Cell]:
        """Audits of sums, then labels, then R_max."""
        return [
            *(
                self._audit(scheme, clients, batch)
                for batch in (self.few, self.many)
                for scheme in ("sga", "ssga")
                for clients in CLIENTS
            ),
            *(self._labels(union, clients) for union in ("open", "anonymous") for clients in CLIENTS[1:]),
            Cell("R_max", "maximum", self._about(samples=self.members, rounds=self.rounds)),
        ]

    def claims(self, rows: Sequence[Row]) -> Sequence[Claim]:
        """The paper's question, sum by sum, and what it says of R_max."""
        audits = [row for row in rows if row["command"] == "audit"]
        chosen = [row for row in rows if row["command"] == "labels"]
        (maximum,) = (row for row in rows if row["command"] == "maximum")
        return [
            *(self._holds(label, audits) for label in dict.fromkeys(row["label"] for row in audits)),
            *(self._gone(row) if "anonymous" in row["label"] else self._told(row) for row in chosen),
            self._little(maximum),
        ]

    def _holds(self, label: str, audits: Sequence[Row]) -> Claim:
        """Whether no attack on a sum brings the images back; where it does not even without a sum, nobody can tell."""
        told, found = [], 0.0
        batch = next(row["batch"] for row in audits if row["label"] == label)
        able = any(float(row["success"]) for row in audits if (row["scheme"], row["batch"]) == ("none", batch))
        for knowledge in ("naive", "adaptive"):
            mine = [row for row in audits if (row["label"], row["knowledge"]) == (label, knowledge)]
            share = fmean(float(row["success"]) for row in mine)
            found = max(found, share)
            told.append(f"{knowledge} SSIM {fmean(float(row['ssim']) for row in mine):.2f}, success {share:.0%}")
        says = f"{label} holds against inversion (SSIM below {SUCCESS})"
        return Claim(says, SOURCE, "", "; ".join(told), (found == 0) if able else None)

    def _told(self, row: Row) -> Claim:
        says = f"entries chosen in the open give labels away, {row['clients']} clients"
        return Claim(says, "an expectation", "", _found(row), float(row["low"]) > float(row["chance"]))

    def _gone(self, row: Row) -> Claim:
        says = f"the anonymous union tells no more of a client than of its fellows, {row['clients']} clients"
        return Claim(says, "section II-C", "", _found(row), float(row["low"]) <= float(row["fellow"]))

    def _little(self, row: Row) -> Claim:
        by, loss = float(row["auc_maximum"]), float(row["auc_loss"])
        measured = f"AUC {by:.2f} of membership by R_max of one image, {loss:.2f} by its loss"
        published = "cannot possibly reveal a lot"
        # Half of the members and others set right by a coin.
        return Claim(
            "R_max tells less of membership than the loss does", "section III-D", published, measured, by < loss
        )

    def _audit(self, scheme: str, clients: int, batch: int) -> Cell:
        sparse = scheme == "ssga"
        spec = f"ssga:compression={self.compression}" if sparse else "sga"
        if clients == 1:
            spec = f"topk:ratio={1 / self.compression},per=model" if sparse else "none"
        name = spec.partition(":")[0]
        label = f"{name}, {clients} client{'s' * (clients > 1)} × {batch} image{'s' * (batch > 1)}"
        settings: dict[str, object] = {
            "schemes": (spec,),
            "clients": clients,
            "batch": batch,
            "samples": self.samples,
            "attacks": (f"iga:iterations={self.iterations},signed=false,decay=cosine,tv=1e-6",),
            "mode": "eval",
        }
        return Cell(label, "audit", self._about(**settings))

    def _labels(self, union: str, clients: int) -> Cell:
        settings: dict[str, object] = {"union": union, "clients": clients, "samples": self.rounds_attacked}
        return Cell(
            f"{union} union, {clients} clients", "labels", self._about(**settings, compression=self.compression)
        )

    def _about(self, **settings: object) -> dict[str, object]:
        return {"data": self.data, "model": self.model, "seed": self.seed, **settings}


def _found(row: Row) -> str:
    accuracy, fellow, chance = (float(row[name]) for name in ("accuracy", "fellow", "chance"))
    ends = f"{float(row['low']):.0%} to {float(row['high']):.0%}"
    return f"{accuracy:.0%} of labels ({ends}); of a fellow's {fellow:.0%}; by chance {chance:.0%}"
