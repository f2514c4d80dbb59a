"""Federated averaging under defences: tables III, IV, VIII and XI of the learned-model-compression paper, smaller.

Y. Chen, L. Abrahamyan, H. Sahli, N. Deligiannis, "Learned model compression for efficient and privacy-preserving
federated learning": 100 clients, 500 rounds, all training images, an unnamed learning rate. Here there are fewer of
each, and every claim gives its scale. A step through a client's autoencoder costs as much as fifty of a LeNet: models
are trained under it, beside `none`, by a few clients that take part in every round; the MLP, 20 times as large as the
LeNet, for fewer rounds, and only with `large`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from gradwire.studies.federated_answers import CIFAR, FASHION, FEW, NOISE, SPARSIFY, accuracies, label, leaks
from gradwire.studies.grid import Claim, Row, Study, StudyCell, counted

SCHEMES = ("none", NOISE, SPARSIFY, "dpsgd:clip=1,noise=0.5", "precode")
MODELS = ("lenet", "mlp")
PARTITIONS = {"iid": "IID", "shards:2": "non-IID"}
ATTACKS = {"lenet": ("iga", "dlg"), "mlp": ("iga", "dlg", "analytic")}
"""The analytic attack needs a linear first layer."""
OF_CODES = ("iga",)
"""One attack, for each of its steps goes through all decoders and back, twice, which takes minutes."""


@dataclass(frozen=True)
class Federated(Study):
    """Schemes in one federated averaging, and what their first update gives away.

    Attributes:
        images: training images, the first ones of each data set.
        clients: among whom they are split; `sample`, how many of them a round has.
        batch: B, and `epochs`, E, of local training; `lr`, of the clients.
        few: clients that train autoencoders, for `few_rounds` of `few_steps` local steps, with `few_lr` and a cosine
            schedule; `warmup_rounds` and `warmup_iterations` of these; `code_lr`, the autoencoder's rate.
        large: whether the MLP is trained under the autoencoder, too: for `large_rounds`, `large_warmup_rounds` of them
            for warming up, its autoencoder in segments of `large_segment` numbers.
        victims: single images attacked on untrained models, and batches of `trained_batch` on models that one client
            has trained for `trained_rounds` of E epochs over `trained_images`; `iterations` of the attacks.
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
    few: int = 2
    few_rounds: int = 120
    few_steps: int = 40
    few_lr: float = 0.15
    warmup_rounds: int = 12
    warmup_iterations: int = 30
    code_lr: float = 1e-4
    code_passes: int = 1
    large: bool = False
    large_rounds: int = 16
    large_warmup_rounds: int = 3
    large_segment: int = 4096
    seeds: int = 2
    victims: int = 4
    trained_rounds: int = 5
    trained_images: int = 2000
    trained_batch: int = 8
    iterations: int = 600

    def cells(self) -> Sequence[StudyCell]:
        """Trainings, then an audit of each scheme on each model, with the label of its IID training."""
        return [*self._trainings(), *self._audits()]

    def claims(self, rows: Sequence[Row]) -> Sequence[Claim]:
        """The known answers: what schemes cost, and what they hide."""
        seeds = counted(self.seeds, "seed")
        many = f"{self.sample} of {self.clients} clients, {self.rounds} rounds, B = {self.batch}, E = {self.epochs}"
        scales = {(model, partition): many for model in MODELS for partition in PARTITIONS.values()}
        for model in MODELS:
            length = f"{self._rounds(model)} rounds of {self.few_steps} steps"
            scales[model, FEW] = f"{self.few} clients, {length}, B = {self.batch}"
        scales = {where: f"{self.images} images, {scale}, {seeds}" for where, scale in scales.items()}
        return [*accuracies(rows, scales), *leaks(rows, f"{self.victims} victims, {self.iterations} steps")]

    def _trainings(self) -> Iterator[StudyCell]:
        many = {"clients": self.clients, "sample": self.sample, "local_epochs": self.epochs, **_long(self.rounds)}
        few = {"clients": self.few, "local_steps": self.few_steps, "lr": self.few_lr, "schedule": "cosine"}
        for seed in range(self.seeds):
            for model in MODELS:
                if self._coded(model):  # these take longest
                    longer = few | _long(self._rounds(model))
                    for scheme in (self._codes(model), "none"):
                        yield self._training(FASHION, model, FEW, scheme, seed, longer)
                for partition, written in PARTITIONS.items():
                    for scheme in SCHEMES:
                        yield self._training(FASHION, model, written, scheme, seed, many | {"partition": partition})
            for scheme in ("none", SPARSIFY):
                yield self._training(CIFAR, "lenet", "IID", scheme, seed, many)

    def _coded(self, model: str) -> bool:
        """Whether a model is trained under the autoencoder."""
        return model == "lenet" or self.large

    def _rounds(self, model: str) -> int:
        """Rounds of a training under the autoencoder."""
        return self.large_rounds if model == "mlp" else self.few_rounds

    def _codes(self, model: str, **other: int) -> str:
        """The autoencoder's spec, with these settings instead of those of training."""
        own: dict[str, float] = {"warmup_rounds": self.warmup_rounds, "warmup_iterations": self.warmup_iterations}
        own |= {"lr": self.code_lr, "passes": self.code_passes}
        if model == "mlp":
            own |= {"warmup_rounds": self.large_warmup_rounds, "segment": self.large_segment}
        return "autoencoder:" + ",".join(f"{name}={value}" for name, value in (own | other).items())

    def _training(self, data: str, model: str, at: str, scheme: str, seed: int, how: Mapping[str, object]) -> StudyCell:
        task = {"data": f"{data}:train={self.images}", "model": model, "scheme": scheme, "seed": seed, "on_nan": "skip"}
        steps = {"batch_size": self.batch, "lr": self.lr, "momentum": 0.0}
        return StudyCell(label(data, model, at, _name(scheme)), "train", task | steps | dict(how))

    def _audits(self) -> Iterator[StudyCell]:
        """Audits of the first update on one image (section IV-C), and of a trained model's on several (IV-D)."""
        data = {"data": f"{FASHION}:train={self.trained_images}", "batch": self.trained_batch}
        trained = data | {"trained_rounds": self.trained_rounds, "trained_epochs": self.epochs}
        gradient = {"local_steps": 0}  # The paper adds noise to a gradient; only the autoencoder sends parameters.
        for model in MODELS:
            for scheme in SCHEMES:
                yield self._audit(model, "IID", scheme, gradient)
                yield self._audit(model, "trained", scheme, trained)
            if self._coded(model):
                # An untrained model's autoencoder is trained 100 times on what its one step leaves.
                yield self._audit(model, FEW, self._codes(model, warmup_rounds=0, warmup_iterations=100), {})
                yield self._audit(model, FEW, "none", {})
                yield self._audit(model, "trained", self._codes(model, warmup_rounds=self.trained_rounds - 1), trained)

    def _audit(self, model: str, at: str, scheme: str, further: Mapping[str, object]) -> StudyCell:
        attacks = OF_CODES if _name(scheme) == "autoencoder" else ATTACKS[model]
        signed = "true" if at == "trained" else "false"
        search = f"iterations={self.iterations},signed={signed},decay=cosine"
        named = tuple(name if name == "analytic" else f"{name}:{search}" for name in attacks)
        task = {"data": FASHION, "model": model, "schemes": (scheme,), "attacks": named, "samples": self.victims}
        settings = task | {"local_steps": 1, "lr": self.lr, "seed": 0} | dict(further)
        return StudyCell(label(FASHION, model, at, _name(scheme)), "audit", settings)


def _long(rounds: int) -> dict[str, object]:
    return {"rounds": rounds, "eval_every": max(1, rounds // 5)}


def _name(scheme: str) -> str:
    """The scheme's name in labels; an autoencoder's settings depend on the model."""
    return "autoencoder" if scheme.startswith("autoencoder:") else scheme
