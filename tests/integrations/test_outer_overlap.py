"""The outer step whose rounds run beside local steps, in real processes, against the same in one process."""

import copy
import io
import os
import threading
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.functional import cross_entropy

import gradwire
from gradwire.errors import GradwireError, WireError
from tests.distributed import workers
from tests.integrations.steps import batch, network

EVERY, OVERLAP, MIXING, STEPS = 4, 3, 0.25, 16
"""Two fragments' rounds begin at even steps and end three steps later, so that two at a time are on their way."""


def local(model, rank, step):
    """A step of SGD on a batch of this worker's own; what it changed."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    inputs, labels = batch(step, rank)
    gradients = torch.autograd.grad(cross_entropy(model(inputs), labels), tuple(model.parameters()))
    with torch.no_grad():
        for p, gradient in zip(model.parameters(), gradients, strict=True):
            p -= 0.05 * gradient
    return {name: before[name] - p.detach() for name, p in model.named_parameters()}


def values(model):
    return {name: p.detach().clone() for name, p in model.named_parameters()}


def ends(step):
    """Whether a round is applied after this step."""
    return step >= 2 + OVERLAP and step % 2 == 1


def held_up(outer, gate):
    """Let the thread begin no round before the main one says so; the numbers of those that it has begun."""
    exchange, begun = outer._exchange, []

    def late(*args):
        if not gate.acquire(timeout=30):
            raise GradwireError("the local steps wait for the round")
        begun.append(args[-1])
        return exchange(*args)

    outer._exchange = late
    return begun


def overlapped(transport):
    """Parameters after the last step and in the end, with a quick thread and with one that is kept waiting."""
    found, rank = [], dist.get_rank()
    for slow in (False, True):
        model, gate = network(), threading.Semaphore(0)
        outer = gradwire.outer_step(model, "none", EVERY, fragments=2, overlap=OVERLAP, mixing=MIXING)
        if slow:
            begun = held_up(outer, gate)
        changed = []
        for step in range(1, STEPS + 1):
            local(model, rank, step)
            if ends(step):
                gate.release()
            mine = torch.zeros(1)  # what a script sends of its own meanwhile goes by the same processes
            dist.all_reduce(mine)
            changed.append(outer.step())
        assert changed == [ends(step) for step in range(1, STEPS + 1)]
        gate.release(4)  # two on their way, two of the end
        last = values(model)
        outer.finish()
        found.append((last, values(model), outer.rounds, outer.bytes_up))
    assert begun == [*range(outer.rounds), outer.rounds, outer.rounds]
    names = [list(part.layout.shapes) for part in outer.fragments]
    return found, names


def in_one_process(parts):
    """Algorithm 2 of the paper with two workers, and the mean in the end: what `overlapped` must find."""
    models, common, flights = [network(), network()], network(), []
    shared = dict(common.named_parameters())
    outside = [torch.optim.SGD([shared[name] for name in part], 0.7, 0.9, nesterov=True) for part in parts]

    def land(number, mean):
        for name in parts[number]:
            shared[name].grad = mean[name]
        outside[number].step()
        for model in models:
            for name in parts[number]:
                own = model.get_parameter(name)
                own.data = MIXING * own.data + (1 - MIXING) * shared[name].data

    for step in range(1, STEPS + 1):
        for rank, model in enumerate(models):
            local(model, rank, step)
        for number, part in enumerate(parts):
            if step % EVERY == number * EVERY // 2:
                mean = {n: sum(shared[n].data - model.get_parameter(n).data for model in models) / 2 for n in part}
                flights.append((step + OVERLAP, number, mean))
        for due, number, mean in flights:
            if due == step:
                land(number, mean)
    last = [values(model) for model in models]
    for due, number, mean in flights:
        if due > STEPS:
            land(number, mean)
    return last, {name: sum(model.get_parameter(name).data for model in models) / 2 for name in shared}


def both(transport):
    return overlapped(transport), kept(transport)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """What two workers find in `overlapped` and in `kept`."""
    return workers.run(both, tmp_path_factory.mktemp("pair"))


@pytest.mark.slow
def test_it_is_streaming_diloco_whether_the_thread_is_fast_or_slow(pair):
    every = [found for found, _ in pair]
    last, end = in_one_process(every[0][1])
    for rank, (found, _) in enumerate(every):
        quick, slow = found
        for name in end:
            torch.testing.assert_close(quick[0][name], last[rank][name], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(quick[1][name], end[name], atol=1e-5, rtol=1e-4)
            assert torch.equal(quick[0][name], slow[0][name])
            assert torch.equal(quick[1][name], slow[1][name])
            assert torch.equal(quick[1][name], every[0][0][0][1][name])
        assert quick[2:] == slow[2:]
        assert quick[2] == STEPS // 2


def kept(transport):
    """Of schemes that hold back: how far what was applied is from what was changed, and an exact resumption.

    What is changed while a round is on its way counts for α, as in the paper: the rest of it is mixed away.
    """
    rank, found = dist.get_rank(), {}
    for spec in ("topk:ratio=0.05", "powersgd:rank=1"):
        model, how = network(), {"lr": 1.0, "momentum": 0.0, "overlap": OVERLAP, "mixing": MIXING}
        before, due = values(model), dict.fromkeys(values(model), 0.0)
        outer = gradwire.outer_step(model, spec, EVERY, **how)
        for step in range(1, STEPS + 1):
            beside = step > EVERY and (step - 1) % EVERY < OVERLAP
            due = {
                name: due[name] + (MIXING if beside else 1) * each for name, each in local(model, rank, step).items()
            }
            outer.step()
        file = io.BytesIO()
        torch.save({"outer": outer.state_dict(), "model": model.state_dict()}, file)
        other = network()
        again = gradwire.outer_step(other, spec, EVERY, **how)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
        other.load_state_dict(saved["model"])
        again.load_state_dict(saved["outer"])
        for step in range(STEPS + 1, 2 * STEPS + 1):
            beside = (step - 1) % EVERY < OVERLAP
            due = {
                name: due[name] + (MIXING if beside else 1) * each for name, each in local(model, rank, step).items()
            }
            local(other, rank, step)
            outer.step()
            again.step()
        on_their_way = len(saved["outer"]["flights"])
        resumed = all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))
        again.finish()
        outer.finish()
        off = 0.0
        for name, p in model.named_parameters():
            dist.all_reduce(due[name])
            off = max(off, float((due[name] / 2 - (before[name] - p.detach())).abs().max()))
        found[spec] = off, on_their_way, resumed
    return found


@pytest.mark.slow
def test_nothing_is_counted_twice_and_a_state_with_a_round_on_its_way_goes_on(pair):
    for _, found in pair:
        for spec, (off, on_their_way, resumed) in found.items():
            assert off < 1e-5, spec
            assert on_their_way == 1
            assert resumed, spec


def bereft(transport, folder):
    """The second worker ends before a round: at which step the first hears it, what, and whether it goes on alone."""
    rank, model, alone = dist.get_rank(), network(), dist.new_group([0])
    outer = gradwire.outer_step(model, "topk:ratio=0.05", EVERY, fragments=2, overlap=OVERLAP)
    for step in range(1, STEPS + 1):
        if step == 8:
            outer.state_dict()  # waits for the rounds on their way
            dist.barrier()
        if rank == 1 and step == 8:
            torch.save(None, Path(folder) / "1.pt")
            os._exit(0)
        local(model, rank, step)
        try:
            outer.step()
        except WireError as error:
            said = step, str(error)
            break
    rounds = outer.rounds
    outer.regroup(alone)
    for step in range(STEPS + 1, 2 * STEPS + 1):
        local(model, rank, step)
        outer.step()
    outer.finish()
    return said, rounds, outer.rounds, {name: bool(p.isfinite().all()) for name, p in values(model).items()}


@pytest.mark.slow
def test_a_worker_that_has_ended_is_one_line_at_the_step_that_was_to_apply_its_round(tmp_path):
    (step, line), before, after, finite = workers.run(bereft, tmp_path, str(tmp_path))[0]
    assert step == 11
    assert line.startswith("lost contact with rank 1, which has ended, during ")
    assert "\n" not in line
    assert before == 3
    assert after == 3 + STEPS // 2
    assert all(finite.values())


STAGES = ((0, 1), (0, 1, 2), (0, 2))


def changing(transport):
    """What members have in common after each stage, whose last round is on its way when they regroup."""
    rank, outer, model, found = dist.get_rank(), None, network(), []
    groups = [dist.new_group(members) for members in STAGES]
    for stage, (members, group) in enumerate(zip(STAGES, groups, strict=True)):
        if rank not in members:
            found.append(None)
            continue
        if outer is None:
            outer = gradwire.outer_step(model, "powersgd:rank=1", EVERY, group=group, overlap=OVERLAP)
        else:
            outer.regroup(group)
        for step in range(1, EVERY + OVERLAP):
            local(model, rank, stage * EVERY + step)
            outer.step()
        outer.settle()
        found.append((copy.deepcopy(outer.anchor), copy.deepcopy(outer.velocity), outer.rounds))
        for step in range(EVERY + OVERLAP, 2 * EVERY + 1):
            local(model, rank, stage * EVERY + step)
            outer.step()
    outer.settle()
    return found


@pytest.mark.slow
def test_members_come_and_go_while_rounds_are_on_their_way(tmp_path):
    every = workers.run(changing, tmp_path, size=3)
    for stage, members in enumerate(STAGES):
        there = [every[rank][stage] for rank in members]
        assert all(every[rank][stage] is None for rank in set(range(3)) - set(members))
        for anchor, velocity, rounds in there:
            assert rounds == 2 * stage + 1
            for name in anchor:
                assert torch.equal(anchor[name], there[0][0][name])
                assert torch.equal(velocity[name], there[0][1][name])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": 4}, r"overlap is 4; it must be in \[0, every=4\)"),
        ({"overlap": -1}, "overlap is -1; it must be"),
        ({"overlap": 1, "local_residual": True}, "local_residual keeps .*; overlap=1 mixes that model"),
        ({"mixing": 0.5}, "mixing is 0.5 and overlap 0; .* at least 1"),
        ({"overlap": 1, "mixing": 1.0}, r"mixing is 1.0 and overlap 1; .* in \[0, 1\)"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(GradwireError, match=message):
        gradwire.outer_step(nn.Linear(2, 2), "none", 4, **options)
