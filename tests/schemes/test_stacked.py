"""Many victims' measurements as one: sums of any function of A(G) − y, term by term."""

from copy import copy

import pytest
import torch

import gradwire
from gradwire.attacks.inversion import IGA, pose
from gradwire.attacks.inversion.match import Match
from gradwire.schemes import StackedMeasurement, dense
from gradwire.schemes.gradients import Full
from gradwire.schemes.measurement import Cells, Signs
from tests.schemes.rounds import Cluster, random_update

SPECS = ("none", "topk:ratio=0.1,per=model", "topk:ratio=0.3,per=model", "powersgd:rank=2", "signsgd")


def measured():
    """The measurements of victims under several schemes, and a candidate's gradient for each."""
    found = []
    for number, spec in enumerate(SPECS):
        updates = [random_update(number)]
        cluster = Cluster.of(spec, updates)
        found.append(cluster.scheme.measure(cluster.run(updates)[1]))
    candidates = [random_update(100 + number) for number in range(len(SPECS))]
    return found, candidates


def test_a_total_adds_up_each_victims_terms_whatever_their_schemes_are():
    measurements, candidates = measured()
    stack = StackedMeasurement.of(measurements, torch.zeros(1))
    together = {name: Full(torch.stack([c[name] for c in candidates])) for name in candidates[0]}
    found = stack.total(together, lambda off: off.abs().sum(1))
    for victim, (measurement, candidate) in enumerate(zip(measurements, candidates, strict=True)):
        terms = [(name, term) for name, several in measurement.items() for term in several]
        alone = sum((t.apply(Full(candidate[n][None])) - t.observed).abs().sum() for n, t in terms)
        torch.testing.assert_close(found[victim], alone)
    squares = stack.total(together, lambda off: off.square().sum(1))
    assert torch.equal(stack.distance(together), squares)


def test_restarts_of_one_victim_hold_its_terms_once():
    measurements, candidates = measured()
    for measurement, candidate in zip(measurements, candidates, strict=True):
        restarts = StackedMeasurement.of([measurement] * 3, torch.zeros(1))
        equals = [{name: [copy(term) for term in terms] for name, terms in measurement.items()} for _ in range(3)]
        apart = StackedMeasurement.of(equals, torch.zeros(1))
        together = {n: Full(torch.stack([c, 2 * c, c - 1])) for n, c in candidate.items()}
        held = [tensor for parts in restarts.parts.values() for part in parts for tensor in vars(part.term).values()]
        assert [t.stride(0) for t in held] == [0] * len(held)
        for found, due in zip(restarts.moments(together), apart.moments(together), strict=True):
            torch.testing.assert_close(found, due)
        torch.testing.assert_close(restarts.energy, apart.energy)


def test_residuals_name_their_parameter_and_their_victims():
    measurements, candidates = measured()
    stack = StackedMeasurement.of(measurements, torch.zeros(1))
    together = {name: Full(torch.stack([c[name] for c in candidates])) for name in candidates[0]}
    found = list(stack.residuals(together))
    assert {name for name, _, _ in found} == set(candidates[0])
    assert all(len(off) == len(rows) for _, rows, off in found)
    assert {int(row) for _, rows, _ in found for row in rows} == set(range(len(SPECS)))


def test_an_absolute_distance_can_be_minimised():
    class Absolute(IGA):
        def value(self, match: Match, images, *extras):
            return match.total(images, lambda off: off.abs().sum(1))

    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    truth = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    problem = pose(gradwire.capture(model, truth, torch.tensor([1]), "topk:ratio=0.9"), "adaptive")
    guess = Absolute(iterations=300, signed=False, decay="cosine").run([problem])
    assert float((guess.inputs[0] - truth).abs().max()) < 0.02


@pytest.mark.parametrize("kind", ["signs", "cells"])
def test_the_totals_of_cells_and_signs_are_those_of_the_decoded_value_and_the_violation_is_not(kind):
    """What docs/extend.md says to those who write an attack."""
    decoded = {"w": torch.tensor([1.0, -2.0, 3.0])}
    term = Signs(decoded["w"][None]) if kind == "signs" else Cells(decoded["w"][None], torch.ones(1, 3))
    known, naive = (StackedMeasurement.of([terms], torch.empty(0)) for terms in ({"w": [term]}, dense(decoded)))
    gradients = {"w": Full(torch.tensor([[-1.0, -1.0, 5.0]]))}
    found, due = (stack.total(gradients, lambda off: off.abs().sum(1)) for stack in (known, naive))
    assert found == due == 5
    assert known.violation(gradients) > 0
    assert naive.violation(gradients) == 0
