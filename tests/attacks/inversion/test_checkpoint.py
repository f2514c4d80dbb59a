import pytest
import torch

import gradwire
from gradwire import data, models
from gradwire.attacks.inversion import DLG, IGA, pose
from gradwire.errors import GradwireError


@pytest.fixture(scope="module")
def problems():
    digits = data.load("digits")
    model = models.build("lenet", digits.shape, digits.outputs, digits.mean, digits.std, seed=0)
    views = [gradwire.capture(model, *digits.batch([i]), targets_known=False) for i in range(2)]
    return [pose(view, "adaptive", salt) for salt, view in enumerate(views)]


class Cut(Exception):
    """The machine goes down."""


def after(iterations):
    left = iterations

    def tick(stage, done, total):
        nonlocal left
        left -= 1
        if not left:
            raise Cut

    return tick


@pytest.mark.parametrize(
    "attack",
    [
        IGA(iterations=40, restarts=2),
        DLG(iterations=40, optimizer="adam"),
        DLG(iterations=40, optimizer="lbfgs", restarts=2),
    ],
    ids=lambda attack: f"{attack.name}-{attack.optimizer}",
)
def test_an_attack_that_was_cut_ends_as_one_that_was_not(problems, attack, tmp_path):
    whole = attack.run(problems, seed=3)
    path = tmp_path / "attack.safetensors"
    with pytest.raises(Cut):
        attack.run(problems, seed=3, progress=after(27), checkpoint=path, every=10)
    seen = []
    resumed = attack.run(problems, seed=3, progress=lambda *step: seen.append(step), checkpoint=path, every=10)
    assert seen == [("attacking", done * len(problems), 40 * len(problems)) for done in range(21, 41)]
    for name in ("inputs", "targets", "objective"):
        assert torch.equal(getattr(resumed, name), getattr(whole, name))


def test_a_finished_attack_is_not_run_again(problems, tmp_path):
    path = tmp_path / "attack.safetensors"
    first = IGA(iterations=7).run(problems, checkpoint=path)
    seen = []
    again = IGA(iterations=7).run(problems, checkpoint=path, progress=lambda *step: seen.append(step))
    assert seen == []
    assert torch.equal(first.inputs, again.inputs)


def test_the_checkpoint_of_another_attack_is_refused(problems, tmp_path):
    path = tmp_path / "attack.safetensors"
    IGA(iterations=3).run(problems, checkpoint=path)
    for other in (IGA(iterations=4), IGA(iterations=3, tv=0.5)):
        with pytest.raises(GradwireError, match="this attack is IGA"):
            other.run(problems, checkpoint=path)
    with pytest.raises(GradwireError, match="seed=1"):
        IGA(iterations=3).run(problems, seed=1, checkpoint=path)
    with pytest.raises(GradwireError, match="is of IGA"):
        IGA(iterations=3).run(problems[:1], checkpoint=path)


def test_what_is_no_checkpoint_is_refused(problems, tmp_path):
    path = tmp_path / "attack.safetensors"
    path.write_bytes(b"something else entirely")
    with pytest.raises(GradwireError, match="is not an attack's checkpoint"):
        IGA(iterations=3).run(problems, checkpoint=path)
    with pytest.raises(GradwireError, match="cannot be written"):
        IGA(iterations=3).run(problems, checkpoint=tmp_path / "nowhere" / "attack")
