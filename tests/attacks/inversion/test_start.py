"""A search that begins at the learned inverter's answer, and which of three answers counts."""

from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor

from gradwire import models
from gradwire.attacks.inversion import ATTACKING, IGA, Learned, learned_starts, start_from_learned
from gradwire.attacks.inversion.match import Match
from gradwire.testing import check_attack
from tests.attacks.inversion.own_images import owned, problems, truth

SMALL = Learned(hidden=16, epochs=1, size=8, components=8, features=64)
SEARCH = IGA(iterations=5, tv=1e-3, optimizer="lbfgs")


@pytest.fixture(scope="module")
def model(digits):
    return models.build("lenet", digits.shape, digits.outputs, digits.mean, digits.std, seed=0)


@pytest.fixture(scope="module")
def attacked(model, digits):
    return problems(model, digits, "none", owned(60))


@dataclass(frozen=True)
class Told(Learned):
    """Answers what it is told."""

    answers: Tensor = field(default_factory=lambda: torch.empty(0))

    def run(self, problems, seed=0, device="cpu", progress=None, checkpoint=None):
        return replace(SMALL.run(problems[:1]), inputs=self.answers)


def test_a_search_begins_where_the_problem_says(attacked, digits):
    held = truth(digits)
    begun = [replace(problem, begin=images) for problem, images in zip(attacked, held, strict=True)]
    search = IGA(iterations=3, tv=0, optimizer="lbfgs")
    from_truth, from_noise = search.run(begun), search.run(attacked)
    assert from_truth.objective.max() < 1e-3 < from_noise.objective.min()
    torch.testing.assert_close(from_truth.inputs, held, atol=0.02, rtol=0)


def test_further_restarts_begin_at_noise(attacked):
    two = IGA(iterations=1, restarts=2)
    begun = [replace(problem, begin=torch.full(problem.view.shape, 0.25)) for problem in attacked]
    starts, noise = two.starts(begun, 0), two.starts(attacked, 0)
    assert torch.equal(starts[::2], torch.full_like(starts[::2], 0.25))
    assert torch.equal(starts[1::2], noise[1::2])


def test_learned_starts_are_what_the_inverter_answers(attacked):
    stages = set()
    starts = learned_starts(attacked, 0, "cpu", lambda *told: stages.add(told[0]), SMALL)
    assert torch.equal(starts, SMALL.run(attacked).inputs)
    assert stages == {"rehearsing", "training the inverter"}


def test_per_victim_the_lowest_of_three_counts(attacked, digits):
    held = truth(digits)
    # At the truth the value is zero, from which a step this large only leads away.
    mixed = torch.stack([held[0], torch.zeros_like(held[1]), held[2], torch.zeros_like(held[3])])
    search = IGA(iterations=1, tv=0, step=1000)
    guess = start_from_learned(search, attacked, learned=Told(answers=mixed))
    values = [each.objective for each in (search.run(attacked), guess)]
    itself = search.value(Match.of(attacked, "cpu"), mixed).detach()
    assert torch.all(guess.objective <= torch.minimum(values[0], itself))
    torch.testing.assert_close(guess.inputs[[0, 2]], held[[0, 2]])
    torch.testing.assert_close(guess.objective, search.value(Match.of(attacked, "cpu"), guess.inputs).detach())
    assert guess.notes[-1].startswith("of 4 answers, ")
    counts = [int(part.split(" by ")[0]) for part in guess.notes[-1].removeprefix("of 4 answers, ").split(", ")]
    assert len(counts) == 3
    assert sum(counts) == 4
    assert counts[2] >= 2


def test_it_goes_on_from_checkpoints_and_counts_to_the_end(tmp_path, attacked):
    told = []
    whole = start_from_learned(SEARCH, attacked, checkpoint=tmp_path / "kept", learned=SMALL)
    again = start_from_learned(
        SEARCH, attacked, progress=lambda *step: told.append(step), checkpoint=tmp_path / "kept", learned=SMALL
    )
    assert torch.equal(whole.inputs, again.inputs)
    assert len(list(tmp_path.iterdir())) == 2
    fresh = []
    start_from_learned(SEARCH, attacked, progress=lambda *step: fresh.append(step), learned=SMALL)
    done = [(at, of) for stage, at, of in fresh if stage == ATTACKING]
    assert done == sorted(done)
    assert done[-1][0] == done[-1][1]


def test_a_checkpoint_of_another_start_is_refused(tmp_path, attacked):
    begun = [replace(problem, begin=torch.full(problem.view.shape, 0.25)) for problem in attacked]
    SEARCH.run(begun, checkpoint=tmp_path / "kept")
    with pytest.raises(Exception, match="this attack is"):
        SEARCH.run(attacked, checkpoint=tmp_path / "kept")


def test_restarts_and_other_searches_can_begin_there(attacked):
    guess = start_from_learned(IGA(iterations=3, restarts=2), attacked, learned=SMALL)
    assert guess.inputs.shape == (4, *attacked[0].view.shape)


def test_it_passes_the_check_of_every_attack(model, digits):
    check_attack("from-learned:iterations=3", problems(model, digits, "topk:ratio=0.1", owned(20), victims=range(2)))
