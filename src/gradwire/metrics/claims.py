"""Which rows of a table find members beyond what chance does in the whole of it: one family of claims a table.

Where nothing leaks, scores know nothing of who was a member, and the truth with each target's members permuted among
its judged candidates is as likely as the truth. A claim counts if its statistic is more extreme than the most extreme
of the whole table in all but 5 % of permuted truths (the maximum statistic: P. H. Westfall, S. S. Young,
"Resampling-based multiple testing", 1993). The examples' and the models' own effects are in the scores, which stay as
they are, so that neither can be taken for a leak.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import floor

import numpy as np

from gradwire.metrics.low_rate import LowRate, low_rate
from gradwire.metrics.membership import RATES
from gradwire.metrics.scored import Scored

LEVEL = 0.05
PERMUTATIONS = 999
SELF_TESTS = 200
"""Permuted truths that take the truth's place, to see how often a claim is made of them."""
BUDGET = 4e8
"""Pairs that are permuted, all permutations together; a large table gets fewer, at least 399."""
AREA = "auc"


@dataclass(frozen=True)
class Claims:
    """What a table claims.

    Attributes:
        p: of each row, statistic → its p-value over all claims of the table. A statistic is "auc" or a rate's TPR.
        fired: of `SELF_TESTS` permuted truths, the share of which something would be claimed.
        permutations: of the truth.
    """

    p: tuple[Mapping[str, float], ...]
    fired: float
    permutations: int

    def finds(self, row: int) -> str:
        """The lowest rate at which a row finds more members than chance; else "auc" or ""."""
        held = [name for name, value in self.p[row].items() if value <= LEVEL]
        return min(held, key=lambda name: 1.0 if name == AREA else float(name.removeprefix("tpr_at_")), default="")


def tpr_at(rate: float) -> str:
    """The name of the TPR at a false-positive rate, as tpr_at_1e-3."""
    return "tpr_at_" + f"{rate:.0e}".replace("e-0", "e-")


def claims(rows: Sequence[Scored], seed: int = 0) -> Claims:
    """The claims of a table, a row a `Scored`; those about the same pairs share each permuted truth."""
    # Rows that differ in their thresholds alone have the same statistics.
    first = {id(row.scores): row for row in reversed(rows)}
    unlike, where = list(first.values()), {key: index for index, key in enumerate(first)}
    found, fired, count = _family(unlike, seed) if rows else ([], 0.0, 0)
    return Claims(tuple(found[where[id(row.scores)]] for row in rows), fired, count)


def _family(rows: Sequence[Scored], seed: int) -> tuple[list[dict[str, float]], float, int]:
    """The p-values of rows that are all different, how often permuted truths give a claim, and permutations."""
    random = np.random.default_rng(seed)
    pairs = sum(int(row.asked.sum()) for row in {id(r.members): r for r in rows}.values())
    count = int(np.clip(BUDGET // pairs, 399, PERMUTATIONS))
    names, columns = [], []
    for same in _about_the_same_pairs(rows):
        tests = [_Test(rows[index]) for index in same]
        observed = [test(rows[same[0]].members[rows[same[0]].asked].numpy()[None]) for test in tests]
        permuted: list[list[np.ndarray]] = [[] for _ in tests]
        for truths in _permuted(rows[same[0]], count, random):
            for test, kept in zip(tests, permuted, strict=True):
                kept.append(test(truths))
        for index, test, first, kept in zip(same, tests, observed, permuted, strict=True):
            names += [(index, name) for name in test.names]
            columns.append(np.concatenate([first, *kept]))
    found = np.concatenate(columns, 1)
    spread = found.std(0)
    standard = (found - found.mean(0)) / np.where(spread > 0, spread, np.inf)
    highest = standard.max(1)
    p: list[dict[str, float]] = [{} for _ in rows]
    for (index, name), column in zip(names, standard.T, strict=True):
        p[index][name] = float((highest >= column[0] - 1e-9).mean())
    ranks = (highest[1 : SELF_TESTS + 1, None] <= highest[None] + 1e-9).mean(1)
    return p, float((ranks <= LEVEL).mean()), count


def _about_the_same_pairs(rows: Sequence[Scored]) -> list[list[int]]:
    groups: list[list[int]] = []
    for index, row in enumerate(rows):
        for group in groups:
            first = rows[group[0]]
            if first.asked.shape == row.asked.shape and bool(
                ((first.asked == row.asked) & (first.members == row.members)).all()
            ):
                group.append(index)
                break
        else:
            groups.append([index])
    return groups


def _permuted(row: Scored, count: int, random: np.random.Generator) -> Iterator[np.ndarray]:
    """Permuted truths of the judged pairs, bool (several, pairs), until there are `count`."""
    sides = [members[asked].numpy() for members, asked in zip(row.members, row.asked, strict=True)]
    at_once = max(1, 2**22 // max(1, sum(map(len, sides))))
    for start in range(0, count, at_once):
        several = min(at_once, count - start)
        drawn = [random.permuted(np.broadcast_to(side, (several, len(side))), axis=1) for side in sides]
        yield np.concatenate(drawn, 1)


class _Test:
    """A row's statistics under several truths: the area, and the members found at every rate that can be told."""

    def __init__(self, row: Scored):
        from scipy.stats import rankdata  # type: ignore[import-untyped]

        scores = row.scores[row.asked].numpy()
        self.ranks = rankdata(scores)
        self.outside = row.curve.nonmembers
        told: dict[float, LowRate] = {rate: low_rate(row, rate) for rate in RATES}
        self.allowed = {rate: floor(rate * self.outside * (1 + 1e-12)) for rate in RATES if told[rate].figure}
        self.names = (AREA, *map(tpr_at, self.allowed))
        self.order = np.argsort(-scores, kind="stable")
        ordered = scores[self.order]
        self.ends = np.append(ordered[1:] != ordered[:-1], True)

    def __call__(self, truths: np.ndarray) -> np.ndarray:
        """Shape (truths, statistics)."""
        found = [truths.astype(float) @ self.ranks]
        for allowed in self.allowed.values():
            # Numbers of members before so many non-members scatter as those of a negative binomial.
            found.append(np.arcsinh(np.sqrt(self._members(truths, allowed) / (allowed + 1))))
        return np.stack(found, 1)

    def _members(self, truths: np.ndarray, allowed: int) -> np.ndarray:
        """The most members above a threshold that lets pass at most so many non-members."""
        pairs = truths.shape[1]
        deep = min(pairs, int(2 * (allowed + 20) * pairs / self.outside))
        while True:
            top, ends = truths[:, self.order[:deep]], self.ends[:deep]
            false = np.cumsum(~top, 1)
            if deep == pairs or (false[:, -1] > allowed).all():
                return np.where(ends & (false <= allowed), np.cumsum(top, 1), 0).max(1)
            deep = min(pairs, 2 * deep)
