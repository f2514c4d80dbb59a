import pytest
import torch

from gradwire.attacks.inversion.row_span import MOST, rows_in_span
from tests.attacks.inversion.tables import DOMAIN, rows


def mixed(held, count, seed=1):
    """Combinations of [x 1] at random, as a layer's gradient holds them."""
    random = torch.Generator().manual_seed(seed)
    slopes = torch.randn(count, len(held), generator=random, dtype=torch.float64)
    return slopes @ held.double(), slopes.sum(1)


def sorted_rows(found):
    return torch.stack(sorted(found.float(), key=lambda row: row.tolist()))


@pytest.mark.parametrize("batch", [1, 2, 4, 6])
def test_a_batch_is_all_that_its_span_holds(batch):
    held = rows(batch)
    found = rows_in_span(*mixed(held, 20), DOMAIN, batch)
    torch.testing.assert_close(sorted_rows(found), sorted_rows(held), atol=1e-4, rtol=0)


def test_as_many_combinations_as_rows_are_enough_and_fewer_are_not():
    held = rows(4)
    assert rows_in_span(*mixed(held, 4), DOMAIN, 4) is not None
    assert rows_in_span(*mixed(held, 3), DOMAIN, 4) is None


def test_a_row_between_others_is_found_beside_them():
    held = rows(3)
    # x₁ + x₂ − x₃ is a row where x₃ has every field from x₁ or from x₂.
    groups = list(DOMAIN.groups())
    for number, group in enumerate(groups):
        held[2, group] = held[number % 2, group]
    held[:, :3] = DOMAIN.snapped(held * 0.1)[:, :3]
    found = rows_in_span(*mixed(held, 20), DOMAIN, 3)
    assert len(found) >= 4
    nearest = torch.cdist(held.double(), found).min(1).values
    assert float(nearest.max()) < 1e-3


def test_rows_that_only_numbers_tell_apart_do_not_follow():
    held = rows(3)
    held[1, 3:] = held[0, 3:]
    assert rows_in_span(*mixed(held, 20), DOMAIN, 3) is None


def test_large_batches_are_not_tried():
    assert rows_in_span(*mixed(rows(MOST + 1), 60), DOMAIN, MOST + 1) is None
