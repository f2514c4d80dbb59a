"""What an inverter is trained on: the features of rehearsed rounds, and the inputs that belong to them."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from gradwire.attacks.inversion.learned.sketch import Block, Sketch, blocks, numbers
from gradwire.attacks.inversion.problem import Problem, PublicExamples
from gradwire.attacks.inversion.rehearsals import Rehearsed, rehearsals
from gradwire.progress import Progress
from gradwire.schemes.layout import Layout

SAMPLE, HELD = 2048, 1 << 26
"""Rounds by which numbers are standardised, and how many of their numbers are held at most."""


@dataclass(frozen=True)
class Lessons:
    """Rehearsed rounds, one a row.

    Attributes:
        of: the numbers that were sent in each, and the `sketch` that turns them into features.
        features: (N, F), of `inputs` (N, B, *shape) and `targets` (N, B, …).
    """

    of: tuple[Block, ...]
    sketch: Sketch
    features: Tensor = field(repr=False)
    inputs: Tensor = field(repr=False)
    targets: Tensor = field(repr=False)

    @classmethod
    def rehearsed(
        cls, problem: Problem, own: PublicExamples, most: int, seed: int, device: str, progress: Progress
    ) -> "Lessons":
        """As many as there are own examples, a chunk at a time, with at most `most` features of what each sends.

        Nor are there more features than examples: measured on 600, four times as many do worse than the class mean.
        """
        rounds = _told(rehearsals(problem, own, seed, device), len(own.inputs), progress)
        waiting = [next(rounds)]
        of = blocks(waiting[0].measurements, Layout.of_model(problem.view.model))
        sample = [_numbers(waiting[0], of)]
        width = sample[0].shape[1]
        for rehearsed in rounds:
            waiting.append(rehearsed)
            sample.append(_numbers(rehearsed, of))
            held = sum(map(len, sample))
            if held >= SAMPLE or held * width > HELD:
                break
        sketch = Sketch.fit(torch.cat(sample), of, min(most, len(own.inputs)), seed)
        features = [sketch(each) for each in sample]
        inputs, targets = ([getattr(each, kind) for each in waiting] for kind in ("inputs", "targets"))
        for rehearsed in rounds:
            features.append(sketch(_numbers(rehearsed, of)))
            inputs.append(rehearsed.inputs)
            targets.append(rehearsed.targets)
        return cls(of, sketch, torch.cat(features), torch.cat(inputs), torch.cat(targets))


def _numbers(rehearsed: Rehearsed, of: tuple[Block, ...]) -> Tensor:
    return torch.cat([numbers(measurement, of) for measurement in rehearsed.measurements])


def _told(rounds: Iterator[Rehearsed], total: int, progress: Progress) -> Iterator[Rehearsed]:
    """The rounds, with a report of how many there were."""
    done = 0
    for rehearsed in rounds:
        done += len(rehearsed.inputs)
        progress("rehearsing", done, total)
        yield rehearsed
