from functools import partial

import pytest
import torch
from torch.func import jacrev

from gradwire.schemes.codec import network
from gradwire.schemes.codec.initial import uniform
from gradwire.schemes.codec.training import Training, fit, segments


def fresh():
    weights, none = uniform(torch.Generator().manual_seed(0)), torch.zeros((), dtype=torch.int64)
    zeros = torch.zeros_like(weights)
    return {"weights": weights, "first": zeros, "second": zeros, "fits": none, "fallbacks": none, "good": weights}


def test_an_autoencoder_that_is_trained_with_jitter_answers_small_changes_by_smaller_ones():
    vector, longest = torch.randn(256, generator=torch.Generator().manual_seed(3)), {}
    for jitter in (0.0, 0.3):
        state = fit(fresh(), {"weight": vector}, Training(150, 1024, 0.002, "adam", jitter))
        derivative = jacrev(partial(network.rebuilt, state["weights"]))(vector)
        longest[jitter] = float(torch.linalg.matrix_norm(derivative, 2))
    assert 2 * longest[0.3] < longest[0.0], longest


@pytest.mark.parametrize("size", [32, 64, 1024])
def test_a_pass_takes_every_number_once_in_pieces_that_lie_as_they_do_in_the_whole(size):
    lengths = {"long": 5000, "short": 10, "even": 2048}
    starts = {name: 10000 * i for i, name in enumerate(lengths)}
    numbers = {name: torch.arange(n, dtype=torch.float64) + starts[name] for name, n in lengths.items()}
    orders = []
    for seed in range(5):
        pieces = segments(numbers, size, seed)
        assert sorted(torch.cat(pieces).tolist()) == sorted(torch.cat(list(numbers.values())).tolist())
        assert all(int(piece[0]) % 10000 % network.SHRINK == 0 for piece in pieces)
        assert all(size // 2 <= len(piece) <= 3 * size // 2 for piece in pieces if piece[0] != starts["short"])
        orders.append([float(piece[0]) for piece in pieces])
    assert len({tuple(order) for order in orders}) == 5
