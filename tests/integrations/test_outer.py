"""The outer step, in real processes, against PyTorch's own optimiser and by what must be conserved."""

import copy
from types import SimpleNamespace

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


def by_hand(transport, lr, momentum, fragments):
    """DiLoCo, and the same with all-reduces and torch.optim.SGD: how far apart they end, and rounds."""
    rank = dist.get_rank()
    model = network()
    outer = gradwire.outer_step(model, "none", EVERY, lr, momentum, fragments=fragments)
    train(model, outer, rank)
    mine, common = network(), network()
    names = [list(part.layout.shapes) for part in outer.fragments]
    assert [name for part in names for name in part] == [name for name, _ in mine.named_parameters()]
    shared = dict(common.named_parameters())
    outside = [torch.optim.SGD([shared[n] for n in part], lr, momentum, nesterov=momentum > 0) for part in names]

    class ByHand:
        steps = 0

        def step(self):
            self.steps += 1
            for number, part in enumerate(names):
                if self.steps % EVERY != number * EVERY // fragments:
                    continue
                for name in part:
                    shared[name].grad = shared[name].detach() - mine.get_parameter(name).detach()
                    dist.all_reduce(shared[name].grad)
                    shared[name].grad /= dist.get_world_size()
                outside[number].step()
                for name in part:
                    mine.get_parameter(name).data.copy_(shared[name].detach())

    train(mine, ByHand(), rank)
    off = max(float((a - b).abs().max()) for a, b in zip(model.parameters(), mine.parameters(), strict=True))
    return off, outer.rounds, max(map(len, names))


@pytest.mark.slow
@pytest.mark.parametrize(("lr", "momentum", "fragments"), [(0.7, 0.9, 1), (1.0, 0.0, 1), (0.7, 0.9, 2)])
def test_it_is_diloco_whole_or_in_fragments_and_local_sgd(tmp_path, lr, momentum, fragments):
    for off, rounds, largest in workers.run(by_hand, tmp_path, lr, momentum, fragments):
        assert off < 1e-5
        assert rounds == fragments * STEPS // EVERY
        assert (largest < len(list(network().parameters()))) == (fragments > 1)


def conserved(transport, spec, local_residual):
    """How far what was applied is from what local steps changed, less what is held back; and an exact resumption.

    Then whether all workers have one model in the end, from which nothing is missing.
    """
    model = network()
    before = copy.deepcopy(model)
    how = {"lr": 1.0, "momentum": 0.0, "local_residual": local_residual}
    outer = gradwire.outer_step(model, spec, EVERY, **how)
    changes = train(model, outer, dist.get_rank())
    (whole,) = outer.fragments
    held = outer.scheme.kept_back(whole.private, whole.layout)
    off = 0.0
    for name, p in model.named_parameters():
        due = sum(change[name] for change in changes) - held.get(name, 0)
        dist.all_reduce(due)
        common = p.detach() + held[name] if local_residual else p.detach()
        off = max(off, float((due / 2 - (before.get_parameter(name) - common)).abs().max()))
    other = copy.deepcopy(model)
    again = gradwire.outer_step(other, spec, EVERY, **how)
    again.load_state_dict(copy.deepcopy(outer.state_dict()))
    for net, its in ((model, outer), (other, again)):
        more = train(net, its, dist.get_rank(), range(STEPS, 2 * STEPS))
    resumed = all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
    outer.finish()
    for name, p in model.named_parameters():
        due = sum(change[name] for change in (*changes, *more))
        dist.all_reduce(due)
        off = max(off, float((due / 2 - (before.get_parameter(name) - p.detach())).abs().max()))
    return off, resumed


@pytest.mark.slow
@pytest.mark.parametrize("local_residual", [False, True])
@pytest.mark.parametrize("spec", ["topk:ratio=0.05", "powersgd:rank=1"])
def test_nothing_is_lost_and_a_restored_state_goes_on(tmp_path, spec, local_residual):
    for off, resumed in workers.run(conserved, tmp_path, spec, local_residual):
        assert off < 1e-5
        assert resumed


STAGES = ((0, 1), (0, 1, 2), (0, 2))
"""Who trains in rounds of its own, one stage after another."""


def changing(transport, spec):
    """Parameters and momentum after each stage, of the workers that are there; what is held back at the end."""
    rank, outer, model, found = dist.get_rank(), None, network(), []
    if rank == 2:  # a newcomer that was made alike would hide what it does not take over
        with torch.no_grad():
            [p.zero_() for p in model.parameters()]
    groups = [dist.new_group(members) for members in STAGES]
    for stage, (members, group) in enumerate(zip(STAGES, groups, strict=True)):
        if rank in members:
            if outer is None:
                outer = gradwire.outer_step(model, spec, EVERY, group=group)
            else:
                outer.regroup(group)
            train(model, outer, rank, range(stage * STEPS, (stage + 1) * STEPS))
            parameters = {name: p.detach().clone() for name, p in model.named_parameters()}
            found.append((parameters, copy.deepcopy(outer.velocity), outer.rounds))
        else:
            found.append(None)
    return found


def in_one_process():
    """The same, of plain DiLoCo: parameters after each stage."""
    common, found = network(), []
    outside = torch.optim.SGD(common.parameters(), 0.7, 0.9, nesterov=True)
    models = {rank: network() for rank in range(3)}
    for stage, members in enumerate(STAGES):
        for first in range(stage * STEPS, (stage + 1) * STEPS, EVERY):
            for rank in members:
                models[rank].load_state_dict(common.state_dict())
                train(models[rank], SimpleNamespace(step=lambda: None), rank, range(first, first + EVERY))
            for name, p in common.named_parameters():
                p.grad = sum(p.detach() - models[rank].get_parameter(name).detach() for rank in members) / len(members)
            outside.step()
        found.append({name: p.detach().clone() for name, p in common.named_parameters()})
    return found


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["none", "powersgd:rank=1"])
def test_members_may_come_and_go(tmp_path, spec):
    every, due = workers.run(changing, tmp_path, spec, size=3), in_one_process()
    for stage, members in enumerate(STAGES):
        there = [every[rank][stage] for rank in members]
        assert all(every[rank][stage] is None for rank in set(range(3)) - set(members))
        for parameters, velocity, rounds in there:
            assert rounds == (stage + 1) * STEPS // EVERY
            for name, tensor in parameters.items():
                assert torch.equal(tensor, there[0][0][name])
                assert torch.equal(velocity[name], there[0][1][name])
                if spec == "none":
                    torch.testing.assert_close(tensor, due[stage][name], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scheme": "dgc"}, "needs .*; an outer step does not offer that"),
        ({"scheme": "none", "every": 0}, "every is 0; it must be at least 1"),
        ({"scheme": "none", "every": 2, "fragments": 3}, "fragments is 3; .* no more of them than steps, every=2"),
        ({"scheme": "none", "momentum": 1.0}, r"momentum 1.0; .* in \[0, 1\)"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(GradwireError, match=message):
        gradwire.outer_step(nn.Linear(2, 2), **options)
