import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradwire.errors import GradwireError
from gradwire.metrics import label_accuracy

labels = st.lists(st.integers(0, 9), min_size=1, max_size=8)


def test_labels_count_as_often_as_they_occur():
    found, true = torch.tensor([[1, 1, 2, 3], [0, 0, 0, 0]]), torch.tensor([[3, 1, 2, 2], [0, 1, 2, 3]])
    assert label_accuracy(found, true).tolist() == [0.75, 0.25]


@given(labels, st.randoms())
def test_their_order_does_not_matter(values, random):
    shuffled = random.sample(values, len(values))
    assert label_accuracy(torch.tensor(shuffled), torch.tensor(values)).tolist() == [1.0]


@given(labels)
def test_other_labels_are_all_wrong(values):
    assert label_accuracy(torch.tensor(values) + 10, torch.tensor(values)).tolist() == [0.0]


def test_bad_input():
    with pytest.raises(GradwireError, match="shapes"):
        label_accuracy(torch.zeros(2, dtype=torch.int64), torch.zeros(3, dtype=torch.int64))
    with pytest.raises(GradwireError, match="shapes"):
        label_accuracy(torch.zeros(1, 0, dtype=torch.int64), torch.zeros(1, 0, dtype=torch.int64))
