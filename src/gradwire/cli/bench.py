"""gradwire bench: speed, side by side with what is installed."""

import os
from dataclasses import astuple
from typing import Any

import click

from gradwire.cli.show import figures, outcome, progress_bar, show, write_csv
from gradwire.cli.source import defaults
from gradwire.errors import GradwireError, unknown

DEFAULT = defaults("gradwire.bench.inversion:InversionSettings")
BREACHING = "A Python that has breaching 0.1.2, which is then timed on the same images."
PRECISIONS = "fp32, tf32 or bf16. Repeatable."
DDP_SCHEMES = ("none", "half", "powersgd:rank=4", "topk:ratio=0.01", "dgc:ratio=0.01", "qsgd", "signsgd")
MINUTES, SHADOWS = 10, 64
FEDERATIONS = ("lenet", "mlp", "cnn")


@click.group()
def bench() -> None:
    """Measure speed and sizes on this machine."""


@bench.command()
def wire() -> None:
    """Bytes an index of sparse messages, and how fast messages are made and read."""
    from gradwire.bench.wire import SIZE, index_costs, message_speeds
    from gradwire.devices import machine

    headings = ("density", "indices", "bytes an index", "no code below", "encode M/s", "decode M/s")
    table = figures(f"Positions out of {SIZE:,} entries, {machine('cpu')}", *headings)
    for cost in index_costs():
        speeds = (f"{cost.bytes_each:.2f}", f"{cost.bound:.2f}", f"{cost.encode:.1f}", f"{cost.decode:.1f}")
        table.add_row(f"{cost.density:g}", f"{cost.count:,}", *speeds)
    encode, decode = message_speeds()
    show(table, f"a message of {4 * SIZE / 1e6:.1f} MB: encode {encode:.2f} GB/s, decode {decode:.2f} GB/s")


@bench.command()
@click.option("--model", default=DEFAULT.model, show_default=True)
@click.option("--data", default=DEFAULT.data, show_default=True)
@click.option("--victims", multiple=True, type=int, default=DEFAULT.victims, show_default=True, help="Repeatable.")
@click.option("--iterations", default=DEFAULT.iterations, show_default=True, help="The median over these is shown.")
@click.option("--mode", type=click.Choice(["train", "eval"]), default=DEFAULT.mode, show_default=True)
@click.option("--device", default=DEFAULT.device, show_default=True)
@click.option(
    "--precision", "precisions", multiple=True, default=DEFAULT.precisions, show_default=True, help=PRECISIONS
)
@click.option("--breaching", "python", default=DEFAULT.python, metavar="PYTHON", help=BREACHING)
@click.option("--out", metavar="DIR", help="Folder to write. [default: runs/bench-inversion-<time>]")
def inversion(out: str | None, **options: object) -> None:
    """The inversion engine against the field's loop over images: speed, and the objective that each reaches.

    \b
    With breaching beside it, in an environment of its own:
      python -m venv field && field/bin/pip install breaching==0.1.2
      gradwire bench inversion --breaching field/bin/python
    """
    from gradwire.bench.inversion import InversionSettings
    from gradwire.bench.inversion_run import run_inversion

    settings = InversionSettings(**options)  # type: ignore[arg-type]
    with progress_bar() as progress:
        folder = run_inversion(settings, out, progress)
    outcome(folder)


@bench.command()
@click.option("--out", metavar="FILE", help="Write the figures to this CSV file as well.")
def training(out: str | None) -> None:
    """What compression costs a client in a step: selection, messages, and a round under an autoencoder."""
    from gradwire.bench.training import codec, selection
    from gradwire.bench.wire import message_speeds
    from gradwire.devices import machine

    found = selection() + codec()
    headings = ("measured", "ms", "beside", "ms", "ratio")
    table = figures(
        f"ResNet-18 gradients (medians) and LeNet's parameters, {machine('cpu')}",
        *headings,
        words=("measured", "beside"),
    )
    for figure in found:
        ours, theirs = (f"{1e3 * seconds:.1f}" for seconds in (figure.seconds, figure.reference_seconds))
        table.add_row(figure.what, ours, figure.reference, theirs, f"{figure.ratio:.2f}")
    speeds = dict(zip(("encode", "decode"), message_speeds(), strict=True))
    told = ", ".join(f"{name} {speed:.2f} GB/s" for name, speed in speeds.items())
    show(table, f"{told} (a message of 44.7 MB)")
    if out is not None:
        rows: list[tuple[object, ...]] = [(f.what, f.seconds, f.reference, f.reference_seconds, f.ratio) for f in found]
        rows += [(f"{name} a message, GB/s", speed, "", "", "") for name, speed in speeds.items()]
        write_csv(out, ("measured", "seconds", "beside", "beside_seconds", "ratio"), rows)


@bench.command()
@click.option("--scheme", "schemes", multiple=True, default=DDP_SCHEMES, show_default=True, metavar="SPEC")
@click.option("--steps", default=15, show_default=True, help="Timed steps of each way, in turn.")
@click.option("--out", metavar="FILE", help="Write the figures to this CSV file as well.")
def ddp(schemes: tuple[str, ...], steps: int, out: str | None) -> None:
    """DDP's hook with each scheme, in default buckets, beside PyTorch's own hooks: two processes over gloo.

    Every way takes a step in turn, and a ratio is the median over turns: other work on the machine slows all alike.
    """
    from gradwire.bench.ddp import HookTime, compare
    from gradwire.devices import machine
    from gradwire.schemes import parse

    for spec in schemes:
        parse(spec)
    headings = ("step by", "ms", "CPU ms", "beside PyTorch's", "ratio", "quartiles", "CPU ratio")
    title = f"ResNet-18 gradients, {steps} steps each, {machine('cpu')}, load {os.getloadavg()[0]:.1f}"
    table, found = figures(title, *headings, words=("step by", "beside PyTorch's")), compare(schemes, steps)
    for way in found:
        spent = (f"{1e3 * seconds:.0f}" for seconds in (way.seconds, way.processor))
        told = (f"{way.ratio:.2f}", f"{way.low:.2f} to {way.high:.2f}", f"{way.processor_ratio:.2f}")
        table.add_row(way.way, *spent, way.reference, *told)
    show(table)
    if out is not None:
        write_csv(out, tuple(HookTime.__annotations__), [astuple(way) for way in found])


@bench.command()
@click.option("--scheme", "schemes", multiple=True, default=DDP_SCHEMES[1:], show_default=True, metavar="SPEC")
@click.option("--model", default="resnet18", show_default=True, help="On images of CIFAR-10's shape.")
@click.option("--batch-size", "batch", default=32, show_default=True, help="Images a worker.")
@click.option("--workers", default=2, show_default=True, help="In the model; real links join two.")
@click.option("--latency", default=0.1, show_default=True, help="Milliseconds a message takes beside its bytes.")
@click.option("--real/--no-real", default=True, show_default=True, help="Measure on shaped links as well.")
@click.option("--steps", default=3, show_default=True, help="Steps of each scheme on each of these.")
@click.option("--out", metavar="DIR", help="Folder to write. [default: runs/bench-network-<time>]")
def network(latency: float, out: str | None, **options: Any) -> None:
    """A step's time against the link's speed, and the speed below which each scheme beats plain SGD.

    Compute, coding and bytes are measured, the link is modelled; where the kernel lets this user shape links, steps
    between two network namespaces are measured as well.
    """
    from gradwire.bench.network import run_network
    from gradwire.bench.shaped import NetworkSettings
    from gradwire.report.run import read

    settings = NetworkSettings(latency=latency / 1e3, **options)
    with progress_bar() as progress:
        folder = run_network(settings, out, progress)
    for note in read(folder).notes:
        click.echo(note)
    outcome(folder)


@bench.command()
@click.option("--model", default="lenet", show_default=True)
@click.option("--data", default="fashion_mnist", show_default=True)
@click.option("--images", default=10_000, show_default=True, help="Of one shadow; an epoch passes over all of them.")
@click.option("--batch-size", default=64, show_default=True)
@click.option("--clients", default=4, show_default=True, help="Who share a batch where a scheme is in use.")
@click.option("--scheme", "schemes", multiple=True, default=("none", "topk:ratio=0.01"), show_default=True)
@click.option("--together", multiple=True, type=int, default=(8,), show_default=True, help="Networks as one batch.")
@click.option("--precision", default="fp32", show_default=True, help="fp32 or bf16.")
@click.option("--channels-last", is_flag=True)
@click.option("--compile", is_flag=True, help="torch.compile.")
@click.option("--repeats", default=3, show_default=True, help="Of plain steps; the median is shown.")
@click.option("--device", default="cpu", show_default=True)
def membership(model: str, data: str, images: int, **options: Any) -> None:
    """Seconds of a shadow and epoch: by ordinary PyTorch, by plain steps alone and together, and over the wire."""
    from gradwire.bench.membership import epochs, pool
    from gradwire.devices import machine
    from gradwire.schemes import parse
    from gradwire.training.plain import Speed

    for scheme in options["schemes"]:
        parse(scheme)
    speed = Speed(**{name: options.pop(name) for name in ("precision", "channels_last", "compile")})
    title = f"An epoch of {model}: {images:,} images of {data}, batch {options['batch_size']}, {speed.precision}"
    headings = ("networks", "s each", "CPU s", "speed-up", f"{SHADOWS} in {MINUTES} min")
    table = figures(title, "way", *headings, words=("way",))
    for found in epochs(model, pool(data, images), speed=speed, **options):
        told = (f"{found.seconds:.2f}", f"{found.processor:.2f}", f"{found.ratio:.2f}")
        possible = 60 * MINUTES / (SHADOWS * found.seconds)
        table.add_row(found.way, str(found.networks), *told, f"{possible:.1f}")
    whole = f"{machine(options['device'])}. Whole epochs were run. The last column is a division: epochs of {SHADOWS}"
    show(table, f"{whole} networks,\none after another in this process, in {MINUTES} minutes.")


def _parts(_: click.Context, option: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    from gradwire.bench.secure import PARTS

    for name in names:
        if name not in PARTS:
            raise unknown("part", name, PARTS)
    return names or tuple(PARTS)


def _numbers(_: click.Context, option: click.Parameter, text: str) -> tuple[int, ...]:
    try:
        found = tuple(int(float(part)) for part in text.split(","))
    except ValueError:
        raise GradwireError(f"--{option.name} is {text!r}; it must be numbers with commas between") from None
    if min(found) < 2:
        raise GradwireError(f"--{option.name} is {text!r}; every number must be at least 2")
    return found


@bench.command()
@click.option(
    "--clients", default="10,30,100", show_default=True, callback=_numbers, help="Of the curve against clients."
)
@click.option("--entries", default="1e4,1e5,1e6", show_default=True, callback=_numbers, help="Of the curve against N.")
@click.option("--whole", default=100, show_default=True, help="Clients of the round compared with Flower's.")
@click.option(
    "--served", default="1000", show_default=True, callback=_numbers, help="Clients of rounds whose server is measured."
)
@click.option(
    "--sparse", default="10,30,100,300", show_default=True, callback=_numbers, help="Clients of SSGA beside SGA."
)
@click.option("--sizes", default="1e6,1e7", show_default=True, callback=_numbers, help="Entries of these.")
@click.option("--flower", metavar="PYTHON", help="A Python that has flwr. [default: this one, if it has]")
@click.option(
    "--part", "parts", multiple=True, callback=_parts, help="masks, rounds, many, server, sparse or flower. Repeatable."
)
@click.option("--out", metavar="DIR", help="Folder to write. [default: runs/bench-secure-<time>]")
def secure(parts: tuple[str, ...], out: str | None, **options: Any) -> None:
    """Time masks, whole rounds and their parts; seconds are a party's own processor time, bytes its messages'."""
    from gradwire.bench.secure import SecureSettings, run_secure

    outcome(run_secure(SecureSettings(**options), parts, out))


@bench.command()
@click.option("--setting", "names", multiple=True, default=FEDERATIONS, show_default=True, help="Repeatable.")
@click.option("--rounds", default=6, show_default=True, help="Of each; the first is not counted.")
@click.option("--flower", metavar="PYTHON", help="A Python that has flwr[simulation].")
@click.option("--pfl", metavar="PYTHON", help="A Python that has pfl and torch.")
@click.option("--out", metavar="FILE", help="Write the table there as CSV, too.")
def federated(names: tuple[str, ...], rounds: int, flower: str | None, pfl: str | None, out: str | None) -> None:
    """Federated averaging, one local epoch: rounds a second, memory, and the loss that equal work leads to."""
    from gradwire.bench.federated import COLUMNS, SETTINGS, paces
    from gradwire.devices import machine

    for name in names:
        if name not in SETTINGS:
            raise unknown("setting", name, SETTINGS)
    others = {name: python for name, python in (("flower", flower), ("pfl", pfl)) if python}
    show(
        *(f"{name} is left out: no Python that has it was named (--{name})." for name in {"flower", "pfl"} - {*others})
    )
    rows, headings = [], ("by", "rounds/s", "× the loop", "MB a client", "test loss", "how")
    for name in names:
        table = figures(f"{SETTINGS[name].name}; {machine('cpu')}", *headings, words=("by", "how"))
        for pace in paces(SETTINGS[name], rounds, others):
            memory = "" if pace.megabytes_a_client is None else f"{pace.megabytes_a_client:.1f}"
            told = (f"{pace.rounds_per_second:.3g}", f"{pace.times_loop:.2f}", memory, f"{pace.test_loss:.4f}")
            table.add_row(pace.by, *told, pace.how)
            rows.append(pace.row())
        show(table)
    if out:
        write_csv(out, COLUMNS, [[row[name] for name in COLUMNS] for row in rows])
