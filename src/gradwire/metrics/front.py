"""Pareto fronts of points whose every coordinate is a cost: smaller is better.

Point a dominates b where a is nowhere larger and somewhere smaller. Points that are alike do not dominate one another.
"""

from collections.abc import Sequence

Point = tuple[float, ...]


def dominates(a: Point, b: Point) -> bool:
    """Whether a is at least as good as b in everything, and better in something."""
    return all(x <= y for x, y in zip(a, b, strict=True)) and any(x < y for x, y in zip(a, b, strict=True))


def front(points: Sequence[Point]) -> list[bool]:
    """Whether each point is on the front: no other one dominates it."""
    return [not any(dominates(other, point) for other in points) for point in points]


def layers(points: Sequence[Point]) -> list[int]:
    """The number of each point's layer: 0 for the front, 1 for the front of what is left without it, and so on."""
    found = [-1] * len(points)
    left, number = list(range(len(points))), 0
    while left:
        on = [index for index, kept in zip(left, front([points[i] for i in left]), strict=True) if kept]
        for index in on:
            found[index] = number
        left = [index for index in left if found[index] < 0]
        number += 1
    return found


def fittest(points: Sequence[Point], count: int) -> list[int]:
    """The indices of so many points, in their order: layer by layer, within the last by their first coordinates."""
    layer = layers(points)
    return sorted(sorted(range(len(points)), key=lambda index: (layer[index], points[index]))[:count])
