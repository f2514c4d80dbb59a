"""Partitions: the examples of a data set, divided among clients.

Each function gives one index tensor (int64, ascending) a client. Together they hold every example exactly once, but
for `pathological` among fewer clients than classes. The same arguments give the same parts; a seed is 0 or more.
"""

import math
import warnings
from collections.abc import Callable, Sequence, Sized
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradwire.errors import GradwireError
from gradwire.seeds import generator

Partition = Callable[[Tensor, int, int], list[Tensor]]
"""(labels, clients, seed) → one index tensor a client."""

SPECS = ("iid", "shards:PER_CLIENT", "dirichlet:ALPHA", "linear", "square", "exponential", "pathological:CLASSES")
"""The forms that `parse` reads, with or without a last `least=EXAMPLES`; those after the third are flwr-datasets'."""
BY_CLASS = ("shards", "dirichlet", "pathological")
DRAWS = 100  # of a Dirichlet partition with `least`, at most

FLOWER = ("linear", "square", "exponential", "pathological")
"""flwr-datasets' partitioners. Sizes grow with the client's number, its square or its exponential; the last gives each
client so many classes (Li et al. 2022, "Federated learning on non-IID data silos")."""


def split(spec: str, labels: Tensor, clients: int, seed: int) -> list[Tensor]:
    """Divide examples as `spec` says: `iid`, `shards:2` or `dirichlet:0.5,least=8` (see `parse`)."""
    return parse(spec)(labels, clients, seed)


def parse(spec: str) -> Partition:
    """Read a partition's spec.

    `least=EXAMPLES` stands last (`dirichlet:0.5,least=8`, `iid:least=2`): every client gets as many examples or more.
    A Dirichlet partition that does not do so is drawn again; any other is refused.

    Raises:
        GradwireError: a spec that is none of `SPECS`, or `least` below 1.
    """
    head, given, least = spec.replace(":least=", ",least=").partition(",least=")
    name, _, value = head.partition(":")
    kind: Any = {"shards": int, "dirichlet": float, "pathological": int}.get(name)
    if kind is None and head not in ("iid", *FLOWER):
        raise GradwireError(f"unknown partition {spec!r}; known: {', '.join(SPECS)}, all with least=EXAMPLES or not")
    if given and not (least.isdecimal() and int(least) > 0):
        raise GradwireError(f"partition {spec!r}: least is {least!r}; it must be a whole number, 1 or more")
    try:
        number: Any = kind(value) if kind else None
    except ValueError:
        forms = " or ".join(SPECS)
        raise GradwireError(f"partition {spec!r}: {value!r} is not such a number; write {forms}") from None

    def divide(labels: Tensor, clients: int, seed: int) -> list[Tensor]:
        if name in BY_CLASS and (labels.ndim != 1 or labels.is_floating_point()):
            raise GradwireError(f"partition {spec!r} goes by classes, and these targets are none; take iid")
        if name == "dirichlet":
            return dirichlet(labels, clients, number, seed, int(least) if given else None)
        if name == "shards":
            parts = shards(labels, clients, number, seed)
        else:
            parts = iid(len(labels), clients, seed) if name == "iid" else flower(name, number, labels, clients, seed)
        if short := _short(parts, int(least or 1)):
            raise GradwireError(f"partition {spec!r} leaves {short}; take fewer clients")
        return parts

    return divide


def iid(n: int, clients: int, seed: int) -> list[Tensor]:
    """Deal n examples out at random, in parts that differ by one at most."""
    _check_clients(n, clients)
    return _tensors(np.array_split(_generator(seed).permutation(n), clients))


def shards(labels: Tensor, clients: int, per_client: int, seed: int) -> list[Tensor]:
    """Sort by label, cut into clients × per_client shards, and give each client per_client of them at random.

    McMahan et al. 2017, "Communication-efficient learning of deep networks from decentralized data", section 3: with
    two shards of MNIST a client, most clients see two digits only. Shards differ by one in size at most.

    Raises:
        GradwireError: fewer than one client or shard, or more shards than examples.
    """
    n = len(labels)
    _check_clients(n, clients)
    if not 1 <= per_client <= n // clients:
        fits = f"from 1 to {n // clients} shards a client do"
        raise GradwireError(f"{per_client} shards for each of {clients} clients do not fit {n} examples; {fits}")
    pieces = np.array_split(np.argsort(labels.numpy(), kind="stable"), clients * per_client)
    dealt = _generator(seed).permutation(len(pieces)).reshape(clients, per_client)
    return _tensors([np.concatenate([pieces[piece] for piece in hand]) for hand in dealt])


def dirichlet(labels: Tensor, clients: int, alpha: float, seed: int, least: int | None = None) -> list[Tensor]:
    """Divide each class among the clients in proportions drawn from a symmetric Dirichlet distribution.

    Yurochkin et al. 2019, "Bayesian nonparametric federated learning of neural networks"; the non-IID measure of Hsu
    et al. 2019. A small alpha gives each class to few clients; a large one comes near to `iid`. With `least`, the
    partition is drawn up to `DRAWS` times until each client gets as many examples (Li et al. 2022).

    Raises:
        GradwireError: fewer than one client, too few examples, alpha not above 0, or a client that gets too few.
    """
    _check_clients(len(labels), clients, least or 1)
    if not (alpha > 0 and math.isfinite(alpha)):
        raise GradwireError(f"the alpha of a dirichlet partition is {alpha:g}; it must be a number above 0")
    rng = _generator(seed)
    for _ in range(DRAWS if least else 1):
        dealt = []
        for label in labels.unique():
            members = rng.permutation((labels == label).nonzero().flatten().numpy())
            shares = rng.dirichlet(np.full(clients, alpha))
            cuts = np.rint(shares.cumsum()[:-1] * len(members)).astype(np.int64)
            dealt.append(np.split(members, cuts))
        parts = [np.concatenate(hand) for hand in zip(*dealt, strict=True)]
        if not (short := _short(parts, least or 1)):
            return _tensors(parts)
    left = f"dirichlet:{alpha:g} with seed {seed} leaves {short}{f' after {DRAWS} draws' if least else ''}"
    raise GradwireError(f"{left}; take a larger alpha, fewer clients or another seed")


def flower(name: str, classes: int | None, labels: Tensor, clients: int, seed: int) -> list[Tensor]:
    """Divide examples by one of flwr-datasets' partitioners, with so many `classes` a client for "pathological".

    `seed` puts the examples into a new order first, for most partitioners take them as they come.

    Raises:
        GradwireError: flwr-datasets (the extra `partitions`) is not installed, or refuses.
    """
    try:
        from flwr_datasets import partitioner
    except ImportError as error:
        what = f"partition {name!r} is one of flwr-datasets' ({error})"
        raise GradwireError(f"{what}; pip install 'gradwire[partitions]'") from None
    from datasets import Dataset

    options: dict[str, Any] = {"num_partitions": clients}
    if name == "pathological":
        options |= {"num_classes_per_partition": classes, "seed": seed}
        options |= {"partition_by": "label", "class_assignment_mode": "first-deterministic"}
    order = torch.randperm(len(labels), generator=generator("partition", name, seed))
    try:
        with warnings.catch_warnings(action="ignore"):
            chosen = getattr(partitioner, f"{name.capitalize()}Partitioner")(**options)
            chosen.dataset = Dataset.from_dict({"label": labels[order].tolist(), "position": order.tolist()})
            return _tensors([np.array(chosen.load_partition(i)["position"], np.int64) for i in range(clients)])
    except (ValueError, IndexError) as error:
        what = f"partition {name!r} of {len(labels)} examples among {clients} clients"
        raise GradwireError(f"{what}: {str(error).splitlines()[0]}") from None


def _check_clients(n: int, clients: int, least: int = 1) -> None:
    if not 1 <= clients <= n // least:
        among = f"among {clients} clients{f', {least} or more each' if least > 1 else ''}"
        raise GradwireError(f"{n} examples cannot be divided {among}; from 1 to {n // least} clients can be had")


def _generator(seed: int) -> np.random.Generator:
    if seed < 0:
        raise GradwireError(f"the seed of a partition is {seed}; it must be 0 or more")
    return np.random.default_rng(seed)


def _short(parts: Sequence[Sized], least: int) -> str | None:
    """The first client with the fewest examples, if they are fewer than `least`, as errors name it."""
    size, client = min((len(part), client) for client, part in enumerate(parts))
    short = f"with {size} examples, fewer than {least}" if size else "without data"
    return f"client {client} of {len(parts)} {short}" if size < least else None


def _tensors(parts: list[NDArray[np.int64]]) -> list[Tensor]:
    return [torch.from_numpy(np.sort(part)) for part in parts]
