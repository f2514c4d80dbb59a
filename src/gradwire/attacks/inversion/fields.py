"""Rows of a table, field by field: what restarts have in common, and changes that bring a gradient nearer."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from gradwire.attacks.inversion.match import Match
from gradwire.attacks.inversion.optimize import LBFGS, Box
from gradwire.tasks import Columns

Value = Callable[[Match, Tensor], Tensor]
"""What is minimised, (V,), at inputs (V, B, *shape)."""
TRIED = 48
"""Changes of a victim's fields that are tried at once: those that promise most, by the slopes."""
NUMBERS, LAST = 12, 60
"""Evaluations in which numbers adapt to a change, and `LAST` to the last one."""
LARGEST = 20_000_000
"""Entries of gradients that are held at once."""


def pooled(rows: Tensor, values: Tensor, domain: Columns) -> tuple[Tensor, float]:
    """One batch (B, F) out of several restarts' (R, B, F), and the share of fields on which a restart agrees with it.

    Rows are matched with those of the restart of the lowest value. A number is the restarts' median, a category that of
    the highest mean probability: Vero et al. 2023, section 4.2.
    """
    best = domain.snapped(rows[values.masked_fill(~values.isfinite(), torch.inf).argmin()])
    matched = domain.matched(rows, best.expand_as(rows))
    count = len(domain.numbers)
    found = domain.snapped(torch.cat([matched[..., :count].median(0).values, matched[..., count:].mean(0)], -1))
    return found, float(domain.agreement(domain.snapped(matched), found).double().mean())


def improved(value: Value, match: Match, rows: Tensor, changes: int) -> Tensor:
    """Rows (V, B, F) after at most so many changes of a victim's fields, each of which lowered the value.

    A change gives a category another value, or swaps a field of two rows; numbers adapt after each.
    """
    domain = match.problems[0].view.task.domain
    snapped = domain.snapped(rows)
    found = _lower(value, match, snapped, _numbers_adapted(value, match, snapped))
    rest, each = torch.arange(len(rows), device=rows.device), match
    for _ in range(changes):
        # A single row of numbers alone has nothing to change but these.
        if not isinstance(domain, Columns) or not (domain.categories or rows.shape[1] > 1):
            break
        tried = _best(value, each, _changed(value, each, found[rest], domain))
        better = value(each, tried).detach() < value(each, found[rest]).detach()
        if not bool(better.any()):
            break
        rest, each = rest[better], each.select(better.nonzero()[:, 0].tolist())
        found[rest] = _lower(value, each, tried[better], _numbers_adapted(value, each, tried[better]))
    found = _lower(value, match, found, _numbers_adapted(value, match, found, LAST))
    return _lower(value, match, snapped, domain.snapped(found))


def _lower(value: Value, match: Match, rows: Tensor, others: Tensor) -> Tensor:
    """Of two batches a victim, (V, B, F) each, the one of the lower value."""
    better = value(match, others).detach() < value(match, rows).detach()
    return torch.where(better[:, None, None], others, rows)


def _numbers_adapted(value: Value, match: Match, rows: Tensor, evaluations: int = NUMBERS) -> Tensor:
    """Rows with numbers that lower the value, within their range; categories stay."""
    domain = match.problems[0].view.task.domain
    count = len(domain.numbers) if isinstance(domain, Columns) else rows.shape[2]
    low, high = (torch.as_tensor(b).to(rows).expand(rows.shape[2])[:count] for b in domain.bounds())
    start, rest = rows[..., :count], rows[..., count:]
    box = Box(*(bound.repeat(rows.shape[1]) for bound in (low, high)))
    if not count:
        return rows

    def evaluate(points: Tensor) -> tuple[Tensor, Tensor]:
        points = points.detach().requires_grad_()
        values = value(match, torch.cat([points.view_as(start), rest], 2))
        return values.detach(), torch.autograd.grad(values.sum(), points)[0]

    optimizer = LBFGS(start.flatten(1), box)
    for _ in range(evaluations):
        optimizer.step(evaluate)
    return torch.cat([optimizer.points.view_as(start), rest], 2)


def _changed(value: Value, match: Match, rows: Tensor, domain: Columns) -> Tensor:
    """The changes (V, K, B, F) that promise most."""
    points = rows.detach().requires_grad_()
    (slopes,) = torch.autograd.grad(value(match, points).sum(), points)
    options = list(_options(rows, slopes, domain))
    promise = torch.cat([gain for gain, _ in options], 1)
    places = torch.cat([place for _, place in options])
    kept = promise.argsort(1)[:, :TRIED]
    found = rows[:, None].repeat(1, kept.shape[1], 1, 1)
    for victim, chosen in enumerate(kept.tolist()):
        for k, option in enumerate(chosen):
            first, second, start, stop, new = places[option].tolist()
            here = found[victim, k]
            if second < 0:
                here[first, start:stop] = 0
                here[first, new] = 1
            else:
                here[[first, second], start:stop] = here[[second, first], start:stop]
    return found


def _options(rows: Tensor, slopes: Tensor, domain: Columns) -> Iterator[tuple[Tensor, Tensor]]:
    """All changes: what each promises (V, N), infinite where it changes nothing, and what it is (N, 5).

    The five numbers are a row, the row that it swaps with or −1, the field's columns from and to, and the column of the
    new value or −1.
    """
    batch, count = rows.shape[1], len(domain.numbers)
    columns = [slice(i, i + 1) for i in range(count)] + list(domain.groups())
    present = (slopes * rows).detach()
    for field in columns[count:]:
        gain = slopes[..., field] - present[..., field].sum(2, keepdim=True)
        gain = gain.masked_fill(rows[..., field] == 1, torch.inf)
        what = [[b, -1, field.start, field.stop, new] for b in range(batch) for new in range(field.start, field.stop)]
        yield gain.flatten(1), torch.tensor(what)
    first, second = torch.triu_indices(batch, batch, 1)
    for field in columns if batch > 1 else ():
        apart = (rows[:, first] - rows[:, second])[..., field]
        gain = -((slopes[:, first] - slopes[:, second])[..., field] * apart).sum(2)
        gain = gain.masked_fill((apart == 0).all(2), torch.inf)
        what = [[int(a), int(b), field.start, field.stop, -1] for a, b in zip(first, second, strict=True)]
        yield gain, torch.tensor(what)


def _best(value: Value, match: Match, candidates: Tensor) -> Tensor:
    """The best of each victim's candidates: (V, K, B, F) → (V, B, F)."""
    victims, each = candidates.shape[:2]
    size = max(1, LARGEST // sum(p.numel() for p in match.problems[0].view.model.parameters()))
    rows = [victim for victim in range(victims) for _ in range(each)]
    flat, values = candidates.flatten(0, 1), []
    for start in range(0, len(rows), size):
        some = slice(start, start + size)
        values.append(value(match.select(rows[some]), flat[some]).detach())
    best = torch.cat(values).view(victims, each).nan_to_num(nan=torch.inf).argmin(1)
    return candidates[torch.arange(victims), best]
