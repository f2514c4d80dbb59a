"""The known answers of learned model compression: tables III, IV, VIII and XI, each beside what a grid measured.

Y. Chen, L. Abrahamyan, H. Sahli, N. Deligiannis, "Learned model compression for efficient and privacy-preserving
federated learning".
"""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from gradwire.metrics import SUCCESS
from gradwire.studies.accuracies import reached
from gradwire.studies.grid import Claim, Row

NOISE, SPARSIFY = "noise:std=0.1", "sparsify:drop=0.9"
FASHION, CIFAR = "fashion_mnist", "cifar10"
FEW = "IID, few"
"""The partition among the few clients with which the autoencoder is trained."""
AUDITED = {"IID": "untrained", FEW: "untrained", "trained": "trained"}
"""What an audit is filed under → what it attacks: an untrained model's is filed beside its IID training."""

ACCURACY: Sequence[tuple[str, str, str, str, str, str, float, float, float]] = (
    ("autoencoder within 3 points of none", "III", FASHION, "lenet", FEW, "autoencoder", -0.80, -3, 100),
    ("autoencoder within 3 points of none", "III", FASHION, "mlp", FEW, "autoencoder", -0.48, -3, 100),
    (f"{SPARSIFY} loses on CIFAR-10", "IV", CIFAR, "lenet", "IID", SPARSIFY, -6.85, -100, -1),
    ("precode fails", "III", FASHION, "lenet", "non-IID", "precode", -69.62, -100, -20),
    ("precode loses", "III", FASHION, "mlp", "non-IID", "precode", -4.86, -100, -1),
)
"""Sentence, table, data, model, partition, scheme, the paper's points against FedAvg at B = 8 and E = 1, and the
points from which and to which the sentence holds."""

NOISY = {"lenet": -0.88, "mlp": -5.0}
"""What noise costs on Fashion-MNIST, IID, in the same table."""

SSIM: Sequence[tuple[str, str, str, str, str, float]] = (
    ("none", "lenet", "IID", "iga", "VIII", 0.95),
    ("none", "mlp", "IID", "iga", "VIII", 1.00),
    ("none", "mlp", "trained", "iga", "XI", 0.97),
    (SPARSIFY, "lenet", "IID", "iga", "VIII", 0.12),
    (SPARSIFY, "mlp", "IID", "iga", "VIII", 0.64),
    (NOISE, "lenet", "IID", "iga", "VIII", 0.27),
    (NOISE, "mlp", "IID", "iga", "VIII", 0.29),
    ("precode", "lenet", "IID", "iga", "VIII", 0.04),
    ("precode", "mlp", "IID", "iga", "VIII", 0.00),
    ("autoencoder", "lenet", FEW, "iga", "VIII", 0.072),
    ("autoencoder", "mlp", FEW, "iga", "VIII", 0.03),
    ("autoencoder", "mlp", "trained", "iga", "XI", 0.00),
)
"""Scheme, model, what its audit is filed under, attack, table, and the paper's SSIM. Its attacks are naive."""


def label(data: str, model: str, partition: str, scheme: str) -> str:
    """What a cell is filed under: a group, in which schemes are compared, and a scheme."""
    return f"{data} {model} {partition}: {scheme}"


def accuracies(rows: Sequence[Row], scales: Mapping[tuple[str, str], str]) -> Iterator[Claim]:
    """What schemes cost in accuracy, by the last ones, means over seeds; beside every figure its scale.

    Args:
        scales: model, partition → how much was trained there.
    """
    trainings = reached(row for row in rows if row["command"] == "train")
    ended = {name: fmean(found) for name, found in trainings.items()}

    def points(data: str, model: str, partition: str, scheme: str) -> float | None:
        found, plain = (ended.get(label(data, model, partition, each)) for each in (scheme, "none"))
        return None if found is None or plain is None else found - plain

    def claim(
        says: str, table: str, published: float, found: float | None, least: float, most: float, scale: str
    ) -> Claim:
        measured = "not run" if found is None else f"{found:+.1f} points ({scale})"
        holds = None if found is None else least <= found <= most
        return Claim(says, f"table {table}", f"{published:+.2f} points", measured, holds)

    for says, table, data, model, partition, scheme, published, least, most in ACCURACY:
        found = points(data, model, partition, scheme)
        yield claim(f"{says}, {model}, {partition}", table, published, found, least, most, scales[model, partition])
    lenet, mlp = (points(FASHION, model, "IID", NOISE) for model in NOISY)
    further = None if lenet is None or mlp is None else mlp - lenet
    says = f"{NOISE} costs the MLP more than LeNet"
    yield claim(says, "III", NOISY["mlp"] - NOISY["lenet"], further, -100, -1, scales["mlp", "IID"])


def leaks(rows: Sequence[Row], victims: str) -> Iterator[Claim]:
    """Whether images are given away, as the paper counts it: by an SSIM of 0.6. `victims` says how many, of what.

    What the paper found by an adversary who takes the decoded update for the gradient is said again of one who knows
    the scheme: a defence that holds against the first alone is none.
    """
    audits = [{**row, "attack": row["attack"].partition(":")[0]} for row in rows if row["command"] == "audit"]

    def mean(filed: str, attack: str, knowledge: str) -> float | None:
        told = {"label": filed, "attack": attack, "knowledge": knowledge}
        found = [float(row["ssim"]) for row in audits if all(row[name] == value for name, value in told.items())]
        return fmean(found) if found else None

    def claim(scheme: str, model: str, at: str, attack: str, knowledge: str, source: str, paper: float | None) -> Claim:
        found = mean(label(FASHION, model, at, scheme), attack, knowledge)
        given = paper is None or paper >= SUCCESS
        says = (
            f"{scheme} {'gives images away' if given else 'hides images'}, {AUDITED[at]} {model}, {knowledge} {attack}"
        )
        measured = "not run" if found is None else f"SSIM {found:.2f} ({victims})"
        holds = None if found is None else (found >= SUCCESS) == given
        return Claim(says, source, "a picture" if paper is None else f"SSIM {paper:.2f}", measured, holds)

    for scheme, model, at, attack, table, paper in SSIM:
        for knowledge in ("naive", "adaptive"):
            yield claim(scheme, model, at, attack, knowledge, f"table {table}", paper)
    yield claim("precode", "mlp", "IID", "analytic", "adaptive", "figure 5", None)
