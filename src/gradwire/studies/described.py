"""What a study would run, in words: its cells, what they cost, and what is claimed."""

from collections import Counter
from pathlib import Path
from statistics import fmean

from gradwire.report.formats import plural
from gradwire.studies.grid import keys_of, seconds_of
from gradwire.studies.plan import Study


def described(study: Study, resume: str | Path | None = None, jobs: int = 1) -> str:
    """Title, cells with their settings, what is left to run and to claim.

    Args:
        resume: the folder of an earlier run: its cells' seconds tell what is left of each command.

    Raises:
        GradwireError: a cell that could not be run.
    """
    keys = keys_of(study)
    took = seconds_of(Path(resume), keys) if resume else {}
    lines = [f"{study.title} ({study.name}, {study.scale})"]
    for cell, key in zip(study.cells, keys, strict=True):
        told = " ".join(f"{name}={value}" for name, value in cell.settings.items())
        lines.append(f"  {'done ' if key in took else ''}{cell.command} {cell.filed({}) or '–'}  [{told}]")
    waiting = {key: cell for key, cell in zip(keys, study.cells, strict=True) if key not in took}
    lines.append(f"{plural(len(set(keys)), 'cell')}, {len(waiting)} to run")
    for command, count in Counter(cell.command for cell in waiting.values()).items():
        known = [seconds for key, seconds in took.items() if key.startswith(f"{command}-")]
        cost = (
            f"about {count * fmean(known) / jobs / 60:.1f} minutes, by {len(known)} measured"
            if known
            else "not measured"
        )
        lines.append(f"  {command}: {count} left, {cost}")
    for claim in study.claims:
        what = (claim.lacks and f"not testable here: {claim.lacks}") or f"{claim.value} {claim.predicate}"
        lines.append(f"  {claim.id or '–':4} {claim.says} ({what})")
    return "\n".join(lines) + "\n"
