import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradwire.schemes import Layout, selection
from gradwire.schemes.selection import choose, largest
from gradwire.schemes.sparse import Sparse
from tests.schemes.rounds import random_update


@pytest.mark.parametrize("kind", ["normal", "heavy", "periodic", "mostly zero", "equal", "one huge block"])
@pytest.mark.parametrize("share", [0.0001, 0.01, 0.12, 0.5])
def test_large_vectors_give_exactly_the_k_largest(kind, share):
    g = torch.Generator().manual_seed(0)
    vector = torch.randn(200_003, generator=g)
    if kind == "heavy":
        vector = vector / torch.rand(len(vector), generator=g).clamp_min(1e-6)
    if kind == "periodic":
        vector[:: selection.STRIDE] *= 1e-3
    if kind == "mostly zero":
        vector[torch.rand(len(vector), generator=g) > 0.001] = 0
    if kind == "equal":
        vector = torch.ones(len(vector))
    if kind == "one huge block":
        vector[1000:1500] *= 1e6
    count = int(share * len(vector))
    kept = largest(vector, count)
    assert len(kept) == count
    assert (kept.diff() > 0).all()
    expected = vector.abs().topk(count).values
    assert torch.equal(vector[kept].abs().sort(descending=True).values, expected)


def test_the_sample_spares_a_full_selection_where_it_can():
    vector = torch.randn(500_000, generator=torch.Generator().manual_seed(1))
    candidates = selection._candidates(vector, 5000)
    assert candidates is not None
    assert 5000 <= len(candidates) < 9000


def test_choose_spends_its_counts_within_each_parameter_or_over_all():
    update = random_update(0)
    layout = Layout.of(update)
    vector = layout.flatten(update)
    counts = dict.fromkeys(layout.shapes, 2)
    kept = choose(vector, layout, counts, "tensor")
    edges = torch.tensor([*layout.offsets.values(), layout.size])
    assert torch.histogram(kept.indices.double(), edges.double()).hist.tolist() == [2, 2, 2, 2]
    over_all = choose(vector, layout, counts, "model")
    assert torch.equal(over_all.indices, vector.abs().topk(8).indices.sort().values)


def test_a_sparse_vector_as_an_update_is_the_dense_one():
    update = random_update(0)
    layout = Layout.of(update)
    vector = layout.flatten(update)
    kept = Sparse.pick(vector, largest(vector, 5))
    scattered, dense = kept.update(layout), layout.unflatten(kept.dense())
    assert list(scattered) == list(dense)
    assert all(torch.equal(scattered[name], dense[name]) for name in dense)


@given(st.floats(-2, 2))
def test_adding_onto_a_vector_is_adding_the_flat_update(factor):
    update = random_update(0)
    layout = Layout.of(update)
    vector = torch.randn(layout.size, generator=torch.Generator().manual_seed(1))
    before = vector.clone()
    torch.testing.assert_close(layout.plus(update, vector, factor), layout.flatten(update) + factor * vector)
    assert torch.equal(vector, before)


@pytest.mark.parametrize("size", [1000, 200_003])
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_is_chosen_first(size, wrong):
    vector = torch.randn(size, generator=torch.Generator().manual_seed(0))
    for places in ([7], [0, size // 2, size - 1], list(range(3, 400))):
        spoiled = vector.clone()
        spoiled[places] = wrong
        assert set(places) <= set(largest(spoiled, 400).tolist())
        assert set(largest(spoiled, 1).tolist()) <= set(places)
