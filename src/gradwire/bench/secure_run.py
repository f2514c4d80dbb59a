"""The bench command's run for secure sums: rows as they are found, into a folder."""

from collections.abc import Sequence
from pathlib import Path

from gradwire.bench.secure import benchmark
from gradwire.report import COST_COLUMNS
from gradwire.runs import RunFolder


def run_secure(
    clients: Sequence[int], entries: Sequence[int], flower: str | None, whole: int, out: str | Path | None = None
) -> Path:
    """Measure, and return the folder that it wrote: results.csv, config.json. Arguments as of `benchmark`."""
    run = RunFolder.create(out, "bench-secure", COST_COLUMNS)
    settings = {"clients": list(clients), "entries": list(entries), "flower": bool(flower), "whole": whole}
    run.configure("bench secure", settings)
    for row in benchmark(clients, entries, flower, whole):
        run.append([row])
    return run.path
