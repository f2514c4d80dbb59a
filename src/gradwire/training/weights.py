"""The mean of updates weighted by how many examples each client has, without anybody telling how many.

Each client scales its own update by w = (its examples) · (clients) / (all examples), whose mean over all clients is 1;
the wire sees nothing else. Where a round has a sample of the clients only, their w need not average to 1: they then
tell them in a phase of its own, and the mean of w·update is divided by the mean of w, which is McMahan et al.'s
weighted mean. A scheme under which the server sees sums only would be undone by that phase; under it the mean of
w·update is taken as it is: the weighted mean in expectation over samples, and exactly where all clients take part.
"""

from torch import Tensor

from gradwire.schemes import Layout, Round, Scheme, Update
from gradwire.training.batches import sampled
from gradwire.training.settings import TrainSettings
from gradwire.wire import client


def weight(examples: int, clients: int, total: int) -> float:
    """What a client scales its update by; public but for `examples`."""
    return examples * clients / total


def scaled(update: Update, by: float) -> dict[str, Tensor]:
    """The update times a number."""
    return {name: tensor * by for name, tensor in update.items()}


def told(scheme: Scheme, round: Round, clients: int) -> bool:
    """Whether the round's clients tell their weights: where that changes something and undoes nothing."""
    return len(round.clients) < clients and scheme.pooled(round) == 1


def notes(settings: TrainSettings, scheme: Scheme, layout: Layout) -> tuple[str, ...]:
    """What a report has to say where weights are called for, but not told."""
    members = tuple(client(i) for i in sampled(settings, 0))
    round = Round(0, members, settings.seed, layout)
    if settings.average == "plain" or len(members) == settings.clients or told(scheme, round, settings.clients):
        return ()
    return (
        f"{scheme.name}: the server sees sums only and is not told how many examples a round's clients have; updates "
        "are weighted by each client's share of all examples, the weighted mean in expectation over samples",
    )
