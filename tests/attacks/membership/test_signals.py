import math

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradwire.attacks.membership import Signals, signals
from gradwire.attacks.membership.signals import mentr
from gradwire.errors import GradwireError

mpmath.mp.dps = 120
rows = st.lists(st.floats(-60, 60), min_size=2, max_size=5)


def exactly(logits: list[float], label: int) -> tuple[float, float, float]:
    """The three signals by their definitions, in 120 digits."""
    raised = [mpmath.e**z for z in logits]
    p = [x / sum(raised) for x in raised]
    rest = [sum(x for j, x in enumerate(p) if j != i) for i in range(len(p))]
    top = max(range(len(p)), key=lambda i: p[i])
    entropy = -rest[label] * mpmath.log(p[label])
    entropy -= sum(p[i] * mpmath.log(rest[i]) for i in range(len(p)) if i != label)
    return (
        float(mpmath.log(p[label] / rest[label])),
        float(mpmath.log(p[top] / rest[top])),
        float(-mpmath.log(entropy)),
    )


@settings(deadline=None, max_examples=100)
@given(rows, st.data())
def test_signals_are_exact_where_a_probability_has_long_been_one(logits, data) -> None:
    label = data.draw(st.integers(0, len(logits) - 1))
    found = signals(torch.tensor([logits], dtype=torch.float64), torch.tensor([label]))
    assert tuple(float(t) for t in vars(found).values()) == pytest.approx(exactly(logits, label), rel=1e-9, abs=1e-9)


def test_confidence_goes_on_where_a_float32_probability_ends() -> None:
    found = signals(torch.tensor([[30.0, 0.0], [60.0, 0.0]]), torch.zeros(2, dtype=torch.int64))
    assert found.label.flatten().tolist() == [30.0, 60.0]
    assert found.certainty[1] > found.certainty[0]


def test_the_loss_is_cross_entropy() -> None:
    logits, labels = torch.randn(50, 7, dtype=torch.float64), torch.randint(7, (50,))
    expected = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    torch.testing.assert_close(signals(logits, labels).loss.squeeze(1), expected)


@settings(deadline=None, max_examples=200)
@given(st.floats(1e-300, 1e9) | st.floats(1e-20, 1e-3) | st.floats(1e-3, 60))
def test_the_signal_of_a_loss_gives_the_loss_back(loss) -> None:
    found = Signals.of_losses(torch.tensor([[loss]], dtype=torch.float64))
    assert float(found.loss) == pytest.approx(loss, rel=1e-12, abs=0)
    assert float(found.label) == pytest.approx(float(-mpmath.log(mpmath.expm1(mpmath.mpf(loss)))), rel=1e-12, abs=1e-15)


def test_a_cross_entropy_has_the_label_signal_that_its_logits_have() -> None:
    logits, labels = torch.randn(50, 7, dtype=torch.float64), torch.randint(7, (50,))
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none")
    found = Signals.of_losses(losses[:, None])
    torch.testing.assert_close(found.label, signals(logits, labels).label)
    assert (found.top, found.certainty) == (None, None)


def test_a_loss_of_nothing_has_a_finite_signal() -> None:
    found = Signals.of_losses(torch.zeros(1, 1))
    assert found.label.isfinite().all()
    assert float(found.loss) < 1e-300


def test_signals_are_joined_cut_and_counted_whether_or_not_there_are_probabilities() -> None:
    losses = torch.rand(5, 2)
    for whole in (Signals.of_losses(losses), signals(torch.randn(5, 2, 3), torch.arange(5) % 3)):
        again = Signals.joined([whole[:2], whole[2:]], torch.cat)
        assert len(again) == 5
        assert again.known.keys() == whole.known.keys()
        assert all(torch.equal(again.known[name], tensor) for name, tensor in whole.known.items())


@pytest.mark.parametrize("loss", [-0.25, torch.nan, torch.inf])
def test_a_loss_that_no_probability_has_is_named(loss) -> None:
    with pytest.raises(GradwireError, match=f"the loss of example 1 is {loss:g}; it must be finite, and 0 or more"):
        Signals.of_losses(torch.tensor([[0.5], [loss]]))


def test_modified_entropy_is_least_when_surely_right_and_most_when_surely_wrong() -> None:
    logits = torch.tensor([[20.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 20.0, 0.0]], dtype=torch.float64)
    right, unsure, wrong = mentr(logits, torch.zeros(3, dtype=torch.int64)).tolist()
    assert right < unsure < wrong


def test_modified_entropy_is_that_of_equation_8() -> None:
    chances = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64)
    due = -0.5 * math.log(0.5) - 0.3 * math.log(0.7) - 0.2 * math.log(0.8)
    assert float(mentr(chances.log(), torch.tensor([0]))) == pytest.approx(due)


def test_augmentations_are_each_their_own() -> None:
    logits, labels = torch.randn(4, 3, 5), torch.tensor([0, 1, 2, 3])
    together = signals(logits, labels)
    for a in range(3):
        torch.testing.assert_close(together.label[:, a : a + 1], signals(logits[:, a], labels).label)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(2, 3), torch.tensor([0, 3]), "labels run from 0 to 3; the model has 3 classes"),
        (torch.zeros(2, 3), torch.tensor([0]), r"shapes \(2, 1, 3\) and \(1,\)"),
        (torch.full((1, 3), torch.nan), torch.tensor([0]), "3 of 3 logits are not finite"),
    ],
)
def test_what_there_are_no_signals_of(logits, labels, message) -> None:
    with pytest.raises(GradwireError, match=message):
        signals(logits, labels)


def test_signals_of_several_shapes_are_refused() -> None:
    with pytest.raises(GradwireError, match="all must be one"):
        Signals(torch.zeros(2, 1), torch.zeros(2, 1), torch.zeros(3, 1))
