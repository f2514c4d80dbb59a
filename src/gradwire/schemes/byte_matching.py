"""How many entries a sparse scheme keeps: a share of them, or as many as cost what PowerSGD of some rank costs."""

from collections.abc import Callable, Mapping
from math import ceil

from gradwire.errors import GradwireError
from gradwire.schemes.layout import Layout
from gradwire.schemes.powersgd import Factorisation
from gradwire.schemes.scheme import check_positive
from gradwire.wire.indices import code_size

Affordable = Callable[[int, int], int]
"""From a budget in bytes and a size to the largest K that it pays for."""


def check(scheme: str, ratio: float | None, match_rank: int | None) -> None:
    """Refuse anything but one of a ratio in (0, 1] and a rank of at least 1."""
    if (ratio is None) == (match_rank is None):
        raise GradwireError(f"{scheme} needs either ratio or match_rank: {scheme}:ratio=0.01 or {scheme}:match_rank=4")
    if ratio is not None:
        check_share(scheme, "ratio", ratio)
    check_positive(scheme, "match_rank", match_rank)


def check_share(scheme: str, name: str, value: float) -> None:
    """Refuse a share outside (0, 1]."""
    if not 0 < value <= 1:
        raise GradwireError(f"{scheme}: {name} is {value}; it must be in (0, 1]")


def shares(layout: Layout, ratio: float) -> dict[str, int]:
    """K for each parameter: this share of its entries, and at least one."""
    return {name: ceil(ratio * size) for name, size in layout.sizes.items()}


def match(layout: Layout, rank: int, affordable: Affordable) -> dict[str, int]:
    """K for each parameter such that all together cost what PowerSGD of this rank costs, shared out as it does."""
    plan = Factorisation.of(layout, rank)
    total = affordable(4 * plan.entries, layout.size)
    wanted = {}
    for name, size in layout.sizes.items():
        n, m, r = plan.shapes.get(name, (0, 0, 0))
        wanted[name] = min(size, round((n + m) * r * total / plan.entries) if r else size)
    return _fit(wanted, layout.sizes, total)


def with_positions(budget: int, size: int) -> int:
    """The largest K whose float32 values and coded positions below `size` fit into `budget` bytes."""
    low, high = 1, size
    while low < high:
        middle = (low + high + 1) // 2
        if 4 * middle + code_size(middle, size) <= budget:
            low = middle
        else:
            high = middle - 1
    return low


def without_positions(budget: int, size: int) -> int:
    """The largest K whose float32 values alone fit into `budget` bytes."""
    return max(1, min(size, budget // 4))


def _fit(counts: Mapping[str, int], sizes: Mapping[str, int], total: int) -> dict[str, int]:
    """Counts that add up to `total`, taking the difference from (or giving it to) the largest parameters first."""
    fitted, excess = dict(counts), sum(counts.values()) - total
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        change = max(min(excess, fitted[name] - 1), fitted[name] - sizes[name])
        fitted[name] -= change
        excess -= change
    return fitted
