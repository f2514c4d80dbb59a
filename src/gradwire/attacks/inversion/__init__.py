"""Gradient inversion: from a view of one round to the images that the victim held. One file an attack."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from gradwire.attacks.inversion.analytic import Analytic
from gradwire.attacks.inversion.bayes import Bayes
from gradwire.attacks.inversion.dlg import DLG
from gradwire.attacks.inversion.fedavg import FedAvg
from gradwire.attacks.inversion.idlg import IDLG
from gradwire.attacks.inversion.iga import IGA
from gradwire.attacks.inversion.problem import ATTACKING, KNOWLEDGE, Guess, Knowledge, Problem, pose
from gradwire.attacks.inversion.rehearsal import PublicImages
from gradwire.attacks.inversion.rounds import Rounds, joint
from gradwire.errors import GradwireError, unknown
from gradwire.progress import Progress, silent
from gradwire.wire import View


class InversionAttack(Protocol):
    """A frozen set of hyper-parameters that turns problems into guesses."""

    def run(
        self,
        problems: Sequence[Problem],
        seed: int = 0,
        device: str = "cpu",
        progress: Progress = silent,
        checkpoint: Path | None = None,
    ) -> Guess:
        """Attack problems that share a model, a mode and a shape, as one batch.

        Progress is told in the stage `ATTACKING`, in victims times iterations; what comes before has stages of its own.
        What takes long keeps its state in the file `checkpoint`, and goes on from there if the file exists.
        """


ATTACKS: Mapping[str, Callable[..., InversionAttack]] = {
    "iga": IGA,
    "dlg": DLG,
    "idlg": IDLG,
    "bayes": Bayes,
    "analytic": Analytic,
    "fedavg": FedAvg,
    "rounds": Rounds,
}


def attack(name: str, **options: object) -> InversionAttack:
    """The attack with this name.

    Raises:
        GradwireError: an unknown name, or an option's value that does not fit.
    """
    if name not in ATTACKS:
        raise unknown("attack", name, ATTACKS)
    return ATTACKS[name](**options)


def taken_by(name: str) -> frozenset[str]:
    """The options that the attack with this name has; none, for a name that there is not."""
    return frozenset(inspect.signature(ATTACKS[name]).parameters) if name in ATTACKS else frozenset()


def invert(
    view: View | Sequence[View],
    attack: str = "iga",
    knowledge: Knowledge = "adaptive",
    *,
    seed: int = 0,
    device: str = "cpu",
    **options: object,
) -> Guess:
    """Reconstruct what the victims of one view, or of several that share a model, held.

    Args:
        view: from `gradwire.capture`. Several are attacked as one batch.
        attack: one of `ATTACKS`; `options` are its hyper-parameters (iterations, restarts, tv, …).
        knowledge: "adaptive" (the adversary knows the scheme and matches what was sent) or "naive" (it decodes the
            update and takes it for a gradient).

    Returns:
        images (V, B, C, H, W) in [0, 1], one victim a view.

    Raises:
        GradwireError: an unknown attack or knowledge, views that do not share a model and a shape, labels that
            cannot be inferred.
    """
    views = [view] if isinstance(view, View) else list(view)
    if not views:
        raise GradwireError("there is no view to attack")
    if not all(views[0].shares_model(each) for each in views):
        raise GradwireError("views that are attacked together must share a model, a mode and a shape")
    problems = [pose(each, knowledge, number) for number, each in enumerate(views)]
    return _attack(attack, **options).run(problems, seed=seed, device=device)


_attack = attack

__all__ = [
    "ATTACKING",
    "ATTACKS",
    "DLG",
    "IDLG",
    "IGA",
    "KNOWLEDGE",
    "Analytic",
    "Bayes",
    "FedAvg",
    "Guess",
    "InversionAttack",
    "Knowledge",
    "Problem",
    "PublicImages",
    "Rounds",
    "attack",
    "invert",
    "joint",
    "pose",
    "taken_by",
]
