"""What certificates say is compared with gradients that autograd gives."""

from dataclasses import dataclass
from math import prod

import pytest
import torch

import gradwire
from gradwire import models
from gradwire.attacks.inversion import certify, pose
from gradwire.attacks.inversion.exact.known import known
from gradwire.attacks.inversion.exact.matrices import from_sketches, whole
from gradwire.registry import SCHEMES
from gradwire.schemes.measurement import Dense, LeftSketch, RightSketch, Support, Term
from gradwire.schemes.none import PlainSGD
from gradwire.training.capture import capture_rounds
from tests.attacks.inversion.exact.networks import gradient, transformer

BATCH = 6
SPECS = {
    "topk": "topk:ratio=0.1",
    "randomk": "randomk:ratio=0.1",
    "powersgd": "powersgd:rank=6",
    "noise": "noise:std=0.1",
    "sparsify": "sparsify:drop=0.5",
    "dgc": "dgc:ratio=0.1",
    "autoencoder": "autoencoder:warmup_rounds=0,warmup_iterations=1,passes=1",
    "ssga": "ssga:compression=5",
    "ssga-dgc": "ssga-dgc:compression=5",
}
PRIVATE = ("dpsgd", "dpftrl", "dpfedavg")
KINDS = {
    "all": ("none", "noise", *PRIVATE, "precode", "sga"),
    "entries": ("topk", "randomk", "sparsify", "dgc", "ssga", "ssga-dgc"),
    "signs": ("signsgd",),
    "cells": ("qsgd",),
    "constraints": ("lqsgd",),
    "code": ("autoencoder",),
}
WORDS = {
    "all": "all {size:,} entries",
    "entries": " entries of",
    "signs": "the signs, and no magnitude, of {size:,} entries",
    "cells": "for {size:,} entries of {count} parameters the cell",
    "constraints": "constraints on {size:,} entries",
    "code": "a latent code of",
}


@pytest.fixture(scope="module")
def networks(digits):
    built = {name: models.build(name, digits.shape, 10, digits.mean, digits.std, seed=0) for name in ("mlp", "lenet")}
    return built | {"vit": transformer()}


def posed(model, digits, scheme="none", batch=BATCH, known_targets=True, knowledge="adaptive", start=0, **options):
    named = scheme if isinstance(scheme, str) else scheme.name
    if named.partition(":")[0] in ("sga", "ssga", "ssga-dgc") or named.endswith("+sga"):
        options["fellows"] = [digits.batch(range(start + batch, start + 2 * batch))]
    if named.startswith("autoencoder"):
        options |= {"local_steps": 1, "lr": 0.1}
    held = digits.batch(range(start, start + batch))
    view = gradwire.capture(model, *held, scheme, mode="eval", targets_known=known_targets, **options)
    return pose(view, knowledge)


@pytest.mark.parametrize("network", ["mlp", "lenet", "vit"])
@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_and_model_has_a_certificate_that_is_true(networks, digits, name, network):
    model = networks[network]
    problem = posed(model, digits, SPECS.get(name, name))
    found = certify(problem)
    clients = 2 if "sga" in name else 1
    trained = {n: p for n, p in problem.view.model.named_parameters() if p.requires_grad}
    assert list(found.parameters) == list(trained)
    assert all(each.size == trained[n].numel() for n, each in found.parameters.items())
    assert (found.clients, found.examples, found.labels) == (clients, clients * BATCH, "known")
    assert bool(found.deviation) == (name in ("noise", *PRIVATE))
    assert bool(found.beside) == (name in (*PRIVATE, "autoencoder"))
    true = None if name in ("precode", "noise", *PRIVATE, "autoencoder") else _true(model, digits, clients)
    for parameter, each in found.parameters.items():
        terms, shape = problem.measurement.get(parameter, ()), trained[parameter].shape
        seen = whole(terms, shape, each.most)
        assert (seen is not None) == (each.kind == "all")
        if seen is not None and true is not None:
            torch.testing.assert_close(seen, true[parameter].double(), atol=2e-5, rtol=2e-4)
        if each.kind == "entries":
            assert 0 < each.entries == sum(len(term.indices[0]) for term in terms) < each.size
    _check_words(name, found)


def _true(model, digits, clients):
    each = [gradient(model, *digits.batch(range(n * BATCH, (n + 1) * BATCH))) for n in range(clients)]
    return {parameter: torch.stack([g[parameter] for g in each]).mean(0) for parameter in each[0]}


def _check_words(name, found):
    kinds = {each.kind for each in found.parameters.values()}
    for kind, names in KINDS.items():
        if name in names:
            of = [each for each in found.parameters.values() if each.kind == kind]
            assert kinds <= {kind, "all", "nothing"}
            assert WORDS[kind].format(size=sum(each.size for each in of), count=len(of)) in found.sentence
    assert ("mean over 2 clients" in found.sentence) == ("sga" in name)
    assert ("standard deviation" in found.sentence) == bool(found.deviation)
    assert found.whole == (found.clean and kinds == {"all"})


@pytest.mark.parametrize(("rank", "kind", "found"), [(4, "sketch", 4), (6, "all", 6), (9, "all", 6)])
def test_two_sketches_hold_a_gradient_whose_rank_the_batch_bounds(networks, digits, rank, kind, found):
    problem = posed(networks["mlp"], digits, f"powersgd:rank={rank}")
    each = certify(problem).parameters["hidden1.weight"]
    assert (each.kind, each.rank, each.most) == (kind, found, BATCH)
    sentence = certify(problem).sentence
    assert ("only a part of rank 4, where a rank of 6 is possible" in sentence) == (kind == "sketch")


def test_the_bound_of_the_batch_ends_where_other_things_were_added(networks, digits):
    for options in ({"local_steps": 2, "local_batch": 3, "lr": 0.1}, {"weight_decay": 0.1}):
        found = certify(posed(networks["mlp"], digits, "powersgd:rank=6", **options))
        assert found.beside
        assert found.parameters["hidden1.weight"].kind == "sketch"
        assert not found.whole
    rounds = capture_rounds(networks["mlp"], *digits.batch(range(2)), "topk:ratio=0.1", 2, mode="eval")
    assert [certify(pose(view, "adaptive")).beside for view in rounds] == [
        (),
        ("a sum with what earlier rounds left over",),
    ]


def sketched(gradient, right, left):
    return RightSketch((gradient @ right)[None], right[None]), LeftSketch((gradient.mT @ left)[None], left[None])


def test_sketches_from_other_directions_give_the_matrix_through_their_core():
    random = torch.Generator().manual_seed(0)
    draw = lambda *size: torch.randn(*size, generator=random)  # noqa: E731
    matrix = draw(30, 3) @ draw(3, 20)
    for columns, most, determined in ((3, 3, True), (3, None, False), (4, None, True), (2, 3, False)):
        found = from_sketches(*sketched(matrix, draw(20, columns), draw(30, columns)), most)
        assert (found.rank, found.matrix is not None) == (min(3, columns), determined)
        if found.matrix is not None:
            torch.testing.assert_close(found.matrix.float(), matrix, atol=1e-4, rtol=1e-4)
    blind = draw(30, 4)
    blind -= torch.linalg.qr(matrix)[0] @ (torch.linalg.qr(matrix)[0].mT @ blind)
    assert from_sketches(*sketched(matrix, draw(20, 4), blind), 3).matrix is None
    assert from_sketches(sketched(matrix, draw(20, 9), draw(30, 9))[0], None, 3).matrix is None


@dataclass(frozen=True)
class Sums(Term):
    """Sums of the gradient's columns: a term that nobody knows."""

    def apply(self, gradient):
        return gradient.full().flatten(2).sum(2)


@dataclass(frozen=True)
class Doubled(Dense):
    """Twice the gradient."""

    def apply(self, gradient):
        return 2 * gradient.full()


@dataclass(frozen=True)
class SumSGD(PlainSGD):
    """Says that nothing but sums of matrices' columns can be seen."""

    def measure(self, observation):
        decoded = self.decode(observation)
        return {
            n: [Sums(g.flatten(1).sum(1)[None]) if g.ndim > 1 else Doubled(2 * g[None])] for n, g in decoded.items()
        }


def test_a_scheme_from_outside_needs_no_rule(networks, digits):
    found = certify(posed(networks["mlp"], digits, SumSGD()))
    assert {each.kind for each in found.parameters.values()} == {"numbers"}
    each = found.parameters["hidden2.weight"]
    assert (each.numbers, each.entries, each.size) == (256, 0, 65536)
    assert "1,044 numbers that are linear in" in found.sentence


def test_supports_that_cover_a_parameter_determine_it():
    values = torch.arange(6.0)
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    halves = [Support.at(order[:3], values[order[:3]]), Support.at(order[2:], values[order[2:]])]
    assert known(halves, (2, 3)).kind == "all"
    assert known(halves[:1], (2, 3)).entries == 3
    torch.testing.assert_close(whole([Support.at(order, values[order])], (2, 3)), values.double().view(2, 3))


PROVED = ("none", "powersgd:rank=2", "signsgd", "qsgd:bits=8", "topk:ratio=0.5")


@pytest.mark.parametrize("scheme", [*PROVED, "noise:std=0.1", "sga"])
def test_the_label_of_one_image_is_proved_where_a_bias_was_sent(networks, digits, scheme):
    for start in range(3):
        problem = posed(networks["mlp"], digits, scheme, 1, known_targets=False, start=start)
        found = certify(problem)
        assert (found.labels == "proved") == (scheme in PROVED)
        if scheme in PROVED:
            assert problem.targets.tolist() == digits.batch([start])[1].tolist()
    assert certify(posed(networks["mlp"], digits, scheme, 2, known_targets=False)).labels == "estimated"


class Reordered(torch.nn.Module):
    """Gives the scores of its last linear layer in another order."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, images):
        return self.inner(images).flip(1)


def test_labels_are_not_proved_by_a_layer_that_does_not_give_the_logits(networks, digits):
    problem = posed(Reordered(networks["mlp"]), digits, "none", 1, known_targets=False)
    assert certify(problem).labels == "not inferred"


def test_a_naive_adversary_is_told_what_the_wire_determines(networks, digits):
    for scheme in ("topk:ratio=0.1", "sga"):
        adaptive = certify(posed(networks["mlp"], digits, scheme))
        assert certify(posed(networks["mlp"], digits, scheme, knowledge="naive")) == adaptive


def test_sizes_add_up():
    each = known([Dense(torch.zeros(1, 4, 5))], (4, 5), 2)
    assert (each.kind, each.numbers, each.rank, each.most) == ("all", prod((4, 5)), 0, 2)
