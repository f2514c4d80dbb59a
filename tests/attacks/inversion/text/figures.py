"""What attacks on text reach on SST-2, printed: `python -m tests.attacks.inversion.text.figures [PART …]`.

Parts: tokens, tied, positions, sentences; all of them by default.
"""

import sys
import time

import torch

import gradwire
from gradwire.seeds import generator

from . import worlds

SEEDS = (0, 1)
SCHEMES = ("none", "powersgd:rank=1", "powersgd:rank=4", "powersgd:rank=8", "signsgd", "topk:ratio=0.01", "qsgd")


def trained(kind, seed, below, most, **options):
    """A network after AdamW (lr 1e-3, batches of 32) until a running mean of its loss is below a bound."""
    world, source = worlds.sst2_world(kind, seed, **options), worlds.sst2_world(kind, seed, "train")
    random, model = generator("training", seed), world.model.train()
    optimizer, mean, steps = torch.optim.AdamW(model.parameters(), 1e-3), None, 0
    for _ in range(most):
        rows = torch.randint(len(source.inputs), (32,), generator=random)
        value = world.task.value(model, source.inputs[rows], source.targets[rows])
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        mean = float(value.detach()) if mean is None else 0.95 * mean + 0.05 * float(value.detach())
        steps += 1
        if mean < below:
            break
    print(f"# {kind} {options} seed {seed}: {steps} steps, loss {mean:.2f}", flush=True)
    model.eval()
    return world


def scored(world, rows, scheme, attack, knowledge, fellows=(), seed=0):
    """The scores of one victim's guess, its objective, and the victim's bytes."""
    view = world.view(rows, scheme, fellows, seed=seed)
    guess = gradwire.invert(view, attack, knowledge, seed=seed)
    held = [*rows, *(row for each in fellows for row in each)] if len(guess.inputs[0]) > len(rows) else list(rows)
    truth = world.inputs[held][None]
    domain = world.task.domain
    scores = {k: float(v) for k, v in domain.score(domain.matched(guess.inputs, truth), truth).items()}
    return scores | {"objective": float(guess.objective), "bytes": view.bytes_up, "evaluations": guess.iterations}


def mean(found, *names):
    return " ".join(f"{name} {sum(each[name] for each in found) / len(found):.3f}" for name in names)


def chosen(world, batch, count, longest=64, begin=200):
    """Batches of sentences one after another from a place of the test split on."""
    lengths = (world.inputs > 0).sum(1)
    rows = [row for row in range(begin, len(lengths)) if 5 <= lengths[row] <= longest]
    return [rows[batch * k : batch * (k + 1)] for k in range(count)]


def tokens():
    """Distinct tokens, precision and recall."""
    for kind in ("bert", "gpt2"):
        for scheme in SCHEMES:
            for batch in (1, 4, 8):
                for knowledge in ("naive", "adaptive"):
                    found = []
                    for seed in SEEDS:
                        world = worlds.sst2_world(kind, seed)
                        found += [
                            scored(world, rows, scheme, "tokens", knowledge, seed=seed)
                            for rows in chosen(world, batch, 5)
                        ]
                    line = mean(found, "distinct_precision", "distinct_recall", "bytes")
                    print(f"{kind} {scheme} B={batch} {knowledge}: {line}", flush=True)
        for seed in SEEDS:
            world = worlds.sst2_world(kind, seed)
            for batch in (1, 2):
                first, *others = chosen(world, batch, 4)
                found = scored(world, first, "sga", "tokens", "adaptive", others, seed)
                print(
                    f"{kind} sga of 4, B={batch}, union: {mean([found], 'distinct_precision', 'distinct_recall')}",
                    flush=True,
                )


def tied():
    """Tied tables, trained: distinct tokens, their number known or not."""
    for seed in SEEDS:
        for world in (worlds.sst2_world("gpt2", seed, tied=True), trained("gpt2", seed, 6.9, 600, tied=True)):
            for scheme in ("none", "topk:ratio=0.01", "powersgd:rank=4", "powersgd:rank=1"):
                for batch in (1, 4, 8):
                    for known in (True, False):
                        for knowledge in ("naive", "adaptive"):
                            found = []
                            for rows in chosen(world, batch, 5):
                                distinct = len(set(world.inputs[rows].unique().tolist()) - {worlds.PAD}) if known else 0
                                found.append(
                                    scored(world, rows, scheme, f"tokens:distinct={distinct}", knowledge, seed=seed)
                                )
                            for each in found:
                                p, r = each["distinct_precision"], each["distinct_recall"]
                                each["F1"] = 2 * p * r / max(p + r, 1e-9)
                            print(
                                f"{scheme} B={batch} number known: {known} {knowledge}: {mean(found, 'F1')}", flush=True
                            )


def positions():
    """One sentence of a BERT: positions right."""
    for scheme in ("none", "topk:ratio=0.05", "topk:ratio=0.01", "qsgd", "signsgd", "powersgd:rank=4"):
        for knowledge in ("naive", "adaptive"):
            found = []
            for seed in SEEDS:
                world = worlds.sst2_world("bert", seed)
                found += [
                    scored(world, rows, scheme, "sentences:evaluations=2000", knowledge, seed=seed)
                    for rows in chosen(world, 1, 5)
                ]
            print(
                f"bert {scheme} {knowledge}: {mean(found, 'positions', 'exact', 'objective', 'evaluations')}",
                flush=True,
            )


def sentences():
    """One sentence of at most 20 tokens: exact."""
    for kind, scheme in (("bert", "powersgd:rank=1"), ("gpt2", "powersgd:rank=4")):
        for state in ("untrained", "trained"):
            for seed in SEEDS:
                bound = 0.5 if kind == "bert" else 6.9
                world = worlds.sst2_world(kind, seed) if state == "untrained" else trained(kind, seed, bound, 300)
                for knowledge in ("adaptive", "naive"):
                    start, most = time.time(), 10_000 if knowledge == "adaptive" else 2_000
                    found = [
                        scored(world, rows, scheme, f"sentences:evaluations={most}", knowledge, seed=seed)
                        for rows in chosen(world, 1, 10 if knowledge == "adaptive" else 5, 20)
                    ]
                    line = mean(found, "exact", "positions", "bytes", "objective", "evaluations")
                    print(
                        f"{kind} {scheme} {state} seed {seed} {knowledge}: {line} ({time.time() - start:.0f} s)",
                        flush=True,
                    )


if __name__ == "__main__":
    torch.set_num_threads(1)
    for part in sys.argv[1:] or ("tokens", "tied", "positions", "sentences"):
        globals()[part]()
