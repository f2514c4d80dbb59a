"""The inversion command's run: a row for each way, precision and number of victims, as they are measured."""

from dataclasses import asdict
from pathlib import Path

from gradwire.bench.breaching import check
from gradwire.bench.inversion import InversionSettings, inversion_speeds
from gradwire.progress import Progress, silent
from gradwire.report import SPEED_COLUMNS
from gradwire.runs import RunFolder

NOTE = (
    "Single images, plain gradients, signed steps of one size on cosine distance and total variation, in fp32 unless "
    "a row says otherwise. The loop is plain autograd, one image after another, over the first of the images."
)
UNCOMPARED = "breaching was not timed: no Python that has it was named (--breaching)."


def run_inversion(settings: InversionSettings, out: str | Path | None = None, progress: Progress = silent) -> Path:
    """Measure, and return the folder that it wrote: results.csv, config.json.

    Raises:
        GradwireError: as `inversion_speeds`, or a folder that cannot be written.
    """
    if settings.python:
        check(settings.python)
    run = RunFolder.create(out, "bench-inversion", SPEED_COLUMNS)
    run.configure("bench inversion", asdict(settings), [NOTE] if settings.python else [NOTE, UNCOMPARED])
    shared = {name: getattr(settings, name) for name in ("data", "model", "device", "mode", "iterations")} | {"seed": 0}
    for done, speed in enumerate(inversion_speeds(settings), 1):
        run.append([shared | asdict(speed)])
        progress("measuring", done, len(settings.victims) * (1 + bool(settings.python) + 2 * len(settings.precisions)))
    return run.path
