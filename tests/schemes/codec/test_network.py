from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from gradwire.schemes.codec import network
from gradwire.schemes.codec.initial import drawn


def weights(seed=0):
    random = torch.Generator().manual_seed(seed)
    return drawn("encode", random), drawn("decode", random)


def test_the_tables_parameter_counts():
    for half, kernels, all_of_them in (("encode", 172_480, 172_996), ("decode", 43_472, 43_733)):
        layout = network.HALVES[half]
        assert layout.size == all_of_them
        assert sum(size for name, size in layout.sizes.items() if name.endswith("weight")) == kernels


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 200))
def test_any_length_comes_out_as_it_went_in(length):
    encoder, decoder = weights()
    code = network.encode(encoder, torch.randn(length))
    assert code.shape == (network.code_size(length),)
    assert network.code_size(length) < length / 4 + 4
    assert network.decode(decoder, code, length).shape == (length,)


def test_it_is_what_torchs_layers_compute():
    encoder, decoder = weights()
    layers = [
        *(nn.Conv1d(i, o, 3, 2, 1) for i, o in ((1, 64), (64, 128), (128, 256), (256, 64))),
        nn.Conv1d(64, 4, 1),
        *(nn.ConvTranspose1d(i, o, 3, 2, 1, 1) for i, o in ((4, 4), (4, 32), (32, 64), (64, 128))),
        nn.ConvTranspose1d(128, 32, 3, 1, 1),
    ]
    net = nn.Sequential(*(part for layer in layers for part in (layer, nn.LeakyReLU())), nn.Conv1d(32, 1, 1))
    vector = torch.randn(48)
    nn.utils.vector_to_parameters(torch.cat([encoder, decoder]), net.parameters())
    found = network.decode(decoder, network.encode(encoder, vector), 48)
    torch.testing.assert_close(found, net(vector[None, None])[0, 0])


def test_weights_begin_within_the_bounds_of_torchs_layers():
    for half, layer in (("encode", nn.Conv1d(128, 256, 3)), ("decode", nn.ConvTranspose1d(64, 128, 3))):
        shape = layer.weight.shape
        (name,) = (n for n, s in network.HALVES[half].shapes.items() if s == shape)
        found = network.HALVES[half].unflatten(drawn(half, torch.Generator().manual_seed(0)))[name]
        limit = float(layer.weight.detach().abs().max())
        assert 0.98 * limit < float(found.abs().max()) < 1.02 * limit


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 300))
def test_vectors_that_are_cut_into_tiles_are_computed_as_a_whole(length):
    both, vector = torch.cat(weights()).double(), torch.randn(length, dtype=torch.float64)
    whole = network.rebuilt(both, vector)
    for tile in (16, 32, 80):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(network, "TILE", tile)
            torch.testing.assert_close(network.rebuilt(both, vector), whole)


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 200), st.integers(0, 10))
def test_what_is_made_of_a_preimage_is_no_further_from_the_target_than_what_is_made_of_the_target(length, seed):
    both, target = torch.cat(weights(seed)), torch.randn(length, generator=torch.Generator().manual_seed(seed))
    found = network.preimage(partial(network.rebuilt, both), target)
    before, after = (float((network.rebuilt(both, vector) - target).norm()) for vector in (target, found))
    assert after <= before
