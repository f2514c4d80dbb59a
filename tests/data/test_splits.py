import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gradwire.data.splits import holdout


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=200))
def test_a_holdout_divides_every_class(values: list[int]) -> None:
    labels = np.array(values)
    train, test = holdout(labels, "train"), holdout(labels, "test")
    assert sorted([*train, *test]) == list(range(len(labels)))
    for label in np.unique(labels):
        total, held = (labels == label).sum(), (labels[test] == label).sum()
        assert abs(held - 0.2 * total) <= 1
        assert 1 <= held < total if total > 1 else held == 0


def test_neither_split_begins_with_one_class() -> None:
    labels = np.repeat(np.arange(10), 100)
    for split in ("train", "test"):
        assert len(set(labels[holdout(labels, split)[:20]])) >= 5
