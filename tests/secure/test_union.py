from collections import Counter
from itertools import permutations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2

from gradwire.secure.union import SecretPermutation, mark, marked

choices = st.lists(st.sets(st.integers(0, 99), max_size=20).map(sorted), min_size=1, max_size=5)


@given(choices)
def test_what_one_client_marks_is_found_and_what_none_does_is_not(chosen):
    total = sum((mark(torch.tensor(c, dtype=torch.int64), 100) for c in chosen), np.zeros(100, np.uint8))
    found = set(marked(total).tolist())
    everything = [i for c in chosen for i in c]
    assert found <= set(everything)
    assert {i for i in everything if everything.count(i) == 1} <= found


def test_sums_of_marks_do_not_tell_how_many_made_them():
    """Given that it is not zero, a sum of marks is uniform over 1 … 255, however many it is of."""
    everywhere = torch.arange(200_000)
    for clients in (1, 2, 3):
        total = sum((mark(everywhere, 200_000) for _ in range(clients)), np.zeros(200_000, np.uint8))
        counts = np.bincount(total, minlength=256)[1:]
        expected = counts.sum() / 255
        assert chi2.sf(((counts - expected) ** 2 / expected).sum(), 254) > 1e-3
        assert (total == 0).mean() < 0.006


@given(st.binary(min_size=32, max_size=32), st.sets(st.integers(0, 99)))
def test_places_under_a_secret_permutation_give_the_entries_back(key, chosen):
    permutation = SecretPermutation.of(key, 100)
    entries = torch.tensor(sorted(chosen), dtype=torch.int64)
    votes = permutation.ballot(entries)
    assert votes.sum() == len(chosen)
    assert torch.equal(permutation.entries(torch.from_numpy(np.flatnonzero(votes))), entries)


def seen(ballots, least):
    """Under each permutation of four entries: the tally that the server has, and the entries that it is told."""
    views = Counter()
    for place in permutations(range(4)):
        permutation = SecretPermutation(np.array(place))
        tally = sum(permutation.ballot(torch.tensor(sorted(each), dtype=torch.int64)) for each in ballots)
        views[tuple(tally.tolist()), tuple(permutation.entries(marked(tally, least)).tolist())] += 1
    return views


def test_votes_under_a_secret_permutation_tell_how_many_had_how_many_and_who_had_enough():
    """What a server sees is distributed alike for all choices of one union and one histogram, and not for others."""
    chosen = seen([{0, 1}, {0, 2}, {0}], 2)
    assert seen([{0, 3}, {0}, {0, 1}], 2) == chosen  # other entries that one client chose
    assert seen([{0, 1, 2}, {0}, {0}], 2) == chosen  # one client chose both
    assert seen([{0, 1}, {0, 1}, {0}], 2) != chosen  # another union
    assert seen([{0, 1}, {0}, {0}], 2) != chosen  # another histogram: it is not hidden
    enough = seen([{0, 1}, {0, 1}, {0}], 2)
    assert seen([{0, 1}, {0, 1}, {1}], 2) == enough  # nor which of the union had how many


def test_a_key_draws_every_permutation_alike_often():
    drawn = Counter(tuple(SecretPermutation.of(i.to_bytes(32, "big"), 4).place.tolist()) for i in range(4800))
    counts = np.array([drawn[each] for each in permutations(range(4))])
    assert chi2.sf(((counts - 200) ** 2 / 200).sum(), 23) > 1e-3


def test_everybody_with_the_key_draws_the_same_permutation_and_nobody_else():
    first, again, other = (SecretPermutation.of(key * 32, 1000).place for key in (b"a", b"a", b"b"))
    assert np.array_equal(first, again)
    assert (first == other).mean() < 0.02
