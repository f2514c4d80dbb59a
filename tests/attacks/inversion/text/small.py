"""Tiny networks, and sentences for them."""

from typing import NamedTuple

import torch
from torch import Tensor

from gradwire.tasks import CrossEntropy, NextToken, Task, Tokens
from tests.attacks.inversion.text import networks

VOCABULARY, LENGTH, WIDTH = 300, 16, 64


def domain(pad=0, first=None, last=None):
    return Tokens(LENGTH, tuple(f"w{n}" for n in range(VOCABULARY)), pad, first, last)


TASK = Task(domain(), NextToken(0))
GPT2 = networks.gpt2(VOCABULARY, LENGTH, WIDTH).eval()
BERT = networks.bert(VOCABULARY, LENGTH, WIDTH).eval()


class Batch(NamedTuple):
    inputs: Tensor
    targets: Tensor
    task: Task


def written(sentences, pair=False):
    """Sentences as int64 (B, LENGTH), padded; with the targets of a next-token loss, if these are asked for."""
    found = torch.zeros(len(sentences), LENGTH, dtype=torch.int64)
    for row, sentence in enumerate(sentences):
        found[row, : len(sentence)] = torch.tensor(sentence)
    return (found, NextToken(0).derived(found)) if pair else found


def drawn(sizes, seed=0, begin=(), end=()):
    """Sentences of so many tokens each, at random."""
    random = torch.Generator().manual_seed(seed)
    inner = [size - len(begin) - len(end) for size in sizes]
    return [[*begin, *torch.randint(4, VOCABULARY, (n,), generator=random).tolist(), *end] for n in inner]


def classified(sizes=(9,), seed=0):
    """Sentences for BERT, from 1 to 2, with a class each."""
    inputs = written(drawn(sizes, seed, (1,), (2,)))
    return Batch(inputs, torch.arange(len(sizes)) % 2, Task(domain(0, 1, 2), CrossEntropy(("no", "yes"))))
