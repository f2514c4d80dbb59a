"""Pareto fronts: what is on one is dominated by nothing, and everything else by something that is."""

from hypothesis import given
from hypothesis import strategies as st

from gradwire.metrics.front import dominates, fittest, front, layers

POINTS = st.lists(st.tuples(*[st.integers(0, 3).map(float)] * 3), max_size=12)


def test_dominated_is_nowhere_better_and_somewhere_worse():
    assert dominates((0, 1), (0, 2))
    assert not dominates((0, 1), (0, 1))
    assert not dominates((0, 1), (1, 0))


@given(POINTS)
def test_no_member_is_dominated_and_every_other_one_is_by_a_member(points):
    on = front(points)
    members = [point for point, is_on in zip(points, on, strict=True) if is_on]
    for point, is_on in zip(points, on, strict=True):
        assert is_on != any(dominates(member, point) for member in members)
        assert is_on == (not any(dominates(other, point) for other in points))


@given(POINTS)
def test_each_layer_is_the_front_of_what_is_left(points):
    numbers = layers(points)
    for number in range(max(numbers, default=-1) + 1):
        left = [(point, at) for point, at in zip(points, numbers, strict=True) if at >= number]
        assert front([point for point, _ in left]) == [at == number for _, at in left]


@given(POINTS, st.integers(0, 12))
def test_the_fittest_are_so_many_and_none_that_is_left_dominates_one(points, count):
    kept = fittest(points, count)
    assert len(kept) == min(count, len(points)) == len(set(kept))
    assert kept == sorted(kept)
    left = [point for index, point in enumerate(points) if index not in kept]
    assert not any(dominates(other, points[index]) for other in left for index in kept)
