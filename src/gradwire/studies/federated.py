"""Federated averaging under defences: tables III, IV and VIII of the learned-model-compression paper, smaller.

Y. Chen, L. Abrahamyan, H. Sahli, N. Deligiannis, "Learned model compression for efficient and privacy-preserving
federated learning": 100 clients, 500 rounds, all training images. Here fewer of each, the scale standing in every
claim. The paper does not say which learning rate it used. The autoencoder costs many times what the model does: on the
MLP, 20 times as large as the LeNet, only where `large` asks for it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import ClassVar

from gradwire.studies.accuracies import reached
from gradwire.studies.grid import Cell, Claim, Row, Study

NOISE, SPARSIFY, DPSGD = "noise:std=0.1", "sparsify:drop=0.9", "dpsgd:clip=1,noise=0.5"
MODELS = ("lenet", "mlp")
PARTITIONS = {"iid": "IID", "shards:2": "non-IID"}
PAPER: Mapping[tuple[str, str, str], float] = {
    ("lenet", "IID", "autoencoder"): -0.80,
    ("mlp", "IID", "autoencoder"): -0.48,
    ("lenet", "IID", "noise"): -0.88,
    ("mlp", "IID", "noise"): -5.0,
    ("lenet", "non-IID", "precode"): -69.62,
    ("mlp", "non-IID", "precode"): -4.86,
}
"""Table III, B = 8 and E = 1: points against FedAvg on Fashion-MNIST."""
CIFAR = -6.85
"""Table IV, the same of sparsify at 90 %, LeNet, IID."""


@dataclass(frozen=True)
class Federated(Study):
    """Schemes in one federated averaging, and what their first update gives away.

    Attributes:
        images: training images, the first ones of each data set.
        clients: how many they are dealt out to; `sample`, how many of them a round has.
        batch: B, and `epochs`, E, of local training. `lr`: of the clients.
        warmup_rounds, warmup_iterations: of the autoencoder in training; `code_lr`, its rate.
        large: whether the MLP is trained under the autoencoder, too.
        victims: single images that are attacked on untrained models; `iterations` of the attack.
    """

    name: ClassVar[str] = "federated"
    title: ClassVar[str] = "What do defences of federated averaging cost, and what do they hide?"

    images: int = 6000
    clients: int = 20
    sample: int = 5
    rounds: int = 20
    batch: int = 8
    epochs: int = 1
    lr: float = 0.05
    warmup_rounds: int = 10
    warmup_iterations: int = 30
    code_lr: float = 0.003
    large: bool = False
    seeds: int = 2
    victims: int = 4
    iterations: int = 600

    def cells(self) -> Sequence[Cell]:
        """Trainings first, then an audit of each scheme on each model, filed beside its IID training."""
        return [*self._trainings(), *self._audits()]

    def claims(self, rows: Sequence[Row]) -> Sequence[Claim]:
        """The known answers, by the last accuracies, means over seeds."""
        trainings = reached(row for row in rows if row["command"] == "train")
        ended = {name: fmean(accuracies) for name, accuracies in trainings.items()}
        scale = (
            f"{self.images} images, {self.sample} of {self.clients} clients, {self.rounds} rounds, B = {self.batch}, "
            f"E = {self.epochs}, {self.seeds} seeds"
        )

        def against(model: str, partition: str, scheme: str, data: str = "fashion_mnist") -> float | None:
            found, plain = (ended.get(label(data, model, partition, each)) for each in (scheme, "none"))
            return None if found is None or plain is None else found - plain

        def claim(says: str, source: str, published: float, points: float | None, least: float, most: float) -> Claim:
            measured = "not run" if points is None else f"{points:+.1f} points ({scale})"
            holds = None if points is None else least <= points <= most
            return Claim(says, source, f"{published:+.2f} points", measured, holds)

        def lost(says: str, model: str, partition: str, scheme: str, least: float, most: float) -> Claim:
            published, points = PAPER[model, partition, scheme], against(model, partition, scheme)
            return claim(f"{says}, {model}, {partition}", "table III", published, points, least, most)

        lenet, mlp = (against(model, "IID", NOISE) for model in MODELS)
        further = None if lenet is None or mlp is None else mlp - lenet
        apart = PAPER["mlp", "IID", "noise"] - PAPER["lenet", "IID", "noise"]
        sparsified = against("lenet", "IID", SPARSIFY, "cifar10")
        return [
            *(lost("autoencoder within 3 points of none", each, "IID", "autoencoder", -3, 100) for each in MODELS),
            claim("noise:std=0.1 costs the MLP more than LeNet", "table III", apart, further, -100, -1),
            claim("sparsify:drop=0.9 loses on CIFAR-10, lenet, IID", "table IV", CIFAR, sparsified, -100, -1),
            lost("precode fails", "lenet", "non-IID", "precode", -100, -20),
            lost("precode loses", "mlp", "non-IID", "precode", -100, -1),
        ]

    def schemes(self, model: str) -> dict[str, str]:
        """Name in labels → spec, of those that a model is trained under."""
        named = {scheme: scheme for scheme in ("none", NOISE, SPARSIFY, DPSGD, "precode")}
        if model == "lenet" or self.large:
            settings = {"warmup_rounds": self.warmup_rounds, "warmup_iterations": self.warmup_iterations}
            named["autoencoder"] = _spec(**settings, lr=self.code_lr)
        return named

    def _trainings(self) -> Iterator[Cell]:
        for seed in range(self.seeds):
            for partition, written in PARTITIONS.items():
                for model in MODELS:
                    for name, scheme in self.schemes(model).items():
                        yield self._training("fashion_mnist", model, partition, written, name, scheme, seed)
            for scheme in ("none", SPARSIFY):
                yield self._training("cifar10", "lenet", "iid", "IID", scheme, scheme, seed)

    def _training(self, data: str, model: str, partition: str, written: str, name: str, scheme: str, seed: int) -> Cell:
        settings = {
            "data": f"{data}:train={self.images}",
            "model": model,
            "scheme": scheme,
            "partition": partition,
            "clients": self.clients,
            "sample": self.sample,
            "rounds": self.rounds,
            "local_epochs": self.epochs,
            "batch_size": self.batch,
            "lr": self.lr,
            "momentum": 0.0,
            "eval_every": max(1, self.rounds // 5),
            "on_nan": "skip",
            "seed": seed,
        }
        return Cell(label(data, model, written, name), "train", settings)

    def _audits(self) -> Iterator[Cell]:
        """As section IV-C: one local step on one image; the autoencoder trained for 100 steps on what it leaves."""
        for model in MODELS:
            for name, spec in {**self.schemes(model), "autoencoder": ""}.items():
                if name == "autoencoder" and not (model == "lenet" or self.large):
                    continue
                settings: dict[str, object] = {
                    "data": "fashion_mnist",
                    "model": model,
                    "schemes": (spec or _spec(warmup_rounds=0, warmup_iterations=100, lr=self.code_lr, passes=1),),
                    "attacks": ("iga",),
                    "samples": self.victims,
                    "iterations": self.iterations,
                    "signed": False,
                    "decay": "cosine",
                    "local_steps": 1,
                    "lr": self.lr,
                    "seed": 0,
                }
                yield Cell(label("fashion_mnist", model, "IID", name), "audit", settings)


def label(data: str, model: str, partition: str, scheme: str) -> str:
    """What a cell is filed under: the scheme comes last."""
    return f"{data} {model} {partition} {scheme}"


def _spec(**settings: object) -> str:
    return "autoencoder:" + ",".join(f"{name}={value}" for name, value in settings.items())
