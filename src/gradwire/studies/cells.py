"""How a cell of a study is run: one runner a command, from plain settings to a run's folder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from gradwire.errors import GradwireError
from gradwire.runs import CHECKPOINT, CHECKPOINTS, CONFIG, RunFolder
from gradwire.studies.audit import audit
from gradwire.studies.audit_settings import AuditSettings
from gradwire.studies.grid import Restartable, Runner
from gradwire.studies.membership import MembershipSettings, run_membership
from gradwire.studies.secure_leaks import LABELS, MAXIMUM, LabelLeak, MaximumLeak, label_leak, maximum_leak
from gradwire.studies.training import run_training
from gradwire.training import TrainSettings

T = TypeVar("T")
Where = Path | None
"""The folder to write, or that of a run to go on with: one of the two."""


def train_cell(settings: Mapping[str, Any], out: Where, resume: Where) -> None:
    """A training run: `data`, `model` and `eval_every`, and the fields of `TrainSettings`."""
    own: dict[str, Any] = {"data": "digits", "model": "convnet", "eval_every": 20} | dict(settings)
    data, model, every = own.pop("data"), own.pop("model"), own.pop("eval_every")
    run_training(data, model, _made(TrainSettings, own), eval_every=every, out=out, resume=resume)


def settings_cell(
    kind: type[T], run: Callable[..., object], settings: Mapping[str, Any], out: Where, resume: Where
) -> None:
    """A run that is decided by settings of one kind, and can be gone on with."""
    run(_made(kind, settings), out=out, resume=resume)


def row_cell(
    kind: type[T],
    row: Callable[[T], Mapping[str, object]],
    name: str,
    columns: Sequence[str],
    settings: Mapping[str, Any],
    out: Where,
    resume: Where,
) -> None:
    """A run that ends in one row."""
    RunFolder.create(out, name, columns).append([row(_made(kind, settings))])


def _made(kind: type[T], settings: Mapping[str, Any]) -> T:
    """Settings of this kind; lists, which is what files have, become tuples."""
    known = {field.name for field in fields(kind)}  # type: ignore[arg-type]
    if strange := [name for name in settings if name not in known]:
        raise GradwireError(f"{kind.__name__} has no {strange[0]!r}; known: {', '.join(sorted(known))}")
    return kind(**{name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()})


RUNNERS: Mapping[str, Runner] = {
    "train": Restartable(train_cell, (CHECKPOINT,)),
    "audit": Restartable(partial(settings_cell, AuditSettings, audit), (CHECKPOINTS, CONFIG)),
    "membership": Restartable(partial(settings_cell, MembershipSettings, run_membership), (CONFIG,)),
    "labels": Restartable(partial(row_cell, LabelLeak, label_leak, "labels", LABELS)),
    "maximum": Restartable(partial(row_cell, MaximumLeak, maximum_leak, "maximum", MAXIMUM)),
}
