"""Problems of digits for an adversary who has digits of its own: quick to rehearse, on a LeNet of 8×8 pixels."""

from dataclasses import replace
from functools import cache

import gradwire
from gradwire import data
from gradwire.attacks.inversion import PublicExamples, joint
from gradwire.attacks.inversion.problem import Problem


@cache
def training():
    """The training digits, of which no victim holds one."""
    return data.load("digits", "train")


def owned(count: int = 600) -> PublicExamples:
    """The first training digits."""
    return PublicExamples(*training().batch(range(count)), "digits' training split")


def problems(model, dataset, scheme, own, victims=range(4), batch=1, fellows=0, knowledge="adaptive", **options):
    """One problem a victim, each with digits that no other party holds, the last of the test split."""
    found: list[Problem] = []
    parties = 1 + fellows
    for salt, victim in enumerate(victims):
        first = len(dataset) - (victim + 1) * batch * parties
        held = [dataset.batch(range(first + p * batch, first + (p + 1) * batch)) for p in range(parties)]
        options = {"mode": "eval", "freeze": False} | options
        view = gradwire.capture(model, *held[0], scheme, fellows=held[1:], **options)
        found.append(replace(joint([view], knowledge, salt), public_examples=own))
    return found


def truth(dataset, victims=range(4)):
    """What the victims of `problems` hold, one image each: (V, 1, C, H, W)."""
    return dataset.batch([len(dataset) - 1 - victim for victim in victims])[0][:, None]
