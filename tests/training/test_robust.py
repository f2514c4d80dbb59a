"""Robust means: known answers, what a few liars cannot do, and schemes that do not show single updates."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradwire import data
from gradwire.errors import GradwireError
from gradwire.schemes import Layout, parse
from gradwire.training import TrainSettings, begin, train
from gradwire.training.robust import check_rule, clipped, krum, median, robust_mean
from gradwire.wire import InProcess, Transcript

numbers = st.floats(-100, 100, width=32)


def test_a_median_of_four_is_the_mean_of_the_two_in_the_middle():
    rows = torch.tensor([[1.0, 5.0], [2.0, 6.0], [4.0, 6.0], [1e9, -1e9]])
    assert median(rows).tolist() == [3.0, 5.5]


@given(
    st.lists(numbers, min_size=5, max_size=5), st.lists(st.floats(width=32, allow_nan=False), min_size=2, max_size=2)
)
def test_two_liars_of_seven_leave_the_median_among_the_honest(honest, lies):
    found = float(median(torch.tensor([[x] for x in (*lies, *honest)]))[0])
    assert min(honest) <= found <= max(honest)


@given(st.floats(10, 1e6, width=32))
def test_krum_takes_one_of_those_that_are_near_to_one_another(far):
    honest = torch.eye(5)
    lies = torch.full((2, 5), far)
    assert krum(torch.cat([lies, honest]), 2) >= 2


@given(st.lists(st.tuples(numbers, numbers), min_size=1, max_size=7))
def test_no_clipped_update_is_longer_than_the_median_and_none_turns(rows):
    given_ = torch.tensor(rows)
    found = clipped(given_)
    bound = float(median(given_.norm(dim=1)[:, None])[0])
    assert bool((found.norm(dim=1) <= bound * (1 + 1e-5) + 1e-6).all())
    short = given_.norm(dim=1) <= bound
    torch.testing.assert_close(found[short], given_[short])


def test_a_rule_goes_over_all_parameters_together():
    values = [0.0, 10.0, 20.0, 21.0, 22.0, 24.0, 50.0]
    updates = {str(i): {"a": torch.full((2,), x), "b": torch.full((1, 1), -x)} for i, x in enumerate(values)}
    layout = Layout.of(updates["0"])
    found = robust_mean("krum:2", updates, layout)  # 22 is nearest to its three nearest: 21, 20 and 24
    assert found["a"].tolist() == [22.0, 22.0]
    assert found["b"].tolist() == [[-22.0]]
    assert robust_mean("median", updates, layout)["a"].tolist() == [21.0, 21.0]


@pytest.mark.parametrize(
    ("rule", "clients", "average", "scheme", "says"),
    [
        ("mode", 8, "plain", "none", "rule is 'mode'; it must be mean, median, clip, or krum:F"),
        ("krum", 8, "plain", "none", "rule is 'krum'"),
        ("median:2", 8, "plain", "none", "rule is 'median:2'"),
        ("krum:3", 8, "plain", "none", r"rule is krum:3 with 8 clients a round; Krum needs 2·3 \+ 3 or more"),
        ("median", 8, "weighted", "none", "average must be plain"),
        ("median", 8, "plain", "sga", "compares single updates, which sga does not show the server"),
        ("median", 8, "plain", "topk:ratio=0.1+sga", "compares single updates"),
    ],
)
def test_what_no_rule_can_follow_is_refused_by_name(rule, clients, average, scheme, says):
    with pytest.raises(GradwireError, match=says):
        check_rule(rule, clients, average, parse(scheme))


def trained(scheme, rule, model="mlp:hidden=8", **changed):
    digits = data.load("digits:train=128")
    settings = TrainSettings(scheme=scheme, rule=rule, clients=5, rounds=2, batch_size=8, **changed)
    state = begin(settings, digits.network(model, 0))
    train(state, settings, digits, InProcess(Transcript(keep=1)))
    return torch.cat([p.detach().flatten() for p in state.model.parameters()])


@pytest.mark.parametrize(
    ("scheme", "model", "says"),
    [
        ("powersgd", "mlp:hidden=8", "powersgd sends 2 messages, of which the later follow from a plain mean"),
        ("none", "resnet20", "running statistics would still be a plain mean"),
    ],
)
def test_later_messages_and_statistics_that_no_rule_reaches_are_refused(scheme, model, says):
    with pytest.raises(GradwireError, match=says):
        trained(scheme, "median", model)


@pytest.mark.parametrize("scheme", ["none", "topk:ratio=0.2", "qsgd"])
def test_a_boosted_liar_moves_the_mean_and_hardly_the_median(scheme):
    lie = {"malicious": 1, "malice": "sign:boost=100.0"}
    moved = {rule: (trained(scheme, rule, **lie) - trained(scheme, rule)).norm() for rule in ("mean", "median")}
    assert moved["median"] < 0.1 * moved["mean"]
