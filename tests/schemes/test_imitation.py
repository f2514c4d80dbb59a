"""What schemes make of many gradients at once is what real rounds, one by one, would have sent."""

from dataclasses import dataclass

import pytest
import torch

from gradwire import models
from gradwire.attacks.inversion import pose
from gradwire.registry import SCHEMES
from gradwire.schemes import Layout, initial_states, observation, parse
from gradwire.schemes.buckets import Bucketed
from gradwire.schemes.gradients import Full
from gradwire.schemes.imitation import flat, imitated, imitates
from gradwire.schemes.measurement import LeftSketch, Support
from gradwire.schemes.none import PlainSGD
from gradwire.schemes.scheme import own_random
from gradwire.training import capture

EXACT = (
    "none",
    "half",
    "topk:ratio=0.05",
    "topk:ratio=0.05,per=model",
    "topk:match_rank=1",
    "sparsify:drop=0.9",
    "randomk:ratio=0.1",
    "randomk:ratio=0.1,per=model",
    "powersgd",
    "powersgd:rank=3,warm_start=false",
    "signsgd",
    "signsgd:error_feedback=true",
    "dgc:ratio=0.01",
    "dgc:ratio=0.01,clip=0.05,warmup_epochs=2",
    "dpfedavg:clip=0.5,noise=0",
)
DRAWN = {
    "noise:std=0.1": "noise",
    "qsgd": "rounding",
    "qsgd:bits=2,bucket=16": "rounding",
    "dpfedavg:clip=100,noise=0.001": "dpfedavg",
}
"""Schemes that draw random numbers, and the words by which a client draws its own."""
WITH_A_RULE = {parse(spec).name for spec in (*EXACT, *DRAWN)}
VICTIMS = 3


@pytest.fixture(scope="module")
def batches():
    random = torch.Generator().manual_seed(0)
    return [
        (torch.rand(1, 1, 8, 8, generator=random), torch.randint(10, (1,), generator=random))
        for _ in range(2 * VICTIMS)
    ]


@pytest.fixture(scope="module")
def model():
    return models.build("lenet", (1, 8, 8), 10, seed=0)


def gradients(model, batches):
    """Parameter name → (V, *parameter), by plain autograd."""
    found = []
    for images, labels in batches:
        loss = torch.nn.functional.cross_entropy(model(images), labels)
        found.append(torch.autograd.grad(loss, list(model.parameters())))
    names = [name for name, _ in model.named_parameters()]
    return {name: torch.stack(column) for name, column in zip(names, zip(*found, strict=True), strict=True)}


def views(model, batches, spec, fellows):
    own, others = batches[:VICTIMS], batches[VICTIMS:]
    return [
        capture(model, *mine, spec, mode="eval", fellows=[other] if fellows else [])
        for mine, other in zip(own, others, strict=True)
    ]


def check(model, batches, spec, fellows=False, random=None, rows=range(VICTIMS)):
    """Both measurements hold the same observations, and the same maps: they agree about any other gradient."""
    own, others = (gradients(model, part) for part in (batches[:VICTIMS], batches[VICTIMS:]))
    means = {name: (own[name] + others[name]) / 2 if fellows else own[name] for name in own}
    seen = views(model, batches, spec, fellows)
    for row in rows:
        scheme, observed = observation(seen[row])
        one = [{name: tensor[row : row + 1] for name, tensor in stacked.items()} for stacked in (own, means)]
        draws = random(observed.round.layout) if random else torch.Generator()
        found = imitated(scheme, *one, observed.public, observed.round, draws)
        due = pose(seen[row], "adaptive").measurement
        probe = {name: torch.randn(1, *shape) for name, shape in observed.round.layout.shapes.items()}
        for name, terms in due.items():
            for mine, real in zip(found[name], terms, strict=True):
                assert type(mine) is type(real)
                torch.testing.assert_close(applied(mine, probe[name]), applied(real, probe[name]), rtol=1e-4, atol=1e-5)
                torch.testing.assert_close(dense(mine, probe[name]), dense(real, probe[name]), rtol=1e-4, atol=1e-5)
                if hasattr(real, "width"):
                    torch.testing.assert_close(mine.width, real.width)


def dense(term, like):
    """What was observed, whatever the order in which a support holds it."""
    if isinstance(term, Support):
        flat = torch.zeros(1, like[0].numel(), dtype=term.observed.dtype)
        return flat.scatter_add(1, term.indices, term.observed * term.weight)
    return term.observed


def applied(term, probe):
    """What the term's map makes of another gradient; of a left sketch, what it makes of its own."""
    if isinstance(term, LeftSketch):
        # Where the mean has fewer dimensions than P̂ has columns, rounding decides the others, which see nothing of it.
        return term.left @ term.observed.mT
    if isinstance(term, Support):
        marked = Support(term.apply(Full(probe)), term.indices, term.weight)
        return dense(marked, probe)
    return term.apply(Full(probe))


@pytest.mark.parametrize("fellows", [False, True], ids=["alone", "in company"])
@pytest.mark.parametrize("spec", EXACT)
def test_the_rule_gives_what_a_round_sends(model, batches, spec, fellows):
    check(model, batches, spec, fellows)


@pytest.mark.parametrize("spec", DRAWN)
def test_the_rule_gives_what_a_round_sends_from_the_same_draws(model, batches, spec):
    scheme = parse(spec)

    def draws(layout):
        private = initial_states(scheme, layout, ("client:0",), 0)["client:0"]
        return own_random(private, DRAWN[spec], 0)

    check(model, batches, spec, random=draws)


@pytest.mark.parametrize("spec", [*EXACT, *DRAWN])
def test_all_victims_at_once_are_each_alone(model, batches, spec):
    own, layout = gradients(model, batches), Layout.of_model(model)
    scheme, observed = observation(views(model, batches, spec, False)[0])
    together = imitated(scheme, own, own, observed.public, observed.round, torch.Generator().manual_seed(3))
    if spec in DRAWN:  # others' draws come between: the mean over many victims of one gradient is compared
        many = {name: tensor[:1].expand(4000, *tensor.shape[1:]) for name, tensor in own.items()}
        found = imitated(scheme, many, many, observed.public, observed.round, torch.Generator().manual_seed(4))
        sent = flat({name: terms[0].observed for name, terms in found.items()}, layout)
        deviation = sent.std(0)
        off = (sent.mean(0) - flat(own, layout)[0]).abs() / (deviation / 4000**0.5).clamp_min(1e-4)
        assert off.max() < 6
        assert deviation.max() > 0
        return
    for row in range(2 * VICTIMS):
        one = {name: tensor[row : row + 1] for name, tensor in own.items()}
        alone = imitated(scheme, one, one, observed.public, observed.round, torch.Generator())
        for name, terms in alone.items():
            for mine, real in zip(together[name], terms, strict=True):
                mine = mine.rows(torch.tensor([row]))
                torch.testing.assert_close(dense(mine, own[name]), dense(real, own[name]), rtol=1e-4, atol=1e-5)


def test_buckets_are_imitated_one_by_one(model, batches):
    own = gradients(model, batches)
    names, layout = list(own), Layout.of_model(model)
    _, observed = observation(views(model, batches, "powersgd", False)[0])
    bucketed = Bucketed(parse("powersgd"), (tuple(names[4:]), tuple(names[:4])))
    public = bucketed.public_state(layout)
    found = imitated(bucketed, own, own, public, observed.round, torch.Generator())
    assert found.keys() == own.keys()
    weight = next(name for name in found if isinstance(found[name][-1], LeftSketch))
    start = bucketed.scheme.start({}, bucketed.within(0 if weight in names[4:] else 1, observed.round))[weight]
    torch.testing.assert_close(found[weight][0].observed, own[weight].flatten(2) @ start)
    assert imitated(Bucketed(parse("sga"), (tuple(names),)), own, own, {}, observed.round, torch.Generator()) is None


def test_which_schemes_have_a_rule():
    needed = {"noise": ":std=1", "topk": ":ratio=1", "randomk": ":ratio=1", "sparsify": ":drop=0"}
    assert {name for name in SCHEMES if imitates(parse(name + needed.get(name, "")))} == WITH_A_RULE


@dataclass(frozen=True)
class Doubled(PlainSGD):
    """Sends something else than the scheme whose rule it would inherit."""


def test_a_subclass_inherits_no_rule(model, batches):
    own = gradients(model, batches)
    _, observed = observation(views(model, batches, "none", False)[0])
    assert imitated(Doubled(), own, own, {}, observed.round, torch.Generator()) is None
