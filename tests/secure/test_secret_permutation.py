import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradwire.secure.secret_permutation import SecretPermutation


@given(st.binary(min_size=32, max_size=32), st.sets(st.integers(0, 99)))
def test_lifting_the_veil_gives_the_entries_back(key, chosen):
    permutation = SecretPermutation.of(key, 100)
    entries = torch.tensor(sorted(chosen), dtype=torch.int64)
    votes = permutation.ballot(entries)
    assert votes.sum() == len(chosen)
    assert torch.equal(permutation.lift(torch.from_numpy(np.flatnonzero(votes))), entries)


def test_everybody_with_the_key_draws_the_same_veil_and_nobody_else():
    first, again, other = (SecretPermutation.of(key * 32, 1000).place for key in (b"a", b"a", b"b"))
    assert np.array_equal(first, again)
    assert (first == other).mean() < 0.02
