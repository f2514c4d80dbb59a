from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from torch.nn.functional import cross_entropy

import gradwire
from gradwire import models
from gradwire.attacks.membership import WireAttack, WireStatistics, attack, observe
from gradwire.errors import GradwireError
from gradwire.metrics import roc
from gradwire.registry import MEMBERSHIP
from gradwire.schemes import observation
from gradwire.schemes.gradients import Full

SCHEMES = (
    *("none", "topk:ratio=0.05", "topk:ratio=0.05,per=model", "randomk:ratio=0.1", "powersgd:rank=1", "dgc:ratio=0.05"),
    *("qsgd", "signsgd", "noise:std=0.001", "sparsify:drop=0.7", "sga", "ssga:compression=10"),
)


def gradients(model, images, labels):
    """Each candidate's own gradient, one plain backward pass each."""
    model.eval()
    for x, y in zip(images, labels, strict=True):
        found = torch.autograd.grad(cross_entropy(model(x[None]), y[None]), list(model.parameters()))
        yield {name: g for (name, _), g in zip(model.named_parameters(), found, strict=True)}


def capture(model, digits, scheme="none", **others):
    fellows = [digits.batch(range(4, 8)), digits.batch(range(8, 12))]
    return gradwire.capture(model, *digits.batch(range(4)), scheme=scheme, fellows=fellows, mode="eval", **others)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("knowledge", ["naive", "adaptive"])
def test_statistics_are_the_products_with_candidates_own_gradients(model, digits, scheme, knowledge) -> None:
    view = capture(model, digits, scheme)
    images, labels = digits.batch(range(5))
    found = observe([view], images, labels, chunk=2)[knowledge]
    how, seen = observation(view)
    decoded, terms = how.decode(seen), how.measure(seen)
    for candidate, own in enumerate(gradients(model, images, labels)):
        if knowledge == "naive":
            pairs = [(own[name], decoded[name]) for name in decoded]
        else:
            pairs = [(t.apply(Full(own[name][None])), t.observed) for name in terms for t in terms[name]]
        inner = sum(float((a * y).sum()) for a, y in pairs)
        square = sum(float(a.square().sum()) for a, _ in pairs)
        assert float(found.inner[0, 0, candidate]) == pytest.approx(inner, rel=1e-3, abs=1e-6)
        assert float(found.square[0, 0, candidate]) == pytest.approx(square, rel=1e-3)
        assert float(found.energy) == pytest.approx(sum(float(y.square().sum()) for _, y in pairs), rel=1e-4)


@pytest.mark.parametrize("scheme", ["none", "topk:ratio=0.1", "powersgd:rank=2"])
def test_the_only_image_of_a_round_is_all_that_was_sent(model, digits, scheme) -> None:
    view = gradwire.capture(model, *digits.batch([3]), scheme=scheme, mode="eval")
    cosine = attack("cosine").scores(observe([view], *digits.batch(range(8)))["adaptive"])
    assert float(cosine[3]) == pytest.approx(1, abs=1e-3)
    assert cosine.argmax() == 3


def test_all_clients_of_a_round_are_observed_at_once(model, digits) -> None:
    view = capture(model, digits)
    views = [replace(view, victim=party) for party in view.clients]
    together = observe(views, *digits.batch(range(6)))["adaptive"]
    for client, each in enumerate(views):
        alone = observe([each], *digits.batch(range(6)))["adaptive"]
        torch.testing.assert_close(together.inner[:, client : client + 1], alone.inner)
        torch.testing.assert_close(together.energy[:, client : client + 1], alone.energy)


@pytest.mark.parametrize("statistic", ["inner-product", "cosine", "norm-difference"])
def test_an_update_tells_who_was_in_it(model, digits, statistic) -> None:
    view = gradwire.capture(model, *digits.batch(range(8)), mode="eval")
    scores = attack(statistic).scores(observe([view], *digits.batch(range(80)))["adaptive"])
    assert roc(scores, torch.arange(80) < 8).auc > 0.8


def test_a_masked_sum_tells_who_was_with_any_client(model, digits) -> None:
    view = capture(model, digits, "sga")
    scores = attack("cosine").scores(observe([view], *digits.batch(range(120)))["adaptive"])
    assert roc(scores, torch.arange(120) < 12).auc > 0.7


def statistics(rounds: int = 3, clients: int = 5, n: int = 200, lift: float = 0.0, seed: int = 0) -> WireStatistics:
    """The first `n // 2` candidates are with client 0."""
    random = torch.Generator().manual_seed(seed)
    square = torch.rand(rounds, 1, n, generator=random, dtype=torch.float64).expand(rounds, clients, n) + 0.5
    inner = torch.randn(rounds, clients, n, generator=random, dtype=torch.float64)
    inner = inner + 2 * torch.randn(rounds, 1, n, generator=random, dtype=torch.float64)
    inner[:, 0, : n // 2] += lift
    return WireStatistics(inner, square, torch.full((rounds, clients), 40.0, dtype=torch.float64))


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 4), st.floats(0.01, 2))
def test_the_norm_that_is_taken_away(size, share) -> None:
    random = torch.Generator().manual_seed(size)
    update, own = torch.randn(2, size, generator=random, dtype=torch.float64)
    one = WireStatistics(*(x.reshape(1, 1, 1) for x in (update @ own, own @ own)), (update @ update).reshape(1, 1))
    expected = update @ update - (update - share * own).square().sum()
    found = attack(f"norm-difference:share={share}").scores(one)
    assert float(found) == pytest.approx(float(expected), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("name", [name for name, kind in MEMBERSHIP.items() if issubclass(kind, WireAttack)])
def test_without_a_trace_nothing_is_told(name) -> None:
    areas = [roc(attack(name).scores(statistics(seed=seed)), torch.arange(200) < 100).auc for seed in range(40)]
    assert sum(areas) / 40 == pytest.approx(0.5, abs=4 * 0.041 / 40**0.5)


@pytest.mark.parametrize("name", [name for name, kind in MEMBERSHIP.items() if issubclass(kind, WireAttack)])
def test_more_rounds_tell_more(name) -> None:
    one, many = (
        roc(attack(name).scores(statistics(rounds, lift=1.0, n=2000)), torch.arange(2000) < 1000).auc
        for rounds in (1, 20)
    )
    assert 0.5 < one < many


def test_what_the_other_clients_say_of_a_candidate_helps() -> None:
    shown, members = statistics(clients=10, lift=2.0, n=2000), torch.arange(2000) < 1000
    alone, beside = (roc(attack(spec).scores(shown), members).auc for spec in ("cosine", "fedmia"))
    assert beside > alone + 0.1


def test_fedmia_is_the_mean_of_one_sided_tests() -> None:
    shown = statistics()
    cosine = shown.inner / (shown.square * 40).sqrt()
    found = attack("fedmia").scores(shown, victim=2)
    others = cosine[:, [0, 1, 3, 4]]
    p = norm.cdf(cosine[:, 2], others.mean(1), others.std(1)).mean(0)
    torch.testing.assert_close(torch.sigmoid(found), torch.as_tensor(p))


def test_fedmia_does_not_saturate() -> None:
    scores = attack("fedmia:statistic=inner-product").scores(statistics(lift=200.0))
    assert scores.isfinite().all()
    assert len(scores[:100].unique()) == 100


def test_rounds_are_joined() -> None:
    shown = statistics()
    rounds = [
        WireStatistics(shown.inner[t : t + 1], shown.square[t : t + 1], shown.energy[t : t + 1]) for t in range(3)
    ]
    assert torch.equal(WireStatistics.join(rounds).inner, shown.inner)
    with pytest.raises(GradwireError, match=r"all must be one \(clients, candidates\)"):
        WireStatistics.join([shown, statistics(clients=4)])


def test_what_cannot_be_observed(model, digits) -> None:
    view = capture(model, digits)
    images, labels = digits.batch(range(4))
    with pytest.raises(GradwireError, match=r"4 candidates and targets of shape \(3,\)"):
        observe([view], images, labels[:3])
    with pytest.raises(GradwireError, match="unknown knowledge 'both'"):
        observe([view], images, labels, ["both"])
    with pytest.raises(GradwireError, match="0 views do not share one model"):
        observe([], images, labels)
    other = models.build("convnet", digits.shape, digits.outputs, digits.mean, digits.std, seed=1)
    with pytest.raises(GradwireError, match="2 views do not share one model"):
        observe([view, capture(other, digits)], images, labels)


def test_what_an_attack_cannot_work_with() -> None:
    with pytest.raises(GradwireError, match="'fedmia' has the messages of 2 clients; it needs 3"):
        attack("fedmia").scores(statistics(clients=2))
    with pytest.raises(GradwireError, match="victim is 5; there are clients 0 to 4"):
        attack("cosine").scores(statistics(), victim=5)
    with pytest.raises(GradwireError, match="share is 0"):
        attack("norm-difference:share=0")
    with pytest.raises(GradwireError, match="unknown attack 'losses'"):
        attack("losses")
    with pytest.raises(GradwireError, match=r"they must be \(T, C, n\)"):
        WireStatistics(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2))
