"""The network command's run: what steps are made of, the model at each rate, and real links where there are any."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from gradwire.bench.link import LinkRefused
from gradwire.bench.network import BASELINE, RATES, measure
from gradwire.bench.shaped import WORKERS, ShapedJob, shaped
from gradwire.errors import GradwireError
from gradwire.metrics.links import Step
from gradwire.progress import Progress, silent
from gradwire.report import NETWORK_COLUMNS
from gradwire.runs import Row, RunFolder


@dataclass(frozen=True)
class NetworkSettings:
    """What decides the benchmark.

    Attributes:
        schemes: beside plain SGD, with which all are compared.
        batch: images a worker. `workers`: for the model; real links join two.
        latency: seconds a message takes beside its bytes, in the model.
        real: whether to measure on real links as well; `steps`: how many of each scheme there.
    """

    schemes: tuple[str, ...]
    model: str = "resnet18"
    batch: int = 32
    workers: int = 2
    latency: float = 1e-4
    real: bool = True
    steps: int = 3

    def __post_init__(self) -> None:
        for name, least in (("batch", 1), ("workers", 2), ("steps", 1)):
            if getattr(self, name) < least:
                raise GradwireError(f"{name} is {getattr(self, name)}; it must be at least {least}")
        if self.latency < 0:
            raise GradwireError(f"latency is {self.latency}; it must not be negative")


def run_network(settings: NetworkSettings, out: str | Path | None = None, progress: Progress = silent) -> Path:
    """Measure, and return the folder that it wrote: results.csv, config.json."""
    schemes = (BASELINE, *(spec for spec in settings.schemes if spec != BASELINE))
    steps = measure(schemes, settings.model, settings.batch, settings.workers)
    run = RunFolder.create(out, "bench-network", NETWORK_COLUMNS)
    for step in steps:
        run.append(_row(settings, step, rate, step.seconds(rate, settings.latency)) for rate in RATES.values())
    note = "No real links were measured: --no-real."
    if settings.real:
        try:
            note = _real(settings, steps, run, progress)
        except LinkRefused as error:
            note = f"No real links were measured: {error}."
    run.configure("bench network", asdict(settings), [note])
    return run.path


def _real(settings: NetworkSettings, steps: Sequence[Step], run: RunFolder, progress: Progress) -> str:
    """Append the rows of real links; how they were measured."""
    rates = tuple(RATES.values())
    job = ShapedJob(tuple(step.scheme for step in steps), settings.model, settings.batch, settings.steps)
    made_of = {step.scheme: step for step in steps}
    found = shaped(job, rates, lambda done: progress("links", done, len(rates)))
    run.append(_row(settings, made_of[m.scheme], m.rate, m.seconds, m.bytes) for m in found)
    return (
        f"Real links: {WORKERS} workers of DDP in two network namespaces of one machine, joined by a veth pair that tc "
        "limits (tbf). There, none is DDP without a hook, which sends while it still computes. Medians of "
        f"{settings.steps} steps; bytes in results.csv are those that the device sent, all headers included."
    )


def _row(settings: NetworkSettings, step: Step, rate: float, seconds: float, sent: float | None = None) -> Row:
    """A step's time at a rate: modelled, or measured with `sent` bytes."""
    return {
        "data": "random",
        "model": settings.model,
        "scheme": step.scheme,
        "seed": 0,
        "device": "cpu",
        "seconds": seconds,
        "workers": settings.workers if sent is None else WORKERS,
        "batch": settings.batch,
        "source": "modelled" if sent is None else "measured",
        "rate": rate,
        "compute": step.compute,
        "coding": step.coding,
        "bytes": step.bytes if sent is None else sent,
        "messages": step.messages,
        "latency": settings.latency,
    }
