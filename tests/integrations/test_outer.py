"""The outer step, in real processes, against PyTorch's own optimiser and by what must be conserved."""

import copy

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy

import gradwire
from gradwire.errors import GradwireError
from tests.distributed import workers
from tests.integrations.steps import batch, network

STEPS, EVERY = 8, 2


def train(model, outer, rank, steps=range(STEPS)):
    """Local SGD, each worker on batches of its own; after every step, what it changed."""
    optimizer, changes = torch.optim.SGD(model.parameters(), 0.05), []
    for step in steps:
        before = {name: p.detach().clone() for name, p in model.named_parameters()}
        optimizer.zero_grad()
        inputs, labels = batch(step, rank)
        cross_entropy(model(inputs), labels).backward()
        optimizer.step()
        changes.append({name: before[name] - p.detach() for name, p in model.named_parameters()})
        outer.step()
    return changes


def by_hand(transport, lr, momentum):
    """DiLoCo, and the same with all-reduces and torch.optim.SGD: how far apart they end."""
    rank = dist.get_rank()
    model = network()
    train(model, gradwire.outer_step(model, "none", EVERY, lr, momentum), rank)
    mine, common = network(), network()
    outside = torch.optim.SGD(common.parameters(), lr, momentum, nesterov=momentum > 0)

    class ByHand:
        steps = 0

        def step(self):
            self.steps += 1
            if self.steps % EVERY:
                return
            for shared, p in zip(common.parameters(), mine.parameters(), strict=True):
                shared.grad = shared.detach() - p.detach()
                dist.all_reduce(shared.grad)
                shared.grad /= dist.get_world_size()
            outside.step()
            mine.load_state_dict(common.state_dict())

    train(mine, ByHand(), rank)
    return max(float((a - b).abs().max()) for a, b in zip(model.parameters(), mine.parameters(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(("lr", "momentum"), [(0.7, 0.9), (1.0, 0.0)])
def test_it_is_diloco_and_local_sgd(tmp_path, lr, momentum):
    assert max(workers.run(by_hand, tmp_path, lr, momentum)) < 1e-5


def conserved(transport, spec):
    """How far what was applied is from what local steps changed, less what is held back; and an exact resumption."""
    model = network()
    before = copy.deepcopy(model)
    outer = gradwire.outer_step(model, spec, EVERY, lr=1.0, momentum=0.0)
    changes = train(model, outer, dist.get_rank())
    held = outer.scheme.kept_back(outer.private, outer.layout)
    off = 0.0
    for name, p in model.named_parameters():
        due = sum(change[name] for change in changes) - held.get(name, 0)
        dist.all_reduce(due)
        off = max(off, float((due / 2 - (before.get_parameter(name) - p.detach())).abs().max()))
    other = copy.deepcopy(model)
    again = gradwire.outer_step(other, spec, EVERY, lr=1.0, momentum=0.0)
    again.load_state_dict(copy.deepcopy(outer.state_dict()))
    for net, its in ((model, outer), (other, again)):
        train(net, its, dist.get_rank(), range(STEPS, 2 * STEPS))
    return off, all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["topk:ratio=0.05", "powersgd:rank=1"])
def test_nothing_is_lost_and_a_restored_state_goes_on(tmp_path, spec):
    for off, resumed in workers.run(conserved, tmp_path, spec):
        assert off < 1e-5
        assert resumed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "dgc"}, "needs .*; an outer step does not offer that"),
        ({"scheme": "none", "every": 0}, "every is 0; it must be at least 1"),
        ({"scheme": "none", "momentum": 1.0}, r"momentum 1.0; .* in \[0, 1\)"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(GradwireError, match=message):
        gradwire.outer_step(nn.Linear(2, 2), **options)
