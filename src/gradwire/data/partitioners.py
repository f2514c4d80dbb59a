"""Partitions of flwr-datasets, under specs like gradwire's own: the extra `partitions` brings them."""

import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.seeds import generator

FORMS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "linear": ("LinearPartitioner", {}),
    "square": ("SquarePartitioner", {}),
    "exponential": ("ExponentialPartitioner", {}),
    "pathological": (
        "PathologicalPartitioner",
        {"partition_by": "label", "class_assignment_mode": "first-deterministic"},
    ),
}
"""Name → partitioner and what it is always told. Sizes grow with the client's number, its square or its exponential;
pathological:CLASSES gives each client so many classes (Li et al. 2022, "Federated learning on non-IID data silos")."""


def deal(name: str, classes: int | None, labels: Tensor, clients: int, seed: int) -> list[Tensor]:
    """One index tensor (int64, ascending) a client; no example is in two of them.

    Each is in one, but for "pathological" among fewer clients than classes, which leaves classes out.

    Examples are put into a new order first, which `seed` decides, for most partitioners take them as they come.

    Args:
        classes: of each client, for "pathological".

    Raises:
        GradwireError: flwr-datasets is not installed, refuses, or leaves a client without data.
    """
    try:
        from flwr_datasets import partitioner
    except ImportError as error:
        raise GradwireError(
            f"partition {name!r} is one of flwr-datasets' ({error}); pip install 'gradwire[partitions]'"
        ) from None
    from datasets import Dataset

    kind, options = FORMS[name]
    more = {} if classes is None else {"num_classes_per_partition": classes, "seed": seed}
    order = torch.randperm(len(labels), generator=generator("partition", name, seed))
    try:
        with warnings.catch_warnings(action="ignore"):
            chosen = getattr(partitioner, kind)(num_partitions=clients, **options, **more)
            chosen.dataset = Dataset.from_dict({"label": labels[order].tolist(), "position": order.tolist()})
            parts = [
                torch.tensor(list(chosen.load_partition(i)["position"]), dtype=torch.int64) for i in range(clients)
            ]
    except (ValueError, IndexError) as error:
        raise GradwireError(
            f"partition {name!r} of {len(labels)} examples among {clients} clients: {str(error).splitlines()[0]}"
        ) from None
    for client, part in enumerate(parts):
        if len(part) == 0:
            raise GradwireError(
                f"partition {name!r} leaves client {client} of {clients} without data; take fewer clients"
            )
    return [part.sort().values for part in parts]
