"""The known answers of learned model compression, tables III, IV, VIII and XI, beside what a grid measured.

Y. Chen, L. Abrahamyan, H. Sahli, N. Deligiannis, "Learned model compression for efficient and privacy-preserving
federated learning".
"""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean

from gradwire.metrics import SUCCESS
from gradwire.studies.grid import Claim, Row, reached, values

NOISE, SPARSIFY = "noise:std=0.1", "sparsify:drop=0.9"
FASHION, CIFAR = "fashion_mnist", "cifar10"
FEW = "IID, few"
"""The partition among the few clients that train under the autoencoder."""
AUDITED = {"IID": "untrained", FEW: "untrained", "trained": "trained"}
"""The partition in an audit's label → the model that it attacks."""

ACCURACY: Sequence[tuple[str, str, str, str, str, str, float, float, float]] = (
    ("autoencoder within 3 points of none", "III", FASHION, "lenet", FEW, "autoencoder", -0.80, -3, 100),
    ("autoencoder within 3 points of none", "III", FASHION, "mlp", FEW, "autoencoder", -0.48, -3, 100),
    (f"{SPARSIFY} loses on CIFAR-10", "IV", CIFAR, "lenet", "IID", SPARSIFY, -6.85, -100, -1),
    ("precode fails", "III", FASHION, "lenet", "non-IID", "precode", -69.62, -100, -20),
    ("precode loses", "III", FASHION, "mlp", "non-IID", "precode", -4.86, -100, -1),
)
"""Sentence, table, data, model, partition, scheme, the paper's points against FedAvg at B = 8 and E = 1, and the least
and the most points with which the sentence holds."""

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
"""Scheme, model, partition in the audit's label, attack, table, and the paper's SSIM. Its attacks are naive."""


def label(data: str, model: str, partition: str, scheme: str) -> str:
    """The label of a cell: a group, in which schemes are compared, and a scheme."""
    return f"{data} {model} {partition}: {scheme}"


def accuracies(rows: Sequence[Row], scales: Mapping[tuple[str, str], str]) -> Iterator[Claim]:
    """What schemes cost in accuracy at the end of training, means over seeds.

    Args:
        scales: model, partition → how much was trained there, which stands beside every figure.
    """
    trainings = reached(row for row in rows if row["command"] == "train")
    ended = {name: fmean(found) for name, found in trainings.items()}

    def points(data: str, model: str, partition: str, scheme: str) -> float | None:
        found, plain = (ended.get(label(data, model, partition, each)) for each in (scheme, "none"))
        return None if found is None or plain is None else found - plain

    compared = [
        (f"{says}, {model}, {at}", table, published, points(data, model, at, scheme), least, most, scales[model, at])
        for says, table, data, model, at, scheme, published, least, most in ACCURACY
    ]
    lenet, mlp = (points(FASHION, model, "IID", NOISE) for model in NOISY)
    further = None if lenet is None or mlp is None else mlp - lenet
    says, published = f"{NOISE} costs the MLP more than LeNet", NOISY["mlp"] - NOISY["lenet"]
    compared.append((says, "III", published, further, -100, -1, scales["mlp", "IID"]))
    for says, table, published, found, least, most, scale in compared:
        measured = "not run" if found is None else f"{found:+.1f} points ({scale})"
        holds = None if found is None else least <= found <= most
        yield Claim(says, f"table {table}", f"{published:+.2f} points", measured, holds)


def leaks(rows: Sequence[Row], victims: str) -> Iterator[Claim]:
    """Whether images are given away, as the paper counts it: by an SSIM of 0.6. `victims` says how many, of what.

    The paper's adversary takes the decoded update for the gradient. Each sentence is checked for one who knows the
    scheme, too, for a defence that only holds against the first is none.
    """
    audits = [{**row, "attack": row["attack"].partition(":")[0]} for row in rows if row["command"] == "audit"]
    asked = [
        (scheme, model, at, attack, knowledge, f"table {table}", f"SSIM {paper:.2f}", paper >= SUCCESS)
        for scheme, model, at, attack, table, paper in SSIM
        for knowledge in ("naive", "adaptive")
    ]
    asked.append(("precode", "mlp", "IID", "analytic", "adaptive", "figure 5", "a picture", True))
    for scheme, model, at, attack, knowledge, source, published, given in asked:
        filed = label(FASHION, model, at, scheme)
        found = values(audits, "ssim", label=filed, attack=attack, knowledge=knowledge)
        what = "gives images away" if given else "hides images"
        says = f"{scheme} {what}, {AUDITED[at]} {model}, {knowledge} {attack}"
        measured = f"SSIM {fmean(found):.2f} ({victims})" if found else "not run"
        yield Claim(says, source, published, measured, (fmean(found) >= SUCCESS) == given if found else None)
