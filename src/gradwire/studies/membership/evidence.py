"""A table of attacks from their scores: figures, what of them is no chance, and the same table of a permuted truth."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch

from gradwire.metrics import Scored, claims, membership
from gradwire.metrics.claims import AREA, LEVEL, SELF_TESTS, Claims, tpr_at
from gradwire.metrics.clusters import FEW
from gradwire.metrics.intervals import Figure
from gradwire.runs import Row
from gradwire.seeds import number

BACKWARDS = 0.45
"""An area below which lower scores are likely those of members."""


@dataclass(frozen=True)
class Entry:
    """A row before its figures: `row` names the data, the scheme and the attack; `scored` is what the attack said."""

    row: Row
    scored: Scored

    @property
    def optimistic(self) -> bool:
        """Whether the threshold was chosen on the answers that it is judged by."""
        return self.row["threshold"] == "target"


def figures(entry: Entry, confidence: float) -> tuple[dict[str, object], list[str]]:
    """The entry's row with its figures and their intervals, and why some are missing, or zero."""
    found = membership(entry.scored, confidence)
    columns: dict[str, object] = {"members": found.members, "nonmembers": found.nonmembers}
    accuracy, missing = found.balanced_accuracy, []
    judged = accuracy if entry.row["threshold"] != "none" else ("", "", "")
    columns |= dict(zip(("balanced_accuracy", "low", "high"), judged, strict=True))
    told: dict[str, Figure | None] = {AREA: found.auc}
    for rate, low_rate in found.tpr_at.items():
        told[tpr_at(rate)] = low_rate.figure
        if low_rate.why:
            missing.append(low_rate.why)
        elif (tied := float(entry.scored.curve.fpr[1])) > rate and not entry.scored.curve.found_at(rate):
            share = f"{100 * tied:.3g} % of non-members share the highest score of {entry.row['attack']}"
            missing.append(f"{share}, so nothing is found at {100 * rate:g} %")
    for name, figure in told.items():
        value = figure or ("", "", "")
        columns |= dict(zip((name, f"{name}_low", f"{name}_high"), value, strict=True))
    return dict(entry.row) | columns, missing


def claimed(entries: Sequence[Entry], seed: int) -> tuple[list[Row], Claims]:
    """Of every entry, what it finds beyond chance and the p-value of that; both empty where an entry is optimistic."""
    sound = [entry for entry in entries if not entry.optimistic]
    made = claims([entry.scored for entry in sound], seed)
    found: list[Row] = []
    for entry in entries:
        if entry.optimistic:
            found.append({"finds": "", "p": ""})
        else:
            row = next(index for index, each in enumerate(sound) if each is entry)
            finds = made.finds(row)
            found.append({"finds": finds, "p": made.p[row][finds] if finds else min(made.p[row].values())})
    return found, made


def permuted(entries: Sequence[Entry], confidence: float, seed: int) -> list[Row]:
    """The table, without optimistic rows, of a truth in which each target's members are drawn anew."""
    sound = [entry for entry in entries if not entry.optimistic]
    changed = [replace(entry, scored=_drawn_anew(entry.scored, seed)) for entry in sound]
    told, _ = claimed(changed, seed)
    return [{**figures(entry, confidence)[0], **row} for entry, row in zip(changed, told, strict=True)]


def notes(entries: Sequence[Entry], made: Claims, missing: Sequence[str]) -> Iterator[str]:
    """What has to be said of the statistics."""
    models = {len(entry.scored.models.unique()) for entry in entries}
    over = "examples and models, which several pairs share"
    if min(models, default=0) == 1:
        over = "examples; of another model nothing can be told from one"
    elif min(models, default=0) < FEW:
        over = f"examples; with {min(models)} models, how much another one would differ cannot be told"
    yield f"Intervals are over {over}."
    yield from dict.fromkeys(f"{text[0].upper()}{text[1:]}." for text in missing)
    for entry in entries:
        area = entry.scored.curve.auc
        if entry.row["attack"] == "score" and area < BACKWARDS:
            yield f"Members score lower than others (AUC {area:.2f}): say what the scores are, such as --score-is loss."
    if made.permutations:
        family = f"the most extreme of all its figures under {made.permutations} permuted truths"
        yield f"What a row finds holds at {100 * LEVEL:.0f} % over the whole table: it is beyond {family}."
        yield (
            f"Self-test: in {made.fired * SELF_TESTS:.0f} of {SELF_TESTS} permuted truths something would have been "
            f"found. About {LEVEL * SELF_TESTS:.0f} are expected of any table, leak or no leak: many more would be a "
            "fault of the test."
        )


def _drawn_anew(scored: Scored, seed: int) -> Scored:
    """The same scores with other members; the same ones of all entries about the same pairs."""
    random = torch.Generator().manual_seed(number("permuted", seed))
    members = scored.members.clone()
    for row, asked in zip(members, scored.asked, strict=True):
        sides = row[asked]
        row[asked] = sides[torch.randperm(len(sides), generator=random)]
    return Scored.of(scored.scores, members, scored.asked, scored.limits, scored.models)
