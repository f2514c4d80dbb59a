import dataclasses

import pytest
import torch

import gradwire
from gradwire import data
from gradwire.attacks.inversion import TabLeak, pose
from gradwire.attacks.inversion.fields import improved, pooled
from gradwire.attacks.inversion.match import Match
from gradwire.attacks.inversion.row_choice import chosen
from gradwire.errors import GradwireError
from gradwire.registry import ATTACKS
from gradwire.tasks import BinaryCrossEntropy, CrossEntropy, MeanSquaredError, Numbers, Task
from tests.attacks.inversion.tables import DOMAIN, captured, fields, network, rows


def off(guess, held):
    """The largest error of the first victim's rows."""
    return float((DOMAIN.matched(guess.inputs[:1], held[None]) - held).abs().max())


LOSSES = {
    "cross_entropy": CrossEntropy(("no", "yes")),
    "mse": MeanSquaredError(3),
    "bce": BinaryCrossEntropy(4),
}
QUICK = {"iterations": 200, "restarts": 2, "changes": 3}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("scheme", ["none", "powersgd:rank=1"])
def test_one_row_is_solved_for_whatever_the_loss(scheme, loss):
    held = rows(1)
    guess = gradwire.invert(captured(held, scheme, LOSSES[loss]), "tableak")
    torch.testing.assert_close(guess.inputs[0], held, atol=1e-4, rtol=0)
    assert guess.iterations == 0
    assert guess.notes[0].startswith("tableak solved for the rows of 1 of 1 victims")


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("scheme", ["none", "powersgd:rank=4"])
def test_a_batch_is_solved_for_where_its_span_is_known(scheme, loss):
    held = rows(4)
    guess = gradwire.invert(captured(held, scheme, LOSSES[loss]), "tableak")
    assert off(guess, held) < 1e-3
    assert guess.iterations == 0


def test_rows_stand_in_the_order_of_their_targets():
    held, due = rows(3), torch.randn(3, 3, generator=torch.Generator().manual_seed(0))
    guess = gradwire.invert(captured(held, loss=MeanSquaredError(3), targets=due), "tableak")
    assert guess.iterations == 0
    torch.testing.assert_close(guess.inputs[0], held, atol=1e-3, rtol=0)


def test_rows_that_are_not_of_the_batch_have_no_part_in_what_was_sent():
    held, others = rows(3), rows(4, seed=7)
    problem = pose(captured(held), "adaptive")
    found = chosen(problem, torch.cat([others, held.flip(0)]))
    assert float((DOMAIN.matched(found.rows[None], held[None]) - held).abs().max()) < 1e-6
    assert found.off < 1e-10
    assert chosen(problem, others).off > 1e-2


@pytest.mark.parametrize("scheme", ["powersgd:rank=1", "topk:ratio=0.03"])
def test_what_does_not_follow_is_sought(scheme):
    held = rows(2)
    view = captured(held, scheme)
    guess = gradwire.invert(view, "tableak", **QUICK)
    assert fields(guess, held) >= 0.9
    assert "tableak sought the rows of 1 of 1 victims" in guess.notes
    assert any("restarts agree on" in note for note in guess.notes)
    assert torch.equal(guess.inputs, DOMAIN.snapped(guess.inputs))


def test_victims_that_are_solved_for_stand_beside_those_that_are_not():
    held = rows(2)
    views = [captured(held, scheme) for scheme in ("powersgd:rank=1", "none", "topk:ratio=0.03")]
    guess = gradwire.invert(views, "tableak", **QUICK)
    assert float((DOMAIN.matched(guess.inputs[1:2], held[None]) - held).abs().max()) < 1e-3
    assert float(guess.objective[1]) < -15
    assert [note.partition(",")[0] for note in guess.notes[:2]] == [
        "tableak solved for the rows of 1 of 3 victims",
        "tableak sought the rows of 2 of 3 victims",
    ]


def test_signs_are_attacked_too():
    held = rows(1)
    guess = gradwire.invert(captured(held, "signsgd"), "tableak", **QUICK)
    assert bool(guess.objective.isfinite().all())
    assert fields(guess, held) > float(DOMAIN.score(DOMAIN.uninformed()[None, None], held[None])["fields"])


def test_the_objective_is_the_logarithm_of_the_distance_and_least_at_the_truth():
    held, match = rows(3), Match.of([pose(captured(rows(3), "powersgd:rank=2"), "adaptive")], "cpu")
    attack = TabLeak()
    assert float(attack.value(match, held[None]).detach()) < -15
    other = rows(3, seed=5)[None]
    due = (match.distance(other) / match.stack.energy + 1e-7).log()
    torch.testing.assert_close(attack.value(match, other), due)


def test_what_top_k_left_out_counts_where_it_is_too_large():
    held = rows(1)
    posed = {know: pose(captured(held, "topk:ratio=0.05"), know) for know in ("naive", "adaptive")}
    match = {know: Match.of([problem, problem], "cpu") for know, problem in posed.items()}
    candidates = torch.stack([held, 30 * held])
    for know, each in match.items():
        excess = each.unsent.excess(each.gradients(candidates), each.stack.energy).detach()
        assert float(excess[0]) < 1e-10
        assert (float(excess[1]) > 0) == (know == "adaptive")
    random = Match.of([pose(captured(held, "randomk:ratio=0.05"), "adaptive")], "cpu")
    assert not random.unsent.most


def test_a_wrong_field_is_changed_and_swapped_fields_are_swapped_back():
    held = rows(2)
    match, value = Match.of([pose(captured(held), "adaptive")], "cpu"), TabLeak().value
    town = list(DOMAIN.groups())[2]
    wrong = held.clone()
    wrong[0, town] = held[0, town].roll(1)
    wrong[:, 0] += 0.2
    found = improved(value, match, wrong[None], 4)[0]
    torch.testing.assert_close(found[:, 3:], held[:, 3:])
    torch.testing.assert_close(found[:, :3], held[:, :3], atol=0.02, rtol=0)
    swapped = held.clone()
    swapped[[0, 1], town] = held[[1, 0], town]
    torch.testing.assert_close(improved(value, match, swapped[None], 1)[0], held, atol=0.02, rtol=0)
    assert torch.equal(improved(value, match, held[None], 0)[0], held)


def test_restarts_are_matched_and_pooled_field_by_field():
    held = rows(3)
    wrong = held.clone()
    wrong[0, list(DOMAIN.groups())[1]] = held[0, list(DOMAIN.groups())[1]].roll(1)
    wrong[1, 0] += 2
    restarts = torch.stack([held, held[[2, 0, 1]], wrong.flip(0)])
    found, agreement = pooled(restarts, torch.tensor([0.0, 1.0, 2.0]), DOMAIN)
    torch.testing.assert_close(found, held)
    assert agreement == pytest.approx(1 - 2 / (3 * 3 * 7))


def test_numbers_alone_are_solved_for_and_sought():
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(4, 30), torch.nn.Tanh(), torch.nn.Linear(30, 2))
    task = Task(Numbers((4,), -3.0, 3.0), MeanSquaredError(2))
    held, due = torch.rand(2, 4) * 4 - 2, torch.randn(2, 2)
    one = gradwire.invert(gradwire.capture(model, held[:1], due[:1], task=task), "tableak")
    torch.testing.assert_close(one.inputs[0], held[:1], atol=1e-4, rtol=0)
    both = gradwire.invert(gradwire.capture(model, held, due, task=task), "tableak", **QUICK)
    found = task.domain.matched(both.inputs, held[None])
    assert float((found - held).abs().max()) < 0.1


def test_a_single_row_without_categories_is_sought():
    """Nothing can be swapped or given another value then: location30's rows are zeros and ones."""
    domain = dataclasses.replace(DOMAIN, categories=())
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 30), torch.nn.Tanh(), torch.nn.Linear(30, 2))
    held = domain.snapped(torch.randn(1, 3))
    view = gradwire.capture(
        model, held, torch.tensor([1]), "topk:ratio=0.2", task=Task(domain, LOSSES["cross_entropy"])
    )
    guess = gradwire.invert(view, "tableak", exact=False, **QUICK)
    assert domain.score(guess.inputs, held[None])["fields"].tolist() == [1.0]


def test_the_same_seed_gives_the_same_rows():
    view = captured(rows(2), "powersgd:rank=1")
    first, second = (gradwire.invert(view, "tableak", iterations=30, restarts=2, changes=1, seed=3) for _ in range(2))
    assert torch.equal(first.inputs, second.inputs)
    assert torch.equal(first.objective, second.objective)


def test_a_search_that_was_cut_goes_on(tmp_path):
    problems = [pose(captured(rows(2), "powersgd:rank=1"), "adaptive")]
    attack, file = TabLeak(iterations=20, restarts=2, changes=1), tmp_path / "state"

    class Cut(Exception):
        pass

    def cut(stage, done, of):
        if done == 15:
            raise Cut

    whole = attack.run(problems)
    with pytest.raises(Cut):
        attack.run(problems, progress=cut, checkpoint=file, every=5)
    assert torch.equal(attack.run(problems, checkpoint=file, every=5).inputs, whole.inputs)


def test_bad_input():
    digits = data.load("digits")
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    view = gradwire.capture(model, *digits.batch([0]))
    with pytest.raises(GradwireError, match="tableak seeks rows of tables; these inputs are images: try iga"):
        gradwire.invert(view, "tableak")
    with pytest.raises(GradwireError, match="tableak: changes is -1"):
        ATTACKS.parse("tableak:changes=-1")
    assert ATTACKS.parse("tableak:restarts=2").spec == "tableak:restarts=2"


def test_targets_of_mse_must_be_known_for_a_search_and_not_for_analytic():
    held = rows(1)
    view = dataclasses.replace(captured(held, loss=MeanSquaredError(3)), targets=None)
    with pytest.raises(GradwireError, match="targets of the loss 'mse' cannot be inferred"):
        gradwire.invert(view, "tableak")
    torch.testing.assert_close(gradwire.invert(view, "analytic").inputs[0], held, atol=1e-4, rtol=0)


@pytest.mark.parametrize("scheme", ["none", "powersgd:rank=1"])
def test_binary_labels_of_one_row_are_inferred(scheme):
    due = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
    view = dataclasses.replace(captured(rows(1), scheme, BinaryCrossEntropy(4), due), targets=None)
    assert torch.equal(pose(view, "adaptive").targets, due)


def test_a_network_without_a_first_linear_layer_is_searched():
    held, due = rows(1), torch.tensor([1])
    model = torch.nn.Sequential(torch.nn.LayerNorm(DOMAIN.shape[0]), network())
    view = gradwire.capture(model, held, due, task=Task(DOMAIN, CrossEntropy(("no", "yes"))))
    guess = gradwire.invert(view, "tableak", **QUICK)
    assert "tableak sought the rows of 1 of 1 victims" in guess.notes
    assert fields(guess, held) == 1


@pytest.mark.data
@pytest.mark.parametrize(("scheme", "batch", "least"), [("powersgd:rank=4", 4, 1.0), ("topk:ratio=0.05", 1, 1.0)])
def test_rows_of_adult(scheme, batch, least):
    adult = data.load("adult")
    inputs, due = adult.batch(range(batch))
    view = gradwire.capture(adult.network("mlp:hidden=100", 0), inputs, due, scheme, task=adult.task)
    guess = gradwire.invert(view, "tableak")
    domain = adult.task.domain
    assert float(domain.score(domain.matched(guess.inputs, inputs[None]), inputs[None])["fields"]) >= least
