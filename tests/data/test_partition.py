import re
import sys
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from gradwire.data import partition
from gradwire.errors import GradwireError

seeds = st.integers(0, 2**32)


@st.composite
def labels_and_clients(draw: st.DrawFn) -> tuple[Tensor, int]:
    labels = draw(st.lists(st.integers(0, 4), min_size=1, max_size=120))
    return torch.tensor(labels), draw(st.integers(1, min(12, len(labels))))


def assert_partition(parts: list[Tensor], n: int, clients: int) -> None:
    assert len(parts) == clients
    assert all(len(part) > 0 and part.dtype == torch.int64 for part in parts)
    assert torch.equal(torch.cat(parts).sort().values, torch.arange(n))


@settings(deadline=None)
@given(labels_and_clients(), seeds)
def test_iid_is_an_even_partition(drawn: tuple[Tensor, int], seed: int) -> None:
    labels, clients = drawn
    parts = partition.split("iid", labels, clients, seed)
    assert_partition(parts, len(labels), clients)
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= 1


@settings(deadline=None)
@given(labels_and_clients(), seeds, st.data())
def test_shards_are_a_partition(drawn: tuple[Tensor, int], seed: int, data: st.DataObject) -> None:
    labels, clients = drawn
    per_client = data.draw(st.integers(1, len(labels) // clients))
    assert_partition(partition.shards(labels, clients, per_client, seed), len(labels), clients)


@settings(deadline=None)
@given(labels_and_clients(), seeds, st.floats(1e-4, 1e4))
def test_dirichlet_is_a_partition_where_nobody_goes_without(drawn: tuple[Tensor, int], seed: int, alpha: float) -> None:
    labels, clients = drawn
    try:
        parts = partition.dirichlet(labels, clients, alpha, seed)
    except GradwireError:
        return  # this draw leaves a client without data; that it says so is tested below
    assert_partition(parts, len(labels), clients)


@pytest.mark.parametrize("spec", ["iid", "shards:2", "dirichlet:0.5"])
def test_seeds_decide(spec: str) -> None:
    labels = torch.arange(10).repeat(100)
    first, again, other = (partition.split(spec, labels, 5, seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_two_shards_a_client_are_two_classes_at_most() -> None:
    labels = torch.arange(10).repeat(100)
    parts = partition.shards(labels, clients=10, per_client=2, seed=0)
    assert all(len(part) == 100 and len(labels[part].unique()) <= 2 for part in parts)


def test_alpha_goes_from_one_class_each_to_even() -> None:
    labels = torch.arange(10).repeat(200)

    def largest_share(alpha: float) -> float:
        parts = partition.dirichlet(labels, clients=4, alpha=alpha, seed=0)
        counts = torch.stack([labels[part].bincount(minlength=10) for part in parts])
        return float((counts.max(0).values / 200).mean())

    assert largest_share(1000.0) < 0.3 < 0.9 < largest_share(0.01)


@settings(deadline=None)
@given(labels_and_clients(), seeds, st.integers(1, 9))
def test_dirichlet_with_a_least_size_gives_it_to_all_or_says_so(
    drawn: tuple[Tensor, int], seed: int, least: int
) -> None:
    labels, clients = drawn
    try:
        parts = partition.split(f"dirichlet:0.5,least={least}", labels, clients, seed)
    except GradwireError:
        return  # that it says so is tested below
    assert_partition(parts, len(labels), clients)
    assert min(map(len, parts)) >= least


def test_a_least_size_draws_again_and_only_where_it_must() -> None:
    labels = torch.arange(10).repeat(30)
    with pytest.raises(GradwireError, match="leaves client"):
        partition.split("dirichlet:0.05", labels, 10, 3)
    assert min(map(len, partition.split("dirichlet:0.05,least=9", labels, 10, 3))) >= 9
    first, asked = (partition.split(spec, labels, 10, 0) for spec in ("dirichlet:0.5", "dirichlet:0.5,least=1"))
    assert all(torch.equal(a, b) for a, b in zip(first, asked, strict=True))


def test_any_partition_takes_a_least_size() -> None:
    labels = torch.arange(10).repeat(10)
    for spec, least in (("iid:least=25", 25), ("shards:2,least=24", 24)):
        assert min(map(len, partition.split(spec, labels, 4, 0))) >= least


LABELS = torch.arange(10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: partition.iid(10, 11, 0), "10 examples cannot be divided among 11 clients; from 1 to 10"),
        (lambda: partition.iid(10, 0, 0), "among 0 clients"),
        (lambda: partition.iid(10, 2, -1), "the seed of a partition is -1; it must be 0 or more"),
        (lambda: partition.shards(LABELS, 11, 1, 0), "among 11 clients"),
        (lambda: partition.shards(LABELS, 3, 4, 0), "4 shards for each of 3 clients do not fit 10 examples; from 1 to"),
        (lambda: partition.shards(LABELS, 3, 0, 0), "0 shards for each"),
        (lambda: partition.dirichlet(LABELS, 11, 1.0, 0), "among 11 clients"),
        (lambda: partition.dirichlet(LABELS, 2, 0.0, 0), "the alpha of a dirichlet partition is 0; it must be"),
        (lambda: partition.dirichlet(LABELS, 2, float("nan"), 0), "is nan"),
        (lambda: partition.dirichlet(LABELS * 0, 10, 1e-3, 0), "dirichlet:0.001 with seed 0 leaves client"),
        (lambda: partition.split("iid:least=4", LABELS, 3, 0), "'iid:least=4' leaves client 1 of 3 with 3 examples"),
        (
            lambda: partition.split("shards:1,least=6", LABELS, 2, 0),
            "leaves client 0 of 2 with 5 examples, fewer than 6",
        ),
        (lambda: partition.split("shards:0", LABELS, 2, 0), "0 shards for each"),
        (lambda: partition.dirichlet(LABELS, 4, 1.0, 0, 3), "among 4 clients, 3 or more each; from 1 to 3 clients can"),
        (
            lambda: partition.dirichlet(LABELS * 0, 5, 1e-3, 0, 2),
            "of 5 without data after 100 draws; take a larger alpha",
        ),
        (lambda: partition.parse("iid:least=0"), "partition 'iid:least=0': least is '0'; it must be a whole number, 1"),
        (lambda: partition.parse("dirichlet:0.5,least=few"), "least is 'few'; it must be a whole number"),
        (lambda: partition.parse("dirichlet:0.5,most=3"), "'0.5,most=3' is not such a number"),
        (lambda: partition.parse("sorted"), "unknown partition 'sorted'; known: iid, shards:PER_CLIENT, dirichlet:"),
        (lambda: partition.parse("iid:3"), "unknown partition 'iid:3'"),
        (lambda: partition.parse("shards"), "'' is not such a number"),
        (lambda: partition.parse("shards:2.5"), "'2.5' is not such a number"),
        (lambda: partition.parse("dirichlet:half"), "'half' is not such a number"),
    ],
)
def test_what_cannot_be_is_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(GradwireError, match=re.escape(message)):
        call()


@pytest.mark.parametrize("spec", ["linear", "square", "exponential", "pathological:2"])
def test_partitions_of_flwr_datasets(spec: str) -> None:
    pytest.importorskip("flwr_datasets", exc_type=ImportError)
    labels = torch.arange(10).repeat(50)
    clients = 10 if spec.startswith("pathological") else 5
    first, again, other = (partition.split(spec, labels, clients, seed) for seed in (0, 0, 1))
    assert_partition(first, 500, clients)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    sizes = [len(part) for part in first]
    if spec.startswith("pathological"):
        assert all(len(labels[part].unique()) == 2 for part in first)
    else:
        assert sizes == sorted(sizes)
        assert sizes[0] < sizes[-1]


def test_what_flwr_datasets_refuses_is_one_line() -> None:
    pytest.importorskip("flwr_datasets", exc_type=ImportError)
    with pytest.raises(GradwireError, match="partition 'exponential'"):
        partition.split("exponential", torch.arange(10), 9, 0)


def test_without_the_extra_its_partitions_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flwr_datasets", None)
    with pytest.raises(GradwireError, match="pip install 'gradwire\\[partitions\\]'"):
        partition.split("linear", torch.arange(10), 2, 0)
