"""Federated averaging under defences: tables III, IV, VIII and XI of the learned-model-compression paper, smaller.

Y. Chen, L. Abrahamyan, H. Sahli, N. Deligiannis, "Learned model compression for efficient and privacy-preserving
federated learning": 100 clients, 500 rounds, all training images. Here fewer of each, the scale standing in every
claim. The paper does not say which learning rate it used. The autoencoder costs many times what the model does: on the
MLP, 20 times as large as the LeNet, only where `large` asks for it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from gradwire.studies.federated_answers import CIFAR, FASHION, NOISE, SPARSIFY, accuracies, label, leaks
from gradwire.studies.grid import Cell, Claim, Row, Study

DPSGD = "dpsgd:clip=1,noise=0.5"
MODELS = ("lenet", "mlp")
PARTITIONS = {"iid": "IID", "shards:2": "non-IID"}
ATTACKS = {"lenet": ("iga", "dlg"), "mlp": ("iga", "dlg", "analytic")}
"""The analytic attack reads a first layer that is linear."""


@dataclass(frozen=True)
class Federated(Study):
    """Schemes in one federated averaging, and what their first update gives away.

    Attributes:
        images: training images, the first ones of each data set.
        clients: how many they are dealt out to; `sample`, how many of them a round has.
        batch: B, and `epochs`, E, of local training. `lr`: of the clients.
        warmup_rounds, warmup_iterations: of the autoencoder in training; `code_lr`, its rate.
        large: whether the MLP is trained under the autoencoder, too.
        victims: single images that are attacked on untrained models, and batches of `trained_batch` on models that
            one client has trained for `trained_rounds` of E epochs over `trained_images`; `iterations` of the attacks.
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
    trained_rounds: int = 5
    trained_images: int = 2000
    trained_batch: int = 8
    iterations: int = 600

    def cells(self) -> Sequence[Cell]:
        """Trainings first, then an audit of each scheme on each model, filed beside its IID training."""
        return [*self._trainings(), *self._audits()]

    def claims(self, rows: Sequence[Row]) -> Sequence[Claim]:
        """The known answers: what schemes cost, and what they hide."""
        scale = (
            f"{self.images} images, {self.sample} of {self.clients} clients, {self.rounds} rounds, B = {self.batch}, "
            f"E = {self.epochs}, {self.seeds} seeds"
        )
        return [*accuracies(rows, scale), *leaks(rows, f"{self.victims} victims, {self.iterations} steps")]

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
                        yield self._training(FASHION, model, partition, written, name, scheme, seed)
            for scheme in ("none", SPARSIFY):
                yield self._training(CIFAR, "lenet", "iid", "IID", scheme, scheme, seed)

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
        """Of the first update on one image, as section IV-C, and of a trained model's on several, as section IV-D."""
        trained: Mapping[str, object] = {
            "data": f"{FASHION}:train={self.trained_images}",
            "trained_rounds": self.trained_rounds,
            "trained_epochs": self.epochs,
            "batch": self.trained_batch,
        }
        # The autoencoder of an untrained model is trained for 100 steps on what the one step leaves.
        fresh = {"warmup_rounds": 0, "warmup_iterations": 100, "passes": 1}
        warmed = {"warmup_rounds": self.trained_rounds - 1, "warmup_iterations": self.warmup_iterations}
        kinds: Sequence[tuple[str, Mapping[str, int], Mapping[str, object]]] = (
            ("IID", fresh, {}),
            ("trained", warmed, trained),
        )
        for model in MODELS:
            for partition, codes, settings in kinds:
                for name, scheme in self.schemes(model).items():
                    spec = _spec(**codes, lr=self.code_lr) if name == "autoencoder" else scheme
                    yield self._audit(model, label(FASHION, model, partition, name), spec, settings)

    def _audit(self, model: str, filed: str, scheme: str, further: Mapping[str, object]) -> Cell:
        settings = {
            "data": FASHION,
            "model": model,
            "schemes": (scheme,),
            "attacks": ATTACKS[model],
            "samples": self.victims,
            "iterations": self.iterations,
            "signed": False,
            "decay": "cosine",
            "local_steps": 1,
            "lr": self.lr,
            "seed": 0,
            **further,
        }
        return Cell(filed, "audit", settings)


def _spec(**settings: object) -> str:
    return "autoencoder:" + ",".join(f"{name}={value}" for name, value in settings.items())
