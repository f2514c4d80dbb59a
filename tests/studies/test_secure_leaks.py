import pytest
import torch

import gradwire
from gradwire import models
from gradwire.errors import GradwireError
from gradwire.studies.secure_leaks import LabelLeak, MaximumLeak, label_leak, labels_from_indices, maximum_leak


def view(scheme):
    model = models.build("lenet", (1, 8, 8), 10, seed=0)
    batch = (torch.rand(1, 1, 8, 8), torch.tensor([3]))
    return gradwire.capture(model, *batch, scheme=scheme, fellows=[batch])


def test_open_indices_give_the_label_away():
    assert labels_from_indices(view("ssga:compression=50")).tolist() == [3]


def test_where_indices_are_not_chosen_by_size_there_is_nothing_to_guess_from():
    for scheme in ("sga", "ssga:compression=50,mask=random"):
        with pytest.raises(GradwireError, match="tells no entries that clients chose"):
            labels_from_indices(view(scheme))


@pytest.mark.slow
def test_the_anonymous_union_hides_whose_label_it_is():
    found = {union: label_leak(LabelLeak(union=union, samples=30))[0] for union in ("open", "anonymous")}
    assert found["open"]["low"] > 0.5 > found["open"]["fellow"]
    assert found["anonymous"]["low"] <= found["anonymous"]["fellow"] <= found["anonymous"]["high"]
    assert found["anonymous"]["high"] < found["open"]["low"]


@pytest.mark.slow
def test_the_maximum_goes_with_the_loss():
    (found,) = maximum_leak(MaximumLeak(samples=50, rounds=60))
    assert found["rank_correlation"] > 0.3
    assert 0 <= found["auc_maximum"] <= 1
