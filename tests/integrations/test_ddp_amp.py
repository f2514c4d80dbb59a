"""Gradient accumulation, autocast and a scaled loss through the DDP hook, in real processes."""

from contextlib import nullcontext

import pytest
import torch
from torch.amp import GradScaler
from torch.nn.functional import cross_entropy

from tests.distributed import workers
from tests.distributed.test_collective import SCHEMES
from tests.integrations.steps import STEPS, batch, train, wrapped

pytestmark = pytest.mark.slow
CONTINUOUS = ("none", "topk:ratio=0.05", "randomk:ratio=0.05", "powersgd:rank=2", "dgc:ratio=0.05")
"""Schemes whose result a rounding error of the sum does not change by more than another (quantisers may jump)."""


def accumulating(transport):
    """Each scheme's gradients after three steps: of two micro-batches under no_sync, and of one batch of both."""
    rank = transport.parties.index(transport.party)
    results = {}
    for spec in CONTINUOUS:
        found = []
        for parts in (2, 1):
            model, state = wrapped(spec)
            for step in range(3):
                model.zero_grad()
                for i, (x, y) in enumerate(zip(*(t.chunk(parts) for t in batch(step, rank)), strict=True)):
                    with model.no_sync() if i < parts - 1 else nullcontext():
                        (cross_entropy(model(x), y) / parts).backward()
            found.append({n: p.grad.clone() for n, p in model.module.named_parameters()})
        results[spec] = *found, state.step, state.bytes_up
    return results


def test_accumulated_gradients_are_sent_once(tmp_path):
    for results in workers.run(accumulating, tmp_path):
        for spec, (mine, theirs, steps, sent) in results.items():
            assert steps == 3, spec
            assert sent > 0, spec
            for name in mine:
                torch.testing.assert_close(mine[name], theirs[name], atol=1e-5, rtol=1e-4)


def mixed(rank, spec, scaler, steps, broken=None):
    """Parameters, private state and skipped steps after training in bfloat16's autocast, the loss scaled if asked.

    In step `broken`, the second worker's gradient overflows in the layer that is sent last.
    """
    model, state = wrapped(spec, scaler=scaler)
    scale = scaler or GradScaler("cpu", enabled=False)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001 if spec == "signsgd" else 0.05, momentum=0.9)
    for step in steps:
        state.step = step
        optimizer.zero_grad()
        inputs, labels = batch(step, rank)
        overflow = rank == 1 and step == broken
        handle = model.module[1].weight.register_hook(lambda g, bad=overflow: g * float("inf") if bad else g)
        with torch.autocast("cpu", torch.bfloat16):
            loss = cross_entropy(model(inputs), labels)
        scale.scale(loss).backward()
        handle.remove()
        scale.step(optimizer)
        scale.update()
    parameters = {name: p.detach().clone() for name, p in model.module.named_parameters()}
    return parameters, state.state_dict()["private"], state.skipped


def scaling(transport):
    """Each scheme trained with a scale that doubles every other step, and without any."""
    rank = transport.parties.index(transport.party)

    def scaler():
        return GradScaler("cpu", init_scale=2.0**10, growth_interval=2)

    return {spec: [mixed(rank, spec, s, range(STEPS)) for s in (scaler(), None)] for spec in SCHEMES}


def test_a_scaled_loss_changes_nothing(tmp_path):
    first, second = workers.run(scaling, tmp_path)
    for spec in SCHEMES:
        (mine, memory, skipped), (theirs, expected, _) = first[spec]
        assert skipped == 0, spec
        assert all(torch.equal(mine[name], theirs[name]) for name in mine), spec
        assert all(torch.equal(memory[name], expected[name]) for name in expected), spec
        assert all(torch.equal(mine[name], second[spec][0][0][name]) for name in mine), spec


def overflowing(transport):
    """Each scheme trained through an overflow in one worker's second bucket, and as if that step had not been."""
    rank = transport.parties.index(transport.party)

    def scaler():
        return GradScaler("cpu", init_scale=2.0**10, growth_interval=100)

    return {
        spec: [
            mixed(rank, spec, scaler(), range(STEPS), broken=2),
            mixed(rank, spec, scaler(), [step for step in range(STEPS) if step != 2]),
        ]
        for spec in SCHEMES
    }


def test_a_step_that_overflows_leaves_no_trace(tmp_path):
    for results in workers.run(overflowing, tmp_path):
        for spec, ((mine, memory, skipped), (theirs, expected, none)) in results.items():
            assert (skipped, none) == (1, 0), spec
            assert all(torch.equal(mine[name], theirs[name]) for name in mine), spec
            assert memory.keys() == expected.keys(), spec
            assert all(torch.equal(memory[name], expected[name]) for name in expected), spec


def unchanged_script(transport):
    """A step without a scaler in which one worker's gradient is not finite, and the next one."""
    rank = transport.parties.index(transport.party)
    model, state = wrapped("topk:ratio=0.1", small=False)
    inputs, labels = batch(0, rank)
    (cross_entropy(model(inputs), labels) * (float("inf") if rank else 1.0)).backward()
    overflown = [bool(torch.isfinite(p.grad).any()) for p in model.parameters()]
    clean = not any(part.any() for part in state.state_dict()["private"].values())
    train(model, rank, [1])
    after = all(bool(torch.isfinite(p.grad).all()) for p in model.parameters())
    return any(overflown), state.skipped, clean, after


def test_without_a_scaler_every_worker_sees_the_overflow(tmp_path):
    assert workers.run(unchanged_script, tmp_path) == [(False, 1, True, True)] * 2


def half_precision(transport):
    """The gradients of a network whose parameters are bfloat16."""
    rank = transport.parties.index(transport.party)
    model, _ = wrapped("topk:ratio=0.1", kind=torch.bfloat16)
    for step in range(3):
        model.zero_grad()
        inputs, labels = batch(step, rank)
        cross_entropy(model(inputs.bfloat16()), labels).backward()
    return [p.grad for p in model.parameters()]


def test_half_precision_gradients_stay_what_they_are(tmp_path):
    for gradients in workers.run(half_precision, tmp_path):
        assert {g.dtype for g in gradients} == {torch.bfloat16}
        assert all(bool(torch.isfinite(g).all()) for g in gradients)
