import pytest
import torch

from gradwire.errors import GradwireError
from gradwire.schemes import StackedMeasurement, parse
from gradwire.schemes.gradients import Full
from tests.schemes.rounds import Cluster, flat, random_update

BIG = {"a.weight": (200, 100), "a.bias": (200,)}


def noise(spec, update, rounds=1, clients=1):
    """What the first client's message is off by, round by round."""
    cluster = Cluster.of(spec, [update] * clients)
    sights = [cluster.run([update] * clients)[1] for _ in range(rounds)]
    return [flat(cluster.scheme.decode(observation)) - flat(update) for observation in sights]


def test_the_noise_is_gaussian_with_the_given_deviation():
    (found,) = noise("noise:std=0.1", random_update(0, BIG))
    n = len(found)
    assert float(found.mean()) == pytest.approx(0, abs=5 * 0.1 / n**0.5)
    assert float(found.std()) == pytest.approx(0.1, rel=5 / (2 * n) ** 0.5)
    within = float((found.abs() < 0.1).float().mean())
    assert within == pytest.approx(0.6827, abs=0.02)


def test_noise_is_drawn_anew_each_round_and_by_each_client_and_again_alike():
    update = random_update(0)
    first, second = noise("noise:std=1", update, rounds=2)
    again, _ = noise("noise:std=1", update, rounds=2)
    assert not torch.equal(first, second)
    assert torch.equal(first, again)
    aggregate, _ = Cluster.of("noise:std=1", [update] * 2).run([update] * 2)
    # Two clients that drew the same noise would leave the first one's in the mean.
    assert float((flat(aggregate) - flat(update) - first).abs().max()) > 0.1


def test_the_mean_over_clients_has_less_noise():
    update = random_update(0, BIG)
    aggregate, _ = Cluster.of("noise:std=0.1", [update] * 16).run([update] * 16)
    assert float((flat(aggregate) - flat(update)).std()) == pytest.approx(0.1 / 4, rel=0.05)


def test_the_true_gradient_is_as_likely_as_the_noise_says():
    update = random_update(0, BIG)
    cluster = Cluster.of("noise:std=0.1", [update])
    _, observation = cluster.run([update])
    stack = StackedMeasurement.of([cluster.scheme.measure(observation)], torch.zeros(1))
    off = float(stack.distance({name: Full(g[None]) for name, g in update.items()}))
    expected = len(flat(update)) * cluster.scheme.deviation(observation.round) ** 2
    assert off == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("noise", "scheme 'noise' lacks std: noise:std=VALUE"),
        ("noise:std=0", "std is 0.0; it must be positive"),
        ("noise:std=-1", "std is -1.0"),
        ("noise:std=nan", "std is nan"),
        ("noise:std=inf", "std is inf"),
    ],
)
def test_parameters_that_cannot_be(spec, message):
    with pytest.raises(GradwireError, match=message):
        parse(spec)
