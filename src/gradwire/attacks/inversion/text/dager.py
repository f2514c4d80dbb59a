"""Whole sentences from the spans of two layers' inputs, without a search over continuous numbers.

I. Petrov, D. I. Dimitrov, M. Baader, M. N. Müller, M. Vechev, "DAGER: Exact gradient inversion for large language models",
NeurIPS 2024. A token may stand at a position if its input of the first block's linear layers lies in the span of their
gradient's rows; a sentence may be the batch's if the inputs of a later layer do, too. Only linear layers are read, so that
frozen embeddings and LoRA's adapters (whose A receives what the layer beside it does) change nothing.

Beyond the paper, spans that are not seen whole are used as far as they go: see `pursuit`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from gradwire.attacks.inversion.problem import ATTACKING, Guess, Problem
from gradwire.attacks.inversion.text.layers import Layer, Network
from gradwire.attacks.inversion.text.sentences import Found, Spans, candidates, prefixes
from gradwire.attacks.inversion.text.spans import Span, readable, span
from gradwire.errors import GradwireError
from gradwire.progress import Progress, silent
from gradwire.registry import ATTACKS
from gradwire.schemes import Measurement, dense, observation
from gradwire.tasks import Tokens

UNKNOWN = -1
LATER = 3


@dataclass(frozen=True)
class Dager:
    """Solve for the sentences.

    Attributes:
        combinations: candidates for sentences that are tried at most, at one position or (encoders) altogether.
    """

    name: ClassVar[str] = "dager"

    combinations: int = 20_000

    @property
    def spec(self) -> str:
        """The spec that it is read from."""
        return ATTACKS.spec(self)

    def run(
        self,
        problems: Sequence[Problem],
        seed: int = 0,
        device: str = "cpu",
        progress: Progress = silent,
        checkpoint: Path | None = None,
    ) -> Guess:
        """Attack problems."""
        view = problems[0].view
        domain = view.task.domain
        network = Network.of(view.model, view.task, view.mode, view.shape[1] if len(view.shape) > 1 else 1, device)
        assert isinstance(domain, Tokens)
        batch, length = view.shape
        positions = length - int(view.task.loss.from_inputs)
        allowed = torch.tensor([t for t in range(len(domain.vocabulary)) if t != domain.pad], device=device)
        victims = [seen(network, problem, batch * positions) for problem in problems]
        distances = candidates(network, positions, victims, allowed)
        inputs = torch.full((len(problems), batch, length), UNKNOWN)
        objective = torch.full((len(problems),), torch.inf)
        for number, (problem, spans, near) in enumerate(zip(problems, victims, distances, strict=True)):
            found = prefixes(network, spans, near, allowed, batch, self.combinations)
            for row, sentence in enumerate(found.sentences):
                inputs[number, row, : len(sentence)] = torch.tensor(sentence)
            objective[number] = unexplained(network, spans, found.sentences)
            progress(ATTACKING, number + 1, len(problems))
        targets = torch.stack([problem.targets.cpu() for problem in problems])
        return Guess(inputs, targets, objective, 1, 0, ())


def seen(network: Network, problem: Problem, most: int) -> Spans:
    measurement = read(network, problem)
    groups: dict[int, list[Layer]] = {}
    for layer in network.layers:
        groups.setdefault(layer.group, []).append(layer)
    found: dict[str, list[Span]] = {"token": [], "prefix": [], "sentence": []}
    for layers in groups.values():
        reach = layers[0].reach
        if reach == "token" or len(found[reach]) < LATER:
            each = span(layers, measurement, most)
            if each is not None:
                found[reach].append(each)
    later = [each for each in (*found["prefix"], *found["sentence"]) if each.complete]
    return Spans(tuple(found["token"]), tuple(later))


def read(network: Network, problem: Problem) -> Measurement:
    weights = [layer.weight for layer in network.layers if layer.weight in problem.measurement]
    if all(readable(problem.measurement[weight]) for weight in weights):
        return problem.measurement
    scheme, observed = observation(problem.view)
    return dense(scheme.decode(observed))


def unexplained(network: Network, spans: Spans, sentences: Sequence[list[int]]) -> float:
    found: dict[str, list[Tensor]] = {}
    chosen = [*spans.first, *spans.second]
    device = next(network.model.parameters()).device
    for sentence in sentences:
        for name, inputs in network.inputs(torch.tensor([sentence], device=device), [s.layers[0] for s in chosen]).items():
            found.setdefault(name, []).append(inputs[0])
    if not found:
        return torch.inf
    return max(each.unexplained(torch.cat(found[each.layers[0].name])) for each in chosen)
