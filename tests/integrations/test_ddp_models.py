"""Models that are compiled, tie their parameters or keep some still, through the DDP hook in real processes."""

from contextlib import nullcontext

import pytest
import torch
from torch import nn
from torch.distributed.tensor import DeviceMesh, Shard, distribute_tensor
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel

import gradwire
from gradwire.errors import GradwireError
from tests.distributed import workers
from tests.integrations.steps import batch, network, train, wrapped

SPEC = "topk:ratio=0.05"


class Tied(nn.Module):
    """Two layers that are one, one that is not trained, and a last one."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.flat, self.first, self.still = nn.Flatten(), nn.Linear(64, 64), nn.Linear(64, 64)
        self.again, self.last = self.first, nn.Linear(64, 10)
        self.still.requires_grad_(False)

    def forward(self, x):
        h = torch.tanh(self.first(self.flat(x)))
        return self.last(torch.tanh(self.again(self.still(h))))


def under(model, spec):
    parallel = DistributedDataParallel(model, bucket_cap_mb=0.02)
    state, hook = gradwire.ddp_hook(spec, parallel)
    parallel.register_comm_hook(state, hook)
    return parallel, state


def tied(transport):
    """Each step's gradients by the hook of `none` and by plain DDP, and what Top-K holds back; a resumption."""
    rank = transport.parties.index(transport.party)

    def steps(model, span):
        found = []
        for step in span:
            model.zero_grad()
            inputs, labels = batch(step, rank)
            cross_entropy(model(inputs), labels).backward()
            found.append({n: p.grad.clone() for n, p in model.module.named_parameters() if p.requires_grad})
            with torch.no_grad():
                for p in model.module.parameters():
                    p.sub_(0 if p.grad is None else 0.05 * p.grad)
        return found

    plain = DistributedDataParallel(Tied(), bucket_cap_mb=0.02)
    ours, _ = under(Tied(), "none")
    equal = steps(plain, range(3)), steps(ours, range(3))
    whole, state = under(Tied(), SPEC)
    steps(whole, range(2))
    again, restored = under(Tied(), SPEC)
    restored.load_state_dict(state.state_dict())
    again.module.load_state_dict(whole.module.state_dict())
    held = {key.partition("|")[0] for key in state.state_dict()["private"]}
    return equal, (steps(whole, range(2, 4)), steps(again, range(2, 4))), held


@pytest.mark.slow
def test_tied_and_still_parameters_go_through_once_or_not_at_all(tmp_path):
    for equal, resumed, held in workers.run(tied, tmp_path):
        for one, other in (equal, resumed):
            for mine, theirs in zip(one, other, strict=True):
                assert mine.keys() == theirs.keys()
                assert all(torch.equal(mine[name], theirs[name]) for name in mine)
        assert held == {"first.weight", "first.bias", "last.weight", "last.bias"}


def compiled(transport):
    """Each step's gradients of a network that is compiled around DDP, and of one that is not; names in the state."""
    rank = transport.parties.index(transport.party)
    plain, state = wrapped(SPEC, small=False)
    expected = train(plain, rank, range(3))
    inner = DistributedDataParallel(network())  # whose compiler wants a first bucket below the others
    model = torch.compile(inner, backend="eager")
    other, hook = gradwire.ddp_hook(SPEC, model)
    inner.register_comm_hook(other, hook)
    found = train(model, rank, range(3))
    return expected, found, state.state_dict()["parameters"], other.state_dict()["parameters"]


@pytest.mark.slow
def test_a_compiled_model_is_the_same_model(tmp_path):
    for expected, found, names, others in workers.run(compiled, tmp_path):
        assert names == others
        for mine, theirs in zip(found, expected, strict=True):
            for name in theirs:
                torch.testing.assert_close(mine[name], theirs[name], atol=1e-6, rtol=1e-5)


def distributed(transport):
    mesh = DeviceMesh("cpu", range(2))
    model = nn.Linear(4, 4, bias=False)
    model.weight = nn.Parameter(distribute_tensor(model.weight.detach(), mesh, [Shard(0)]))
    said = []
    for door in (gradwire.ddp_hook, lambda scheme, model: gradwire.outer_step(model, scheme)):
        try:
            door("none", model)
        except GradwireError as error:
            said.append(str(error))
    return said


@pytest.mark.slow
def test_distributed_parameters_are_refused_by_name(tmp_path):
    for said in workers.run(distributed, tmp_path):
        assert len(said) == 2
        for line in said:
            assert line.startswith("parameter 'weight' is a DTensor, of which each worker holds a part; ")


def unhooked(transport):
    """What is said of a step whose DDP has no hook; then a step of one that has."""
    model = DistributedDataParallel(network())
    state, hook = gradwire.ddp_hook("none", model.module)
    inputs, _ = batch(0, 0)
    with torch.no_grad():
        model(inputs)
    model.module(inputs)
    try:
        model(inputs)
    except GradwireError as error:
        said = str(error)
    model.register_comm_hook(state, hook)
    model(inputs).sum().backward()
    return said, state.step


@pytest.mark.slow
def test_a_step_that_would_not_be_compressed_is_named(tmp_path):
    for said, steps in workers.run(unhooked, tmp_path):
        assert said.startswith("this step would not be compressed: the DistributedDataParallel has no communication ho")
        assert steps == 1


class Nested(nn.Module):
    """A network that takes a batch as a loader hands it on, and calls itself once more."""

    def __init__(self):
        super().__init__()
        self.last = nn.Linear(4, 2)

    def forward(self, batch, again=True):
        return self(batch, False) if again else self.last(batch[0])


def nested(transport):
    model = DistributedDataParallel(Nested())
    state, hook = gradwire.ddp_hook("none", model)
    model.register_comm_hook(state, hook)
    state.record = True
    for last in (False, True):
        with nullcontext() if last else model.no_sync():
            model((torch.ones(3, 4), torch.zeros(3))).sum().backward()
    return state.recording().batch, state.recording().passes


@pytest.mark.slow
def test_the_batch_and_the_passes_of_a_recorded_step_are_counted_as_they_were(tmp_path):
    assert workers.run(nested, tmp_path) == [(6, 2), (6, 2)]
