"""Figures of the attack `dager` on sentences of SST-2, for docs/measurements/leaks.md.

    GRADWIRE_DATA=... python -m tests.attacks.inversion.text.spans_sst2 exact lora gpt2 bert

GPT-2 and BERT of two layers from a configuration, untrained, evaluation mode, a byte-level BPE of 4,096 tokens that is
trained on the training split; sentences of the test split.
"""

import os
import sys
import time
from functools import lru_cache
from pathlib import Path

import pandas
import torch

import gradwire
from gradwire.attacks.inversion import pose
from gradwire.attacks.inversion.text.layers import TracedNetwork
from gradwire.attacks.inversion.text.seen import candidates, seen
from gradwire.data.hub import ROOT_VARIABLE
from gradwire.errors import GradwireError
from gradwire.tasks import CrossEntropy, NextToken, Task, Tokens
from tests.attacks.inversion.text import networks

SEEDS = (0, 1)
LENGTH = 64
COMPRESSED = (
    *("topk:ratio=0.01", "topk:ratio=0.05", "topk:ratio=0.3", "qsgd", "signsgd"),
    *("powersgd:rank=1", "powersgd:rank=4", "powersgd:rank=8", "powersgd:rank=32"),
)


def table(split):
    """The rows of a split."""
    return pandas.read_parquet(Path(os.environ[ROOT_VARIABLE]) / "sst2" / f"{split}-00000.parquet")


@lru_cache(1)
def tokenizer():
    return networks.tokenizer(table("train").sentence.tolist(), 4096)


@lru_cache(2)
def sentences(classify):
    """Token numbers of the test split's sentences, with [CLS] and [SEP] where they are classified; and their labels."""
    rows = table("test")
    found = [each.ids for each in tokenizer().encode_batch(rows.sentence.str.strip().tolist())]
    begin, end = ([1], [2]) if classify else ([], [])
    return [begin + ids[: LENGTH - 2] + end for ids in found], rows.label.tolist()


def batch(rows, classify=False):
    """Inputs, targets and task of some sentences."""
    texts, labels = sentences(classify)
    inputs = torch.zeros(len(rows), LENGTH, dtype=torch.int64)
    for place, row in enumerate(rows):
        inputs[place, : len(texts[row])] = torch.tensor(texts[row])
    vocabulary = tuple(tokenizer().id_to_token(n) for n in range(tokenizer().get_vocab_size()))
    domain = Tokens(LENGTH, vocabulary, 0, *((1, 2) if classify else (None, None)))
    if classify:
        return inputs, torch.tensor([labels[row] for row in rows]), Task(domain, CrossEntropy(("0", "1")))
    return inputs, NextToken(0).derived(inputs), Task(domain, NextToken(0))


def attack(model, rows, scheme="none", knowledge="adaptive", classify=False):
    """The right positions, and sentences as tuples: found and true, padding left out; and seconds."""
    inputs, targets, task = batch(rows, classify)
    view = gradwire.capture(model, inputs, targets, scheme, task=task, mode="eval")
    start = time.monotonic()
    try:
        guess = gradwire.invert(view, "dager", knowledge).inputs[0]
    except GradwireError:
        guess = torch.full_like(inputs, -1)
    seconds = time.monotonic() - start
    found, true = ([tuple(row[row != 0].tolist()) for row in each] for each in (guess, inputs))
    return int(((guess == inputs) & (inputs != 0)).sum()), found, true, seconds, view


def nearest(view, true, targets_known):
    """Positions at which the nearest of all tokens to the first spans is the right one: the paper's check alone."""
    problem = pose(view, "adaptive")
    network = TracedNetwork.of(view.model, view.task, view.mode, LENGTH)
    length = LENGTH - (not targets_known)
    spans = seen(network, problem, 1, length)
    if not spans.first:
        return 0
    allowed = torch.arange(1, len(view.task.domain.vocabulary))
    best = allowed[candidates(network, length, [spans], allowed)[0].argmin(0)].tolist()
    return sum(a == b for a, b in zip(best, true[: None if targets_known else -1], strict=False))


def exact():
    """Whole batches of GPT-2 under no compression, of at most 0.6 tokens a number of the width."""
    texts, _ = sentences(False)
    for tied in (False, True):
        for width, size in ((128, 1), (128, 2), (128, 4), (256, 4), (256, 8)):
            whole, inputs, total, sizes, spent = 0, 0, 0, [], 0.0
            for seed in SEEDS:
                model = networks.gpt2(4096, LENGTH, width, tied, seed)
                batches = [list(range(start, start + size)) for start in range(3, len(texts) - size, 7)]
                batches = [rows for rows in batches if sum(len(texts[row]) for row in rows) <= 0.6 * width][:4]
                for rows in batches:
                    _, found, true, seconds, _ = attack(model, rows)
                    sizes.append(sum(map(len, true)))
                    whole += sum(each in found for each in true)
                    inputs += sum(each[:-1] in [f[:-1] for f in found] for each in true)
                    total, spent = total + len(true), spent + seconds
            print(
                f"| GPT-2{', tied' if tied else ''} | {width} | {size} | {min(sizes)}–{max(sizes)} "
                f"| {inputs} of {total} | {whole} of {total} | {spent / (total / size):.1f} |",
                flush=True,
            )


def lora():
    """Positions of one sentence from adapters alone."""
    for rank, targets in ((16, ["c_attn"]), (16, ["c_attn", "c_proj", "c_fc"]), (32, ["c_attn"])):
        for steps in (0, 1):
            right, near, total, whole, count = 0, 0, 0, 0, 0
            for seed in SEEDS:
                model = networks.lora(networks.gpt2(4096, LENGTH, 128, False, seed), rank, targets, seed)
                if steps:
                    networks.step(model, *batch(range(600, 608))[::2])
                for row in range(3, 403, 80):
                    _, found, true, _, view = attack(model, [row])
                    right += sum(a == b for a, b in zip(found[0], true[0][:-1], strict=False))
                    near += nearest(view, true[0], False)
                    total, whole, count = total + len(true[0]) - 1, whole + (found[0][:-1] == true[0][:-1]), count + 1
            first = "after the first step" if steps else "at the first step"
            print(
                f"| {rank} | {', '.join(targets)} | {first} | {near / total:.3f} | {right / total:.3f} "
                f"| {whole} of {count} |",
                flush=True,
            )


def compressed(classify):
    """Positions of one sentence through the schemes; of GPT-2, without the last, which is no input."""
    for scheme in ("none", *COMPRESSED):
        near, total = 0, 0
        right, whole = {"naive": 0, "adaptive": 0}, {"naive": 0, "adaptive": 0}
        count = 0
        for seed in SEEDS:
            model = (networks.bert if classify else networks.gpt2)(4096, LENGTH, 128, seed=seed)
            for row in range(3, 403, 160):
                for knowledge in right:
                    _, found, true, _, view = attack(model, [row], scheme, knowledge, classify)
                    inputs = true[0] if classify else true[0][:-1]
                    right[knowledge] += sum(a == b for a, b in zip(found[0], inputs, strict=False))
                    whole[knowledge] += found[0][: len(inputs)] == inputs
                near, total, count = near + nearest(view, true[0], classify), total + len(inputs), count + 1
        print(
            f"| {'BERT' if classify else 'GPT-2'} | {scheme} | {near / total:.2f} | {right['naive'] / total:.2f} "
            f"| {right['adaptive'] / total:.2f} | {whole['adaptive']} of {count} |",
            flush=True,
        )


if __name__ == "__main__":
    torch.set_num_threads(1)
    for name in sys.argv[1:]:
        {"exact": exact, "lora": lora, "gpt2": lambda: compressed(False), "bert": lambda: compressed(True)}[name]()
