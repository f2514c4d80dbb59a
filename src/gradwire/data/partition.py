"""Dividing the examples of a data set among clients.

Each function gives one index tensor (int64, ascending) a client; together they hold every example exactly once.
The same arguments give the same parts; a seed is 0 or more.
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gradwire.data import partitioners
from gradwire.errors import GradwireError

Partition = Callable[[Tensor, int, int], list[Tensor]]
"""(labels, clients, seed) → one index tensor a client."""

SPECS = ("iid", "shards:PER_CLIENT", "dirichlet:ALPHA", "linear", "square", "exponential", "pathological:CLASSES")
"""The forms that `parse` reads; those after the third are flwr-datasets'."""


def split(spec: str, labels: Tensor, clients: int, seed: int) -> list[Tensor]:
    """Divide examples as `spec` says: `iid`, `shards:2` or `dirichlet:0.5`. See the functions of these names."""
    return parse(spec)(labels, clients, seed)


def parse(spec: str) -> Partition:
    """Read a partition's spec.

    Raises:
        GradwireError: a spec that is none of `SPECS`.
    """
    name, _, value = spec.partition(":")
    try:
        if name == "shards":
            per_client = int(value)
            return lambda labels, clients, seed: shards(labels, clients, per_client, seed)
        if name == "dirichlet":
            alpha = float(value)
            return lambda labels, clients, seed: dirichlet(labels, clients, alpha, seed)
        if name == "pathological":
            classes = int(value)
            return lambda labels, clients, seed: partitioners.deal(name, classes, labels, clients, seed)
    except ValueError as error:
        raise GradwireError(
            f"partition {spec!r}: {value!r} is not such a number; write {' or '.join(SPECS)}"
        ) from error
    if spec in partitioners.FORMS:
        return lambda labels, clients, seed: partitioners.deal(spec, None, labels, clients, seed)
    if spec == "iid":
        return lambda labels, clients, seed: iid(len(labels), clients, seed)
    raise GradwireError(f"unknown partition {spec!r}; known: {', '.join(SPECS)}")


def iid(n: int, clients: int, seed: int) -> list[Tensor]:
    """Deal n examples out at random, in parts that differ by one at most.

    Raises:
        GradwireError: fewer than one client, or more clients than examples.
    """
    _check_clients(n, clients)
    order = _generator(seed).permutation(n)
    return _tensors(np.array_split(order, clients))


def shards(labels: Tensor, clients: int, per_client: int, seed: int) -> list[Tensor]:
    """Sort by label, cut into clients × per_client shards, and give each client per_client of them at random.

    McMahan et al. 2017, "Communication-efficient learning of deep networks from decentralized data", section 3: with
    two shards of MNIST a client, most clients see two digits only. Where the examples do not divide evenly, shards
    differ by one in size.

    Raises:
        GradwireError: fewer than one client or shard, or more shards than examples.
    """
    n = len(labels)
    _check_clients(n, clients)
    if not 1 <= per_client <= n // clients:
        raise GradwireError(
            f"{per_client} shards for each of {clients} clients do not fit {n} examples; "
            f"from 1 to {n // clients} shards a client do"
        )
    by_label = np.argsort(labels.numpy(), kind="stable")
    pieces = np.array_split(by_label, clients * per_client)
    dealt = _generator(seed).permutation(len(pieces)).reshape(clients, per_client)
    return _tensors([np.concatenate([pieces[piece] for piece in hand]) for hand in dealt])


def dirichlet(labels: Tensor, clients: int, alpha: float, seed: int) -> list[Tensor]:
    """Divide each class among the clients in proportions drawn from a symmetric Dirichlet distribution.

    Yurochkin et al. 2019, "Bayesian nonparametric federated learning of neural networks"; the non-IID measure of Hsu
    et al. 2019. A small alpha gives each class to few clients; a large one comes near to `iid`.

    Raises:
        GradwireError: fewer than one client, more clients than examples, alpha not above 0, or a client that is left
            without data.
    """
    _check_clients(len(labels), clients)
    if not (alpha > 0 and math.isfinite(alpha)):
        raise GradwireError(f"the alpha of a dirichlet partition is {alpha:g}; it must be a number above 0")
    rng = _generator(seed)
    hands: list[list[NDArray[np.int64]]] = [[] for _ in range(clients)]
    for label in labels.unique():
        members = rng.permutation((labels == label).nonzero().flatten().numpy())
        shares = rng.dirichlet(np.full(clients, alpha))
        cuts = np.rint(shares.cumsum()[:-1] * len(members)).astype(np.int64)
        for hand, piece in zip(hands, np.split(members, cuts), strict=True):
            hand.append(piece)
    parts = [np.concatenate(hand) for hand in hands]
    for client, part in enumerate(parts):
        if len(part) == 0:
            raise GradwireError(
                f"dirichlet:{alpha:g} with seed {seed} leaves client {client} of {clients} without data; "
                "take a larger alpha, fewer clients or another seed"
            )
    return _tensors(parts)


def _check_clients(n: int, clients: int) -> None:
    if not 1 <= clients <= n:
        raise GradwireError(f"{n} examples cannot be divided among {clients} clients; from 1 to {n} clients can be had")


def _generator(seed: int) -> np.random.Generator:
    if seed < 0:
        raise GradwireError(f"the seed of a partition is {seed}; it must be 0 or more")
    return np.random.default_rng(seed)


def _tensors(parts: list[NDArray[np.int64]]) -> list[Tensor]:
    return [torch.from_numpy(np.sort(part)) for part in parts]
