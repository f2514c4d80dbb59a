"""Gradient inversion: from a view of one round to the images that the victim held."""

from collections.abc import Sequence
from dataclasses import replace

from gradwire.attacks.inversion.analytic import Analytic
from gradwire.attacks.inversion.annealed.attack import Annealed
from gradwire.attacks.inversion.bayes import Bayes
from gradwire.attacks.inversion.class_mean import ClassMean
from gradwire.attacks.inversion.dlg import DLG
from gradwire.attacks.inversion.exact import Certificate, Exact, certificates, certify
from gradwire.attacks.inversion.fedavg import FedAvg
from gradwire.attacks.inversion.ica import ICA
from gradwire.attacks.inversion.idlg import IDLG
from gradwire.attacks.inversion.iga import IGA
from gradwire.attacks.inversion.labels.rehearsal import label_notes
from gradwire.attacks.inversion.learned import FromLearned, Learned, learned_starts, start_from_learned
from gradwire.attacks.inversion.problem import (
    ATTACKING,
    KNOWLEDGE,
    Guess,
    InversionAttack,
    Knowledge,
    Problem,
    PublicExamples,
    part_of,
    pose,
)
from gradwire.attacks.inversion.rounds import Rounds, joint
from gradwire.attacks.inversion.strongest import Strongest
from gradwire.attacks.inversion.tableak import TabLeak
from gradwire.errors import GradwireError
from gradwire.registry import ATTACKS
from gradwire.wire import View


def invert(
    view: View | Sequence[View],
    attack: str | InversionAttack = "iga",
    knowledge: Knowledge = "adaptive",
    *,
    seed: int = 0,
    device: str = "cpu",
    public_examples: PublicExamples | None = None,
    **options: object,
) -> Guess:
    """Reconstruct what the victims of one view, or of several that share a model, held.

    Args:
        view: from `gradwire.capture`. Several are attacked as one batch.
        attack: an attack, or its spec, such as `iga:tv=1e-4,restarts=4` or `package.module:Class`; `options` replace
            its hyper-parameters (iterations, restarts, tv, …).
        knowledge: "adaptive" (the adversary knows the scheme and matches what was sent) or "naive" (it decodes the
            update and takes it for a gradient).
        public_examples: the adversary's own, for an attack that uses them.

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
    chosen: InversionAttack = ATTACKS.parse(attack, **options)
    problems = [replace(pose(each, knowledge, n), public_examples=public_examples) for n, each in enumerate(views)]
    guess = chosen.run(problems, seed=seed, device=device)
    return replace(guess, notes=(*guess.notes, *label_notes(problems, {})))


__all__ = [
    "ATTACKING",
    "ATTACKS",
    "DLG",
    "ICA",
    "IDLG",
    "IGA",
    "KNOWLEDGE",
    "Analytic",
    "Annealed",
    "Bayes",
    "Certificate",
    "ClassMean",
    "Exact",
    "FedAvg",
    "FromLearned",
    "Guess",
    "InversionAttack",
    "Knowledge",
    "Learned",
    "Problem",
    "PublicExamples",
    "Rounds",
    "Strongest",
    "TabLeak",
    "certificates",
    "certify",
    "invert",
    "joint",
    "label_notes",
    "learned_starts",
    "part_of",
    "pose",
    "start_from_learned",
]
