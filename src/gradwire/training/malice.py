"""Malicious clients: what they do to their data and to their update before the client half of the scheme.

Label flips: B. Biggio et al., "Poisoning attacks against support vector machines", ICML 2012. A trigger patch: T. Gu et
al., "BadNets", IEEE Access 2019; boosted, in federated averaging: E. Bagdasaryan et al., "How to backdoor federated
learning", AISTATS 2020. Everything that they send passes compression and error feedback as all updates do.
"""

from dataclasses import dataclass, replace
from math import isfinite, sqrt
from typing import Any, Literal

import torch
from torch import Tensor

from gradwire import spec_syntax
from gradwire.data import Dataset
from gradwire.errors import GradwireError, unknown
from gradwire.rounds import run_round
from gradwire.schemes import Contribution, Round, Scheme, State, Update
from gradwire.tasks import Pixels
from gradwire.wire import InProcess, Transcript

KINDS = ("flip", "trigger", "sign")
Kind = Literal["flip", "trigger", "sign"]
TARGET = 0
"""The class that a trigger stands for."""


@dataclass(frozen=True)
class Malice:
    """What a malicious client does, and how large its update is then.

    Attributes:
        kind: flip, which calls class y of its examples K − 1 − y; trigger, which puts a patch on every second one and
            calls it class 0; or sign, which sends the negative update.
        boost: what the update is multiplied by.
        shaped: whether the update is first replaced by what the scheme would leave of it, as long as it was: nothing of
            that is lost to Top-K, or to PowerSGD's basis of the round before.
    """

    kind: Kind
    boost: float = 1.0
    shaped: bool = False

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise unknown("malice", self.kind, KINDS)
        if not (isfinite(self.boost) and self.boost > 0):
            raise GradwireError(f"malice {self.kind}: boost is {self.boost}; it must be positive and finite")

    @classmethod
    def parse(cls, spec: str) -> "Malice":
        """The malice of a spec such as trigger:boost=10,shaped=true.

        Raises:
            GradwireError: an unknown kind or parameter, or a value that it cannot have.
        """
        kind, _, rest = spec.partition(":")
        kind_of: Any = cls
        known = {name: each for name, each in spec_syntax.parameters(kind_of).items() if name != "kind"}
        values = spec_syntax.read(f"malice {spec!r}", kind, rest, known)
        return cls(kind=kind, **values)  # type: ignore[arg-type]

    def poisoned(self, dataset: Dataset, rows: Tensor) -> Dataset:
        """The data set in which the examples at these positions are what malicious clients train on.

        Raises:
            GradwireError: targets that are no classes, or a trigger on other inputs than images.
        """
        if not dataset.classes or dataset.targets.ndim != 1 or dataset.targets.is_floating_point():
            raise GradwireError(f"malice {self.kind}: the targets of {dataset.name!r} are no class numbers")
        if self.kind == "sign" or not len(rows):
            return dataset
        targets = dataset.targets.clone()
        if self.kind == "flip":
            targets[rows] = len(dataset.classes) - 1 - targets[rows]
            return replace(dataset, targets=targets)
        inputs, half = dataset.inputs.clone(), rows[::2]
        inputs[half] = patched(dataset, half)
        targets[half] = TARGET
        return replace(dataset, inputs=inputs, targets=targets)

    def judged(self, held_out: Dataset) -> Dataset | None:
        """The test examples as the attacker wants them called: accuracy on these is its success. None for `sign`.

        Examples that are called so anyhow are left out.
        """
        if self.kind == "sign":
            return None
        every = torch.arange(len(held_out))
        wanted = self.poisoned(held_out, every) if self.kind == "flip" else None
        targets = torch.full_like(held_out.targets, TARGET) if wanted is None else wanted.targets
        inputs = patched(held_out, every) if self.kind == "trigger" else held_out.inputs
        return replace(held_out, inputs=inputs, targets=targets).part(held_out.targets != targets)

    def sent(self, update: Update, private: State, public: State, scheme: Scheme, round: Round, party: str) -> Update:
        """What the client brings to the scheme's half in place of its update."""
        factor = -self.boost if self.kind == "sign" else self.boost
        if self.shaped:
            kept = survives(update, private, public, scheme, round, party)
            before, after = norm(update), norm(kept)
            update, factor = kept, factor * (before / after if after > 0 else 1.0)
        return {name: factor * g for name, g in update.items()}


def survives(update: Update, private: State, public: State, scheme: Scheme, round: Round, party: str) -> Update:
    """What a round of this client alone would make of its update.

    Raises:
        GradwireError: a secure sum, which is none of one client.
    """
    if scheme.sums_only:
        raise GradwireError(
            f"malice: shaped needs a scheme that one client can rehearse; {scheme.spec} is a secure sum"
        )
    alone = replace(round, clients=(party,), weights="equal")
    came = {party: Contribution(update, private)}
    return run_round(scheme, came, public, alone, InProcess(Transcript(keep=1))).aggregate


def patched(dataset: Dataset, rows: Tensor) -> Tensor:
    """The stored images at these positions with a white patch in the lower right corner, an eighth of the height.

    Raises:
        GradwireError: inputs that are no images.
    """
    if not isinstance(dataset.task.domain, Pixels):
        raise GradwireError(f"malice trigger: {dataset.name!r} holds {dataset.task.domain.what}; a patch is on images")
    images = dataset.inputs[rows].clone()
    side = max(2, dataset.shape[1] // 8)
    images[..., -side:, -side:] = 1.0 if images.is_floating_point() else 255
    return images


def norm(update: Update) -> float:
    """The length of an update, all parameters taken together."""
    return sqrt(sum(float(g.double().square().sum()) for g in update.values()))
