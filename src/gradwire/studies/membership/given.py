"""Scores that somebody has, with who was a member: arrays, or a file of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gradwire.attacks.membership import Signals, signals
from gradwire.data.frames import read_file
from gradwire.errors import GradwireError, in_line, unknown

KINDS = ("score", "logit", "confidence", "loss", "probabilities", "class")
"""What scores can be: of an attack; log p/(1 − p) of the label, its probability, or its loss; of every class; or the
class that a model answers with."""
COLUMNS = ("model", "example", "member", "score", "label")


@dataclass(frozen=True)
class Given:
    """Scores of M models on N examples, as they were given.

    Attributes:
        kind: one of `KINDS`.
        scores: float64 (M, N), or (M, N, classes) of probabilities; NaN where a model was not asked.
        members: bool (M, N).
        labels: int64 (N,), or None.
        models, examples: their names.
    """

    kind: str
    scores: Tensor
    members: Tensor
    labels: Tensor | None
    models: tuple[str, ...]
    examples: tuple[str, ...]

    @classmethod
    def of(
        cls,
        scores: Any,
        members: Any,
        labels: Any = None,
        score_is: str = "score",
        models: Sequence[object] | None = None,
        examples: Sequence[object] | None = None,
    ) -> "Given":
        """Arrays of any library, of one model where the first axis is left out.

        Raises:
            GradwireError: shapes that do not fit, a membership that is neither 0 nor 1, or scores that are none.
        """
        if score_is not in KINDS:
            raise unknown("score-is", score_is, KINDS)
        try:
            values = torch.as_tensor(np.array(scores, dtype=np.float64))
            told = None if labels is None else torch.as_tensor(np.array(labels))
        except (TypeError, ValueError) as error:
            raise GradwireError(f"scores must be numbers, and labels whole ones: {in_line(error)}") from None
        several = 3 if score_is == "probabilities" else 2
        values = values[None] if values.ndim == several - 1 else values
        truth = np.atleast_2d(np.asarray(members))
        if values.ndim != several or tuple(values.shape[:2]) != truth.shape:
            wanted = "(M, N, classes)" if several == 3 else "(M, N)"
            raise GradwireError(
                f"scores have shape {tuple(values.shape)} and members {truth.shape}; they must be {wanted} and (M, N)"
            )
        if wrong := sorted(set(np.unique(truth).tolist()) - {0, 1}):
            raise GradwireError(f"members holds {wrong[0]!r}; it must be 0 or 1, or False or True")
        if told is not None and (told.shape != values.shape[1:2] or told.is_floating_point()):
            raise GradwireError(f"labels have shape {tuple(told.shape)}; they must be whole numbers, {values.shape[1]}")
        if told is None and score_is in ("probabilities", "class"):
            raise GradwireError(f"score-is {score_is} needs the examples' labels; give the column label")
        named = []
        for what, given, count in zip(("models", "examples"), (models, examples), truth.shape, strict=True):
            names = list(range(count)) if given is None else np.atleast_1d(np.asarray(given)).tolist()
            if len(names) != count or len(set(map(str, names))) != count:
                raise GradwireError(f"{what} has {len(names)} names; {count} different ones are needed")
            named.append(tuple(map(str, names)))
        made = cls(score_is, values, torch.as_tensor(truth.astype(bool)), told, *named)
        made._check()
        return made

    def _check(self) -> None:
        asked = self.scores[self.asked]
        if wrong := int(asked.isnan().sum()):
            raise GradwireError(f"{wrong} scores are not a number; leave out the rows of what was not asked")
        probabilities = self.kind in ("confidence", "probabilities")
        bad = ~((asked >= 0) & (asked <= 1)) if probabilities else ~(asked >= 0) & (self.kind == "loss")
        if bad.any():
            right = "probabilities lie in [0, 1]" if probabilities else "a loss is 0 or more"
            model, example = self.asked.nonzero()[bad.view(len(bad), -1).any(1)][0].tolist()
            which = f"example {self.examples[example]} of model {self.models[model]}"
            other = "; of an attack, say --score-is score" if self.kind == "loss" else ""
            raise GradwireError(f"score-is {self.kind}: {which} has {float(asked[bad][0]):g}; {right}{other}")
        if self.kind == "probabilities" and ((asked.sum(-1) - 1).abs() > 1e-3).any():
            off = asked.sum(-1)[(asked.sum(-1) - 1).abs().argmax()]
            raise GradwireError(f"score-is probabilities: those of an example add up to {float(off):g}; they must to 1")
        if self.kind == "probabilities":
            assert self.labels is not None
            classes = self.scores.shape[-1]
            if bool(((self.labels < 0) | (self.labels >= classes)).any()):
                raise GradwireError(f"labels must be those of the {classes} classes with probabilities, from 0 on")
        for model, own, truth in zip(self.models, self.asked, self.members, strict=True):
            if len(set(truth[own].tolist())) < 2:
                sides = "non-member" if truth[own].any() else "member"
                raise GradwireError(
                    f"model {model!r} has no {sides} among its {int(own.sum())} examples; it needs both"
                )

    @property
    def asked(self) -> Tensor:
        """Which pairs have scores, bool (M, N)."""
        there = ~self.scores.isnan()
        return there.any(-1) if self.kind == "probabilities" else there

    def signals(self) -> Signals:
        """The signals of every model, shape (M, N, 1); NaN becomes 0 where a model was not asked."""
        filled = self.scores.nan_to_num(nan=0.5, posinf=torch.inf, neginf=-torch.inf)
        tiny = torch.finfo(torch.float64).tiny
        if self.kind == "probabilities":
            assert self.labels is not None
            logits = filled.clamp_min(tiny).log()
            return Signals.joined([signals(each, self.labels) for each in logits], torch.stack)
        if self.kind == "class":
            assert self.labels is not None
            right = (filled == self.labels).double()[..., None]
            return Signals(right, torch.ones_like(right), right)
        if self.kind == "loss":
            return Signals.of_losses(filled.flatten(0, 1)[:, None]).each(lambda t: t.view(*self.members.shape, 1))
        if self.kind == "confidence":
            # The nearest to 1 that a float64 can be.
            inside = filled.clamp(tiny, 1 - torch.finfo(torch.float64).eps)
            filled = inside.log() - torch.log1p(-inside)
        return Signals(filled[..., None])


def read_scores(path: Path, score_is: str) -> Given:
    """Scores of a tidy table (CSV or Parquet: `COLUMNS`, of which model and label may be missing) or of an npz file.

    An npz file holds arrays `scores` and `members`, and may hold `labels`, `models` and `examples`.

    Raises:
        GradwireError: a file that cannot be read, a column that is missing, an example twice for a model, or as
            `Given.of`.
    """
    if path.suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except Exception as error:  # a damaged archive may raise anything
            raise GradwireError(f"--scores {path} cannot be read: {in_line(error)}") from None
        if missing := [name for name in ("scores", "members") if name not in arrays]:
            raise GradwireError(f"--scores {path} has no array {missing[0]!r}; it has {', '.join(arrays) or 'none'}")
        optional = {name: arrays.get(name) for name in ("labels", "models", "examples")}
        return Given.of(arrays["scores"], arrays["members"], score_is=score_is, **optional)
    table = read_file(path)
    try:
        return _of_table(table, score_is)
    except GradwireError as error:
        raise GradwireError(f"--scores {path}: {error}") from None


def _of_table(table: Any, score_is: str) -> Given:
    if score_is == "probabilities":
        raise GradwireError("--score-is probabilities needs an npz file: a table has one score an example")
    if missing := [name for name in ("example", "member", "score") if name not in table.columns]:
        raise GradwireError(f"no column {missing[0]!r}; it has {', '.join(map(str, table.columns))}")
    if table.empty:
        raise GradwireError("it has a header and no rows; each row is the score of an example")
    table = table.assign(model="0") if "model" not in table.columns else table
    for name in (name for name in COLUMNS if name in table.columns and name != "score"):
        if len(empty := np.flatnonzero(table[name].isna())):
            raise GradwireError(f"row {empty[0] + 1} has no {name}; each needs one")
    _refuse(table.duplicated(["model", "example"]), table["example"], "its model has that example twice", "example")
    score, member = (_floats(table[name], name) for name in ("score", "member"))
    _refuse((member != 0) & (member != 1), table["member"], "it must be 0 or 1", "member")
    (models, rows), (examples, columns) = (_numbered(table[name]) for name in ("model", "example"))
    scores, members = np.full((len(models), len(examples)), np.nan), np.zeros((len(models), len(examples)))
    scores[rows, columns], members[rows, columns] = score, member
    labels = None
    if "label" in table.columns:
        told = _numbered(table["label"])[1]
        if score_is == "class":
            # Which class a model answers with is compared with the label as it stands.
            told = _floats(table["label"], "label")
            _refuse(
                (told != told.round()) | (abs(told) > 2**53),
                table["label"],
                "it must be the number of a class",
                "label",
            )
        labels = np.zeros(len(examples), dtype=np.int64)
        labels[columns] = told
        _refuse(labels[columns] != told, table["example"], "it has another label in another row", "example")
    return Given.of(scores, members, labels, score_is, models, examples)


def _floats(column: Any, name: str) -> np.ndarray:
    """A column's numbers, float64; an error names the first row that holds none."""
    import pandas as pd  # type: ignore[import-untyped]

    found: np.ndarray = pd.to_numeric(column, errors="coerce").to_numpy(float)
    _refuse(np.isnan(found), column, "it must be a number; leave out the rows of what was not asked", name)
    return found


def _refuse(wrong: np.ndarray, column: Any, right: str, name: str) -> None:
    """Name the first row in which a column is wrong, and what would be right."""
    if len(rows := np.flatnonzero(wrong)):
        raise GradwireError(f"row {rows[0] + 1}: {name} is {column.iloc[rows[0]]}; {right}")


def _numbered(column: Any) -> tuple[list[object], Any]:
    """The different values of a column in order, and the number of each row's."""
    names = sorted(column.unique().tolist(), key=lambda name: (isinstance(name, str), name))
    places = {name: place for place, name in enumerate(names)}
    return names, column.map(places).to_numpy()
