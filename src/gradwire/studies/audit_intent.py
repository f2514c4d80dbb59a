"""What an audit is about to do, in one sentence, and about how long it will take."""

import math
import time
from collections.abc import Sequence

from torch import nn

from gradwire.attacks.inversion import Exact, Problem, Strongest
from gradwire.data import Dataset
from gradwire.errors import GradwireError
from gradwire.progress import silent
from gradwire.registry import ATTACKS
from gradwire.report.formats import plural
from gradwire.studies.audit_cells import chunks
from gradwire.studies.audit_settings import AuditSettings
from gradwire.tasks import Columns, Pixels

REHEARSED = 9
"""Victims' worth of evaluations that the rehearsals of a scheme under one kind of knowledge take, as measured."""
SOLVED = 2
"""Closed forms' worth of time that a victim takes under all schemes: that of the plain gradient, and of decoded ones
until their equations contradict each other, as measured."""
MORE = 5
"""Iterations beyond the first whose time tells what one takes, without what comes before it."""
PATIENCE = 2.0
"""Seconds that an iteration may take for more of them to be timed."""


def intent(settings: AuditSettings, victims: Dataset, model: nn.Module) -> str:
    """Say whom an audit attacks, under what, by what, and about how long that takes on this machine.

    The time follows from a few iterations on the first victims. There is none where an attack is no search of pixels or
    columns, or the network is trained before it: the bar that moves then says what is left.

    Args:
        settings: of an audit that begins, its chunk and model known; `victims` and `model` are what they name.
    """
    whom = f"{plural(settings.samples, 'victim')} ({victims.name}, {settings.model}, batches of {settings.batch})"
    how = f"{' and '.join(settings.knows)}, by {', '.join(settings.attacks)}"
    said = f"Attacking {whom} under {plural(len(settings.schemes), 'scheme')}, {how}"
    if settings.trained_rounds or not isinstance(victims.task.domain, Pixels | Columns):
        return f"{said}."
    attacks = settings.inversions.values()
    cells = len(settings.schemes) * len(settings.knows)
    evaluations = sum(
        getattr(attack, "iterations", 0)
        * getattr(attack, "restarts", 1)
        * cells
        * (settings.samples + (REHEARSED if hasattr(attack, "rehearsals") else 0))
        for attack in attacks
    )
    first = next(chunks(settings, victims, model, None, silent))
    try:
        each = _seconds_an_evaluation([cell.problem for cell in first], settings)
    except GradwireError:  # a view that this search cannot attack; the audit's own attack says so, if it cannot either
        return f"{said}."
    closed = any(isinstance(attack, Strongest | Exact) for attack in attacks)
    solved = SOLVED * settings.samples * _seconds_of_closed_forms(first[0].problem, settings) if closed else 0.0
    return f"{said}: {_about(evaluations * each + solved)}."


def _seconds_of_closed_forms(problem: Problem, settings: AuditSettings) -> float:
    """What solving one victim's takes; 0 where none fits the network."""
    started = time.perf_counter()
    try:
        Exact().run([problem], settings.seed, settings.device)
    except GradwireError:
        return 0.0
    return time.perf_counter() - started


def _seconds_an_evaluation(problems: Sequence[Problem], settings: AuditSettings) -> float:
    """What one victim's part in one iteration of a search takes."""

    def run(iterations: int) -> float:
        started = time.perf_counter()
        ATTACKS.parse(f"iga:iterations={iterations},tv=0").run(problems, settings.seed, settings.device)
        return time.perf_counter() - started

    run(1)  # the first run of all also finds how this network's gradients are computed
    once = run(1)
    each = once if once > PATIENCE else (run(1 + MORE) - once) / MORE
    return max(0.0, each) / len(problems)


def _about(seconds: float) -> str:
    """A time in round figures: about 40 seconds, about 2 minutes, about 3 hours."""
    if seconds < 55:
        return f"about {max(10, math.ceil(seconds / 10) * 10)} seconds"
    if seconds < 55 * 60:
        minutes = math.ceil(seconds / 60)
        return f"about {minutes} minute{'' if minutes == 1 else 's'}"
    hours = math.ceil(seconds / 3600)
    return f"about {hours} hour{'' if hours == 1 else 's'}"
