import itertools

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gradwire import metrics


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 5), st.integers(0, 1000))
def test_a_shuffled_batch_is_put_back(batch: int, seed: int) -> None:
    truth = images(2, batch, 1, 4, 4, seed=seed)
    order = torch.randperm(batch, generator=torch.Generator().manual_seed(seed))
    assert torch.equal(metrics.match(truth[:, order], truth), truth)


def test_the_pairing_has_the_least_error_of_all() -> None:
    truth, guess = images(3, 4, 1, 3, 3), images(3, 4, 1, 3, 3, seed=1)
    best = torch.stack([metrics.mse(guess[:, list(order)], truth) for order in itertools.permutations(range(4))])
    torch.testing.assert_close(metrics.mse(metrics.match(guess, truth), truth), best.min(0).values)


def test_each_guess_is_used_once_even_when_one_fits_all() -> None:
    truth = torch.zeros(1, 3, 1, 2, 2)
    guess = torch.stack([torch.full((1, 2, 2), value) for value in (0.1, 0.2, 0.3)]).unsqueeze(0)
    assert sorted(metrics.match(guess, truth)[0, :, 0, 0, 0].tolist()) == guess[0, :, 0, 0, 0].tolist()


def test_one_image_a_victim_stays() -> None:
    guess, truth = images(3, 1, 8, 8), images(3, 1, 8, 8, seed=1)
    assert metrics.match(guess, truth) is guess
