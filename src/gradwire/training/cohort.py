"""The clients of a round train: one after another, or as batches where nothing is in the way of that.

On a CPU small networks are one batch that all cores share. A network that keeps a core busy has one to itself: several
in each of its products would wait for each other.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

from gradwire.devices import bf16_note
from gradwire.engine import Networks, Stack, busy, descend, stack
from gradwire.errors import GradwireError
from gradwire.schemes import Contribution, Layout, Round, Scheme, State
from gradwire.seeds import drawing, number
from gradwire.tasks import Task
from gradwire.training.client import Computation, Descent, carried_buffers, contribution

T = TypeVar("T")


class Examples(Protocol):
    """What clients' examples are taken from: a data set, or batches that are given."""

    def batch(self, indices: Sequence[int] | Tensor) -> tuple[Tensor, Tensor]:
        """Inputs, shape (B, *domain.shape), and their targets."""


@dataclass(frozen=True)
class CohortPlan:
    """How a round's clients train.

    Attributes:
        stacks: what runs clients' networks as one batch, one for each that run at a time; none: one client after
            another.
        size: networks in one batch, at most.
        notes: what a report has to say of it.
    """

    stacks: tuple[Stack, ...] = ()
    size: int = 1
    notes: tuple[str, ...] = ()


LIMITS = {"cpu": 1 << 26}
"""Bytes of parameters in one batch of networks, by kind of device: more do not help there, and do not fit a cache."""
ELSEWHERE = 1 << 32


def cohort_plan(
    scheme: Scheme,
    model: nn.Module,
    task: Task,
    steps: Sequence[Sequence[int]],
    count: int,
    local: bool,
    how: Computation,
    device: str = "cpu",
) -> CohortPlan:
    """The fastest plan for this model and device; it depends on shapes alone, so that a seed gives the same table.

    Args:
        task: what is learned.
        steps: the numbers of examples in each client's steps.
        count: clients of a round that train in this process.
        local: whether they take steps of their own.
    """
    half = how.precision == "bf16"
    if half and scheme.step_hook is not None:
        raise GradwireError(f"precision is 'bf16'; {scheme.name} has a hand in each step, for which it must be 'fp32'")
    products = ("clients' forward and backward products are in bfloat16", *bf16_note(device)) if half else ()
    alone = "clients train one after another"
    if local and count > 1 and task.loss.each is None:
        why = f"the loss {task.loss.name!r} of a batch is no mean over its examples"
        return CohortPlan(notes=(f"{alone}: {why}", *products))
    if count == 1 or not local or not how.ordinary:
        # One gradient each: copying the parameters for every client would cost as much as the step.
        return CohortPlan(notes=products)
    if scheme.step_hook is not None:
        return CohortPlan(notes=(f"{alone}: {scheme.name} has a hand in each step",))
    kind = torch.device(device).type
    ragged = any(each != steps[0] for each in steps) or len(set(steps[0])) > 1
    build = partial(stack, model, task, ragged=ragged, device=device)
    engine = replace(build(), precision=how.precision)
    if engine.path == "plain":
        return CohortPlan(notes=(alone + "".join(f"; {r}" for r in engine.reasons), *products))
    # One network that keeps a core busy gains nothing from others beside it; small ones gain more from being one batch
    # over all cores than from a core of their own, whose threads wait for each other at every small operation.
    alone_on_core = kind == "cpu" and busy(model, task)
    cores = torch.get_num_threads() if alone_on_core and engine.draws_apart else 1
    limit = LIMITS.get(kind, ELSEWHERE) // (4 * Layout.of_model(model).size)
    size = 1 if alone_on_core else max(1, min(count, limit))
    cores = min(cores, -(-count // size))
    batch = f"{size} at a time, as one batch" if size > 1 else "one at a time"
    each = f", on each of {cores} cores" if cores > 1 else ""
    note = f"clients train {batch}{each}, by the {engine.path} path"
    others = [replace(build(path=engine.path), precision=how.precision) for _ in range(cores - 1)]
    return CohortPlan((engine, *others), size, (note, *products))


def contributions(
    model: nn.Module,
    examples: Examples,
    shards: Mapping[str, Tensor],
    descents: Mapping[str, Descent],
    scheme: Scheme,
    private: Mapping[str, State],
    round: Round,
    plan: CohortPlan,
    how: Computation,
    device: str = "cpu",
) -> dict[str, Contribution]:
    """What each of these clients comes to the round's exchange with.

    Args:
        shards: party → positions of its examples; `descents`, what it does with them.
        private: the clients' states before the round.

    Raises:
        GradwireError: as `contribution`.
    """

    def alone(party: str) -> Contribution:
        shard, descent = shards[party], descents[party]
        used = shard
        if not descent.local:
            used, descent = shard[descent.plan[0]], replace(descent, plan=[torch.arange(len(descent.plan[0]))])
        inputs, targets = (tensor.to(device) for tensor in examples.batch(used))
        return contribution(model, inputs, targets, scheme, party, private[party], round, descent, how, len(shard))

    def together(group: Sequence[str], engine: Stack) -> dict[str, Contribution]:
        seeds = [number("training", round.seed, round.index, party) for party in group] if engine.draws_apart else []
        with nullcontext() if seeds else drawing(number("training", round.seed, round.index, *group), device):
            came = _together(model, examples, [shards[p] for p in group], [descents[p] for p in group], seeds, engine)
        return {
            party: Contribution(update, private[party], buffers, loss=loss)
            for party, (loss, update, buffers) in zip(group, came, strict=True)
        }

    parties = list(shards)
    if not plan.stacks:
        return {party: alone(party) for party in parties}
    groups = [parties[start : start + plan.size] for start in range(0, len(parties), plan.size)]
    return {party: came for group in _spread(together, groups, plan.stacks) for party, came in group.items()}


def _spread(
    together: Callable[[Sequence[str], Stack], T], groups: Sequence[Sequence[str]], stacks: Sequence[Stack]
) -> list[T]:
    """The results of each group of clients; as many at a time as there are stacks, each in a thread with one core."""
    count = len(stacks)
    if count == 1:
        return [together(group, stacks[0]) for group in groups]
    threads, dealt = torch.get_num_threads(), [groups[first::count] for first in range(count)]
    try:
        with ThreadPoolExecutor(count, initializer=partial(torch.set_num_threads, 1)) as pool:
            # Which stack runs a group is decided beforehand: a seed has to give the same table twice.
            each = list(pool.map(lambda own, engine: [together(group, engine) for group in own], dealt, stacks))
    finally:
        torch.set_num_threads(threads)
    return [each[index % count][index // count] for index in range(len(groups))]


Came = tuple[float, dict[str, Tensor], dict[str, Tensor]]
"""A loss, an update on the CPU, and buffers."""


def _together(
    model: nn.Module,
    examples: Examples,
    shards: Sequence[Tensor],
    work: Sequence[Descent],
    seeds: Sequence[int],
    engine: Stack,
) -> list[Came]:
    """Several clients as one batch. Those with fewer or smaller batches are filled up with what counts for nothing.

    Args:
        seeds: of what each client's network draws; empty: all draw from the global generator.
    """
    draws = tuple(torch.Generator().manual_seed(seed) for seed in seeds)
    networks, sgd = replace(Networks.repeat(model, len(shards)), draws=draws), work[0]
    device = next(iter(networks.parameters.values())).device
    total = torch.zeros(len(shards), dtype=torch.float64, device=device)
    seen = torch.zeros_like(total)
    for where, counted in zip(*_batches(shards, [each.plan for each in work]), strict=True):
        width = int(counted.sum(1).max())
        where, counted = where[:, :width], counted[:, :width]
        inputs, targets = (tensor.to(device).unflatten(0, where.shape) for tensor in examples.batch(where.flatten()))
        full, counts = bool(counted.all()), counted.sum(1).to(device)
        slopes = engine.slopes(networks, inputs, targets, None if full else counted.to(device))
        active = None if full else counts > 0
        networks = descend(networks, slopes, sgd.lr, sgd.momentum, sgd.weight_decay, active)
        total, seen = total + slopes.losses * counts, seen + counts
    losses, before = (total / seen).tolist(), dict(model.named_parameters())
    sent = {name: (before[name].detach() - after).cpu() for name, after in networks.parameters.items()}
    carried = {name: networks.buffers[name].cpu() for name in carried_buffers(model)}
    return [
        (loss, {n: t[i] for n, t in sent.items()}, {n: b[i] for n, b in carried.items()})
        for i, loss in enumerate(losses)
    ]


def _batches(shards: Sequence[Tensor], plans: Sequence[Sequence[Tensor]]) -> tuple[Tensor, Tensor]:
    """Positions of every step's, every client's examples, shape (S, N, B), and which of them count."""
    none, steps = shards[0][:0], range(max(len(plan) for plan in plans))
    taken = [
        shard[plan[step]] if step < len(plan) else none
        for step in steps
        for shard, plan in zip(shards, plans, strict=True)
    ]
    where = torch.nn.utils.rnn.pad_sequence(taken, batch_first=True)
    counted = torch.arange(where.shape[1]) < torch.tensor([len(own) for own in taken])[:, None]
    return where.unflatten(0, (len(steps), -1)), counted.unflatten(0, (len(steps), -1))
