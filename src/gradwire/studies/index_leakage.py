"""How many labels the positions of a sparse message give away, over many victims, beside chance."""

from dataclasses import dataclass

import torch
from torch import nn

from gradwire.attacks.inversion.labels.infer import labels_from_indices
from gradwire.data import Dataset
from gradwire.errors import GradwireError
from gradwire.metrics import label_accuracy
from gradwire.metrics.intervals import wilson
from gradwire.seeds import generator
from gradwire.training import capture
from gradwire.wire.view import Mode


@dataclass(frozen=True)
class IndexLeakage:
    """The mean share of labels found, its 95 % interval, and the share by chance: of guesses spread over classes."""

    accuracy: float
    low: float
    high: float
    chance: float
    victims: int


def index_leakage(
    model: nn.Module,
    dataset: Dataset,
    scheme: str,
    *,
    victims: int = 100,
    batch: int = 1,
    mode: Mode = "train",
    seed: int = 0,
) -> IndexLeakage:
    """Capture `victims` rounds of random batches, and infer the labels from the positions alone.

    Raises:
        GradwireError: no victims, a batch larger than the data set, or a scheme that sends no positions.
    """
    if victims < 1 or not 1 <= batch <= len(dataset):
        sizes = f"victims is {victims} and batch {batch}"
        raise GradwireError(f"{sizes}; both must be at least 1, and a batch at most {len(dataset)}")
    found, true = [], []
    for victim in range(victims):
        chosen = torch.randperm(len(dataset), generator=generator("victim", seed, victim))[:batch]
        images, labels = dataset.batch(chosen)
        view = capture(model, images, labels, scheme, mode=mode, targets_known=False, seed=seed, freeze=False)
        found.append(labels_from_indices(view, batch))
        true.append(labels)
    truth, classes = torch.stack(true), dataset.outputs
    accuracy = float(label_accuracy(torch.stack(found), truth).mean())
    spread = [((torch.arange(batch) + first) % classes).expand_as(truth) for first in range(classes)]
    chance = sum(float(label_accuracy(each, truth).mean()) for each in spread) / classes
    return IndexLeakage(accuracy, *wilson(accuracy, victims), chance, victims)
