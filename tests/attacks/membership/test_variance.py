import pytest
import torch

from gradwire.attacks.membership.variance import moments, settle, shrink


def test_moments_are_those_of_the_chosen() -> None:
    values = torch.randn(9, 20, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    chosen = torch.rand(9, 20, generator=torch.Generator().manual_seed(1)) < 0.6
    mean, variance, count = moments(values, chosen)
    for example in range(20):
        own = values[chosen[:, example], example]
        torch.testing.assert_close(mean[example], own.mean(0))
        torch.testing.assert_close(variance[example], own.var(0))
        assert int(count[example]) == len(own)


def drawn(freedom: int, prior: float | None, n: int = 20000) -> tuple[torch.Tensor, torch.Tensor]:
    """True variances, 2.0 for all or with a prior of so many degrees of freedom around it, and samples of them."""
    torch.manual_seed(0)
    true = torch.full((n, 1), 2.0, dtype=torch.float64)
    if prior is not None:
        true = true * prior / torch.distributions.Chi2(torch.tensor(prior, dtype=torch.float64)).sample((n, 1))
    sample = true * torch.distributions.Chi2(torch.tensor(float(freedom), dtype=torch.float64)).sample((n, 1)) / freedom
    return true, sample


def test_where_all_are_equal_they_become_one() -> None:
    _, sample = drawn(freedom=4, prior=None)
    found = shrink(sample, torch.full((20000, 1), 4.0, dtype=torch.float64))
    # All but equal: the estimate of d₀ is infinite, or very large.
    assert float(found.std() / found.mean()) < 0.05
    assert float(found.mean()) == pytest.approx(2.0, rel=0.02)


def test_where_they_differ_the_shrunk_are_nearer_to_the_truth_than_either() -> None:
    true, sample = drawn(freedom=4, prior=6.0)
    freedom = torch.full((20000, 1), 4.0, dtype=torch.float64)
    errors = {
        kind: float((settle(sample, freedom + 1, kind).log() - true.log()).square().mean())
        for kind in ("per-example", "global", "shrunk")
    }
    assert errors["shrunk"] < 0.8 * min(errors["per-example"], errors["global"])


def test_the_prior_is_found() -> None:
    """With d₀ = 6 and s₀² = 2, an example of variance 0 on 4 degrees of freedom has the posterior 6·2 / (6 + 4)."""
    _, sample = drawn(freedom=4, prior=6.0)
    freedom = torch.full((20000, 1), 4.0, dtype=torch.float64)
    sample[0] = 0.0
    assert float(shrink(sample, freedom)[0]) == pytest.approx(1.2, rel=0.05)


def test_one_value_says_nothing_of_a_variance_and_has_what_the_others_share() -> None:
    _, sample = drawn(freedom=4, prior=6.0)
    count = torch.full((20000, 1), 5.0, dtype=torch.float64)
    sample[0], count[0] = 0.0, 1.0
    assert float(settle(sample, count, "shrunk")[0]) == pytest.approx(2.0, rel=0.05)
    assert float(settle(sample, count, "global")[0]) == pytest.approx(float(sample[1:].mean()))
