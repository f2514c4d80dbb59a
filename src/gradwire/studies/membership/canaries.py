"""Canaries: examples that a model knows only if it has seen them; a coin decides which are in a training set.

What stands in the place of one that is out follows from how batches are made, so that an audit is about the neighbours
that a guarantee is about: with shuffled batches the example that was there before it was planted (replace), with
Poisson batches nothing (add/remove). Everything else, sizes and partition among them, is alike either way.
"""

from dataclasses import replace

import torch
from torch import Tensor

from gradwire.data import Dataset
from gradwire.data.dataset import copy_within, fingerprints
from gradwire.errors import GradwireError
from gradwire.schemes.accounting import Adjacency
from gradwire.seeds import generator
from gradwire.tasks import Pixels

KINDS = ("mislabelled", "random")


def adjacency(sampling: str) -> Adjacency:
    """The neighbours of which canaries tell, under batches that are made so."""
    return "replace" if sampling == "shuffle" else "add/remove"


def parse(spec: str) -> tuple[str, int]:
    """The kind and number in a spec such as `mislabelled:100`; ("", 0) in an empty one.

    Raises:
        GradwireError: another kind, or a number below 2.
    """
    if not spec:
        return "", 0
    kind, _, number = spec.partition(":")
    if kind not in KINDS or not number.isdigit() or int(number) < 2:
        raise GradwireError(f"canaries is {spec!r}; it must be {' or '.join(f'{k}:NUMBER' for k in KINDS)}, at least 2")
    return kind, int(number)


def plant(dataset: Dataset, spec: str, seed: int) -> tuple[Dataset, Tensor]:
    """Turn some of the examples, chosen at random, into canaries; returns the data set and their positions, ascending.

    `mislabelled:100` gives 100 examples a wrong label; `random:100` replaces 100 inputs by noise, or by what the domain
    draws at random, but not their targets, unless these are made of the inputs.

    Raises:
        GradwireError: as `parse`; more canaries than half of the examples; no classes, or one alone, which leave no
            wrong label; or random ones that repeat other examples.
    """
    kind, count = parse(spec)
    if 2 * count > len(dataset):
        raise GradwireError(f"canaries is {spec!r}; of {len(dataset)} candidates at most {len(dataset) // 2} can be")
    random = generator("canaries", seed)
    where = torch.randperm(len(dataset), generator=random)[:count].sort().values
    inputs, targets, loss = dataset.inputs, dataset.targets, dataset.task.loss
    if kind == "mislabelled":
        if not dataset.classes:
            raise GradwireError(f"canaries is {spec!r}; there are no classes (loss {loss.name!r}): take random:{count}")
        if len(dataset.classes) < 2:
            raise GradwireError(f"canaries is {spec!r}; with one class alone no label is wrong")
        off = torch.randint(1, dataset.outputs, (count,), generator=random)
        targets = targets.index_copy(0, where, (targets[where] + off) % dataset.outputs)
    elif kind == "random":
        drawn = _drawn(dataset, count, random)
        inputs = inputs.index_copy(0, where, drawn)
        like = getattr(loss, "like", loss)
        if like.from_inputs:
            targets = targets.index_copy(0, where, like.derived(drawn))
    planted = replace(dataset, inputs=inputs, targets=targets)
    if kind == "random" and (twice := copy_within(fingerprints(planted))):
        same = f"candidates {twice[0]} and {twice[1]} are the same then"
        raise GradwireError(f"canaries is {spec!r}; {same}, for too few inputs are possible; take fewer canaries")
    return planted, where


def _drawn(dataset: Dataset, count: int, random: torch.Generator) -> Tensor:
    """Inputs at random, as the data set stores them: uniform noise for images, else what the domain draws."""
    domain, stored = dataset.task.domain, dataset.inputs
    if isinstance(domain, Pixels):
        noise = torch.rand((count, *dataset.shape), generator=random)
        return noise if stored.is_floating_point() else (256 * noise).to(stored.dtype)
    return domain.snapped(domain.sample(count, random=random)).to(stored.dtype)
