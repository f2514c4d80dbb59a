"""Images that enter a vision transformer."""

import pytest
import torch

import gradwire
from gradwire.attacks.inversion import pose
from gradwire.attacks.inversion.exact.april import April, solved
from gradwire.attacks.inversion.exact.entrance import Entrance
from gradwire.attacks.inversion.exact.replay import Replay
from gradwire.attacks.inversion.row_choice import EXPLAINED
from gradwire.errors import GradwireError
from gradwire.schemes.measurement import Dense, LeftSketch, RightSketch, Support
from tests.attacks.inversion.exact.networks import transformer

SCHEMES = ("none", "powersgd:rank=4", "topk:ratio=1")
"""Four patches: rank 4 is all."""


def posed(model, digits, scheme="none", places=(0,)):
    view = gradwire.capture(model, *digits.batch(places), scheme, mode="eval")
    return pose(view, "adaptive"), digits.batch(places)[0]


def found(problem):
    solution = April.of(problem.view).solution(problem, torch.Generator())
    assert solution.determined == ("64 of 64" in solution.told)
    return Replay([problem], None).answer(0, solution.inputs), solution.told


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("options", [{}, {"kind": "linear"}, {"backwards": True}, {"depth": 1}])
def test_the_image_is_exact(digits, scheme, options):
    problem, images = posed(transformer(**options), digits, scheme)
    answer, told = found(problem)
    torch.testing.assert_close(answer.inputs, images, atol=1e-3, rtol=0)
    assert answer.off < EXPLAINED
    assert told == "64 of 64 numbers of the patches are determined"


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_sketches_of_lower_rank_leave_a_part_and_it_is_said(digits, rank):
    problem, images = posed(transformer(), digits, f"powersgd:rank={rank}")
    answer, told = found(problem)
    # r combinations of the 4 patches, and of the others' 16 columns r combinations.
    assert told == f"{16 * rank + (4 - rank) * rank} of 64 numbers of the patches are determined"
    assert answer.off > 1e-3
    assert float((answer.inputs - images).abs().max()) > 0.05


def test_positions_that_were_sent_in_part_are_said(digits):
    answer, told = found(posed(transformer(), digits, "topk:ratio=0.5")[0])
    assert told == "'added' was sent in part, its other entries are taken for zero"
    assert answer.off > EXPLAINED


def test_what_kinds_of_terms_determine():
    random = torch.Generator().manual_seed(0)
    slopes, patches, p, q = (
        torch.randn(*size, generator=random, dtype=torch.float64) for size in ((5, 20), (5, 9), (20, 2), (9, 3))
    )
    weight = slopes.mT @ patches
    left, right = LeftSketch((weight.mT @ p)[None], p[None]), RightSketch((weight @ q)[None], q[None])
    for terms, due in (([Dense(weight[None])], 45), ([left], 18), ([right], 15), ([right, left], 18 + 3 * 3)):
        answer, count = solved(slopes, terms, 9)
        assert count == due
        for term in terms:
            matrix = slopes.mT @ answer
            again = matrix if isinstance(term, Dense) else matrix.mT @ p if term is left else matrix @ q
            torch.testing.assert_close(again, term.observed[0])
        assert (float((answer - patches).abs().max()) < 1e-9) == (due == 45)
    alike = torch.cat([slopes[:1], slopes[:4]])
    assert solved(alike, [Dense((alike.mT @ patches)[None])], 9)[1] == 36
    rows = torch.arange(7)[:, None] * 9 + torch.tensor([0, 4])
    answer, count = solved(slopes, [Support.at(rows.flatten(), weight.flatten()[rows.flatten()])], 9)
    assert count == 10
    torch.testing.assert_close(answer[:, [0, 4]], patches[:, [0, 4]])
    assert not answer[:, 1].any()


def test_batches_and_other_networks_are_refused(digits, model):
    with pytest.raises(GradwireError, match="april reads the patches of one image; the batch has 2"):
        April.of(posed(transformer(), digits, places=(0, 1))[0].view)
    with pytest.raises(
        GradwireError, match=r"learned embedding that is added to what 'taken.weight' gives; there is none"
    ):
        April.of(posed(transformer(kind="normed"), digits)[0].view)
    with pytest.raises(GradwireError, match=r"learned embedding that is added to what 'conv1.weight' gives"):
        April.of(posed(model, digits)[0].view)
    blurred = torch.nn.Sequential(torch.nn.AvgPool2d(3, 1, 1), transformer())
    with pytest.raises(GradwireError, match="what comes before mixes them"):
        April.of(posed(blurred, digits)[0].view)


def test_numbers_are_followed_to_where_they_arrive():
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))

    def reach(inputs):
        mixed = 3 * inputs.flatten()[order] - 1
        return torch.cat([mixed[:10], torch.zeros(2, dtype=inputs.dtype), mixed[:3]])

    entrance = Entrance.of(reach, (3, 4))
    held = torch.rand(1, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    back = entrance.undone(reach(held), torch.full((3, 4), 7.0))
    due = held.flatten().clone()
    due[order[10:]] = 7
    torch.testing.assert_close(back.flatten(), due)
    assert Entrance.of(lambda inputs: inputs.flatten().cumsum(0), (3, 4)) is None
    assert Entrance.of(lambda inputs: inputs.flatten().square(), (3, 4)) is None
