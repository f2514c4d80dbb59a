"""What a membership run leaves: its table, the same of a permuted truth, its curves, and a record of each example."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from gradwire.metrics.claims import AREA
from gradwire.runs import CURVES, PERMUTED, RECORDS, Row, RunFolder, write_table
from gradwire.studies.membership.evidence import Entry, claimed, figures, notes, permuted

RECORD_COLUMNS = ("scheme", "model", "example", "member", "score", "rank", "p", "against", "attack")


def publish(
    run: RunFolder,
    entries: Sequence[Entry],
    others: Sequence[Row],
    options: Mapping[str, object],
    said: Sequence[str],
    confidence: float,
    seed: int,
    names: tuple[Sequence[str], Sequence[str]] | None = None,
) -> None:
    """Write results.csv, permuted.csv, records.csv, config.json and the trade-offs, curves.safetensors.

    Args:
        others: rows that have figures already, such as bounds on ε.
        said: notes on how the scores came about.
        names: of the models and of the examples; their numbers stand for them otherwise.
    """
    told = [figures(entry, confidence) for entry in entries]
    found, family = claimed(entries, seed)
    rows = [{**row, **more} for (row, _), more in zip(told, found, strict=True)]
    run.rewrite([*rows, *({**row, "finds": "", "p": ""} for row in others)])
    run.rewrite(permuted(entries, confidence, seed), PERMUTED)
    curves: dict[str, Tensor] = {}
    for entry in entries:
        curves.setdefault("{scheme}|{attack}|{knowledge}".format(**entry.row), entry.scored.curve.points())
    run.save(curves, CURVES)
    missing = [why for _, whys in told for why in whys]
    run.configure("membership", options, [*said, *(notes(entries, family, missing) if entries else ())])
    write_table(run.path / RECORDS, RECORD_COLUMNS, _records(entries, rows, names))


def _records(
    entries: Sequence[Entry], rows: Sequence[Row], names: tuple[Sequence[str], Sequence[str]] | None
) -> Iterator[Row]:
    """Of each scheme, a row for each model and candidate, by the attack on answers that finds most.

    The p-value is one-sided: the share of models without the candidate that score it no lower, itself counted; of the
    model's other non-members where there are no such models.
    """
    for scheme in dict.fromkeys(entry.row["scheme"] for entry in entries):
        several = [
            (row, entry)
            for row, entry in zip(rows, entries, strict=True)
            if row["scheme"] == scheme and not row["knowledge"] and not entry.optimistic
        ] or [(row, entry) for row, entry in zip(rows, entries, strict=True) if row["scheme"] == scheme]
        row, entry = max(several, key=lambda each: _strength(each[0]))
        scored = entry.scored
        for model, (scores, asked) in enumerate(zip(scored.scores, scored.asked, strict=True)):
            where = asked.nonzero().squeeze(1)
            ranks = torch.empty(len(where), dtype=torch.int64)
            ranks[scores[where].argsort(descending=True, stable=True)] = torch.arange(1, len(where) + 1)
            p, others = _p_values(scored.scores, scored.members, scored.asked, model)
            told = zip(where.tolist(), ranks.tolist(), p[where].tolist(), others[where].tolist(), strict=True)
            for example, rank, value, by_models in told:
                yield {
                    "scheme": scheme,
                    "model": names[0][model] if names else model,
                    "example": names[1][example] if names else example,
                    "member": int(scored.members[model, example]),
                    "score": f"{float(scores[example]):.6g}",
                    "rank": rank,
                    "p": f"{value:.6g}",
                    "against": "models without it" if by_models else "non-members",
                    "attack": row["attack"],
                }


def _strength(row: Row) -> tuple[bool, float, float]:
    """How much a row finds: beyond chance at all, and then how many at the lowest rate."""
    finds = str(row["finds"])
    return finds not in ("", AREA), float(row[finds]) if finds else 0.0, float(row[AREA])


def _p_values(scores: Tensor, members: Tensor, asked: Tensor, model: int) -> tuple[Tensor, Tensor]:
    """One model's p-value of every candidate, float64 (N,), and whether other models gave it, bool (N,)."""
    own = scores[model]
    without = asked & ~members
    without[model] = False
    count = without.sum(0)
    no_lower = ((scores >= own) & without).sum(0)
    outside = scores[model, asked[model] & ~members[model]].sort().values
    beaten = len(outside) - torch.searchsorted(outside, own.contiguous())
    mine = (asked[model] & ~members[model]).long()
    alone = (1 + beaten - mine).double() / (1 + len(outside) - mine)
    return torch.where(count > 0, (1 + no_lower).double() / (1 + count), alone), count > 0
