"""How a cell of a study is run: one entry a command, from plain settings to a run's folder."""

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

from gradwire.bench.network import run_network
from gradwire.bench.shaped import NetworkSettings
from gradwire.errors import check_keys
from gradwire.registry import ATTACKS, MEMBERSHIP, MODELS
from gradwire.runs import CHECKPOINT, CHECKPOINTS, CONFIG, RunFolder
from gradwire.schemes import parse
from gradwire.spec_syntax import Parameter, check_fits, parameters
from gradwire.studies.audit import audit
from gradwire.studies.audit_settings import AuditSettings
from gradwire.studies.membership import MembershipSettings, run_membership
from gradwire.studies.secure_leaks import LABELS, MAXIMUM, LabelLeak, MaximumLeak, label_leak, maximum_leak
from gradwire.studies.theory import THEORY, TheorySettings, theory
from gradwire.studies.training import run_training
from gradwire.training import TrainSettings

Where = Path | None
"""The folder to write, or that of a run to go on with: one of the two."""


@dataclass(frozen=True)
class Command:
    """How cells of one command are checked and run.

    Attributes:
        kind: the dataclass of its settings; `own`: settings beside those, with their defaults.
        run: is given settings, what is set of `own`, and either a folder to write or one to go on with.
        marks: what a cut run must have left to be gone on with; without any, it always begins again.
    """

    kind: type[Any]
    run: Callable[[Any, Mapping[str, Any], Where, Where], object]
    marks: tuple[str, ...] = ()
    own: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def resolved(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Every setting, defaults included; `GradwireError` for one that there is none of, or that cannot be."""
        made, own = self._made(settings)
        self._check(made, str(own.get("model") or getattr(made, "model", "")))
        return {**asdict(made), **own}

    def __call__(self, settings: Mapping[str, Any], folder: Path) -> None:
        """Run a cell in this folder, from where it was cut or from its beginning."""
        made, own = self._made(settings)
        if self.marks and all((folder / mark).exists() for mark in self.marks):
            try:
                self.run(made, own, None, folder)
                return
            except Exception:
                pass
        shutil.rmtree(folder, ignore_errors=True)
        self.run(made, own, folder, None)

    def _check(self, made: Any, model: str) -> None:
        """Refuse names that there are none of, before anything runs."""
        for scheme in getattr(made, "schemes", ()) or (getattr(made, "scheme", "none"),):
            parse(scheme)
        for spec in getattr(made, "attacks", ()) or ():
            (MEMBERSHIP if self.kind is MembershipSettings else ATTACKS).parse(spec)
        if model:
            MODELS.find(model)

    def _made(self, settings: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Settings of the kind, and its own; lists, which is what files have, become tuples."""
        known = [each.name for each in fields(self.kind)]
        check_keys(self.kind.__name__, settings, (*known, *self.own))
        given = {name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()}
        own = {name: given.pop(name, default) for name, default in self.own.items()}
        kind: Any = self.kind
        check_fits(self.kind.__name__, given, parameters(kind))
        check_fits(self.kind.__name__, own, {n: Parameter(type(value), value) for n, value in self.own.items()})
        return self.kind(**given), own


def _train(settings: TrainSettings, own: Mapping[str, Any], out: Where, resume: Where) -> None:
    run_training(own["data"], own["model"], settings, eval_every=own["eval_every"], out=out, resume=resume)


def _network(settings: NetworkSettings, own: Mapping[str, Any], out: Where, resume: Where) -> None:
    run_network(settings, out)


def _whole(run: Callable[..., object], settings: object, own: Mapping[str, Any], out: Where, resume: Where) -> None:
    run(settings, out=out, resume=resume)


def _rows(
    rows: Callable[[Any], Iterable[Mapping[str, object]]],
    name: str,
    columns: Sequence[str],
    settings: object,
    own: Mapping[str, Any],
    out: Where,
    resume: Where,
) -> None:
    """A run that ends in rows and keeps nothing on its way."""
    RunFolder.create(out, name, columns).append(rows(settings))


COMMANDS: Mapping[str, Command] = {
    "train": Command(TrainSettings, _train, (CHECKPOINT,), {"data": "digits", "model": "convnet", "eval_every": 20}),
    "audit": Command(AuditSettings, partial(_whole, audit), (CHECKPOINTS, CONFIG)),
    "membership": Command(MembershipSettings, partial(_whole, run_membership), (CONFIG,)),
    "network": Command(NetworkSettings, _network),
    "theory": Command(TheorySettings, partial(_rows, theory, "theory", THEORY)),
    "labels": Command(LabelLeak, partial(_rows, label_leak, "labels", LABELS)),
    "maximum": Command(MaximumLeak, partial(_rows, maximum_leak, "maximum", MAXIMUM)),
}
