"""Our own schemes, attacks and carriers pass the checks that others' have to pass; what is broken does not."""

from dataclasses import dataclass, replace
from typing import ClassVar

import pytest
import torch

from gradwire.attacks.inversion import IGA, pose
from gradwire.registry import ATTACKS, SCHEMES
from gradwire.schemes.none import PlainSGD
from gradwire.schemes.round import Outcome
from gradwire.schemes.topk import TopK
from gradwire.tasks import NextToken
from gradwire.testing import check_attack, check_carrier, check_scheme
from gradwire.training import capture
from gradwire.wire import InProcess, Send
from tests.attacks.inversion import tables
from tests.attacks.inversion.text import small as text

AUTOENCODER = "autoencoder:warmup_iterations=3,passes=1"
SPECS = {
    "topk": ("topk:ratio=0.1", "topk:match_rank=1,per=model", "topk:ratio=0.2,error_feedback=false"),
    "randomk": ("randomk:ratio=0.1", "randomk:match_rank=1,per=model"),
    "powersgd": ("powersgd", "powersgd:rank=3,warm_start=false"),
    "lqsgd": ("lqsgd", "lqsgd:rank=3,bits=2,alpha=100,warm_start=false"),
    "signsgd": ("signsgd", "signsgd:error_feedback=true"),
    "qsgd": ("qsgd", "qsgd:bits=2,bucket=16"),
    "noise": ("noise:std=0.1", "noise:std=0.1+sga"),
    "sparsify": ("sparsify:drop=0.5",),
    "dpsgd": ("dpsgd", "dpsgd:clip=0.5,noise=2"),
    "autoencoder": tuple(f"{AUTOENCODER},warmup_rounds={rounds}" for rounds in (0, 1)),
    "sga": ("sga", "powersgd:rank=2+sga", "sga:threshold=2,colluders=0"),
    "ssga": ("ssga:compression=5", "ssga:compression=5,mask=random", "ssga:compression=5,union=anonymous"),
    "ssga-dgc": ("ssga-dgc:compression=5",),
}


@pytest.mark.parametrize("spec", [spec for name in SCHEMES for spec in SPECS.get(name, (name,))])
def test_every_scheme_passes(spec):
    check_scheme(spec)


OTHERS = ("fedavg", "tableak", "tokens", "sentences", "dager", "learned", "from-learned", "class-mean")
"""Attacks on what is no image or no plain gradient, and those that need images of the adversary's own."""


ITERATIONS = {"analytic": "", "exact": "", "annealed": ":iterations=24", "strongest": ":iterations=24"}


@pytest.mark.parametrize("name", [name for name in ATTACKS if name not in OTHERS])
def test_every_attack_passes(name):
    check_attack(f"{name}{ITERATIONS.get(name, ':iterations=5')}")


def test_the_attack_on_tables_passes():
    views = [tables.captured(tables.rows(2, seed), "topk:ratio=0.5") for seed in (0, 1)]
    posed = [pose(view, "adaptive", salt) for salt, view in enumerate(views)]
    check_attack("tableak:iterations=5,restarts=2,changes=1,exact=false", posed)


@pytest.mark.parametrize("attack", ["tokens", "sentences:evaluations=20", "dager"])
def test_the_attacks_on_text_pass(attack):
    held = [text.written([list(range(first, first + 6))]) for first in (5, 20)]
    own = {"task": text.TASK, "mode": "eval"}
    views = [capture(text.GPT2, tokens, NextToken(0).derived(tokens), "none", **own) for tokens in held]
    check_attack(attack, [pose(view, "adaptive", salt) for salt, view in enumerate(views)])


def test_the_attack_on_local_steps_passes():
    images = torch.rand(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    view = capture(model, images, torch.tensor([1, 2]), local_steps=2, local_batch=1, lr=0.1)
    for free in ("true", "false"):
        check_attack(f"fedavg:iterations=5,free={free}", [pose(view, "adaptive")])


def test_the_carrier_in_this_process_passes():
    check_carrier(InProcess)


@dataclass(frozen=True)
class Halved(PlainSGD):
    """Sends half of the update, and says that it was all."""

    name: ClassVar[str] = "halved"

    def client(self, update, private, public, round):
        return super().client({name: g / 2 for name, g in update.items()}, private, public, round)


@dataclass(frozen=True)
class Misruled(PlainSGD):
    """Sends the update; its rule says that half of it was sent."""

    def imitate(self, own, means, public, round, random):
        return super().imitate({name: g / 2 for name, g in own.items()}, means, public, round, random)


@dataclass(frozen=True)
class Mute(PlainSGD):
    """Has a rule that gives nothing."""

    def imitate(self, own, means, public, round, random):
        return None


@dataclass(frozen=True)
class Unlike(PlainSGD):
    """Clients end with their own update, and not with the mean."""

    def client(self, update, private, public, round):
        yield Send("update", {"dense": round.layout.flatten(update)}, mean=True)
        return Outcome(update, public, private)


@dataclass(frozen=True)
class Careless(TopK):
    """Changes the state that it was given."""

    def client(self, update, private, public, round):
        private["residual"].add_(1)
        return super().client(update, private, public, round)


@dataclass(frozen=True)
class Counting(PlainSGD):
    """Keeps a counter to itself, where no file finds it."""

    def client(self, update, private, public, round):
        CALLS.append(round.index)
        update = {name: g + len(CALLS) for name, g in update.items()}
        return super().client(update, private, public, round)

    def measure(self, observation):
        return {}


CALLS: list[int] = []


@pytest.mark.parametrize(
    ("scheme", "message"),
    [
        (Halved(), r"A\(G\) is off by .* for the true G"),
        (Misruled(), "what `imitate` gives is off by .* from what a round of the same updates gives"),
        (Mute(), "what `imitate` gives is None; a class that has a rule must give a measurement"),
        (Unlike(), "the aggregate of client:0: 1.weight is another one"),
        (Careless(ratio=0.5), "a round changed the state of client:0"),
        (Counting(), "from the same state, other messages are sent"),
    ],
)
def test_a_broken_scheme_does_not(scheme, message):
    with pytest.raises(AssertionError, match=message):
        check_scheme(scheme)


@dataclass(frozen=True)
class Bright(IGA):
    """Gives images outside of [0, 1]."""

    def run(self, *arguments, **options):
        guess = super().run(*arguments, **options)
        return replace(guess, inputs=guess.inputs + 1)


@dataclass(frozen=True)
class Random(IGA):
    """Does not heed the seed."""

    def run(self, *arguments, **options):
        guess = super().run(*arguments, **options)
        return replace(guess, inputs=torch.rand_like(guess.inputs))


@pytest.mark.parametrize(("attack", "message"), [(Bright, r"they must lie in \[0, 1\]"), (Random, "another one")])
def test_a_broken_attack_does_not(attack, message):
    with pytest.raises(AssertionError, match=message):
        check_attack(attack(iterations=2))


def test_a_broken_carrier_does_not():
    class Miscounting(InProcess):
        def exchange(self, clients, server):
            found = super().exchange(clients, server)
            self.transcript.count("client:1", 0, 1, ())
            return found

    with pytest.raises(AssertionError, match="none over Miscounting: client:1 sent"):
        check_carrier(Miscounting)
