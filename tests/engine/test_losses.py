"""Every built-in loss goes the fast ways, and gets from them what plain autograd gives."""

import pytest
import torch
from torch import nn

from gradwire.engine import PATHS, STACK_PATHS, Networks, engine, stack
from gradwire.errors import GradwireError
from gradwire.tasks import BinaryCrossEntropy, CrossEntropy, MeanSquaredError, NextToken, Numbers, Task, Tokens
from gradwire.training.client import Computation
from gradwire.training.cohort import cohort_plan

LOSSES = {
    "cross_entropy": CrossEntropy(("a", "b", "c")),
    "mse of one": MeanSquaredError(1),
    "mse of several": MeanSquaredError(4),
    "bce of one": BinaryCrossEntropy(1),
    "bce of several labels": BinaryCrossEntropy(5),
}


def rows(loss):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, loss.outputs))
    return network.double(), Task(Numbers((6,)), loss)


class Language(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(11, 8), nn.Linear(8, 11)

    def forward(self, input_ids, attention_mask):
        return self.head(torch.tanh(self.embed(input_ids)) * attention_mask[..., None])


def sentences():
    torch.manual_seed(0)
    return Language().double(), Task(Tokens(6, tuple("_abcdefghij"), pad=0), NextToken(pad=0))


@pytest.mark.parametrize("name", LOSSES)
def test_victims_gradients_are_batched(name):
    model, task = rows(LOSSES[name])
    assert engine(model, "train", task, 3).path == "batched"
    equal_on_every_path(model, task)


def test_next_token_is_batched_over_victims_too():
    model, task = sentences()
    assert engine(model, "train", task, 3).path == "batched"
    equal_on_every_path(model, task)


def equal_on_every_path(model, task):
    inputs, targets = task.probe(3, 2)
    for path in PATHS:
        found = PATHS[path](model, "train", task)(inputs, targets)
        for victim in range(3):
            value = task.value(model, inputs[victim], targets[victim])
            due = torch.autograd.grad(value, list(model.parameters()))
            for gradient, expected in zip(found.values(), due, strict=True):
                torch.testing.assert_close(gradient.full()[victim], expected, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_many_networks_go_row_by_row(name):
    model, task = rows(LOSSES[name])
    assert stack(model, task).path == "rowwise"
    inputs, targets = task.probe(2, 3)
    networks = Networks.repeat(model, 2)
    for path in STACK_PATHS:
        found = stack(model, task, path=path).slopes(networks, inputs, targets)
        for row in range(2):
            value = task.value(model, inputs[row], targets[row])
            torch.testing.assert_close(found.losses[row], value.detach())
            for (key, parameter), due in zip(
                model.named_parameters(), torch.autograd.grad(value, list(model.parameters())), strict=True
            ):
                gradient = found.gradients[key]
                gradient = gradient if isinstance(gradient, torch.Tensor) else gradient.full()
                torch.testing.assert_close(gradient[row].view_as(parameter), due, atol=1e-12, rtol=1e-9)


def test_networks_of_next_token_train_one_after_another_and_a_note_says_why():
    from gradwire.schemes import parse

    model, task = sentences()
    with pytest.raises(GradwireError, match="'next_token' of a batch is no mean over its examples"):
        stack(model, task)
    plan = cohort_plan(parse("none"), model, task, [[2], [2]], 2, True, Computation("train", task))
    assert plan.notes == (
        "clients train one after another: the loss 'next_token' of a batch is no mean over its examples",
    )
